"""A step without Python: torch.compile, and CUDA graphs on a GPU, with a way back where they do not work."""

import logging
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Captured", "choose_capture"]

log = logging.getLogger("adakd")


def choose_capture(capture: bool | None, device: torch.device, processes: int = 1) -> tuple[bool, str]:
    """Whether to capture the step, and why: on a GPU a step of batch 64 is shorter than its launching by Python."""
    if processes > 1 and not capture:  # True is refused by the trainer
        return False, "several processes exchange tensors within it"
    if capture is not None:
        return capture, "as given"
    if device.type == "cuda":
        return True, "a GPU waits for Python otherwise"
    return False, "compiling costs a CPU more than a short run gains"


class Captured:
    """A function compiled at its first call; if that fails, the function itself from then on, with the reason logged.

    Only the first calls may fail over (CUDA graphs are recorded at the second): a function that has worked compiled
    raises its own errors, and so does the backward pass.

    The compiler keeps a few versions of each function and then gives up. All networks are one function to it, and all
    losses are; so each `Captured` hands it a function of its own, and any number of them work in one process.
    """

    _TRIALS = 3

    def __init__(self, function: Callable[..., Any], device: torch.device, what: str):
        self.function, self.what = function, what
        self.mode = "reduce-overhead" if device.type == "cuda" else None
        self.compiled: Callable[..., Any] | None = None
        self.calls = 0
        self.given_up = False

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.given_up:
            return self.function(*arguments, **options)
        try:
            if self.compiled is None:
                # A number that changes, as the epoch does, becomes a variable and compiles nothing anew.
                self.compiled = torch.compile(_of_its_own(self.function), mode=self.mode)
            for tensor in arguments:
                if isinstance(tensor, torch.Tensor):
                    # A smaller last batch gets a graph of its own: a CUDA graph has one size anyway.
                    torch._dynamo.mark_static(tensor)
            result = self.compiled(*arguments, **options)
        except Exception as error:  # compilers fail in many ways
            if self.calls >= self._TRIALS:
                raise
            reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            log.warning("%s could not be compiled (%s); it runs one operation at a time", self.what, reason)
            self.given_up = True
            return self.function(*arguments, **options)
        self.calls += 1
        return result


def _of_its_own(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function under code of its own: versions are kept, counted and given up by code object."""

    def call(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    call.__code__ = call.__code__.replace()
    return call
