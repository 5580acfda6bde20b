"""What the command `adakd` starts with: it can be stopped from its first moment on, before the library is imported."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ._version import versions

__all__ = ["main"]


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C ends the process at once and without a word, with the status that a shell gives it.

    An exception would not do: importing torch takes seconds, and packages catch what is raised while they are imported, or
    tell it at length. Nothing is open yet that had to be closed. A Ctrl-C that the caller ignores stays ignored.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status, as `adakd.cli.main`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:  # answered without the library
        with _stoppable():
            print(versions())
        return 0
    # OpenMP's threads wait for each other by spinning. Beside another busy process the one that is waited for then gets
    # no processor: on two cores a step of resnet20 takes 6 times as long, and 2 times if they sleep. Where nothing else
    # runs, sleeping costs a tenth to a third. A process of our own may choose, before torch reads it; in somebody
    # else's this is not ours to say.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with _stoppable():
        from .cli import main as run
    return run(arguments)
