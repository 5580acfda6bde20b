"""ShuffleNets (Zhang et al. 2018; Ma et al. 2018) for CIFAR, with the names of the published checkpoints.

Differs from the papers: the stem is a 1 × 1 convolution of stride 1 without pooling, so that 32 × 32 images leave the
last stage as 4 × 4. Weights begin as torch's convolutions do.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

__all__ = ["SHUFFLENETS", "ShuffleNetV1", "ShuffleNetV2"]

_STEM = 24  # channels, of both


def _pointwise(inputs: int, outputs: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, groups=groups, bias=False)


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)


def _shuffled(x: Tensor, groups: int) -> Tensor:
    """Channels in turns of the groups. (torch's own `channel_shuffle` has no gradient in its older releases.)"""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class GroupedBottleneck(nn.Module):
    """Of ShuffleNetV1: grouped 1 × 1, shuffle, depthwise 3 × 3, grouped 1 × 1; at stride 2 beside the pooled input."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int):
        super().__init__()
        branch = outputs - inputs if stride == 2 else outputs
        inner = branch // 4
        self.groups = 1 if inputs == _STEM else groups  # the stem's few channels are not split
        self.conv1 = _pointwise(inputs, inner, self.groups)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = _depthwise(inner, stride)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = _pointwise(inner, branch, groups)
        self.bn3 = nn.BatchNorm2d(branch)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        if self.groups > 1:
            y = _shuffled(y, self.groups)
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        return self.relu(y + x if self.pool is None else torch.cat((y, self.pool(x)), dim=1))


class ShuffleNetV1(nn.Module):
    """ShuffleNet of 3 groups on images (B, C, H, W); returns logits (B, num_classes).

    Args:
        num_classes: K.
        in_channels: C.
    """

    places: ClassVar = {
        "stage0": "relu",
        "stage0:pre": "relu:input",
        **{f"stage{i}": f"layer{i}" for i in (1, 2, 3)},
        **{f"stage{i}:pre": f"layer{i}.-1.relu:input" for i in (1, 2, 3)},
        "classifier": "linear",
    }
    """Of `adakd.stages_of`."""

    def __init__(self, num_classes: int, in_channels: int = 3):
        super().__init__()
        self.conv1 = _pointwise(in_channels, _STEM)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = self._stage(_STEM, 240, blocks=4)
        self.layer2 = self._stage(240, 480, blocks=8)
        self.layer3 = self._stage(480, 960, blocks=4)
        self.linear = nn.Linear(960, num_classes)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
        first = GroupedBottleneck(inputs, outputs, stride=2, groups=3)
        return nn.Sequential(
            first, *(GroupedBottleneck(outputs, outputs, 1, groups=3) for _ in range(blocks - 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


class SplitBlock(nn.Module):
    """Of ShuffleNetV2 at stride 1: one half of the channels passes, the other is convolved."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.conv1 = _pointwise(half, half)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = _depthwise(half, stride=1)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = _pointwise(half, half)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        passed, y = x.chunk(2, dim=1)
        y = self.relu(self.bn1(self.conv1(y)))
        y = self.bn3(self.conv3(self.bn2(self.conv2(y))))
        # What has passed is not negative: the ReLU changes nothing of it, and ends the block for all channels.
        return self.relu(_shuffled(torch.cat((passed, y), dim=1), 2))


class DownBlock(nn.Module):
    """Of ShuffleNetV2 at stride 2: both halves of the outputs are convolved from all inputs."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        half = outputs // 2
        self.conv1 = _depthwise(inputs, stride=2)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = _pointwise(inputs, half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = _pointwise(inputs, half)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = _depthwise(half, stride=2)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = _pointwise(half, half)
        self.bn5 = nn.BatchNorm2d(half)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        left = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        right = self.relu(self.bn3(self.conv3(x)))
        right = self.bn5(self.conv5(self.bn4(self.conv4(right))))
        return self.relu(_shuffled(torch.cat((left, right), dim=1), 2))


class ShuffleNetV2(nn.Module):
    """ShuffleNetV2 of width 1 on images (B, C, H, W); returns logits (B, num_classes).

    Args:
        num_classes: K.
        in_channels: C.
    """

    places: ClassVar = {
        "stage0": "relu",
        "stage0:pre": "relu:input",
        **{f"stage{i}": f"layer{i}" for i in (1, 2, 3)},
        **{f"stage{i}:pre": f"layer{i}.-1.relu:input" for i in (1, 2, 3)},
        "last": "relu2",
        "last:pre": "relu2:input",
        "classifier": "linear",
    }
    """Of `adakd.stages_of`."""

    def __init__(self, num_classes: int, in_channels: int = 3):
        super().__init__()
        self.conv1 = _pointwise(in_channels, _STEM)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = self._stage(_STEM, 116, blocks=4)
        self.layer2 = self._stage(116, 232, blocks=8)
        self.layer3 = self._stage(232, 464, blocks=4)
        self.conv2 = _pointwise(464, 1024)
        self.bn2 = nn.BatchNorm2d(1024)
        self.relu2 = nn.ReLU(inplace=True)
        self.linear = nn.Linear(1024, num_classes)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
        return nn.Sequential(DownBlock(inputs, outputs), *(SplitBlock(outputs) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        return self.linear(x.mean(dim=(2, 3)))


SHUFFLENETS: dict[str, Callable[..., nn.Module]] = {"ShuffleV1": ShuffleNetV1, "ShuffleV2": ShuffleNetV2}
