"""The review of ReviewKD: a student's stages, fused from the deepest up, against the teacher's (Chen et al. 2021)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..signals import Batch, Signals, Taps
from ._features import feature, refuse_unbuilt
from ._layers import STAGES, taps_of
from .base import Term

__all__ = ["ReviewKD"]

_MOST = 512  # channels of the fused map


class ReviewKD(Term):
    r"""Square distance of fused student maps and teacher maps, at several resolutions.

    The levels are the stages and the pooled features. From the deepest up, each student map is fused with what came from
    below and compared with the teacher's map of that level:

    .. math:: u_l = a_l \odot C_l f^s_l + b_l \odot \mathrm{up}(u_{l+1}), \qquad
              \ell_i = \sum_l \mathrm{HCL}(D_l u_l,\ f^t_l)

    with :math:`C_l` a 1×1 and :math:`D_l` a 3×3 convolution, each with batch norm, and the two attention maps
    :math:`(a_l, b_l)` a 1×1 convolution of both summands, through a sigmoid. HCL is the mean square distance of the maps
    as they are and of their means over 4×4, 2×2 and 1×1 fields (those smaller than the map), with the weights
    1, ½, ¼, ⅛ divided by their sum.

    Args:
        trained: whether the fusions are trained. False: as the released code of 2503.09030 runs it, whose optimizer is
            never given them, so that the student is compared through convolutions that stay random.
        student_layers, teacher_layers: names of the features from the first level to the deepest, separated by commas, of
            networks of your own.

    Shapes: features (N, C, H, W), or (N, C) as maps of one field: ``stage1`` to ``stage3``, ``stage4`` where there is one,
    and ``pooled``; of the teacher the stages before their last ReLU. Returns (N,). In training a row's value depends on
    its batch, by batch norm.

    Raises:
        ValueError: for another number of layers of one network than of the other.

    Source: Chen et al. 2021 (arXiv 2104.09044) and their released code.

    Differs from the paper:
        - Levels are paired from the deepest up, and what one network has more of is left out. For two networks of three
          stages, and for two of four, that is what the released code has in a table by names. For a student of four
          stages and a teacher of three the code of 2503.09030 pairs from the first level on, the student's fourth stage
          with the teacher's pooled features.
        - The warm-up over 20 epochs is of the row, not of the term.
    """

    reads_batch = True

    fusions: nn.ModuleList

    def __init__(
        self, trained: bool = True, student_layers: str | None = None, teacher_layers: str | None = None
    ):
        super().__init__()
        self.trained = trained
        if student_layers is None and teacher_layers is None:
            self.taps = Taps((*STAGES, "pooled"), (*map(_before_relu, STAGES), "pooled"))
        else:
            self.taps = taps_of((), student_layers, teacher_layers)

    def build(self, student: Signals, teacher: Signals, train_images: int) -> None:
        levels = self._levels(student, teacher)
        width = min(_MOST, levels[0][0].shape[1])
        self.fusions = nn.ModuleList(
            Fusion(s.shape[1], width, t.shape[1], deepest=depth == 0) for depth, (s, t) in enumerate(levels)
        ).requires_grad_(self.trained)

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        refuse_unbuilt(self, "fusions")
        levels = self._levels(student, teacher)
        value, fused = levels[0][0].new_zeros(len(levels[0][0])), None
        for (s, t), fusion in zip(levels, self.fusions, strict=True):
            output, fused = fusion(s, fused, t.shape[-2:])
            value = value + pyramid_distance(output, t)
        return value

    def _levels(self, student: Signals, teacher: Signals) -> list[tuple[Tensor, Tensor]]:
        """Maps (N, C, H, W) of student and teacher, the deepest level first."""
        sides = zip(self.taps, (student, teacher), ("student", "teacher"), strict=True)
        inner, outer = (list(map(_as_map, _present(*side)))[::-1] for side in sides)
        # Of four stages beside three the first is left out.
        return [(s, t.detach().to(s.dtype)) for s, t in zip(inner, outer, strict=False)]

    def extra_repr(self) -> str:
        return f"trained={self.trained}"


def _present(names: tuple[str, ...], signals: Signals, network: str) -> list[Tensor]:
    """Features by name; one whose name ends with "?" where it is there."""
    plain = [
        name.removesuffix("?") for name in names if not name.endswith("?") or name[:-1] in signals.features
    ]
    return [feature(signals, name, network) for name in plain]


def _as_map(x: Tensor) -> Tensor:
    """A map (N, C, H, W), which is what pooled features (N, C) are with one field."""
    return x[:, :, None, None] if x.ndim == 2 else x


def _before_relu(stage: str) -> str:
    return stage.replace("?", ":pre?") if "?" in stage else f"{stage}:pre"


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
