"""Temperature-adaptive teacher matching (2026): the teacher is softened until it is as near as it gets to the student."""

import math

import torch
from torch import Tensor

from ._options import check_bounds
from .base import TemperatureRule, Temperatures

__all__ = ["AdaptiveTTM", "inverse_temperature"]

_GRID, _STEPS = 17, 16


def _moments(beta: Tensor, teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """KL from softmax(beta t) to softmax(s) up to a constant, and its first two derivatives by beta, each (B, 1)."""
    log_p = (beta * teacher).log_softmax(dim=-1)
    p = log_p.exp()
    t = teacher - (p * teacher).sum(dim=-1, keepdim=True)
    s = student - (p * student).sum(dim=-1, keepdim=True)
    value = (p * (log_p - student)).sum(dim=-1, keepdim=True)
    apart = beta * t - s
    slope = (p * t * apart).sum(dim=-1, keepdim=True)
    curvature = (p * t * t * (1 + apart)).sum(dim=-1, keepdim=True)
    return value, slope, curvature


@torch.no_grad()
def inverse_temperature(student: Tensor, teacher: Tensor, low: float, high: float) -> Tensor:
    r"""Inverse temperature of each row that minimizes :math:`\mathrm{KL}(\mathrm{softmax}(\beta t) \,\|\, \mathrm{softmax}(s))`.

    The function of :math:`\beta` may have several minima. So the best of 17 values, evenly spaced in :math:`\log\beta`, is
    taken first, and the minimum between its neighbours found by Newton steps, each of which is replaced by the middle of
    what is left where it would leave it, or climb.

    Args:
        student: (B, K) logits.
        teacher: (B, K) logits.
        low, high: between which it is looked for, 0 < low < high.

    Returns:
        (B, 1), from low to high.
    """
    # Softmax sees no shift, and large numbers cost digits; less the highest, a constant row is 0 and leaves no rounding.
    teacher = teacher - teacher.amax(dim=-1, keepdim=True)
    student = student - student.amax(dim=-1, keepdim=True)
    shape = (len(teacher), 1)
    grid = torch.logspace(
        math.log10(low), math.log10(high), _GRID, dtype=teacher.dtype, device=teacher.device
    ).clamp(low, high)
    at = torch.zeros(shape, dtype=torch.int64, device=teacher.device)
    least = teacher.new_full(shape, math.inf)
    for i in range(_GRID):
        value = _moments(grid[i].expand(shape), teacher, student)[0]
        at, least = torch.where(value < least, i, at), torch.minimum(value, least)
    left, beta, right = (grid[(at + step).clamp(0, _GRID - 1)] for step in (-1, 0, 1))
    for _ in range(_STEPS):
        _, slope, curvature = _moments(beta, teacher, student)
        left, right = torch.where(slope < 0, beta, left), torch.where(slope > 0, beta, right)
        newton = beta - slope / curvature
        inside = (newton >= left) & (newton <= right) & (curvature > 0)
        moved = torch.where(inside, newton, (left + right) / 2)
        beta = torch.where(slope == 0, beta, moved)
    return beta


class AdaptiveTTM(TemperatureRule):
    r"""The teacher's temperature at which its softened output is nearest to the student's, which stays at 1.

    .. math:: \tau^t_i = 1/\beta_i, \qquad
              \beta_i = \arg\min_\beta \mathrm{KL}\big(\mathrm{softmax}(\beta t_i) \,\|\, \mathrm{softmax}(s_i)\big),
              \qquad \tau^s_i = 1

    What :math:`\beta` is. With :math:`p = \mathrm{softmax}(\beta t)` and :math:`q = \mathrm{softmax}(s)`,
    :math:`\log p - \log q = \beta t - s + \text{const}` and
    :math:`\partial p_k/\partial\beta = p_k (t_k - \mathbb E_p t)`. So

    .. math:: \frac{\partial}{\partial\beta} \mathrm{KL} = \sum_k \frac{\partial p_k}{\partial\beta}\,(\beta t_k - s_k)
              = \mathrm{Cov}_p(t, \beta t - s) = \beta\,\mathrm{Var}_p(t) - \mathrm{Cov}_p(t, s),

    the other terms being constants times :math:`\sum_k \partial p_k/\partial\beta = 0`. At its minimum
    :math:`\beta = \mathrm{Cov}_p(t, s)/\mathrm{Var}_p(t)`: the slope of the regression of the student's logits on the
    teacher's, with the teacher's own softened probabilities as weights. With equal weights, the limit of small logits, it
    is :math:`\rho\,\sigma_s/\sigma_t`, and on standardized logits the correlation :math:`\rho` itself: what KL at high
    temperature is 1 minus of (`Correlation`). Where teacher and student agree up to a factor, :math:`s = a t + b`, it is
    a, and the divergence 0.

    The derivative may have several zeros; the lowest of their minima is looked for (`inverse_temperature`). Where the
    student disagrees with its teacher there may be none: then the temperature is a bound. Shift-invariant. No gradient,
    which changes nothing at a minimum inside the bounds: there the derivative by :math:`\beta` is 0. It takes
    33 softmaxes of the batch.

    A reading of the abstract, which defines :math:`\beta` by the minimum; how it is found, and the bounds, are ours.

    Args:
        minimum: lowest temperature of the teacher, > 0.
        maximum: highest.

    Shapes: logits (B, K). Returns two temperatures, each (B, 1): the student's are 1.

    Raises:
        ValueError: for bounds that are not ordered or not above 0.

    Source: arXiv 2608.29099; no code of it is known to us.
    """

    least_classes = 3  # the student's takes its place

    def __init__(self, minimum: float = 0.1, maximum: float = 100.0):
        super().__init__()
        check_bounds(minimum, maximum)
        self.minimum, self.maximum = float(minimum), float(maximum)

    @torch.no_grad()
    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None = None, epoch: int | None = None
    ) -> Temperatures:
        beta = inverse_temperature(student, teacher, 1 / self.maximum, 1 / self.minimum)
        return Temperatures(torch.ones_like(beta), (1 / beta).clamp(self.minimum, self.maximum))

    def extra_repr(self) -> str:
        return f"minimum={self.minimum:g}, maximum={self.maximum:g}"
