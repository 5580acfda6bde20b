"""What a loss costs beside plain KD."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from ..methods import METHODS, create_method, get_method
from ..training.record import environment
from .timing import spread_of, turns

__all__ = ["SHAPES", "bench_losses"]

SHAPES = ((64, 100), (256, 1000))
_REFERENCE = "kd"


def _loss_step(
    method: str, batch: int, classes: int, device: torch.device, compiled: bool
) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(batch, classes, generator=generator).to(device).requires_grad_()
    teacher = torch.randn(batch, classes, generator=generator).to(device)
    target = torch.randint(classes, (batch,), generator=generator).to(device)
    criterion = create_method(method).to(device)
    if compiled:
        # In one graph or not at all: with a break in it, or beyond the limit, this would time something else.
        criterion.compile(fullgraph=True, dynamic=False)

    def step() -> None:
        criterion(student, teacher, target, epoch=1).total.backward()
        student.grad = None

    return step


def _ratios(
    names: list[str], device: torch.device, compiled: bool, rounds: int, progress: bool
) -> dict[str, dict[str, dict[str, float]]]:
    measured: dict[str, dict[str, dict[str, float]]] = {name: {} for name in names}
    for batch, classes in SHAPES:
        shape = f"{batch}x{classes}"
        steps = {name: _loss_step(name, batch, classes, device, compiled) for name in names}
        spent = turns(
            steps, device, reference=_REFERENCE, rounds=rounds, least=0.005, label=shape, progress=progress
        )
        for name in names:
            measured[name][shape] = spread_of(
                [one / kd for one, kd in zip(spent[name], spent[_REFERENCE], strict=True)]
            )
    return measured


def bench_losses(
    methods: Sequence[str] | None = None,
    *,
    device: torch.device | str = "cpu",
    compiled: bool = False,
    rounds: int = 15,
    progress: bool = True,
) -> dict[str, Any]:
    """Time forward and backward of each method's loss as a ratio to plain KD.

    Args:
        methods: names; all rows of `adakd.METHODS` on logits alone when left out.
        device: "cpu" or "cuda".
        compiled: through torch.compile.
        rounds: how often each method has its turn.
        progress: show a progress bar.

    Returns:
        A record with environment, settings, and rows of method and ratio, by batch and classes ("64x100"), each with its
        median, lowest and highest over the rounds.

    Raises:
        ValueError: for an unknown method, or one that is not on logits alone.
    """
    device = torch.device(device)
    on_logits = [name for name, row in METHODS.items() if row.on_logits]
    names = list(dict.fromkeys([_REFERENCE, *(methods or on_logits)]))
    for name in names:
        if not get_method(name).on_logits:
            raise ValueError(
                f"methods: expected those on logits alone, got {name!r}; `adakd bench methods` times a step of others"
            )
    # All methods are calls of one function, LogitObjective.forward, of which dynamo keeps 8 versions by default. (The
    # second name is torch 2.4's.)
    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    with torch._dynamo.config.patch({limit: 4 * len(names)}) if compiled else nullcontext():
        measured = _ratios(names, device, compiled, rounds, progress)
    return {
        "schema": 1,
        "kind": "bench-losses",
        "status": "complete",
        "config": {"reference": _REFERENCE, "compiled": compiled, "rounds": rounds},
        **environment(device),
        "rows": [{"method": name, "ratio": ratio} for name, ratio in measured.items()],
    }
