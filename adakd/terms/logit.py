"""The logit term: refine? -> standardize? -> temperature -> divergence -> sample weight?"""

import math
import warnings
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from .. import _check
from .._check import read
from ..divergence import Divergence
from ..logits import STANDARDIZATIONS, standardize, standardize_in_graph
from ..refine import Refinement
from ..signals import Batch, Signals
from ..temperature import Fixed, TemperatureRule, Temperatures
from ..weight import SampleWeight
from .base import Term

__all__ = ["LogitTerm"]

_PARTS = ("refine", "temperature", "divergence", "weight")


class LogitTerm(Term):
    r"""Distillation by logits, as five independent choices of which the middle three are needed.

    .. math:: \ell_i = u_i\, D_i\big(z^s_i, z^t_i;\ \tau_i\big)

    with :math:`z` the refined and standardized logits (or the logits themselves), :math:`\tau_i` the temperatures of
    the rule, :math:`D` the divergence and :math:`u_i` the sample weight (1 where there is none).

    Args:
        divergence: a `Divergence`.
        temperature: a `TemperatureRule`; ``Fixed(4)`` when left out.
        standardize: False, True or ``"population"`` (as the papers print it), or ``"sample"`` (as the released
            codes compute it: K - 1 in the variance, 1e-7 added).
        refine: a `Refinement` of the rows before anything else, or None.
        weight: a `SampleWeight`, or None.

    Shapes: logits (N, K). Returns (N,).

    Raises:
        ValueError: for an unknown standardization, or a learned temperature that the divergence does not read; when called,
            for two classes where rows are standardized (they are then (1, -1) or (-1, 1), whatever the networks are).
        TypeError: if a part is not of its family.
    """

    def __init__(
        self,
        divergence: Divergence,
        temperature: TemperatureRule | None = None,
        standardize: bool | str = False,
        *,
        refine: Refinement | None = None,
        weight: SampleWeight | None = None,
    ):
        super().__init__()
        families = {
            "divergence": (divergence, Divergence),
            "temperature": (temperature, TemperatureRule),
            "refine": (refine, Refinement),
            "weight": (weight, SampleWeight),
        }
        for name, (part, family) in families.items():
            if not isinstance(part, family) and not (part is None and name != "divergence"):
                raise TypeError(f"{name}: expected a {family.__name__}, got {part!r}")
        learned = [] if temperature is None else [name for name, _ in temperature.named_parameters()]
        if learned and not divergence.reads_temperature:
            raise ValueError(
                f"temperature: {type(divergence).__name__} reads no temperature, so {', '.join(learned)} of "
                f"{type(temperature).__name__} would never be trained; take another divergence, such as KL, or "
                "leave the rule out"
            )
        self.reading: str
        self._temperature_takes_ends: bool
        self._divergence_takes_ends: bool
        self._standardizes_in_graph: bool  # whether a graph may standardize rows in its own way
        self._ddof: int | None  # of `standardize`, kept as numbers: None where rows stay as they are
        self._eps: float
        self._warned: set[str] = set()  # what was warned of, once each
        self._looks = _Spaced()
        self.divergence = divergence
        self.temperature = temperature if temperature is not None else Fixed()
        self.refine = refine
        self.weight = weight
        self.standardize = standardize

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "standardize":
            value = "population" if value is True else value
            if value is not False and not (isinstance(value, str) and value in STANDARDIZATIONS):
                raise ValueError(f"standardize: expected False, True, 'population' or 'sample', got {value!r}")
            numbers = STANDARDIZATIONS.get(str(value), {"ddof": None, "eps": 0.0})
            self.__dict__.update({f"_{key}": number for key, number in numbers.items()})
        super().__setattr__(name, value)
        if name in _PARTS:
            self.__dict__["reading"] = self._reading()
        if name in ("temperature", "divergence"):
            self.__dict__[f"_{name}_takes_ends"] = "ends" in signature(value.forward).parameters
        if name in ("standardize", "standardized"):
            own = "standardized" in self.__dict__ or type(self).standardized is not LogitTerm.standardized
            self.__dict__["_standardizes_in_graph"] = self._ddof is not None and not own

    def _reading(self) -> str:
        """What a row's value depends on beside the row: "state" (buffers, parameters), "batch" (other rows), or "nothing".

        `reads_batch` and `keeps_state` go through the parts, name by name; a compiled graph reads this, which is kept.
        """
        if type(self).evaluate is not LogitTerm.evaluate:  # what that one reads is not known here
            return "state"
        parts = [part for name in _PARTS if (part := getattr(self, name, None)) is not None]
        if any(getattr(part, "keeps_state", False) or list(part.parameters()) for part in parts):
            return "state"
        return "batch" if any(part.reads_batch for part in parts) else "nothing"

    @property
    def parts(self) -> tuple[Any, ...]:
        """The choices that are made, in the order of the sentence."""
        return tuple(part for name in _PARTS if (part := getattr(self, name)) is not None)

    @property
    def reads_batch(self) -> bool:  # type: ignore[override]  # of its parts
        return any(part.reads_batch for part in self.parts)

    @property
    def reads_target(self) -> bool:  # type: ignore[override]  # of its parts
        return any(part.reads_target for part in self.parts)

    @property
    def keeps_state(self) -> bool:  # type: ignore[override]  # of its parts
        return self.temperature.keeps_state

    @property
    def reads_epoch(self) -> bool:  # type: ignore[override]  # of its parts
        return self.temperature.reads_epoch or (self.refine is not None and self.refine.reads_epoch)

    @property
    def least_classes(self) -> int:
        """3 where of two classes nothing of the teacher would be left in the loss, else 2."""
        if self.standardize is not False or self.divergence.standardizes:
            return 3
        return max(self.divergence.least_classes, self.temperature.least_classes)

    def standardized(self, logits: Tensor) -> Tensor:
        """Logits (N, K) as the temperature rule and the divergence see them."""
        if self._ddof is None:
            return logits
        return standardize(logits, ddof=self._ddof, eps=self._eps)

    def evaluate(self, student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Temperatures]:
        """Value of each row (N,), and the temperatures that the rule chose, (N, 1) or (1, 1)."""
        return self.of_rows(student, teacher, *batch)

    def of_rows(
        self, student: Tensor, teacher: Tensor, target: Tensor | None, index: Tensor | None, epoch: int | None
    ) -> tuple[Tensor, Temperatures]:
        """`evaluate` of what a batch holds, one by one: a compiled step then looks up no `Batch` before every call."""
        if self.refine is not None:
            student, teacher = self.refine(student, teacher, Batch(target, index, epoch))
        if student.shape[-1] < 3:
            self._refuse_two_classes()
        in_graph = is_compiling()
        if in_graph and self._standardizes_in_graph and student.dtype.itemsize > 2:
            assert self._ddof is not None
            z_student, of_student = standardize_in_graph(student, self._ddof, self._eps)
            z_teacher, of_teacher = standardize_in_graph(teacher, self._ddof, self._eps)
            known = {"ends": (of_student, of_teacher)}
        else:
            z_student, z_teacher, known = self.standardized(student), self.standardized(teacher), {}
        ends_of_rule = known if self._temperature_takes_ends else {}
        temperatures = self.temperature(z_student, z_teacher, target, epoch, **ends_of_rule)
        rows = student.shape[0]
        for tau in temperatures:
            if tau.ndim != 2 or tau.shape[1] != 1 or tau.shape[0] not in (1, rows):
                self._refuse_temperatures(tau, rows)
        if not in_graph and _check.may_read(student) and self._looks():
            self._warn(student, teacher, (z_student, z_teacher), temperatures)
        ends_of_divergence = known if self._divergence_takes_ends else {}
        value = self.divergence(z_student, z_teacher, target, temperatures, **ends_of_divergence)
        if self.weight is not None:
            value = value * self.weight(z_student, z_teacher, target, temperatures)
        if value.ndim and value.shape != (rows,):
            self._refuse_value(value, rows)
        return value, temperatures

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        return self.evaluate(student.logits, teacher.logits, batch)[0]

    @torch.no_grad()
    def _warn(
        self, student: Tensor, teacher: Tensor, z: tuple[Tensor, Tensor], temperatures: Temperatures
    ) -> None:
        """Of logits of which the teacher can teach next to nothing; once each. What is looked for stays as it is over batches.

        Raises:
            ValueError: for temperatures that are not above 0.
        """
        if "temperature" not in self._warned:
            self._warn_once("temperature", self.temperature.complaint(*z, temperatures))
        self._refuse_negative(temperatures)
        standardizes = self.standardize is not False or self.divergence.standardizes
        if standardizes and "classes" not in self._warned:
            self._warn_once("classes", _two_values(student, teacher))

    def _warn_once(self, what: str, text: str | None) -> None:
        if text:
            self._warned.add(what)
            warnings.warn(text, stacklevel=8)

    def _refuse_temperatures(self, tau: Tensor, rows: int) -> None:
        raise ValueError(
            f"{type(self.temperature).__name__}: expected temperatures of shape ({rows}, 1), or (1, 1) for all rows, got "
            f"{tuple(tau.shape)}; keep the axis of the classes, as by keepdim=True"
        )

    def _refuse_negative(self, temperatures: Temperatures) -> None:
        for tau in temperatures:
            if read((tau > 0).all()) is False:
                raise ValueError(
                    f"{type(self.temperature).__name__}: expected temperatures above 0, got {tau.amin():g} for row "
                    f"{int(tau.argmin())}; bound them from below, as by .clamp(min=...)"
                )

    def _refuse_value(self, value: Tensor, rows: int) -> None:
        raise ValueError(
            f"{type(self.divergence).__name__}: expected one value for each of {rows} rows, or one for all, got shape "
            f"{tuple(value.shape)} (with the sample weight, if there is one); sum over the classes, as by .sum(dim=-1)"
        )

    def _refuse_two_classes(self) -> None:
        if self.least_classes == 2:
            return
        raise ValueError(
            "student_logits: expected at least 3 classes where rows are standardized or normalized, got 2; every row would be "
            "(1, -1) or (-1, 1) and the teacher would teach nothing: use a method on the logits themselves, such as "
            "'kd' or 'dkd'"
        )

    def extra_repr(self) -> str:
        return f"standardize={self.standardize!r}"


class _Spaced:
    """True at the calls number 1, 2, 4, 8 and so on: in the long run it costs nothing to look."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> bool:
        self.calls += 1
        return self.calls & (self.calls - 1) == 0


def _two_values(student: Tensor, teacher: Tensor) -> str | None:
    """What to say if in every row of both the same few classes hold all of the spread, as masked classes do.

    Every standardized row then has two values, low for the masked classes and high for the others, and nothing is left
    of the networks' logits of the others.
    """
    first, last = (row > row.mean() for row in (teacher[0], teacher[-1]))
    if not read((first == last).all()):  # as in nearly every batch
        return None
    high = teacher > teacher.mean(dim=1, keepdim=True)
    if not read((high == first).all()):
        return None
    if not 1 < int(high[0].sum()) < high.shape[1]:  # one class against all others is a label, and no mask
        return None
    for logits in (student, teacher):
        least, most = logits.where(high, math.inf).amin(dim=1), logits.where(high, -math.inf).amax(dim=1)
        gap = least - logits.where(~high, -math.inf).amax(dim=1)
        if read(((gap < 100) | (most - least > 0.01 * gap)).any()):
            return None
    masked = (~high[0]).nonzero().flatten().tolist()
    which = f"column {masked[0]} holds" if len(masked) == 1 else f"columns {masked[:5]} hold"
    return (
        f"{which} all of the spread of every row, in student and teacher, as if masked by a large negative number: "
        "standardized, the other classes are all but equal and the teacher teaches nothing; drop masked classes from "
        "student and teacher before the loss"
    )
