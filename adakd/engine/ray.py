"""An engine of many machines: a Ray cluster that exists, or a Ray of this machine."""

import contextlib
import importlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..data import Dataset
from ..training.loop import Interrupted, never
from ._shared import Arrays, joined, taken_apart
from .base import Context, Engine, Outcome, Pool, Task, WorkerDiedError, carry_out, packed
from .stop import StopRequests

__all__ = ["Ray"]

log = logging.getLogger("adakd")

_LEAST_STORE = 80 * 2**20  # bytes: below, Ray does not start
_ROOM = 64 * 2**20  # bytes of its store beside the data set
_TOKEN = "; on the cluster's own machine give 'auto', elsewhere RAY_AUTH_MODE=token where it takes a token"


@dataclass(frozen=True)
class Ray(Engine):
    """Tasks on a Ray cluster (``pip install "adakd[ray]"``).

    The data set lies in each node's object store once, and processes map it. Everything else goes through the folder of the
    runs, which all nodes must see under its name: teachers, caches (whose pages a node holds once), checkpoints, records.

    Args:
        address: of a cluster, as `ray.init` takes it ("auto": the one of this machine); None starts a Ray of its own.
        workers: how many tasks are under way at most; as many as the cluster has room for when left out.
        cpus_per_run, gpus_per_run: what a task takes up. Small students share a GPU: 0.25. One GPU where there is one, when
            left out.
        retries: how often a task is tried again whose process or node has died.

    Raises:
        ValueError: for other numbers, or if Ray is not installed.
    """

    address: str | None = None
    workers: int | None = None
    cpus_per_run: float = 1
    gpus_per_run: float | None = None
    retries: int = 3

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("retries", 0)):
            value = getattr(self, name)
            if value is None and name == "workers":  # as many as there is room for
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")
        for name in ("cpus_per_run", "gpus_per_run"):
            value = getattr(self, name)
            if value is None and name == "gpus_per_run":  # one, where there are any
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1024:
                raise ValueError(f"{name}: expected a number from 0 to below 1024, got {value!r}")
            if value > 1 and value != int(value):
                raise ValueError(f"{name}: expected a whole number or one below 1, got {value!r}")

    def open(
        self,
        data: Dataset | None = None,
        *,
        should_stop: Callable[[], bool] = never,
        report: Callable[[str, Any], None] = lambda name, message: None,
    ) -> Pool:
        return _OnRay(self, data)


def _imported() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ValueError('engine: Ray is not installed; pip install "adakd[ray]", or --engine local') from error


class _OnRay(Pool):
    def __init__(self, engine: Ray, data: Dataset | None):
        self.ray = _imported()
        self.engine = engine
        self.stopping = False
        self.tasks: dict[Any, Task] = {}  # by reference to the outcome
        shared = taken_apart(data) if data is not None else None
        self.owner = not self.ray.is_initialized()
        if self.owner:
            self._connect(sum(array.nbytes for array in shared[1]) if shared else 0)
        try:
            self.data = self.ray.put(shared)
            self.gpus = self._gpus()
            self.slots = self._slots()
        except BaseException:
            self.close()
            raise

    def _connect(self, size: int) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if self.engine.address is None:
            options |= {
                "address": "local",
                "include_dashboard": False,
                "num_cpus": None
                if self.engine.workers is None
                else self.engine.workers * self.engine.cpus_per_run,
                "object_store_memory": max(_LEAST_STORE, size + _ROOM),
            }
        else:
            options["address"] = self.engine.address
        try:
            self.ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            hint = "" if self.engine.address is None else _TOKEN
            raise ValueError(
                f"engine: no Ray at {self.engine.address or 'this machine'}: {error}{hint}"
            ) from error

    def _gpus(self) -> float:
        if self.engine.gpus_per_run is not None:
            return self.engine.gpus_per_run
        return 1.0 if self.ray.cluster_resources().get("GPU", 0) else 0.0

    def _slots(self) -> int:
        """How many tasks there is room for."""
        have, room = self.ray.cluster_resources(), float("inf")
        for kind, needed in (("CPU", self.engine.cpus_per_run), ("GPU", self.gpus)):
            if needed:
                room = min(room, have.get(kind, 0) // needed)
        if room < 1:
            raise ValueError(
                f"engine: a run takes {self.engine.cpus_per_run:g} CPUs and {self.gpus:g} GPUs, and the cluster has "
                f"{have.get('CPU', 0):g} and {have.get('GPU', 0):g}; give --cpus-per-run and --gpus-per-run"
            )
        return int(min(room, self.engine.workers or 10_000))

    @property
    def free(self) -> int:  # type: ignore[override]
        return self.slots - len(self.tasks)

    @property
    def under_way(self) -> set[str]:  # type: ignore[override]
        return {task.name for task in self.tasks.values()}

    def submit(self, task: Task) -> None:
        remote = self.ray.remote(_on_a_node).options(
            num_cpus=self.engine.cpus_per_run,
            num_gpus=self.gpus,
            max_retries=self.engine.retries,
            name=task.name,
        )
        self.tasks[remote.remote(packed(task, task.name), self.data)] = task

    def outcomes(self, seconds: float) -> Sequence[Outcome]:
        ended, _ = self.ray.wait(list(self.tasks), timeout=seconds)
        return [self._outcome(reference) for reference in ended]

    def _outcome(self, reference: Any) -> Outcome:
        task = self.tasks.pop(reference)
        try:
            lines, result, error = self.ray.get(reference)
        except self.ray.exceptions.TaskCancelledError:
            return Outcome(task, error=Interrupted("stopped"))
        except self.ray.exceptions.RayError as died:  # of a process, a node, or Ray itself
            if self.stopping:
                return Outcome(task, error=Interrupted("stopped"))
            reason = str(died).strip().partition("\n")[0]
            message = f"its process ended {self.engine.retries + 1} times ({reason}). What was saved stays"
            return Outcome(task, error=WorkerDiedError(message))
        for level, line in lines:
            log.log(level, "%s", line)
        return Outcome(task, result, error)

    def stop(self) -> None:
        self.stopping = True
        for reference in self.tasks:
            # Not by force: it is Ctrl-C to the process, which `StopRequests` collects there.
            self.ray.cancel(reference, force=False)

    def close(self) -> None:
        if self.tasks:
            with contextlib.suppress(Exception):  # it goes anyway
                for reference in self.tasks:
                    self.ray.cancel(reference, force=True)
        self.tasks.clear()
        self.data = None
        if self.owner:
            self.ray.shutdown()


class _Kept(logging.Handler):
    """Lines of the library's log that are worth sending: warnings, up to a hundred."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < 100:
            self.lines.append((record.levelno, record.getMessage()))


_contexts: dict[str, Context] = {}


def _on_a_node(
    task: bytes, shared: tuple[dict[str, Any], Arrays] | None
) -> tuple[list[tuple[int, str]], Any, BaseException | None]:
    """A task on a node: lines of the log, result, error. The processes of a node take one after the other."""
    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
    if "data" not in _contexts:
        _contexts["data"] = Context(joined(*shared) if shared is not None else None)
    context, handler = _contexts["data"], _Kept()
    stop = StopRequests()
    context.should_stop = stop
    library = logging.getLogger("adakd")
    library.addHandler(handler)
    try:
        with stop:
            return handler.lines, *carry_out(task, context)
    finally:
        library.removeHandler(handler)
