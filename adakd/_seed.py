"""Random numbers of our own: a seed for a while, after which the caller's generators are as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["generator_states", "seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's default generators by this seed; afterwards they have the state that they had.

    `torch.manual_seed` would seed those of CUDA too and leave them so, or do it later, when CUDA begins. Here they are
    seeded, and put back, only where CUDA is in use: for a network whose factory draws its weights on the GPU.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices, device_type="cuda"):
        torch.default_generator.manual_seed(seed)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(seed)
        yield


def generator_states() -> list[Tensor]:
    """States of torch's default generators: the CPU's, and those of CUDA where it is in use."""
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *on_gpus]
