"""From what was asked for, by names, to runs that can be carried out: all that can go wrong without training."""

import json
import logging
import math
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ._check import near_names
from .data import ImageData, name_of, resolve_data, usual
from .methods import create_method, get_method, options_of
from .models import MODELS, create_model
from .runs import Job, Resources, Run, RunConfig
from .teachers import MissingTeacherError, Teacher, load_teacher, locate_teacher
from .training.cache import DTYPES
from .training.precision import choose_precision
from .training.recipe import Recipe, get_recipe, steps_of, student_views

__all__ = [
    "Request",
    "ensure_teacher",
    "load_requested_teacher",
    "plan_student",
    "plan_teacher",
    "split_options",
]

log = logging.getLogger("adakd")


@dataclass(frozen=True)
class Request:
    """What somebody asks for, by names that nobody has looked at yet."""

    data: str | ImageData = "gratings"
    student: str | None = None
    method: str = "zkd+mlt"
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: str | Recipe | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Other values for settings of the recipe."""
    seed: int = 0
    precision: str = "auto"
    teacher: str | os.PathLike | Run | None = None
    teacher_weights: str | os.PathLike | None = None
    on_epoch: Callable[[dict[str, Any]], None] | None = None

    @property
    def named_teacher(self) -> str | os.PathLike | Run:
        """The teacher, or the data set's usual one."""
        return self.teacher or usual(name_of(self.data)).teacher

    def resolved_recipe(self, role: str) -> Recipe:
        """The recipe, or the data set's usual one, with its changes."""
        return get_recipe(self.recipe or usual(name_of(self.data)).recipe, role, **self.changes)


def plan_teacher(request: Request, resources: Resources) -> Job:
    """Training of a network on the labels alone, checked and not begun."""
    data_name = name_of(request.data)
    seed = checked_seed(request.seed)
    model = request.student or usual(data_name).teacher
    _check_model(model)
    recipe = request.resolved_recipe("teacher")
    data = resolve_data(request.data, resources.root, resources.official).to(resources.device)
    precision = choose_precision(request.precision, data.device, _size(model, data.num_classes))
    config = RunConfig(model, "ce", {}, data, recipe, seed, precision)
    return Job(config, create_method("ce"), resources, kind="teacher", on_epoch=request.on_epoch)


def plan_student(request: Request, resources: Resources) -> Job:
    """Distillation of a student, checked and not begun; its teacher is there (see `ensure_teacher`)."""
    config, objective, found = _checked(request, resources)
    teacher = None
    if found is not None:
        teacher = load_teacher(request.named_teacher, found, config.data)
        if resources.cache:
            teacher = teacher.with_cache(config.data, config.recipe, resources.cache, request.precision)
        config = replace(config, teacher=teacher.identity)
    return Job(config, objective, resources, teacher, on_epoch=request.on_epoch)


def _checked(
    request: Request, resources: Resources, locate: bool = True
) -> tuple[RunConfig, nn.Module, Run | Path | None]:
    """Config and objective of a student, its teacher left out; and where that one is, if it is to be located."""
    data_name = name_of(request.data)
    seed = checked_seed(request.seed)
    student = request.student or usual(data_name).student
    _check_model(student)
    options = _plain(request.options)
    recipe = request.resolved_recipe("student")
    taught = get_method(request.method).divergence is not None
    # Before data are downloaded for nothing.
    found = _located(request, resources) if taught and locate else None
    data = resolve_data(request.data, resources.root, resources.official).to(resources.device)
    precision = choose_precision(request.precision, data.device, _size(student, data.num_classes))
    objective = _objective(request.method, options, recipe, data, seed)
    if resources.cache is not None and resources.cache not in DTYPES:
        raise ValueError(f"cache: expected {', '.join(map(repr, DTYPES))} or None, got {resources.cache!r}")
    student_views(data, recipe, seed)  # refuses a recipe that does not fit the data
    return RunConfig(student, request.method, options, data, recipe, seed, precision), objective, found


def _located(request: Request, resources: Resources) -> Run | Path:
    return locate_teacher(request.named_teacher, request.teacher_weights, name_of(request.data), resources.out)


def load_requested_teacher(request: Request, resources: Resources) -> Teacher:
    """The live teacher of a request; never trains one."""
    found = _located(request, resources)
    data = resolve_data(request.data, resources.root, resources.official).to(resources.device)
    return load_teacher(request.named_teacher, found, data)


def ensure_teacher(requests: Sequence[Request], resources: Resources) -> None:
    """Train the embedded set's teacher where there is none: a matter of seconds, and no reason for a command.

    Of several requests with one teacher, all are checked before it trains. For any other data set, nothing: whoever plans the student then raises `TeacherError`, with the command.
    """
    taught = [each for each in requests if get_method(each.method).divergence is not None]
    if not taught:
        return
    request = taught[0]
    name = name_of(request.data)
    named = request.named_teacher
    if name != "gratings" or request.teacher_weights is not None or not isinstance(named, str):
        return
    if named not in MODELS:
        return
    try:
        _located(request, resources)
        return
    except MissingTeacherError:
        for each in requests:  # what is wrong with a student is found out first
            _checked(each, resources, locate=False)
    data = resolve_data(request.data, resources.root, resources.official)
    steps = steps_of(data, get_recipe(usual(name).recipe, "teacher"))
    log.info("no teacher yet: training %s first (%d steps)", named, steps)
    asked = Request(data, named, precision=request.precision)
    plan_teacher(asked, replace(resources, progress=resources.shows, fresh=False, capture=None))()


_OF_REQUESTS = ("precision", "teacher_weights")
_OF_RESOURCES = ("out", "cache", "capture", "fresh")


def split_options(options: Mapping[str, Any]) -> tuple[Request, Resources]:
    """Options of `distill` by whether they identify a run or say where it is carried out."""
    if unknown := set(options) - {*_OF_REQUESTS, *_OF_RESOURCES}:
        # As get_recipe has it: what is no option of ours is taken for a setting of the recipe.
        get_recipe("demo", **dict.fromkeys(sorted(unknown), 0))
    of_requests = {name: options[name] for name in _OF_REQUESTS if name in options}
    of_resources = {name: options[name] for name in _OF_RESOURCES if name in options}
    return Request(**of_requests), Resources(**of_resources)


def checked_seed(seed: int) -> int:
    """A seed as a plain integer.

    Raises:
        ValueError: outside 0 to 2^63 - 1.
    """
    seed = operator.index(seed)
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: expected an integer from 0 to 2^63 - 1, got {seed}")
    return seed


def _check_model(name: str) -> None:
    if name not in MODELS:
        raise ValueError(near_names("model", name, MODELS))


def _size(model: str, num_classes: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in create_model(model, num_classes).parameters())


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same options in JSON's own types, so that what trains can also be recorded; infinity becomes "inf"."""
    text = {name: "inf" if value == math.inf else value for name, value in options.items()}
    try:
        return json.loads(json.dumps(text, allow_nan=False, default=lambda value: value.item()))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"method_options: expected numbers and texts that a record can hold, got {dict(options)}"
        ) from error


def _objective(
    method: str, options: Mapping[str, Any], recipe: Recipe, data: ImageData, seed: int
) -> nn.Module:
    """The method as configured, with what it reads of the run where nobody has said it."""
    known = {"epochs": recipe.epochs, "num_classes": data.num_classes, "seed": seed}
    wanted = {key: value for key, value in known.items() if key in options_of(method)}
    return create_method(method, **{**wanted, **options})
