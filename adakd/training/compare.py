"""Several methods and seeds from one teacher: the same start, the same images, everything asked once, one display."""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from .._check import near_names
from ..data import DATASETS, ImageData, load_data
from .fit import Interrupted, Together, step_bar, steps_of
from .recipe import Recipe, get_recipe
from .run import DEFAULT_RECIPE, Job, Run, prepare, resolve_device

__all__ = ["compare"]

log = logging.getLogger("adakd")


def compare(
    methods: Sequence[str | tuple[str, Mapping[str, Any]]],
    seeds: Sequence[int] = (0, 1, 2),
    teacher: str | os.PathLike | Run | None = None,
    student: str | None = None,
    data: str | ImageData = "gratings",
    recipe: str | Recipe | None = None,
    *,
    root: str | os.PathLike | None = None,
    official: bool = True,
    progress: bool = True,
    on_epoch: Callable[[dict[str, Any], dict[str, Any]], None] | None = None,
    on_failure: Callable[[dict[str, Any], Exception], None] | None = None,
    **options: Any,
) -> list[Run]:
    """Distill by several methods over several seeds, so that their differences are paired.

    Runs of one seed have the same initial weights, transfer set, order and views, and the teacher says everything once.
    With a cache, they read one. Without (``cache=None``, or a set too large for one) they take turns, an epoch at a time,
    and share what the teacher says of that epoch, which is held in memory, as are all their networks. Either way each
    is, bit for bit on a CPU, the run that `distill` makes alone.

    All methods of a seed come before the next seed, so that a comparison that is stopped is a smaller one. Repeating the
    call continues it; runs that are finished are opened. A run that fails does not stop the others.

    Args:
        methods: names, or pairs of a name and its options, e.g. ``("kd", {"kd_weight": 9})``.
        seeds: at least one.
        teacher, student, data, recipe, root, official: as for `distill`.
        progress: show one display for all.
        on_failure: called with which run it was and with its error, for each that fails while it trains; then the
            others are returned. Without it the first error is raised when they are finished.
        on_epoch: called as any of the runs trains, with which it is (its ``method``, ``method_options`` and ``seed``)
            and with each epoch's row of its history.
        options: anything else that `distill` takes.

    Returns:
        The runs that are finished, seed by seed in the order of the methods.

    Raises:
        ValueError: for unknown names, no method, no seed, or a seed or method given twice.
        Exception: what `distill` raises; all that can be known of any run before the first one trains.
    """
    if isinstance(methods, str):
        raise ValueError(f"methods: expected a sequence of names, got the text {methods!r}")
    chosen = [(method, {}) if isinstance(method, str) else (method[0], dict(method[1])) for method in methods]
    seeds = list(seeds)
    if not chosen or not seeds:
        raise ValueError("compare: expected at least one method and one seed")
    if any(chosen.count(one) > 1 for one in chosen) or len(set(seeds)) < len(seeds):
        raise ValueError(f"compare: a method or a seed is given twice: {methods}, {seeds}")
    name = data if isinstance(data, str) else data.name
    if isinstance(data, str):
        if data not in DATASETS:
            raise ValueError(near_names("data set", data, DATASETS))
        data = load_data(data, root, official=official)  # once
    changes = {key: options.pop(key) for key in list(options) if key in Recipe.__dataclass_fields__}
    recipe = get_recipe(recipe or DEFAULT_RECIPE.get(name, "quick"), "student", **changes)
    data = data.to(resolve_device(options.get("device")))
    total = steps_of(data, recipe) * len(seeds) * len(chosen)
    with step_bar(total, 0, "comparison", show=progress) as bar:
        # All that can be wrong with any of them, before the first trains for hours.
        jobs = [
            prepare(
                teacher,
                student,
                method,
                data,
                recipe,
                seed,
                method_options=settings,
                progress=bar,
                on_epoch=on_epoch
                and partial(on_epoch, {"method": method, "method_options": settings, "seed": seed}),
                **options,
            )
            for seed in seeds
            for method, settings in chosen
        ]
        return _carry_out(jobs, on_failure)


def _carry_out(
    jobs: Sequence[Job], on_failure: Callable[[dict[str, Any], Exception], None] | None
) -> list[Run]:
    """All of them, each group in turns; what is not told of errors is raised when the others are done."""
    done: dict[int, Run] = {}
    failed: list[Exception] = []
    stop: list[int] = []
    for group in _groups(jobs):
        together = Together(len(group)) if len(group) > 1 else None
        with contextlib.ExitStack() as stack:
            turns = {i: stack.enter_context(contextlib.closing(jobs[i].turns(stop, together))) for i in group}
            epochs = dict.fromkeys(group, 0)  # so all of them begin before one trains
            while turns:
                # Whoever is furthest behind, as after an interruption: never is an epoch asked about twice.
                i = min(turns, key=epochs.get)
                try:
                    epochs[i] = next(turns[i])
                except StopIteration as end:
                    done[i] = end.value
                    del turns[i]
                except Exception as error:
                    failed.append(error)
                    del turns[i]
                    if on_failure is not None:
                        which = {name: jobs[i].config[name] for name in ("method", "method_options", "seed")}
                        on_failure(which, error)
                    if left := len(jobs) - len(done) - len(failed):
                        what = f"{jobs[i].config['method']}, seed {jobs[i].config['seed']}"
                        log.warning("%s failed (%s); %d other runs go on", what, error, left)
                # A run that was in its last step when it was asked to stop has finished instead.
                if stop and len(done) + len(failed) < len(jobs):
                    raise Interrupted(
                        f"stopped; {len(done)} of {len(jobs)} runs are finished, and the others saved"
                    )
    if failed and on_failure is None:
        raise failed[0]
    return [done[i] for i in sorted(done)]


def _groups(jobs: Sequence[Job]) -> list[list[int]]:
    """Which of the jobs take turns: those that ask one live teacher about the same stream of images."""
    groups: dict[Any, list[int]] = {}
    for i, job in enumerate(jobs):
        of_its_own = ("model", "method", "method_options")
        shared = {name: value for name, value in job.config.items() if name not in of_its_own}
        groups.setdefault(json.dumps(shared, sort_keys=True) if job.asks else i, []).append(i)
    return list(groups.values())
