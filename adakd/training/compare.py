"""Several methods and seeds from one teacher: the same start, the same images, one cache, one display."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from .._check import near_names
from ..data import DATASETS, ImageData, load_data
from .fit import step_bar
from .recipe import Recipe, get_recipe
from .run import DEFAULT_RECIPE, Run, prepare

__all__ = ["compare"]


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
    **options: Any,
) -> list[Run]:
    """Distill by several methods over several seeds, so that their differences are paired.

    Runs of one seed have the same initial weights, transfer set, order and views, and read one view cache: the teacher
    says everything once. All methods of a seed come before the next seed, so that a comparison that is stopped is a
    smaller one. Repeating the call continues it; runs that are finished are opened.

    Args:
        methods: names, or pairs of a name and its options, e.g. ``("kd", {"kd_weight": 9})``.
        seeds: at least one.
        teacher, student, data, recipe, root, official: as for `distill`.
        progress: show one display for all.
        options: anything else that `distill` takes.

    Returns:
        The runs, seed by seed in the order of the methods.

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
    steps = recipe.epochs * math.ceil((recipe.train_images or len(data.train)) / recipe.batch_size)
    with step_bar(steps * len(seeds) * len(chosen), 0, "comparison", show=progress) as bar:
        # All that can be wrong with any of them, before the first trains for hours.
        jobs = [
            prepare(
                teacher, student, method, data, recipe, seed, method_options=settings, progress=bar, **options
            )
            for seed in seeds
            for method, settings in chosen
        ]
        runs = []
        for job in jobs:
            runs.append(job())
            bar.n = steps * len(runs)  # also after a run that was finished before
            bar.refresh()
    return runs
