"""A divergence at adaptive temperatures beside the same one at a fixed temperature (as DTKD has it)."""

import torch
from torch import Tensor

from .._check import check_finite_options
from ..temperature import Temperatures
from .base import Divergence
from .kl import KL

__all__ = ["Anchored"]


class Anchored(Divergence):
    r"""KL at the temperatures of the rule, anchored by KL at a fixed one.

    .. math:: \ell_i = \alpha\, D_i(\tau^s_i, \tau^t_i) + \beta\, D_i(\tau_0, \tau_0)

    DTKD (Wei & Bai 2024) is this with its own rule, :math:`\alpha = 3`, :math:`\beta = 1`, :math:`\tau_0 = 4`
    (1 / 0.5, 3 / 2 and 2 / 0.5 for some pairs).

    Args:
        alpha: weight at the rule's temperatures.
        beta: weight at the fixed temperature.
        anchor: the fixed temperature, > 0.

    Shapes: student, teacher (B, K); temperatures (B, 1) or (1, 1). Returns (B,).

    Raises:
        ValueError: if an option is not finite, or the fixed temperature not positive.
    """

    def __init__(self, alpha: float = 3.0, beta: float = 1.0, anchor: float = 4.0):
        super().__init__()
        check_finite_options(alpha=alpha, beta=beta, anchor=anchor)
        if not anchor > 0:
            raise ValueError(f"anchor: expected a temperature above 0, got {anchor!r}")
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.anchor = float(anchor)
        self.kl = KL()

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Tensor:
        tau = torch.full((1, 1), self.anchor, dtype=teacher.dtype, device=teacher.device)
        adaptive = self.kl(student, teacher, target, temperatures)  # (B,)
        fixed = self.kl(student, teacher, target, Temperatures(tau, tau))
        return self.alpha * adaptive + self.beta * fixed

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}, beta={self.beta:g}, anchor={self.anchor:g}"
