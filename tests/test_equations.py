"""The index of the paper's equations: complete, and each entry leads to a chapter that prints the equation."""

import json
import re
import statistics
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "book" / "equations.md").read_text(encoding="utf8")
ROWS = re.findall(r"^\| ([\d,\s]+?) \| (.+) \| (.+?) \| (.+) \|$", PAGE, re.MULTILINE)
PARTS = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]
PART_ONE = next(part["chapters"] for part in PARTS if part["caption"].startswith("Part I "))


def numbers(cell):
    return [int(number) for number in re.findall(r"\d+", cell)]


def prose(path):
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def test_every_equation_stands_once():
    assert sorted(number for row in ROWS for number in numbers(row[0])) == list(range(1, 21))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip())
def test_an_entry_says_its_state_and_leads_to_the_equation(row):
    label, _, status, where = row
    assert re.match(r"(derived|corrected|extended)\b", status)
    (path,) = re.findall(r"\]\(\.\./(notebooks/[\w.]+)#", where)
    tags = re.findall(r"\\tag\{([^}]*)\}", prose(ROOT / path))
    assert set(numbers(label)) <= {number for tag in tags for number in numbers(tag)}, (path, tags)


def test_what_was_corrected_is_on_the_errata_page():
    errata = (ROOT / "book" / "errata.md").read_text(encoding="utf8")
    listed = {
        number
        for heading in re.findall(r"^### Eqs?\. ([^:]*):", errata, re.MULTILINE)
        for number in numbers(heading)
    }
    corrected = {number for label, _, status, _ in ROWS if "corrected" in status for number in numbers(label)}
    assert corrected <= listed


@pytest.mark.parametrize("chapter", [chapter["file"] for chapter in PART_ONE])
def test_a_theory_chapter_has_its_form(chapter):
    """Promise, assertions, figures, summary, exercises with hidden solutions, references."""
    notebook = json.loads((ROOT / f"{chapter}.ipynb").read_text(encoding="utf8"))
    text = prose(ROOT / f"{chapter}.ipynb")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[-3:] == ["Summary", "Exercises", "References"]
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert sum("assert" in cell for cell in code) >= 10
    assert len(re.findall(r"^\*\*Figure \d+\.\*\*", text, re.MULTILINE)) >= 4
    hidden = [cell for cell in notebook["cells"] if "hide-cell" in cell["metadata"].get("tags", [])]
    assert len(hidden) >= 2
    numbered = [int(n) for n in re.findall(r"^\*\*Figure (\d+)\.\*\*", text, re.MULTILINE)]
    assert numbered == list(range(1, len(numbered) + 1))


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_no_cell_is_longer_than_a_reader_holds(path):
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    lengths = [len("".join(cell["source"]).splitlines()) for cell in cells if cell["cell_type"] == "code"]
    assert max(lengths) <= 25


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_most_of_the_code_that_a_reader_sees_is_short_and_shows_something(path):
    """Checks and preparations are folded: a page is a text with figures, and what stays open is worth typing."""
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    folded = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
    seen = [c for c in cells if c["cell_type"] == "code" and not folded & {*c["metadata"].get("tags", [])}]
    silent = [cell for cell in seen if not cell["outputs"]]
    assert len(silent) <= len(seen) / 4
    assert statistics.median(len("".join(cell["source"]).splitlines()) for cell in seen) <= 6
