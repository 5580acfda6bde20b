"""The page's reader of saved figures: names from a saved state reach its own values and nothing else."""

import base64
import json
from pathlib import Path

import pytest
from pages import make_ready

SCRIPT = Path(__file__).parents[2] / "book" / "_static" / "live-figures.js"
MODULE = """export default { render({ model, el }) {
  el.textContent = [model.get("toString"), model.get("constructor"), model.get("__proto__")].map(String).join();
  const bytes = model.get("inner")?.x; if (bytes) el.append(" " + bytes.getUint8(0));
} };"""
PAGE = """<!doctype html><meta charset=utf-8><div class="live-figure">
<script type="application/vnd.jupyter.widget-view+json">{"model_id": "m"}</script></div>
<script type="application/vnd.jupyter.widget-state+json">%s</script>"""


def opened(browser, path):
    """The figure's box, of a state whose one buffer belongs at that path; and whether every object has got an x."""
    buffer = {"path": path, "encoding": "base64", "data": base64.b64encode(b"\7").decode()}
    state = {"_esm": MODULE, "inner": {}}
    page = browser.new_page()
    make_ready(page)
    page.set_content(PAGE % json.dumps({"state": {"m": {"state": state, "buffers": [buffer]}}}))
    page.add_script_tag(path=str(SCRIPT))
    page.wait_for_selector(".is-live, .is-broken")
    found = page.inner_text(".live-figure"), page.evaluate("'x' in {}")
    page.close()
    return found


def test_a_figure_gets_its_own_values_only(browser):
    assert opened(browser, ["inner", "x"]) == ("undefined,undefined,undefined 7", False)


@pytest.mark.parametrize(
    "path", [["__proto__", "x"], ["inner", "__proto__", "x"], ["constructor", "prototype", "x"]]
)
def test_a_buffer_reaches_no_other_object(browser, path):
    text, reached = opened(browser, path)
    assert "This figure could not start: its saved state has a buffer at" in text
    assert not reached
