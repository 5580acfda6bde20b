"""From names to runs that can be carried out: all that can go wrong without training."""

import copy
import json
import logging
import math
import numbers
import operator
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from ._check import brief, check_trainable, near_names
from ._described import Description, digest_of, sha256_of_state
from ._progress import Bar
from .data import Dataset, is_named, name_of, resolve_data, usual
from .divergence import Divergence
from .methods import create_method, fill_options, get_method, is_built_in
from .models import MODELS, Network, network_of
from .models.network import refuse_extra_state, resting
from .runs import Job, Resources, Run, RunConfig, resolve_device
from .signals import Taps
from .teachers import MissingTeacherError, Teacher, load_network, load_teacher, locate_teacher
from .training.cache import DTYPES, ViewCache
from .training.precision import Precision, choose_precision
from .training.recipe import Recipe, check_settings, get_recipe, steps_of, student_views
from .training.world import World

__all__ = [
    "OF_FIT",
    "Request",
    "check_arguments",
    "check_student",
    "ensure_teacher",
    "load_requested_teacher",
    "plain_options",
    "plan_student",
    "plan_teacher",
    "refuse_other_kind",
    "resources_of",
    "split_options",
    "with_one_teacher",
]

log = logging.getLogger("adakd")


@dataclass(frozen=True)
class Request:
    """A run as its caller names it, before any name is looked up."""

    data: str | Dataset = "gratings"
    student: Any = None
    """A name, a module, or a factory; see `adakd.models.network_of`."""
    method: Any = "zkd+mlt"
    """A name, or an objective."""
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: str | Recipe | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Other values for settings of the recipe."""
    seed: int = 0
    precision: str = "auto"
    teacher: Any = None
    """A run, its folder, the name of a model, a module, an `Ensemble`, or `Recorded` logits."""
    teacher_weights: str | os.PathLike[str] | None = None
    on_epoch: Callable[[dict[str, Any]], None] | None = None

    def __post_init__(self) -> None:
        check_arguments(
            data=self.data,
            method_options=self.options,
            teacher_weights=self.teacher_weights,
            on_epoch=self.on_epoch,
            precision=self.precision,
        )

    @property
    def named_teacher(self) -> Any:
        """The teacher, or the data set's usual one."""
        return usual(self.data).teacher if self.teacher is None else self.teacher

    def network(self, role: str) -> Network:
        """The student, or the data set's usual one in this role."""
        named = getattr(usual(self.data), role) if self.student is None else self.student
        return network_of(named)

    def resolved_recipe(self, role: str) -> Recipe:
        """The recipe, or the data set's usual one, with its changes."""
        check_settings(self.changes)  # of which get_recipe takes some names for its own arguments
        network = self.network(role)
        named = network.name if network.described_by_its_name else None
        recipe = get_recipe(self.recipe or usual(self.data).recipe, role, network=named, **self.changes)
        chosen = self.recipe is not None or self.changes.get("train_images") is not None
        if recipe.train_images and not chosen and not is_named(name_of(self.data)):
            # Nobody has chosen a part, and of a small set there may be none of that size.
            left = len(resolve_data(self.data, None).train) - (recipe.validation_images or 0)
            if recipe.train_images > left:
                recipe = replace(recipe, train_images=None)
        return recipe


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _is_data(value: Any) -> bool:
    return isinstance(value, str) or all(hasattr(value, name) for name in ("name", "train", "num_classes"))


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


# By an argument's name: whether it is of the right kind, and what is expected of it.
Kinds = Mapping[str, tuple[Callable[[Any], bool], str]]
_ARGUMENTS: Kinds = {
    "data": (_is_data, "the name of a data set (as 'gratings'), an adakd.ImageData or an adakd.TokenData"),
    "run": (lambda value: _is_path(value) or isinstance(value, Run), "a Run, or the folder of one"),
    "network": (
        lambda value: _is_path(value) or isinstance(value, Run | nn.Module),
        "a Run, the folder of one, or a module",
    ),
    "out": (_is_path, "a folder, as a text or a path"),
    "folder": (_is_path, "a folder, as a text or a path"),
    "file": (_is_path, "the file to be written, as a text or a path"),
    "weights": (_is_path, "a file of weights, as a text or a path"),
    "root": (lambda value: value is None or _is_path(value), "a folder, as a text or a path, or None"),
    "teacher_weights": (
        lambda value: value is None or _is_path(value),
        "a file of weights, as a text or a path, or None",
    ),
    "method_options": (
        lambda value: isinstance(value, Mapping),
        "a dict of options by their names, such as {'tau': 2.0}",
    ),
    "seeds": (
        lambda value: isinstance(value, Iterable) and not isinstance(value, str | bytes),
        "a sequence of integers, such as (0, 1, 2)",
    ),
    "precision": (lambda value: isinstance(value, str), "'auto', 'fp32', 'bf16' or 'fp16'"),
    "cache": (lambda value: value is None or isinstance(value, str), "'fp16', 'fp32' or None"),
    "dtype": (lambda value: isinstance(value, str), "'fp16' or 'fp32'"),
    # What is true in Python is not what was meant: "no" would forget a finished run.
    "fresh": (_is_flag, "True or False"),
    "official": (_is_flag, "True or False"),
    "normalize": (_is_flag, "True or False"),
    "retry_failed": (_is_flag, "True or False"),
    "capture": (lambda value: value is None or _is_flag(value), "True, False or None"),
    "progress": (lambda value: isinstance(value, bool | Bar), "True or False"),
    "world": (lambda value: isinstance(value, World), "what adakd.training.join_world() returns"),
    "engine": (lambda value: value is None or hasattr(value, "open"), "one of adakd.engine, or None"),
    "device": (
        lambda value: value is None or isinstance(value, str | torch.device),
        "'cuda', 'cpu', 'auto', a torch.device, or None",
    ),
    "on_epoch": (lambda value: value is None or callable(value), "a function of an epoch's row, or None"),
    "on_failure": (
        lambda value: value is None or callable(value),
        "a function of a run and its error, or None",
    ),
    "should_stop": (callable, "a function without arguments that returns True to stop"),
}
# Of `adakd.fit`, which takes the things themselves and no names.
OF_FIT: Kinds = {
    **_ARGUMENTS,
    "model": (lambda value: isinstance(value, nn.Module), "a module"),
    "criterion": (
        lambda value: isinstance(value, nn.Module),
        "a loss, such as adakd.create_method('kd') gives",
    ),
    "data": (
        lambda value: not isinstance(value, str) and _is_data(value),
        "an adakd.ImageData or an adakd.TokenData, such as adakd.load_data('gratings') gives",
    ),
    "recipe": (
        lambda value: isinstance(value, Recipe),
        "an adakd.Recipe, such as get_recipe('demo') gives",
    ),
    "checkpoint": (_is_path, "a file, as a text or a path"),
    "precision": (
        lambda value: isinstance(value, Precision),
        "a Precision, such as choose_precision('fp32', data.device, 0) gives",
    ),
    "teacher": (
        lambda value: (
            value is None or isinstance(value, nn.Module | ViewCache) or hasattr(value, "begin_epoch")
        ),
        "a module, an adakd.ViewCache, or None",
    ),
    "capture": (_is_flag, "True or False"),
    "label": (lambda value: isinstance(value, str), "a text for the progress bar"),
}


def check_arguments(kinds: Kinds = _ARGUMENTS, /, **given: Any) -> None:
    """Raise TypeError naming the first argument that is of another kind than all that takes one of its name."""
    for name, value in given.items():
        fits, expected = kinds[name]
        if not fits(value):
            raise TypeError(f"{name}: expected {expected}, got {brief(value)}")
        if name != "data" and _is_path(value) and "\0" in str(value):
            raise ValueError(f"{name}: expected {expected}, without a NUL in it, got {brief(value)}")


def plan_teacher(request: Request, resources: Resources) -> Job:
    """Training of a network on the labels alone, checked and not begun."""
    name_of(request.data)
    seed = checked_seed(request.seed)
    network = request.network("teacher")
    _check_trained(network)
    recipe = request.resolved_recipe("teacher")
    data = _data(request, resources)
    refuse_other_kind(network, data)
    _check_trained(network, data)
    precision = choose_precision(request.precision, data.device, network.parameters(*_shape(data)), data.reads)
    further = network.identity(*_shape(data))
    config = RunConfig(network, "ce", {}, data, recipe, seed, precision, further=further)
    return Job(config, create_method("ce"), resources, kind="teacher", on_epoch=request.on_epoch)


def plan_student(request: Request, resources: Resources) -> Job:
    """Distillation of a student, checked and not begun; its teacher is there (see `ensure_teacher`)."""
    config, objective, found = _checked(request, resources)
    teacher = None
    if found is not None:
        teacher = load_teacher(request.named_teacher, found, config.data)
        if what := _beyond_logits(objective):  # of which neither a cache nor a file knows
            if not isinstance(teacher, Teacher):
                raise ValueError(
                    f"method {request.method!r} reads {what}, and recorded logits have none; give the network"
                )
            if resources.cache:
                log.info(
                    "%s reads %s: the teacher runs along, and its logits are not cached", config.method, what
                )
        elif resources.cache:
            teacher = teacher.with_cache(config.data, config.recipe, resources.cache, request.precision)
        config = replace(config, teacher=teacher.identity)
    student_views(config.data, config.recipe, config.seed)  # refuses a recipe that does not fit the data
    return Job(config, objective, resources, teacher, on_epoch=request.on_epoch)


def check_student(request: Request, resources: Resources) -> RunConfig:
    """What identifies a student's run but for its teacher, which need not be there yet.

    Raises:
        Exception: what `plan_student` raises, except of the teacher.
    """
    return _checked(request, resources, locate=False)[0]


def _beyond_logits(objective: nn.Module) -> str | None:
    """What a loss reads of the teacher besides its logits; None where they are enough."""
    if names := getattr(objective, "taps", Taps()).teacher:
        return f"features of the teacher ({', '.join(name.removesuffix('?') for name in names)})"
    return "a part of the teacher" if getattr(objective, "deploys", False) else None


def with_one_teacher(requests: Sequence[Request], resources: Resources) -> Resources:
    """Resources for runs that are compared: without a cache, if a method among them reads features of the teacher.

    All then have the one live teacher, since runs by cached logits and by live ones differ in their rounding too.
    """
    if not resources.cache:
        return resources
    readers: dict[str, str] = {}
    for request in requests:
        name = named_method(request.method)
        if name not in readers and _is_taught(request.method):
            _, objective, _ = _checked(request, resources, locate=False)
            if what := _beyond_logits(objective):
                readers[name] = what
    if not readers:
        return resources
    log.info(
        "%s: the teacher runs along for all methods, and its logits are not cached",
        "; ".join(f"{name} reads {what}" for name, what in readers.items()),
    )
    return replace(resources, cache=None)


def _checked(request: Request, resources: Resources, locate: bool = True) -> tuple[RunConfig, nn.Module, Any]:
    """Config and objective of a student, its teacher left out; and where that one is, if it is to be located."""
    name_of(request.data)
    seed = checked_seed(request.seed)
    student = request.network("student")
    _check_trained(student)
    method, options = named_method(request.method), plain_options(request.options)
    recipe = request.resolved_recipe("student")
    # Before data are downloaded for nothing.
    found = _located(request, resources) if _is_taught(request.method) and locate else None
    data = _data(request, resources)
    refuse_other_kind(student, data)
    _check_trained(student, data)
    precision = choose_precision(request.precision, data.device, student.parameters(*_shape(data)), data.reads)
    objective, further = _objective(request.method, options, recipe, data, seed)
    further = {**student.identity(*_shape(data)), **further}
    if data.reads != "images" and (getattr(objective, "taps", Taps()) != Taps() or _beyond_logits(objective)):
        raise ValueError(
            f"method {method!r} reads features as those of images are, and {data.name} holds {data.reads}; take a method "
            "on logits"
        )
    if resources.cache is not None and resources.cache not in DTYPES:
        raise ValueError(f"cache: expected {', '.join(map(repr, DTYPES))} or None, got {resources.cache!r}")
    if not locate:
        student_views(data, recipe, seed)  # refuses a recipe that does not fit the data
    config = RunConfig(student, method, options, data, recipe, seed, precision, further=further)
    return config, objective, found


def _check_trained(network: Network, data: Dataset | None = None) -> None:
    """Raise ValueError for a module that cannot be trained; of what a factory makes, once the data are known."""
    if isinstance(network.source, nn.Module):
        check_trainable(network.source)
    elif network.source is not None and data is not None:
        check_trainable(network.build(*_shape(data)))


def _located(request: Request, resources: Resources) -> Any:
    teacher = request.named_teacher
    if isinstance(teacher, nn.Module):
        refuse_extra_state(teacher)
    return locate_teacher(request.named_teacher, request.teacher_weights, name_of(request.data), resources.out)


def _is_missing(request: Request, resources: Resources) -> bool:
    try:
        _located(request, resources)
    except MissingTeacherError:
        return True
    return False


def _data(request: Request, resources: Resources) -> Dataset:
    """The data on their device; one process a machine downloads what is not there."""

    def read() -> Dataset:
        return resolve_data(request.data, resources.root, resources.official, resources.shows)

    return resources.world.first(read).to(resources.device)


def load_requested_teacher(request: Request, resources: Resources) -> Teacher:
    """The live teacher of a request; never trains one.

    Raises:
        ValueError: for recorded logits.
    """
    found = _located(request, resources)
    data = _data(request, resources)
    return load_network(request.named_teacher, found, data)


def ensure_teacher(requests: Sequence[Request], resources: Resources) -> None:
    """Train an embedded set's teacher where there is none: a matter of seconds, or of few minutes, and no reason for a command.

    Of several requests with one teacher, all are checked before it trains. For any other data set, nothing: whoever
    plans the student then raises `TeacherError`, with the command.
    """
    taught = [each for each in requests if _is_taught(each.method)]
    if not taught:
        if any(each.teacher is not None or each.teacher_weights is not None for each in requests):
            for each in requests:  # an error of a student comes alone
                resources.world.together(partial(_checked, each, resources, locate=False))
            # No warning: whoever goes through several methods gives all of them the same teacher.
            log.info("%s reads no teacher: the one given is not used", named_method(requests[0].method))
        return
    request = taught[0]
    named = request.named_teacher
    if not usual(request.data).at_once or request.teacher_weights is not None or not isinstance(named, str):
        return
    if named not in MODELS:
        return
    world = resources.world
    if not world.lead(lambda: _is_missing(request, resources)):
        return
    for each in requests:  # what is wrong with a student is found out first
        world.together(partial(_checked, each, resources, locate=False))
    data = resolve_data(request.data, resources.root, resources.official, resources.shows)
    steps = steps_of(data, get_recipe(usual(request.data).recipe, "teacher"))
    log.info("no teacher yet: training %s first (%d steps)", named, steps)
    of_teacher = Request(data, named, precision=request.precision)
    plan_teacher(of_teacher, replace(resources, progress=resources.shows, fresh=False, capture=None))()


_OF_REQUESTS = ("precision", "teacher_weights")
_OF_RESOURCES = ("out", "device", "root", "official", "progress", "should_stop", "cache", "capture", "fresh")


def resources_of(options: Mapping[str, Any], taken: Collection[str] = _OF_RESOURCES) -> Resources:
    """Keywords of the caller that say where runs are carried out, checked.

    Raises:
        TypeError: for a keyword that is not one of those that are taken, and for a value of another kind.
        ValueError: for a device that is not there.
    """
    for name in options:
        if name not in taken:
            raise TypeError(near_names("keyword", name, taken))
    check_arguments(**options)
    return Resources(**{**options, "device": resolve_device(options.get("device"))})


def split_options(options: Mapping[str, Any]) -> tuple[Request, Resources]:
    """Options of `distill` by whether they identify a run, as settings of its recipe do, or say where it is carried out."""
    changes = {name: value for name, value in options.items() if name not in {*_OF_REQUESTS, *_OF_RESOURCES}}
    check_settings(sorted(changes))  # what is no option of ours is taken for a setting of the recipe
    of_requests = {name: options[name] for name in _OF_REQUESTS if name in options}
    of_resources = {name: options[name] for name in _OF_RESOURCES if name in options}
    return Request(**of_requests, changes=changes), resources_of(of_resources)


def checked_seed(seed: int) -> int:
    """A seed as a plain integer.

    Raises:
        TypeError: for anything but an integer.
        ValueError: outside 0 to 2^63 - 1.
    """
    try:
        seed = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed: expected an integer from 0 to 2^63 - 1, got {brief(seed)}") from None
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: expected an integer from 0 to 2^63 - 1, got {seed}")
    return seed


def refuse_other_kind(network: Network, data: Dataset) -> None:
    """Raise ValueError where a network reads images and the data are text, or the other way round."""
    if network.reads not in (None, data.reads):
        raise ValueError(
            f"model {network.name!r} reads {network.reads}, and {data.name} holds {data.reads}; its usual ones are "
            f"{data.usual.teacher} and {data.usual.student}"
        )


def _shape(data: Dataset) -> tuple[int, int]:
    """Numbers of classes and of channels."""
    return data.num_classes, data.channels


def _is_taught(method: Any) -> bool:
    """Whether a method reads a teacher."""
    if isinstance(method, str):
        return get_method(method).needs_teacher
    return bool(getattr(method, "needs_teacher", True))


def named_method(method: Any) -> str:
    """What a config calls a method: its name, or the class of an objective."""
    if isinstance(method, str):
        return method
    if isinstance(method, nn.Module) and not isinstance(method, Divergence):
        return type(method).__name__
    raise TypeError(
        f"method: expected a name or an objective (adakd.Objective), got {brief(method)}"
        + (
            "; a divergence becomes one by adakd.LogitObjective(divergence)"
            if isinstance(method, Divergence)
            else ""
        )
    )


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same options in JSON's own types, so that what trains can also be recorded; infinity becomes "inf"."""
    # Tensors and arrays, as class weights may be, and NumPy's numbers.
    text = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in options.items()}
    for name, value in text.items():
        if isinstance(value, numbers.Real) and value == math.inf:
            text[name] = "inf"
    try:
        return json.loads(json.dumps(text, allow_nan=False, default=lambda value: value.tolist()))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"method_options: expected numbers and texts that a record can hold, got {dict(options)}"
        ) from error


def _objective(
    method: Any, options: Mapping[str, Any], recipe: Recipe, data: Dataset, seed: int
) -> tuple[nn.Module, dict[str, str]]:
    """The method as configured, and what identifies it beside its name and options."""
    if not isinstance(method, str):
        if options:
            raise ValueError(f"method_options: an objective has none of ours, got {dict(options)}; set its own")
        own = copy.deepcopy(method)  # each run begins with it as it was given
        return own, {"objective": _digest_of(own)}
    known = {"epochs": recipe.epochs, "num_classes": data.num_classes, "seed": seed}
    objective = create_method(method, **fill_options(method, options, **known))
    # A registered part is known by its name here, and may be another one tomorrow.
    return objective, {} if is_built_in(method) else {"objective": _digest_of(objective)}


def _digest_of(objective: nn.Module) -> str:
    """Digest of an objective: classes, settings and tensors of all its parts."""
    refuse_extra_state(objective, "method")
    still = resting(objective)
    return digest_of([Description(objective).parts, sha256_of_state(objective), *([still] if still else [])])
