"""The class attention of CAT-KD: where each network finds each class (Guo et al. 2023)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .._check import check_whole
from ..signals import Batch, Signals, Taps
from ._features import feature
from ._layers import unit
from .base import Term

__all__ = ["CATKD"]


class CATKD(Term):
    r"""Mean square distance of class activation maps.

    With the classifier W as a 1×1 convolution, every field of the last map has a value for each class:

    .. math:: A_{k}(x, y) = \sum_c W_{kc} f_c(x, y), \qquad
              \ell_i = \tfrac{1}{K r^2}\, \big\| \bar A^s_i - \bar A^t_i \big\|^2

    with :math:`\bar A` the means over r×r fields, each class divided by its norm where `normalize` says so. The gradient
    reaches the student's classifier too.

    Args:
        resolution: r.
        normalize: whether each class's map is divided by its norm.
        against: ``"teacher"``; or ``"student"``, as the released code of 2503.09030 has it, which compares the student
            with itself: value and gradient are then 0, and what is trained is the cross entropy alone.

    Shapes: features ``last`` (N, C, H, W) and ``classifier:weight`` (K, C). Returns (N,).

    Raises:
        ValueError: for a resolution below 1, or finer than a network's map; for another word in `against`.

    Source: Guo et al. 2023 (CVPR) and their released code.

    Differs from the paper:
        - The classifier's bias is no part of the maps: the paper's networks have none.
        - Fields are averaged first and classified then, which is the same and cheaper.
    """

    taps = Taps(("last", "classifier:weight"), ("last", "classifier:weight"))

    def __init__(self, resolution: int = 2, normalize: bool = False, against: str = "teacher"):
        super().__init__()
        check_whole(1, resolution=resolution)
        if against not in ("teacher", "student"):
            raise ValueError(f"against: expected 'teacher' or 'student', got {against!r}")
        self.resolution, self.normalize, self.against = resolution, normalize, against

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        s = self._maps(student, "student")
        t = s if self.against == "student" else self._maps(teacher, "teacher").detach()
        return map_distance(s, t, self.normalize)

    def _maps(self, signals: Signals, network: str) -> Tensor:
        found = feature(signals, "last", network)
        if min(found.shape[-2:]) < self.resolution:
            height, width = found.shape[-2:]
            raise ValueError(
                f"resolution: expected at most {min(height, width)}, since the {network}'s last map has {height}×{width} "
                f"fields, got {self.resolution}"
            )
        return activation_maps(found, feature(signals, "classifier:weight", network), self.resolution)

    def extra_repr(self) -> str:
        return f"resolution={self.resolution}, normalize={self.normalize}, against={self.against!r}"


def activation_maps(found: Tensor, weight: Tensor, resolution: int) -> Tensor:
    """Class activation maps (N, K, r, r) of maps (N, C, H, W) under a classifier (K, C)."""
    return torch.einsum("nchw,kc->nkhw", F.adaptive_avg_pool2d(found, resolution), weight)


def map_distance(student: Tensor, teacher: Tensor, normalize: bool) -> Tensor:
    """Mean square distance (N,) of maps (N, K, r, r)."""
    if normalize:
        student, teacher = (unit(x.flatten(2), dim=2) for x in (student, teacher))
    return (student - teacher).square().flatten(1).mean(dim=1)
