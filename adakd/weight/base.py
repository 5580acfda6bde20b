"""The one signature of every sample weight."""

from torch import Tensor, nn

from ..temperature import Temperatures

__all__ = ["SampleWeight"]


class SampleWeight(nn.Module):
    """A factor of each row's divergence.

    ``weight(student, teacher, target, temperatures) -> (N,)``, with the logits (N, K) as the divergence sees them.
    """

    reads_batch = False
    """Whether a row's weight depends on the other rows of the batch."""
    reads_target = False
    """Whether class labels are needed."""

    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None, temperatures: Temperatures
    ) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not say how it weights rows")
