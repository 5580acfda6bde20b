"""KL of Taylor softmaxes: the approximation that the paper reasons with, as a loss to train with."""

import math

import torch
from torch import Tensor

from ..temperature import Temperatures
from .base import Divergence
from .kl import kl_of_rows

__all__ = ["TaylorKL", "log_taylor"]

_MOST = 170  # the last order whose factorial is a float; long before it the polynomial is the exponential


def log_taylor(x: Tensor, order: int) -> Tensor:
    r"""Logarithm of the Taylor polynomial of the exponential, :math:`\log f_n(x)`, for even n, elementwise.

    Even polynomials are positive everywhere (`adakd.series.lower_end`). Beyond :math:`|x| = 1` the largest power is
    taken out before summing, so that nothing overflows.
    """
    # The value does not depend on the scale, so its gradient may be left out.
    scale = x.detach().abs().clamp(min=1.0)
    ratio, inverse = x / scale, 1.0 / scale
    total = torch.zeros_like(x)
    for i in range(order, -1, -1):  # sum_i ratio^i inverse^(n - i) / i!, powers of the ratio by Horner
        total = total * ratio + inverse ** (order - i) / float(math.factorial(i))
    return order * scale.log() + total.log()


class TaylorKL(Divergence):
    r"""KL divergence of Taylor softmaxes of order n.

    .. math:: \ell_i = \tau^s_i \tau^t_i \sum_k p_{ik} \log\frac{p_{ik}}{q_{ik}}, \qquad
              p_{ik} = \frac{f_n(t_{ik}/\tau^t_i)}{\sum_j f_n(t_{ij}/\tau^t_i)},\quad
              f_n(x) = \sum_{m \le n} \frac{x^m}{m!}

    The paper's Eqs. 4-7 without their extra 1/N and before the logarithm is expanded too. It tends to `KL` as n
    grows, and to `Correlation` as the temperature does on standardized logits, for every n.

    Args:
        order: n, even, from 2 to 170: odd polynomials have a real zero, beyond which "probabilities" are negative.

    Shapes: student, teacher (B, K); temperatures (B, 1) or (1, 1). Returns (B,).

    Raises:
        ValueError: for an odd order, or one below 2 or above 170.
    """

    def __init__(self, order: int = 2):
        super().__init__()
        if not isinstance(order, int) or isinstance(order, bool) or not 2 <= order <= _MOST or order % 2:
            raise ValueError(f"order: expected an even integer from 2 to {_MOST}, got {order!r}")
        self.order = order

    def _log_softmax(self, logits: Tensor) -> Tensor:
        log_f = log_taylor(logits, self.order)
        return log_f - log_f.logsumexp(dim=-1, keepdim=True)

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Tensor:
        log_q = self._log_softmax(student / temperatures.student)  # (B, K)
        log_p = self._log_softmax(teacher / temperatures.teacher)
        return kl_of_rows(log_q, log_p) * (temperatures.student * temperatures.teacher).squeeze(-1)

    def extra_repr(self) -> str:
        return f"order={self.order}"
