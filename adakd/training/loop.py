"""The training loop: one trainer or several in lockstep, resumable at any step; and no step of it waits for the device."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from .._hash import hashed
from .._progress import Bar, progress_bar
from .._seed import generator_states, seeded
from ..data import ExampleViews
from ..signals import Batch, Signals
from .resume import Checkpoint
from .trainer import DivergedError, Trainer

__all__ = [
    "Callback",
    "Display",
    "Interrupted",
    "OnEpoch",
    "Runner",
    "TeacherSource",
    "fit",
    "lockstep",
    "never",
    "step_bar",
]

log = logging.getLogger("adakd")

SECONDS_BETWEEN_CHECKPOINTS = 120.0
_DRAWN = 7  # the stream of `hashed` that what a network draws begins in
Row = dict[str, Any]


class Interrupted(KeyboardInterrupt):
    """The run was stopped, and has saved where it stood."""


class TeacherSource(Protocol):
    """Where the steps of a loop get the teacher's outputs from."""

    def begin_epoch(self, slots: Tensor) -> None:
        """Takes the views of the rest of the epoch, (n,) as in `ExampleViews.places`, so that they can be read at once."""

    def signals(self, images: Tensor, slots: Tensor) -> Signals:
        """The teacher's outputs for one step: images (B, C, H, W), or tokens, which are the views (B,)."""


class Callback:
    """What somebody does while a trainer trains. All of it may be left out."""

    def on_begin(self, trainer: Trainer) -> None:
        """Before the first step of this session, after what was saved is loaded."""

    def on_step(self, trainer: Trainer) -> None:
        """After every step."""

    def on_measure(self, trainer: Trainer) -> None:
        """Before the student is measured, which takes a while."""

    def on_epoch(self, trainer: Trainer, row: Row) -> None:
        """After every epoch, once it is saved; the row is a copy."""


def never() -> bool:
    """The default `should_stop`: always False."""
    return False


@dataclass(eq=False)
class Runner:
    """A trainer in a loop, with its checkpoint and callbacks, and what became of it."""

    trainer: Trainer
    checkpoint: Checkpoint | None = None
    callbacks: Sequence[Callback] = ()
    error: Exception | None = field(default=None, init=False)
    """What ended it before its time; None where nothing did."""
    _draws: bool | None = field(default=None, init=False)
    """Whether the network draws random numbers while it trains; None before the first step."""

    @property
    def active(self) -> bool:
        return self.error is None and not self.trainer.done

    def due(self, position: tuple[int, int]) -> bool:
        """Whether this step of this epoch is its next one: who stands further ahead waits until the others are there."""
        return self.active and (self.trainer.epoch, self.trainer.step_in_epoch) == position

    def step(self, images: Tensor, teacher: Signals | None, batch: Batch, seed: int) -> None:
        """The trainer's next step. What its network draws in it, as dropout does, follows the seed, the epoch and the step.

        Whether one draws at all is seen in the first step of a session and of every epoch: to seed the generators and put
        them back is a sizable part of a small network's step.
        """
        trainer, world = self.trainer, self.trainer.world
        if self._draws is False and trainer.step_in_epoch:
            trainer.step(images, teacher, batch)
            return
        place = torch.tensor(trainer.step_in_epoch * world.size + world.rank)
        with seeded(int(hashed(_DRAWN, seed, trainer.epoch, place))):
            before = generator_states()
            trainer.step(images, teacher, batch)
            self._draws = not all(map(torch.equal, before, generator_states())) or bool(self._draws)

    def notify(self, event: str, *what: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self.trainer, *what)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """An error in here ends this trainer and no other; the time is its own."""
        began = time.perf_counter()
        try:
            yield
        except DivergedError as error:
            self.error = FloatingPointError(
                f"{error}; {self._last_good_state()}. "
                "Lower the learning rate or the weight of the distillation term."
            )
        except Exception as error:
            self.error = error
        self.trainer.seconds += time.perf_counter() - began
        if self.error is not None and self.trainer.world.size > 1:
            raise self.error  # at once: the other processes wait for this one in the next exchange

    def _last_good_state(self) -> str:
        if self.checkpoint is None or not self.checkpoint.path.is_file():
            return "nothing was saved yet"
        return f"the last good state is in {self.checkpoint.path}"

    def save(self) -> None:
        if self.checkpoint is not None:
            self.checkpoint.save(self.trainer)


def fit(
    trainer: Trainer,
    views: ExampleViews,
    teacher: TeacherSource | None = None,
    *,
    checkpoint: Checkpoint | None = None,
    callbacks: Sequence[Callback] = (),
    should_stop: Callable[[], bool] = never,
) -> list[Row]:
    """Train to the end of the trainer's recipe, from where its checkpoint stands.

    Which images a step shows is a pure function of the seed, the epoch and the image (see `adakd.data.views`), what the
    network draws meanwhile, as dropout does, one of the seed, the epoch and the step, and the checkpoint holds everything
    else, so that a run stopped at any moment and continued is, on one machine, bit for bit the run that was never stopped.
    (On a CPU; a GPU's kernels may sum in another order.) The caller's random state stays as it is.

    Args:
        trainer: the run's state, as it was made.
        views: of the training images, by the run's seed.
        teacher: where the teacher's outputs come from; None where the objective needs none.
        checkpoint: where to go on from and to save to: after every epoch, every two minutes, and when stopped.
        callbacks: what else is done meanwhile.
        should_stop: called after every step. No signal is handled here: Ctrl-C is a KeyboardInterrupt as anywhere, and
            the last checkpoint stays. If it is a context manager too, it is entered while steps run, and may handle
            signals there.

    Returns:
        The history: one row an epoch.

    Raises:
        Interrupted: when stopped, after saving.
        CheckpointError: if the checkpoint is of another run or damaged.
        FloatingPointError: if loss or weights are not finite; the last good checkpoint stays.
        ValueError: if the objective needs a teacher and there is none, or (on a CPU) refuses the logits of a step.
    """
    runner = Runner(trainer, checkpoint, callbacks)
    lockstep([runner], views, teacher, should_stop=should_stop)
    if runner.error is not None:
        raise runner.error
    return trainer.history


def lockstep(
    runners: Sequence[Runner],
    views: ExampleViews,
    teacher: TeacherSource | None = None,
    *,
    should_stop: Callable[[], bool] = never,
) -> None:
    """Train several students by one teacher, whose logits are computed once a step for all of them.

    Each is, bit for bit, what `fit` makes of it alone. They go a step at a time; one that stands further ahead waits for
    the others, and one that fails leaves them: its `Runner` has the error then.

    Where several processes train one student (`Trainer.world`), there is one runner in each, and all stop at the same step.

    Args:
        runners: trainers of one recipe and one seed, each with its checkpoint and callbacks.
        views, teacher, should_stop: as for `fit`.

    Raises:
        Interrupted: when stopped, after all are saved.
        ValueError: for several students of several processes.
    """
    if len(runners) > 1 and any(runner.trainer.world.size > 1 for runner in runners):
        raise ValueError(f"lockstep: several processes train one student, got {len(runners)}")
    for runner in runners:
        with runner.alone():
            if runner.trainer.needs_teacher and teacher is None:
                raise ValueError("this method distills from a teacher, and none was given")
            if runner.checkpoint is not None and runner.checkpoint.resume(runner.trainer):
                _log_resumed(runner)
            runner.trainer.share()
            runner.notify("on_begin")
    with should_stop if isinstance(should_stop, AbstractContextManager) else contextlib.nullcontext():
        while active := [runner for runner in runners if runner.active]:
            first = min(active, key=lambda runner: runner.trainer.position)
            _one_epoch(runners, views, teacher, first.trainer, should_stop)


def _one_epoch(
    runners: Sequence[Runner],
    views: ExampleViews,
    teacher: TeacherSource | None,
    first: Trainer,
    should_stop: Callable[[], bool],
) -> None:
    """The rest of the epoch in which the first of them stands."""
    epoch, start, batch_size, world = first.epoch, first.step_in_epoch, first.recipe.batch_size, first.world
    saved_at = began = time.perf_counter()
    stop = False
    taught = any(runner.trainer.needs_teacher for runner in runners if runner.active)
    if taught and teacher is not None:
        batches = views.order(epoch)[start * batch_size :].split(batch_size)
        own = torch.cat([positions[world.part(len(positions))] for positions in batches])
        teacher.begin_epoch(views.places(epoch, own))
    part = world.part if world.size > 1 else None
    for step, shown in enumerate(views.steps(epoch, batch_size, start, part), start):
        due = [runner for runner in runners if runner.due((epoch, step))]
        if not due:  # whoever was here has failed, and the others are ahead
            if not any(runner.active and runner.trainer.epoch == epoch for runner in runners):
                return
            continue
        answer = None
        if teacher is not None and any(runner.trainer.needs_teacher for runner in due):
            answer = teacher.signals(shown.images, shown.slots)
        batch = Batch(shown.labels, shown.index, epoch)
        shared = (time.perf_counter() - began) / len(due)
        for runner in due:
            runner.trainer.seconds += shared  # images and teacher are everybody's
            with runner.alone():
                needed = answer if runner.trainer.needs_teacher else None
                runner.step(shown.images, needed, batch, views.seed)
                runner.notify("on_step")
        late = world.leads and time.perf_counter() - saved_at > SECONDS_BETWEEN_CHECKPOINTS
        stop, late = world.any(should_stop(), late)
        if step + 1 < first.steps and (stop or late):
            for runner in due:
                _save_within_epoch(runner)
            saved_at = time.perf_counter()
            if stop and any(runner.active for runner in runners):
                raise Interrupted(f"stopped in epoch {epoch}{_saved_in(runners)}")
        began = time.perf_counter()
    for runner in runners:
        if runner.active and runner.trainer.epoch == epoch:
            _end_epoch(runner)
    if (stop or world.any(should_stop())[0]) and any(runner.active for runner in runners):
        raise Interrupted(f"stopped after epoch {epoch}{_saved_in(runners)}")


def _save_within_epoch(runner: Runner) -> None:
    if runner.active:
        with runner.alone():
            runner.trainer.refuse_divergence()
            runner.save()


def _end_epoch(runner: Runner) -> None:
    with runner.alone():
        if runner.trainer.measures:
            runner.notify("on_measure")
        runner.trainer.end_epoch()
    if runner.error is None:
        with runner.alone():
            runner.save()
            runner.notify("on_epoch", dict(runner.trainer.history[-1]))  # a copy: the history is nobody else's


def _saved_in(runners: Iterable[Runner]) -> str:
    paths = [str(runner.checkpoint.path) for runner in runners if runner.checkpoint and runner.active]
    return f"; saved in {', '.join(paths)}" if paths else ""


def _log_resumed(runner: Runner) -> None:
    label = next((each.label for each in runner.callbacks if isinstance(each, Display)), "training")
    trainer = runner.trainer
    log.info("continuing %s from epoch %d, step %d", label, trainer.epoch, trainer.step_in_epoch)


# ---- callbacks ----


class OnEpoch(Callback):
    """Calls a function with the row of each epoch. What it raises ends the run, which can be continued."""

    def __init__(self, function: Callable[[Row], None]):
        self.function = function

    def on_epoch(self, trainer: Trainer, row: Row) -> None:
        self.function(row)


class Display(Callback):
    """The progress of a run, on a bar of its own or on one that several runs share.

    Args:
        label: what the display calls the run.
        bar: whether to show one; or the one to share.
    """

    def __init__(self, label: str = "training", bar: bool | Bar = True):
        self.label = label
        self._shared = bar if isinstance(bar, Bar) else None
        self._shows = bool(bar) if self._shared is None else True
        self._shown = progress_bar(False)

    def on_begin(self, trainer: Trainer) -> None:
        if self._shared is not None:
            self._shown = self._shared
            self._shown.update(trainer.position)
        else:
            total = trainer.recipe.epochs * trainer.steps
            self._shown = step_bar(total, trainer.position, self.label, show=self._shows)
        self._say(trainer)

    def on_step(self, trainer: Trainer) -> None:
        if trainer.step_in_epoch == 1:
            self._say(trainer)
        self._shown.update()

    def on_measure(self, trainer: Trainer) -> None:
        self._shown.set_description(
            f"{self.label}, measuring"
        )  # else the bar would stand still without a reason

    def on_epoch(self, trainer: Trainer, row: Row) -> None:
        self._say(trainer)

    def _say(self, trainer: Trainer) -> None:
        self._shown.set_description(
            self.label, refresh=False
        )  # a display that several share shows who is at it
        self._shown.set_postfix(_summary(trainer))

    def close(self) -> None:
        """A bar of its own ends; a shared one is its owner's."""
        if self._shared is None:
            self._shown.close()


def step_bar(total: int, done: int, label: str, show: bool) -> Bar:
    """The progress display of a run or of several."""
    return progress_bar(show, total, done, desc=label, unit="step", dynamic_ncols=True)


def _summary(trainer: Trainer) -> dict[str, str]:
    history = trainer.history
    if not history:
        return {}
    shown = {"epoch": f"{history[-1]['epoch']}/{trainer.recipe.epochs}"}
    if "train_accuracy" in history[-1]:
        shown["train"] = f"{history[-1]['train_accuracy']:.1f}%"
    if measured := [row for row in history if "test_accuracy" in row]:
        shown["test"] = f"{measured[-1]['test_accuracy']:.1f}%"
        if "test_nats" in measured[-1]:
            shown["nats"] = f"{measured[-1]['test_nats']:.3f}"
    return shown
