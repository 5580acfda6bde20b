"""How fast a device could be: its peak, and the least time that a network's layers take on it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from .._check import near_names
from ..training import Precision
from ..training.trainer import evaluating
from .timing import seconds_of

__all__ = ["Ceiling", "ceiling", "flops_of", "roofline_seconds", "vendor_ceiling"]


@dataclass(frozen=True)
class Ceiling:
    """What a device can do at most."""

    flops: float
    """Floating-point operations a second, in the format that is trained in."""
    bandwidth: float
    """Bytes a second to and from its memory."""
    source: str
    """"vendor" or "measured"."""


# Dense bf16 (fp16 before Ampere) with fp32 sums, and memory bandwidth, from the vendor's data sheets.
_VENDOR = {
    "T4": (65e12, 0.32e12),
    "V100": (125e12, 0.90e12),
    "A100": (312e12, 1.555e12),  # 40 GB; the 80 GB model has 2.0 TB/s
    "A10G": (70e12, 0.60e12),
    "L4": (121e12, 0.30e12),
    "H100": (989e12, 3.35e12),
    "H200": (989e12, 4.80e12),
}


def vendor_ceiling(gpu: str) -> Ceiling:
    """What a GPU can do at most by its vendor's data sheet, with half-precision factors.

    Raises:
        ValueError: for a GPU that is not in the table.
    """
    if gpu not in _VENDOR:
        raise ValueError(near_names("GPU", gpu, _VENDOR))
    return Ceiling(*_VENDOR[gpu], "vendor")


def ceiling(device: torch.device, precision: Precision) -> Ceiling:
    """From the vendor's table where the device's name is in it, else measured: a large product, a large copy.

    In fp32 always measured, and the product also as a 1 x 1 convolution, of which the faster counts: by default a GPU's
    convolutions round their factors to TF32, and its matrix products do not.
    """
    if device.type == "cuda" and precision.name != "fp32":
        words = torch.cuda.get_device_name(device).replace("-", " ").split()
        if "PCIe" in words or "PCIE" in words:
            words = []  # another clock and other memory than the table's
        for name, (flops, bandwidth) in _VENDOR.items():
            if name in words:
                return Ceiling(flops, bandwidth, "vendor")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision.name]
    side = _side(device, dtype)
    matrix = torch.randn(side, side, device=device).to(dtype)
    ways = [lambda: matrix @ matrix]
    if precision.name == "fp32":
        # The same numbers as pixels (1, side, side / 32, 32) and as filters (side, side, 1, 1).
        pixels = matrix.view(1, side // 32, 32, side).permute(0, 3, 1, 2)  # channels_last
        filters = matrix.view(side, side, 1, 1)
        ways.append(lambda: conv2d(pixels, filters))
    block = torch.empty(2**26, dtype=torch.float32, device=device).fill_(1.0)
    target = torch.empty_like(block)
    product = min(seconds_of(way, device, 1) for way in ways for _ in range(7))
    copied = min(seconds_of(lambda: target.copy_(block), device, 1) for _ in range(7))
    return Ceiling(2 * side**3 / product, 2 * block.nbytes / copied, "measured")


def _side(device: torch.device, dtype: torch.dtype) -> int:
    """Rows of the square matrix to measure by: 2048, or fewer where that takes long, as bf16 does on a CPU that has none."""
    for side in (256, 512, 1024):
        matrix = torch.randn(side, side, device=device).to(dtype)
        # The shorter of two: the first product of a process may have to wait for its threads.
        if min(seconds_of(lambda m=matrix: m @ m, device, 1) for _ in range(2)) > 0.05:  # type: ignore[misc]
            return side
    return 2048


def roofline_seconds(
    model: nn.Module, images: Tensor, limit: Ceiling, *, training: bool, bytes_each: int = 2
) -> float:
    r"""Least time for one batch through a network, layer by layer.

    .. math:: t = \sum_\text{layers} \max\!\left(\frac{\text{operations}}{\text{peak}},
              \frac{\text{bytes}}{\text{bandwidth}}\right)

    A convolution or linear layer reads its input and weights and writes its output; what lies between two of them
    (batch norm, ReLU, addition) counts as one kernel that reads and writes the output. Backward, a layer does twice
    its operations and moves twice its bytes, and the kernel between reads two tensors and writes one.

    Args:
        model: the network.
        images: (B, C, H, W), for the shapes.
        limit: what the device can do.
        training: forward and backward; forward alone otherwise.
        bytes_each: of an activation or weight.
    """
    seconds = 0.0
    multiplies = 3 if training else 1

    def visit(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal seconds
        moved = bytes_each * (inputs[0].numel() + layer.weight.numel() + output.numel())
        operations = 2 * output.numel() * layer.weight[0].numel()
        seconds += multiplies * max(operations / limit.flops, moved / limit.bandwidth)
        between = output.numel() * bytes_each * (2 + 3 * training)
        seconds += between / limit.bandwidth

    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(visit) for layer in layers]
    try:
        with torch.no_grad(), evaluating(model):
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seconds


def flops_of(model: nn.Module, images: Tensor) -> float:
    """Floating-point operations of one forward pass, a multiplication and an addition counting as two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), evaluating(model):
        model(images)
    return float(counter.get_total_flops())
