"""A step without Python: torch.compile, and CUDA graphs on a GPU, with a way back where they do not work."""

import logging
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Captured", "choose_capture"]

log = logging.getLogger("adakd")


def choose_capture(capture: bool | None, device: torch.device) -> tuple[bool, str]:
    """Whether to capture the step, and why: on a GPU a step of batch 64 is shorter than its launching by Python."""
    if capture is not None:
        return capture, "asked for"
    if device.type == "cuda":
        return True, "a GPU waits for Python otherwise"
    return False, "compiling costs a CPU more than a short run gains"


class Captured:
    """A function compiled at its first call; if that fails, the function itself from then on, with the reason logged.

    Only the first call may fail over: a function that has worked compiled raises its own errors.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device, what: str):
        self.function, self.what = function, what
        # What changes once becomes a variable: the epoch, which must not compile a loss anew, and the size of the
        # last batch. CUDA graphs are recorded for each size.
        self.compiled = torch.compile(function, mode="reduce-overhead" if device.type == "cuda" else None)
        self.proven = False

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.compiled is None:
            return self.function(*arguments, **options)
        try:
            result = self.compiled(*arguments, **options)
        except Exception as error:  # compilers fail in many ways
            if self.proven:
                raise
            reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            log.warning("%s could not be compiled (%s); it runs step by step", self.what, reason)
            self.compiled = None
            return self.function(*arguments, **options)
        self.proven = True
        return result
