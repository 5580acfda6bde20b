"""The notebooks' common first cell: one text, short, idle at home, and careful with what Colab has.

What it does on a machine like Colab, as a whole: `python tests/colab.py CHAPTER`, by hand.
"""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def first_cell(path):
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    return next(cell for cell in cells if cell["cell_type"] == "code")


@pytest.fixture(scope="module")
def text():
    return "".join(first_cell(NOTEBOOKS[0])["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_begins_with_it(path, text):
    cell = first_cell(path)
    assert "".join(cell["source"]) == text
    assert cell["metadata"]["tags"] == ["hide-cell", "nbval-ignore-output"]


def test_it_is_short_and_names_nobodys_repository(text):
    assert len(text.splitlines()) <= 20
    assert text.count("OWNER/REPO") == 2  # the name, and the question whether it was written


@pytest.fixture
def run_cell(monkeypatch, tmp_path, text):
    """run_cell(repository) -> the commands that its first part gives, without doing them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    commands = []

    def pretend(command, check):
        assert check
        commands.append(command)
        if command[0] == "git":
            Path(command[-1], "notebooks").mkdir(parents=True)

    monkeypatch.setattr(subprocess, "run", pretend)
    start = text.partition("from adakd.explore")[0]

    def run(repository="someone/book"):
        exec(compile(start.replace('"OWNER/REPO"  #', f'"{repository}"  #'), "cell", "exec"), {})
        return commands

    return run


@pytest.fixture
def colab(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    monkeypatch.delitem(sys.modules, "adakd", raising=False)


def test_elsewhere_it_does_nothing(run_cell, tmp_path):
    assert run_cell("OWNER/REPO") == []
    assert Path.cwd() == tmp_path


@pytest.mark.usefixtures("colab")
def test_on_colab_it_asks_for_the_repository(run_cell):
    with pytest.raises(AssertionError, match="Write the repository's name"):
        run_cell("OWNER/REPO")


@pytest.mark.usefixtures("colab")
def test_on_colab_it_clones_installs_and_goes_there(run_cell, tmp_path):
    clone, install = run_cell()
    assert clone[:2] == ["git", "clone"]
    assert clone[-2:] == ["https://github.com/someone/book", str(tmp_path / "book")]
    assert install[:4] == [sys.executable, "-m", "pip", "install"]
    assert f"torch=={version('torch')}" in install  # pip fails rather than replace it
    assert Path.cwd() == tmp_path / "book" / "notebooks"  # where ../book/records is
    assert sys.path[0] == str(tmp_path / "book")


@pytest.mark.usefixtures("colab")
def test_after_a_restart_it_finds_the_clone(run_cell, tmp_path):
    run_cell()
    os.chdir(tmp_path)
    commands = run_cell()
    assert [command[0] for command in commands].count("git") == 1
    assert Path.cwd() == tmp_path / "book" / "notebooks"
