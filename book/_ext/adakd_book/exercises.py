"""Exercises that check themselves in the page: a cell that asks `adakd.exercises.check` becomes a field with a button.

The right answer is computed when the book is built. The page gets hashes of the numbers near it, so that its source does
not show it, and ``exercises.js`` compares: nothing is sent anywhere, and no kernel is needed.
"""

import html
import json
import math
import re

from sphinx.util import logging

from adakd.exercises import EXERCISES

logger = logging.getLogger(__name__)

CELL = re.compile(r'adakd\.exercises\.check\("([^"]*)", \.\.\.\)')
PARTS = 4  # steps of the page's grid in the largest difference that is allowed


def hashed(text):
    """FNV-1a of 32 bits, as in exercises.js. It hides an answer from a glance, and keeps no secret."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def near(exercise, value, step):
    """Hashes of the multiples of a step that count as this value."""
    margin = max(exercise.margin, step / 2 * 0.999)
    first, last = math.ceil((value - margin) / step), math.floor((value + margin) / step)
    return [hashed(f"{exercise.name}:{k}") for k in range(first, last + 1)]


def for_page(exercise):
    """All that the page needs, as JSON can hold it."""
    known = {name: getattr(exercise, name) for name in ("name", "prompt", "kind", "hint", "choices")}
    if exercise.choices:
        return known | {"right": [hashed(f"{exercise.name}:{exercise.solution}")], "mistakes": []}
    step = exercise.margin / PARTS or 1
    mistakes = [[near(exercise, value(), step), hint] for value, hint in exercise.mistakes]
    return known | {"step": step, "right": near(exercise, exercise.solution, step), "mistakes": mistakes}


def widget(exercise):
    data = html.escape(json.dumps(for_page(exercise), ensure_ascii=False))
    return (
        f'<div class="exercise" data-exercise="{data}"><noscript><p>{html.escape(exercise.prompt)}: the page checks '
        "an answer by JavaScript, the notebook by <code>adakd.exercises.check</code>.</p></noscript></div>"
    )


def prepare(app, docname, source):
    """Replace the cells in a notebook's JSON; `source-read` hands it over, and the file stays as it is."""
    if not app.env.doc2path(docname).endswith(".ipynb") or app.builder.format != "html":
        return
    notebook = json.loads(source[0])
    for number, cell in enumerate(notebook["cells"], start=1):
        match = CELL.fullmatch("".join(cell["source"]).strip())
        if cell["cell_type"] != "code" or not match:
            continue
        if match[1] not in EXERCISES:
            logger.error(
                "%s, cell %d: there is no exercise %r in adakd.exercises",
                docname,
                number,
                match[1],
                location=docname,
            )
            continue
        cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), "remove-input"]
        shown = {"text/html": widget(EXERCISES[match[1]])}
        cell["outputs"] = [{"output_type": "display_data", "metadata": {}, "data": shown}]
    source[0] = json.dumps(notebook)


def setup(app):
    app.connect("source-read", prepare)
    app.add_js_file("exercises.js", defer="defer")
