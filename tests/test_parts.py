"""Parts are found by their files: one file a part, and no line anywhere else."""

import importlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import adakd
from adakd import Divergence, Refinement, SampleWeight, TemperatureRule, Term
from adakd._parts import find_parts
from adakd.divergence import DIVERGENCES
from adakd.refine import REFINEMENTS
from adakd.temperature import RULES
from adakd.terms import TERMS
from adakd.weight import WEIGHTS

PACKAGE = Path(adakd.__file__).parent
TABLES = {
    "temperature": (RULES, TemperatureRule),
    "divergence": (DIVERGENCES, Divergence),
    "refine": (REFINEMENTS, Refinement),
    "weight": (WEIGHTS, SampleWeight),
    "terms": (TERMS, Term),
}


@pytest.mark.parametrize("room", TABLES)
def test_a_part_has_the_name_of_its_file(room):
    table, family = TABLES[room]
    files = {path.stem for path in (PACKAGE / room).glob("[a-z]*.py")} - {"base"}
    assert set(table) == files - ({"logit"} if room == "terms" else set())  # composed of parts, not named
    for name, part in table.items():
        assert part.__module__ == f"adakd.{room}.{name}"
        assert issubclass(part, family)
        assert part.__doc__


def test_every_part_is_explained_and_used_by_a_row():
    """A part that no row and no suffix names could not be asked for."""
    from adakd.methods import METHODS, RULE_NAMES

    rows = [summand for row in METHODS.values() for summand in (row.summands or (row,))]
    used = {"temperature": {row.rule for row in rows} | {rule.rule for rule in RULE_NAMES.values()}}
    used |= {"divergence": {row.divergence for row in rows}, "refine": {row.refine for row in rows}}
    used |= {"weight": {row.weight for row in rows}, "terms": {row.term for row in rows}}
    assert {room: sorted(set(TABLES[room][0]) - names) for room, names in used.items()} == {
        key: [] for key in used
    }


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package of parts and finds what is in it."""
    monkeypatch.syspath_prepend(tmp_path)

    def found(name, **files):
        folder = tmp_path / name
        folder.mkdir()
        for module, text in {"__init__": "", **files}.items():
            (folder / f"{module}.py").write_text(text)
        importlib.invalidate_caches()
        room = importlib.import_module(name)
        return find_parts(name, room.__path__, TemperatureRule)

    return found


RULE = "from adakd import TemperatureRule\n__all__ = ['Mine', 'helper']\nhelper = 1\nclass Mine(TemperatureRule): pass\n"


def test_what_is_no_part_begins_with_an_underscore_or_is_base(package):
    parts = package("parts_a", mine=RULE, _shared="", base=RULE)
    assert list(parts) == ["mine"]
    assert parts["mine"].__name__ == "Mine"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("__all__ = ['helper']\nhelper = 1\n", 0),
        (RULE + "class Other(Mine): pass\n__all__ += ['Other']\n", 2),
        (RULE.replace("'Mine', ", ""), 0),
    ],
    ids=["none", "two", "private"],
)
def test_a_public_file_is_one_part(package, text, count):
    with pytest.raises(
        TypeError, match=rf"mine: expected one subclass of TemperatureRule in __all__, got {count}"
    ):
        package(f"parts_b{count}{len(text)}", mine=text)


def test_parts_are_found_in_an_archive(tmp_path):
    archive = tmp_path / "adakd.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in PACKAGE.rglob("*.py"):
            file.write(path, Path("adakd") / path.relative_to(PACKAGE))
    script = "import adakd.temperature as room; print(room.__file__); print(*room.RULES)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(archive)},
    )
    assert done.returncode == 0, done.stderr
    where, rules = done.stdout.splitlines()
    assert where.startswith(str(archive))
    assert rules.split() == list(RULES)
