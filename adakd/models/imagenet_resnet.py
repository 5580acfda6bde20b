"""ResNets of four stages (He et al. 2016, table 1) for CIFAR: a 3 × 3 stem of stride 1, no pooling before the stages.

Parameter names are those of the published teachers, so their checkpoints load.
"""

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from ._pointwise import StridedPointwise

__all__ = ["IMAGENET_RESNETS", "ImageNetResNet"]

_BLOCKS: dict[int, tuple[int, int, int, int]] = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(StridedPointwise(inputs, outputs, stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(inputs, width, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


class ImageNetResNet(nn.Module):
    """ResNet-18 or ResNet-50 on images (B, C, H, W) of CIFAR's size; returns logits (B, num_classes).

    Args:
        depth: 18 (basic blocks) or 50 (bottlenecks).
        num_classes: K.
        in_channels: C.

    Raises:
        ValueError: for another depth.
    """

    places: ClassVar = {
        "stage0": "relu",
        "stage0:pre": "relu:input",
        **{f"stage{i}": f"layer{i}" for i in (1, 2, 3, 4)},
        **{f"stage{i}:pre": f"layer{i}.-1.relu:input" for i in (1, 2, 3, 4)},
        "classifier": "linear",
    }
    """Of `adakd.stages_of`."""

    def __init__(self, depth: int, num_classes: int, in_channels: int = 3):
        super().__init__()
        if depth not in _BLOCKS:
            raise ValueError(f"depth: expected one of {', '.join(map(str, _BLOCKS))}, got {depth}")
        block: type[BasicBlock] | type[Bottleneck] = BasicBlock if depth == 18 else Bottleneck
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        counts = _BLOCKS[depth]
        self.layer1 = self._stage(block, 64, 64, counts[0], stride=1)
        self.layer2 = self._stage(block, 64 * block.expansion, 128, counts[1], stride=2)
        self.layer3 = self._stage(block, 128 * block.expansion, 256, counts[2], stride=2)
        self.layer4 = self._stage(block, 256 * block.expansion, 512, counts[3], stride=2)
        self.linear = nn.Linear(512 * block.expansion, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(
        block: type[BasicBlock] | type[Bottleneck], inputs: int, width: int, blocks: int, stride: int
    ) -> nn.Sequential:
        first = block(inputs, width, stride)
        return nn.Sequential(first, *(block(width * block.expansion, width, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(x.mean(dim=(2, 3)))


def _resnet(depth: int) -> Callable[..., ImageNetResNet]:
    return lambda num_classes, in_channels=3: ImageNetResNet(depth, num_classes, in_channels)


IMAGENET_RESNETS: dict[str, Callable[..., nn.Module]] = {f"ResNet{depth}": _resnet(depth) for depth in _BLOCKS}
