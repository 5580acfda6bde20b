"""The repository's home: written once, into everything that names it, and taken out again."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
HOME = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["tool"]["adakd"]
FILES = (
    "pyproject.toml",
    "CITATION.cff",
    "README.md",
    "_config.yml",
    "tests/test_colab.py",
    "book/_tools/home.py",
)
URL = "https://github.com/Some-One/a.book"


def write_home(root, *arguments):
    command = [sys.executable, root / "book" / "_tools" / "home.py", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def test_everything_names_the_same_home():
    done = write_home(ROOT, "--check")
    assert done.returncode == 0, f"run `make home`: {done.stdout}{done.stderr}"


@pytest.fixture
def tree(tmp_path):
    """What the tool writes, as it is here, and two of the notebooks, with no home."""
    for name in (*FILES, "notebooks/primer.ipynb", "notebooks/16_beyond_logits.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    assert write_home(tmp_path, "none").returncode == 0
    return tmp_path


def contents(tree):
    return {path: path.read_bytes() for path in tree.rglob("*") if path.is_file() and "cache" not in str(path)}


def test_without_a_home_nothing_leads_anywhere(tree):
    project = tomllib.loads((tree / "pyproject.toml").read_text())
    assert "urls" not in project["project"]
    assert yaml.safe_load((tree / "_config.yml").read_text())["sphinx"]["config"]["book_repository"] == ""
    assert "repository-code" not in yaml.safe_load((tree / "CITATION.cff").read_text())
    readme = (tree / "README.md").read_text()
    assert "github.io" not in readme
    assert "colab.research" not in readme
    assert "`pip install .`" in readme


@pytest.mark.parametrize("release", ["", "1.2.3"])
def test_a_home_is_written_into_everything_and_taken_out_again(tree, release):
    before = contents(tree)
    done = write_home(tree, URL, *filter(None, [release]))
    assert done.returncode == 0, done.stderr
    assert write_home(tree, "--check").returncode == 0
    branch = f"v{release}" if release else "main"

    project = tomllib.loads((tree / "pyproject.toml").read_text())
    assert project["tool"]["adakd"] == {"home": URL, "release": release}
    assert project["project"]["urls"]["Repository"] == URL
    assert project["project"]["urls"]["Book"] == "https://some-one.github.io/a.book/"
    assert yaml.safe_load((tree / "CITATION.cff").read_text())["repository-code"] == URL
    configuration = yaml.safe_load((tree / "_config.yml").read_text())
    assert configuration["sphinx"]["config"]["book_repository"] == "Some-One/a.book"
    assert configuration["repository"] == {"url": "", "branch": branch}
    readme = (tree / "README.md").read_text()
    assert f"/github/Some-One/a.book/blob/{branch}/notebooks/primer.ipynb)" in readme
    assert ("pip install adakd==1.2.3" if release else f"git+{URL}") in readme
    for path in (tree / "notebooks").glob("*.ipynb"):
        assert 'REPOSITORY = "Some-One/a.book"' in "".join(json.loads(path.read_text())["cells"][1]["source"])

    assert write_home(tree, "none").returncode == 0
    assert contents(tree).items() >= before.items()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["https://example.org/a/b"], "expected https://github.com/OWNER/NAME"),
        (["https://github.com/alone"], "expected https://github.com/OWNER/NAME"),
        ([URL, "v1"], "expected a version"),
        (["none", "1.2.3"], "without a home"),
    ],
)
def test_what_is_no_home_is_refused_and_nothing_written(tree, arguments, complaint):
    before = contents(tree)
    done = write_home(tree, *arguments)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert contents(tree) == before


def test_the_form_of_the_first_cell_holds_with_a_home_too(tree):
    assert write_home(tree, URL, "1.2.3").returncode == 0
    options = ["-q", "--noconftest", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings="]
    command = [sys.executable, "-m", "pytest", *options, tree / "tests" / "test_colab.py"]
    done = subprocess.run(list(map(str, command)), cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
