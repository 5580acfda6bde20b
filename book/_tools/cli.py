"""Write the page of the command line, book/cli.md, from what each command's --help says.

python book/_tools/cli.py            write the page anew
python book/_tools/cli.py --check    exit with 1 if that would change it
"""

import argparse
import os
import sys
from argparse import _SubParsersAction
from pathlib import Path

os.environ["COLUMNS"] = "80"  # before anything asks: argparse breaks its lines at the terminal's width

from adakd.cli import _parser
from adakd.cli.methods import short_list

PAGE = Path(__file__).resolve().parents[2] / "book" / "cli.md"
INTRODUCTION = """\
# The command line

Every command with its options, as `adakd COMMAND --help` prints them. {doc}`using` shows the usual ones at work.

A command says in one line what was wrong with what was typed, and ends with 2 if it could not be read, with 1 if it could not be
done; 130 after Ctrl-C, which saves a run first, so that the same command continues it; 70 if the fault is adakd's own.
"""


def page():
    parser = _parser()
    parts = [INTRODUCTION, block(parser.format_help())]
    for name, command in commands(parser):
        parts += [f"## adakd {name}\n", block(command.format_help())]
        parts += [block(one.format_help()) for _, one in commands(command)]
        if name == "methods":
            parts += ["Without a name it prints this list:\n", block("\n".join(short_list()))]
    return "\n".join(parts)


def commands(parser):
    """Name and parser of each command of a parser."""
    found = [action.choices.items() for action in parser._actions if isinstance(action, _SubParsersAction)]
    return [pair for pairs in found for pair in pairs]


def block(text):
    return f"```text\n{text.strip()}\n```\n"


def parsed(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if that would change something"
    )
    return parser.parse_args(arguments)


def main(arguments):
    only_check = parsed(arguments).check
    new = page()
    if only_check:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != new)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
