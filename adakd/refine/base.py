"""The one signature of every refinement."""

from torch import Tensor, nn

from ..signals import Batch

__all__ = ["Refinement"]


class Refinement(nn.Module):
    """A change of the rows of logits before they are standardized: swapped classes, interpolations, masks.

    ``refinement(student, teacher, batch) -> (student, teacher)``, each (N, K), the teacher's taken as constant.
    """

    reads_batch = False
    """Whether a row depends on the other rows of the batch."""
    reads_target = False
    """Whether class labels are needed."""
    reads_epoch = False
    """Whether it follows a schedule, and so needs the epoch."""

    def forward(self, student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} does not say how it changes the rows")
