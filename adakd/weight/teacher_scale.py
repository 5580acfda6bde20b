"""The teacher's temperature over the student's, which turns a loss scaled by both into one scaled by the teacher's squared (NormKD)."""

from torch import Tensor

from ..temperature import Temperatures
from .base import SampleWeight

__all__ = ["TeacherScale"]


class TeacherScale(SampleWeight):
    r"""Ratio of a row's two temperatures.

    .. math:: u_i = \tau^t_i / \tau^s_i, \qquad u_i \cdot \tau^s_i \tau^t_i = (\tau^t_i)^2

    A divergence that counts :math:`\tau^s\tau^t` times then counts :math:`(\tau^t)^2` times, which is the weight of
    NormKD. Where a temperature is in the graph, so is the ratio: the product is then free of the student's temperature in
    its gradient too. Where the two are one, it is 1.

    Shapes: temperatures (N, 1) or (1, 1). Returns (N,) or (1,).

    Source: arXiv 2308.00520 (NormKD).
    """

    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None, temperatures: Temperatures
    ) -> Tensor:
        return (temperatures.teacher / temperatures.student).squeeze(-1)
