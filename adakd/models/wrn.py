"""Wide ResNets for CIFAR (Zagoruyko & Komodakis 2016): pre-activation blocks, names of the published teachers."""

import math
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from ._pointwise import StridedPointwise

__all__ = ["WRNS", "WideResNet"]


class PreActBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        # The published name of this layer is in camel case; renaming it would lose their checkpoints.
        self.convShortcut = None if inputs == outputs else StridedPointwise(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        # Each batch norm runs once: one public implementation repeats three of them a step, which moves their
        # running statistics three times as fast.
        if self.convShortcut is None:
            return x + self.conv2(self.relu2(self.bn2(self.conv1(self.relu1(self.bn1(x))))))
        x = self.relu1(self.bn1(x))
        return self.convShortcut(x) + self.conv2(self.relu2(self.bn2(self.conv1(x))))


class Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int, blocks: int, stride: int):
        super().__init__()
        first = PreActBlock(inputs, outputs, stride)
        self.layer = nn.Sequential(first, *(PreActBlock(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(nn.Module):
    """WRN-depth-width on images (B, C, H, W); returns logits (B, num_classes).

    Args:
        depth: 6n + 4.
        width: the factor on 16, 32, 64 channels.
        num_classes: K.
        in_channels: C.

    Raises:
        ValueError: if the depth is not 6n + 4.
    """

    # A stage's sum is normalized and rectified by the block after it, which is where the stage ends here.
    _ends: ClassVar = dict(enumerate((*(f"block{i}.layer.0.relu1" for i in (1, 2, 3)), "relu")))
    places: ClassVar = {
        **{f"stage{i}": end for i, end in _ends.items()},
        **{f"stage{i}:pre": f"{end}:input" for i, end in _ends.items()},
        "classifier": "fc",
    }
    """Of `adakd.stages_of`."""

    def __init__(self, depth: int, width: int, num_classes: int, in_channels: int = 3):
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth: expected 6n + 4 (10, 16, 22, …), got {depth}")
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = Stage(16, 16 * width, blocks, stride=1)
        self.block2 = Stage(16 * width, 32 * width, blocks, stride=2)
        self.block3 = Stage(32 * width, 64 * width, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(64 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(self.relu(self.bn1(x)).mean(dim=(2, 3)))


def _wrn(depth: int, width: int) -> Callable[..., WideResNet]:
    return lambda num_classes, in_channels=3: WideResNet(depth, width, num_classes, in_channels)


WRNS: dict[str, Callable[..., nn.Module]] = {
    f"wrn_{depth}_{width}": _wrn(depth, width) for depth, width in ((16, 1), (16, 2), (40, 1), (40, 2))
}
