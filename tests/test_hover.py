"""The glossary, and the terms and equations that explain themselves on the pages."""

import json
import re
from pathlib import Path

import pytest
from pages import open_browser
from test_book import small_book

ROOT = Path(__file__).parents[1]
GLOSSARY = (ROOT / "book" / "glossary.md").read_text(encoding="utf8")
ENTRIES = re.findall(r"^(\S[^\n`{]*)\n  (.+)$", GLOSSARY, re.MULTILINE)
# What the main path uses and a reader with calculus alone may lack: each is a glossary entry.
NEEDED = """
    branch point · calibration · condition number · correlation · cross entropy · cumulant · distillation · divergence
    eigenvalue · entropy · expected calibration error · gradient norm · Jacobian · Kullback–Leibler divergence · logits
    matched weight · maximum logit · nat · paired difference · pole · power series · radius of convergence · recipe
    record · Samuelson's inequality · seed · simultaneous · skewness · soft label · softmax · standard error
    standardize · Taylor softmax · temperature · two-sided condition · variance under p · view
"""


def prose(path):
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def test_the_glossary_is_sorted_and_each_entry_is_a_sentence_with_its_place():
    terms = [term for term, _ in ENTRIES]
    assert terms == sorted(terms, key=str.lower)
    for term, sentence in ENTRIES:
        assert re.search(r"\. \(\[[^\]]+\]\([^)]+\)\)$", sentence), term


def test_nothing_that_the_main_path_needs_is_missing():
    needed = {term.strip() for term in re.split(r"·|\n", NEEDED) if term.strip()}
    assert needed <= {term for term, _ in ENTRIES}


@pytest.mark.parametrize("term", [term for term, _ in ENTRIES])
def test_a_term_of_the_glossary_is_used_by_a_chapter(term):
    pages = [prose(path) for path in (ROOT / "notebooks").glob("*.ipynb")]
    stem = term.lower().removesuffix("e") if term == "standardize" else term.lower()
    assert any(stem in page.lower() for page in pages)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"notebooks/(\w+\.ipynb#[^)]+)\)", GLOSSARY))))
def test_a_place_that_the_glossary_names_is_there(target):
    name, _, anchor = target.partition("#")
    headings = re.findall(r"^#+ (.+)$", prose(ROOT / "notebooks" / name), re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert anchor in slugs


FOLDER = {
    "index": "# Start\n",
    "book/glossary": "# Glossary\n\n```{glossary}\nlogits\n  Numbers before the <softmax>. ([Here](../index.md))\n\n"
    "nat\n  A unit. ([Here](../index.md))\n```\n",
    "notebooks/one": "# One\n\n## A section\n\n$$x > 1 \\tag{9}$$\n\n$$y \\tag{10 as printed}$$\n",
    "two": "# Logits in a title\n\nA row of logits, again logits; `logits` in code. A **nat** is defined here, two nats.\n\n"
    "By Eq. 9 it holds, and Eq. 10 has no formula.\n",
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hover")
    for name in FOLDER:
        (folder / name).parent.mkdir(exist_ok=True)
    done = small_book(folder, FOLDER)
    assert done.returncode == 0, done.stderr
    return folder / "_build" / "html"


def test_the_first_use_of_a_term_is_a_link_and_no_other(pages):
    html = (pages / "two.html").read_text(encoding="utf8")
    links = re.findall(r'<a class="term" href="([^"]+)" title="([^"]+)">([^<]+)</a>', html)
    assert links == [("book/glossary.html#term-logits", "Numbers before the &lt;softmax&gt;.", "logits")]
    assert re.findall(r'<a class="equation" href="([^"]+)" data-tex="([^"]+)">([^<]+)</a>', html) == [
        ("notebooks/one.html#a-section", "x &gt; 1", "Eq. 9")
    ]
    assert "Eq. 10" in html
    for page in ("book/glossary", "index"):
        assert 'class="term"' not in (pages / f"{page}.html").read_text(encoding="utf8")


def test_a_sentence_shows_to_pointer_and_keyboard_and_escape_closes_it(pages):
    with open_browser() as browser:
        page = browser.new_page()
        page.goto((pages / "two.html").as_uri())
        box, term = page.locator("#explanation"), page.locator("a.term")
        assert not box.is_visible()
        term.hover()
        box.wait_for(state="visible")
        assert box.inner_text() == "Numbers before the <softmax>."
        assert term.get_attribute("aria-describedby") == "explanation"
        assert term.get_attribute("title") is None
        page.keyboard.press("Escape")
        assert not box.is_visible()
        page.mouse.move(0, 0)
        term.focus()
        assert box.is_visible()
        page.locator("a.equation").focus()
        box.locator("mjx-container, div").first.wait_for()
        assert "x > 1" in box.text_content() or box.locator("mjx-container").count()
        page.locator("a.equation").blur()
        box.wait_for(state="hidden")
