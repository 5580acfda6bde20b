"""Timing steps that take turns, round by round, or that alternate one by one, in pairs."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from .._progress import progress_bar
from ..statistics import median_interval

__all__ = ["PAIRS", "alternate", "refuse_few", "seconds_of", "spread_of", "turns"]

PAIRS = 300
_FEWEST_PAIRS = 6  # below, no two of them enclose the median in 95 of 100 cases
_WARM_UP_PAIRS = 5


def seconds_of(step: Callable[[], Any], device: torch.device, repeats: int) -> float:
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


@contextmanager
def _no_collector() -> Iterator[None]:
    """Python's collector of cycles runs when it likes, in whoever's turn it is: not while the clock does."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def turns(
    steps: Mapping[str, Callable[[], Any]],
    device: torch.device,
    *,
    reference: str,
    rounds: int,
    least: float,
    label: str = "",
    progress: bool = True,
) -> dict[str, list[float]]:
    """Seconds a step, for each of `steps` and each round in which every one of them had its turn.

    Args:
        steps: by name; each is called three times beforehand.
        device: where they run.
        reference: a turn has so many steps that this one takes `least` seconds: long against the clock, short against
            a disturbance.
        rounds: how many.
        least: seconds.
    """
    for step in progress_bar(progress, iterable=steps.values(), desc=f"warm-up {label}"):
        for _ in range(3):
            step()
    repeats = max(1, round(least / (seconds_of(steps[reference], device, 5) / 5)))
    spent: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps.items())
    with _no_collector():
        for _ in progress_bar(progress, iterable=range(rounds), desc=label):
            for name, step in order:
                spent[name].append(seconds_of(step, device, repeats) / repeats)
            order.reverse()  # whom one comes after costs something too: caches, clocks
    return spent


def alternate(
    first: Callable[[], Any],
    second: Callable[[], Any],
    device: torch.device,
    *,
    pairs: int,
    label: str = "pairs",
    progress: bool = True,
) -> dict[str, Any]:
    """What `first` costs in units of `second`, for differences smaller than a machine's moods.

    The two alternate step by step, in the order first, second, second, first. Such a four is a pair: its ratio is the
    time of the two first over that of the two second. A steady drift cancels in it, and so does what it costs to come
    after oneself or after the other; a disturbance meets one pair among many, and medians do not mind it.

    Args:
        first, second: each does a step.
        device: where they run.
        pairs: how many, at least 6; a few more beforehand are not counted.
        label: what the progress display says.
        progress: show it.

    Returns:
        The median of the pairs' ratios with its distribution-free 95 % interval (``low``, ``high``; see
        `adakd.statistics.median_interval`), the lowest and highest ratio, the number of pairs, and the ratio of the
        median times of a single step (``of_medians``).

    Raises:
        ValueError: for fewer pairs, which have no such interval.
    """
    refuse_few(pairs)
    ratios: list[float] = []
    singles: dict[Callable[[], Any], list[float]] = {first: [], second: []}
    with _no_collector():
        for number in progress_bar(progress, iterable=range(-_WARM_UP_PAIRS, pairs), desc=label):
            spent = [(step, seconds_of(step, device, 1)) for step in (first, second, second, first)]
            if number < 0:
                continue
            (_, a), (_, b), (_, c), (_, d) = spent
            ratios.append((a + d) / (b + c))
            for step, seconds in spent:
                singles[step].append(seconds)
    found = median_interval(ratios)
    return {
        **spread_of(ratios),
        "low": found.low,
        "high": found.high,
        "confidence": found.level,
        "pairs": pairs,
        "of_medians": statistics.median(singles[first]) / statistics.median(singles[second]),
    }


def spread_of(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def refuse_few(pairs: int) -> None:
    if pairs < _FEWEST_PAIRS:
        raise ValueError(f"pairs: expected at least {_FEWEST_PAIRS} (fewer have no 95 % interval), got {pairs}")
