"""Random numbers without a generator: integers that are a pure function of seed, epoch and index."""

import torch
from torch import Tensor

__all__ = ["hashed"]

_MASK = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """The 32-bit finalizer of MurmurHash3, on non-negative int64 below 2^32."""
    x = x ^ (x >> 16)
    x = (x * 0x85EBCA6B) & _MASK  # products overflow int64, but their low 32 bits are right
    x = x ^ (x >> 13)
    x = (x * 0xC2B2AE35) & _MASK
    return x ^ (x >> 16)


def hashed(stream: int, seed: int, epoch: int | Tensor, index: Tensor) -> Tensor:
    """Uniform integers in [0, 2^32), a pure function of all four; int64 of index's shape, on its device."""
    x = torch.full_like(index, stream)
    for part in (seed & _MASK, (seed >> 32) & _MASK, epoch, index):
        x = _mix((x + part + 0x9E3779B9) & _MASK)
    return x
