"""Pure forms of the divergences: logits and a temperature in, one number a row out.

No state, no weights, no reduction: for a loop of your own, or to try a formula. All take logits (N, K) and a temperature,
a number or a tensor of shape (), (1,), (N,), (1, 1) or (N, 1), for both networks or one each (`tau=(student's, teacher's)`), and keep the
gradient of the student. Half precision is raised to fp32. Refused are what is no tensor of logits, other shapes, no row at all
or a single class, and, where values may be read (not on an accelerator, nor in a compiled graph), labels out of range, NaN,
infinity, and temperatures that are not above 0 in the format of the logits, or so low that their quotient leaves it.

>>> import torch
>>> s, t = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[1.0, 1.0, -2.0]])
>>> kl(s, t, tau=4.0)
tensor([0.4624])
"""

from typing import Any

import torch
from torch import Tensor

from . import _check
from . import divergence as _divergences
from ._check import (
    NotFiniteError,
    at_least_fp32,
    brief,
    check_device,
    check_finite,
    check_float,
    check_label_shape,
    check_labels,
    check_tensor,
    read,
)
from .logits import peak, pearson, standardize
from .temperature import Temperatures

__all__ = [
    "ab",
    "anchored_kl",
    "correlation",
    "dist",
    "dkd",
    "jsd",
    "kl",
    "logit_distance",
    "mlkd",
    "peak",
    "pearson",
    "reverse_kl",
    "rld",
    "skewed_kl",
    "standardize",
    "taylor_kl",
    "ttm",
]


def _value(divergence: Any, student: Tensor, teacher: Tensor, target: Tensor | None, tau: Any) -> Tensor:
    check_float("student", student)
    check_float("teacher", teacher)
    if student.ndim != 2 or teacher.shape != student.shape:
        raise ValueError(
            f"expected student and teacher logits of one shape (N, K), got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}"
        )
    rows, classes = student.shape
    if not rows:
        raise ValueError(f"student: the batch is empty (shape (0, {classes})); skip empty batches")
    if classes < 2:
        raise ValueError(f"student: expected at least 2 classes, got {classes}")
    if divergence.reads_target:
        _check_target(target, student)
    check_device(student, teacher, target)
    if _check.may_read(student):
        check_finite(student=student, teacher=teacher)
    student = at_least_fp32(student)
    teacher = teacher.detach().to(student.dtype)
    if isinstance(tau, tuple):
        if len(tau) != 2:
            raise ValueError(f"tau: expected a temperature, or a pair (student's, teacher's), got {brief(tau)}")
        columns = Temperatures(*(_column(side, student) for side in tau))
    else:
        columns = Temperatures(*(_column(tau, student),) * 2)
    values: Tensor = divergence(student, teacher, target, columns)
    if read(values.detach().isnan().any()):
        raise NotFiniteError(
            f"tau: expected temperatures by which the logits can be divided in {student.dtype}, got {brief(tau)}, of which a "
            "value comes that is NaN; take a higher temperature, or float64 logits"
        )
    return values


def _check_target(target: Any, student: Tensor) -> None:
    rows, classes = student.shape
    expected = f"class labels, torch.int64 of shape ({rows},)"
    check_tensor("target", target, expected, "pass the labels, as torch.as_tensor() makes them")
    check_label_shape("target", target, (rows,))
    check_labels(target, classes)


def _column(tau: Any, student: Tensor) -> Tensor:
    """A temperature as (1, 1) or (N, 1), above 0 and finite in the logits' format where values may be read."""
    limits = torch.finfo(student.dtype)
    # Below the smallest normal number a device may take it for 0, and nearly every logit over it is infinite.
    expected = f"temperatures above 0 and finite in {student.dtype}, from {limits.tiny:.2g} to {limits.max:.2g}"
    if isinstance(tau, int | float) and not isinstance(tau, bool):
        if not limits.tiny <= tau <= limits.max:
            raise ValueError(f"tau: expected {expected}, got {brief(tau)}")
        return student.new_full((1, 1), tau)
    if not isinstance(tau, Tensor):
        try:
            tau = torch.as_tensor(tau)
        except (TypeError, ValueError, RuntimeError):
            tau = brief(tau)
    if not isinstance(tau, Tensor) or tau.is_complex() or tau.dtype == torch.bool:
        got = f"a tensor of {tau.dtype}" if isinstance(tau, Tensor) else tau
        raise TypeError(f"tau: expected a number, a tensor of (N,) or (N, 1), or a pair of such, got {got}")
    if tau.numel() not in (1, len(student)) or tau.ndim > 2 or (tau.ndim == 2 and tau.shape[1] != 1):
        raise ValueError(
            f"tau: expected a number or one for each of {len(student)} rows, got shape {tuple(tau.shape)}; of one a row it is "
            f"({len(student)},) or ({len(student)}, 1)"
        )
    column = tau.to(student).reshape(-1, 1)
    values = column.detach()
    if read(((values >= limits.tiny) & (values <= limits.max)).all()) is False:
        raise ValueError(f"tau: expected {expected}, got {brief(tau)}")
    return column


def kl(student: Tensor, teacher: Tensor, tau: Any = 4.0) -> Tensor:
    r"""KL divergence of softened probabilities times :math:`\tau^s\tau^t`, (N,); see `adakd.KL`."""
    return _value(_divergences.KL(), student, teacher, None, tau)


def reverse_kl(student: Tensor, teacher: Tensor, tau: Any = 4.0) -> Tensor:
    r"""KL divergence of the student's softened probabilities from the teacher's, (N,); see `adakd.ReverseKL`."""
    return _value(_divergences.ReverseKL(), student, teacher, None, tau)


def skewed_kl(
    student: Tensor, teacher: Tensor, tau: Any = 4.0, skew: float = 0.1, reverse: bool = False
) -> Tensor:
    """KL divergence to a mixture with the first of the two, (N,); see `adakd.SkewedKL`."""
    return _value(_divergences.SkewedKL(skew, reverse), student, teacher, None, tau)


def jsd(student: Tensor, teacher: Tensor, tau: Any = 4.0, mixture: float = 0.5) -> Tensor:
    """Generalized Jensen-Shannon divergence, (N,); see `adakd.JSD`."""
    return _value(_divergences.JSD(mixture), student, teacher, None, tau)


def ab(student: Tensor, teacher: Tensor, tau: Any = 4.0, alpha: float = 0.8, beta: float = 0.3) -> Tensor:
    """Alpha-beta divergence, (N,); see `adakd.AB`."""
    return _value(_divergences.AB(alpha, beta), student, teacher, None, tau)


def dkd(
    student: Tensor, teacher: Tensor, target: Tensor, tau: Any = 4.0, alpha: float = 1.0, beta: float = 8.0
) -> Tensor:
    r"""Decoupled KL, :math:`\tau^s\tau^t(\alpha\,\mathrm{TCKD} + \beta\,\mathrm{NCKD})`, (N,); see `adakd.DKD`."""
    return _value(_divergences.DKD(alpha, beta), student, teacher, target, tau)


def rld(
    student: Tensor, teacher: Tensor, target: Tensor, tau: Any = 4.0, alpha: float = 1.0, beta: float = 8.0
) -> Tensor:
    """Refined logit distillation, of the label and the classes below it, (N,); see `adakd.RLD`."""
    return _value(_divergences.RLD(alpha, beta), student, teacher, target, tau)


def ttm(student: Tensor, teacher: Tensor, tau: Any = 10.0) -> Tensor:
    """KL from a softened teacher to the student at temperature 1, (N,); see `adakd.TTM`."""
    return _value(_divergences.TTM(), student, teacher, None, tau)


def dist(student: Tensor, teacher: Tensor, tau: Any = 4.0, beta: float = 1.0, gamma: float = 1.0) -> Tensor:
    """One minus the correlation of probabilities, of rows and of columns, (N,); see `adakd.DIST`. Reads the batch."""
    return _value(_divergences.DIST(beta, gamma), student, teacher, None, tau)


def mlkd(student: Tensor, teacher: Tensor, tau: Any = 4.0) -> Tensor:
    """Multi-level distillation of one view, (N,); see `adakd.MLKD`. Reads the batch."""
    return _value(_divergences.MLKD(), student, teacher, None, tau)


def anchored_kl(
    student: Tensor, teacher: Tensor, tau: Any, alpha: float = 3.0, beta: float = 1.0, anchor: float = 4.0
) -> Tensor:
    """KL at given temperatures beside KL at a fixed one, (N,); see `adakd.Anchored`."""
    return _value(_divergences.Anchored(alpha, beta, anchor), student, teacher, None, tau)


def taylor_kl(student: Tensor, teacher: Tensor, tau: Any = 2.0, order: int = 2) -> Tensor:
    """KL of Taylor softmaxes, (N,); see `adakd.TaylorKL`."""
    return _value(_divergences.TaylorKL(order), student, teacher, None, tau)


def correlation(student: Tensor, teacher: Tensor) -> Tensor:
    r"""One minus the correlation of logits, :math:`1 - \rho`, (N,); see `adakd.Correlation`."""
    return _value(_divergences.Correlation(), student, teacher, None, 1.0)


def logit_distance(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Half the mean square of the difference of centred logits, (N,); see `adakd.LogitDistance`."""
    return _value(_divergences.LogitDistance(), student, teacher, None, 1.0)
