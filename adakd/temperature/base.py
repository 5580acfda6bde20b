"""The one signature of every temperature rule."""

from typing import NamedTuple

from torch import Tensor, nn

__all__ = ["TemperatureRule", "Temperatures"]


class Temperatures(NamedTuple):
    """Temperatures of one batch, each (B, 1) or (1, 1) where the whole batch shares it; > 0, no unit."""

    student: Tensor
    teacher: Tensor


class TemperatureRule(nn.Module):
    """A rule for the temperatures of a batch of logits.

    ``rule(student, teacher, target=None, epoch=None) -> Temperatures``, with student and teacher logits (B, K)
    as the divergence will see them (standardized or not), target (B,) and the epoch counted from 1. Fixed,
    per-sample, learned and scheduled rules share it, so any of them goes with any divergence. Learned
    parameters and state are ordinary parameters and buffers: ``state_dict()`` and the optimizer find them.
    """

    reads_epoch = False
    """Whether the rule follows a schedule, and so needs the epoch."""

    reads_batch = False
    """Whether a sample's temperature depends on the other samples of its batch."""

    keeps_state = False
    """Whether a call in training mode changes buffers: the rows of a step must then come in one call."""

    least_classes = 2
    """3 where a row divided by its temperature has lost its own scale, so that of two classes nothing is left."""

    reads_target = False
    """Whether class labels are needed while training (probabilities are not enough)."""

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        target: Tensor | None = None,
        epoch: int | None = None,
    ) -> Temperatures:
        raise NotImplementedError(f"{type(self).__name__} does not say how it chooses a temperature")

    def complaint(self, student: Tensor, teacher: Tensor, temperatures: Temperatures) -> str | None:
        """What is wrong with logits for which the rule has chosen these temperatures; None where nothing is.

        `LogitTerm` warns of it once. Called where values may be read only: on a CPU, and not in a compiled step.
        """
        return None
