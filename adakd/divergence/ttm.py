"""Transformed teacher matching (Zheng & Yang 2024): the temperature belongs to the teacher alone."""

import torch.nn.functional as F
from torch import Tensor

from ..logits import log_softened
from ..temperature import Temperatures
from ..weight import PowerSum
from .base import Divergence
from .kl import kl_of_rows

__all__ = ["TTM"]


class TTM(Divergence):
    r"""KL between a softened teacher and a student that stays at temperature 1.

    .. math:: \ell_i = U_i \sum_k p_{ik} \log\frac{p_{ik}}{q_{ik}}, \qquad
              p_i = \mathrm{softmax}(\gamma_i t_i),\quad q_i = \mathrm{softmax}(s_i),\quad \gamma_i = 1/\tau^t_i

    Softening is a power transform, :math:`p \propto \mathrm{softmax}(t)^\gamma`. The student's temperature is not
    read and there is no factor :math:`\tau^2`. With :math:`\tau = 1` it is `KL` at 1.

    Args:
        weighted: with :math:`U_i` of WTTM, the sample weight `PowerSum`; else :math:`U_i = 1`. The row "wttm" takes the
            weight as a part of its own instead: the same numbers.

    Shapes: student, teacher (B, K); temperatures (B, 1) or (1, 1). Returns (B,), in nats.
    """

    def __init__(self, weighted: bool = False):
        super().__init__()
        self.weighted = bool(weighted)
        self.weight = PowerSum() if weighted else None

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Tensor:
        log_q = F.log_softmax(student, dim=-1)  # (B, K)
        log_p = log_softened(teacher, temperatures.teacher)
        kl = kl_of_rows(log_q, log_p)  # (B,)
        return kl if self.weight is None else kl * self.weight(student, teacher, target, temperatures)

    def extra_repr(self) -> str:
        return f"weighted={self.weighted}"
