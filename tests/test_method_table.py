"""The table of methods: each entry as it should be, and the book's copy as it is."""

import method_table
import pytest

from adakd import METHODS


@pytest.fixture(scope="module")
def rows():
    return [method_table.facts(name) for name in METHODS]


def test_every_method_agrees_differentiates_and_compiles(rows):
    for row in rows:
        assert row.wrong == 0, row
        assert row.gradcheck, row
        assert row.one_graph, row


def test_what_is_compared_with_peers(rows):
    """Rows of published code have published values; the others are tested by properties instead of values."""
    ours = {"correlation", "ztaylor"}  # the book's own
    without_code = {"cswt", "adakd", "meta", "itkd"}
    other_combinations = {"zkd+mlt-teacher", "zdkd+mlt", "zdkd+mlt-teacher", "dtkd"}
    uncompared = {row.method for row in rows if not row.agreeing}
    assert uncompared == ours | without_code | other_combinations


def test_what_learns_and_what_remembers(rows):
    assert {row.method for row in rows if row.learned} == {"ctkd", "zctkd", "dkd+ctkd"}
    assert {row.method for row in rows if row.state} == {"dts", "zkd+dts", "meta", "itkd"}


def test_the_books_table_is_this_one(rows):
    page = method_table.HERE.parent / "book" / "methods_table.md"
    assert page.read_text(encoding="utf-8") == method_table.markdown(rows)
