"""Numbers in prose are made and not typed: they stand in an output of their page, or in a list here with the reason.

Looked at are numbers with decimals or with a per cent sign, in the Markdown cells of chapters 11 to 15 and in what README
and the book's first page say outside their generated parts. A number counts as made if the same digits stand in a text
output of the notebook, or a hundredth of it does where the prose has a per cent sign.
"""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("1[1-5]_*.ipynb"))
# What no run can change. The key is the chapter, the number is as in the prose.
ALLOWED = {}


def spoken(text):
    """The prose of a Markdown text, without code, addresses and names of papers."""
    text = re.sub(r"```.*?```|`[^`\n]*`", " ", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)|https?://\S+|<!--.*?-->", " ", text, flags=re.DOTALL)
    text = re.sub(r"\b\d{4}\.\d{4,5}\b", " ", text)  # arXiv
    return text.replace("−", "-").replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


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
        texts += ["".join(output.get("text", "")), *("".join(data.get(f"text/{kind}", "")) for kind in ("plain", "markdown"))]
    return "\n".join(texts)


def typed(cells, allowed=()):
    """Numbers of the prose that no cell shows, as (place of the cell, number)."""
    printed = set(re.findall(r"\d+(?:\.\d+)?", "\n".join(shown(cell) for cell in cells if cell["cell_type"] == "code")))
    hundredths = {f"{100 * float(token):.4f}" for token in printed}
    found = []
    for place, cell in enumerate(cells):
        if cell["cell_type"] != "markdown":
            continue
        for digits, percent in numbers("".join(cell["source"])):
            made = digits in printed or (percent and f"{float(digits):.4f}" in hundredths)
            if not made and digits not in allowed:
                found.append((place, f"{digits} %" if percent else digits))
    return found


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_numbers_of_a_chapter_come_from_its_cells(path):
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    assert typed(cells, ALLOWED.get(path.stem[:2], {})) == []
