"""A comparison at three kinds of weights, because a method and its weight are two things.

Each method runs over the same seeds

* at its **published** weights;
* at **matched** weights: the gradient of the distillation term by the student's logits is, before the first step, as
  long as that of a reference method at its published weight;
* at **chosen** weights: of a few multiples of the matched weight, the one with the best accuracy (on text, the fewest
  nats) on validation images that no run trains on; the same small budget for every method.

The study is a folder of records. Whatever stands there is done; so a study can be stopped at any moment, go on on
another machine, and be worked on by several processes at once: start the same command again, in as many terminals as
there are cores. A run that diverges is written down beside them and left out; the others go on.
"""

import copy
import itertools
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from .. import engine as engines
from .._check import brief, check_finite_options, check_folder, check_path
from ..data import Dataset, name_of, resolve_data, usual
from ..methods import create_method, fill_options, get_method
from ..models import network_of
from ..objective import LogitObjective
from ..plan import (
    Request,
    check_arguments,
    ensure_teacher,
    load_requested_teacher,
    plan_student,
    split_options,
    with_one_teacher,
)
from ..runs import Job, Resources, Run, resolve_device
from ..signals import logits_of_output
from ..training.files import check_fields, read_record, remove_leftovers, write_record
from ..training.loop import never, step_bar
from ..training.precision import plain_torch
from ..training.recipe import Recipe, steps_of, student_views
from ..training.record import environment, key_of, now
from .measures import measures_of
from .records import append_record, read_records
from .tables import OF_NETWORK

__all__ = ["WAYS", "Study", "gradient_norm", "read_failures", "run_study"]

log = logging.getLogger("adakd")

WAYS = ("published", "matched", "chosen")
PLAN = "study.json"
_PLAN_FIELDS = {
    "config": {
        "model": str,
        "data": {"name": str},
        "recipe": dict,
        "precision": str,
        "teacher": (dict, type(None)),
        "grid": [(int, float)],
        "ce_weight": (int, float),
    },
    "matched": {...: (int, float)},
    "chosen": {...: {"kd_weight": (int, float), "grid": [dict]}},
}
_NORMS = {"gradient_norm": {...: (int, float)}}
FAILURES = "failures.json"
PUBLISHED_EPOCHS = 240  # of the recipe that published warm-ups are counted in
_NORM_BATCHES = 8
# What a study has several of, and how they are written.
_SEVERAL: dict[str, tuple[type, str]] = {
    "methods": (str, "('kd', 'zkd+mlt')"),
    "seeds": (Integral, "(0, 1, 2)"),
    "grid": (Real, "(0.25, 1.0, 4.0)"),
    "ways": (str, "('published', 'matched')"),
}


@plain_torch()
def gradient_norm(criterion: LogitObjective, student: Tensor, teacher: Tensor, target: Tensor) -> float:
    r"""Gradient norm of a distillation term of weight one, by the student's logits: the root mean square over the rows.

    .. math:: \sqrt{\frac1B \sum_i \big\lVert \partial D_i / \partial s_i \big\rVert^2}

    with :math:`D` the divergence as the criterion computes it (standardization, temperature and its square included), without
    its weight and warm-up. For comparison: that of the cross entropy is at most :math:`\sqrt 2`.

    Args:
        criterion: of a method that has a divergence; it stays as it is, with the state that its rule keeps.
        student, teacher: raw logits (…, K).
        target: labels (…), of which -100 leaves the row out, or probabilities (…, K).

    Raises:
        ValueError: if the method has no distillation term, or no row has a label.
    """
    if not isinstance(criterion, LogitObjective):
        raise TypeError(
            f"criterion: expected a loss on logits, such as adakd.create_method('kd') gives, got {brief(criterion)}"
        )
    if criterion.divergence is None:
        raise ValueError("criterion: this method has no distillation term; expected one that has, such as 'kd'")
    criterion = copy.deepcopy(criterion)  # in its own mode: the weights of published plans are of training mode
    # Their own: what was made in inference mode can be in no graph.
    student, teacher = (x.detach().flatten(0, -2).clone() for x in (student, teacher))
    target = target.flatten(0, -2) if target.is_floating_point() else target.flatten()
    if not target.is_floating_point() and not (kept := target != -100).all():
        if not kept.any():
            raise ValueError("target: expected a label in at least one row, got -100 in all of them")
        student, teacher, target = student[kept], teacher[kept], target[kept]
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(criterion(student, teacher, target).kd * len(student), student)
    return gradient.norm(dim=1).square().mean().sqrt().item()


@dataclass(frozen=True)
class Study:
    """What to compare.

    Attributes:
        methods: names; those without a teacher, terms on features and sums run at published weights only: the gradient of
            one term by the logits is not defined of them.
        seeds: at least one. The first is the one by which weights are matched and chosen.
        reference: the method whose published gradient norm the others are matched to.
        grid: multiples of the matched weight among which validation chooses.
        ce_weight: weight of the labels at matched and chosen weights, the same for all.
        ways: which of the three kinds of weights to run.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    reference: str = "zkd"
    grid: tuple[float, ...] = (0.25, 1.0, 4.0)
    ce_weight: float = 0.1
    ways: tuple[str, ...] = WAYS

    def __post_init__(self) -> None:
        for name, (kind, example) in _SEVERAL.items():
            given = getattr(self, name)
            values = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (None,)
            if not all(isinstance(value, kind) for value in values):
                raise TypeError(f"{name}: expected a sequence, such as {example}, got {brief(given)}")
            object.__setattr__(self, name, values)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"study: expected at least one of {name}, each once, got {values}")
        for name in (*self.methods, self.reference):
            get_method(name)
        if get_method(self.reference).divergence is None:
            raise ValueError(f"reference: {self.reference} has no distillation term to match")
        check_finite_options(ce_weight=self.ce_weight)
        if not all(math.isfinite(x) and x > 0 for x in (*self.grid, self.ce_weight)):
            raise ValueError(f"study: expected positive grid and ce_weight, got {self.grid}, {self.ce_weight}")
        if unknown := set(self.ways) - set(WAYS):
            raise ValueError(f"ways: expected {', '.join(WAYS)}, got {', '.join(sorted(unknown))}")

    @property
    def taught(self) -> tuple[str, ...]:
        """The methods that have a distillation term on logits, whose weight can be matched."""
        return tuple(name for name in self.methods if get_method(name).divergence is not None)


@dataclass(frozen=True)
class _Task:
    """One run that the study wants, and the file that its record goes to."""

    way: str
    method: str
    seed: int
    options: tuple[tuple[str, float], ...]


def three_digits(x: float) -> float:
    return float(f"{x:.3g}")


def _warmup(method: str, epochs: int) -> dict[str, int]:
    """The published warm-up in proportion to the length of the run, as a recipe's milestones are."""
    row = get_method(method)
    published = {"warmup_epochs": row.warmup_epochs}
    if row.summands:
        published = {f"{summand.name}.warmup_epochs": summand.warmup_epochs for summand in row.summands}
    return {name: max(1, round(w * epochs / PUBLISHED_EPOCHS)) for name, w in published.items() if w}


def _options(method: str, settings: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """Only what differs from the published row, so that the same training is the same run by whatever way."""
    row = get_method(method)
    rows = {summand.name: summand for summand in row.summands}

    def published(name: str) -> float | None:
        of, _, setting = name.rpartition(".")
        return getattr(rows[of] if of else row, setting)

    return tuple(sorted((name, value) for name, value in settings.items() if published(name) != value))


class _Work:
    """A study under way: what there is, what is still to be done, and the runs that do it."""

    def __init__(self, study: Study, request: Request, resources: Resources, folder: Path):
        self.study, self.request, self.resources, self.folder = study, request, resources, folder
        assert not isinstance(request.data, str)
        assert isinstance(request.recipe, Recipe)  # both resolved
        self.data, self.recipe = request.data, request.recipe
        self.jobs: dict[_Task, Job] = {}
        self.bar: Any = False
        self.device: str | torch.device | None = resources.device

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: all but the data set, which lies there already, and what belongs to this one."""
        name = self.data.name
        request = replace(self.request, data=name)
        resources = replace(self.resources, progress=False, should_stop=never)
        return {
            **vars(self),
            "request": request,
            "resources": resources,
            "data": None,
            "jobs": {},
            "bar": False,
        }

    def settle(self, context: engines.Context) -> None:
        """Be at home in the process in which it was unpacked."""
        if not context.here:
            self.data = context.data_on(resolve_device(self.device))
            self.request = replace(self.request, data=self.data)
            self.resources = replace(self.resources, device=self.data.device, should_stop=context.should_stop)

    def requested(self, task: _Task) -> Request:
        """The run of the task, as its caller would have it."""
        return replace(self.request, method=task.method, seed=task.seed, options=dict(task.options))

    def job(self, task: _Task) -> Job:
        if task not in self.jobs:
            self.jobs[task] = plan_student(self.requested(task), replace(self.resources, progress=self.bar))
        return self.jobs[task]

    def records(self) -> dict[str, dict[str, Any]]:
        return {key_of(record["config"]): record for record in read_records(self.folder)}

    def failed(self) -> set[str]:
        """Keys of the runs that diverged."""
        return {failure["key"] for failure in read_failures(self.folder)}

    def published(self, method: str, seed: int) -> _Task:
        settings = _warmup(method, self.recipe.epochs)
        return _Task("published", method, seed, _options(method, settings))

    def weighted(self, way: str, method: str, seed: int, kd_weight: float) -> _Task:
        settings = {
            "kd_weight": kd_weight,
            "ce_weight": self.study.ce_weight,
            **_warmup(method, self.recipe.epochs),
        }
        return _Task(way, method, seed, _options(method, settings))

    def grid(self, method: str, matched: float) -> dict[float, _Task]:
        first = self.study.seeds[0]
        weights = [three_digits(multiple * matched) for multiple in self.study.grid]
        return {weight: self.weighted("chosen", method, first, weight) for weight in weights}

    def choices(
        self, matched: dict[str, float], done: dict[str, dict[str, Any]], failed: set[str]
    ) -> dict[str, dict[str, Any]]:
        """Of each method whose grid is complete: every weight's accuracy by validation (of text, nats), and the best weight.

        A weight at which training diverged is not chosen, and a method of which all did has no chosen weight.
        """
        found = {}
        for method in self.study.taught if "chosen" in self.study.ways else ():
            keys = {
                weight: self.job(task).config.key for weight, task in self.grid(method, matched[method]).items()
            }
            if all(key in done or key in failed for key in keys.values()):
                finished = {weight: done[key] for weight, key in keys.items() if key in done}
                if not finished:
                    continue
                measure = measures_of(next(iter(finished.values())))[0]
                value = {weight: run["result"][measure.validation] for weight, run in finished.items()}
                # Of equals the smallest weight: the least that does as well.
                best = min((-measure.sign * value[weight], weight) for weight in value)[1]
                grid = [{"kd_weight": weight, measure.validation: value[weight]} for weight in value]
                found[method] = {"kd_weight": best, "grid": grid}
        return found

    def tasks(self, matched: dict[str, float], choices: dict[str, dict[str, Any]]) -> Iterator[_Task]:
        """All tasks that can be named so far: seed by seed, so that a stopped study is a smaller one."""
        study = self.study
        for seed in study.seeds:
            if "published" in study.ways:
                yield from (self.published(method, seed) for method in study.methods)
            if "matched" in study.ways:
                for method in study.taught:
                    yield self.weighted("matched", method, seed, matched[method])
            if "chosen" in study.ways:
                if seed == study.seeds[0]:
                    for method in study.taught:
                        yield from self.grid(method, matched[method]).values()
                for method, choice in choices.items():
                    yield self.weighted("chosen", method, seed, choice["kd_weight"])


@torch.no_grad()
def _start(work: _Work) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the untrained student and of the teacher for the first images that the first seed shows, and labels."""
    data, seed = work.data, work.study.seeds[0]
    teacher = load_requested_teacher(work.request, work.resources).model.to(data.device)
    student = work.request.student.build(data.num_classes, data.channels, seed).to(data.device)
    student = student if student.training else student.train()  # but for parts that are to rest
    batches = student_views(data, work.recipe, seed).batches(1, work.recipe.batch_size)
    some = itertools.islice(batches, _NORM_BATCHES)
    networks = student, teacher
    outputs = [
        (*(logits_of_output(network(images)) for network in networks), labels) for images, labels in some
    ]
    of_student, of_teacher, labels = map(torch.cat, zip(*outputs, strict=True))
    return of_student, of_teacher, labels


def _gradient_norms(work: _Work) -> dict[str, float]:
    """Of every method at the start, by `gradient_norm`."""
    student, teacher, labels = _start(work)
    names = dict.fromkeys([*work.study.taught, work.study.reference])
    known = {"num_classes": work.data.num_classes, "epochs": work.recipe.epochs, "seed": work.study.seeds[0]}
    norms = {}
    for name in names:
        criterion = create_method(name, **fill_options(name, {}, **known))
        norms[name] = gradient_norm(criterion.to(student.device), student, teacher, labels)
    return norms


def read_plan(path: Path) -> dict[str, Any]:
    """What a study's folder says of it.

    Raises:
        ValueError: naming file and field, if it is damaged.
    """
    remedy = "delete it, and it is measured again; the records beside it stay"
    plan = read_record(path, _PLAN_FIELDS, remedy)
    if "push" in plan:  # as older versions called it
        plan["gradient_norm"] = plan.pop("push")
    check_fields(plan, _NORMS, path, remedy)
    return plan


def _plan(work: _Work) -> dict[str, Any]:
    """What the folder says of the study, or what it shall say from now on."""
    study, path = work.study, work.folder / PLAN
    with_teacher = (name for name in study.methods if get_method(name).needs_teacher)
    method = next(with_teacher, study.methods[0])
    some = work.job(work.published(method, study.seeds[0])).config.describe()
    config = {
        **{name: some[name] for name in ("model", "data", "recipe", "precision", "teacher")},
        **{name: some[name] for name in OF_NETWORK if name in some},
        "reference": study.reference,
        "grid": list(study.grid),
        "ce_weight": study.ce_weight,
        "first_seed": study.seeds[0],
    }
    norms: dict[str, float] = {}
    plan: dict[str, Any] = {}
    if path.is_file():
        plan = read_plan(path)
        known = plan["config"]
        if "architecture" not in known and (records := list(work.records().values())):
            # Older versions wrote these down in the records alone.
            known = {**{name: records[0]["config"].get(name) for name in OF_NETWORK}, **known}
        if known["teacher"] is None or config["teacher"] is None:  # of methods without one: any may join them
            config["teacher"] = known["teacher"] or config["teacher"]
            known = {**known, "teacher": config["teacher"]}
        different = sorted(key for key in {*config, *OF_NETWORK} if known.get(key) != config.get(key))
        if different:
            changes = "; ".join(f"{key} was {known.get(key)!r}, is {config.get(key)!r}" for key in different)
            raise ValueError(f"{path} is of another study: {changes}. Choose another folder.")
        norms = plan["gradient_norm"]
    wanted = (*study.taught, study.reference) if study.taught and {"matched", "chosen"} & {*study.ways} else ()
    if missing := [name for name in wanted if name not in norms]:
        log.info("measuring the gradient norm of %s at the start", ", ".join(dict.fromkeys(missing)))
        norms = {**_gradient_norms(work), **norms}
    published = {name: get_method(name).kd_weight for name in (*norms, *study.taught)}
    matched = {}
    if norms:
        of_reference = published[study.reference]
        assert of_reference is not None  # it has a divergence
        force = norms[study.reference] * of_reference
        matched = {name: three_digits(force / value) for name, value in norms.items()}
    return {
        "schema": 1,
        "kind": "study",
        "status": "complete",
        "config": config,
        "data": work.data.describe(),
        **environment(work.data.device),
        "started": plan.get("started", now()),
        "gradient_norm": norms,
        "published": published,
        "matched": matched,
        "chosen": plan.get("chosen", {}),
    }


@plain_torch()
def run_study(
    study: Study,
    folder: str | os.PathLike[str],
    teacher: str | os.PathLike[str] | Run | None = None,
    student: str | None = None,
    data: str | Dataset = "gratings",
    recipe: str | Recipe | None = None,
    *,
    retry_failed: bool = False,
    **options: Any,
) -> list[dict[str, Any]]:
    """Do what is still to be done of a study, and leave one record a run in `folder`.

    The folder holds ``study.json`` (the gradient norm of each method, the matched and the chosen weights) and the records of
    all runs, one a line, in ``published.jsonl``, ``matched.jsonl`` and ``chosen.jsonl``. A run of which a record is
    there is not repeated, wherever it was made. Several processes may work on one folder: each takes runs that no
    other is at. A run whose loss or weights become infinite or NaN is written down in ``failures.json`` (see
    `read_failures`) and not tried again.

    Args:
        study: what to compare.
        folder: of the records, to be kept.
        teacher, student, data, recipe: as for `adakd.distill`.
        retry_failed: try again what failed in earlier calls.
        options: anything else that `distill` takes: ``out``, the folder of the runs themselves, of caches and
            checkpoints, from which an interrupted run continues; ``device``; ``root`` and ``official`` of the data;
            ``progress``, one display for all runs; ``should_stop``; and settings of the recipe, of which
            ``validation_images`` is needed to choose weights. Besides ``engine``, where the runs are carried out (see
            `adakd.engine`); one after the other in this process when left out.

    Returns:
        The records of the study's runs so far.

    Raises:
        ValueError: for unknown names, recorded logits as the teacher where weights are to be matched or chosen, a folder of
            another study, or chosen weights without validation images.
        Exception: what `adakd.distill` raises.
        Interrupted: when `should_stop` says so, after saving.
    """
    if not isinstance(study, Study):
        raise TypeError(f"study: expected an adakd.study.Study, got {brief(study)}")
    engine = options.pop("engine", None)
    check_arguments(folder=folder, data=data, retry_failed=retry_failed, engine=engine)
    check_folder(folder=folder)
    folder = Path(folder)
    request, resources = split_options(options)
    name_of(data)
    data = resolve_data(data, resources.root, resources.official, resources.shows)
    request = replace(
        request,
        data=data,
        student=network_of(student or usual(data).student),
        teacher=teacher,
        recipe=recipe,
    )
    recipe = request.resolved_recipe("student")
    if "chosen" in study.ways and recipe.validation_images is None:
        raise ValueError(
            "study: to choose weights, hold images out (validation_images), or leave out the way 'chosen'"
        )
    request = replace(request, data=data.to(resources.device), recipe=recipe, changes={})
    work = _Work(study, request, resources, folder)
    work.device = options.get("device")  # of each worker's machine, where it is not this one
    first = [work.requested(work.published(method, study.seeds[0])) for method in study.methods]
    work.resources = with_one_teacher(first, resources)
    ensure_teacher(first, resources)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # whoever comes first measures
        remove_leftovers(folder, [PLAN, FAILURES])
        plan = _plan(work)
        write_record(folder / PLAN, plan)
        if retry_failed and (folder / FAILURES).is_file():
            (folder / FAILURES).unlink()
    with (
        step_bar(0, 0, "study", show=resources.progress) as work.bar,
        (engine or engines.Sequential()).open(work.data, should_stop=resources.should_stop) as pool,
    ):
        progressing = _Progress(work, plan["matched"])
        engines.work_off(
            pool,
            progressing.wanted,
            _refuse_error,
            should_stop=resources.should_stop,
            state=progressing.state,
        )
        return progressing.records()


class _Progress:
    """What a study under way still wants, looked up in its records whenever a run has ended."""

    def __init__(self, work: _Work, matched: dict[str, float]):
        self.work, self.matched = work, matched
        self.tasks: dict[str, _Task] = {}
        self.done: dict[str, dict[str, Any]] = {}

    def wanted(self) -> list[engines.Task]:
        work = self.work
        self.done, failed = work.records(), work.failed()
        choices = work.choices(self.matched, self.done, failed)
        self.tasks = {}
        for task in work.tasks(self.matched, choices):  # what several ways have in common is done for the first
            self.tasks.setdefault(work.job(task).config.key, task)
        _note_choices(work.folder, choices)
        waiting = [key for key in self.tasks if key not in self.done and key not in failed]
        _show(work, len(self.tasks) - len(waiting), len(self.tasks))
        return [engines.Task(key, _carry_out, (work, key, self.tasks[key])) for key in waiting]

    def state(self) -> str:
        done = len(self.work.records().keys() & self.tasks.keys())
        return f"{done} of {len(self.tasks)} records are in {self.work.folder}"

    def records(self) -> list[dict[str, Any]]:
        return [self.done[key] for key in self.tasks if key in self.done]


def _refuse_error(outcome: engines.Outcome) -> None:
    if outcome.error is not None:
        raise outcome.error


def _carry_out(context: engines.Context, work: _Work, key: str, task: _Task) -> None:
    """Carry a task out, and leave its record, or the note that it failed.

    Raises:
        BusyError: if another process is at it.
    """
    work.settle(context)
    with engines.claimed(Path(work.resources.out, "claims"), key):
        if key in work.records() or key in work.failed():  # another process was just at it
            return
        job = work.job(task)
        engines.refuse_other_run(job.config.key, key)
        try:
            record = job().record
        except FloatingPointError as error:
            _note_failure(work, key, task, error)
        else:
            append_record(work.folder / f"{task.way}.jsonl", record)


def read_failures(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The runs of a study that diverged, in the order in which they did.

    Each a mapping: way, method, seed, ce_weight, kd_weight (None of a sum), error, when, and the key by which the run is
    known.

    Raises:
        ValueError: if the file that holds them is damaged.
    """
    check_path("a folder", folder=folder)
    path = Path(folder, FAILURES)
    if not path.is_file():
        return []
    failures = read_record(path, {"failures": [_FAILURE_FIELDS]}, "delete it, and what failed is tried again")[
        "failures"
    ]
    return [{name: failure[name] for name in _FAILURE_FIELDS} for failure in failures]


_FAILURE_FIELDS = {
    **dict.fromkeys(("key", "way", "method", "error", "when"), str),
    "seed": int,
    "ce_weight": (int, float),
    "kd_weight": (int, float, type(None)),  # a sum has one for each term
}


def _note_failure(work: _Work, key: str, task: _Task, error: FloatingPointError) -> None:
    row, options = get_method(task.method), dict(task.options)
    weights = {name: options.get(name, getattr(row, name)) for name in ("ce_weight", "kd_weight")}
    failure = {
        "key": key,
        "way": task.way,
        "method": task.method,
        "seed": task.seed,
        **weights,
        "error": str(error),
        "when": now(),
    }
    log.warning(
        "%s at %s weights, seed %d failed (%s); the others go on", task.method, task.way, task.seed, error
    )
    with FileLock(work.folder / ".lock"):
        failures = [other for other in read_failures(work.folder) if other["key"] != key]
        write_record(
            work.folder / FAILURES, {"schema": 1, "kind": "failures", "failures": [*failures, failure]}
        )


def _note_choices(folder: Path, choices: dict[str, dict[str, Any]]) -> None:
    """Write down what validation has chosen, beside what other methods' processes have written down."""
    with FileLock(folder / ".lock"):
        plan = read_plan(folder / PLAN)
        if any(plan["chosen"].get(name) != choice for name, choice in choices.items()):
            write_record(folder / PLAN, {**plan, "chosen": {**plan["chosen"], **choices}})


def _show(work: _Work, done: int, all_tasks: int) -> None:
    """The display counts steps of all runs known so far; more follow once weights are chosen."""
    steps = steps_of(work.data, work.recipe)
    work.bar.total, work.bar.n = all_tasks * steps, done * steps
    work.bar.refresh()
