"""Skewed Kullback-Leibler divergence (DistiLLM, Ko et al. 2024): to a mixture with the first of the two."""

import math

import torch
from torch import Tensor

from .._check import check_numbers
from ..logits import log_softened
from ..temperature import Temperatures
from .base import Divergence
from .kl import kl_of_rows

__all__ = ["SkewedKL", "log_mixture"]


def log_mixture(log_a: Tensor, log_b: Tensor, share: float) -> Tensor:
    """Logarithm of share · a + (1 - share) · b, of log-probabilities (B, K); the one of them where the other has no share."""
    if share == 0:
        return log_b
    if share == 1:
        return log_a
    return torch.logaddexp(log_a + math.log(share), log_b + math.log1p(-share))


class SkewedKL(Divergence):
    r"""KL divergence from a mixture that has some of the other side's probability, so that no logarithm is of a near 0.

    .. math:: \ell_i = \tau^s_i \tau^t_i\,\mathrm{KL}\big(p_i \,\|\, \lambda p_i + (1 - \lambda) q_i\big)
              \quad\text{or, reversed,}\quad
              \tau^s_i \tau^t_i\,\mathrm{KL}\big(q_i \,\|\, (1 - \lambda) p_i + \lambda q_i\big)

    with :math:`p_i = \mathrm{softmax}(t_i / \tau^t_i)` and :math:`q_i = \mathrm{softmax}(s_i / \tau^s_i)`. Without the factor
    it is at most :math:`-\log\lambda`. With :math:`\lambda = 0` it is `KL`, or `ReverseKL`; near p it is
    :math:`(1 - \lambda)^2` times it.

    In fp32 and at high temperatures the value is off as that of `KL` is, by a tenth more at the usual skew: 0.7 % at
    :math:`\tau = 100` for the worst row of 100 classes.

    Args:
        skew: :math:`\lambda`, from 0 to below 1; 0.1 in the paper.
        reverse: the second of the two forms.

    Shapes: student, teacher (B, K); temperatures (B, 1) or (1, 1). Returns (B,), in nats times temperature².

    Raises:
        ValueError: for a skew outside [0, 1).

    Source: arXiv 2402.03898 (DistiLLM), there without temperature.
    """

    def __init__(self, skew: float = 0.1, reverse: bool = False):
        super().__init__()
        check_numbers("a number from 0 to below 1", skew=skew)
        if not 0 <= skew < 1:
            raise ValueError(f"skew: expected a number from 0 to below 1, got {skew!r}")
        self.skew = float(skew)
        self.reverse = bool(reverse)

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Tensor:
        log_q = log_softened(student, temperatures.student)  # (B, K)
        log_p = log_softened(teacher, temperatures.teacher)
        own, other = (log_q, log_p) if self.reverse else (log_p, log_q)
        kl = kl_of_rows(log_mixture(own, other, self.skew), own)  # (B,)
        return kl * (temperatures.student * temperatures.teacher).squeeze(-1)

    def extra_repr(self) -> str:
        return f"skew={self.skew:g}, reverse={self.reverse}"
