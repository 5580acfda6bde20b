"""Distillation inside somebody else's loop: your own, Lightning's, or the Hugging Face Trainer's."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .methods import create_method
from .objective import LogitObjective, Terms

__all__ = ["Distiller", "TrainerDistiller"]

Which = int | str | Callable[[Any], Tensor] | None


def _logits(output: Any, which: Which = None) -> Tensor:
    """Logits of a network's output: a tensor, or whatever carries them as ``.logits`` (Hugging Face), or `which` says."""
    if which is not None:
        return _chosen(output, which)
    if isinstance(output, Tensor):
        return output
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, dict) and "logits" in output:
        return output["logits"]
    if isinstance(output, (tuple, list)) and output:
        tables = [(i, x) for i, x in enumerate(output) if isinstance(x, Tensor) and x.ndim == 2]
        if len(tables) > 1:
            shapes = ", ".join(f"{i}: {tuple(x.shape)}" for i, x in tables)
            raise ValueError(
                f"the network returned several tensors of shape (batch, ·), at {shapes}, any of which could be logits; "
                f"say which, as by Distiller(..., logits={tables[-1][0]})"
            )
        if tables:
            return tables[0][1]
        if isinstance(output[0], Tensor):
            return output[0]
    raise TypeError(
        "expected the network to return logits: a tensor, an object or dict with 'logits', or a tuple that "
        f"starts with them; got {type(output).__name__}; say where they are by Distiller(..., logits=)"
    )


def _chosen(output: Any, which: int | str | Callable[[Any], Tensor]) -> Tensor:
    try:
        if callable(which):
            found = which(output)
        elif isinstance(which, str) and hasattr(output, which):
            found = getattr(output, which)
        else:
            found = output[which]
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"logits={which!r}: there is no such part in what the network returned, {type(output).__name__}: {error}"
        ) from error
    if not isinstance(found, Tensor):
        raise TypeError(f"logits={which!r}: expected a tensor there, got {type(found).__name__}")
    return found


def _tensors(module: nn.Module) -> dict[int, str]:
    """Memory of each parameter and buffer that has any -> its name."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {x.data_ptr(): name for name, x in named if not is_lazy(x) and x.device.type != "meta" and x.numel()}


def _trains(student: nn.Module) -> bool:
    """Whether any parameter can be trained; True where there are none."""
    parameters = list(student.parameters())
    return not parameters or any(parameter.requires_grad for parameter in parameters)


def _check_apart(student: nn.Module, teacher: nn.Module) -> None:
    """Raise ValueError if freezing the teacher would freeze some of the student, or the student is frozen already."""
    if student is teacher:
        raise ValueError(
            "student, teacher: expected two networks, got the same object twice, which would be frozen; "
            "for self-distillation pass copy.deepcopy(network) as the teacher"
        )
    ours, theirs = _tensors(student), _tensors(teacher)
    shared = [name for memory, name in ours.items() if memory in theirs]
    if shared:
        more = "" if len(shared) == 1 else f" and {len(shared) - 1} more"
        raise ValueError(
            f"student, teacher: expected networks of their own, but they share {shared[0]!r}{more}, which would be "
            "frozen and follow the student; pass copy.deepcopy(teacher)"
        )
    if not _trains(student):
        raise ValueError(
            "student: expected a network to be trained, got one whose parameters are all frozen, as those of another "
            "Distiller's teacher are; pass copy.deepcopy(network) there as the teacher, or call "
            "student.requires_grad_(True)"
        )


class Distiller(nn.Module):
    """A student, a frozen teacher and a method as one module: inputs and labels in, loss out.

    Its parameters are the student's and, where the temperature is learned, the rule's. The teacher is none of them:
    it stays in evaluation mode without gradients, moves along with ``.to(device)``, and is in no checkpoint. The object
    that is passed is itself put into evaluation mode and frozen (``requires_grad_(False)``), so it must share no
    parameter or buffer with the student: pass ``copy.deepcopy(network)`` where it does.

    Temperature rules with a state (DTS, meta-learned, policy) move once a call in training mode: with gradient
    accumulation they see every part of a step as a step.

    Args:
        student: from inputs to logits (B, K).
        teacher: from the same inputs to logits (B, K).
        method: a name of `adakd.METHODS`, or a `LogitObjective`.
        logits: where the logits are in what the networks return: an index, a key or an attribute, or a function of it.
            Left out: the tensor itself, its ``logits``, or a tuple's only tensor of shape (B, ·). A pair
            ``(student's, teacher's)`` where the two differ.
        overrides: as for `adakd.create_method`; only with a name.

    Raises:
        ValueError: for an unknown method or override, networks that share parameters or buffers, a student that is
            frozen; when called, for a tuple with several tensors of shape (B, ·), if `logits` does not say which.

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
        *,
        logits: Which | tuple[Which, Which] = None,
        **overrides: Any,
    ):
        super().__init__()
        if overrides and not isinstance(method, str):
            raise ValueError(f"overrides {sorted(overrides)} need a method's name, got an objective")
        _check_apart(student, teacher)
        self._which = logits if isinstance(logits, tuple) else (logits, logits)
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
                teacher_logits = _logits(self.teacher(*inputs, **named), self._which[1])
        return _logits(self.student(*inputs, **named), self._which[0]), teacher_logits

    def _replicate_for_data_parallel(self):
        raise RuntimeError(
            "nn.DataParallel would leave the teacher on one device and lose the state of temperature rules; "
            "use torchrun with one process a GPU (DistributedDataParallel)"
        )

    def _check_training(self) -> None:
        """A schedule that nobody drives would silently count as over, and a frozen student would learn nothing."""
        if self.training and torch.is_grad_enabled() and not _trains(self.student):
            raise RuntimeError(
                "the student has been frozen since this Distiller was made, perhaps as the teacher of another one; "
                "pass copy.deepcopy(network) there, and call student.requires_grad_(True) here"
            )
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
        self._check_training()
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
        """Logits, and the loss where labels are given.

        Raises:
            ValueError: for no labels in training mode, where nothing would be distilled.
        """
        if labels is None:
            if self.training:
                raise ValueError(
                    "labels: expected them while training, got none; label_smoothing_factor and compute_loss_func of the "
                    "Trainer take them out and put their own loss in the place of this one: leave both at their "
                    "defaults (and remove_unused_columns=False)"
                )
            return {"logits": _logits(self.student(**inputs), self._which[0])}
        self._check_training()
        student_logits, teacher_logits = self.logits(**inputs)
        terms = self.criterion(student_logits, teacher_logits, labels, epoch=self.epoch)
        return {"loss": terms.total, "logits": student_logits}
