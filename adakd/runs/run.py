"""Finished runs, and the carrying out of those that are not: train, and leave a folder with weights and a record."""

import contextlib
import copy
import functools
import logging
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from .._check import check_path, printable
from .._progress import Bar, shown_before
from ..data import Dataset, identity_of, is_named, resolve_data
from ..models import Network, network_of
from ..models.network import architecture_of, is_model, resting
from ..signals import Taps
from ..training.capture import choose_capture
from ..training.files import (
    load_weights,
    read_record,
    refuse_folders,
    remove_leftovers,
    save_weights,
    sha256_of,
    write_record,
)
from ..training.loop import Display, OnEpoch, Runner, TeacherSource, lockstep
from ..training.recipe import Recipe, steps_of, student_views
from ..training.record import RUN_FIELDS, contradiction, environment, key_of, now
from ..training.resume import Checkpoint
from ..training.trainer import Trainer
from ..training.world import normalize_alone
from .config import Resources, RunConfig
from .deployed import build_terms, deployed_network, describe_deployed
from .folder import CHECKPOINT, FILES, RECORD, WEIGHTS, alone, begin_session, clean, tidy

__all__ = ["Job", "Run", "Teaching", "carry_out", "loaded_model", "open_run", "refuse_other_data"]

log = logging.getLogger("adakd")

SCHEMA = 1


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its record."""

    folder: Path
    record: dict[str, Any]
    network: Network | None = field(default=None, compare=False, repr=False)
    """The network that was trained, where this process knows it and its name does not say all."""

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last epoch, in percent."""
        return self.record["result"]["last"]

    @property
    def history(self) -> list[dict[str, Any]]:
        """One row an epoch."""
        return self.record["history"]

    def model(self, network: str | nn.Module | Callable[..., nn.Module] | None = None) -> nn.Module:
        """The trained network, in evaluation mode, on the CPU.

        Args:
            network: what the run was made with, where that was no name: a module, or a factory. Left out for names, and
                in the process that made the run.

        Raises:
            WeightsError: if its weights are missing, or not those that the record names by their hash.
            ValueError: if the network is not known, or another one.
        """
        return self.loaded(self.known_network(network)).eval()

    def known_network(self, network: Any = None) -> Network:
        """The network of the run, untrained: the one given, the one of this process, or the one of its name.

        Where the run has kept more than its student (SimKD, which reuses the teacher's classifier), that network.

        Raises:
            ValueError: if it is not known, or another one than was trained.
        """
        config, data = self.record["config"], self.record["data"]
        if network is not None:
            known = network_of(network)
        elif self.network is not None:
            known = self.network
        elif is_model(config["model"]):
            known = network_of(config["model"])
        else:
            raise ValueError(
                f"the network {config['model']!r} of {self.folder} is not known here: give the run, and with it the "
                "module or the function that makes it, adakd.open_run(folder, network=...); or register it: "
                "adakd.MODELS[name] = function of the number of classes"
            )
        shape = data["classes"], data.get("channels", 3)
        kept = self.record.get("deployed")
        if kept is not None and architecture_of(known.build(*shape)) == kept["architecture"]:
            return known
        of_record = config.get("architecture")
        found = known.identity(*shape)
        if of_record != found.get("architecture"):
            raise ValueError(
                f"the network {known.name!r} is not the one that {self.folder} was trained with (its classes, or the "
                "names and shapes of its tensors, are others); give that one (network=)"
            )
        if config.get("settings", found.get("settings")) != found.get("settings"):
            log.warning(
                "the network %r has other settings than the one that %s was trained with (a number, a text or a function "
                "that one of its modules holds): what it says may be something else",
                known.name,
                self.folder,
            )
        return known if kept is None else deployed_network(known, self.record)

    def loaded(self, network: Network) -> nn.Module:
        """This network with the run's weights."""
        data, sha256 = self.record["data"], self.record.get("weights_sha256")
        return loaded_model(network, data["classes"], data.get("channels", 3), self.folder / WEIGHTS, sha256)

    def __repr__(self) -> str:
        config = self.record["config"]
        return f"Run({config['model']}, {config['method']}, {self.accuracy:.2f}%)"


def loaded_model(
    network: Network, num_classes: int, in_channels: int, weights: Path, sha256: str | None = None
) -> nn.Module:
    """A network with the weights of a file, which must have this hash where one is given."""
    model = network.build(num_classes, in_channels)  # overwritten at once
    return load_weights(model, weights, sha256=sha256, name=f"{network.name} ({num_classes} classes)")


def open_run(
    folder: str | os.PathLike[str], network: str | nn.Module | Callable[..., nn.Module] | None = None
) -> Run:
    """Open a finished run.

    Args:
        folder: of the run.
        network: what the run was made with, where that was no name: a module, or a factory. The run then teaches, is
            measured and exported as in the process that made it.

    Raises:
        TypeError: for what is no path.
        FileNotFoundError: if the folder holds no finished run.
        ValueError: if its record is damaged.
    """
    check_path("the folder of a run", folder=folder)
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
    return Run(folder, record, None if network is None else network_of(network))


def data_of_run(run: Run, root: str | os.PathLike[str] | None, remedy: str) -> Dataset:
    """The data set of a run, by its name.

    Raises:
        ValueError: where it has none, with the remedy.
        DataError: if it cannot be had.
    """
    record = run.record["data"]
    if not is_named(record["name"]):
        raise ValueError(
            f"{run.folder} is of data that have no name here ({record['name']!r}); give them: {remedy}"
        )
    return resolve_data(record["name"], root, record["official"])


def refuse_other_data(run: Run, data: Dataset, role: str) -> None:
    """Raises ValueError unless the run is of this data set; a warning where its pixels were others, or seen otherwise."""
    theirs = run.record["data"]
    if (theirs["name"], theirs["classes"]) != (data.name, data.num_classes):
        raise ValueError(
            f"the {role} in {run.folder} was trained on {theirs['name']} ({theirs['classes']} classes), "
            f"not on {data.name} ({data.num_classes} classes)"
        )
    if theirs["sha256"] != data.checksum:
        log.warning("%s: the data are not those of the %s's run (another checksum)", data.name, role)
    elif (seen := run.record["config"]["data"].get("views")) != identity_of(data).get("views"):
        log.warning(
            "%s: the data are not seen as in the %s's run, whose views were %s",
            data.name,
            role,
            seen or "the usual",
        )


class Teaching(Protocol):
    """A teacher as a job sees it."""

    identity: dict[str, Any]
    cached: bool

    def describe(self, config: RunConfig, progress: bool | Bar) -> dict[str, Any]:
        """What the run's record says of it."""

    def source(self, config: RunConfig, resources: Resources, taps: Taps) -> TeacherSource:
        """Where the loop gets its outputs from, with the features that the objectives tap."""


@dataclass(frozen=True)
class Job:
    """A run that was checked and not begun."""

    config: RunConfig
    objective: nn.Module
    resources: Resources
    teacher: Teaching | None = None
    kind: str = "student"
    """As the record says it: teacher or student."""
    on_epoch: Callable[[dict[str, Any]], None] | None = None
    """Called with the row of each epoch that is trained, once it is saved."""

    @property
    def folder(self) -> Path:
        """Of the run, begun or not."""
        return self.config.folder(self.resources.out)

    @property
    def label(self) -> str:
        """What the display calls the run."""
        of = "teacher" if self.kind == "teacher" else self.config.method
        return f"{of} {self.config.student.name}"

    @property
    def known_network(self) -> Network | None:
        """The network, where its name does not say all."""
        student = self.config.student
        return None if student.described_by_its_name else student

    @property
    def finished(self) -> bool:
        """Whether the run is only to be opened."""
        return (self.folder / RECORD).is_file() and not self.resources.fresh

    @property
    def shares(self) -> bool:
        """Whether it trains with a live teacher, which others can share."""
        return self.teacher is not None and not self.teacher.cached and not self.finished

    def forget(self) -> None:
        """Remove what there is of an earlier run of the same settings.

        Raises:
            BusyError: if another process is at it.
        """
        if self.folder.is_dir():
            with alone(self.folder):
                _remove(self.folder)

    def build_student(self) -> nn.Module:
        """The student with its initial weights; the objective gets what depends on shapes, from images that the run shows."""
        config = self.config
        student = config.student.build(config.data.num_classes, config.data.channels, config.seed)
        if getattr(self.objective, "builds", False):
            views = student_views(config.data, config.recipe, config.seed)
            images = next(views.steps(1, 2)).images
            objective: Any = self.objective
            teacher = _network_of(self.teacher)
            build_terms(objective, student, teacher, images, len(views), config.seed)
        return student

    def __call__(self) -> Run:
        """Train, or open what is finished."""
        (result,) = carry_out([self])
        if isinstance(result, Exception):
            raise result
        return result


def _remove(folder: Path) -> None:
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def carry_out(jobs: Sequence[Job]) -> list[Run | Exception]:
    """Train each job in the folder that belongs to it; a finished run is opened and not repeated.

    Args:
        jobs: one; or several that share data, recipe, seed and a live teacher: they train in lockstep.

    Returns:
        Of each job its run, or the error that ended it; an error of one leaves the others.

    Raises:
        Interrupted: when stopped, after all are saved.
    """
    with contextlib.ExitStack() as folders:
        attempts = [_Attempt(job) for job in jobs]
        for attempt in attempts:
            attempt.open(folders)
        training = [attempt for attempt in attempts if attempt.pending]
        for attempt in training:
            attempt.begin(len(training))
        if training := [attempt for attempt in training if attempt.pending]:
            try:
                _train(training)
            except Exception as error:  # of the teacher: it is everybody's
                return [error if attempt.pending else attempt.outcome for attempt in attempts]
        for attempt in training:
            attempt.finish()
        return [attempt.outcome for attempt in attempts]


def _network_of(teacher: Teaching | None) -> nn.Module:
    """The network of a teacher of which more is needed than logits; the plan has seen that there is one."""
    network = getattr(teacher, "model", None)
    assert isinstance(network, nn.Module)
    return network


def _train(attempts: Sequence["_Attempt"]) -> None:
    job = attempts[0].job
    config, resources = job.config, job.resources
    views = student_views(config.data, config.recipe, config.seed)
    source = None
    if job.teacher is not None:
        taps = functools.reduce(operator.or_, (attempt.runner.trainer.taps for attempt in attempts))
        source = job.teacher.source(config, resources, taps)
    try:
        lockstep([attempt.runner for attempt in attempts], views, source, should_stop=resources.should_stop)
    finally:
        for attempt in attempts:
            attempt.display.close()


@dataclass(eq=False)
class _Attempt:
    """One job on its way to a run."""

    job: Job
    result: Run | Exception | None = None
    sessions: list[dict[str, Any]] = field(default_factory=list)
    about_teacher: dict[str, Any] | None = None
    runner: Runner = field(init=False)
    """From `begin` on, as the display."""
    display: Display = field(init=False)

    @property
    def pending(self) -> bool:
        return self.result is None

    @property
    def outcome(self) -> Run | Exception:
        """What became of it, once it is not pending."""
        assert self.result is not None
        return self.result

    @contextlib.contextmanager
    def _own_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.result = error

    def open(self, folders: contextlib.ExitStack) -> None:
        """A finished run; or a folder that is this process's alone from now on."""
        with self._own_errors():
            job, world = self.job, self.job.resources.world
            world.refuse_different("the run", job.config.key)
            if world.lead(lambda: job.finished):
                log.info("%s is finished already: %s", job.label, job.folder)
                world.lead(lambda: tidy(job.folder))
                world.together(self._reopen)
            elif world.lead(lambda: self._take(folders)):
                world.together(self._reopen)

    def _take(self, folders: contextlib.ExitStack) -> bool:
        """Lock and prepare the folder; whether another process has just finished the run there."""
        folder = self.job.folder
        # Before any work: a folder that cannot be written must not be found out at the first checkpoint.
        folder.mkdir(parents=True, exist_ok=True)
        refuse_folders(folder, FILES)
        folders.enter_context(alone(folder))
        remove_leftovers(folder, FILES)
        if self.job.resources.fresh:
            _remove(folder)
        return (folder / RECORD).is_file()

    def _reopen(self) -> None:
        job = self.job
        progress = job.resources.progress
        if isinstance(progress, Bar):  # the display of several runs counts the steps of this one too
            progress.update(steps_of(job.config.data, job.config.recipe))
        run = open_run(job.folder)
        network = job.known_network
        if "deployed" in run.record:
            student = job.build_student()
            objective: Any = job.objective
            network = Network(job.config.student.name, objective.deploy(student, _network_of(job.teacher)))
        run = replace(run, network=network)
        if key_of(run.record["config"]) != job.config.key:
            raise ValueError(
                f"{job.folder / RECORD} is damaged (field 'config' is of another run than its folder's name says); "
                "delete it and repeat the run"
            )
        self.result = run

    def begin(self, together: int) -> None:
        """Everything before the first step."""
        with self._own_errors():
            self.job.resources.world.together(lambda: self._begin(together))

    def _begin(self, together: int) -> None:
        job, config, resources = self.job, self.job.config, self.job.resources
        world = resources.world
        captured, reason = choose_capture(resources.capture, config.data.device, world.size)
        chosen = config.precision.name, config.precision.reason
        log.info(
            "%s on %s%s in %s%s",
            job.label,
            config.data.device,
            f" in {world.size} processes" if world.size > 1 else "",
            chosen[0],
            "" if shown_before(resources.progress, chosen) else f" ({chosen[1]})",
        )
        usual = resources.capture is None and not captured  # which needs no word
        log.log(
            logging.DEBUG if usual or shown_before(resources.progress, (captured, reason)) else logging.INFO,
            "  steps %s (%s)",
            "captured" if captured else "one operation at a time",
            reason,
        )
        if (teacher := job.teacher) is not None:
            self.about_teacher = world.lead(lambda: teacher.describe(config, resources.progress))
        student = job.build_student()
        if still := resting(student):
            log.info("  parts that stay in evaluation mode, as they came: %d (%s …)", len(still), still[0])
        trainer = Trainer(
            student,
            job.objective,
            config.recipe,
            config.data,
            config.precision,
            captured,
            teacher=_network_of(job.teacher) if getattr(job.objective, "deploys", False) else None,
            world=world,
        )
        self.sessions = world.lead(
            lambda: begin_session(job.folder, config.data.device, captured, together, _processes(trainer))
        )
        self.display = Display(job.label, resources.progress if world.leads else False)
        callbacks = [self.display, *([OnEpoch(job.on_epoch)] if job.on_epoch is not None else [])]
        checkpoint = Checkpoint(job.folder / CHECKPOINT, config.describe())
        self.runner = Runner(trainer, checkpoint, callbacks)

    def finish(self) -> None:
        """Weights and record."""
        if self.runner.error is not None:
            self.result = self.runner.error
            return
        with self._own_errors():
            job, config, trainer = self.job, self.job.config, self.runner.trainer
            normalize_alone(trainer.deployed)  # of which a copy may be kept
            network, deployed = job.known_network, dict[str, Any]()
            if trainer.deployed is not trainer.student:
                network = Network(config.student.name, copy.deepcopy(trainer.deployed).cpu())
                deployed = {
                    "deployed": describe_deployed(
                        trainer.deployed, next(config.data.test_batches(1))[0].shape[-1]
                    )
                }
            measured = [row for row in trainer.history if "test_accuracy" in row]
            best = max(measured, key=lambda row: row["test_accuracy"])
            record: dict[str, Any] = {
                "schema": SCHEMA,
                "kind": job.kind,
                "status": "complete",
                "config": config.describe(),
                "seed": config.seed,
                "data": config.data.describe(),
                "teacher": self.about_teacher,
                **environment(config.data.device),
                **_processes(trainer),
                "started": self.sessions[0]["started"],
                "finished": now(),
                "sessions": self.sessions,
                "seconds": trainer.seconds,
                "result": {
                    "last": measured[-1]["test_accuracy"],
                    "best": best["test_accuracy"],
                    "best_epoch": best["epoch"],
                    "test_images": len(config.data.test),
                    **_further(measured[-1], config.recipe),
                },
                **deployed,
                "history": trainer.history,
            }
            record = trainer.world.lead(lambda: _kept(job.folder, trainer.deployed, record))
            self.result = Run(job.folder, record, network)


def _kept(folder: Path, network: nn.Module, record: dict[str, Any]) -> dict[str, Any]:
    """Weights and record, written; the record as it was written."""
    save_weights(network, folder / WEIGHTS)
    history = record.pop("history")  # the longest part comes last
    record = {**record, "weights_sha256": sha256_of(folder / WEIGHTS), "history": history}
    record = write_record(folder / RECORD, record)
    clean(folder)
    return record


def _processes(trainer: Trainer) -> dict[str, Any]:
    """What a record says of several processes that trained one network; nothing of one."""
    if trainer.world.size == 1:
        return {}
    norms = {"batch_norm": "over all processes"} if trainer.normalizes else {}
    return {"world": {"processes": trainer.world.size, **norms}}


def _further(last: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """What else the last row holds: of text nats and the distance to the truth, and all of it on what is held out."""
    found = {}
    for name, value in last.items():
        split, _, what = name.partition("_")
        if split == "test" and what != "accuracy":
            found[what] = value
        elif split == "validation":
            found["validation" if what == "accuracy" else name] = value
    return (
        found if recipe.validation_images is None else {**found, "validation_images": recipe.validation_images}
    )
