"""DIST: correlation of probabilities, between classes and within classes (Huang et al. 2022)."""

import torch
from torch import Tensor

from ..temperature import Temperatures
from .base import Divergence

__all__ = ["DIST"]

_EPS = 1e-8  # of the released code; without it the correlation of constant rows would be 0/0


def _is_constant(p: Tensor, dim: int) -> Tensor:
    """Rows or columns of probabilities whose spread is within rounding."""
    low, high = p.detach().aminmax(dim=dim)
    return high - low <= 4 * torch.finfo(p.dtype).eps * high


def _correlation(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Pearson's correlation along an axis. What is constant has correlation 0 with everything, and no gradient."""
    constant = _is_constant(a, dim) | _is_constant(b, dim)
    # Taken out before the norms: of rounding noise they would make a gradient of 1 / _EPS.
    a, b = (x.masked_fill(constant.unsqueeze(dim), 0.0) for x in (a, b))
    a = a - a.mean(dim=dim, keepdim=True)
    b = b - b.mean(dim=dim, keepdim=True)
    norms = torch.linalg.vector_norm(a, dim=dim) * torch.linalg.vector_norm(b, dim=dim)
    return (a * b).sum(dim=dim) / (norms + _EPS)


class DIST(Divergence):
    r"""One minus the Pearson correlation of probabilities, over the rows and over the columns of a batch.

    .. math:: \ell_i = \tau^s_i\tau^t_i\left[\beta\,(1 - \rho_k(p_{ik}, q_{ik}))
              + \gamma\,\Big(1 - \frac1K \sum_k \rho_i(p_{ik}, q_{ik})\Big)\right]

    The first term compares the classes of a sample, the second the samples of a class; the second needs a batch
    and is left out where B = 1. What is constant has correlation 0 and sends no gradient. The paper has no
    :math:`\tau^2`, its code has.
    On logits instead of probabilities the first term is `Correlation`, the high-temperature limit of KL.

    Args:
        beta: weight of the rows ("inter-class").
        gamma: weight of the columns ("intra-class").

    Shapes: student, teacher (B, K); temperatures (B, 1) or (1, 1). Returns (B,).
    """

    def __init__(self, beta: float = 1.0, gamma: float = 1.0):
        super().__init__()
        self.beta = float(beta)
        self.gamma = float(gamma)
        self.reads_batch = self.gamma != 0

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Tensor:
        q = torch.softmax(student / temperatures.student, dim=-1)  # (B, K)
        p = torch.softmax(teacher / temperatures.teacher, dim=-1)
        rows = 1.0 - _correlation(q, p, dim=1)  # (B,)
        columns = 1.0 - _correlation(q, p, dim=0).mean() if len(q) > 1 else 0.0
        scale = (temperatures.student * temperatures.teacher).squeeze(-1)
        return (self.beta * rows + self.gamma * columns) * scale

    def extra_repr(self) -> str:
        return f"beta={self.beta:g}, gamma={self.gamma:g}"
