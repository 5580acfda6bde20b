"""Correction of the teacher by the label: swapped or lifted where another class is its highest (SLD and its kin)."""

from torch import Tensor

from ..signals import Batch
from .base import Refinement

__all__ = ["Swap"]


class Swap(Refinement):
    r"""The teacher's logit of the label brought to its highest, where another class has it.

    .. math:: t'_{iy} = \max_k t_{ik}, \qquad
              t'_{i\hat k} = \begin{cases} t_{iy} & \text{swap} \\ t_{i\hat k} & \text{lift} \end{cases}, \qquad
              \hat k = \arg\max_k t_{ik}

    All else stays, and so do rows whose highest is the label. Swapped, a row keeps its numbers, and so its mean, deviation
    and entropy; lifted, label and former highest are equal. The student's rows stay.

    Args:
        how: ``"swap"`` or ``"lift"``.

    Shapes: student, teacher (N, K), target (N,).

    Raises:
        ValueError: for another way.

    Source: arXiv 2504.20108 (SLD). Differs from the paper: its second teacher, made of the student's own swapped logits,
    and the schedule between the two are left out. "lift" is the correction that leaves the others their place; no code of
    it is known to us.
    """

    reads_target = True

    def __init__(self, how: str = "swap"):
        super().__init__()
        if how not in ("swap", "lift"):
            raise ValueError(f"how: expected 'swap' or 'lift', got {how!r}")
        self.how = how

    def forward(self, student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        if batch.target is None:
            raise ValueError(
                "target: Swap corrects the teacher by the labels and got None; pass the (N,) class labels"
            )
        label = batch.target.unsqueeze(1)  # (N, 1)
        of_label, highest = teacher.gather(1, label), teacher.argmax(dim=1, keepdim=True)
        top = teacher.gather(1, highest)
        if self.how == "swap":
            # A label that ties with the highest is exchanged with its equal.
            teacher = teacher.scatter(1, highest, of_label)
        return student, teacher.scatter(1, label, top)

    def extra_repr(self) -> str:
        return f"how={self.how!r}"
