"""VGG with batch norm for CIFAR (Simonyan & Zisserman 2015): five blocks, names of the published teachers."""

import math
from collections.abc import Callable
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["VGG", "VGGS"]

# Channels of the convolutions in each of the five blocks.
_LAYOUTS: dict[int, tuple[tuple[int, ...], ...]] = {
    8: ((64,), (128,), (256,), (512,), (512,)),
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    13: ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
    19: ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}


def _block(inputs: int, widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [
            nn.Conv2d(inputs, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        inputs = width
    # The published modules end without the last ReLU, which follows the block and has no parameters.
    return nn.Sequential(*layers[:-1])


class VGG(nn.Module):
    """VGG on images (B, C, H, W); returns logits (B, num_classes).

    Three poolings of 2 between the first four blocks, none before the fifth (as the published models do at
    32 × 32), then a global mean.

    Args:
        depth: 8, 11, 13, 16 or 19.
        num_classes: K.
        in_channels: C.

    Raises:
        ValueError: for another depth.
    """

    places: ClassVar = {
        **{f"stage{i}": f"relu{i}" for i in range(5)},
        **{f"stage{i}:pre": f"block{i}" for i in range(5)},
        "classifier": "classifier",
    }
    """Of `adakd.stages_of`."""

    def __init__(self, depth: int, num_classes: int, in_channels: int = 3):
        super().__init__()
        if depth not in _LAYOUTS:
            raise ValueError(f"depth: expected one of {', '.join(map(str, _LAYOUTS))}, got {depth}")
        inputs = in_channels
        for i, widths in enumerate(_LAYOUTS[depth]):
            setattr(self, f"block{i}", _block(inputs, widths))
            setattr(self, f"relu{i}", nn.ReLU())
            inputs = widths[-1]
        self.classifier = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.classifier.weight, 0.0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def _stage(self, i: int, x: Tensor) -> Tensor:
        stage: Tensor = getattr(self, f"relu{i}")(getattr(self, f"block{i}")(x))
        return stage

    def forward(self, x: Tensor) -> Tensor:
        x = self._stage(0, x)
        for i in (1, 2, 3):
            x = self._stage(i, F.max_pool2d(x, 2))
        x = self._stage(4, x)
        return self.classifier(x.mean(dim=(2, 3)))


def _vgg(depth: int) -> Callable[..., VGG]:
    return lambda num_classes, in_channels=3: VGG(depth, num_classes, in_channels)


VGGS: dict[str, Callable[..., nn.Module]] = {f"vgg{depth}": _vgg(depth) for depth in _LAYOUTS}
