r"""A live figure in a page that is not a notebook, made when the book is built::

    ```{live-figure} Playground
    :state: {"transfer": 100}
    ```

The name is that of a figure in `adakd.explore`; ``state`` gives its traits. The page gets what a notebook would hold: the
figure's saved state, and the still picture for print and for readers without JavaScript.
"""

import json
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from myst_nb.core.render import sanitize_script_content
from sphinx.util.docutils import SphinxDirective
from traitlets import TraitError

from adakd import explore
from adakd.explore.live import LiveFigure

from .figures import STATE, inline_svg, live_figure


class LiveFigureDirective(SphinxDirective):
    required_arguments = 1
    option_spec: ClassVar = {"state": directives.unchanged}

    def run(self):
        from ipywidgets.embed import dependency_state

        name = self.arguments[0]
        kind = getattr(explore, name, None)
        if not (isinstance(kind, type) and issubclass(kind, LiveFigure)):
            raise self.error(f"expected a live figure of adakd.explore, got {name!r}")
        try:
            figure = kind(**json.loads(self.options.get("state", "{}")))
        except (TypeError, ValueError, TraitError) as error:
            raise self.error(f"{name} refuses this state: {error}") from error
        number = self.env.new_serialno("live-figure")
        model = f"live-{self.env.docname.replace('/', '-')}-{number}"
        saved = dependency_state([figure], drop_defaults=False)[figure.model_id]
        state = json.dumps({"version_major": 2, "version_minor": 0, "state": {model: saved}})
        picture = figure.still()
        still = f'<div class="figure">{inline_svg(picture.svg, picture.alt, f"l{number}-")}</div>'
        view = {"model_id": model, "version_major": 2, "version_minor": 0}
        script = f'<script type="{STATE}">{sanitize_script_content(state)}</script>'
        self.env.metadata[self.env.docname]["live_figures"] = number + 1
        return [nodes.raw("", script + live_figure(view, still), format="html")]


def add_loader(app, pagename, templatename, context, doctree):
    """The script that starts live figures, on the pages that hold one; notebooks get it from myst-nb."""
    if (context.get("meta") or {}).get("live_figures"):
        for name, attributes in app.config.nb_ipywidgets_js.items():
            app.add_js_file(name, **attributes)


def setup(app):
    app.add_directive("live-figure", LiveFigureDirective)
    app.connect("html-page-context", add_loader)
