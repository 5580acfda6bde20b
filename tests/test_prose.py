"""Numbers in prose are made and not typed: they stand in an output of their page, or in a list here with the reason.

Looked at are numbers with decimals or with a per cent sign, in the Markdown cells of the notebooks that `ALLOWED` lists, and
in README and the book's first pages outside what is generated. A number counts as made if the same digits stand in a text
output that nbval compares, or a hundredth of it does where the prose has a per cent sign.
"""

import copy
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What no run can change, and why it may be typed.
ALLOWED = {
    "00": {"0.9": "the momentum, chosen"},
    "01": {
        "1.366": "c₂ = (1 + √3)/2",
        "0.366": "(√3 − 1)/2",
        "2.08": "exp(√3 − 1)",
    },
    "02": {
        "3.8": "1 − 2 exp(1 − √3), in per cent",
        "0.76": "where a curve of its figure is cut, chosen",
    },
    "03": {
        "0.001": "an error, chosen",
        "0.21": "asserted by the cell after it",
        "0.13": "asserted by the cell after it",
        "0.10": "asserted by the cell after it",
        "0.28": "W(1/e), the growth of the zeros' distance by order",
        "1.2": "a point, chosen and tried by the cell after it",
        "2.5": "a point, chosen and tried by the cell after it",
        "1.443": "1/ln 2",
        "1.5": "asserted by the cell after it",
    },
    "04": {
        "0.09": "9 divided by 100 classes",
        "0.8": "a correlation, chosen",
        "1.1": "ten per cent above 1, chosen",
        "10.5": "asserted by the cell after it",
        "7.7": "asserted by the cell after it",
    },
    "05": {
        "0.0027": "asserted by a cell",
        "0.0055": "asserted by a cell",
        "0.015": "asserted by a cell",
        "0.789": "(3 + √3)/6",
        "1.366": "c₂ = (1 + √3)/2",
        "3.73": "2 + √3",
    },
    "06": {
        "0.73": "√3 − 1, asserted by a cell",
        "1.366": "c₂ = (1 + √3)/2",
        "2.08": "exp(√3 − 1)",
        "1.5": "asserted by the cell before it",
        "5.6": "1/(c₂ ln 2) − 1, in per cent",
        "27": "1 − 1/c₂, in per cent",
        "28": "28.1 in the table of its section",
        "4.6": "asserted by a cell, to a tenth",
        "73.49": "one cell of Table 1, as printed",
        "8.1": "9 times 9/10",
        "8.91": "9 times 99/100",
    },
    "07": {
        "0.01": "the floor of DTKD's sharpness, chosen",
        "0.1": "a weight in DTS's formula",
        "0.9": "a weight in DTS's formula",
        "0.3": "below which a figure's numbers are not coloured, chosen",
    },
    "08": {"3.2": "√10"},
    "09": {
        "0.5": "0.05 times 10",
        "80": "an example in a definition",
        "0.02": "where the bisection begins, chosen",
        "1.5": "a bound in words, over what a cell prints that trains",
        "60.7": "asserted of the record by the cell of Figure 7",
    },
    "10": {
        "0.1": "the published weight of the labels",
        "4.098": "c₂√9, printed and asserted by chapter 6",
    },
    "11": {
        "0.05": "the level of the intervals, chosen",
        "0.8": "the power, chosen",
    },
    "12": {
        "0.09": "9 divided by 100 classes",
        "8.1": "9 times 0.9",
        "15.6212": "quoted from the users' reports; it is 1 + 20σ(1)",
    },
    "13": {
        "1.3": "quoted from a summary of the paper, to be refuted",
        "4.098": "c₂√9, printed and asserted by chapter 6",
        "1.96": "the normal quantile of a 95 % band",
        "74.135": "one cell of Table 2, as printed",
    },
    "14": {},
    "15": {
        "2.5": "half of the level, chosen",
        "95": "the level, chosen",
        "0.99": "one per cent below 1, the target",
        "1.01": "one per cent above 1, the target",
        "0.1": "ten per cent, from the paper",
    },
    "16": {},
    "17": {},
    "primer": {"95": "the level of the intervals, chosen"},
    "README": {},
    "intro": {"3.11": "the version of Python"},
    "using": {"0.9": "the published weight of kd"},
    "findings": {"95": "the level of the intervals, chosen"},
}


def number_of(path):
    return path.stem.split("_")[0]


CHAPTERS = [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if number_of(path) in ALLOWED]
# Of the playground's page and chapter 10, what prose and outputs share is whole numbers.
SHARING = [path for path in CHAPTERS if number_of(path) not in ("00", "10")]


def spoken(text):
    """The prose of a Markdown text: without code, addresses, references, sections and names of papers."""
    text = re.split(r"^## References$", text, flags=re.MULTILINE)[0]
    text = re.sub(r"```.*?```|`[^`\n]*`", " ", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)|https?://\S+", " ", text)
    text = re.sub(r"\b[Ss]ections? \d\.\d|\b\d{4}\.\d{4,5}\b", " ", text)
    return re.sub(r"[\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}]", " ", text)


def numbers(text):
    """(digits, whether in per cent) of each number that has decimals or a per cent sign."""
    for found in re.finditer(r"(?<![\w.\\])(\d+(?:\.\d+)?)(?!\.?\d)\s*(\\?%|per ?cent\b)?", spoken(text)):
        digits, percent = found.groups()
        if "." in digits or percent:
            yield digits, bool(percent)


def shown(cell):
    """The text that a cell prints, if its output is compared."""
    if {"nbval-ignore-output", "trained-here"} & {*cell["metadata"].get("tags", [])}:
        return ""
    texts = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        texts += map(
            "".join, (output.get("text", ""), data.get("text/plain", ""), data.get("text/markdown", ""))
        )
    return "\n".join(texts)


def typed(cells):
    """Numbers of the prose that no cell shows, as (place of the cell, digits)."""
    printed = set(
        re.findall(r"\d+(?:\.\d+)?", "\n".join(shown(cell) for cell in cells if cell["cell_type"] == "code"))
    )
    hundredths = {round(100 * float(token), 6) for token in printed}
    return [
        (place, digits)
        for place, cell in enumerate(cells)
        if cell["cell_type"] == "markdown"
        for digits, percent in numbers("".join(cell["source"]))
        if digits not in printed and not (percent and float(digits) in hundredths)
    ]


def cells_of(path):
    return json.loads(path.read_text(encoding="utf8"))["cells"]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_numbers_of_a_chapter_come_from_its_cells(path):
    allowed = ALLOWED[number_of(path)]
    found = typed(cells_of(path))
    assert [(place, digits) for place, digits in found if digits not in allowed] == []
    assert {*allowed} <= {digits for _, digits in found}, "allowed, and not needed"


@pytest.mark.parametrize("path", SHARING, ids=lambda path: path.stem)
def test_a_number_that_changes_in_an_output_is_noticed_in_the_prose(path):
    """Of the numbers that the prose shares with the outputs, every single one is held by them."""
    cells = cells_of(path)
    spoken_of = {
        digits
        for cell in cells
        if cell["cell_type"] == "markdown"
        for digits, _ in numbers("".join(cell["source"]))
    }
    held = sorted(spoken_of - {digits for _, digits in typed(cells)})
    assert held
    silent = copy.deepcopy(cells)
    for cell in silent:
        cell["outputs"] = []
    assert {digits for _, digits in typed(silent)} >= {*held}


def test_an_invented_number_is_found():
    prose = {
        "cell_type": "markdown",
        "metadata": {},
        "source": "It gains 7.31 points, or 12 % of `0.99` ([here](1.5.ipynb)), section 4.1.",
    }
    code = {
        "cell_type": "code",
        "metadata": {},
        "source": "",
        "outputs": [{"text": ["a gain of 7.31\n", "a share of 0.12"]}],
    }
    assert typed([prose, code]) == []
    code["outputs"] = [{"text": ["a gain of 7.32, 17.31 and 7.310"]}]
    assert typed([prose, code]) == [(0, "7.31"), (0, "12")]
    code = code | {"metadata": {"tags": ["nbval-ignore-output"]}, "outputs": [{"text": ["7.31 and 12"]}]}
    assert typed([prose, code]) == [(0, "7.31"), (0, "12")]


@pytest.mark.parametrize("name", ["README", "intro", "using", "findings"])
def test_numbers_of_the_front_pages_are_generated_or_definitions(name):
    text = (ROOT / ("" if name == "README" else "book") / f"{name}.md").read_text(encoding="utf8")
    text = re.sub(r"<!-- (\w+):begin -->.*?<!-- \1:end -->", " ", text, flags=re.DOTALL)
    found = {digits for digits, _ in numbers(text)}
    assert found == {*ALLOWED[name]}, "not allowed, or allowed and not needed"
