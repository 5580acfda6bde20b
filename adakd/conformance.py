"""Conformance of a distillation loss with a method of the literature, whoever wrote the loss.

`check` compares values, gradients, invariances, limits and numerics with the method's own objective here, and says of a
difference what it is, where it is one of the kinds that are known: a missing τ², a mean over classes, exchanged arguments,
another definition of the rule. `golden_case` has one case as plain numbers, for losses in other frameworks.
"""

import inspect
import json
import math
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._check import brief, printable
from .methods import METHODS, RULE_NAMES, create_method, get_method
from .objective import LogitObjective
from .training.precision import plain_torch

__all__ = ["Finding", "GoldenCase", "Report", "check", "golden_case"]

Loss = Callable[..., Tensor]
Verdict = tuple[bool, str] | None  # whether a check passed, and what was seen; None where it has nothing to say

_SHAPES = ((1, 10), (4, 10), (7, 3), (5, 100))  # (B, K): one row, few classes, many
_TAU_NAMES = ("tau", "temperature", "T", "temp")
_SCALES = 1.0, 4.0  # of the student's and of the teacher's logits: a student is less sure
_HOT, _HOTTER = 1e3, 1e4


@dataclass(frozen=True)
class Finding:
    """One check: its name, whether the loss passed, and what was seen."""

    name: str
    passed: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'} {self.name}: {self.text}"


@dataclass(frozen=True)
class Report:
    """What `check` found: `passed` if every check did; printed, a line a check."""

    method: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        return all(finding.passed for finding in self.findings)

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The checks that the loss did not pass."""
        return tuple(finding for finding in self.findings if not finding.passed)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        checks = len(self.findings)
        head = f"{self.method}: {checks} check{'s' * (checks != 1)}, {len(self.faults)} failed"
        return "\n".join([head, *(f"  {finding}" for finding in self.findings)])


class Case(NamedTuple):
    """One batch in float64."""

    student: Tensor
    teacher: Tensor
    target: Tensor

    @property
    def label(self) -> str:
        return "B = {}, K = {}".format(*self.student.shape)


class GoldenCase(NamedTuple):
    """One batch as plain numbers, and what a method makes of it."""

    student: np.ndarray
    """Logits (6, 8), float64."""
    teacher: np.ndarray
    """Logits (6, 8), float64."""
    target: np.ndarray
    """Labels (6,), int64."""
    value: float
    """Distillation term, mean over the rows, unweighted and without the cross entropy."""
    gradient: np.ndarray
    """Of the value, with respect to the student's logits, (6, 8)."""


def golden_case(method: str = "kd", **options: Any) -> GoldenCase:
    """One batch of logits given by a formula, and a method's value and gradient on it, for losses in any framework.

    With rows i = 0…5 and classes j = 0…7 the student's logits are 3·sin(1 + 5i + 3j), the teacher's 6·cos(2 + 3i + 7j) and
    the labels 3i mod 8.

    Args:
        method: name of a method on logits.
        options: of the method, as `create_method` takes them.

    Raises:
        ValueError: for an unknown name, or a method that reads more than logits.

    >>> case = golden_case("kd", tau=1.0)
    >>> p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (case.teacher, case.student))
    >>> bool(np.isclose(case.value, (p * np.log(p / q)).sum() / 6))
    True
    """
    objective = _objective(method, options)
    i, j = torch.arange(6.0, dtype=torch.float64)[:, None], torch.arange(8.0, dtype=torch.float64)
    case = Case(3 * (1 + 5 * i + 3 * j).sin(), 6 * (2 + 3 * i + 7 * j).cos(), 3 * torch.arange(6) % 8)
    value, gradient = _evaluate(_term_of(objective), case)
    student, teacher, target = (x.numpy() for x in case)
    return GoldenCase(student, teacher, target, value.item(), gradient.numpy())


@plain_torch()
def check(
    loss: Loss,
    method: str = "kd",
    *,
    rule: str | None = None,
    ignore_index: int | None = None,
    rtol: float = 1e-6,
    **options: Any,
) -> Report:
    """Conformance of anybody's distillation loss with a method on logits.

    The loss is called as ``loss(student, teacher, target)`` with logits (B, K) and labels (B,), in float64 and below, and
    returns the distillation term alone: a scalar, the mean over the batch, unweighted and without the cross entropy.
    Where it takes a temperature (a keyword ``tau``, ``temperature``, ``temp`` or ``T``), it is also looked at as that grows.

    It is called once beforehand: if it raises then, or returns no scalar, the report has that one line. Checked are: the
    inputs, which it must leave as they are; values and gradients of several shapes; central differences; the teacher's
    gradient; what the loss does not depend on (a number added to all logits of a row, a factor, the order of the classes,
    the order of the rows); the reduction over the batch; masked rows; τ → ∞; and saturated logits, constant rows and half
    precision, which must leave it finite. What the method itself does not hold is not required of the loss.

    Args:
        loss: what is checked.
        method: name of the method that it is meant to be: a row of `adakd.METHODS` on logits, ``"<row>+<rule>"``.
        rule: name of another temperature rule for that row: ``check(loss, "zkd", rule="mlt")``.
        ignore_index: the label of rows that the loss leaves out; None for a loss that has no such label.
        rtol: of values and gradients, relative to the largest.
        options: of the method, as `adakd.create_method` takes them (``tau=2.0``).

    Returns:
        A `Report`: `passed`, `faults`, and printed a line a check.

    Raises:
        TypeError: for what cannot be called.
        ValueError: for an unknown method, or one that reads more than logits or keeps a state.

    >>> import torch.nn.functional as F
    >>> def mine(student, teacher, target, tau=4.0):
    ...     return F.kl_div((student / tau).log_softmax(1), (teacher / tau).softmax(1), reduction="batchmean")
    >>> report = check(mine, "kd")
    >>> print(report.faults[1])
    FAIL values: differ by 93.8 % at most (B = 1, K = 10); it is kd without the factor τ²
    >>> print(report.faults[-1])
    FAIL growing τ: 4.80036e-06 at τ = 1000, expected 4.80036: it falls as 1/τ², the factor τ² is missing
    """
    if not callable(loss):
        raise TypeError(f"loss: expected a function of (student, teacher, target), got {brief(loss)}")
    if not rtol > 0:
        raise ValueError(f"rtol: expected a positive number, got {brief(rtol)}")
    name = method if rule is None else f"{method}+{rule}"
    return Report(name, tuple(_Checks(loss, name, options, rtol, ignore_index).findings()))


@cache
def _golden_values() -> dict[str, float]:
    """The values of `golden_case` by method, as recorded."""
    text = resources.files(__package__).joinpath("golden.json").read_text(encoding="utf-8")
    values: dict[str, float] = json.loads(text)
    return values


def _objective(name: str, options: dict[str, Any]) -> LogitObjective:
    row = get_method(name)
    if not row.on_logits or not row.needs_teacher:
        raise ValueError(f"method: expected one on logits with a teacher, got {name!r}")
    objective = create_method(name, **options)
    term = objective.terms["kd"]
    if objective.state_dict() or term.keeps_state or term.reads_epoch:
        raise ValueError(
            f"method: {name!r} learns or keeps a state, so that a value does not follow from a batch"
        )
    return objective.double()


def _term_of(objective: LogitObjective) -> Loss:
    def term(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        return objective(student, teacher, target, epoch=1).kd

    return term


def _copies(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A leaf of the student's logits, and what a loss is given: the logits of both as a network would, and the labels."""
    leaf = case.student.detach().clone().requires_grad_()
    # No leaf itself: one that is changed in place would raise, and be no more than that.
    return leaf, leaf.clone(), case.teacher.clone(), case.target.clone()


class _NoScalarError(ValueError):
    """A loss returned something else than a scalar; the message says what, and what to return."""


def _scalar(value: Any) -> Tensor:
    """What a loss returned, if it is a scalar."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.reshape(())
    if isinstance(value, Tensor):
        got = f"a tensor of shape {tuple(value.shape)}; sum over the classes and take the mean over the batch"
    elif isinstance(value, bool | int | float):
        got = f"the number {value!r}; return the tensor itself, without .item() or float()"
    elif value is None:
        got = "None; does the function end without a return?"
    else:
        got = f"{type(value).__qualname__}; return the distillation term alone, as lambda s, t, y: loss(s, t, y).kd"
    raise _NoScalarError(f"expected a scalar tensor, the mean over the batch, got {got}")


def _evaluate(loss: Loss, case: Case) -> tuple[Tensor, Tensor]:
    """Value, and gradient with respect to the student's logits. The loss has copies, which it may change."""
    leaf, *given = _copies(case)
    value = _scalar(loss(*given))
    return value.detach(), _gradient(value, leaf)


def _gradient(value: Tensor, leaf: Tensor) -> Tensor:
    """The gradient of a value, 0 where it does not depend on the leaf."""
    gradient = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True)
    return torch.zeros_like(leaf) if gradient is None else gradient


def _raised(error: Exception) -> str:
    """An error in one line, cut between words."""
    text = printable(textwrap.shorten(str(error), 200, placeholder=" …"))
    return f"raised {type(error).__name__}{text and f': {text}'}"


def _signature(loss: Loss) -> inspect.Signature | None:
    """What a loss takes; None where that is written down nowhere, as for functions of torch's C++."""
    try:
        return inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss)
    except (TypeError, ValueError):
        return None


def _takes_three(loss: Loss) -> bool:
    """Whether a loss can be called as `check` does, as far as its signature says."""
    signature = _signature(loss)
    if signature is None:
        return True
    try:
        signature.bind("student", "teacher", "target")
    except TypeError:
        return False
    return True


def _apart(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest that is expected; NaN counts as infinite."""
    size = expected.abs().amax().item()
    apart = (found.to(expected) - expected).abs().amax().item()
    return math.inf if math.isnan(apart) else apart / (size or 1.0)


def _percent(apart: float) -> str:
    return f"{100 * apart:.3g} %" if math.isfinite(apart) else "more than any number"


def _alike(found: Tensor, expected: Tensor, rtol: float) -> bool:
    """Whether the values (cases,) agree, each relative to the one that is expected."""
    return all(_apart(v, e) <= rtol for v, e in zip(found, expected, strict=True))


def _fit(found: Tensor, parts: list[Tensor], rtol: float) -> list[float] | None:
    """The weights, none of them 0, by which the parts (cases,) add up to these values; None where there are none."""
    columns = torch.stack(parts, 1)
    if not (found.isfinite().all() and columns.isfinite().all()):
        return None
    weights = torch.linalg.lstsq(columns, found[:, None]).solution[:, 0]
    return weights.tolist() if weights.all() and _alike(found, columns @ weights, rtol) else None


class _Checks:
    """The checks of one loss against one method."""

    def __init__(self, loss: Loss, name: str, options: dict[str, Any], rtol: float, ignore_index: int | None):
        self.loss, self.name, self.options = loss, name, options
        self.rtol, self.ignore_index = rtol, ignore_index
        draw = torch.Generator().manual_seed(0)
        self.cases = []
        for shape in _SHAPES:
            student, teacher = (
                scale * torch.randn(shape, generator=draw, dtype=torch.float64) for scale in _SCALES
            )
            self.cases.append(Case(student, teacher, torch.randint(shape[1], shape[:1], generator=draw)))
        self.case = self.cases[1]
        self.ours = {case.label: _evaluate(self.reference(), case) for case in self.cases}

    def reference(self, name: str | None = None, **options: Any) -> Loss:
        """The term of the method, or of another one."""
        given = self.options if name is None else {}
        return _term_of(_objective(name or self.name, {**given, **options}))

    def findings(self) -> Iterator[Finding]:
        if refused := self.refusal():
            yield Finding("call", False, refused)
            return  # every other check would say the same
        checks: list[tuple[str, Callable[[], Verdict]]] = [
            ("inputs", self.inputs),
            ("golden value", self.golden),
            ("values", self.values),
            ("gradients", self.gradients),
            ("central differences", self.differences),
            ("teacher's gradient", self.of_teacher),
            *((name, partial(self.same, changed, text)) for name, text, changed in self.alike()),
            ("masked rows", self.masked),
            ("growing τ", self.growing),
            *((name, partial(self.finite, case)) for name, case in self.extremes()),
        ]
        for name, run in checks:
            try:
                verdict = run()
            except _NoScalarError as error:  # for a single row, say
                verdict = False, str(error)
            except Exception as error:  # whatever the loss raises is a finding
                verdict = False, _raised(error)
            if verdict is not None:
                yield Finding(name, *verdict)

    def refusal(self) -> str:
        """What keeps the loss from being looked at, in words; empty where a call gives a value and a gradient."""
        try:
            _evaluate(self.loss, self.case)
        except _NoScalarError as error:
            return str(error)
        except Exception as error:
            shape = tuple(self.case.student.shape)
            remedy = "" if _takes_three(self.loss) else "; wrap it in a function of these three"
            return f"loss(student, teacher, target) with logits {shape} in float64 {_raised(error)}{remedy}"
        return ""

    # ---- values and gradients ----

    def inputs(self) -> Verdict:
        given = dict(
            zip(("student's logits", "teacher's logits", "labels"), _copies(self.case)[1:], strict=True)
        )
        before = [tensor.detach().clone() for tensor in given.values()]
        self.loss(*given.values())
        changed = [
            name
            for (name, tensor), kept in zip(given.items(), before, strict=True)
            if not torch.equal(tensor, kept)
        ]
        if not changed:
            return None
        return False, (
            f"the loss changes the {' and the '.join(changed)} in place, and whoever reads them next reads other numbers; "
            "compute on new tensors (x / tau for x.div_(tau), clone() before a mask)"
        )

    def golden(self) -> Verdict:
        values = _golden_values()
        if self.options or self.name not in values:
            return None
        given = golden_case(self.name)
        case = Case(*(torch.from_numpy(x) for x in given[:3]))
        found, expected = _evaluate(self.loss, case)[0].item(), values[self.name]
        return abs(found - expected) <= self.rtol * abs(expected), f"{found:.9g}, expected {expected:.9g}"

    def values(self) -> Verdict:
        found = [_evaluate(self.loss, case) for case in self.cases]
        apart = {
            case.label: _apart(value, self.ours[case.label][0])
            for case, (value, _) in zip(self.cases, found, strict=True)
        }
        worst = max(apart, key=lambda label: apart[label])
        if apart[worst] <= self.rtol:
            return True, f"within {_percent(apart[worst])}"
        kind = self.kind_of([value for value, _ in found], [gradient for _, gradient in found])
        return False, f"differ by {_percent(apart[worst])} at most ({worst})" + (kind and f"; {kind}")

    def gradients(self) -> Verdict:
        apart = {
            case.label: _apart(_evaluate(self.loss, case)[1], self.ours[case.label][1]) for case in self.cases
        }
        worst = max(apart, key=lambda label: apart[label])
        if apart[worst] <= self.rtol:
            return True, f"within {_percent(apart[worst])} of the largest"
        if apart[worst] == 1 and not any(_evaluate(self.loss, case)[1].any() for case in self.cases):
            return False, "none for the student's logits; are they detached, or is the value a plain number?"
        return False, f"differ by {_percent(apart[worst])} of the largest ({worst})"

    def differences(self) -> Verdict:
        if not self.follows(self.reference())[0]:
            return None  # a temperature that is taken as a constant
        good, along, slope = self.follows(self.loss)
        text = f"{slope:.6g} along a line, the gradient has {along:.6g}"
        return good, text if good else f"{text}; is something detached that depends on the student?"

    def follows(self, loss: Loss, step: float = 1e-5) -> tuple[bool, float, float]:
        """Whether the gradient is that of the value, along one direction."""
        line = torch.randn(
            self.case.student.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        )
        along = (_evaluate(loss, self.case)[1] * line).sum().item()
        up, down = (
            _evaluate(loss, self.case._replace(student=self.case.student + sign * step * line))[0].item()
            for sign in (1, -1)
        )
        slope = (up - down) / (2 * step)
        return abs(along - slope) <= 1e-6 * max(abs(along), abs(slope)) + 1e-9, along, slope

    def of_teacher(self) -> Verdict:
        _, student, teacher, target = _copies(self.case)
        leaf = teacher.requires_grad_()
        if not _gradient(_scalar(self.loss(student, leaf.clone(), target)), leaf).any():
            return True, "none"
        return True, "there is one: compute the teacher's logits under torch.no_grad(), or detach them"

    # ---- what it does not depend on ----

    def alike(self) -> Iterator[tuple[str, str, Case]]:
        """Batches on which a method may have the same value; each is required only where the method has."""
        s, t, y = self.case
        add = torch.linspace(-3, 3, len(s), dtype=torch.float64)[:, None]
        order = torch.randperm(s.shape[1], generator=torch.Generator().manual_seed(2))
        rows = torch.arange(len(s)).flip(0)
        yield "shift of the student", "a number added to a row of the student's logits", Case(s + add, t, y)
        yield "shift of the teacher", "a number added to a row of the teacher's logits", Case(s, t + add, y)
        yield "scale of the student", "the student's logits doubled", Case(2 * s, t, y)
        yield "scale of the teacher", "the teacher's logits doubled", Case(s, 2 * t, y)
        yield (
            "order of the classes",
            "the classes in another order",
            Case(s[:, order], t[:, order], order.argsort()[y]),
        )
        yield "order of the rows", "the rows in another order", Case(s[rows], t[rows], y[rows])
        yield "reduction", "the batch twice over", Case(*(torch.cat([x, x]) for x in self.case))

    def same(self, changed: Case, text: str) -> Verdict:
        expected = self.ours[self.case.label][0]
        if _apart(_evaluate(self.reference(), changed)[0], expected) > 1e-9:
            return None  # nor does the method hold it
        before, after = (_evaluate(self.loss, case)[0] for case in (self.case, changed))
        apart = _apart(after, before)
        good = apart <= self.rtol
        return good, f"{text}: {'no change' if good else f'changes it by {_percent(apart)}'}"

    def masked(self) -> Verdict:
        if self.ignore_index is None:
            return None
        student, teacher, target = (x.clone() for x in self.case)
        target[1:3], student[1:3], teacher[1:3] = self.ignore_index, _HOT, -_HOT
        left = torch.tensor([0, 3])
        whole = _evaluate(self.loss, Case(student, teacher, target))[0]
        part = _evaluate(self.loss, Case(*(x[left] for x in self.case)))[0]
        apart = _apart(whole, part)
        if apart <= self.rtol:
            return True, f"rows labelled {self.ignore_index} count for nothing"
        return (
            False,
            f"with two of four rows labelled {self.ignore_index} it differs from that of the others by {_percent(apart)}",
        )

    # ---- limits and numerics ----

    def growing(self) -> Verdict:
        signature = _signature(self.loss)
        name = next((name for name in _TAU_NAMES if signature and name in signature.parameters), None)
        if name is None or get_method(self.name).rule != "fixed":
            return None
        hot, hotter = (
            _evaluate(partial(self.loss, **{name: tau}), self.case)[0].item() for tau in (_HOT, _HOTTER)
        )
        expected = self.reference(tau=_HOT)(*self.case).item()
        if abs(hot - expected) <= 1e-3 * abs(expected):
            return True, f"tends to {hot:.6g}"
        falls = abs(hotter * (_HOTTER / _HOT) ** 2 - hot) < 0.01 * abs(hot)
        cause = ": it falls as 1/τ², the factor τ² is missing" if falls else ""
        return False, f"{hot:.6g} at τ = {_HOT:g}, expected {expected:.6g}{cause}"

    def extremes(self) -> Iterator[tuple[str, Case]]:
        """Batches that a run meets sooner or later, in the formats of a run."""
        s, t, y = self.case
        s, t = s.float(), t.float()
        yield "saturated teacher", Case(s, 1e4 * t, y)
        yield "saturated student", Case(1e4 * s, t, y)
        yield "constant teacher", Case(s, torch.zeros_like(t), y)
        yield "constant student", Case(torch.zeros_like(s), t, y)
        yield "bfloat16", Case(s.bfloat16(), t.bfloat16(), y)
        yield "float16", Case(s.half(), t.half(), y)

    def finite(self, case: Case) -> Verdict:
        reference = _objective(self.name, self.options).float()
        if not all(x.isfinite().all() for x in _evaluate(_term_of(reference), case)):
            return None  # nor is the method
        value, gradient = _evaluate(self.loss, case)
        good = bool(value.isfinite()) and bool(gradient.isfinite().all())
        lost = int((~gradient.isfinite()).sum())
        return (
            good,
            "finite"
            if good
            else f"value {value.item():g}, {lost} of {gradient.numel()} numbers of the gradient not finite",
        )

    # ---- which kind of difference it is ----

    def kind_of(self, values: list[Tensor], gradients: list[Tensor]) -> str:
        """What a loss is that is not the method, in words; empty where it is none of the known kinds."""
        found = torch.stack(values).double()
        seen: list[tuple[str, str, Tensor]] = []
        for text, known in self.known():
            try:
                term = known()
                expected = torch.stack([_evaluate(term, case)[0] for case in self.cases])
            except ValueError:
                continue  # not a method of logits alone
            for words, factor in self.factors():
                factors = [factor(case) for case in self.cases]
                scaled = expected * torch.tensor(factors, dtype=torch.float64)
                if not words or len(set(factors)) > 1:  # the same number for all is no more than a weight
                    seen.append((text, words, scaled))
                if _alike(found, scaled, self.rtol):
                    return f"it is {text}{words}"
            if text == self.name and all(
                _apart(gradient, self.ours[case.label][1]) <= self.rtol
                for case, gradient in zip(self.cases, gradients, strict=True)
            ):
                return "with the same gradient: a cross entropy with the teacher in the place of the divergence"
        return self.weighted(found, seen)

    def weighted(self, found: Tensor, seen: list[tuple[str, str, Tensor]]) -> str:
        """Which of the values (cases,) seen it is times a number, or together with the cross entropy.

        Numbers that may be any come after all that are given, and two of them after one: four cases leave less to tell by.
        """
        for text, words, scaled in seen:
            if weights := _fit(found, [scaled], self.rtol):
                return f"it is {text} times {weights[0]:.4g}{words}; leave the weight out: check takes the term alone"
        labels = torch.stack([F.cross_entropy(case.student, case.target) for case in self.cases])
        fits = [
            (text, words, weights)
            for text, words, scaled in seen
            if (weights := _fit(found, [scaled, labels], self.rtol))
        ]
        if not fits:
            return ""
        # α and 1 − α are the usual weights: they tell 0.9 without the factor τ² from 0.05625 with it.
        usual = (fit for fit in fits if math.isclose(sum(fit[2]), 1, rel_tol=self.rtol))
        text, words, (weight, inside) = next(usual, fits[0])
        times = "" if math.isclose(weight, 1, rel_tol=self.rtol) else f" times {weight:.4g}"
        return (
            f"it is {text}{times}{words}, and the cross entropy is inside, {inside:.4g} times: "
            "check takes the term alone"
        )

    def factors(self) -> Iterator[tuple[str, Callable[[Case], float]]]:
        tau = self.fixed_tau()
        yield "", lambda _: 1.0
        yield (
            " divided by the number of classes K: a mean over the elements",
            lambda case: 1 / case.student.shape[1],
        )
        yield " times the batch size B: a sum over the batch", lambda case: len(case.student)
        yield (
            " times B/K: divided by the number of classes in the place of the batch",
            lambda case: len(case.student) / case.student.shape[1],
        )
        if tau not in (None, 1.0):
            yield " without the factor τ²", lambda _: tau**-2
            yield " with τ in the place of τ²", lambda _: 1 / tau
        yield " in bits: a logarithm to base 2", lambda _: 1 / math.log(2)
        yield " doubled", lambda _: 2.0
        yield " halved", lambda _: 0.5

    def fixed_tau(self) -> Any:
        tau = getattr(_objective(self.name, self.options).temperature, "tau", None)
        return float(tau) if isinstance(tau, int | float) else None

    def known(self) -> Iterator[tuple[str, Callable[[], Loss]]]:
        """Losses that are taken for the method, each as its name and what makes its term."""
        rule = get_method(self.name).rule
        standardize = _objective(self.name, self.options).terms["kd"].standardize
        yield self.name, self.reference
        yield (
            f"{self.name} with student and teacher exchanged",
            lambda: lambda s, t, y: self.reference()(t, s, y),
        )
        yield f"{self.name} without the factor τ²", self.without_squares
        for how, words in (
            ("sample", "standardized by the deviation with n − 1"),
            ("population", "standardized"),
            (False, "without standardization"),
        ):
            if how != standardize:
                yield f"{self.name} {words}", partial(self.reference, standardize=how)
        if rule == "fixed":
            for tau in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0):
                yield f"{self.name} at τ = {tau:g}", partial(self.reference, tau=tau)
        base = self.name.partition("+")[0]
        for name in (*(f"{base}+{rule}" for rule in RULE_NAMES), *METHODS):
            yield name, partial(self.reference, name=name)
        yield "the cross entropy with the labels", lambda: lambda s, _, y: F.cross_entropy(s, y)

    def without_squares(self) -> Loss:
        """The method of which each row is divided by the product of its temperatures."""
        objective = _objective(self.name, self.options)

        def term(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
            rows = []
            for i in range(len(student)):
                one = objective(student[i : i + 1], teacher[i : i + 1], target[i : i + 1], epoch=1)
                rows.append(one.kd / (one.temperature.student * one.temperature.teacher).mean().detach())
            return torch.stack(rows).mean()

        return term
