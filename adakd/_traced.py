"""The usual loss as a compiled graph sees it: few operations, and few names.

Whatever a compiled step has read of Python, an attribute or the name of a function, is looked up again before every call, to
know that it still holds; for a small batch that is a twentieth of the loss. Checking and selecting rows as `Objective` does takes
some 400 lines of such guards. Here stands what is left, some 170, for (N, K) logits of one format, N labels, and one logit term.
For the same reason what it uses of torch in most calls comes by its own name, where `torch.` would be one more before each.
"""

from typing import Any

import torch
from torch import Tensor, autocast, int64
from torch.nn.functional import cross_entropy

from .temperature import Temperatures

__all__ = ["traced_terms"]


def traced_terms(
    objective: Any, student: Any, teacher: Any, target: Any, epoch: int | None, ignore_index: int | None
) -> tuple[Tensor, Tensor, Tensor, Temperatures] | None:
    """Total, cross entropy, divergence and temperatures as nodes of a graph; None where anything is not usual.

    The objective has one term, a `LogitTerm`, and puts the loss together as `Objective` does.
    """
    if (
        not (isinstance(student, Tensor) and isinstance(teacher, Tensor) and isinstance(target, Tensor))
        or student.ndim != 2
        or student.shape != teacher.shape
        or student.shape[:1] != target.shape
        or student.shape[0] < 1
        or student.shape[1] < 2
        or not student.device == teacher.device == target.device
        or target.dtype != int64
        or student.dtype != teacher.dtype
        or not student.is_floating_point()
        or (epoch is not None and not epoch >= 1)
        or not objective.cross_entropy.plain
    ):
        return None
    ((name, term),) = objective.terms.items()
    if term.reading == "state":  # which rows that are left out would reach
        return None
    teacher, labels, counted, alone = teacher.detach(), target, None, term.reading == "nothing"
    if student.dtype.itemsize < 4:
        student, teacher = student.float(), teacher.float()
    if ignore_index is not None:
        counted = target != ignore_index
        labels = target.masked_fill(~counted, 0)
        if alone:  # whatever stands in rows that are left out, NaN too, must not reach a gradient
            student = student.where(counted.unsqueeze(1), student.detach())
    with autocast(student.device.type, enabled=False):
        values, tau = term.of_rows(student, teacher, labels, None, epoch)
        if ignore_index is None or counted is None:
            # No label's index: left out, torch would silently take -100 for it. Written here, a number is no name to guard.
            ce, kd = cross_entropy(student, target, ignore_index=-(2**62)), values.mean()
        elif alone:
            count = counted.sum().clamp(min=1)
            ce = cross_entropy(student, target, reduction="sum", ignore_index=ignore_index) / count
            kd = values.where(counted, 0.0).sum() / count
        else:
            # Rows cannot be taken out of a graph, and so of no batch statistic: NaN, and no silently wrong number or gradient.
            ce = cross_entropy(student, target, ignore_index=ignore_index)
            kd = values.mean() * torch.where(counted.all(), 1.0, torch.nan)
        weight = objective.weights[name] * objective._warmup(name, epoch)
        total = objective.ce_weight * ce + weight * kd
    return total, ce, kd, tau
