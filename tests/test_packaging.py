"""What is published: wheel and sdist are whole, and work from outside the tree."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINNED = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def names_of(requirements):
    return {normal(re.match(r"[\w.-]+", line)[0]) for line in requirements}


def test_installing_never_asks_for_another_torch():
    """Each torchvision, and each torchaudio, wants one exact torch: pip would replace the one that is there."""
    needed = names_of(PROJECT["dependencies"])
    assert "torch" in needed
    assert not needed & {"torchvision", "torchaudio", "lightning", "transformers", "accelerate"}
    assert not any(re.search(r"==|<|~=|!=", line) for line in PROJECT["dependencies"]), "lower bounds only"
    assert names_of(PROJECT["optional-dependencies"]["torchvision"]) == {"torchvision"}
    assert "torchvision" not in map(normal, PINNED)


def test_what_is_needed_is_pinned_within_its_bounds():
    pinned = {normal(name): version for name, version in PINNED.items()}
    extras = PROJECT["optional-dependencies"]
    for line in [*PROJECT["dependencies"], *extras["book"], *extras["dev"], *extras["export"]]:
        name, bound = re.fullmatch(r"([\w.-]+)>=([\d.]+)", line).groups()
        found = [int(part) for part in re.findall(r"\d+", pinned[normal(name)])]
        assert found >= [int(part) for part in bound.split(".")], name


def left_by_others(folder, names):
    """What builds and runs leave in a tree; a folder `runs` of theirs, and not the package's own."""
    patterns = (
        ".git",
        ".venv*",
        ".*_cache",
        ".hypothesis",
        "node_modules",
        "_build",
        "build",
        "dist",
        "*.egg-info",
        "__pycache__",
    )
    left = shutil.ignore_patterns(*patterns)(folder, names)
    return left if Path(folder).name == "adakd" else {*left, *({"runs"} & set(names))}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist of a copy of the tree, unpacked, and the wheel that is built from it, as pip builds it."""
    pytest.importorskip("setuptools", minversion="77", reason="builds with the setuptools that is installed")
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "tree", ignore=left_by_others)
    sdist = build("build_sdist", folder / "tree", folder)
    with tarfile.open(sdist) as tar:
        tar.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked, build("build_wheel", unpacked, folder)


def build(what, tree, folder):
    script = f"import setuptools.build_meta as b; print('made', b.{what}({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split("made ")[-1].strip()


def outside(folder, *command, path=""):
    """Run Python in a folder outside the tree, with nothing of the tree in sight."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ADAKD_")}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(path), "HOME": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built):
    _, wheel = built
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        (commands,) = (archive.read(name).decode() for name in archive.namelist() if "entry_points" in name)
    kept = (ROOT / "adakd").rglob("*")
    files = {str(path.relative_to(ROOT)) for path in kept if path.is_file() and "__pycache__" not in path.parts}
    assert inside == files
    assert "adakd = adakd._entry:main" in commands


@pytest.fixture(scope="module")
def description():
    """setup.py's function."""
    found = {"__name__": "setup", "__file__": str(ROOT / "setup.py")}
    pytest.importorskip("setuptools")
    exec((ROOT / "setup.py").read_text(encoding="utf8"), found)
    return found["description"]


LINKS = r"\]\(([^)\s]+)\)"


@pytest.mark.parametrize(("release", "branch"), [("", "main"), ("0.1.0", "v0.1.0")])
def test_the_package_indexs_page_links_into_the_repository(description, release, branch):
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    home = "https://github.com/someone/somewhere"
    before = re.findall(LINKS, readme)
    inside = [link for link in before if not link.startswith("http")]
    assert len(inside) > 10
    assert all((ROOT / link).exists() for link in inside)
    expected = [
        link
        if link.startswith("http")
        else f"{home}/{'raw' if link.endswith('webp') else 'blob'}/{branch}/{link}"
        for link in before
    ]
    assert re.findall(LINKS, description(readme, home, release)) == expected


def test_without_an_address_it_has_no_link_that_leads_nowhere(description, built):
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    text = description(readme, "", "")
    assert all(link.startswith("http") for link in re.findall(LINKS, text))
    assert "Using the library goes on" in text.replace("\n", " ")
    with zipfile.ZipFile(built[1]) as archive:
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if "METADATA" in name)
    assert "Description-Content-Type: text/markdown" in metadata
    _, _, body = metadata.partition("\n\n")
    home = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["tool"]["adakd"]
    assert body.strip() == description(readme, **home).strip()


DISTILL = """
import adakd
from adakd.data import load_gratings
settings = dict(data=load_gratings(250, 20), device="cpu", epochs=1, batch_size=125, progress=False)
teacher = adakd.train_teacher("resnet8x0.5", **settings)
run = adakd.distill(teacher.folder, "resnet8x0.5", "zkd+mlt", **settings)
print(adakd.__file__, run.record["result"]["last"] >= 0, adakd.open_run(run.folder).model() is not None)
"""


@pytest.mark.slow
def test_the_wheel_works_from_outside_the_tree(built, tmp_path):
    _, wheel = built
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    pip = ["-m", "pip", "install", "--disable-pip-version-check", "-q", "--no-deps", "--no-index", "--target"]
    done = outside(empty, *pip, site, wheel)
    assert done.returncode == 0, done.stderr
    done = outside(empty, "-m", "adakd", "methods", path=site)
    assert done.returncode == 0, done.stderr
    assert "zkd" in done.stdout
    done = outside(empty, "-c", DISTILL, path=site)
    assert done.stdout.split() == [str(site / "adakd" / "__init__.py"), "True", "True"], done.stderr
    assert (empty / "runs" / "gratings" / "resnet8x0.5").is_dir()


@pytest.mark.slow
def test_the_sdist_holds_what_its_tests_need(built):
    """Every file of the tests, the book and the package; and some of its tests, which read files beside them, pass."""
    unpacked, _ = built
    for folder in ("adakd", "benchmarks", "book", "notebooks", "tests"):
        kept = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
        wanted = {
            str(path.relative_to(ROOT))
            for path in kept
            if not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)
            and (folder == "adakd" or "runs" not in path.relative_to(ROOT).parts)
            and path.suffix not in (".pyc", ".lock")
        }
        assert {name for name in wanted if not (unpacked / name).is_file()} == set()
    top = {
        "README.md",
        "LICENSE",
        "CITATION.cff",
        "Makefile",
        "MANIFEST.in",
        "pyproject.toml",
        "requirements.txt",
        ".ci",
        ".devcontainer",
        ".github",
        ".pre-commit-config.yaml",
        "biome.json",
        "package.json",
    }
    assert top <= {path.name for path in unpacked.iterdir()}

    small = [
        "temperature/test_dts.py",
        "test_golden.py",
        "test_series.py",
        "test_imports.py::test_imports_go_down",
    ]
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/{name}" for name in small)]
    done = outside(unpacked, *command)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\d+ passed", done.stdout)
