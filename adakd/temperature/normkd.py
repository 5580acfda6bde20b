"""Normalized logits (NormKD, Chi et al. 2023): each side's temperature is a multiple of its own standard deviation."""

import torch
from torch import Tensor

from ._options import check_positive
from .base import TemperatureRule, Temperatures

__all__ = ["NormKD"]

_FLOOR = 1e-3  # a row of equal logits would have temperature 0


class NormKD(TemperatureRule):
    r"""Temperatures in units of the spread of the row that they soften.

    .. math:: \tau^t_i = T\,\sigma(t_i), \qquad \tau^s_i = T\,\sigma(s_i), \qquad
              \sigma^2(v) = \frac{1}{K-1} \sum_k (v_k - \bar v)^2

    The student's stays in the graph. Since softmax does not see a shift, the softened outputs are those of logits
    standardized by the sample deviation at temperature T, that is of "zkd"; what differs is the weight of a sample. The
    paper weights KL by :math:`(\tau^t)^2`, which is :math:`T^2\sigma^2(t)`; `KL` by :math:`\tau^s\tau^t`, and the sample
    weight `TeacherScale` makes the one of the other. Shift-invariant, and each side's scale reaches the weight
    alone. Temperatures are at least 0.001: a row of equal logits would have 0.

    Args:
        tau: T > 0; 2 in the released code.

    Shapes: logits (B, K). Returns two different temperatures, each (B, 1).

    Raises:
        ValueError: if tau is not a finite number above 0.

    Source: arXiv 2308.00520; code: gizi1/NormKD.

    Differs from the paper: rows of equal logits, where its code divides 0 by 0.
    """

    least_classes = 3

    def __init__(self, tau: float = 2.0):
        super().__init__()
        check_positive(tau=tau)
        self.tau = float(tau)

    def _scaled(self, logits: Tensor) -> Tensor:
        """T times the deviation of each row, (B, 1)."""
        with (
            torch.no_grad()
        ):  # of large logits, squares would leave the format; of equal ones, rounding would be left
            low = logits.amin(dim=-1, keepdim=True)
            size = (logits.amax(dim=-1, keepdim=True) - low).clamp(min=_FLOOR / self.tau)
        variance = ((logits - low) / size).var(dim=-1, keepdim=True)
        variance = variance.clamp(
            min=torch.finfo(logits.dtype).eps ** 2
        )  # before the root, whose slope at 0 is infinite
        return (self.tau * size * variance.sqrt()).clamp(min=_FLOOR)

    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None = None, epoch: int | None = None
    ) -> Temperatures:
        return Temperatures(self._scaled(student), self._scaled(teacher))

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}"
