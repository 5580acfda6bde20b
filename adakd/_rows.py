"""Rows: (…, K) logits and their targets flattened in one place, ignored rows taken out before anything sees them."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import _check
from ._check import (
    FLOATS,
    check_device,
    check_float,
    check_label_shape,
    check_labels,
    check_probabilities,
    check_tensor,
    label_ends,
)

__all__ = ["Rows", "are_usual", "check_kinds", "check_shapes", "select_rows"]

_EMPTY = (
    "every row of this batch is ignored (its target is ignore_index): its loss is 0 with a gradient of 0. "
    "This warning comes once."
)


class Rows(NamedTuple):
    """What is left of a batch once rows are selected."""

    student: Tensor
    """(N, K), with gradient."""
    teacher: Tensor | None
    """(N, K), constant; None where there is none."""
    target: Tensor | None
    """(N,) labels, (N, K) probabilities, or None."""
    keep: Tensor | None
    """(…) booleans over the rows as they came where some were taken out, else None."""
    mask: Tensor | None
    """(N,) booleans: rows that count, where none could be taken out (compiled, or inside `torch.vmap`); else None."""


def select_rows(
    student: Tensor,
    teacher: Tensor | None,
    target: Tensor | None,
    *,
    ignore_index: int | None,
    may_mask: Callable[[], bool] = lambda: False,
) -> Rows:
    """Flatten (…, K) to (N, K), and take out the rows whose label is `ignore_index`.

    Rows are taken out before standardization, temperatures and batch statistics, so that all of them agree, by
    construction, with selecting the rows beforehand. In a compiled graph, whose shapes must not depend on values, they
    stay and are marked in `mask`; so inside `torch.vmap`, and on an accelerator, which would have to be waited for, where
    `may_mask` says that no row is compared with another (it is read only there).

    Shapes and types fit (`check_shapes`).

    Raises:
        ValueError: for labels out of range and rows that are no probabilities, where values may be read.
    """
    soft = target is not None and target.is_floating_point()
    keep: Tensor | None = None
    mask: Tensor | None = None
    ends = None if target is None or soft or not _check.may_read(target) else label_ends(target)
    if (
        student.ndim == 2
        and ends
        and 0 <= ends[0] <= ends[1] < student.shape[1]
        and not _may_be_among(ignore_index, ends)
    ):
        return Rows(student, teacher, target, None, None)  # as in nearly every call
    if target is not None and not soft and ignore_index is not None and _may_be_among(ignore_index, ends):
        counted = torch.ne(target, ignore_index)
        whole = None if not _check.may_read(counted) and student.ndim == 2 and may_mask() else _all(counted)
        if whole is None:
            mask = counted.flatten()
            target = target.masked_fill(~counted, 0)
            # Whatever stands in them, NaN too, must not reach a gradient.
            student = student.masked_fill(~counted.unsqueeze(-1), 0.0)
            teacher = teacher.masked_fill(~counted.unsqueeze(-1), 0.0) if teacher is not None else None
        elif not whole:
            keep = counted
    classes = student.shape[-1]
    if keep is not None and target is not None:
        student, target = student[keep], target[keep]
        teacher = teacher[keep] if teacher is not None else None
        if not len(student):
            _warn_once()
    elif student.ndim > 2:
        student = student.reshape(-1, classes)
        teacher = teacher.reshape(-1, teacher.shape[-1]) if teacher is not None else None
        if target is not None:
            target = target.reshape(-1, classes) if soft else target.reshape(-1)
    if target is not None and not soft and len(target) and not (ends and ends[0] >= 0 and ends[1] < classes):
        check_labels(target, classes, ignore_index)
    if target is not None and soft:
        check_probabilities(target)
    return Rows(student, teacher, target, keep, mask)


def are_usual(student: Any, teacher: Any, target: Any) -> bool:
    """Whether these are (N, K) logits of one format and N labels on one device, as in nearly every call.

    The one look then stands for `check_kinds` and `check_shapes`, which find out what is wrong.
    """
    return (
        type(student) is type(teacher) is type(target) is Tensor
        and student.dtype is teacher.dtype
        and student.dtype in FLOATS
        and target.dtype is torch.int64
        and student.layout is teacher.layout is target.layout is torch.strided
        and not (student.is_nested or teacher.is_nested or target.is_nested)
        and student.shape == teacher.shape
        and student.ndim == 2
        and target.shape == student.shape[:1]
        and student.shape[0] > 0
        and student.shape[1] > 1
        and student.device == teacher.device == target.device
        and not (student.is_inference() or teacher.is_inference() or target.is_inference())
    )


def _may_be_among(ignore_index: int | None, ends: tuple[int, int] | None) -> bool:
    """Whether a label may be `ignore_index`, of labels between these ends; None where the ends are not known."""
    return ignore_index is not None and (ends is None or ends[0] <= ignore_index <= ends[1])


def _all(counted: Tensor) -> bool | None:
    """Whether every row counts; None in a compiled graph and inside `torch.vmap`, where no value can be read."""
    if torch.compiler.is_compiling():
        return None
    try:
        return bool(counted.all())
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        return None


def check_shapes(student: Tensor, teacher: Tensor | None, target: Tensor | None, pad_vocab: str | None) -> None:
    """Raise ValueError for shapes or types that do not fit, several devices, or no rows at all."""
    _check_student(student)
    if teacher is not None:
        _check_teacher(student, teacher, pad_vocab)
    _check_target(student, target)
    check_device(student, teacher, target)


def check_kinds(student: Any, teacher: Any, target: Any) -> None:
    """Raise TypeError unless logits are tensors of floating-point numbers, and the target, if any, is a tensor."""
    check_float("student_logits", student)
    if teacher is not None:
        check_float("teacher_logits", teacher)
    if target is not None:
        check_tensor(
            "target", target, "class labels, torch.int64 of shape (batch,)", "convert it with torch.as_tensor()"
        )


def _check_student(student: Tensor) -> None:
    if student.ndim < 2:
        raise ValueError(f"student logits: expected shape (batch, …, classes), got {tuple(student.shape)}")
    if 0 in student.shape[:-1]:
        raise ValueError(
            f"student logits: the batch is empty (shape {tuple(student.shape)}); skip empty batches"
        )
    if student.shape[-1] < 2:
        raise ValueError(f"student logits: expected at least 2 classes, got {student.shape[-1]}")


def _check_teacher(student: Tensor, teacher: Tensor, pad_vocab: str | None) -> None:
    if teacher.shape[:-1] != student.shape[:-1] or teacher.ndim != student.ndim:
        raise ValueError(
            f"teacher logits: expected the student's shape {tuple(student.shape)}, got {tuple(teacher.shape)}"
        )
    if teacher.shape[-1] != student.shape[-1] and pad_vocab is None:
        raise ValueError(
            f"teacher and student disagree on the number of classes: {teacher.shape[-1]} and {student.shape[-1]}; "
            "they must be trained on the same labels. Vocabularies that differ by padding at their end: "
            "pad_vocab='truncate'"
        )
    if teacher.shape[-1] < 2:
        raise ValueError(f"teacher logits: expected at least 2 classes, got {teacher.shape[-1]}")


def _check_target(student: Tensor, target: Tensor | None) -> None:
    if target is None:
        return
    if target.is_floating_point():
        if target.shape != student.shape:
            raise ValueError(
                f"target: expected probabilities of the student's shape {tuple(student.shape)}, "
                f"got {target.dtype} of shape {tuple(target.shape)}; labels must be torch.int64"
            )
        return
    check_label_shape("target", target, student.shape[:-1], student)


def _warn_once() -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(_EMPTY, stacklevel=4)


_warned = False
