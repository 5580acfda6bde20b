"""What the README says to type works: its Python runs, its commands exist."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from adakd.cli import _parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
# A line of a shell block, or the whole of an `inline` piece of code; comments and prompts are left off.
LINES = [
    line for language, code in BLOCKS if language in ("bash", "console", "sh") for line in code.splitlines()
]
TYPED = [
    line.removeprefix("$ ").partition("#")[0].strip() for line in [*LINES, *re.findall(r"`([^`\n]+)`", README)]
]
ADAKD = sorted({line for line in TYPED if re.match(r"adakd [a-z-]+( |$)", line)})
MAKE = sorted({line.split()[1] for line in TYPED if re.match(r"make [a-z]+$", line)})


def test_there_is_something_to_type():
    assert len(PYTHON) >= 2
    assert len(ADAKD) >= 3
    assert {"book", "test"} <= set(MAKE)


def test_python_blocks_run_in_their_order(demo, tmp_path, monkeypatch):
    # The teacher of the demonstration lies there, as it does for a reader who typed the commands above.
    shutil.copytree(demo.out / "gratings" / "resnet14", tmp_path / "runs" / "gratings" / "resnet14")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    for number, code in enumerate(PYTHON, start=1):
        exec(compile(code, f"README.md, Python block {number}", "exec"), namespace)


@pytest.mark.parametrize("command", ADAKD)
def test_commands_are_understood(command):
    _parser().parse_args(shlex.split(command)[1:])


@pytest.mark.parametrize("target", MAKE)
def test_make_targets_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_files_of_the_tree_exist():
    """Every path in the annotated tree is there, and so is every relative link."""
    (tree,) = (code for language, code in BLOCKS if language == "" and "adakd/ " in code)
    inside = ROOT
    for line in tree.splitlines():
        name = line.split()[0]
        inside = ROOT if not line.startswith(" ") else inside
        assert (inside / name).exists(), name
        if not line.startswith(" "):
            inside = ROOT / name
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", README):
        assert (ROOT / target).exists(), target
