"""Entropies of teacher and student, the weight of EA-KD (Su et al. 2023)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .._check import check_numbers
from ..temperature import Temperatures
from .base import SampleWeight

__all__ = ["Entropy"]


class Entropy(SampleWeight):
    r"""Rows count for more the less sure the teacher is, and yet more where the student is not sure either.

    .. math:: u_i = \frac{H^t_i}{2}\left(1 + \frac{H^s_i}{\log K}\right), \qquad
              H_i = -\sum_k p_{ik} \log p_{ik}, \qquad p_i = \mathrm{softmax}(v_i / T')

    in nats, between 0 (a certain teacher) and :math:`\log K` (both uniform). A constant: no gradient, as in the released
    code.

    Args:
        softness: :math:`T'` > 0, of both entropies and of nothing else; 3 in the paper.

    Shapes: student, teacher (N, K). Returns (N,).

    Raises:
        ValueError: if the softness is not a finite number above 0.

    Source: arXiv 2311.13621, EA-KD; code: cpsu00/EA-KD. Differs from the code on CIFAR-100, which divides by 100 in the place
    of log 100: there the student's entropy is worth about 22 times less.
    """

    def __init__(self, softness: float = 3.0):
        super().__init__()
        check_numbers("a finite number above 0", softness=softness)
        if not 0 < softness < math.inf:
            raise ValueError(f"softness: expected a finite number above 0, got {softness!r}")
        self.softness = float(softness)

    def _entropy(self, logits: Tensor) -> Tensor:
        log_p = F.log_softmax(logits / self.softness, dim=-1)
        return -(log_p.exp() * log_p).sum(dim=-1)

    @torch.no_grad()
    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None, temperatures: Temperatures
    ) -> Tensor:
        return self._entropy(teacher) / 2 * (1 + self._entropy(student) / math.log(student.shape[-1]))

    def extra_repr(self) -> str:
        return f"softness={self.softness:g}"
