"""Decoupled knowledge distillation (Zhao et al. 2022)."""

import torch
from torch import Tensor

from .._check import check_finite_options
from ..temperature import Temperatures
from .base import Divergence
from .kl import kl_of_rows

__all__ = ["DKD"]


class DKD(Divergence):
    r"""KL split into a part of the target class (TCKD) and one of the others among themselves (NCKD).

    .. math:: \ell_i = \tau^s_i \tau^t_i \left(\alpha\,\mathrm{TCKD}_i + \beta\,\mathrm{NCKD}_i\right)

    TCKD is the KL of the binary distributions :math:`(p_y, 1 - p_y)`, NCKD that of the softmax over the other
    K - 1 classes. With :math:`\alpha = 1, \beta = 1 - p_y` the sum is KL itself.

    The released code masks the target with -1000, which makes a probability exactly 0 and the gradient NaN once
    the temperature is learned. Here the target's logit is replaced, by a number with no gradient, and everything stays in
    log space: the same loss, a finite gradient.

    In fp32 and at high temperatures the value is off as that of `KL` is, by up to twice as much: 1 % at
    :math:`\tau = 100` and all of it at 1000 for the worst row of 100 classes; its gradient by 0.006 % and 0.05 %.

    Args:
        alpha: weight of TCKD, 1 in the paper.
        beta: weight of NCKD, 8 in most of the paper's pairs, 2 or 6 in some.

    Shapes: student, teacher (B, K); target (B,); temperatures (B, 1) or (1, 1). Returns (B,).

    Raises:
        ValueError: if a weight is not finite.
    """

    reads_target = True

    def __init__(self, alpha: float = 1.0, beta: float = 8.0):
        super().__init__()
        check_finite_options(alpha=alpha, beta=beta)
        self.alpha = float(alpha)
        self.beta = float(beta)

    @staticmethod
    def split(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Binary log-probabilities (B, 2) and non-target log-probabilities (B, K) of scaled logits, very low at the target."""
        column = target.unsqueeze(1)  # (B, 1)
        # A finite number: with the probability 0 that it has, infinity would make 0 times infinity of KL.
        rest = logits.scatter(1, column, torch.finfo(logits.dtype).min / 2)
        rest_total = rest.logsumexp(dim=1, keepdim=True)
        binary = torch.log_softmax(torch.cat([logits.gather(1, column), rest_total], dim=1), dim=1)
        return binary, rest - rest_total

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Tensor:
        binary_q, rest_q = self.split(student / temperatures.student, target)
        binary_p, rest_p = self.split(teacher / temperatures.teacher, target)
        scale = temperatures.student * temperatures.teacher
        tckd = kl_of_rows(binary_q, binary_p, self.alpha * scale)  # (B,)
        nckd = kl_of_rows(rest_q, rest_p, self.beta * scale)
        return tckd + nckd

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}, beta={self.beta:g}"
