"""The table of methods: each entry as it should be, and the book's copy as it is."""

import method_table
import pytest
import torch

from adakd import METHODS


@pytest.fixture(scope="module")
def rows():
    return method_table.all_facts()


def test_every_method_agrees_and_differentiates(rows):
    for row in rows:
        assert row.wrong == 0, row
        assert row.gradcheck, row


def test_every_method_is_one_graph(rows):
    assert [row.method for row in rows if not row.one_graph] == []


def test_what_is_compared_with_peers(rows):
    """Rows of published code have published values; the others are tested by properties instead of values."""
    published = "ce kd zkd dkd zdkd zkd+mlt zkd+mlt-abs zdkd+mlt-abs ctkd zctkd dkd+ctkd ttm wttm dtkd-max dts zkd+dts dist mlkd zmlkd"
    assert set(published.split()) <= {row.method for row in rows if row.agreeing}


def test_what_learns_and_what_remembers(rows):
    on_logits = [
        row for row in rows if METHODS[row.method].on_logits
    ]  # terms on features have connectors and memories
    learned = {METHODS[row.method].rule for row in on_logits if row.learned}
    remembered = {METHODS[row.method].rule for row in on_logits if row.state}
    assert learned >= {"ctkd"}
    assert remembered >= {"dts", "meta", "policy"}
    assert not (learned | remembered) & {"fixed", "maxlogit", "dtkd", "cosine", "difficulty", None}


@pytest.mark.skipif(torch.__version__.startswith("2.4."), reason="torch 2.4 makes several graphs of a loss")
def test_the_books_table_is_this_one(rows):
    page = method_table.HERE.parent / "book" / "methods_table.md"
    command = f"python tests/method_table.py --write {page.relative_to(page.parents[1])}"
    assert page.read_text(encoding="utf-8") == method_table.markdown(rows), f"write it again: {command}"
