r"""Advice on the reader's own logits, in the page itself::

    ```{advice}
    ```

The page reads the files by itself and sends nothing: ``adakd/explore/static/advice.js`` computes what `adakd.advise` does,
as far as the live figures have its formulas. What they have is found here; a rule or a method they lack is only named.
"""

import json

import torch
from docutils import nodes
from myst_nb.core.render import sanitize_script_content
from sphinx.util.docutils import SphinxDirective

from adakd import advise
from adakd._faults import FAULTS, FEWEST, LARGEST, SPREAD, UNTRAINED
from adakd.advice import BATCH, FEW, INSTEAD, MOST_NUMBERS, MOST_ROWS, ROUNDING
from adakd.explore.live import style_sheet
from adakd.explore.module import built_module
from adakd.explore.rules import live_rule, live_rule_of, method_for_page, rules_for_page, trains
from adakd.expression import names
from adakd.methods import get_method

from .figures import STATE, live_figure

MODEL = "advice"
WITHOUT = "<p>With JavaScript, this page reads a file of logits here; the command <code>adakd advise</code> does without.</p>"


def advice_on(classes, labelled):
    """Advice on a few made-up rows, for the names that are in it."""
    rows = torch.randn(8, classes, generator=torch.Generator().manual_seed(0))
    return advise(rows, rows.flip(0), rows.argmax(dim=1) if labelled else None)


def methods(rows):
    return [row["method"] for row in rows]


def rule_of_teacher(name):
    """The formula of the teacher's temperature; None where the page has none."""
    rule = live_rule_of(get_method(name))
    found = None if rule is None else live_rule(rule)
    return None if found is None else found.trees[1]


def constants():
    """What the page's module gets from Python: the rows and the rules that it can compute, limits, texts."""
    everything = advice_on(3, labelled=True)
    rules = {name: rule_of_teacher(name) for name in methods(everything.temperatures)}
    temperatures = [name for name, tree in rules.items() if tree is not None]
    gradients = [name for name in methods(everything.gradients) if trains(get_method(name))]
    rows = [get_method(name) for name in dict.fromkeys([*temperatures, *gradients])]
    return {
        "METHODS": {row.name: method_for_page(row) for row in rows},
        "RULES": rules_for_page(dict.fromkeys(map(live_rule_of, rows)), zoo=False),
        "ADVICE": {
            "temperatures": temperatures,
            "ofTeacher": [name for name in temperatures if "zs" not in names(rules[name])],
            "gradients": gradients,
            "withoutLabels": [
                name for name in methods(advice_on(3, labelled=False).gradients) if name in gradients
            ],
            "ofTwo": [name for name in methods(advice_on(2, labelled=True).gradients) if name in gradients],
            "elsewhere": {
                "temperatures": [name for name in rules if name not in temperatures],
                "gradients": [name for name in methods(everything.gradients) if name not in gradients],
            },
            "reference": everything.reference,
            "instead": INSTEAD,
            "faults": FAULTS,
            "mostRows": MOST_ROWS,
            "batch": BATCH,
            "few": FEW,
            "mostNumbers": MOST_NUMBERS,
            "largest": LARGEST,
            "spread": SPREAD,
            "untrained": UNTRAINED,
            "fewest": FEWEST,
            "rounding": ROUNDING,
        },
    }


def module():
    """JavaScript and style sheet, as a live figure has them."""
    return built_module("advice.js", **constants()), style_sheet("kit.css", "advice.css")


class AdviceDirective(SphinxDirective):
    """The place for the reader's files; one in a book."""

    def run(self):
        esm, css = module()
        saved = {
            "model_name": "AnyModel",
            "model_module": "anywidget",
            "model_module_version": "~0.9.*",
            "state": {"_esm": esm, "_css": css},
        }
        version = {"version_major": 2, "version_minor": 0}
        state = json.dumps({**version, "state": {MODEL: saved}})
        script = f'<script type="{STATE}">{sanitize_script_content(state)}</script>'
        self.env.metadata[self.env.docname]["live_figures"] = 1  # live.py then adds the script that starts it
        view = live_figure({"model_id": MODEL, **version}, f"<noscript>{WITHOUT}</noscript>")
        return [nodes.raw("", script + view, format="html")]


def setup(app):
    app.add_directive("advice", AdviceDirective)
