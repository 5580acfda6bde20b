"""Measuring: what a loss costs beside plain KD. Ratios from one run; the machine's own speed cancels."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from tqdm.auto import tqdm

from .methods import METHODS, create_method
from .training.record import environment

__all__ = ["bench_losses"]

SHAPES = ((64, 100), (256, 1000))
_REFERENCE = "kd"


def _seconds(step: Callable[[], None], device: torch.device, repeats: int) -> float:
    """Time of `repeats` steps; on a GPU by events, after everything before has ended."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(repeats):
            step()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000
    begin = time.perf_counter()
    for _ in range(repeats):
        step()
    return time.perf_counter() - begin


def _step(method: str, batch: int, classes: int, device: torch.device, compiled: bool):
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
        steps = {name: _step(name, batch, classes, device, compiled) for name in names}
        for step in tqdm(steps.values(), desc=f"warm-up {batch}x{classes}", disable=not progress):
            for _ in range(3):
                step()
        # Enough steps in a turn for 5 ms of the reference: long against the clock, short against a disturbance.
        once = _seconds(steps[_REFERENCE], device, 5) / 5
        repeats = max(1, round(0.005 / once))
        ratios: dict[str, list[float]] = {name: [] for name in names}
        for _ in tqdm(range(rounds), desc=f"losses {batch}x{classes}", disable=not progress):
            spent = {name: _seconds(step, device, repeats) for name, step in steps.items()}
            for name in names:
                ratios[name].append(spent[name] / spent[_REFERENCE])
        for name, values in ratios.items():
            measured[name][f"{batch}x{classes}"] = {
                "median": statistics.median(values),
                "lowest": min(values),
                "highest": max(values),
            }
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

    The methods take turns, round by round, so that whatever else the machine does meets all of them; the ratio of a
    round is taken within the round, and the median over rounds is reported.

    Args:
        methods: names; all rows of `adakd.METHODS` when left out.
        device: "cpu" or "cuda".
        compiled: through torch.compile.
        rounds: how often each method has its turn.
        progress: show a progress bar.

    Returns:
        A record: environment, settings, and rows of method and ratio, by batch and classes ("64x100"), each with its
        median, lowest and highest over the rounds.

    Raises:
        ValueError: for an unknown method.
    """
    device = torch.device(device)
    names = list(dict.fromkeys([_REFERENCE, *(methods or METHODS)]))
    # All methods are calls of one function, LogitObjective.forward, of which dynamo keeps 8 versions by default.
    limit = torch._dynamo.config.patch(recompile_limit=4 * len(names)) if compiled else nullcontext()
    with limit:
        measured = _ratios(names, device, compiled, rounds, progress)
    return {
        "schema": 1,
        "kind": "bench-losses",
        "status": "complete",
        "config": {"reference": _REFERENCE, "compiled": compiled, "rounds": rounds},
        **environment(device),
        "rows": [{"method": name, "ratio": ratio} for name, ratio in measured.items()],
    }
