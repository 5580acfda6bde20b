"""What reaches the terminal: in any locale, through any pipe, and never as a command to it."""

import codecs
import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .._check import printable
from ..training import write_json

__all__ = ["complain", "logging_to_stderr", "say", "terminal", "write_result"]

# For a terminal that has no Greek: what can be read at once, and is as wide where a table needs it.
_PLAIN = {
    "±": "~",
    "–": "-",
    "—": "-",
    "…": "~",
    "×": "x",
    "→": ">",
    "·": "*",
    "τ": "tau",
    "λ": "lambda",
    "²": "^2",
    "ρ": "rho",
    "‖": "||",
    "−": "-",
}


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    escaped = (_PLAIN.get(c) or c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in wrong)
    return "".join(escaped), error.end


codecs.register_error("adakd.plain", _plain)


class _Unfailing:
    """A stream for progress and remarks: a training of days does not end because nobody reads them any more."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _open_closed_descriptors() -> None:
    """Without it, the first file that is opened would get the number of a closed stdout, and what C code prints."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """stdout and stderr that can be written to, whatever they are, for the time of a command."""
    _open_closed_descriptors()
    before = sys.stdout, sys.stderr
    changed = []
    with contextlib.ExitStack() as stack:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None or getattr(stream, "closed", False):
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                setattr(sys, name, nowhere)
            elif hasattr(stream, "reconfigure"):
                changed.append((stream, stream.errors))
                stream.reconfigure(errors="adakd.plain")
        sys.stderr = _Unfailing(sys.stderr)
        try:
            yield
        finally:
            sys.stderr.flush()
            sys.stdout, sys.stderr = before
            for stream, errors in changed:
                with contextlib.suppress(OSError, ValueError):  # what is buffered may have nowhere to go
                    stream.reconfigure(errors=errors)


class _Handler(logging.Handler):
    """Lines of the library's log, above the progress bar and not through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(printable(self.format(record)), file=sys.stderr)


@contextlib.contextmanager
def logging_to_stderr(quiet: bool, verbose: bool) -> Iterator[None]:
    """What the library says as it works, for the time of a command; with `quiet` its warnings alone."""
    log = logging.getLogger("adakd")
    handler, level = _Handler(), log.level
    handler.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def say(text: str) -> None:
    """Lines of a result; what came out of a file cannot move the cursor."""
    for line in text.split("\n"):
        print(printable(line))


def complain(text: str) -> None:
    """One line on stderr."""
    print(printable(text), file=sys.stderr)


def _shown_json(text: str) -> str:
    """JSON as it may reach a terminal: what would steer one, or what the output's encoding lacks, becomes JSON's own escape."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return text.translate(
        {ord(c): json.dumps(c)[1:-1] for c in set(text) - {"\n"} if _needs_escape(c, encoding)}
    )


def _needs_escape(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return not character.isascii()
    return printable(character) != character


def write_result(target: str | None, result: Any, text: str) -> None:
    """The result as text; with `--json FILE` also as JSON in that file, with `--json -` as JSON instead."""
    if target == "-":
        print(_shown_json(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)))
        return
    if target is not None:
        write_json(Path(target), result)
    say(text)
