"""Asymmetric temperature scaling (ATS, Li et al. 2022): the teacher's logit of the label is softened more than the others."""

import math

from torch import Tensor

from .._check import check_numbers
from ..signals import Batch
from .base import Refinement

__all__ = ["Asymmetric"]


class Asymmetric(Refinement):
    r"""The teacher's logit of the label divided by a number, so that its temperature is that many times the others'.

    .. math:: t'_{iy} = t_{iy} / a, \qquad
              \mathrm{softmax}(t'_i / \tau)_k \propto \begin{cases} e^{t_{iy} / (a \tau)} & k = y \\
              e^{t_{ik} / \tau} & k \ne y \end{cases}

    ATS has two temperatures for one row, a higher one for the label, :math:`\tau_1 = a \tau`, and a lower one for
    the other classes, :math:`\tau_2 = \tau`, so that the probabilities of wrong classes differ by more. A temperature
    rule of this library gives one number a side; a refinement, with :math:`\tau_2` as that number, is the same. The
    student's rows stay. With a = 1 nothing happens; a label's logit below 0 rises for a > 1, as in the paper, which is
    why it is not invariant to a shift of the teacher's logits.

    Args:
        label_ratio: :math:`a = \tau_1/\tau_2` > 0; 2 in the released scripts (4 and 2, the student at 1).

    Shapes: student, teacher (N, K), target (N,).

    Raises:
        ValueError: if it is not a finite number above 0.

    Source: arXiv 2210.04427; code: mindspore-ai/models, research/cv/ats.
    """

    reads_target = True

    def __init__(self, label_ratio: float = 2.0):
        super().__init__()
        check_numbers("a finite number above 0", label_ratio=label_ratio)
        if not 0 < label_ratio < math.inf:
            raise ValueError(f"label_ratio: expected a finite number above 0, got {label_ratio!r}")
        self.label_ratio = float(label_ratio)

    def forward(self, student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        if batch.target is None:
            raise ValueError(
                "target: Asymmetric softens the logit of the label and got None; pass the (N,) class labels"
            )
        label = batch.target.unsqueeze(1)  # (N, 1)
        return student, teacher.scatter(1, label, teacher.gather(1, label) / self.label_ratio)

    def extra_repr(self) -> str:
        return f"label_ratio={self.label_ratio:g}"
