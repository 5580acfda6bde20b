"""The notebooks' common first cell: one text, short, idle at home, and careful with what Colab has.

What it does on a machine like Colab, as a whole: `python tests/colab.py CHAPTER`, by hand.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
HOME = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["tool"]["adakd"]
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


def test_it_is_short_and_names_the_home_or_nobodys(text):
    assert len(text.splitlines()) <= 22
    named = HOME["home"].removeprefix("https://github.com/") or "OWNER/REPO"
    assert f'REPOSITORY = "{named}"  #' in text
    assert f'RELEASE = "{HOME["release"]}"  #' in text
    assert text.count("OWNER/REPO") == (1 if HOME["home"] else 2)  # the question whether it was written


@pytest.fixture
def run_cell(monkeypatch, tmp_path, text):
    """run_cell(repository, release) -> the commands that its first part gives, without doing them.

    pip finds the releases in `run_cell.published`.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    commands = []

    def pretend(command, check=False):
        commands.append(command)
        if command[0] == "git":
            Path(command[-1], "notebooks").mkdir(parents=True)
        failed = command[-1].startswith("adakd==") and command[-1] not in run.published
        assert check or command[-1].startswith("adakd==")
        return subprocess.CompletedProcess(command, int(failed))

    monkeypatch.setattr(subprocess, "run", pretend)
    start = text.partition("from adakd.explore")[0]

    def run(repository="someone/book", release=""):
        cell = re.sub(r'(?<=^REPOSITORY = ")[^"]*', repository, start, flags=re.MULTILINE)
        cell = re.sub(r'(?<=^RELEASE = ")[^"]*', release, cell, flags=re.MULTILINE)
        exec(compile(cell, "cell", "exec"), {})
        return commands

    run.published = ()
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


@pytest.mark.usefixtures("colab")
def test_a_release_is_installed_instead_of_the_clone(run_cell, tmp_path):
    run_cell.published = ("adakd==1.2.3",)
    _, install = run_cell(release="1.2.3")
    assert install[-1] == "adakd==1.2.3"
    assert f"torch=={version('torch')}" in install
    assert str(tmp_path / "book") not in sys.path  # else the clone would be imported
    assert Path.cwd() == tmp_path / "book" / "notebooks"


@pytest.mark.usefixtures("colab")
def test_without_that_release_the_clone_is_installed(run_cell, tmp_path):
    *_, refused, install = run_cell(release="1.2.3")
    assert refused[-1] == "adakd==1.2.3"
    assert install[-2:] == ["-e", str(tmp_path / "book")]
    assert sys.path[0] == str(tmp_path / "book")
