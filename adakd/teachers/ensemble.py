"""Several teachers as one."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..runs.run import Run
from ..signals import Which, logits_of_output

__all__ = ["Ensemble"]


class Ensemble(nn.Module):
    r"""The mean of several teachers.

    .. math:: t = \log \frac1M \sum_m \mathrm{softmax}(t_m) \qquad\text{or}\qquad t = \frac1M \sum_m t_m

    By default the mean of the probabilities, computed in log space and returned as log-probabilities, which are logits:
    what a deep ensemble predicts at temperature 1, however large the logits of each teacher are. ``mean="logits"`` is the
    (normalized) geometric mean of the probabilities, in which a confident teacher counts for more.

    Each computes in the format of its parameters, whatever that of the inputs is.

    Which of the two is part of what identifies the teacher of a run.

    Args:
        teachers: modules or finished runs, one after another or as one list; from the same inputs to logits (…, K) of the
            same classes in the same order.
        mean: ``"probabilities"`` or ``"logits"``.
        logits: where the logits are in what the teachers return, as for `adakd.Distiller`.

    Shapes: returns (…, K), in fp32 at least.

    Raises:
        TypeError: for a teacher that is neither a module nor a run.
        ValueError: for no teachers, another mean; when called, for logits of several shapes.

    >>> same = nn.Identity()
    >>> Ensemble(same, same)(torch.tensor([[0.0, 0.0]])).exp()
    tensor([[0.5000, 0.5000]])
    """

    def __init__(
        self,
        *teachers: nn.Module | Run | Sequence[nn.Module | Run],
        mean: str = "probabilities",
        logits: Which = None,
    ):
        super().__init__()
        if len(teachers) == 1 and isinstance(teachers[0], list | tuple | nn.ModuleList):
            teachers = tuple(teachers[0])
        if not teachers:
            raise ValueError("teachers: expected at least one network, got none")
        if mean not in ("probabilities", "logits"):
            raise ValueError(f"mean: expected 'probabilities' or 'logits', got {mean!r}")
        self.teachers = nn.ModuleList(_network(teacher, number) for number, teacher in enumerate(teachers))
        self.mean = mean
        self.logits = logits  # public: a setting, which tells one teacher from another

    @property
    def name(self) -> str:
        """What a run's config calls it."""
        return f"ensemble-of-{len(self.teachers)}-{self.mean}"

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        first, *others = self.teachers
        total = self._answer(first, inputs, named)
        # One after another: of a large vocabulary there are never more than two tables at once.
        for number, teacher in enumerate(others, start=1):
            answer = self._answer(teacher, inputs, named)
            if total.shape != answer.shape:
                raise ValueError(
                    f"teachers: expected logits of one shape, got {tuple(total.shape)} and {tuple(answer.shape)} "
                    f"from teacher {number}; they must be trained on the same labels"
                )
            total = torch.logaddexp(total, answer) if self.mean == "probabilities" else total + answer
        count = len(self.teachers)
        return total - math.log(count) if self.mean == "probabilities" else total / count

    def _answer(self, teacher: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
        """What one teacher adds to the mean: log-probabilities or logits."""
        formats = {p.dtype for p in teacher.parameters() if p.is_floating_point()}
        if len(formats) == 1:  # a member in half precision beside one in fp32
            (own,) = formats
            inputs = tuple(_as(own, each) for each in inputs)
            named = {name: _as(own, each) for name, each in named.items()}
        logits = logits_of_output(teacher(*inputs, **named), self.logits)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits.log_softmax(dim=-1) if self.mean == "probabilities" else logits

    def extra_repr(self) -> str:
        return f"mean={self.mean!r}"


def _as(dtype: torch.dtype, value: Any) -> Any:
    """Floating-point numbers in this format; anything else as it is."""
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _network(teacher: Any, number: int) -> nn.Module:
    if isinstance(teacher, Run):
        return teacher.model()
    if isinstance(teacher, nn.Module):
        return teacher
    raise TypeError(
        f"teachers: expected torch.nn.Module or a finished Run, got {type(teacher).__name__} at {number}"
    )
