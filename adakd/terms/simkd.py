"""The projection of SimKD: a student's last map in the place of the teacher's, before its classifier (Chen et al. 2022)."""

import torch.nn.functional as F
from torch import Tensor, nn

from .._check import check_whole
from ..signals import Batch, Signals, Tapped, Taps
from ..stages import place_of
from ._features import feature, refuse_unbuilt
from .base import Term

__all__ = ["ReusedClassifier", "SimKD"]


class SimKD(Term):
    r"""Mean square distance of a projected student map and the teacher's last map, whose classifier is reused.

    .. math:: \ell_i = \tfrac{1}{CHW}\,\big\| P f^s_i - f^t_i \big\|^2

    with P a bottleneck of a 1×1, a 3×3 and a 1×1 convolution, each with batch norm and ReLU. Of two maps of different
    size the larger one is averaged to the smaller. Evaluated and saved is the student, P and the teacher's classifier
    (`deploy`); the student's own classifier is not used.

    Args:
        factor: the bottleneck has the teacher's channels divided by it.
        stage: name of the student's map.

    Shapes: features ``last`` (N, C, H, W). Returns (N,). In training a row's value depends on its batch, by batch norm.

    Raises:
        ValueError: for a factor below 1, or above the teacher's channels.

    Source: Chen et al. 2022 (arXiv 2203.14001) and their released code.

    Differs from the paper:
        - ``last`` is the map whose mean the classifier receives. The released MobileNetV2 and ShuffleNets give the map
          before their last 1×1 convolution, which is then left out of the deployed network (``stage="stage4"``, ``"stage3"``;
          the convolution stays in ours, unused); of wide ResNets the code of 2503.09030 takes the map before its last
          normalization, though the classifier was trained behind it.
    """

    reads_batch = True

    projector: nn.Sequential

    def __init__(self, factor: int = 2, stage: str = "last"):
        super().__init__()
        check_whole(1, factor=factor)
        self.factor, self.stage = factor, stage
        self.taps = Taps((stage,), ("last",))

    def build(self, student: Signals, teacher: Signals, train_images: int) -> None:
        s, t = self._maps(student, teacher)
        inner, outer = s.shape[1], t.shape[1]
        if self.factor > outer:
            raise ValueError(f"factor: expected at most the {outer} channels of the teacher, got {self.factor}")
        width = outer // self.factor
        self.projector = nn.Sequential(
            *_block(inner, width, 1), *_block(width, width, 3), *_block(width, outer, 1)
        )
        self.size = _smaller(s, t)
        """Height and width of the maps that are compared."""

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        refuse_unbuilt(self, "projector")
        s, t = self._maps(student, teacher)
        size = _smaller(s, t)
        projected = self.projector(_averaged(s, size))
        return (projected - _averaged(t, size)).square().mean(dim=(1, 2, 3))

    def deploy(self, student: nn.Module, teacher: nn.Module) -> nn.Module:
        refuse_unbuilt(self, "projector")
        classifier = teacher.get_submodule(place_of(teacher, "classifier"))
        return ReusedClassifier(student, self.projector, classifier, self.size, self.stage)

    def _maps(self, student: Signals, teacher: Signals) -> tuple[Tensor, Tensor]:
        return feature(student, self.stage, "student"), feature(teacher, "last", "teacher").detach()

    def extra_repr(self) -> str:
        return f"factor={self.factor}, stage={self.stage!r}"


class ReusedClassifier(nn.Module):
    """A student whose projected map goes through its teacher's classifier: what SimKD evaluates and saves.

    Args:
        student: from images to logits; its own logits are not used.
        projector: from the student's map to the teacher's.
        classifier: the teacher's, from pooled features (N, C) to logits (N, K).
        size: height and width that the student's map is averaged to, where it is larger.
        stage: name of the student's map.
    """

    def __init__(
        self,
        student: nn.Module,
        projector: nn.Module,
        classifier: nn.Module,
        size: tuple[int, int],
        stage: str = "last",
    ):
        super().__init__()
        self.student = Tapped(student, (stage,))
        self.projector, self.classifier = projector, classifier
        self.size, self.stage = size, stage

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) for images (N, C, H, W)."""
        found = self.student(x).features[self.stage]
        logits: Tensor = self.classifier(self.projector(_averaged(found, self.size)).mean(dim=(2, 3)))
        return logits


def _block(inner: int, outer: int, size: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inner, outer, size, padding=size // 2, bias=False)
    return convolution, nn.BatchNorm2d(outer), nn.ReLU(inplace=True)


def _smaller(s: Tensor, t: Tensor) -> tuple[int, int]:
    return min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3])


def _averaged(x: Tensor, size: tuple[int, int]) -> Tensor:
    """A map averaged to a size, where it is larger."""
    return x if x.shape[2] <= size[0] and x.shape[3] <= size[1] else F.adaptive_avg_pool2d(x, size)
