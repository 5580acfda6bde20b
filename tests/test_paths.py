"""The ways through the book: every chapter on one, and nothing needed that comes later."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KNOWN = json.loads((ROOT / "book" / "data" / "paths.json").read_text(encoding="utf8"))
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))[
    1:
]  # not the playground


def test_every_chapter_is_on_one_path():
    assert sorted(page for way in KNOWN["paths"].values() for page in way["pages"]) == CHAPTERS
    assert sorted(KNOWN["needs"]) == CHAPTERS


@pytest.mark.parametrize("page", CHAPTERS)
def test_what_a_chapter_needs_does_not_need_it(page):
    needed, reached = [page], set()
    while needed:
        for need in KNOWN["needs"].get(needed.pop(), []):
            need = need.partition("#")[0]
            assert need != page
            assert (ROOT / "notebooks" / f"{need}.ipynb").exists()
            if need not in reached:
                needed.append(need)
                reached.add(need)


@pytest.mark.parametrize("name", KNOWN["paths"])
def test_a_path_needs_nothing_of_its_own_that_comes_later(name):
    pages = KNOWN["paths"][name]["pages"]
    for i, page in enumerate(pages):
        assert not set(KNOWN["needs"][page]) & set(pages[i:])


def test_minutes_grow_with_the_text(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    pytest.importorskip("sphinx", reason="the book's tools are not installed")
    from adakd_book.paths import minutes, span
    from docutils.core import publish_doctree

    short, long = (
        publish_doctree("Two words\n" * n, settings_overrides={"report_level": 5}) for n in (180, 1800)
    )
    assert minutes(short) == 2  # 360 words
    assert minutes(long) == 20
    assert [span(n) for n in (23, 69, 90, 117, 153)] == [
        "23 minutes",
        "69 minutes",
        "1½ hours",
        "2 hours",
        "2½ hours",
    ]
    sys.modules.pop("adakd_book", None)


def test_how_long_chapters_run_is_measured_and_told_coarsely(monkeypatch):
    measured = json.loads((ROOT / "book" / "data" / "running.json").read_text(encoding="utf8"))
    assert set(measured) <= {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert all(one["seconds"] > 0 and one["processor"] for one in measured.values())
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    pytest.importorskip("sphinx", reason="the book's tools are not installed")
    from adakd_book.paths import running

    words = ["seconds", "under a minute", "about 1 minute", "about 3 minutes"]
    assert [running(seconds) for seconds in (15, 50, 60, 150)] == words
    sys.modules.pop("adakd_book", None)
