"""The one signature of every term of a distillation loss."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ..signals import Batch, Signals, Taps

__all__ = ["Term"]


class Term(nn.Module, ABC):
    """One summand of a distillation loss, from the outputs of both networks.

    ``term(student, teacher, batch) -> (N,)``: one value a row, whose mean is the loss; or ``()`` where only a value of
    the whole batch exists (`per_sample` is False then). Connectors and memories are submodules and buffers, made in
    `build`; so the optimizer, the checkpoint and the resumed run find them by themselves.

    Abstract or final: a subclass implements `forward`, and overrides no method that is implemented.
    """

    taps = Taps()
    """Features read of either network."""
    per_sample = True
    """Whether a row has a value of its own."""
    reads_batch = False
    """Whether a row's value depends on the other rows of the batch."""
    reads_target = False
    """Whether class labels are needed (probabilities are not enough)."""
    keeps_state = False
    """Whether a call in training mode changes buffers: the rows of a step must then come in one call."""
    own_memory = False
    """Whether what it keeps is a memory of the examples seen, which each of several processes may have of its own."""
    reads_epoch = False
    """Whether it follows a schedule."""

    def build(self, student: Signals, teacher: Signals, train_images: int) -> None:
        """Make what depends on shapes: connectors and memories.

        Called once, before the optimizer exists, with the outputs for a small example and with the size of the
        training set. Random numbers drawn here come from a generator that the caller has seeded.
        """

    @abstractmethod
    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        """Value of each row (N,), or of the batch ()."""

    def deploy(self, student: nn.Module, teacher: nn.Module) -> nn.Module:
        """The network to evaluate and save; the student itself, except where a part of the teacher is reused.

        Called once, after `build`. What is returned holds the student, connectors and the part of the teacher as they
        are and not copies: the training loop measures it after epochs.
        """
        return student
