"""MobileNetV2 (Sandler et al. 2018) at half width for CIFAR, with the names of the published checkpoints.

Differs from the paper:

- The first block expands its channels by 1 with a convolution of its own; the paper's has none there.
- The second stage has stride 1, so that 32 × 32 images leave the last stage as 2 × 2.
- ReLU in the place of ReLU6, and no dropout.
"""

import math
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

__all__ = ["MOBILENETS", "MobileNetV2"]

# Expansion, channels at full width, blocks and stride of each stage.
_LAYOUT = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *_convolution(inputs, inner, 1),
            *_convolution(inner, inner, 3, stride, groups=inner),
            *_convolution(inner, outputs, 1)[:-1],  # a linear bottleneck: no ReLU
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 on images (B, C, H, W); returns logits (B, num_classes).

    Args:
        width: the factor on the channels of all but the head.
        num_classes: K.
        in_channels: C.

    Raises:
        ValueError: for a width that leaves a stage without channels.
    """

    # The literature's four groups of blocks. All but the stem and the head are linear: there is no ReLU to be before.
    _ends: ClassVar = {1: "blocks.1", 2: "blocks.2", 3: "blocks.4", 4: "blocks.6"}
    places: ClassVar = {
        "stage0": "conv1",
        "stage0:pre": "conv1.2:input",
        **{f"stage{i}": end for i, end in _ends.items()},
        **{f"stage{i}:pre": end for i, end in _ends.items()},
        "last": "conv2",
        "last:pre": "conv2.2:input",
        "classifier": "classifier.0",
    }
    """Of `adakd.stages_of`."""

    def __init__(self, width: float, num_classes: int, in_channels: int = 3):
        super().__init__()
        if not width >= 1 / 16:
            raise ValueError(f"width: expected at least 1/16, got {width}")
        inputs = int(32 * width)
        self.conv1 = nn.Sequential(*_convolution(in_channels, inputs, 3, stride=2))
        self.blocks = nn.ModuleList()
        for expansion, channels, blocks, stride in _LAYOUT:
            outputs = int(channels * width)
            first = InvertedResidual(inputs, outputs, stride, expansion)
            rest = (InvertedResidual(outputs, outputs, 1, expansion) for _ in range(blocks - 1))
            self.blocks.append(nn.Sequential(first, *rest))
            inputs = outputs
        head = int(1280 * max(1.0, width))
        self.conv2 = nn.Sequential(*_convolution(inputs, head, 1))
        self.classifier = nn.Sequential(nn.Linear(head, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for stage in self.blocks:
            x = stage(x)
        return self.classifier(self.conv2(x).mean(dim=(2, 3)))


def _half(num_classes: int, in_channels: int = 3) -> MobileNetV2:
    return MobileNetV2(0.5, num_classes, in_channels)


# The literature's name says nothing of the width: it is one half in every table for CIFAR.
MOBILENETS: dict[str, Callable[..., nn.Module]] = {"MobileNetV2": _half}
