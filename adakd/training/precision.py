"""The number format that a device trains in, with the reason."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from .._check import check_kind

__all__ = ["Precision", "choose_precision", "plain_torch"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Without matrix tiles (AMX), converting costs a network below this size more than its products gain.
_CPU_BF16_PARAMETERS = 100_000


@contextlib.contextmanager
def plain_torch() -> Iterator[None]:
    """Torch with gradients, without autocast, in fp32 and on the CPU by default; afterwards as the caller had it.

    Nothing of that is a setting of a run: whoever calls within `torch.no_grad` gets the run that everybody gets.
    """
    dtype = torch.get_default_dtype()
    with contextlib.ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                modes.enter_context(torch.autocast(device, enabled=False))
        # `torch.get_default_device` of torch 2.4 knows of no `with torch.device(...)`.
        if torch.empty(0).device.type != "cpu":
            modes.enter_context(torch.device("cpu"))
        if dtype != torch.float32:  # of the whole process: set where it must be
            modes.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        yield


@dataclass(frozen=True)
class Precision:
    """Format of activations in forward and backward; weights, losses and statistics stay in fp32."""

    name: str
    reason: str

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(device.type, _DTYPES[self.name], enabled=self.name != "fp32")

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Loss scaling; does nothing except in fp16, whose smallest gradients would vanish."""
        return torch.amp.GradScaler(device.type, enabled=self.name == "fp16")


def choose_precision(name: str, device: torch.device, parameters: int, reads: str = "images") -> Precision:
    """Resolve "auto", or check that the device has the format given.

    Args:
        name: "auto", "fp32", "bf16" or "fp16".
        device: where training happens.
        parameters: number of parameters of the trained network.
        reads: what the network reads, "images" or "tokens".

    Raises:
        ValueError: for an unknown name, or fp16 on a CPU.
    """
    check_kind(torch.device, "a torch.device, as data.device", device=device)
    if name in tuple(_DTYPES):  # also of what has no hash
        if name == "fp16" and device.type == "cpu":
            raise ValueError("precision: fp16 needs a GPU; use 'bf16', 'fp32' or 'auto' on a CPU")
        return Precision(name, "as given")
    if name != "auto":
        raise ValueError(f"precision: expected 'auto', 'fp32', 'bf16' or 'fp16', got {name!r}")
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return Precision("bf16", "this GPU multiplies bf16 in hardware")
        return Precision("fp16", "this GPU has fp16 but no bf16; losses are scaled")
    if reads == "tokens":  # one after another in a recurrent network: no product is large
        return Precision("fp32", "windows of text are too small for bf16 to pay on a CPU")
    cpu: dict[str, Any] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # absent in older torch: then nothing is known
    if cpu.get("amx_bf16"):
        return Precision("bf16", "this CPU has matrix tiles for bf16")
    if cpu.get("avx512_bf16"):
        if parameters > _CPU_BF16_PARAMETERS:
            return Precision("bf16", "this CPU multiplies bf16 in hardware")
        return Precision("fp32", "the network is too small for bf16 to pay on this CPU")
    return Precision("fp32", f"no faster format is known for this {device.type}")
