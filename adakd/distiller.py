"""Distillation inside somebody else's loop: your own, Lightning's, or the Hugging Face Trainer's."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from .methods import create_method
from .objective import LogitObjective, Terms

__all__ = ["Distiller", "TrainerDistiller"]


def _logits(output: Any) -> Tensor:
    """Logits of a network's output: a tensor, or whatever carries them as ``.logits`` (Hugging Face) or first."""
    if isinstance(output, Tensor):
        return output
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, dict) and "logits" in output:
        return output["logits"]
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    raise TypeError(
        "expected the network to return logits: a tensor, an object or dict with 'logits', or a tuple that "
        f"starts with them; got {type(output).__name__}"
    )


class Distiller(nn.Module):
    """A student, a frozen teacher and a method as one module: inputs and labels in, loss out.

    Its parameters are the student's and, where the temperature is learned, the rule's. The teacher is none of them:
    it stays in evaluation mode without gradients, moves along with ``.to(device)``, and is in no checkpoint.

    Temperature rules with a state (DTS, meta-learned, policy) move once a call in training mode: with gradient
    accumulation they see every part of a step as a step.

    Args:
        student: from inputs to logits (B, K).
        teacher: from the same inputs to logits (B, K).
        method: a name of `adakd.METHODS`, or a `LogitObjective`.
        overrides: as for `adakd.create_method`; only with a name.

    Raises:
        ValueError: for an unknown method or override.

    >>> student, teacher = nn.Linear(8, 10), nn.Linear(8, 10)
    >>> distiller = Distiller(student, teacher, "zkd+mlt")
    >>> terms = distiller(torch.randn(4, 8), torch.tensor([1, 2, 3, 4]))
    >>> terms.total.backward()
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        method: str | LogitObjective = "zkd+mlt",
        **overrides: Any,
    ):
        super().__init__()
        if overrides and not isinstance(method, str):
            raise ValueError(f"overrides {sorted(overrides)} need a method's name, got an objective")
        self.student = student
        self.criterion = create_method(method, **overrides) if isinstance(method, str) else method
        # In a tuple, so that it is no submodule: not trained, not saved, not put into training mode.
        self._frozen = (teacher.eval().requires_grad_(False),)
        self.epoch: int | None = None
        """The epoch, counted from 1, for methods with a warm-up or a schedule; set it as epochs go by."""

    @property
    def teacher(self) -> nn.Module:
        """The frozen teacher."""
        return self._frozen[0]

    def _apply(self, fn, recurse: bool = True):
        self.teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def logits(self, *inputs: Any, **named: Any) -> tuple[Tensor, Tensor | None]:
        """Logits of student and teacher for the same inputs; None where the method needs no teacher."""
        teacher_logits = None
        if self.criterion.needs_teacher:
            with torch.no_grad():
                teacher_logits = _logits(self.teacher(*inputs, **named))
        return _logits(self.student(*inputs, **named)), teacher_logits

    def _replicate_for_data_parallel(self):
        raise RuntimeError(
            "nn.DataParallel would leave the teacher on one device and lose the state of temperature rules; "
            "use torchrun with one process a GPU (DistributedDataParallel)"
        )

    def _check_epoch(self) -> None:
        """A schedule that nobody drives would silently count as over."""
        rule = self.criterion.temperature
        scheduled = self.criterion.warmup_epochs > 0 or (rule is not None and rule.reads_epoch)
        if self.training and self.epoch is None and scheduled:
            warnings.warn(
                "this method has a warm-up or a schedule; set distiller.epoch (from 1) as epochs begin, "
                "or it counts as over",
                stacklevel=3,
            )

    def forward(self, inputs: Any, target: Tensor) -> Terms:
        """Terms of the loss; ``terms.total`` is what to call ``backward()`` on."""
        self._check_epoch()
        student_logits, teacher_logits = self.logits(inputs)
        return self.criterion(student_logits, teacher_logits, target, epoch=self.epoch)


class TrainerDistiller(Distiller):
    """`Distiller` in the convention of the Hugging Face Trainer: named inputs, ``labels``, a dict of loss and logits.

    ``Trainer(model=TrainerDistiller(student, teacher, "zkd+mlt"), ...)``, with ``remove_unused_columns=False`` among
    its arguments, because the inputs' names are the networks' own; the distilled network is ``.student``.
    """

    # Read by the Trainer: the loss is a mean over the batch, not a sum to be divided by a count it would pass along.
    accepts_loss_kwargs = False

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> dict[str, Tensor]:
        """Logits, and the loss where labels are given."""
        if labels is None:
            return {"logits": _logits(self.student(**inputs))}
        self._check_epoch()
        student_logits, teacher_logits = self.logits(**inputs)
        terms = self.criterion(student_logits, teacher_logits, labels, epoch=self.epoch)
        return {"loss": terms.total, "logits": student_logits}
