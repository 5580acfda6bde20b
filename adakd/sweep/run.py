"""A grid carried out: missing teachers first, then every student that has no record, on an engine, until none is left."""

import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Unpack

import torch
from filelock import FileLock

from .._check import brief, check_folder, check_path
from .._progress import Bar, progress_bar
from ..data import DataError, Dataset, load_data, name_of, resolve_data
from ..engine import Context, Engine, Outcome, Pool, Sequential, Task, claimed, refuse_other_run, work_off
from ..models.network import is_model
from ..plan import Request, check_arguments, check_student, plan_student, plan_teacher, resources_of
from ..runs import ResourceOptions, Resources, open_run, resolve_device
from ..runs.folder import RECORD
from ..study import append_record, read_records
from ..study.records import FolderResults
from ..teachers import Teacher, find_teacher, load_teacher
from ..training.files import read_record, remove_leftovers, write_record
from ..training.precision import plain_torch
from ..training.record import key_of, now
from .estimate import live
from .grid import Cell, Grid
from .table import LiveTable

__all__ = ["SweepResults", "read_sweep_failures", "run_sweep"]

log = logging.getLogger("adakd")

PLAN, RECORDS, FAILURES, CLAIMS = "sweep.json", "sweep.jsonl", "failures.json", "claims"
_PLAN_FIELDS = {"data": str, "teachers": {...: str}}
_FAILURE_FIELDS = dict.fromkeys(("key", "run", "error", "when"), str)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class SweepResults:
    """What a sweep has come to."""

    grid: Grid
    folder: Path
    """Of the records."""
    accuracy: Mapping[Cell, float]
    """Of each run that is done: test accuracy after the last epoch, in percent."""
    errors: Mapping[Cell, BaseException | str] = field(default_factory=dict)
    """Of each run that failed, now or in an earlier call."""

    @property
    def records(self) -> list[dict[str, Any]]:
        """Of all runs in the folder."""
        return read_records(self.folder)


@dataclass(frozen=True)
class _Order:
    """What workers are given to know of a sweep."""

    grid: Grid
    out: str
    folder: Path
    device: str | torch.device | None
    capture: bool | None
    cache: str | None
    teachers: Mapping[str, str] = field(default_factory=dict)
    """Folders of the teachers' runs, by what the grid calls them."""
    display: Bar = field(default_factory=partial(progress_bar, False))
    """Hidden, and shared: what all runs of a process would say alike, the first says for all."""

    def resources(self, context: Context) -> tuple[Dataset, Resources]:
        """Data and resources, in the process in which a run is carried out.

        Raises:
            ValueError: if the sweep's folder is not the one that it was given out in.
        """
        data = context.data_on(resolve_device(self.device))
        if not context.here and not self.folder.is_dir():
            raise ValueError(
                f"engine: {self.folder} is not there on this machine; give folders that all machines share (--out, --records)"
            )
        return data, Resources(
            self.out,
            data.device,
            cache=self.cache,
            capture=self.capture,
            progress=self.display,
            should_stop=context.should_stop,
        )

    def of_student(self, cell: Cell, data: Dataset, context: Context | None = None) -> Request:
        """The request of a cell of the grid."""
        grid = self.grid
        teacher = self.teachers.get(cell.teacher, cell.teacher) if cell.teacher is not None else None
        epochs = grid.student_recipe(cell.student, dict(cell.changes)).epochs
        callback = _reporter(context, cell, epochs) if context is not None else None
        return Request(
            data,
            cell.student,
            cell.method,
            dict(cell.options),
            grid.recipe,
            {**grid.settings, **dict(cell.changes)},
            cell.seed,
            grid.precision,
            teacher,
            on_epoch=callback,
        )

    def of_teacher(self, name: str, data: str | Dataset, context: Context | None = None) -> Request:
        """The request of a teacher that is missing."""
        settings = {key: value for key, value in self.grid.teacher.items() if key not in ("recipe", "seed")}
        epochs = self.grid.teacher_recipe(name).epochs
        return Request(
            data,
            name,
            recipe=self.grid.teacher.get("recipe") or self.grid.recipe,
            changes=settings,
            seed=self.grid.teacher.get("seed", 0),
            precision=self.grid.precision,
            on_epoch=_reporter(context, f"teacher {name}", epochs) if context is not None else None,
        )


def _reporter(context: Context, what: Cell | str, epochs: int) -> Callable[[dict[str, Any]], None]:
    name = what.name if isinstance(what, Cell) else what

    def on_epoch(row: dict[str, Any]) -> None:
        measured = f", {row['test_accuracy']:.2f} %" if "test_accuracy" in row else ""
        context.report(f"{name}, epoch {row['epoch']} of {epochs}{measured}")

    return on_epoch


# ---- what workers do ----


@contextmanager
def _full_disk_unwrapped() -> Iterator[None]:
    """A full disk is an OSError whatever it was wrapped in: it is everybody's, and no run's own."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in _FULL:
                raise OSError(cause.errno, cause.strerror, cause.filename) from None
            cause = cause.__cause__ or cause.__context__
        raise


def _plan_all(context: Context, order: _Order) -> dict[str, Any]:
    """Everything that can be known before training: of each cell, its run; of each teacher, its folder.

    Raises:
        Exception: whatever is wrong with any of the runs.
    """
    data, resources = order.resources(context)
    cells = order.grid.cells()
    teachers, missing = dict(order.teachers), []
    for name in dict.fromkeys(cell.teacher for cell in cells if cell.teacher is not None):
        folder = _teacher_folder(order, name, data, resources)
        teachers[name] = str(folder)
        if not (folder / RECORD).is_file():
            missing.append(name)
    order = replace(order, teachers=teachers)
    identities: dict[tuple[Any, ...], dict[str, Any]] = {}
    runs, keys = {}, {}
    for cell in cells:
        config = check_student(order.of_student(cell, data), resources).describe()
        runs[cell] = key_of(config)
        if cell.teacher is None:
            keys[cell] = runs[cell]
        elif cell.teacher not in missing:
            same = (cell.teacher, cell.student, cell.changes)  # by which the format of its logits may differ
            if same not in identities:
                identities[same] = _identity(order, cell, data)
            keys[cell] = key_of({**config, "teacher": identities[same]})
    return {"teachers": teachers, "missing": missing, "runs": runs, "keys": keys}


def _teacher_folder(order: _Order, name: str, data: Dataset, resources: Resources) -> Path:
    """Where a teacher's finished run is, or will be."""
    if name in order.teachers:  # as an earlier call has settled
        return Path(order.teachers[name])
    if not is_model(name):
        return open_run(name).folder
    planned = plan_teacher(order.of_teacher(name, data), resources).folder
    if (planned / RECORD).is_file() or order.grid.teacher:
        return planned
    found = find_teacher(name, data.name, order.out)
    return planned if found is None else found.folder


def _identity(order: _Order, cell: Cell, data: Dataset) -> dict[str, Any]:
    """What a cell's config says of its teacher."""
    run = open_run(order.teachers[str(cell.teacher)])
    teacher: Teacher = load_teacher(run, run, data)
    if order.cache:
        recipe = order.grid.student_recipe(cell.student, dict(cell.changes))
        teacher = teacher.with_cache(data, recipe, order.cache, order.grid.precision)
    return teacher.identity


def _train_teacher(context: Context, order: _Order, name: str) -> None:
    with _full_disk_unwrapped():
        data, resources = order.resources(context)
        job = plan_teacher(order.of_teacher(name, data, context), resources)
        if job.folder != Path(order.teachers[name]):
            refuse_other_run(str(job.folder), order.teachers[name])
        context.report(f"teacher {name}")
        job()


@lru_cache(maxsize=8)
def _results_of(folder: Path) -> FolderResults:
    """What this process knows of a folder, so that a sweep of thousands of runs reads each record once a process."""
    return FolderResults(folder)


def _carry_out(context: Context, order: _Order, cell: Cell, run: str) -> float:
    """The accuracy of a cell's run, of which there is a record now.

    Raises:
        BusyError: if another process is at it.
    """
    with _full_disk_unwrapped():
        data, resources = order.resources(context)
        job = plan_student(order.of_student(cell, data, context), resources)
        config = job.config.describe()
        refuse_other_run(key_of({**config, "teacher": None}), run)
        key = job.config.key
        with claimed(order.folder / CLAIMS, key):
            known = _results_of(order.folder).by_key()
            if key in known:  # another process was just at it, or the records are all that was kept
                return float(known[key]["last"])
            context.report(cell.name)
            try:
                record = job().record
            except FloatingPointError as error:
                _note_failure(order.folder, key, cell, error)
                raise
            append_record(order.folder / RECORDS, record)
            return float(record["result"]["last"])


# ---- what failed ----


def read_sweep_failures(folder: str | os.PathLike[str]) -> dict[str, str]:
    """Of each run of a sweep that diverged, by its key: why.

    Raises:
        ValueError: if the file that holds them is damaged.
    """
    check_path("a folder", folder=folder)
    return {failure["key"]: failure["error"] for failure in _failures(Path(folder, FAILURES))}


def _failures(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    remedy = "delete it, and what failed is tried again"
    return read_record(path, {"failures": [_FAILURE_FIELDS]}, remedy)["failures"]


def _note_failure(folder: Path, key: str, cell: Cell, error: Exception) -> None:
    failure = {"key": key, "run": cell.name, "error": str(error), "when": now()}
    with FileLock(folder / ".lock"):
        others = [other for other in _failures(folder / FAILURES) if other["key"] != key]
        write_record(folder / FAILURES, {"schema": 1, "kind": "failures", "failures": [*others, failure]})


# ---- the sweep ----


@plain_torch()
def run_sweep(
    grid: Grid,
    *,
    records: str | os.PathLike[str] | None = None,
    engine: Engine | None = None,
    retry_failed: bool = False,
    **options: Unpack[ResourceOptions],
) -> SweepResults:
    """Do what is still to be done of a grid, and leave one record a run.

    The folder of the records holds ``sweep.jsonl``, a record a line, and ``sweep.json``, which says which teachers it was
    begun with. A run of which a record is there is not repeated; one that was interrupted goes on from its checkpoint. So
    repeating the call continues the sweep, whatever ended it, and several may work on one folder at once. Teachers that are
    missing are trained first; their students wait. A run that fails does not stop the others. One that diverged is written
    down in ``failures.json`` and not tried again.

    Args:
        grid: what to run; see `read_grid`.
        records: folder of the records, to be kept; ``<out>/sweeps/<name of the grid>`` when left out.
        engine: where runs are carried out (see `adakd.engine`); one after the other in this process when left out.
        retry_failed: try again what diverged in earlier calls.
        options: as for `adakd.distill`: ``out``, the folder of the runs themselves, of caches and checkpoints; ``device``,
            "cuda", "cpu" or "auto", on each worker's machine; ``capture``; ``root`` and ``official`` of the data;
            ``progress``, a table while it is under way; ``should_stop``, called after every step: when it returns True,
            what is under way is saved and `Interrupted` raised.

    Returns:
        The accuracies, and the errors of runs that failed.

    Raises:
        ValueError: for a grid that does not fit the data, or a folder of a sweep of other data.
        TeacherError: if there are several finished runs of a teacher; give the folder of one.
        OSError: if the disk is full; what was saved stays, and repeating the call goes on.
        Interrupted: when `should_stop` says so.
    """
    if not isinstance(grid, Grid):
        raise TypeError(f"grid: expected an adakd.sweep.Grid, such as read_grid(file) gives, got {brief(grid)}")
    check_arguments(engine=engine, retry_failed=retry_failed)
    device = options.pop("device", None)  # of each worker's machine: this one may have no GPU
    check_arguments(device=device)
    resources = resources_of(options, ResourceOptions.__optional_keys__)
    folder = Path(records if records is not None else Path(resources.out, "sweeps", grid.name)).absolute()
    check_folder(records=folder)
    engine = engine or Sequential()
    name_of(grid.data)
    data = resolve_data(grid.data, resources.root, resources.official, resources.shows)
    cache = None if live(grid) else grid.cache
    order = _Order(grid, str(Path(resources.out).absolute()), folder, device, resources.capture, cache)
    should_stop = resources.should_stop
    with LiveTable(grid.cells(), resources.shows) as table:
        with engine.open(
            data, should_stop=should_stop, report=lambda name, what: table.at(name, str(what))
        ) as pool:
            folder.mkdir(parents=True, exist_ok=True)
            sweep = _Sweep(_settled(pool, order, retry_failed), table, pool)
            work_off(
                pool, sweep.wanted, sweep.ended, should_stop=should_stop, on_tick=sweep.show, state=sweep.state
            )
        return SweepResults(grid, folder, table.accuracy, sweep.errors)


@plain_torch()
def plan_sweep(
    grid: Grid,
    out: str | os.PathLike[str],
    records: str | os.PathLike[str] | None,
    *,
    device: str | torch.device | None = None,
    root: str | os.PathLike[str] | None = None,
    official: bool = True,
) -> tuple[set[Cell], list[str], dict[str, str]]:
    """What `run_sweep` would find: cells that are done, teachers that are missing, and the networks of teachers by folder.

    Nothing is written, and nothing downloaded: without the data, by whose checksum a run is known, none is known to be done.
    """
    folder = Path(records if records is not None else Path(out, "sweeps", grid.name)).absolute()
    check_folder(records=folder)
    try:
        data = load_data(grid.data, root, download=False, official=official, progress=False)
    except DataError as error:
        text = str(error).replace("download=False", "--dry-run downloads nothing")  # as the command has it
        log.warning("%s; so none of the runs is known to be done, and no teacher to be there", text)
        teachers = dict.fromkeys(cell.teacher for cell in grid.cells() if cell.teacher is not None)
        return set(), [name for name in teachers if is_model(name)], _models(teachers)
    order = _Order(grid, str(Path(out).absolute()), folder, device, None, None if live(grid) else grid.cache)
    if (folder / PLAN).is_file():
        order = replace(order, teachers=_read_plan(folder, grid)["teachers"])
    planned = _plan_all(Context(data, here=True), order)
    known = {key_of(record["config"]) for record in read_records(folder)} if folder.is_dir() else set()
    done = {cell for cell, key in planned["keys"].items() if key in known}
    return done, planned["missing"], _models(planned["teachers"])


def _models(teachers: Iterable[str]) -> dict[str, str]:
    """Of teachers that are folders, the networks."""
    return {name: open_run(name).record["config"]["model"] for name in teachers if not is_model(name)}


def _read_plan(folder: Path, grid: Grid) -> dict[str, Any]:
    remedy = "delete it; the sweep then looks for its teachers again, and the records beside it stay"
    plan: dict[str, Any] = read_record(folder / PLAN, _PLAN_FIELDS, remedy)
    if plan["data"] != grid.data:
        raise ValueError(
            f"{folder} holds a sweep of {plan['data']}, and the grid is of {grid.data}; choose another folder (--records)"
        )
    return plan


@dataclass
class _Settled:
    """A sweep whose teachers are settled and whose runs are known."""

    order: _Order
    missing: list[str]
    runs: dict[Cell, str]
    """By cell, the digest of its run without the teacher."""
    accuracy: dict[Cell, float]
    failed: dict[Cell, str]


def _settled(pool: Pool, order: _Order, retry_failed: bool) -> _Settled:
    """Plan where the runs will be carried out, and agree with whoever else works on the folder."""
    folder = order.folder
    with FileLock(folder / ".lock"):  # whoever comes first settles the teachers
        remove_leftovers(folder, [PLAN, FAILURES])
        if (folder / PLAN).is_file():
            order = replace(order, teachers=_read_plan(folder, order.grid)["teachers"])
        if retry_failed:
            (folder / FAILURES).unlink(missing_ok=True)
        found: list[Outcome] = []
        work_off(pool, lambda: [] if found else [Task("plan", _plan_all, (order,))], found.append)
        if found[0].error is not None:
            raise found[0].error
        planned = found[0].result
        order = replace(order, teachers={**order.teachers, **planned["teachers"]})
        write_record(
            folder / PLAN,
            {
                "schema": 1,
                "kind": "sweep",
                "data": order.grid.data,
                "grid": order.grid.describe(),
                "teachers": dict(order.teachers),
            },
        )
        failures = read_sweep_failures(folder)
    known = {key_of(record["config"]): record["result"]["last"] for record in read_records(folder)}
    keys = planned["keys"]
    return _Settled(
        order,
        planned["missing"],
        planned["runs"],
        {cell: float(known[key]) for cell, key in keys.items() if key in known},
        {cell: failures[key] for cell, key in keys.items() if key in failures and key not in known},
    )


class _Sweep:
    """A sweep under way: what has ended, and what can begin."""

    def __init__(self, settled: _Settled, table: LiveTable, pool: Pool):
        self.order, self.table, self.pool, self.runs = settled.order, table, pool, settled.runs
        self.cells = {f"{i}": cell for i, cell in enumerate(settled.order.grid.cells())}
        self.missing = set(settled.missing)
        self.ends: set[Cell] = {*settled.accuracy, *settled.failed}
        self.errors: dict[Cell, BaseException | str] = dict(settled.failed)
        for cell in settled.failed:
            table.failed.add(cell)
        table.begin(settled.accuracy)

    def wanted(self) -> list[Task]:
        """Teachers that are missing first; then students whose teacher is there."""
        teachers = [
            Task(f"teacher {name}", _train_teacher, (self.order, name)) for name in sorted(self.missing)
        ]
        students = [
            Task(name, _carry_out, (self.order, cell, self.runs[cell]))
            for name, cell in self.cells.items()
            if cell not in self.ends and cell.teacher not in self.missing
        ]
        return [*teachers, *students]

    def ended(self, outcome: Outcome) -> None:
        error = outcome.error
        if isinstance(error, OSError) and error.errno in _FULL:
            raise OSError(
                error.errno,
                f"{error.strerror}; the sweep stops, and what was saved stays ({self.state()}): free some space, and repeat "
                "the command",
                error.filename,
            )
        name = outcome.task.name
        if name not in self.cells:
            self._teacher_ended(name.removeprefix("teacher "), error)
            return
        cell = self.cells[name]
        self.ends.add(cell)
        if error is not None:
            self.errors[cell] = error
        self.table.end(cell, outcome.result, error)

    def _teacher_ended(self, name: str, error: BaseException | None) -> None:
        self.missing.discard(name)
        if error is None:
            log.info("teacher %s is trained: %s", name, self.order.teachers[name])
            return
        log.warning("teacher %s failed (%s); its students are left out", name, error)
        for cell in self.cells.values():
            if cell.teacher == name and cell not in self.ends:
                self.ends.add(cell)
                self.errors[cell] = error
                self.table.failed.add(cell)

    def show(self) -> None:
        names = self.pool.under_way
        self.table.under_way({name: self.cells[name].name if name in self.cells else name for name in names})

    def state(self) -> str:
        """How far it is."""
        return f"{len(self.table.accuracy)} of {len(self.cells)} records are in {self.order.folder}"
