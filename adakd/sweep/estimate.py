"""What a sweep would take: GPU-hours from the roofline, and room on the disk. Estimates, before anything runs."""

import functools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..bench import Ceiling, roofline_seconds, vendor_ceiling
from ..methods import create_method, fill_options
from ..models import network_of
from ..signals import Taps
from ..training.cache import DTYPES, FILL_BATCH, LARGEST
from ..training.recipe import Recipe
from .grid import Cell, Grid

__all__ = ["GPUS", "SHAPES", "Estimate", "Shape", "estimate", "hours", "size"]

GPUS = ("T4", "H100")
_PER_PLACE = 5  # bytes of a cache beside the logits: a checksum, and the note that it is filled
_FLOAT = 4


@dataclass(frozen=True)
class Shape:
    """Of a data set, what an estimate needs."""

    train_images: int
    test_images: int
    classes: int
    size: int
    """Pixels at a side."""
    views: int
    """Different crops and flips of an image."""


# By name, so that nothing is downloaded for an estimate.
SHAPES = {
    "cifar10": Shape(50_000, 10_000, 10, 32, 162),
    "cifar100": Shape(50_000, 10_000, 100, 32, 162),
    "gratings": Shape(4_000, 2_000, 10, 16, 1),
}


@dataclass(frozen=True)
class Estimate:
    """What the runs of a grid that are not done would take."""

    runs: int
    """Students that are left."""
    teachers: int
    """Teachers that are trained first."""
    steps: int
    """Of all of them."""
    hours: Mapping[str, float]
    """By GPU: at the roofline. No training is faster; how much slower it is, only a measurement says."""
    caches: int
    """Bytes of the teachers' kept logits, when all views that are shown are filled."""
    checkpoint: int
    """Bytes of the largest checkpoint: one for each run that is under way."""
    weights: int
    """Bytes of all weights that stay."""


@functools.lru_cache(maxsize=64)
def _built(network: str, classes: int) -> nn.Module:
    """A network of which only the shapes are wanted."""
    return network_of(network).build(classes).to("meta")


@functools.lru_cache(maxsize=1024)
def _seconds(network: str, batch: int, shape: Shape, limit: Ceiling, training: bool) -> float:
    """Least time of one batch through a network."""
    images = torch.empty(batch, 3, shape.size, shape.size, device="meta")
    return roofline_seconds(_built(network, shape.classes), images, limit, training=training)


def _parameters(network: str, classes: int) -> int:
    return sum(parameter.numel() for parameter in _built(network, classes).parameters())


def reads_features(method: str, options: Mapping[str, object]) -> bool:
    """Whether a method reads more of a teacher than its logits, so that the teacher runs along."""
    objective = create_method(method, **fill_options(method, options, epochs=240, num_classes=100, seed=0))
    return bool(getattr(objective, "taps", Taps()).teacher) or bool(getattr(objective, "deploys", False))


def live(grid: Grid) -> bool:
    """Whether the grid's teachers run along: since one of its methods needs it, or the grid says so."""
    methods = {(cell.method, cell.options) for cell in grid.cells() if cell.teacher is not None}
    return grid.cache == "off" or any(reads_features(method, dict(options)) for method, options in methods)


def _training(network: str, recipe: Recipe, shape: Shape, limit: Ceiling) -> float:
    """Least seconds of a training: forward and backward of each step, and the measurements."""
    measured = math.ceil(recipe.epochs / recipe.eval_every) * shape.test_images / recipe.batch_size
    return recipe.steps(shape.train_images) * _seconds(
        network, recipe.batch_size, shape, limit, True
    ) + measured * _seconds(network, recipe.batch_size, shape, limit, False)


def _cached_views(grid: Grid, cells: Collection[Cell], shape: Shape) -> dict[str, int]:
    """Of each teacher, how many views its cache holds at the end: those drawn at least once, as far as is expected."""
    drawn: dict[str, dict[int, float]] = {}
    for cell in cells:
        if cell.teacher is not None:
            recipe = grid.student_recipe(cell.student, dict(cell.changes))
            shown = recipe.shown(shape.train_images) * recipe.epochs
            of_seeds = drawn.setdefault(cell.teacher, {})
            of_seeds[cell.seed] = max(of_seeds.get(cell.seed, 0.0), shown)
    places = shape.train_images * shape.views
    return {
        teacher: round(places * -math.expm1(sum(of_seeds.values()) * math.log1p(-1 / places)))
        for teacher, of_seeds in drawn.items()
    }


def estimate(
    grid: Grid,
    done: Collection[Cell] = (),
    missing: Collection[str] = (),
    *,
    gpus: Collection[str] = GPUS,
    models: Mapping[str, str] | None = None,
) -> Estimate:
    r"""What is left of a grid would take at least so long.

    .. math:: t = \sum_\text{runs} n\,(t_\text{student} + t_\text{teacher}) + \sum_\text{teachers} t_\text{training}

    with :math:`n` steps of a run, `roofline_seconds` of a batch forward and backward through the student, and forward
    through a teacher that runs along; of one whose logits are kept, each view is counted once.

    Args:
        grid: whose runs.
        done: those of its cells that are finished.
        missing: names of the teachers that are trained first.
        gpus: names of the vendor's table in `adakd.bench`.
        models: of teachers that are folders, the names of their networks.

    Raises:
        ValueError: for an unknown GPU, or data that are not of `SHAPES`, such as text.
    """
    if grid.data not in SHAPES:
        raise ValueError(
            f"data: expected {', '.join(map(repr, SHAPES))}, of which there are estimates, got {grid.data!r}"
        )
    shape, names = SHAPES[grid.data], dict(models or {})
    done = set(done)
    left = [cell for cell in grid.cells() if cell not in done]
    runs_along = live(grid)
    recipes = {cell: grid.student_recipe(cell.student, dict(cell.changes)) for cell in left}
    cached = {} if runs_along else _cached_views(grid, left, shape)
    found = {}
    for gpu in gpus:
        limit = vendor_ceiling(gpu)
        seconds = sum(_training(cell.student, recipe, shape, limit) for cell, recipe in recipes.items())
        seconds += sum(_training(name, grid.teacher_recipe(name), shape, limit) for name in missing)
        for cell, recipe in recipes.items():
            if runs_along and cell.teacher is not None:
                steps = recipe.steps(shape.train_images)
                teacher = names.get(cell.teacher, cell.teacher)
                seconds += steps * _seconds(teacher, recipe.batch_size, shape, limit, False)
        for teacher, views in cached.items():
            batches = views / FILL_BATCH
            seconds += batches * _seconds(names.get(teacher, teacher), FILL_BATCH, shape, limit, False)
        found[gpu] = seconds / 3600
    item = np.dtype(DTYPES.get(grid.cache, np.float16)).itemsize
    if item * shape.train_images * shape.views * shape.classes > LARGEST:
        cached = {}
    sizes = [_parameters(cell.student, shape.classes) for cell in left]
    teachers = [_parameters(name, shape.classes) for name in missing]
    return Estimate(
        runs=len(left),
        teachers=len(missing),
        steps=sum(recipe.steps(shape.train_images) for recipe in recipes.values()),
        hours=found,
        caches=sum(views * (shape.classes * item + _PER_PLACE) for views in cached.values()),
        checkpoint=2 * _FLOAT * max([*sizes, *teachers], default=0),  # weights and momentum
        weights=_FLOAT * (sum(sizes) + sum(teachers)),
    )


def hours(value: float) -> str:
    """A time as a person says it.

    >>> hours(0.02), hours(3.21), hours(1234.5)
    ('1 min', '3.2 h', '1234 h')
    """
    if value < 1:
        return f"{max(1, round(60 * value))} min"
    return f"{value:.1f} h" if value < 10 else f"{value:.0f} h"


def size(count: int) -> str:
    """A number of bytes as a person says it.

    >>> size(8_000), size(83_892_000), size(1_620_000_000)
    ('8 kB', '84 MB', '1.6 GB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}" if count < 10 * unit else f"{count / unit:.0f} {name}"
    return f"{count / 1e3:.0f} kB"
