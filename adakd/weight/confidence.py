"""The teacher's confidence times the student's difficulty, the weight of CIST (Luong et al. 2026) as we read it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..temperature import Temperatures
from .base import SampleWeight

__all__ = ["Confidence"]


class Confidence(SampleWeight):
    r"""Rows count for more where the teacher is sure and the student does not follow.

    .. math:: u_i = p_{i\hat k}\,(1 - q_{i\hat k}), \qquad \hat k = \arg\max_k t_{ik}, \qquad
              p = \mathrm{softmax}(t),\quad q = \mathrm{softmax}(s)

    between 0 and 1, at temperature 1. A constant: no gradient. It reads no label.

    A reading of the abstract, which reweights "according to teacher confidence and student learning difficulty" and
    gives no formula: that confidence is the highest probability, difficulty what the student lacks on that class, and that
    the two are multiplied, is ours.

    Shapes: student, teacher (N, K). Returns (N,).

    Source: arXiv 2605.20357 (abstract).
    """

    @torch.no_grad()
    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None, temperatures: Temperatures
    ) -> Tensor:
        confidence, highest = F.softmax(teacher, dim=-1).max(dim=-1, keepdim=True)
        log_q = F.log_softmax(student, dim=-1).gather(-1, highest)
        return (confidence * -torch.expm1(log_q)).squeeze(-1)
