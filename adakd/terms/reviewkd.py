"""The review of ReviewKD: a student's stages, fused from the deepest up, against the teacher's (Chen et al. 2021)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..signals import Batch, Signals, Taps
from ._features import feature, refuse_unbuilt
from .base import Term

__all__ = ["ReviewKD"]

_MOST = 512  # channels of the fused map


class ReviewKD(Term):
    r"""Square distance of fused student maps and teacher maps, at several resolutions.

    The levels are the pooled features and the last stages. From the deepest up, each student map is fused with what came
    from below and compared with the teacher's map of that level:

    .. math:: u_l = a_l \odot C_l f^s_l + b_l \odot \mathrm{up}(u_{l+1}), \qquad
              \ell_i = \sum_l \mathrm{HCL}(D_l u_l,\ f^t_l)

    with :math:`C_l` a 1×1 and :math:`D_l` a 3×3 convolution, each with batch norm, and the two attention maps
    :math:`(a_l, b_l)` a 1×1 convolution of both summands, through a sigmoid. HCL is the mean square distance of the maps
    as they are and of their means over 4×4, 2×2 and 1×1 fields (those smaller than the map), with the weights
    1, ½, ¼, ⅛ divided by their sum.

    Args:
        levels: how many of the last stages are compared, beside the pooled features.
        trained: whether the fusions are trained. False: as the released code of 2503.09030 runs it, whose optimizer is
            never given them, so that the student is compared through convolutions that stay random.

    Shapes: features ``pooled`` (N, C) and ``stage-1``, ``stage-2``, … (N, C, H, W) of the student, the same before their
    last ReLU (``stage-1:pre``, …) of the teacher. Returns (N,). In training a row's value depends on its batch, by batch
    norm.

    Raises:
        ValueError: for fewer than one level; when built, if a network has not so many stages.

    Source: Chen et al. 2021 (arXiv 2104.09044) and their released code.

    Differs from the paper:
        - Levels are paired from the deepest up, so that networks of three and of four stages fit. The released code pairs
          the four stages of VGG, MobileNetV2 and ResNet-50 among themselves (``levels=4``), and for a teacher with three
          pairs the student's fourth with the teacher's pooled features.
        - The paper warms up over 20 epochs; that is of the row, not of the term.
    """

    reads_batch = True

    fusions: nn.ModuleList

    def __init__(self, levels: int = 3, trained: bool = True):
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels: expected a number of stages of at least 1, got {levels!r}")
        self.levels, self.trained = levels, trained
        stages = [f"stage-{back}" for back in range(1, levels + 1)]
        self.taps = Taps(("pooled", *stages), ("pooled", *(f"{stage}:pre" for stage in stages)))

    def build(self, student: Signals, teacher: Signals, train_images: int) -> None:
        inner, outer = self._maps(student, "student"), self._maps(teacher, "teacher")
        width = min(_MOST, inner[0].shape[1])
        self.fusions = nn.ModuleList(
            Fusion(s.shape[1], width, t.shape[1], deepest=level == 0)
            for level, (s, t) in enumerate(zip(inner, outer, strict=True))
        ).requires_grad_(self.trained)

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        refuse_unbuilt(self, "fusions")
        inner, outer = self._maps(student, "student"), self._maps(teacher, "teacher")
        value, fused = inner[0].new_zeros(len(inner[0])), None
        for s, t, fusion in zip(inner, outer, self.fusions, strict=True):
            t = t.detach()
            output, fused = fusion(s, fused, t.shape[-2:])
            value = value + pyramid_distance(output, t)
        return value

    def _maps(self, signals: Signals, network: str) -> list[Tensor]:
        """The maps (N, C, H, W) of all levels, the deepest first; pooled features are a map of one field."""
        maps = [feature(signals, name, network) for name in getattr(self.taps, network)]
        return [x[:, :, None, None] if x.ndim == 2 else x for x in maps]

    def extra_repr(self) -> str:
        return f"levels={self.levels}, trained={self.trained}"


class Fusion(nn.Module):
    """One level of the review: a student's map and what came from below, as a map of the teacher's shape.

    Args:
        inner: channels of the student's map.
        width: channels of the fused map.
        outer: channels of the teacher's map.
        deepest: whether nothing comes from below.
    """

    def __init__(self, inner: int, width: int, outer: int, deepest: bool):
        super().__init__()
        first = nn.Conv2d(inner, width, 1, bias=False)
        second = nn.Conv2d(width, outer, 3, padding=1, bias=False)
        for convolution in (first, second):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
        self.reduce = nn.Sequential(first, nn.BatchNorm2d(width))
        self.attend = None if deepest else nn.Conv2d(2 * width, 2, 1)
        self.expand = nn.Sequential(second, nn.BatchNorm2d(outer))

    def forward(self, x: Tensor, below: Tensor | None, size: Any) -> tuple[Tensor, Tensor]:
        """The map to compare, and the fused map for the level above, both of the teacher's height and width."""
        x = self.reduce(x)
        if self.attend is not None:
            assert below is not None
            below = F.interpolate(below, x.shape[-2:])
            attention = self.attend(torch.cat([x, below], dim=1)).sigmoid()
            x = x * attention[:, :1] + below * attention[:, 1:]
        if x.shape[-2:] != size:
            x = F.interpolate(x, size)
        return self.expand(x), x


def pyramid_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean square distance (N,) of maps (N, C, H, W), as they are and over coarser and coarser fields (HCL)."""
    value = (student - teacher).square().mean(dim=(1, 2, 3))
    weight = total = 1.0
    for fields in (4, 2, 1):
        if fields >= student.shape[-2]:
            continue
        weight /= 2
        total += weight
        # The mean over fields is linear: of the difference it is the difference of the means.
        means = F.adaptive_avg_pool2d(student - teacher, fields)
        value = value + weight * means.square().mean(dim=(1, 2, 3))
    return value / total
