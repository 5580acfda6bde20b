"""Interpolation from the student to the teacher over the run (TAID, Shing et al. 2025)."""

import math

from torch import Tensor

from .._check import check_numbers
from ..signals import Batch
from .base import Refinement

__all__ = ["TAID"]


class TAID(Refinement):
    r"""A teacher between the student as it is and the teacher, and nearer to the teacher by the epoch.

    .. math:: t'_i = (1 - u)\,\mathrm{sg}(s_i) + u\,t_i, \qquad
              u_e = u_0 + (u_1 - u_0)\,\frac{\min(e, E) - 1}{E - 1}

    with sg the student's logits as constants. At u = 1 it is the teacher itself; at u = 0 there is nothing to learn. As
    the teacher moves towards the student, the gradient of KL at high temperature is u times the teacher's own.

    Args:
        start: :math:`u_0`, of the first epoch, from 0 to 1.
        end: :math:`u_1`, of the last, from start to 1.
        epochs: E, the length of the training; epochs count from 1, and None as epoch means the last.

    Shapes: student, teacher (N, K).

    Raises:
        ValueError: unless 0 <= start <= end <= 1, or for fewer than one epoch.

    Source: arXiv 2501.16937; code: SakanaAI/TAID.

    Differs from the paper: u follows its linear schedule, an epoch a step. The paper's may run ahead of it while the
    loss falls (by at most :math:`5 \cdot 10^{-4}(1 - u)` a step), which needs the loss; a refinement sees logits.
    """

    reads_epoch = True

    def __init__(self, start: float = 0.4, end: float = 1.0, epochs: int = 240):
        super().__init__()
        check_numbers("a number", start=start, end=end, epochs=epochs)
        if not 0 <= start <= end <= 1:
            raise ValueError(f"start, end: expected 0 <= start <= end <= 1, got {start!r} and {end!r}")
        if not 1 <= epochs < math.inf:
            raise ValueError(f"epochs: expected at least 1, got {epochs!r}")
        self.start, self.end = float(start), float(end)
        self.epochs = epochs

    def share(self, epoch: int | None) -> float:
        """u, the teacher's share in that epoch."""
        if epoch is None or epoch >= self.epochs:
            return self.end
        return self.start + (self.end - self.start) * (epoch - 1) / (self.epochs - 1)

    def forward(self, student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        # Weighted apart, not as s + u (t - s): of numbers of opposite sign the difference may leave the format.
        u = self.share(batch.epoch)
        return student, (1 - u) * student.detach() + u * teacher

    def extra_repr(self) -> str:
        return f"start={self.start:g}, end={self.end:g}, epochs={self.epochs}"
