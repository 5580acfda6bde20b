"""The power sum of the teacher's probabilities, the weight U of WTTM (Zheng & Yang 2024)."""

import torch.nn.functional as F
from torch import Tensor

from ..temperature import Temperatures
from .base import SampleWeight

__all__ = ["PowerSum"]


class PowerSum(SampleWeight):
    r"""Power sum of the teacher's probabilities: rows with a smooth teacher count for more.

    .. math:: U_i = \sum_k \mathrm{softmax}(t_i)_k^{\gamma_i}, \qquad \gamma_i = 1/\tau^t_i

    between 1 (one certain class) and :math:`K^{1-\gamma}` (a uniform teacher).

    Shapes: teacher (N, K); temperatures (N, 1) or (1, 1). Returns (N,), without gradient for the student.

    Source: Zheng & Yang 2024, Eq. (WTTM).
    """

    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None, temperatures: Temperatures
    ) -> Tensor:
        power = F.log_softmax(teacher, dim=-1) / temperatures.teacher
        return power.logsumexp(dim=-1).exp()
