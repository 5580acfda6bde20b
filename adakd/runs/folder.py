"""The folder of a run: its files, its lock, and what a process leaves behind that was killed there."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ..training.files import check_fields, read_json, read_record, remove_leftovers, write_record
from ..training.record import environment, now

__all__ = [
    "CHECKPOINT",
    "FILES",
    "RECORD",
    "WEIGHTS",
    "BusyError",
    "alone",
    "begin_session",
    "clean",
    "tidy",
]

log = logging.getLogger("adakd")

RECORD, CHECKPOINT, WEIGHTS = "record.json", "checkpoint.pt", "weights.safetensors"
LOCK = ".lock"
SESSIONS = "sessions.json"  # when, where and by which commit an unfinished run was worked on
_UNFINISHED = (CHECKPOINT, SESSIONS)
FILES = (RECORD, WEIGHTS, *_UNFINISHED)


class BusyError(RuntimeError):
    """Another process is training this very run."""


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
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


def begin_session(
    folder: Path, device: torch.device, captured: bool, runs_of_one_teacher: int, world: dict[str, Any]
) -> list[dict[str, Any]]:
    """Earlier sessions of an unfinished run and this one, which begins: a run may change commit, machine and processes."""
    path = folder / SESSIONS
    earlier = _earlier_sessions(path) if path.is_file() and (folder / CHECKPOINT).is_file() else []
    # Of runs that share a live teacher, each counts its part of the teacher's time.
    shared = {"runs_of_one_teacher": runs_of_one_teacher} if runs_of_one_teacher > 1 else {}
    sessions = [*earlier, {"started": now(), "captured": captured, **shared, **world, **environment(device)}]
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


def tidy(folder: Path) -> None:
    """Remove what a process left that was killed between its record and its cleaning up."""
    with contextlib.suppress(OSError, BusyError):  # whoever may only read, or is not alone, leaves it
        if any((folder / name).exists() for name in _UNFINISHED) or any(folder.glob(".*")):
            with alone(folder):
                if (folder / RECORD).is_file():  # still: someone may have begun it afresh
                    clean(folder)


def clean(folder: Path) -> None:
    """Of a finished run nothing stays but its weights and its record."""
    remove_leftovers(folder, FILES)
    for name in (*_UNFINISHED, LOCK):
        (folder / name).unlink(missing_ok=True)
