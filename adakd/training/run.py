"""Runs by name: find the data and the teacher, train, and leave a folder with weights and a record."""

import contextlib
import json
import logging
import math
import operator
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn
from tqdm.auto import tqdm

from .._check import check_name, near_names, printable
from ..data import DATASETS, ImageData, Split, load_data
from ..methods import create_method, get_method, options_of
from ..models import MODELS, create_model
from ..objective import LogitObjective
from .cache import DTYPES, ViewCache, fits, open_cache
from .capture import choose_capture
from .files import (
    WeightsError,
    check_fields,
    load_weights,
    read_json,
    read_record,
    refuse_folders,
    remove_leftovers,
    save_weights,
    sha256_of,
    write_record,
)
from .fit import Together, evaluate_model, exhaust, fit_in_turns, steps_of, student_views
from .precision import Precision, choose_precision
from .recipe import Recipe, get_recipe
from .record import RUN_FIELDS, contradiction, environment, key_of, now

__all__ = [
    "BusyError",
    "Job",
    "Run",
    "TeacherError",
    "cache_teacher",
    "distill",
    "evaluate",
    "evaluate_weights",
    "find_teacher",
    "open_run",
    "resolve_device",
    "train_teacher",
]

log = logging.getLogger("adakd")

SCHEMA = 1
RECORD, CHECKPOINT, WEIGHTS = "record.json", "checkpoint.pt", "weights.safetensors"
LOCK = ".lock"
SESSIONS = "sessions.json"  # when, where and by which commit an unfinished run was worked on
_UNFINISHED = (CHECKPOINT, SESSIONS)
_FILES = (RECORD, WEIGHTS, *_UNFINISHED)
# What trains on each set when nobody says otherwise: fits two CPU cores, except the paper's own pair.
DEFAULT_TEACHER = {"gratings": "resnet14", "cifar10": "wrn_16_2", "cifar100": "wrn_16_2"}
DEFAULT_STUDENT = {"gratings": "resnet8x0.5", "cifar10": "resnet8", "cifar100": "resnet8"}
DEFAULT_RECIPE = {"gratings": "demo", "cifar10": "quick", "cifar100": "quick"}


class TeacherError(RuntimeError):
    """The teacher named is not trained yet, or there are several of that name."""


class BusyError(RuntimeError):
    """Another process is training this very run."""


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its record."""

    folder: Path
    record: dict[str, Any]

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last epoch, in percent."""
        return self.record["result"]["last"]

    @property
    def history(self) -> list[dict[str, Any]]:
        """One row an epoch."""
        return self.record["history"]

    def model(self) -> nn.Module:
        """The trained network, in evaluation mode, on the CPU.

        Raises:
            WeightsError: if its weights are missing, or not those that the record names by their hash.
        """
        name, classes = self.record["config"]["model"], self.record["data"]["classes"]
        return _loaded(name, classes, self.folder / WEIGHTS, self.record.get("weights_sha256")).eval()

    def __repr__(self) -> str:
        config = self.record["config"]
        return f"Run({config['model']}, {config['method']}, {self.accuracy:.2f}%)"


def resolve_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, else a CUDA GPU where there is one, else the CPU.

    Raises:
        ValueError: for CUDA where there is none, or a name torch does not know.
    """
    if device in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device: expected 'cuda', 'cpu' or 'auto', got {device!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected 'cuda', 'cpu' or 'auto', got {str(device)!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: 'cuda' was asked for, but torch finds no CUDA GPU; use 'cpu'")
    return device


def _load(data: str | ImageData, root: str | os.PathLike | None, official: bool) -> ImageData:
    return data if isinstance(data, ImageData) else load_data(data, root, official=official)


def _check_name(kind: str, name: str, known) -> None:
    if name not in known:
        raise ValueError(near_names(kind, name, known))


def seeded_model(name: str, num_classes: int, seed: int) -> nn.Module:
    """Fresh weights that depend on the seed alone, without touching the caller's random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_model(name, num_classes)


def _loaded(name: str, num_classes: int, weights: Path, sha256: str | None) -> nn.Module:
    _check_name("model", name, MODELS)
    model = seeded_model(name, num_classes, seed=0)  # overwritten at once
    return load_weights(model, weights, sha256=sha256, name=f"{name} ({num_classes} classes)")


def _checked_seed(seed: int) -> int:
    seed = operator.index(seed)
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: expected an integer from 0 to 2^63 - 1, got {seed}")
    return seed


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """The same options in JSON's own types, so that what trains can also be recorded; infinity becomes "inf"."""
    text = {name: "inf" if value == math.inf else value for name, value in options.items()}
    try:
        return json.loads(json.dumps(text, allow_nan=False, default=lambda value: value.item()))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"method_options: expected numbers and texts that a record can hold, got {options}"
        ) from error


def _folder(out: str | os.PathLike, config: dict[str, Any]) -> Path:
    """runs/<data>/<model>/<method>-<recipe>-seed<seed>-<digest of everything>."""
    recipe = config["recipe"]["name"]
    for kind, name in (("data set", config["data"]["name"]), ("model", config["model"]), ("recipe", recipe)):
        check_name(kind, name)  # none of them leads out of `out`
    leaf = f"{config['method']}-{recipe}-seed{config['seed']}-{key_of(config)[:8]}"
    return Path(out) / config["data"]["name"] / config["model"] / leaf


def open_run(folder: str | os.PathLike) -> Run:
    """Open a finished run.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
        ValueError: if its record is damaged.
    """
    folder = Path(folder)
    if not (folder / RECORD).is_file():
        unfinished = (folder / CHECKPOINT).is_file()
        raise FileNotFoundError(
            f"{folder} holds no finished run"
            + ("; it was interrupted: repeat its command to continue it" if unfinished else "")
        )
    remedy = "delete it and repeat the run"
    record = read_record(folder / RECORD, RUN_FIELDS, remedy)
    if problem := contradiction(record):
        raise ValueError(f"{folder / RECORD} is damaged ({printable(problem)}); {remedy}")
    return Run(folder, record)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process trains in this folder meanwhile: two would overwrite each other's checkpoints.

    Raises:
        BusyError: if one does.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"another process is training in {folder}; wait for it, or choose another folder"
        ) from None
    except NotImplementedError:  # a file system without locks
        log.info("%s cannot be locked: let no other process train there", folder)
    try:
        yield
    finally:
        lock.release()


def _criterion(
    method: str, options: dict[str, Any], recipe: Recipe, data: ImageData, seed: int
) -> LogitObjective:
    """The method as configured; what it wants to know of the run, and nobody said, it is told."""
    known = {"epochs": recipe.epochs, "num_classes": data.num_classes, "seed": seed}
    wanted = {key: value for key, value in known.items() if key in options_of(method)}
    return create_method(method, **{**wanted, **options})


def _sessions(
    folder: Path, device: torch.device, captured: bool, together: Together | None
) -> list[dict[str, Any]]:
    """Earlier sessions of an unfinished run and this one, which begins: a run may change commit and machine."""
    path = folder / SESSIONS
    earlier = _earlier_sessions(path) if path.is_file() and (folder / CHECKPOINT).is_file() else []
    # Of runs that share a live teacher, its time is in the seconds of whichever came to a step first.
    shared = {"runs_of_one_teacher": together.runs} if together else {}
    sessions = [*earlier, {"started": now(), "captured": captured, **shared, **environment(device)}]
    write_record(path, {"begun": sessions})
    return sessions


def _earlier_sessions(path: Path) -> list[dict[str, Any]]:
    remedy = "delete it: the run goes on from its checkpoint, and forgets where its earlier sessions were"
    sessions = [{"started": str, "commit": str}]
    if isinstance(found := read_json(path, remedy), list):  # from before it had a checksum
        found = {"begun": found}
        check_fields(found, {"begun": sessions}, path, remedy)
    else:
        found = read_record(path, {"begun": sessions}, remedy)
    if not found["begun"]:
        raise ValueError(f"{path} is damaged (it names no session, and a checkpoint has one); {remedy}")
    return found["begun"]


def _tidy(folder: Path) -> None:
    """Remove what a process left that was killed between its record and its cleaning up."""
    with contextlib.suppress(OSError, BusyError):  # whoever may only read, or is not alone, leaves it
        if any((folder / name).exists() for name in _UNFINISHED) or any(folder.glob(".*")):
            with _alone(folder):
                if (folder / RECORD).is_file():  # still: someone may have begun it afresh
                    _clean(folder)


def _clean(folder: Path) -> None:
    """Of a finished run nothing stays but its weights and its record."""
    remove_leftovers(folder, _FILES)
    for name in (*_UNFINISHED, LOCK):
        (folder / name).unlink(missing_ok=True)


def _carry_out(
    config: dict[str, Any],
    criterion: LogitObjective,
    *,
    kind: str,
    data: ImageData,
    recipe: Recipe,
    precision: Precision,
    out: str | os.PathLike,
    label: str,
    progress: bool | tqdm,
    fresh: bool,
    capture: bool | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    teacher: Callable[[], nn.Module | ViewCache] | None = None,
    teacher_fields: Callable[[], dict[str, Any]] | None = None,
    stop: list[int] | None = None,
    together: Together | None = None,
) -> Generator[int, None, Run]:
    """Train as `config` says, in the folder that belongs to it; a finished run is opened and not repeated.

    Pauses before every epoch, as `fit_in_turns` does.
    """
    folder = _folder(out, config)

    def finished() -> Run:
        if isinstance(progress, tqdm):  # the display of several runs counts the steps of this one too
            progress.update(steps_of(data, recipe))
        return _reopened(folder, config)

    if (folder / RECORD).is_file() and not fresh:
        log.info("%s is finished already: %s", label, folder)
        _tidy(folder)
        return finished()
    # Before any work: a folder that cannot be written must not be found out at the first checkpoint.
    folder.mkdir(parents=True, exist_ok=True)
    refuse_folders(folder, _FILES)
    with _alone(folder):
        remove_leftovers(folder, _FILES)
        if fresh:
            for name in _FILES:
                (folder / name).unlink(missing_ok=True)
        if (folder / RECORD).is_file():  # by a process that has just finished it
            return finished()
        return (
            yield from _train(
                folder,
                config,
                criterion,
                kind=kind,
                data=data,
                recipe=recipe,
                precision=precision,
                label=label,
                progress=progress,
                capture=capture,
                on_epoch=on_epoch,
                teacher=teacher,
                teacher_fields=teacher_fields,
                stop=stop,
                together=together,
            )
        )


def _reopened(folder: Path, config: dict[str, Any]) -> Run:
    """The finished run in the folder that belongs to this configuration."""
    run = open_run(folder)
    if key_of(run.record["config"]) != key_of(config):
        raise ValueError(
            f"{folder / RECORD} is damaged (field 'config' is of another run than its folder's name says); "
            "delete it and repeat the run"
        )
    return run


def _train(
    folder: Path,
    config: dict[str, Any],
    criterion: LogitObjective,
    *,
    kind: str,
    data: ImageData,
    recipe: Recipe,
    precision: Precision,
    label: str,
    progress: bool | tqdm,
    capture: bool | None,
    on_epoch: Callable[[dict[str, Any]], None] | None,
    teacher: Callable[[], nn.Module | ViewCache] | None,
    teacher_fields: Callable[[], dict[str, Any]] | None,
    stop: list[int] | None,
    together: Together | None,
) -> Generator[int, None, Run]:
    """Train, and leave weights and record in the folder."""
    captured, reason = choose_capture(capture, data.device)
    log.info("%s on %s in %s (%s)", label, data.device, precision.name, precision.reason)
    level = logging.DEBUG if capture is None and not captured else logging.INFO  # the usual needs no word
    log.log(level, "  steps %s (%s)", "captured" if captured else "one operation at a time", reason)
    about_teacher = teacher_fields() if teacher_fields else None
    sessions = _sessions(folder, data.device, captured, together)
    model = seeded_model(config["model"], data.num_classes, config["seed"])
    history, seconds = yield from fit_in_turns(
        model,
        data,
        recipe,
        criterion,
        seed=config["seed"],
        checkpoint=folder / CHECKPOINT,
        config=config,
        precision=precision,
        teacher=teacher() if teacher else None,
        capture=captured,
        label=label,
        progress=progress,
        on_epoch=on_epoch,
        stop=stop,
        together=together,
    )
    save_weights(model, folder / WEIGHTS)
    measured = [row for row in history if "test_accuracy" in row]
    best = max(measured, key=lambda row: row["test_accuracy"])
    record = {
        "schema": SCHEMA,
        "kind": kind,
        "status": "complete",
        "config": config,
        "seed": config["seed"],
        "data": data.describe(),
        "teacher": about_teacher,
        **environment(data.device),
        "started": sessions[0]["started"],
        "finished": now(),
        "sessions": sessions,
        "seconds": seconds,
        "result": {
            "last": measured[-1]["test_accuracy"],
            "best": best["test_accuracy"],
            "best_epoch": best["epoch"],
            "test_images": len(data.test),
            **_validation_result(measured[-1], recipe),
        },
        "weights_sha256": sha256_of(folder / WEIGHTS),
        "history": history,
    }
    record = write_record(folder / RECORD, record)
    _clean(folder)
    return Run(folder, record)


def _validation_result(last: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    if recipe.validation_images is None:
        return {}
    return {"validation": last["validation_accuracy"], "validation_images": recipe.validation_images}


def _config(
    model: str,
    method: str,
    method_options: dict[str, Any],
    data: ImageData,
    recipe: Recipe,
    seed: int,
    precision: Precision,
    teacher: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "model": model,
        "method": method,
        "method_options": method_options,
        "data": {"name": data.name, "sha256": data.checksum},
        "recipe": recipe.describe(),
        "seed": seed,
        "precision": precision.name,
        "teacher": teacher,
    }


def train_teacher(
    model: str | None = None,
    data: str | ImageData = "gratings",
    recipe: str | Recipe | None = None,
    seed: int = 0,
    *,
    out: str | os.PathLike = "runs",
    device: str | torch.device | None = None,
    precision: str = "auto",
    root: str | os.PathLike | None = None,
    official: bool = True,
    progress: bool = True,
    fresh: bool = False,
    capture: bool | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    **recipe_changes: Any,
) -> Run:
    """Train a network on the labels alone, to teach others later.

    Repeating a call continues it where it was interrupted, or opens it where it is finished.

    Args:
        model: a name of `adakd.models.MODELS`; the data set's usual teacher when left out.
        data: "gratings", "cifar10", "cifar100", or an `ImageData`.
        recipe: "paper", "quick" or "demo"; the data set's usual one when left out.
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
        recipe_changes: e.g. ``epochs=30``.

    Returns:
        The finished `Run`.

    Raises:
        ValueError: for unknown names.
        DataError: if the data cannot be had.
        Interrupted: on Ctrl-C, after saving.
    """
    name = data if isinstance(data, str) else data.name
    if isinstance(data, str):
        _check_name("data set", data, DATASETS)
    seed = _checked_seed(seed)
    model = model or DEFAULT_TEACHER.get(name, "wrn_16_2")
    _check_name("model", model, MODELS)
    recipe = get_recipe(recipe or DEFAULT_RECIPE.get(name, "quick"), "teacher", **recipe_changes)
    device = resolve_device(device)
    data = _load(data, root, official).to(device)
    resolved = choose_precision(precision, device, _size(model, data.num_classes))
    config = _config(model, "ce", {}, data, recipe, seed, resolved)
    return exhaust(
        _carry_out(
            config,
            create_method("ce"),
            kind="teacher",
            data=data,
            recipe=recipe,
            precision=resolved,
            out=out,
            label=f"teacher {model}",
            progress=progress,
            fresh=fresh,
            capture=capture,
            on_epoch=on_epoch,
        )
    )


def _size(model: str, num_classes: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in create_model(model, num_classes).parameters())


def find_teacher(model: str, data: str, out: str | os.PathLike = "runs") -> Run | None:
    """The finished run of that model on all labels of that data set under `out`; None if there is none.

    Raises:
        TeacherError: if there are several; name the folder of one.
    """
    records = sorted(Path(out, data, model).glob(f"ce-*/{RECORD}"))
    runs = [open_run(path.parent) for path in records]
    # A baseline trained on a small transfer set is no teacher.
    runs = [run for run in runs if run.record["config"]["recipe"]["train_images"] is None]
    if len(runs) > 1:
        listed = "; ".join(f"{run.folder} ({run.accuracy:.2f} %)" for run in runs)
        raise TeacherError(f"several teachers {model} on {data}: {listed}. Name the folder of one.")
    return runs[0] if runs else None


def teacher_run(
    teacher: str | os.PathLike | Run,
    weights: str | os.PathLike | None,
    data: str,
    out: str | os.PathLike,
    *,
    would_train: bool = True,
) -> Run | None:
    """The teacher's finished run; None for a file of weights, and for a teacher that the caller would train itself.

    For what can be known before data are downloaded: `load_teacher` does the rest. Who says that he would train gets a
    None for the embedded set alone: that is a matter of seconds, and no reason to ask for a command of its own.
    """
    if weights is not None:
        _check_name("model", str(teacher), MODELS)
        if not Path(weights).is_file():
            raise WeightsError(f"no weights at {weights}")
        return None
    if isinstance(teacher, Run):
        return teacher
    if teacher in MODELS:
        found = find_teacher(str(teacher), data, out)
        if found or (data == "gratings" and would_train):
            return found
        raise TeacherError(
            f"no trained {teacher} for {data} under {Path(out).resolve()}. Train it first: "
            f"adakd teacher --model {teacher} --data {data}; or name the folder of a finished run."
        )
    if Path(teacher).is_dir():
        return open_run(teacher)
    if Path(teacher).is_file():
        raise TeacherError(
            f"{teacher} is a file; name the folder of a finished run. Weights from elsewhere: "
            "pass teacher_weights (--teacher-weights) beside the model's name."
        )
    raise TeacherError(
        f"teacher: {near_names('model', str(teacher), MODELS)}; nor is it a folder of a finished run"
    )


def distill(
    teacher: str | os.PathLike | Run | None = None,
    student: str | None = None,
    method: str = "zkd+mlt",
    data: str | ImageData = "gratings",
    recipe: str | Recipe | None = None,
    seed: int = 0,
    *,
    teacher_weights: str | os.PathLike | None = None,
    method_options: dict[str, Any] | None = None,
    out: str | os.PathLike = "runs",
    device: str | torch.device | None = None,
    precision: str = "auto",
    root: str | os.PathLike | None = None,
    official: bool = True,
    progress: bool | tqdm = True,
    fresh: bool = False,
    cache: str | None = "fp16",
    capture: bool | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    **recipe_changes: Any,
) -> Run:
    """Train a student from a teacher by a named method.

    Runs of one seed start from the same weights and see the same images in the same order and views, whatever the
    method: their differences are paired. Repeating a call continues it where it was interrupted, or opens it where
    it is finished.

    Args:
        teacher: a `Run`, the folder of one, or a model's name: then its finished run under `out` is used (on the
            embedded set it is trained first where there is none). The data set's usual teacher when left out.
        student: a name of `adakd.models.MODELS`; the data set's usual student when left out.
        method: a name of `adakd.METHODS` or ``<row>+<rule>``.
        data: "gratings", "cifar10", "cifar100", or an `ImageData`.
        recipe: "paper", "quick" or "demo"; the data set's usual one when left out.
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
        cache: ask the teacher about all views of the run first, once for all methods, and keep the answers in "fp16" or
            "fp32" (see `adakd.ViewCache`); None for a teacher that runs along. They differ by the rounding.
        capture: compile the step (on a GPU into CUDA graphs); on a GPU only when left out.
        on_epoch: called with each epoch's row of the history as the run trains, once it is saved.
        recipe_changes: e.g. ``epochs=30``, ``train_images=2000``.

    Returns:
        The finished `Run`.

    Raises:
        ValueError: for unknown names, or a teacher with another number of classes.
        TeacherError: if the teacher is not trained yet.
        DataError: if the data cannot be had.
        CacheError: if the cache cannot be written, or does not say what the teacher says.
        Interrupted: on Ctrl-C, after saving.
    """
    return prepare(
        teacher,
        student,
        method,
        data,
        recipe,
        seed,
        teacher_weights=teacher_weights,
        method_options=method_options,
        out=out,
        device=device,
        precision=precision,
        root=root,
        official=official,
        progress=progress,
        fresh=fresh,
        cache=cache,
        capture=capture,
        on_epoch=on_epoch,
        **recipe_changes,
    )()


def prepare(
    teacher: str | os.PathLike | Run | None,
    student: str | None,
    method: str,
    data: str | ImageData,
    recipe: str | Recipe | None,
    seed: int,
    *,
    teacher_weights: str | os.PathLike | None = None,
    method_options: dict[str, Any] | None = None,
    out: str | os.PathLike = "runs",
    device: str | torch.device | None = None,
    precision: str = "auto",
    root: str | os.PathLike | None = None,
    official: bool = True,
    progress: bool | tqdm = True,
    fresh: bool = False,
    cache: str | None = "fp16",
    capture: bool | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    **recipe_changes: Any,
) -> "Job":
    """All of `distill` that can go wrong without training."""
    name = data if isinstance(data, str) else data.name
    if isinstance(data, str):
        _check_name("data set", data, DATASETS)
    seed = _checked_seed(seed)
    student = student or DEFAULT_STUDENT.get(name, "resnet8")
    _check_name("model", student, MODELS)
    method_options = _plain(method_options or {})
    recipe = get_recipe(recipe or DEFAULT_RECIPE.get(name, "quick"), "student", **recipe_changes)
    device = resolve_device(device)
    teacher = teacher or DEFAULT_TEACHER.get(name, "wrn_16_2")
    taught = get_method(method).divergence is not None
    # Before data are downloaded for nothing.
    run = teacher_run(teacher, teacher_weights, name, out) if taught else None
    data = _load(data, root, official).to(device)
    resolved = choose_precision(precision, device, _size(student, data.num_classes))
    criterion = _criterion(method, method_options, recipe, data, seed)
    if cache is not None and cache not in DTYPES:
        raise ValueError(f"cache: expected {', '.join(map(repr, DTYPES))} or None, got {cache!r}")

    taught_by = None
    shows = progress if isinstance(progress, bool) else not progress.disable
    if taught:
        taught_by = load_teacher(
            teacher,
            teacher_weights,
            run,
            data,
            out=out,
            device=device,
            precision=precision,
            progress=shows,
        )
        if cache:
            taught_by = _with_cache(
                taught_by, data, recipe, [seed], out=out, precision=precision, dtype=cache, progress=shows
            )
    identity = taught_by.identity if taught_by else None
    student_views(data, recipe, seed)  # refuses a recipe that does not fit the data
    config = _config(student, method, method_options, data, recipe, seed, resolved, identity)
    carry_out = partial(
        _carry_out,
        config,
        criterion,
        kind="student",
        data=data,
        recipe=recipe,
        precision=resolved,
        out=out,
        label=f"{method} {student}",
        progress=progress,
        fresh=fresh,
        capture=capture,
        on_epoch=on_epoch,
        teacher=taught_by.answers if taught_by else None,
        teacher_fields=partial(_told_of_teacher, taught_by, data, recipe, seed, progress)
        if taught_by
        else None,
    )
    finished = (_folder(out, config) / RECORD).is_file() and not fresh
    return Job(config, taught_by is not None and not taught_by.kept and not finished, carry_out)


@dataclass(frozen=True)
class Job:
    """A run that was checked and not begun: calling it trains, or opens what is finished."""

    config: dict[str, Any]
    asks: bool
    """Whether it has to ask a live teacher."""
    _carry_out: Callable[..., Generator[int, None, Run]]

    def __call__(self, stop: list[int] | None = None) -> Run:
        return exhaust(self.turns(stop))

    def turns(
        self, stop: list[int] | None = None, together: Together | None = None
    ) -> Generator[int, None, Run]:
        """The same with a pause before every epoch, whose number it yields; see `fit_in_turns`."""
        return self._carry_out(stop=stop, together=together)


@dataclass(frozen=True)
class _Teacher:
    """A trained teacher, and how a run gets its answers: from itself, or from a cache that it fills first."""

    model: nn.Module
    identity: dict[str, Any]
    """What a run's config says of it."""
    fields: dict[str, Any]
    """What a run's record says of it."""
    answers: Callable[[], nn.Module | ViewCache]
    kept: bool = False
    """Whether the answers come from a cache."""


def load_teacher(
    teacher: str | os.PathLike | Run,
    weights: str | os.PathLike | None,
    run: Run | None,
    data: ImageData,
    *,
    out: str | os.PathLike,
    device: torch.device,
    precision: str,
    progress: bool,
) -> _Teacher:
    """From a file of weights, or from a finished run (that of the embedded set is trained first where there is none)."""
    if weights is not None:
        # The bytes that are loaded are held against this hash: a file that changes meanwhile is refused.
        identity = {"model": str(teacher), "sha256": sha256_of(Path(weights))}
        model = _checked_teacher(identity["model"], data.num_classes, Path(weights), identity["sha256"])
        return _Teacher(model, identity, identity, lambda: model)
    if run is None:
        usual = get_recipe(DEFAULT_RECIPE.get(data.name, "quick"), "teacher")
        log.info(
            "no teacher yet: training %s first (%d steps), then it is asked", teacher, steps_of(data, usual)
        )
    run = run or train_teacher(
        str(teacher), data, out=out, device=device, precision=precision, progress=progress
    )
    refuse_other_data(run, data, "teacher")
    sha256, path = run.record.get("weights_sha256"), run.folder / WEIGHTS
    if sha256 is None:
        raise TeacherError(f"{run.folder / RECORD} has no weights_sha256: train this teacher again")
    identity = {"model": run.record["config"]["model"], "sha256": sha256}
    model = _checked_teacher(identity["model"], data.num_classes, path, sha256)
    about = {
        "accuracy": run.accuracy,
        "recipe": run.record["config"]["recipe"]["name"],
        "seed": run.record["seed"],
    }
    return _Teacher(model, identity, {**identity, **about}, lambda: model)


def _checked_teacher(name: str, num_classes: int, weights: Path, sha256: str) -> nn.Module:
    """The one object, of a file that is looked at each time."""
    if not weights.is_file() or sha256_of(weights) != sha256:
        _teacher_model.cache_clear()  # so that it is read again, and the error comes from who reads it
    return _teacher_model(name, num_classes, weights, sha256)


@lru_cache(maxsize=1)
def _teacher_model(name: str, num_classes: int, weights: Path, sha256: str) -> nn.Module:
    """One object for all runs of a comparison; nothing changes a frozen teacher."""
    return _loaded(name, num_classes, weights, sha256).eval().requires_grad_(False)


_MOST_ASKED = 10_000  # training images of which a teacher's accuracy is measured: to half a percent


def _told_of_teacher(
    teacher: _Teacher, data: ImageData, recipe: Recipe, seed: int, progress: bool | tqdm
) -> dict[str, Any]:
    """What the record says of a teacher, said aloud too: of published weights nobody else has measured how good they are.

    Not a part of its identity: by what was known of its teacher, a run is no other run.
    """
    fields, measured = dict(teacher.fields), ""
    if "accuracy" not in fields:  # no run of ours, whose record says it
        index = student_views(data, recipe, seed).index[:_MOST_ASKED]
        fields["accuracy"] = _accuracy(teacher, data, None)
        fields["transfer_accuracy"] = _accuracy(teacher, data, tuple(index.tolist()))
        measured = f", {fields['transfer_accuracy']:.2f} % of those it teaches with"
    # Of runs that share a display, the first says it for all.
    once = (teacher.identity["sha256"], data.checksum, id(progress))
    if isinstance(progress, bool) or once not in _said:
        _said.add(once)
        accuracy, chance = fields["accuracy"], 1 / data.num_classes
        log.info("  teacher %s: %.2f %% of the test images%s", fields["model"], accuracy, measured)
        if accuracy / 100 <= chance + 4 * math.sqrt(chance * (1 - chance) / len(data.test)):
            log.warning(
                "teacher %s knows %.2f %% of the test images of %s, no more than by guessing (%.2f %%): are its "
                "classes in another order, or its pixels scaled otherwise?",
                *(fields["model"], accuracy, data.name, 100 * chance),
            )
    return fields


_said: set[tuple[str, str, int]] = set()
_measured: dict[tuple[str, str, tuple[int, ...] | None], float] = {}


def _accuracy(teacher: _Teacher, data: ImageData, index: tuple[int, ...] | None) -> float:
    """Of these training images, or of the test split, in percent; each measured once in a process."""
    key = (teacher.identity["sha256"], data.checksum, index)
    if key not in _measured:
        split = data.test
        if index is not None:
            chosen = torch.tensor(index, device=data.device)
            split = Split(data.train.images[chosen], data.train.labels[chosen])
        fp32 = choose_precision("fp32", data.device, 0)
        model = teacher.model.to(data.device, memory_format=torch.channels_last)
        _measured[key] = evaluate_model(model, replace(data, test=split), fp32)
    return _measured[key]


def _with_cache(
    teacher: _Teacher,
    data: ImageData,
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    out: str | os.PathLike,
    precision: str,
    dtype: str,
    progress: bool,
) -> _Teacher:
    """The same teacher, whose answers come from the view cache; itself where there is no room for one."""
    count = student_views(data, recipe, seeds[0]).count
    if not fits(data, count, dtype):
        log.info(
            "the teacher stays live, at the student's side: what it says of %d views is too much to keep",
            len(data.train) * count,
        )
        return teacher
    # By the teacher's size and not by a student's: students of all sizes share the answers.
    chosen = choose_precision(precision, data.device, sum(p.numel() for p in teacher.model.parameters()))

    def answers() -> ViewCache:
        cache = open_cache(out, data, teacher.identity, chosen, count, dtype)
        model = teacher.model.to(data.device, memory_format=torch.channels_last).eval().requires_grad_(False)
        for seed in seeds:
            views = student_views(data, recipe, seed)
            places = views.visited(recipe.epochs)
            filled = cache.fill(model, views, places, chosen, progress)
            cache.verify(model, views, places, chosen)
            kept = len(places) - filled
            level = logging.INFO if filled else logging.DEBUG
            log.log(level, "  the teacher has answered for %d views (%d of them before)", len(places), kept)
            log.debug("  its answers are in %s", cache.folder)
        return cache

    kept = {"logits": f"{dtype} of {chosen.name}"}
    return _Teacher(teacher.model, {**teacher.identity, **kept}, {**teacher.fields, **kept}, answers, kept=True)


def cache_teacher(
    teacher: str | os.PathLike | Run | None = None,
    data: str | ImageData = "gratings",
    recipe: str | Recipe | None = None,
    seeds: Sequence[int] = (0,),
    *,
    teacher_weights: str | os.PathLike | None = None,
    out: str | os.PathLike = "runs",
    device: str | torch.device | None = None,
    precision: str = "auto",
    root: str | os.PathLike | None = None,
    official: bool = True,
    progress: bool = True,
    dtype: str = "fp16",
    **recipe_changes: Any,
) -> ViewCache:
    """Ask a teacher about every view that students of this recipe and these seeds will see, before they train.

    `distill` and `compare` do it by themselves; this is for doing it at another time, or on another machine. It can be
    stopped at any moment and continued by repeating the call.

    Args:
        teacher, data, recipe, teacher_weights, out, device, precision, root, official, progress, recipe_changes:
            as for `distill`.
        seeds: of the runs to come.
        dtype: in which the answers are kept, "fp16" or "fp32".

    Raises:
        ValueError: for unknown names, or a set too large for a cache.
        TeacherError, DataError, CacheError: as for `distill`.
    """
    name = data if isinstance(data, str) else data.name
    if isinstance(data, str):
        _check_name("data set", data, DATASETS)
    recipe = get_recipe(recipe or DEFAULT_RECIPE.get(name, "quick"), "student", **recipe_changes)
    device = resolve_device(device)
    teacher = teacher or DEFAULT_TEACHER.get(name, "wrn_16_2")
    run = teacher_run(teacher, teacher_weights, name, out)
    data = _load(data, root, official).to(device)
    loaded = load_teacher(
        teacher, teacher_weights, run, data, out=out, device=device, precision=precision, progress=progress
    )
    checked = [_checked_seed(seed) for seed in seeds]
    if not checked:
        raise ValueError("seeds: expected at least one")
    cached = _with_cache(
        loaded, data, recipe, checked, out=out, precision=precision, dtype=dtype, progress=progress
    )
    if cached is loaded:
        raise ValueError(f"{data.name} is too large for a cache: distill with a live teacher")
    return cached.answers()


def refuse_other_data(run: Run, data: ImageData, role: str) -> None:
    """Raises ValueError unless the run is of this data set; a warning where its pixels were others."""
    theirs = run.record["data"]
    if (theirs["name"], theirs["classes"]) != (data.name, data.num_classes):
        raise ValueError(
            f"the {role} in {run.folder} was trained on {theirs['name']} ({theirs['classes']} classes), "
            f"not on {data.name} ({data.num_classes} classes)"
        )
    if theirs["sha256"] != data.checksum:
        log.warning("%s: the data are not those of the %s's run (another checksum)", data.name, role)


def evaluate(
    run: str | os.PathLike | Run,
    *,
    device: str | torch.device | None = None,
    precision: str | None = None,
    root: str | os.PathLike | None = None,
) -> float:
    """Measure a finished run's network on the test split again; returns top-1 accuracy in percent.

    Args:
        run: a `Run` or its folder.
        device: "cuda", "cpu" or "auto".
        precision: the run's own when left out.
        root: folder of the downloaded data.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
        DataError, WeightsError: if data or weights are missing or damaged.
    """
    run = run if isinstance(run, Run) else open_run(run)
    device = resolve_device(device)
    record = run.record
    data = load_data(record["data"]["name"], root, official=record["data"]["official"]).to(device)
    if data.checksum != record["data"]["sha256"]:
        log.warning("%s: the data are not those of the run (another checksum)", data.name)
    model = run.model().to(device, memory_format=torch.channels_last)
    parameters = sum(p.numel() for p in model.parameters())
    chosen = choose_precision(precision or record["config"]["precision"], device, parameters)
    return evaluate_model(model, data, chosen)


def evaluate_weights(
    weights: str | os.PathLike,
    model: str,
    data: str | ImageData = "gratings",
    *,
    device: str | torch.device | None = None,
    precision: str = "auto",
    root: str | os.PathLike | None = None,
    official: bool = True,
) -> float:
    """Measure a file of weights on the test split of a data set; returns top-1 accuracy in percent.

    Args:
        weights: published weights (.safetensors, .pth, .pt, .tar).
        model: the name of their network, of `adakd.models.MODELS`.
        data: "gratings", "cifar10", "cifar100", or an `ImageData`.
        device: "cuda", "cpu" or "auto".
        precision: "auto", "fp32", "bf16" or "fp16".
        root: folder of the downloaded data.
        official: verify CIFAR against the published checksums.

    Raises:
        ValueError: for unknown names.
        DataError, WeightsError: if data or weights are missing or damaged, or the weights are of another network.
    """
    _check_name("model", model, MODELS)
    if isinstance(data, str):
        _check_name("data set", data, DATASETS)
    device = resolve_device(device)
    data = _load(data, root, official).to(device)
    network = _loaded(model, data.num_classes, Path(weights), None).eval()
    chosen = choose_precision(precision, device, sum(p.numel() for p in network.parameters()))
    return evaluate_model(network.to(device, memory_format=torch.channels_last), data, chosen)
