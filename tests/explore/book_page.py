"""The box of the book's page on advice, as a figure without traits: what it needs of the book is a module of its extension."""

import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

EXTENSION = Path(__file__).parents[2] / "book" / "_ext"


@cache
def advice_box():
    """With the library's tests alone there is no Sphinx, and no book."""
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_nb")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXTENSION))
        from adakd_book import advice

        esm, css = advice.module()
    for name in [name for name in sys.modules if name.partition(".")[0] == "adakd_book"]:
        del sys.modules[name]
    return SimpleNamespace(_esm=esm, _css=css, controls=())
