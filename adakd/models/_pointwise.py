"""A 1 x 1 convolution with a stride, as the shortcuts of residual networks have it."""

from torch import Tensor, nn

__all__ = ["StridedPointwise"]


class StridedPointwise(nn.Conv2d):
    """``Conv2d(inputs, outputs, 1, stride, bias=False)``: it takes every stride-th pixel, and then convolves.

    The same numbers. torch 2.13's own strided kernel writes beyond its memory in the backward pass on a CPU with two
    threads, for channels_last images and an odd batch (8 to 16 channels, 25 images of 16 x 16 pixels).
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__(inputs, outputs, 1, bias=False)
        self.step = stride

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, :: self.step, :: self.step])
