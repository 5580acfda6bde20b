"""ResNets for CIFAR (He et al. 2016, section 4.2), with the widths the distillation literature uses.

Three stages of basic blocks at strides 1, 2, 2. Parameter names are those of the published teachers, so their
checkpoints load.
"""

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from ._pointwise import StridedPointwise

__all__ = ["RESNETS", "ResNet"]


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(StridedPointwise(inputs, outputs, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet(nn.Module):
    """ResNet of 6n + 2 layers on images (B, C, H, W); returns logits (B, num_classes).

    Args:
        depth: 6n + 2.
        widths: channels of the stem and of the three stages.
        num_classes: K.
        in_channels: C.

    Raises:
        ValueError: if the depth is not 6n + 2.
    """

    places: ClassVar = {
        "stage0": "relu",
        "stage0:pre": "relu:input",
        **{f"stage{i}": f"layer{i}" for i in (1, 2, 3)},
        **{f"stage{i}:pre": f"layer{i}.-1.relu:input" for i in (1, 2, 3)},
        "classifier": "fc",
    }
    """Of `adakd.stages_of`."""

    def __init__(self, depth: int, widths: tuple[int, int, int, int], num_classes: int, in_channels: int = 3):
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth: expected 6n + 2 (8, 14, 20, …), got {depth}")
        blocks = (depth - 2) // 6
        stem, *stages = widths
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = self._stage(stem, stages[0], blocks, stride=1)
        self.layer2 = self._stage(stages[0], stages[1], blocks, stride=2)
        self.layer3 = self._stage(stages[1], stages[2], blocks, stride=2)
        self.fc = nn.Linear(stages[2], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(inputs, outputs, stride)
        return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean(dim=(2, 3)))


def _resnet(depth: int, widths: tuple[int, int, int, int]) -> Callable[..., ResNet]:
    return lambda num_classes, in_channels=3: ResNet(depth, widths, num_classes, in_channels)


_PLAIN, _X4, _HALF = (16, 16, 32, 64), (32, 64, 128, 256), (8, 8, 16, 32)

RESNETS: dict[str, Callable[..., nn.Module]] = {
    **{f"resnet{depth}": _resnet(depth, _PLAIN) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": _resnet(depth, _X4) for depth in (8, 32)},
    # Half width: the student of the embedded set, small enough that a teacher can improve it.
    "resnet8x0.5": _resnet(8, _HALF),
}
