"""Claims: which process is at a run, when several share a folder; and whether it is the run that was meant."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..runs import BusyError

__all__ = ["claimed", "refuse_other_run"]

log = logging.getLogger("adakd")


@contextlib.contextmanager
def claimed(folder: Path, key: str) -> Iterator[None]:
    """No other process is at the run of this key meanwhile. A claim ends with its process, however that ends.

    Raises:
        BusyError: if one is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{key[:16]}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(f"another process is at the run {key[:16]}") from None
    except NotImplementedError:  # a file system without locks
        log.info("%s cannot be locked: let no other process work there", folder)
    try:
        yield
    finally:
        lock.release()


def refuse_other_run(found: str, expected: str) -> None:
    """Raises ValueError unless the run that a worker would make is the one it was given out as."""
    if found != expected:
        raise ValueError(
            "engine: this worker would make another run than was planned: its hardware calls for another number format, or "
            "it finds other files; give the precision (--precision), and one version of everything to all machines"
        )
