"""Notebook figures in the page: still ones follow the theme's colours, live ones start without a kernel.

Both are prepared in the notebook's own JSON, before it is parsed and only in memory:

- An SVG output is put into the page itself instead of behind an <img>, with ink and paper replaced by CSS variables.
  So one committed figure reads in light and in dark.
- A widget becomes a box that live-figures.js fills. If its output also holds an SVG, that is what print, and a
  browser without JavaScript, show. Core ipywidgets would be dead without a kernel: the build refuses them.
"""

import html
import json
import re

from docutils import nodes
from sphinx.util import logging

from adakd.explore.style import COLORS

logger = logging.getLogger(__name__)

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
SVG = "image/svg+xml"
RASTER = ("image/png", "image/jpeg")

# A figure in matplotlib's own black on white then reads in the dark as well.
THEMED = {
    COLORS["ink"]: "var(--fig-ink)",
    "#000000": "var(--fig-ink)",
    "#ffffff": "var(--fig-paper)",
}


def follow_theme(style):
    return re.sub(r"#[0-9a-f]{6}\b", lambda colour: THEMED.get(colour[0], colour[0]), style)


def inline_svg(svg, alt, prefix):
    """The <svg> element of a figure, fit for standing in a page among others."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<title>.*?</title>|<!--.*?-->", "", svg, flags=re.S)
    # A style element would hold for the whole page; the sheet says what matplotlib's says.
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.S)
    used = set(
        re.findall(r'(?:url\(#|href="#)([^)"]+)', svg)
    )  # matplotlib names every group; most names lead nowhere
    svg = re.sub(r' id="([^"]+)"', lambda name: f' id="{prefix}{name[1]}"' if name[1] in used else "", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}\1"', svg)

    svg = re.sub(r'style="[^"]*"', lambda style: follow_theme(style[0]), svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1).strip()


def alternative_text(output, cell, mime):
    """Where a figure says in words what it shows: its <title>, its output's metadata, or its cell's."""
    title = re.search(r"<title>(.*?)</title>", text(output["data"][mime]), re.S) if mime == SVG else None
    places = (
        title and html.unescape(title[1]),
        output.get("metadata", {}).get(mime, {}).get("alt"),
        cell.get("metadata", {}).get("mystnb", {}).get("image", {}).get("alt"),
    )
    return next((" ".join(place.split()) for place in places if place), "")


def text(source):
    return source if isinstance(source, str) else "".join(source)


def live_figure(view, still):
    view = json.dumps(view).replace("<", "\\u003c")
    fallback = still or "<noscript><p>This figure is drawn by JavaScript.</p></noscript>"
    return (
        f'<div class="live-figure"><script type="{VIEW}">{view}</script>'
        f'<div class="live-figure-still">{fallback}</div></div>'
    )


def complaint(view, models):
    """Why a page without a kernel cannot show this widget; None if it can."""
    model = models.get(view["model_id"])
    if model is None:
        return "the notebook does not hold this widget's state; run `make notebooks`"
    if model["model_module"] != "anywidget":
        return (
            f"{model['model_name']} of {model['model_module']} is a core ipywidget, dead on a page without a kernel; "
            "draw live figures with anywidget (a progress bar? `make notebooks` silences tqdm)"
        )
    return None


def for_page(output, cell, models, prefix):
    """The data of an output as the page gets it, and what is wrong with it."""
    data, problems = output["data"], []
    picture = next((mime for mime in (SVG, *RASTER) if mime in data), None)
    still = ""
    if picture:
        alt = alternative_text(output, cell, picture)
        if not alt:
            problems.append("a figure without alternative text; use adakd.explore.picture(figure, alt)")
        if picture == SVG:
            still = f'<div class="figure">{inline_svg(text(data[SVG]), alt, prefix)}</div>'
        else:  # where myst-nb looks for it
            cell["metadata"].setdefault("mystnb", {}).setdefault("image", {})["alt"] = alt
    if VIEW in data:
        problem = complaint(data[VIEW], models)
        if problem:
            return {"text/html": ""}, [*problems, problem]
        still = live_figure(data[VIEW], still)
    return {"text/html": still} if still else data, problems


def prepare(app, docname, source):
    """Rewrite a notebook's figure outputs; `source-read` hands over its JSON."""
    if not app.env.doc2path(docname).endswith(".ipynb") or app.builder.format != "html":
        return
    notebook = json.loads(source[0])
    models = notebook.get("metadata", {}).get("widgets", {}).get(STATE, {}).get("state", {})
    for number, cell in enumerate(notebook["cells"], start=1):
        for index, output in enumerate(cell.get("outputs", [])):
            if "data" not in output:
                continue
            output["data"], problems = for_page(output, cell, models, prefix=f"c{number}o{index}-")
            for problem in problems:
                # An error fails the book, but not at once: the build's output then names every such cell.
                logger.error("%s, cell %d: %s", docname, number, problem, location=docname)
    source[0] = json.dumps(notebook)


def mark_captions(app, doctree):
    """A paragraph that opens with a bold "Figure 3." is a caption: plain Markdown that reads well anywhere."""
    for paragraph in doctree.findall(nodes.paragraph):
        first = next((child for child in paragraph.children if child.astext()), None)
        if isinstance(first, nodes.strong) and re.fullmatch(r"Figure \d+\.?", first.astext()):
            paragraph["classes"].append("figure-caption")


def setup(app):
    app.connect("source-read", prepare)
    app.connect("doctree-read", mark_captions)
