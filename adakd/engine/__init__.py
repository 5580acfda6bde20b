"""Engines: where the runs of a study, a comparison or a sweep are carried out: here, in local processes, on a Ray cluster."""

from .base import Context, Engine, Outcome, Pool, Task, WorkerDiedError, work_off
from .claims import claimed, refuse_other_run
from .local import Processes, Sequential
from .ray import Ray
from .stop import StopRequests

__all__ = [
    "Context",
    "Engine",
    "Outcome",
    "Pool",
    "Processes",
    "Ray",
    "Sequential",
    "StopRequests",
    "Task",
    "WorkerDiedError",
    "claimed",
    "refuse_other_run",
    "work_off",
]
