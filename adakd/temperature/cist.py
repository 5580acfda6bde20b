"""Consistently informative soft labels (CIST, Luong et al. 2026): each side's highest logit over its temperature is one number."""

import torch
from torch import Tensor

from .._check import read
from ..logits import peak
from ._options import check_positive
from .base import TemperatureRule, Temperatures

__all__ = ["CIST"]

_FLOOR = 1e-3  # as `MaxLogit` has it: rows whose highest logit is not above 0 would have less


class CIST(TemperatureRule):
    r"""A temperature per sample and side that brings the highest logit of every row to the same height.

    .. math:: \tau^t_i = \frac{\max_k t_{ik}}{r}, \qquad \tau^s_i = \frac{\max_k s_{ik}}{r}

    The paper's theory is that the entropy of a soft label is governed by :math:`\max_k t_k / \tau`, which is r here: where
    the other logits are near 0, the highest probability is near :math:`e^r/(e^r + K - 1)` whatever the teacher's scale.
    With one temperature for both sides and :math:`r = 1/c_2` it would be `MaxLogit`. No gradient.

    A reading of the abstract: it says separate temperatures for teacher and student, governed by the ratio of the highest
    logit, and a loss reweighted by the teacher's confidence and the student's difficulty (the sample weight
    `Confidence`). That the rule is used on raw logits, that it carries no gradient, that the loss counts
    :math:`\tau^s\tau^t` times and r are ours.

    Not shift-invariant; a common factor of one side's logits changes that side's temperature by the same. A row whose
    highest logit is not above 0 gets the floor, 0.001; where more than half of the rows are such a warning is given, once
    and on a CPU.

    Args:
        ratio: r > 0; 3 is ours.

    Shapes: logits (B, K). Returns two different temperatures, each (B, 1).

    Raises:
        ValueError: if the ratio is not a finite number above 0.

    Source: arXiv 2605.20357 (abstract); no code of it is known to us.
    """

    def __init__(self, ratio: float = 3.0):
        super().__init__()
        check_positive(ratio=ratio)
        self.ratio = float(ratio)

    @torch.no_grad()
    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None = None, epoch: int | None = None
    ) -> Temperatures:
        return Temperatures(*((peak(x) / self.ratio).clamp(min=_FLOOR) for x in (student, teacher)))

    def complaint(self, student: Tensor, teacher: Tensor, temperatures: Temperatures) -> str | None:
        # Rows of equal logits teach nothing anyway.
        below = [(peak(x) <= 0) & (x != x[:, :1]).any(dim=1, keepdim=True) for x in (student, teacher)]
        rows = read((below[0] | below[1]).sum()) or 0
        if 2 * rows <= len(teacher):  # of few classes, single rows are all below 0 by chance
            return None
        return (
            f"the maximum logit of {rows} of {len(teacher)} rows is not above 0 in one of the two models, so that its "
            f"temperature is its floor, {_FLOOR:g}: standardize the logits; log-probabilities are no logits to take a "
            "maximum of"
        )

    def extra_repr(self) -> str:
        return f"ratio={self.ratio:g}"
