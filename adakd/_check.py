"""Checks of user input shared by every room: errors that say what was expected, what came, and what to do."""

import difflib
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["check_finite", "check_logits", "near_names"]


def near_names(kind: str, name: str, known: Iterable[str], shown: Iterable[str] | None = None) -> str:
    """The text of an error about an unknown name: the nearest known ones first, then all, or those to be shown."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(known if shown is None else shown)}"


def check_logits(student: Tensor, teacher: Tensor | None, target: Tensor) -> None:
    """Raise ValueError unless student and teacher are (B, K) of one shape, K >= 2, B >= 1, and target is (B,).

    Shapes only: nothing here reads a value, so nothing waits for the device.
    """
    if student.ndim != 2:
        raise ValueError(
            f"student logits: expected shape (batch, classes), got {tuple(student.shape)}; "
            "flatten other axes into the batch first"
        )
    batch, classes = student.shape
    if batch == 0:
        raise ValueError("student logits: the batch is empty (shape (0, K)); skip empty batches")
    if classes < 2:
        raise ValueError(f"student logits: expected at least 2 classes, got {classes}")
    if teacher is not None and teacher.shape != student.shape:
        if teacher.ndim == 2 and teacher.shape[1] != classes:
            raise ValueError(
                f"teacher and student disagree on the number of classes: {teacher.shape[1]} and {classes}; "
                "they must be trained on the same labels"
            )
        raise ValueError(
            f"teacher logits: expected the student's shape {tuple(student.shape)}, got {tuple(teacher.shape)}"
        )
    if target.shape != (batch,) or target.dtype != torch.int64:
        raise ValueError(
            f"target: expected {batch} class labels, torch.int64 of shape ({batch},), "
            f"got {target.dtype} of shape {tuple(target.shape)}"
        )


def check_finite(**tensors: Tensor | None) -> None:
    """Raise ValueError naming the first row of any tensor that holds NaN or infinity. Reads values."""
    for name, tensor in tensors.items():
        if tensor is None or torch.isfinite(tensor).all():
            continue
        bad = ~torch.isfinite(tensor).all(dim=-1)
        rows = bad.nonzero().flatten().tolist()
        raise ValueError(
            f"{name}: {len(rows)} of {bad.numel()} rows hold NaN or infinity (first: row {rows[0]}); "
            "lower the learning rate, or look for the step that produced it"
        )
