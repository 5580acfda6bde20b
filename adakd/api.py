"""The whole package in a few calls: train a teacher, distill, compare, evaluate.

These are keyword faces: what they do is in `adakd.plan` (from names to a run's settings), `adakd.runs` (what comes of it),
`adakd.teachers` and `adakd.training`.
"""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import engine as engines
from ._check import brief
from ._progress import Bar
from .data import Dataset, name_of, resolve_data
from .distiller import check_apart
from .models import network_of
from .models._layout import channels_last
from .plan import (
    OF_FIT,
    Request,
    check_arguments,
    checked_seed,
    ensure_teacher,
    load_requested_teacher,
    named_method,
    plain_options,
    plan_student,
    plan_teacher,
    refuse_other_kind,
    split_options,
    with_one_teacher,
)
from .runs import (
    Job,
    Resources,
    Run,
    carry_out,
    data_of_run,
    loaded_model,
    open_run,
    refuse_other_data,
    resolve_device,
)
from .teachers import CachedTeacher, LiveTeacher
from .teachers.source import fp32_of
from .training.cache import ViewCache
from .training.loop import Display, Interrupted, OnEpoch, TeacherSource, never, step_bar
from .training.loop import fit as fit_trainer
from .training.precision import Precision, choose_precision, plain_torch
from .training.recipe import Recipe, steps_of, student_views
from .training.resume import Checkpoint
from .training.trainer import Trainer, evaluate_model, evaluating, measure_model
from .training.world import ALONE, World, normalize_alone

__all__ = [
    "cache_teacher",
    "compare",
    "distill",
    "evaluate",
    "evaluate_weights",
    "fit",
    "measurements",
    "train_teacher",
]

log = logging.getLogger("adakd")


@plain_torch()
def train_teacher(
    model: str | nn.Module | Callable[..., nn.Module] | None = None,
    data: str | Dataset = "gratings",
    recipe: str | Recipe | None = None,
    seed: int = 0,
    *,
    out: str | os.PathLike[str] = "runs",
    device: str | torch.device | None = None,
    precision: str = "auto",
    root: str | os.PathLike[str] | None = None,
    official: bool = True,
    progress: bool = True,
    fresh: bool = False,
    capture: bool | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] = never,
    world: World = ALONE,
    **recipe_changes: Any,
) -> Run:
    """Train a network on the labels alone, to teach others later.

    Repeating a call continues it where it was interrupted, or opens it where it is finished.

    Args:
        model: a name of `adakd.models.MODELS`, a module, or a function of the number of classes that returns one; the data
            set's usual teacher when left out.
        data: "gratings", "cifar10", "cifar100", "sentences", … (`adakd.load_data`), an `ImageData`, or a `TokenData`.
        recipe: "paper", "quick", "demo" or "language"; the data set's usual one when left out.
        seed: of weights, order and views.
        out: folder under which the run gets its own.
        device: "cuda", "cpu" or "auto".
        precision: "auto", "fp32", "bf16" or "fp16".
        root: folder of the downloaded data; see `adakd.load_data`.
        official: verify CIFAR against the published checksums.
        progress: show a progress bar.
        fresh: forget an earlier run of the same settings.
        capture: compile the step (on a GPU into CUDA graphs); on a GPU only when left out.
        on_epoch: called with each epoch's row of the history as the run trains, once it is saved.
        should_stop: called after every step; when it returns True, the run is saved and `Interrupted` raised. (Ctrl-C in
            Python is a KeyboardInterrupt as anywhere: the last checkpoint stays, at most two minutes old.)
        world: the processes that train this run together (`adakd.training.join_world`); one when left out.
        recipe_changes: e.g. ``epochs=30``.

    Returns:
        The finished `Run`.

    Raises:
        ValueError: for unknown names.
        DataError: if the data cannot be had.
        Interrupted: when `should_stop` returns True, after saving.
    """
    check_arguments(
        data=data,
        out=out,
        device=device,
        root=root,
        official=official,
        progress=progress,
        fresh=fresh,
        capture=capture,
        should_stop=should_stop,
        world=world,
    )
    request = Request(
        data, model, recipe=recipe, changes=recipe_changes, seed=seed, precision=precision, on_epoch=on_epoch
    )
    resources = Resources(
        out, resolve_device(device), root, official, None, capture, progress, fresh, should_stop, world
    )
    return world.together(lambda: plan_teacher(request, resources))()


@plain_torch()
def distill(
    teacher: str | os.PathLike[str] | Run | nn.Module | None = None,
    student: str | nn.Module | Callable[..., nn.Module] | None = None,
    method: str | nn.Module = "zkd+mlt",
    data: str | Dataset = "gratings",
    recipe: str | Recipe | None = None,
    seed: int = 0,
    *,
    teacher_weights: str | os.PathLike[str] | None = None,
    method_options: dict[str, Any] | None = None,
    out: str | os.PathLike[str] = "runs",
    device: str | torch.device | None = None,
    precision: str = "auto",
    root: str | os.PathLike[str] | None = None,
    official: bool = True,
    progress: bool | Bar = True,
    fresh: bool = False,
    cache: str | None = "fp16",
    capture: bool | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] = never,
    world: World = ALONE,
    **recipe_changes: Any,
) -> Run:
    """Train a student from a teacher by a named method.

    Runs of one seed start from the same weights and see the same images in the same order and views, whatever the
    method: their differences are paired. Repeating a call continues it where it was interrupted, or opens it where
    it is finished.

    Args:
        teacher: a `Run`, the folder of one, a module, an `Ensemble`, a file of recorded logits (`Recorded`), or a model's
            name: then its finished run under `out` is used (on the embedded set it is trained first where there is none).
            The data set's usual teacher when left out. A run of a network that has no name is opened with it,
            ``open_run(folder, network=...)``. Of a half or double module that reads images, a copy in fp32 is used.
        student: a name of `adakd.models.MODELS`, a module, or a function of the number of classes that returns one; the data
            set's usual student when left out.
        method: a name of `adakd.METHODS`, ``<row>+<rule>``, or an `Objective`.
        data: "gratings", "cifar10", "cifar100", "sentences", … (`adakd.load_data`), an `ImageData`, or a `TokenData`.
        recipe: "paper", "quick", "demo" or "language"; the data set's usual one when left out.
        seed: of weights, transfer set, order and views.
        teacher_weights: file of published weights (.safetensors, .pth, .pt, .tar) for the model named by `teacher`.
        method_options: overrides for `adakd.create_method`, e.g. ``{"kd_weight": 18}``.
        out: folder under which the run gets its own.
        device: "cuda", "cpu" or "auto".
        precision: "auto", "fp32", "bf16" or "fp16".
        root: folder of the downloaded data; see `adakd.load_data`.
        official: verify CIFAR against the published checksums.
        progress: show a progress bar; or a display that several runs share.
        fresh: forget an earlier run of the same settings.
        cache: compute the teacher's logits of all views of the run first, once for all methods, and keep them in "fp16" or
            "fp32" (see `adakd.ViewCache`); None for a teacher that runs along. They differ by the rounding. A method that
            reads features of the teacher has none.
        capture: compile the step (on a GPU into CUDA graphs); on a GPU only when left out.
        on_epoch: called with each epoch's row of the history as the run trains, once it is saved.
        should_stop: called after every step; when it returns True, the run is saved and `Interrupted` raised. (Ctrl-C in
            Python is a KeyboardInterrupt as anywhere: the last checkpoint stays, at most two minutes old.)
        world: the processes that train this run together (`adakd.training.join_world`); one when left out.
        recipe_changes: e.g. ``epochs=30``, ``train_images=2000``.

    Returns:
        The finished `Run`.

    Raises:
        TypeError: for an argument of another kind, naming it; for a network whose state is more than tensors.
        ValueError: for unknown names, a teacher with another number of classes, or a student that is frozen.
        TeacherError: if the teacher is not trained yet.
        DataError: if the data cannot be had.
        CacheError: if the cache cannot be written, or does not hold the logits of its teacher.
        Interrupted: when `should_stop` returns True, after saving.
    """
    check_arguments(
        data=data,
        out=out,
        device=device,
        root=root,
        official=official,
        progress=progress,
        fresh=fresh,
        cache=cache,
        capture=capture,
        should_stop=should_stop,
        world=world,
    )
    request = Request(
        data,
        student,
        method,
        {} if method_options is None else method_options,
        recipe,
        recipe_changes,
        seed,
        precision,
        teacher,
        teacher_weights,
        on_epoch,
    )
    resources = Resources(
        out, resolve_device(device), root, official, cache, capture, progress, fresh, should_stop, world
    )
    ensure_teacher([request], resources)
    return world.together(lambda: plan_student(request, resources))()


@plain_torch()
def compare(
    methods: Sequence[str | tuple[str, Mapping[str, Any]]],
    seeds: Sequence[int] = (0, 1, 2),
    teacher: str | os.PathLike[str] | Run | nn.Module | None = None,
    student: str | nn.Module | Callable[..., nn.Module] | None = None,
    data: str | Dataset = "gratings",
    recipe: str | Recipe | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    official: bool = True,
    progress: bool = True,
    device: str | torch.device | None = None,
    should_stop: Callable[[], bool] = never,
    on_epoch: Callable[[dict[str, Any], dict[str, Any]], None] | None = None,
    on_failure: Callable[[dict[str, Any], Exception], None] | None = None,
    engine: engines.Engine | None = None,
    **options: Any,
) -> list[Run]:
    """Distill by several methods over several seeds, so that their differences are paired.

    Runs of one seed have the same initial weights, transfer set, order and views, and the teacher's logits are computed once.
    With a cache, they read one. Without (``cache=None``, a set too large for one, or a method among them that reads
    features of the teacher) they train in lockstep, and share the teacher's outputs for each step; all their networks are in
    memory then. Either way each is, bit for bit on a CPU, the run that `distill` makes alone.

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
        device, should_stop: as for `distill`.
        engine: where the runs are carried out (see `adakd.engine`); one after the other in this process when left out.
        options: anything else that `distill` takes.

    Returns:
        The runs that are finished, seed by seed in the order of the methods.

    Raises:
        ValueError: for unknown names, no method, no seed, or a seed or method given twice.
        Exception: what `distill` raises; all that can be known of any run before the first one trains.
    """
    check_arguments(
        seeds=seeds,
        data=data,
        root=root,
        official=official,
        progress=progress,
        device=device,
        should_stop=should_stop,
        on_epoch=on_epoch,
        on_failure=on_failure,
        engine=engine,
        out=options.get("out", "runs"),
    )
    seeds = [checked_seed(seed) for seed in seeds]
    chosen = _chosen(methods, seeds)
    request, resources = split_options(options)
    name_of(data)
    data = resolve_data(data, root, official, bool(progress))  # once
    request = replace(request, data=data, student=student, teacher=teacher, recipe=recipe)
    resolved = request.resolved_recipe("student")
    request = replace(request, recipe=resolved, changes={})
    data = data.to(resolve_device(device))
    if on_epoch is not None and not (engine or engines.Sequential()).here:
        raise ValueError("on_epoch: is called in this process only; leave it out, or take no other engine")
    total = steps_of(data, resolved) * len(seeds) * len(chosen)
    with step_bar(total, 0, "comparison", show=progress) as bar:
        resources = replace(resources, device=data.device, progress=bar, should_stop=should_stop)
        # All that can be wrong with any of them, before the first trains for hours.
        requests = []
        for seed in seeds:
            for method, settings in chosen:
                which = {"method": named_method(method), "method_options": settings, "seed": seed}
                callback = on_epoch and partial(on_epoch, which)
                requests.append(
                    replace(request, data=data, method=method, options=settings, seed=seed, on_epoch=callback)
                )
        resources = with_one_teacher(requests, resources)
        ensure_teacher(requests, resources)
        jobs = [plan_student(each, resources) for each in requests]
        if resources.fresh and not (engine or engines.Sequential()).here:
            # Now, and not in the tasks: one that is tried again after its process died goes on from its checkpoint.
            for job in jobs:
                job.forget()
            resources = replace(resources, fresh=False)
        work = _Comparison(requests, resources, jobs, device)
        with (engine or engines.Sequential()).open(data, should_stop=should_stop) as pool:
            return work.carried_out(pool, on_failure)


def _chosen(
    methods: Sequence[str | tuple[str, Mapping[str, Any]]], seeds: Sequence[int]
) -> list[tuple[str, dict[str, Any]]]:
    """Methods with their options; refused where they make no comparison."""
    if isinstance(methods, str):
        raise ValueError(f"methods: expected a sequence of names, got the text {methods!r}")
    if not isinstance(methods, Iterable):
        raise TypeError(
            f"methods: expected a sequence of names, or of pairs (name, options), got {brief(methods)}"
        )
    chosen = [
        (method, {}) if isinstance(method, str | nn.Module) else _with_options(method) for method in methods
    ]
    if not chosen or not seeds:
        raise ValueError("compare: expected at least one method and one seed")
    known = [(method, plain_options(settings)) for method, settings in chosen]
    if any(known.count(one) > 1 for one in known) or len(set(seeds)) < len(seeds):
        raise ValueError(f"compare: a method or a seed is given twice: {methods}, {seeds}")
    return chosen


def _with_options(pair: Any) -> tuple[Any, dict[str, Any]]:
    """A method with its options, of a pair."""
    if not isinstance(pair, Sequence) or len(pair) != 2 or not isinstance(pair[1], Mapping):
        raise TypeError(
            f"methods: expected names, or pairs of a name and a dict of options, such as ('kd', {{'tau': 2.0}}), got {brief(pair)}"
        )
    return pair[0], dict(pair[1])


class _Comparison:
    """Runs that are compared, on an engine: a task is a run, or those that share a live teacher."""

    def __init__(
        self,
        requests: Sequence[Request],
        resources: Resources,
        jobs: Sequence[Job],
        device: str | torch.device | None,
    ):
        self.requests, self.resources, self.jobs, self.device = requests, resources, jobs, device

    def part(self, group: Sequence[int]) -> "_Comparison":
        return _Comparison(
            [self.requests[i] for i in group], self.resources, [self.jobs[i] for i in group], self.device
        )

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: all but the data set, which lies there already, and what belongs to this one."""
        requests = [replace(each, data=name_of(each.data), on_epoch=None) for each in self.requests]
        resources = replace(self.resources, progress=False, should_stop=never)
        keys = [job.config.key for job in self.jobs]
        return {"requests": requests, "resources": resources, "jobs": keys, "device": self.device}

    def settled(self, context: engines.Context) -> Sequence[Job]:
        """The jobs, in the process in which they are carried out."""
        if context.here:
            return self.jobs
        data = context.data_on(resolve_device(self.device))
        resources = replace(self.resources, device=data.device, should_stop=context.should_stop)
        jobs = [plan_student(replace(each, data=data), resources) for each in self.requests]
        for job, key in zip(jobs, self.jobs, strict=True):
            engines.refuse_other_run(job.config.key, str(key))
        return jobs

    def carried_out(
        self, pool: engines.Pool, on_failure: Callable[[dict[str, Any], Exception], None] | None
    ) -> list[Run]:
        """The finished runs; an error that no callback takes is raised when the others are done."""
        done: dict[int, Run] = {}
        failed: dict[int, Exception] = {}
        groups = {self.jobs[group[0]].config.key: group for group in _groups(self.jobs)}
        tasks = {name: engines.Task(name, _carry_out, (self.part(group),)) for name, group in groups.items()}

        def wanted() -> list[engines.Task]:
            return list(tasks.values())

        def ended(outcome: engines.Outcome) -> None:
            group = groups[outcome.task.name]
            del tasks[outcome.task.name]
            for i, result in zip(group, outcome.result or [outcome.error] * len(group), strict=True):
                if isinstance(result, Exception):
                    failed[i] = result
                    self._report(i, result, len(self.jobs) - len(done) - len(failed), on_failure)
                else:
                    done[i] = result if isinstance(result, Run) else open_run(result)

        def state() -> str:
            return f"{len(done)} of {len(self.jobs)} runs are finished, and the others saved"

        try:
            engines.work_off(pool, wanted, ended, should_stop=self.resources.should_stop, state=state)
        except Interrupted as stopped:
            raise Interrupted(f"stopped; {state()}") from stopped
        if failed and on_failure is None:
            raise next(iter(failed.values()))
        return [done[i] for i in sorted(done)]

    def _report(
        self,
        i: int,
        error: Exception,
        left: int,
        on_failure: Callable[[dict[str, Any], Exception], None] | None,
    ) -> None:
        config = self.jobs[i].config.describe()
        which = {name: config[name] for name in ("method", "method_options", "seed")}
        if on_failure is not None:
            on_failure(which, error)
        if left:
            log.warning(
                "%s, seed %d failed (%s); %d other runs go on", which["method"], which["seed"], error, left
            )


def _carry_out(context: engines.Context, work: _Comparison) -> list[Run | Path | Exception]:
    """Of each run of a task itself, or its folder where it is carried out elsewhere; or the error that ended it."""
    jobs = work.settled(context)
    if len(jobs) == 1 and not context.here:  # so that whoever is at it makes it wait, and not fail
        return [jobs[0]().folder]
    results = carry_out(jobs)
    return [each.folder if isinstance(each, Run) and not context.here else each for each in results]


def _groups(jobs: Sequence[Job]) -> list[list[int]]:
    """Which of the jobs train in lockstep: those that share one live teacher and the same stream of images."""
    groups: dict[Any, list[int]] = {}
    for i, job in enumerate(jobs):
        config = job.config.describe()
        shared = json.dumps([config[name] for name in ("data", "recipe", "seed", "precision", "teacher")])
        groups.setdefault(shared if job.shares else i, []).append(i)
    return list(groups.values())


@plain_torch()
def cache_teacher(
    teacher: str | os.PathLike[str] | Run | nn.Module | None = None,
    data: str | Dataset = "gratings",
    recipe: str | Recipe | None = None,
    seeds: Sequence[int] = (0,),
    *,
    teacher_weights: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] = "runs",
    device: str | torch.device | None = None,
    precision: str = "auto",
    root: str | os.PathLike[str] | None = None,
    official: bool = True,
    progress: bool = True,
    dtype: str = "fp16",
    **recipe_changes: Any,
) -> ViewCache:
    """Compute a teacher's logits for every view that students of this recipe and these seeds will see, before they train.

    `distill` and `compare` do it by themselves; this is for doing it at another time, or on another machine. It can be
    stopped at any moment and continued by repeating the call.

    Args:
        teacher, data, recipe, teacher_weights, out, device, precision, root, official, progress, recipe_changes:
            as for `distill`.
        seeds: of the runs to come.
        dtype: in which the logits are kept, "fp16" or "fp32".

    Raises:
        ValueError: for unknown names, recorded logits, or a set too large for a cache.
        TeacherError, DataError, CacheError: as for `distill`.
    """
    check_arguments(
        seeds=seeds,
        data=data,
        out=out,
        device=device,
        root=root,
        official=official,
        progress=progress,
        dtype=dtype,
    )
    request = Request(
        data,
        recipe=recipe,
        changes=recipe_changes,
        precision=precision,
        teacher=teacher,
        teacher_weights=teacher_weights,
    )
    resources = Resources(out, resolve_device(device), root, official, dtype, progress=progress)
    recipe = request.resolved_recipe("student")
    seeds = [checked_seed(seed) for seed in seeds]
    if not seeds:
        raise ValueError("seeds: expected at least one")
    ensure_teacher([request], resources)
    loaded = load_requested_teacher(request, resources)
    data = resolve_data(data, root, official, resources.shows).to(resources.device)
    cached = loaded.with_cache(data, recipe, dtype, precision)
    if not cached.cached:
        raise ValueError(f"{data.name} is too large for a cache: distill with a live teacher")
    return cached.filled_cache(data, recipe, seeds, resources)


@plain_torch()
def fit(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    criterion: nn.Module,
    *,
    seed: int,
    checkpoint: Path,
    config: dict[str, Any],
    precision: Precision,
    teacher: nn.Module | ViewCache | TeacherSource | None = None,
    capture: bool = False,
    label: str = "training",
    progress: bool | Bar = True,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] = never,
    world: World = ALONE,
) -> tuple[list[dict[str, Any]], float]:
    """Train `model` in place on `data`, continuing from `checkpoint` where there is one.

    Which images a step shows is a pure function of the seed, the epoch and the image (see `adakd.data.views`), what the
    network draws meanwhile, as dropout does, one of the seed, the epoch and the step, and the checkpoint holds everything
    else, so that a run stopped at any moment and continued is, on one machine, bit for bit the run that was never stopped.
    (On a CPU; a GPU's kernels may sum in another order.) The caller's random state stays as it is.

    Args:
        model: on the device of `data`.
        data: training happens on its device.
        recipe: length, batch size, schedule, transfer set.
        criterion: the loss; its parameters, if any, are trained along and its state is saved along.
        seed: chooses the transfer set, the order of the images and their views.
        checkpoint: file to continue from and to save to: after every epoch, every two minutes, and when stopped.
        config: what identifies the run, as plain data; a checkpoint of another config is refused.
        precision: number format of forward and backward.
        teacher: a network, evaluated live on the very views the student sees (in fp32, where it is of another format and
            reads images), and afterwards as it was; or a `ViewCache` that holds what it
            says of all of them.
        capture: compile forward and loss (on a GPU into CUDA graphs); where that fails in the first steps they run one
            operation at a time.
        label: what the progress display calls the run.
        progress: whether to show it; or a display that several runs share.
        should_stop: called after every step; when it returns True, the run is saved and `Interrupted` raised. (Ctrl-C in
            Python is a KeyboardInterrupt as anywhere: the last checkpoint stays, at most two minutes old.)
        on_epoch: called with the row of each epoch that is trained, after the checkpoint is saved. What it raises ends
            the run, which can be continued; rows of earlier sessions are not repeated.
        world: the processes that train this model together (`adakd.training.join_world`); one when left out.

    Returns:
        One row an epoch, and the seconds of training and measuring over all continuations. A row holds means over the
        epoch: losses, accuracy, the teacher's temperature, the correlation of the logits, the norm of the gradient
        by what the temperature rule learns (0 where it learns nothing); and where measured the test accuracy, and
        the accuracy on the validation images where the recipe holds some out.

    Raises:
        Interrupted: when `should_stop` returns True, after saving.
        CheckpointError: if the checkpoint is of another run or damaged.
        FloatingPointError: if loss or weights are not finite; the last good checkpoint stays.
        TypeError: for a config that no checkpoint gives back, as with a path or a number of NumPy in it.
        ValueError: if the criterion needs a teacher and there is none, a cache of other data, or a network that shares
            tensors with the model; or if it (on a CPU) refuses the logits of a step.
    """
    check_arguments(
        OF_FIT,
        model=model,
        data=data,
        recipe=recipe,
        criterion=criterion,
        checkpoint=checkpoint,
        precision=precision,
        teacher=teacher,
        capture=capture,
        progress=progress,
        label=label,
        on_epoch=on_epoch,
        should_stop=should_stop,
        world=world,
    )
    views = student_views(data, recipe, checked_seed(seed))
    if isinstance(teacher, nn.Module) and data.reads == "images":
        teacher = fp32_of(teacher)
    network = teacher if isinstance(teacher, nn.Module) else None
    if network is not None:
        check_apart(model, network)
    resumed = Checkpoint(Path(checkpoint), config)
    trainer = Trainer(model, criterion, recipe, data, precision, capture, teacher=network, world=world)
    display = Display(label, progress if world.leads else False)
    with _as_it_was(network), contextlib.closing(display), contextlib.ExitStack() as at_the_end:
        at_the_end.callback(normalize_alone, model)
        source = _source(teacher, trainer, data, views.count) if trainer.needs_teacher else None
        history = fit_trainer(
            trainer,
            views,
            source,
            checkpoint=resumed,
            callbacks=[display, *([OnEpoch(on_epoch)] if on_epoch is not None else [])],
            should_stop=should_stop,
        )
    return history, trainer.seconds


@contextlib.contextmanager
def _as_it_was(teacher: nn.Module | None) -> Iterator[None]:
    """A network that is frozen meanwhile, and then again as somebody has it: modes, and what needs gradients."""
    if teacher is None:
        yield
        return
    learned = [each for each in teacher.parameters() if each.requires_grad]
    with evaluating(teacher):
        try:
            yield
        finally:
            for each in learned:
                each.requires_grad_(True)


def _source(
    teacher: nn.Module | ViewCache | TeacherSource | None, trainer: Trainer, data: Dataset, views: int
) -> TeacherSource | None:
    """Where the steps get the teacher's outputs from, whatever it was given as."""
    if isinstance(teacher, ViewCache):
        if trainer.taps.teacher:
            raise ValueError(
                f"teacher: the loss reads features ({', '.join(trainer.taps.teacher)}), and a cache has none; "
                "give the network"
            )
        teacher.refuse_other(data, views)
        return CachedTeacher(teacher)
    if isinstance(teacher, nn.Module):
        return LiveTeacher(teacher, trainer.precision, data.device, trainer.taps)
    return teacher


def evaluate(
    run: str | os.PathLike[str] | Run,
    *,
    data: str | Dataset | None = None,
    network: str | nn.Module | Callable[..., nn.Module] | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    root: str | os.PathLike[str] | None = None,
) -> float:
    """Measure a finished run's network on the test split again; returns top-1 accuracy in percent (of text, of the next
    token; `measurements` has the nats too).

    Args:
        run: a `Run` or its folder.
        data: the run's own data set, where it has none of the names that `load_data` knows; a text as "text:PATH".
        network: what the run was made with, where that was no name: a module, or a factory. Left out for a `Run` of
            this process.
        device: "cuda", "cpu" or "auto".
        precision: the run's own when left out.
        root: folder of the downloaded data.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
        DataError, WeightsError: if data or weights are missing or damaged.
    """
    return measurements(run, data=data, network=network, device=device, precision=precision, root=root)[
        "accuracy"
    ]


@plain_torch()
def measurements(
    run: str | os.PathLike[str] | Run,
    *,
    data: str | Dataset | None = None,
    network: str | nn.Module | Callable[..., nn.Module] | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    root: str | os.PathLike[str] | None = None,
) -> dict[str, float]:
    """All that is measured of a finished run's network on the test split, again.

    ``accuracy`` in percent; of text ``nats`` a token, and ``kl_to_truth`` where the source is known (`TokenData.measure`).
    Arguments and errors are those of `evaluate`.
    """
    given = {"data": data, "precision": precision}
    check_arguments(
        run=run,
        device=device,
        root=root,
        **{name: value for name, value in given.items() if value is not None},
    )
    run = run if isinstance(run, Run) else open_run(run)
    device = resolve_device(device)
    record = run.record
    remedy = "evaluate(run, data=...), or --data text:PATH"
    data = (data_of_run(run, root, remedy) if data is None else resolve_data(data, root)).to(device)
    refuse_other_data(run, data, "network")
    model = channels_last(run.model(network), device)
    parameters = sum(p.numel() for p in model.parameters())
    chosen = choose_precision(precision or record["config"]["precision"], device, parameters, data.reads)
    return measure_model(model, data, chosen)


@plain_torch()
def evaluate_weights(
    weights: str | os.PathLike[str],
    model: str,
    data: str | Dataset = "gratings",
    *,
    device: str | torch.device | None = None,
    precision: str = "auto",
    root: str | os.PathLike[str] | None = None,
    official: bool = True,
) -> float:
    """Measure a file of weights on the test split of a data set; returns top-1 accuracy in percent.

    Args:
        weights: published weights (.safetensors, .pth, .pt, .tar).
        model: the name of their network, of `adakd.models.MODELS`.
        data: "gratings", "cifar10", "cifar100", "sentences", … (`adakd.load_data`), an `ImageData`, or a `TokenData`.
        device: "cuda", "cpu" or "auto".
        precision: "auto", "fp32", "bf16" or "fp16".
        root: folder of the downloaded data.
        official: verify CIFAR against the published checksums.

    Raises:
        ValueError: for unknown names.
        DataError, WeightsError: if data or weights are missing or damaged, or the weights are of another network.
    """
    check_arguments(
        weights=weights, data=data, device=device, precision=precision, root=root, official=official
    )
    chosen_network = network_of(model)
    name_of(data)
    device = resolve_device(device)
    data = resolve_data(data, root, official).to(device)
    refuse_other_kind(chosen_network, data)
    network = loaded_model(chosen_network, data.num_classes, data.channels, Path(weights)).eval()
    chosen = choose_precision(precision, device, sum(p.numel() for p in network.parameters()), data.reads)
    return evaluate_model(channels_last(network, device), data, chosen)
