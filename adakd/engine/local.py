"""Engines of one machine: this process, and processes of its own."""

import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from ..data import Dataset
from ..training.loop import Interrupted, never
from ._shared import MappedData
from .base import Context, Engine, Outcome, Pool, Task, WorkerDiedError, packed

__all__ = ["Processes", "Sequential"]

log = logging.getLogger("adakd")

_SECONDS_TO_END = 5.0


@dataclass(frozen=True)
class Sequential(Engine):
    """Tasks one after the other, in this process."""

    @property
    def here(self) -> bool:
        return True

    def open(
        self,
        data: Dataset | None = None,
        *,
        should_stop: Callable[[], bool] = never,
        report: Callable[[str, Any], None] = lambda name, message: None,
    ) -> Pool:
        return _Here(data, should_stop, report)


class _Here(Pool):
    def __init__(
        self,
        data: Dataset | None,
        should_stop: Callable[[], bool],
        report: Callable[[str, Any], None],
    ):
        self.context = Context(data, should_stop, here=True)
        self.report = report
        self.tasks: list[Task] = []

    @property
    def free(self) -> int:  # type: ignore[override]
        return 1 - len(self.tasks)

    @property
    def under_way(self) -> set[str]:  # type: ignore[override]
        return {task.name for task in self.tasks}

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def outcomes(self, seconds: float) -> Sequence[Outcome]:
        """Carries the next task out. An interruption of it is this process's own, and is raised."""
        task = self.tasks.pop()
        self.context.report = lambda message: self.report(task.name, message)
        try:
            return [Outcome(task, task(self.context))]
        except Exception as error:
            return [Outcome(task, error=error)]

    def stop(self) -> None:
        self.tasks.clear()  # none of them has begun

    def close(self) -> None:
        self.tasks.clear()


@dataclass(frozen=True)
class Processes(Engine):
    """Tasks in several processes of this machine.

    They share the data set's memory and, by the file system, everything else. With several GPUs, each process has one of
    them, in turn. A process that dies is replaced, and its task tried again; it goes on where it was saved.

    Args:
        workers: how many processes, at least 1.
        retries: how often a task is tried again whose process has died.

    Raises:
        ValueError: for other numbers.
    """

    workers: int = 2
    retries: int = 3

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("retries", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")

    def open(
        self,
        data: Dataset | None = None,
        *,
        should_stop: Callable[[], bool] = never,
        report: Callable[[str, Any], None] = lambda name, message: None,
    ) -> Pool:
        return _Pool(self, data, report)


@dataclass(eq=False)
class _Worker:
    """A process with the connection to it, and what it is at."""

    number: int
    """Below the number of workers, and no other's at the time: it says which GPU the process has."""
    process: subprocess.Popen[bytes]
    connection: Connection
    task: Task | None = None


@dataclass
class _Pool(Pool):
    engine: Processes
    data: Dataset | None
    report: Callable[[str, Any], None]
    workers: list[_Worker] = field(default_factory=list)
    again: deque[Task] = field(default_factory=deque)
    deaths: dict[str, int] = field(default_factory=dict)
    stopping: bool = False

    def __post_init__(self) -> None:
        self.mapped = MappedData(self.data) if self.data is not None else None

    @property
    def free(self) -> int:  # type: ignore[override]
        return self.engine.workers - len(self.under_way)

    @property
    def under_way(self) -> set[str]:  # type: ignore[override]
        return {task.name for task in (*self.again, *(w.task for w in self.workers if w.task is not None))}

    def submit(self, task: Task) -> None:
        message = packed(task, task.name)  # before a process starts for nothing
        worker = next((worker for worker in self.workers if worker.task is None), None) or self._begin()
        worker.task = task
        with contextlib.suppress(OSError):  # it has died while it had nothing to do; `outcomes` finds it so
            worker.connection.send_bytes(message)

    def _begin(self) -> _Worker:
        """A new process. It inherits one end of a connection, whose other end closes when this process dies."""
        taken = {worker.number for worker in self.workers}
        number = next(number for number in range(len(taken) + 1) if number not in taken)
        ours, theirs = socket.socketpair()
        inherited = [theirs.fileno(), *([self.mapped.file] if self.mapped else [])]
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "adakd.engine._worker", *map(str, inherited)],
                stdin=subprocess.DEVNULL,
                pass_fds=inherited,
                env=_environment(number, self.engine.workers),
                start_new_session=True,  # Ctrl-C is for this process, which passes it on
            )
        finally:
            theirs.close()
        worker = _Worker(number, process, Connection(ours.detach()))
        about = (self.mapped.about, self.mapped.layout) if self.mapped else None
        # What each says as it works, one's own process may say; of many at once it is too much.
        verbose = log.getEffectiveLevel() <= logging.DEBUG
        worker.connection.send((logging.DEBUG if verbose else logging.WARNING, about))
        self.workers.append(worker)
        return worker

    def outcomes(self, seconds: float) -> Sequence[Outcome]:
        while self.again and not self.stopping:
            self.submit(self.again.popleft())
        found = [Outcome(task, error=Interrupted("stopped")) for task in self.again]
        self.again.clear()
        busy = {worker.connection: worker for worker in self.workers if worker.task is not None}
        for ready in wait(list(busy), seconds) if busy else ():
            worker = busy[ready]  # type: ignore[index]
            task = worker.task
            assert task is not None
            try:
                kind, message = worker.connection.recv()
            except (EOFError, OSError, pickle.UnpicklingError):
                found += self._died(worker, task)
                continue
            if kind == "log":
                log.log(*message)
            elif kind == "report":
                self.report(task.name, message)
            else:
                worker.task = None
                found.append(Outcome(task, *message))
        return found

    def _died(self, worker: _Worker, task: Task) -> list[Outcome]:
        self.workers.remove(worker)
        worker.connection.close()
        status = _fate(worker.process)
        if self.stopping:
            return [Outcome(task, error=Interrupted("stopped"))]
        self.deaths[task.name] = deaths = self.deaths.get(task.name, 0) + 1
        if deaths <= self.engine.retries:
            log.warning("%s: its process ended (%s); it goes on in another one", task.name, status)
            self.again.append(task)
            return []
        message = (
            f"its process ended {deaths} times, at last by {status}; if by SIGKILL, memory has perhaps run out: take fewer "
            "workers. What was saved stays"
        )
        return [Outcome(task, error=WorkerDiedError(message))]

    def stop(self) -> None:
        self.stopping = True
        for worker in self.workers:
            if worker.task is not None:
                worker.process.terminate()

    def close(self) -> None:
        for worker in self.workers:
            worker.connection.close()  # by which it ends
        for worker in self.workers:
            try:
                worker.process.wait(_SECONDS_TO_END if worker.task is None else 0.0)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self.workers.clear()
        if self.mapped:
            self.mapped.close()
            self.mapped = None


def _fate(process: subprocess.Popen[bytes]) -> str:
    """What ended a process whose connection is closed."""
    try:
        status = process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def _environment(number: int, workers: int) -> dict[str, str]:
    """Of the process of that number: the modules of this one, its share of the cores, and one of the GPUs."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if torch.cuda.is_available() and (gpus := torch.cuda.device_count()) > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
        environment["CUDA_VISIBLE_DEVICES"] = visible[number % gpus]
    return environment
