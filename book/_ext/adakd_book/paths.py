"""Ways through the book: what a chapter asks for, how long it takes to read and to run, and what comes next.

`book/data/paths.json` names the paths and what each chapter needs. A chapter then begins with its place on its path and
ends with the next one; ``{reading-paths}`` on a page lists them all. Minutes are computed from the text itself; how long
a chapter runs, `book/_tools/notebooks.py time` has measured.
"""

import json
import math
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

DATA = Path("book", "data", "paths.json")
TIMES = Path("book", "data", "running.json")
FOLDER = "notebooks/"
# Of a reader who thinks along: words a minute, and minutes for a displayed formula and for a figure.
WORDS, FORMULA, FIGURE = 180, 0.25, 0.5


class reading_paths(nodes.General, nodes.Element):  # noqa: N801  # docutils names its nodes so
    """The place of the lists, until all pages are read."""


class ReadingPaths(SphinxDirective):
    def run(self):
        self.env.note_reread()  # minutes change with the chapters, and this page does not
        return [reading_paths()]


def setup(app):
    app.add_node(reading_paths)
    app.add_directive("reading-paths", ReadingPaths)
    app.connect("env-updated", measure)
    app.connect("doctree-resolved", guide)


def minutes(doctree):
    """Reading time of a page in whole minutes: its prose, its displayed formulas, its figures; no code."""
    words = sum(len(p.astext().split()) for p in doctree.findall(nodes.paragraph))
    formulas = sum(1 for _ in doctree.findall(nodes.math_block))
    figures = sum("Figure" in p.astext()[:8] for p in doctree.findall(nodes.paragraph))
    return max(1, round(words / WORDS + FORMULA * formulas + FIGURE * figures))


def measure(app, env):
    path = Path(env.srcdir, DATA)
    known = json.loads(path.read_text(encoding="utf8")) if path.exists() else {"paths": {}, "needs": {}}
    pages = [page for way in known["paths"].values() for page in way["pages"]]
    wrong = [page for page in pages if FOLDER + page not in env.found_docs]
    if wrong:
        raise ValueError(f"{DATA}: there is no chapter {', '.join(wrong)}")
    env.adakd_paths = known
    times = Path(env.srcdir, TIMES)
    measured = json.loads(times.read_text(encoding="utf8")) if times.exists() else {}
    env.adakd_running = {page: found["seconds"] for page, found in measured.items()}
    env.adakd_minutes = {page: minutes(env.get_doctree(FOLDER + page)) for page in pages}


def guide(app, doctree, name):
    env = app.env
    known = getattr(env, "adakd_paths", {"paths": {}})
    for place in list(doctree.findall(reading_paths)):
        place.replace_self(
            [node for key in known["paths"] for node in overview(app, name, known["paths"][key])]
        )
    page = name.removeprefix(FOLDER)
    for way in known["paths"].values():
        if name.startswith(FOLDER) and page in way["pages"]:
            section = next(doctree.findall(nodes.section))
            section.insert(1, head(app, name, way, known["needs"].get(page, [])))
            following = way["pages"][way["pages"].index(page) + 1 :][:1]
            if following:
                text = [
                    nodes.Text(f"Next on this path, {way['title'].lower()}: "),
                    link(app, name, following[0]),
                ]
                section += nodes.paragraph("", "", *text, classes=["path"])


def overview(app, name, way):
    total = sum(app.env.adakd_minutes[page] for page in way["pages"])
    title = nodes.paragraph(
        "", "", nodes.strong("", way["title"]), nodes.Text(f", about {span(total)}. {way['for']}")
    )
    steps = nodes.enumerated_list(enumtype="arabic", prefix="", suffix=".")
    for page in way["pages"]:
        text = nodes.Text(f", {app.env.adakd_minutes[page]} minutes")
        number = nodes.Text(f" ({link(app, name, page, number=True).astext()})")
        steps += nodes.list_item("", nodes.paragraph("", "", link(app, name, page), number, text))
    return [title, steps]


def span(minutes):
    """Of reading: minutes, or hours to a half."""
    halves = round(minutes / 30)
    hours = f"{halves // 2 or ''}{'½' if halves % 2 else ''}"
    return f"{minutes} minutes" if minutes < 75 else f"{hours} hours"


def running(seconds):
    """Of a notebook on one core, coarsely: machines differ by more than a finer word would say."""
    if seconds <= 50:
        return "seconds" if seconds <= 15 else "under a minute"
    minutes = math.ceil(seconds / 60)
    return f"about {minutes} minute{'s' * (minutes > 1)}"


def head(app, name, way, needs):
    page = name.removeprefix(FOLDER)
    place = f"{way['title']}, {way['pages'].index(page) + 1} of {len(way['pages'])} · "
    text = [nodes.Text(f"{place}about {app.env.adakd_minutes[page]} minutes to read")]
    if page in app.env.adakd_running:
        text.append(nodes.Text(f", {running(app.env.adakd_running[page])} to run"))
    text.append(nodes.Text(" · "))
    text.append(nodes.Text("after " if needs else "needs no other chapter"))
    for i, need in enumerate(needs):
        text += [nodes.Text(", " if i else ""), link(app, name, need, number=True)]
    return nodes.paragraph("", "", *text, classes=["path"])


def link(app, name, page, number=False):
    """To a chapter by its number and title, or to a section of the primer by its title."""
    page, _, anchor = page.partition("#")
    target = FOLDER + page
    address = app.builder.get_relative_uri(name, target) + (f"#{anchor}" if anchor else "")
    if anchor:
        sections = app.env.get_doctree(target).findall(nodes.section)
        title = next((s.next_node(nodes.title).astext() for s in sections if anchor in s["ids"]), None)
        if title is None:
            raise ValueError(f"{DATA}: {page} has no section {anchor}")
        return nodes.reference("", f"primer: {title[0].lower() + title[1:]}", refuri=address, internal=True)
    title = app.env.titles[target].astext()
    numbers = app.env.toc_secnumbers.get(target, {}).get("")
    text = f"chapter {'.'.join(map(str, numbers))}" if number and numbers else title
    return nodes.reference("", text, refuri=address, internal=True)
