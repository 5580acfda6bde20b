"""Multi-level logit distillation (Jin et al. 2023): instances, batch and classes, at five temperatures."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..logits import STANDARDIZATIONS, median, standardize
from ..temperature import Temperatures
from .base import Divergence
from .kl import KL

__all__ = ["MLKD"]

_MORE_TEMPERATURES = (3.0, 5.0, 2.0, 6.0)


def _gram_distance(p: Tensor, q: Tensor) -> Tensor:
    """Squared Frobenius distance of P Pᵀ and Q Qᵀ, divided by their number of rows n.

    No matrix is larger than the smaller side of P. Where that is its width, with D = P - Q and so
    P Pᵀ - Q Qᵀ = D Pᵀ + Q Dᵀ, the square is <DᵀD, PᵀP> + <QᵀQ, DᵀD> + 2 <DᵀQ, (DᵀP)ᵀ>.
    """
    rows, width = p.shape
    if rows <= width:
        return F.mse_loss(q @ q.T, p @ p.T, reduction="sum") / rows
    d = p - q
    dd, dp, dq = d.T @ d, d.T @ p, d.T @ q  # (width, width)
    return ((dd * (p.T @ p + q.T @ q)).sum() + 2 * (dq * dp.T).sum()) / rows


def _unsure(confidence: Tensor) -> Tensor:
    """Part of the entries that are not above the median."""
    return (confidence <= median(confidence)).to(confidence.dtype).mean()


class Levels(NamedTuple):
    """The parts of `MLKD`: (B,) per sample, and two scalars of the whole batch."""

    instance: Tensor
    batch: Tensor
    classes: Tensor


class MLKD(Divergence):
    r"""KL of each sample, and distances of the Gram matrices of the batch and of the classes, summed over five
    temperatures: the rule's, and 3, 5, 2, 6.

    .. math:: \mathcal L = \sum_\tau \Big[ f_B\,\tfrac1B\sum_i \tau^2\,\mathrm{KL}_i
              + f_B\,\tfrac1B \big\|P P^\top - Q Q^\top\big\|_F^2
              + f_K\,\tfrac1K \big\|P^\top P - Q^\top Q\big\|_F^2 \Big]

    with :math:`P, Q` the (B, K) softened probabilities of teacher and student; :math:`f_B` the part of the samples
    whose teacher is at most as confident as the median one, :math:`f_K` the same of the classes' total confidence:
    both near one half. The paper speaks of masking the other samples and classes; the released code multiplies
    whole sums by the mask and averages, which is this factor.

    With ``views=2`` the batch is a weakly augmented half above a strongly augmented half of the same images, and the
    strong half adds, as released, :math:`\sum_{\tau, 3, 5}` of its own KL and :math:`\sum_{2, 6}` of the *weak*
    half's (a slip of the code: the strong half is meant).

    Args:
        views: 1, or 2 for stacked weak and strong views.
        kl_standardize: False, "population" or "sample": standardize in the KL terms only, as Sun et al. (2024) do.
            The code of 2503.09030 standardizes everywhere: leave this False and standardize in the objective.

    Shapes: student, teacher (B, K) with B even for two views; temperatures (B, 1) or (1, 1). Returns (B,).

    Raises:
        ValueError: for another number of views or standardization, or two views in an odd batch.
    """

    reads_batch = True

    def __init__(self, views: int = 1, kl_standardize: bool | str = False):
        super().__init__()
        if not isinstance(views, int) or views not in (1, 2):
            raise ValueError(f"views: expected 1 or 2, got {views!r}")
        if kl_standardize is not False and not (
            isinstance(kl_standardize, str) and kl_standardize in STANDARDIZATIONS
        ):
            raise ValueError(
                f"kl_standardize: expected False, 'population' or 'sample', got {kl_standardize!r}"
            )
        self.views = views
        self.pairs_rows = views == 2
        self.kl_standardize = kl_standardize
        self.standardizes = kl_standardize is not False
        self.kl = KL()

    def _kl(self, student: Tensor, teacher: Tensor, target: Tensor, tau: Temperatures) -> Tensor:
        if self.kl_standardize is not False:
            student = standardize(student, **STANDARDIZATIONS[self.kl_standardize])
            teacher = standardize(teacher, **STANDARDIZATIONS[self.kl_standardize])
        return self.kl(student, teacher, target, tau)

    def levels(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Levels:
        """The three levels on their own; `forward` is their sum."""
        batch = student.shape[0]
        if batch % self.views:
            raise ValueError(f"two views: expected an even batch, weak above strong, got {batch} rows")
        weak = slice(0, batch // self.views)
        more = [Temperatures(*(teacher.new_full((1, 1), tau),) * 2) for tau in _MORE_TEMPERATURES]
        kl = [self._kl(student, teacher, target, tau) for tau in (temperatures, *more)]  # each (B,)
        confidence = torch.softmax(teacher[weak], dim=-1)
        unsure_samples, unsure_classes = _unsure(confidence.amax(dim=-1)), _unsure(confidence.sum(dim=0))

        of_batch = of_classes = student.new_zeros(())
        for tau in (self._rows(temperatures, weak, batch), *more):
            p = torch.softmax(teacher[weak] / tau.teacher, dim=-1)
            q = torch.softmax(student[weak] / tau.student, dim=-1)
            of_batch = of_batch + unsure_samples * _gram_distance(p, q)
            of_classes = of_classes + unsure_classes * _gram_distance(p.T, q.T)

        instance = unsure_samples * torch.stack(kl).sum(dim=0)[weak]
        if self.views == 2:
            strong = slice(batch // 2, batch)
            at_rule, at_3, at_5, at_2, at_6 = kl
            first = instance + at_2[weak] + at_6[weak]
            second = (at_rule + at_3 + at_5)[strong]
            instance = 2.0 * torch.cat([first, second])  # the mean over both halves is the sum of their means
        return Levels(instance, of_batch, of_classes)

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Tensor:
        levels = self.levels(student, teacher, target, temperatures)
        return levels.instance + levels.batch + levels.classes

    @staticmethod
    def _rows(temperatures: Temperatures, rows: slice, batch: int) -> Temperatures:
        return Temperatures(*(tau[rows] if tau.shape[0] == batch else tau for tau in temperatures))

    def extra_repr(self) -> str:
        return f"views={self.views}, kl_standardize={self.kl_standardize!r}"
