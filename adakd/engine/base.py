"""What an engine is: a pool of workers that carry out tasks, and the loop that keeps it at work until nothing is left.

An engine knows nothing of runs. What a task does stands in its function, which takes the claim of its run, looks whether a
record is there, trains, and writes the record, all where it is carried out; so the records are right whatever becomes of
the process that gave the tasks out.
"""

import contextlib
import pickle
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch

from .._check import brief
from ..data import Dataset
from ..runs import BusyError
from ..training.loop import Interrupted, never

__all__ = ["Context", "Engine", "Outcome", "Pool", "Task", "WorkerDiedError", "carry_out", "packed", "work_off"]

SECONDS_BETWEEN_LOOKS = 5.0  # at a run that another process is at
_TICK = 0.5  # seconds after which a request to stop is noticed at the latest


class WorkerDiedError(RuntimeError):
    """The process that carried a task out has died, and so did the ones that tried it again."""


@dataclass(frozen=True)
class Task:
    """A piece of work: a function of a module, and what it is called with after the `Context`."""

    name: str
    """By which it is known: a pool has no two of one name under way."""
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()

    def __call__(self, context: "Context") -> Any:
        return self.function(context, *self.arguments)


@dataclass
class Context:
    """What a task finds where it is carried out."""

    data: Dataset | None = None
    """The data set that all tasks share, which lies in memory once a machine."""
    should_stop: Callable[[], bool] = never
    """Whether to save and end."""
    report: Callable[[Any], None] = lambda message: None
    """Sends the task's progress to the pool's owner; a message may be lost."""
    here: bool = False
    """Whether this is the process that gave the task out: then what it was given is the very object."""
    _moved: dict[torch.device, Dataset] = field(default_factory=dict, repr=False)

    def data_on(self, device: torch.device) -> Dataset:
        """The data set on a device, moved there once."""
        if self.data is None:
            raise ValueError("engine: this task needs the data set, and the pool was opened without one")
        if device not in self._moved:
            self._moved[device] = self.data.to(device)
        return self._moved[device]


@dataclass(frozen=True)
class Outcome:
    """What became of a task: its result, or the error that ended it."""

    task: Task
    result: Any = None
    error: BaseException | None = None


class Pool(ABC):
    """Workers of an engine, while they are at work. Closed by ``with``: what is under way then is saved and ends, at Ctrl-C at once."""

    free: int
    """How many more tasks would begin at once."""
    under_way: set[str]
    """Names of the tasks that were submitted and have no outcome yet."""

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Give a task to a free worker."""

    @abstractmethod
    def outcomes(self, seconds: float) -> Sequence[Outcome]:
        """What has ended; waits for something at most that long."""

    @abstractmethod
    def stop(self) -> None:
        """Make what is under way save and end; its outcome is an `Interrupted` then."""

    @abstractmethod
    def close(self) -> None:
        """End the workers."""

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        impatient = isinstance(error, KeyboardInterrupt) and not isinstance(error, Interrupted)
        try:
            if error is not None and not impatient and self.under_way:
                self.stop()
                while self.under_way:
                    self.outcomes(_TICK)
        finally:
            self.close()


class Engine(ABC):
    """Where tasks are carried out, and how many of them at once: settings alone; `open` makes the pool."""

    @property
    def here(self) -> bool:
        """Whether tasks are carried out in this very process, one after the other."""
        return False

    @abstractmethod
    def open(
        self,
        data: Dataset | None = None,
        *,
        should_stop: Callable[[], bool] = never,
        report: Callable[[str, Any], None] = lambda name, message: None,
    ) -> Pool:
        """Workers for tasks that share a data set.

        Args:
            data: what `Context.data` shall be.
            should_stop: called by tasks that are carried out in this process; others are stopped by `Pool.stop`.
            report: called with a task's name and what it has reported, while `Pool.outcomes` waits.
        """


def packed(value: Any, what: str) -> bytes:
    """A value as bytes for another process.

    Raises:
        ValueError: if it cannot be sent, with what to do.
    """
    try:
        return pickle.dumps(value)
    except Exception as error:  # each class has its own way to refuse
        raise ValueError(
            f"{what}: cannot be sent to another process ({brief(str(error))}); give networks, methods and teachers by "
            "name or as folders, leave out on_epoch, or use one worker"
        ) from error


def carry_out(task: bytes, context: Context) -> tuple[Any, BaseException | None]:
    """Result and error of a packed task, of which one is None; an error that cannot be sent becomes one that says the same."""
    try:
        return pickle.loads(task)(context), None
    except (Exception, Interrupted) as error:
        error.__traceback__ = error.__context__ = error.__cause__ = None
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # of a class with arguments of its own
            return None, RuntimeError(f"{type(error).__name__}: {error}")
        return None, error


def work_off(
    pool: Pool,
    wanted: Callable[[], Sequence[Task]],
    on_outcome: Callable[[Outcome], None],
    *,
    should_stop: Callable[[], bool] = never,
    on_tick: Callable[[], None] = lambda: None,
    state: Callable[[], str] = lambda: "what was under way is saved",
) -> None:
    """Keep a pool at work until nothing is wanted any more.

    A task that ends with `BusyError` is tried again a few seconds later, if it is wanted still: another process is at it.

    Args:
        pool: whose workers carry the tasks out.
        wanted: the tasks that can begin, in their order, without those that are done; called whenever something has ended.
        on_outcome: called with each task that has ended; what it raises ends the loop.
        should_stop: called all the time.
        on_tick: called about twice a second where tasks are carried out elsewhere.
        state: a description of the work, for the message when it is stopped.

    Raises:
        Interrupted: when `should_stop` returns True, or at Ctrl-C, after all that was under way is saved.
    """
    with (
        should_stop if isinstance(should_stop, contextlib.AbstractContextManager) else contextlib.nullcontext()
    ):
        try:
            if _all_done(pool, wanted, on_outcome, should_stop, on_tick):
                return
        except KeyboardInterrupt:
            _saved(pool, on_outcome)
            raise
        _saved(pool, on_outcome)
        raise Interrupted(f"stopped; {state()}")


def _all_done(
    pool: Pool,
    wanted: Callable[[], Sequence[Task]],
    on_outcome: Callable[[Outcome], None],
    should_stop: Callable[[], bool],
    on_tick: Callable[[], None],
) -> bool:
    """Whether nothing is wanted any more; False when stopped before."""
    later: dict[str, float] = {}
    tasks: Sequence[Task] | None = None
    while True:
        tasks = wanted() if tasks is None else tasks
        begun = [task for task in tasks if task.name not in pool.under_way]
        if not begun and not pool.under_way:
            return True
        if should_stop():
            return False
        now = time.monotonic()
        for task in [task for task in begun if later.get(task.name, now) <= now][: pool.free]:
            pool.submit(task)
        if not pool.under_way:  # the rest is under way elsewhere
            time.sleep(min(_TICK, max(0.0, min(later[task.name] for task in begun) - now)))
        for outcome in pool.outcomes(_TICK) if pool.under_way else ():
            tasks = None
            if isinstance(outcome.error, BusyError):
                later[outcome.task.name] = time.monotonic() + SECONDS_BETWEEN_LOOKS
            elif isinstance(outcome.error, Interrupted):  # by a signal to the worker
                raise outcome.error
            else:
                on_outcome(outcome)
        on_tick()


def _saved(pool: Pool, on_outcome: Callable[[Outcome], None]) -> None:
    """Let what is under way save and end; what has finished instead counts."""
    pool.stop()
    while pool.under_way:
        for outcome in pool.outcomes(_TICK):
            if not isinstance(outcome.error, Interrupted | BusyError):
                on_outcome(outcome)
