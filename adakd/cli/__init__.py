"""The command line, also as `python -m adakd`: teachers, students, comparisons, measurements; one file a command."""

import argparse
import difflib
import os
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from .._check import brief, printable
from .._version import versions
from ..data import DataError
from ..export import ExportError
from ..runs import BusyError
from ..teachers import TeacherError
from ..training import CacheError, CheckpointError, Interrupted, PeerError, WeightsError
from ..training.world import launched
from . import (
    advise,
    bench,
    cache,
    compare,
    distill,
    evaluate,
    export,
    methods,
    study,
    sweep,
    table,
    teacher,
    temperatures,
)
from .options import OptionError, refuse_overwriting
from .output import complain, logging_to_stderr, terminal

__all__ = ["main"]

# What a user can mend: shown as one line, without a traceback.
_USER_ERRORS = (
    BusyError,
    CacheError,
    CheckpointError,
    DataError,
    ExportError,
    FloatingPointError,
    MemoryError,
    OSError,  # no such file, no permission, no room on the disk
    OptionError,
    PeerError,
    TeacherError,
    ValueError,
    WeightsError,
    torch.OutOfMemoryError,
)

_COMMANDS = (
    teacher,
    distill,
    compare,
    study,
    sweep,
    table,
    cache,
    evaluate,
    export,
    temperatures,
    advise,
    bench,
    methods,
)

_EPILOG = """\
Start here (embedded data, no download, under a minute on two CPU cores):
  adakd distill                            teacher, then a student by zkd+mlt
  adakd distill --method ce                the same student without a teacher
  adakd compare --methods ce kd zkd+mlt    several on the same views; a table

CIFAR-100 (downloaded and verified on first use):
  adakd teacher --data cifar100 --model resnet32x4 --recipe paper
  adakd distill --data cifar100 --teacher resnet32x4 --student resnet8x4 \\
      --recipe paper

Ctrl-C stops a run and saves it; repeating the command continues it exactly.
"""

_INTERNAL = 70  # EX_SOFTWARE of sysexits.h
_NOBODY_READS = 128 + 13  # what a shell reports of a program that SIGPIPE ended


class _Parser(argparse.ArgumentParser):
    """Shows nothing that a terminal would obey, whatever was typed."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            message = "\n".join(printable(line) for line in message.split("\n"))
        super()._print_message(message, file)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(versions())
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="adakd",
        description="Knowledge distillation with adaptive temperatures.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        help="show the versions of adakd, torch and Python and the accelerator, and exit",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """As argparse does it, but an unknown option ends with that command's own usage and the nearest option."""
    parser = _parser()
    typed = list(sys.argv[1:] if argv is None else argv)
    if typed and not typed[0].startswith("-"):
        _check_command(parser, typed[0])
    arguments, unknown = parser.parse_known_args(typed)
    if unknown:
        parser = arguments.parser
        near = difflib.get_close_matches(unknown[0][:60].partition("=")[0], parser._option_string_actions, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        parser.error(f"unrecognized arguments: {' '.join(map(brief, unknown[:5]))}{hint}")
    refuse_overwriting(arguments)
    return arguments


def _check_command(parser: argparse.ArgumentParser, name: str) -> None:
    """End with the usage for a command that there is not: with what was perhaps meant."""
    commands = [command.__name__.rpartition(".")[2] for command in _COMMANDS]
    if name in commands:
        return
    near = difflib.get_close_matches(name[:60], commands, n=1)
    if name == "demo":
        hint = "the demonstration is `adakd distill`, and in a clone of the repository also `make demo`"
    elif near:
        hint = f"did you mean {near[0]}?"
    else:
        hint = f"the commands are {', '.join(commands)}"
    parser.error(f"unknown command {brief(name)}: {hint}")


def _run(argv: Sequence[str] | None) -> int:
    fresh = False
    try:
        arguments = _parse(argv)
        fresh = getattr(arguments, "fresh", False)
        quiet, verbose = getattr(arguments, "quiet", False), getattr(arguments, "verbose", False)
        if launched():
            quiet, verbose = _among_others(arguments.command, quiet, verbose)
        with logging_to_stderr(quiet, verbose):
            return arguments.run(arguments) or 0
    except Interrupted as interrupted:
        if _rank():
            return 130  # the first process says it for all
        sys.stderr.write("\n")
        complain(str(interrupted))
        complain(f"Repeat the command{' without --fresh' if fresh else ''} to continue.")
        return 130
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except _USER_ERRORS as error:
        if isinstance(error, PeerError) and _rank():
            time.sleep(_SECONDS_OF_THE_OTHER)
            return 1
        complain(f"adakd{f' (process {_rank()})' if _rank() else ''}: {_text_of(error)}")
        return 1
    except Exception as error:
        if "can't allocate memory" in str(error):  # torch has no class of its own for it on a CPU
            complain("adakd: not enough memory; try a smaller --batch-size, or a smaller network")
            return 1
        if os.environ.get("ADAKD_TRACEBACK"):
            traceback.print_exc()
        complain(
            f"adakd: internal error ({type(error).__name__}: {error}). This is a fault of adakd and not yours: please "
            "report it with the command. With ADAKD_TRACEBACK=1 in the environment it says where."
        )
        return _INTERNAL


_SECONDS_OF_THE_OTHER = 1.0  # torchrun ends all when one has ended: whose error it was has its word first


def _rank() -> int:
    """Number of this process among those of one run, from 0."""
    return int(os.environ["RANK"]) if launched() else 0


def _among_others(command: str, quiet: bool, verbose: bool) -> tuple[bool, bool]:
    """Whether this process is quiet and verbose where several carry out one command."""
    if command not in ("distill", "teacher"):
        raise OptionError(
            f"torchrun: several processes train one network, by `adakd distill` or `adakd teacher`; start `adakd {command}` "
            "without torchrun"
            + ("; many runs at a time: `adakd sweep`" if command in ("compare", "study") else "")
        )
    if _rank() == 0:
        return quiet, verbose
    warnings.simplefilter("ignore")  # the first process warns
    return True, False


def _text_of(error: BaseException) -> str:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "not enough memory; try a smaller --batch-size, or a smaller network"
    return str(error) or type(error).__name__


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0: done; 1: an error of one line, or runs of a study or comparison that failed; 130: interrupted; 141: nobody reads
    the output any more; 70: a fault of adakd itself. What cannot be parsed ends with SystemExit(2), as argparse has it.
    """
    with terminal():
        try:
            try:
                return _run(argv)
            finally:
                sys.stdout.flush()  # here, where a full disk or a closed pipe can still be distinguished from success
        except BrokenPipeError:  # as by `| head`: no reason for a word
            _let_go_of_stdout()
            return _NOBODY_READS
        except OSError as error:
            complain(f"adakd: {error}")
            _let_go_of_stdout()
            return 1


def _let_go_of_stdout() -> None:
    """What is still buffered goes nowhere: else Python would complain once more when it ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):  # a stream that is no file
        return
