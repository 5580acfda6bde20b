"""The book: built without a warning, then opened page by page in a browser, as a reader would."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from pages import WITHOUT_INSIDES, barriers, drawn, make_ready, open_browser, pale_texts, tab_stops

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "book" / "_tools" / "notebooks.py"
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
A4 = {"width": 720, "height": 1018}  # less its margins, in CSS pixels
FRAME = [
    ".bd-sidebar-primary",
    ".bd-sidebar-secondary",
    ".bd-header",
    ".bd-header-article",
    ".bd-footer-content",
]
FRAME += [".prev-next-area", ".copybtn", ".search-button", "#pst-back-to-top", "details.cite"]
# Bytes of a first visit, uncompressed. Measured when this was set: 0.9 MB without formulas; chapter 1, with its figures
# and MathJax (1.2 MB), 2.5 MB.
PAGE_BUDGET = 3_000_000


# ---- building ----


def build(source, output, repository=""):
    """jupyter-book as `make html` runs it, with the result in another folder."""
    command = [Path(sys.executable).with_name("jupyter-book"), "build", source, "--path-output", output]
    command += ["-W", "--keep-going", "-n", "--all"]
    # adakd is found here even where it is not installed.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GITHUB_REPOSITORY": repository, "GITHUB_REF_NAME": ""}
    return subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True)


def small_book(folder, pages, repository=""):
    """A book with this one's configuration and extension, of pages given as Markdown or as notebooks; built."""
    settings = yaml.safe_load((ROOT / "_config.yml").read_text())
    settings["sphinx"]["local_extensions"] = {"adakd_book": str(ROOT / "book" / "_ext")}
    settings["sphinx"]["config"]["html_static_path"] = [str(ROOT / "book" / "_static")]
    settings |= {"logo": "", "bibtex_bibfiles": [str(ROOT / "book" / "references.bib")]}
    settings["html"].pop("favicon")
    (folder / "_config.yml").write_text(yaml.safe_dump(settings))
    first, *others = pages
    toc = {"format": "jb-book", "root": first, "chapters": [{"file": name} for name in others]}
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc))
    for name, content in pages.items():
        if isinstance(content, str):
            (folder / f"{name}.md").write_text(content)
        else:
            (folder / f"{name}.ipynb").write_text(json.dumps(content))
    return build(folder, folder, repository)


def notebook(*cells, **metadata):
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}} | metadata
    metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": list(cells)}


def markdown(source):
    return {"cell_type": "markdown", "id": "text", "metadata": {}, "source": source}


def code(source="show()", outputs=(), id="code", **metadata):
    cell = {"cell_type": "code", "id": id, "metadata": metadata, "source": source}
    return cell | {"execution_count": None, "outputs": list(outputs)}


def shown(**data):
    names = {"svg": "image/svg+xml", "view": "application/vnd.jupyter.widget-view+json"}
    return {"output_type": "display_data", "metadata": {}, "data": {names[key]: data[key] for key in data}}


def shown_widget(model_id, **state):
    """An output with a widget, and the widget's state."""
    state = {"_esm": "export default {}", "_model_module": "anywidget", "_model_name": "AnyModel"} | state
    model = {
        "model_module": state["_model_module"],
        "model_name": state["_model_name"],
        "model_module_version": "*",
        "state": state,
    }
    view = {"version_major": 2, "version_minor": 0, "model_id": model_id}
    return shown(view=view), {model_id: model}


def widgets(*states):
    """Notebook metadata that holds the state of widgets."""
    saved = {"version_major": 2, "version_minor": 0, "state": {}}
    for state in states:
        saved["state"] |= state
    return {"widgets": {"application/vnd.jupyter.widget-state+json": saved}}


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The built book: folder of its HTML, from the outputs that are committed."""
    output = tmp_path_factory.mktemp("book")
    done = build(ROOT, output)
    assert done.returncode == 0, done.stdout + done.stderr
    return output / "_build" / "html"


def pages():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]


# ---- reading ----


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def serve(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


@pytest.fixture(scope="module")
def site(book):
    server, address = serve(book)
    yield address
    server.shutdown()
    server.server_close()


class Visit:
    """One page in a fresh browser profile, with everything that went wrong on it."""

    def __init__(self, browser, url, **options):
        self.context = browser.new_context(**{"viewport": DESK} | options)
        self.page = self.context.new_page()
        make_ready(self.page)
        self.problems, self.requests = [], []
        self.page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        self.page.on("console", self.heard)
        self.page.on("requestfailed", lambda request: self.problems.append(f"failed: {request.url}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("response", self.answered)
        self.page.goto(url, wait_until="load")
        self.settle()

    def heard(self, message):
        if message.type in ("error", "warning"):
            self.problems.append(f"console {message.type}: {message.text}")

    def answered(self, response):
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")

    def settle(self):
        """Until mathematics is set and every figure is live and drawn, or has said why not."""
        self.page.wait_for_function(
            """() => document.readyState === "complete"
                && [...document.querySelectorAll(".live-figure")].every(
                    (box) => box.matches(".is-live, .is-broken"))
                && (!document.querySelector("script[src*=mathjax]") || document.querySelector("mjx-container"))""",
        )
        drawn(self.page)

    def outside(self, origin):
        return [url for url in self.requests if not url.startswith((origin, "blob:", "data:"))]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.context.close()


# By axe-core, which elsewhere leaves out what is alike on all pages.
LOOKED_AT_WHOLE = "notebooks/10_distilling_cifar"


@pytest.mark.parametrize("name", [*pages(), "genindex", "search"])
def test_page_opens_quietly_alone_light_and_without_barriers(browser, site, book, name):
    """First on a phone, which it fits; then as wide as a desk has it: one visit for both."""
    with Visit(browser, f"{site}/{name}.html", color_scheme="light", viewport=PHONE) as visit:
        if name in pages():
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        tab_stops(visit.page)
        visit.page.set_viewport_size(DESK)
        drawn(visit.page)
        tab_stops(visit.page)
        assert visit.problems == []
        assert visit.outside(site) == []
        paths = {urlsplit(url).path.lstrip("/") for url in visit.requests if url.startswith(site)}
        weight = sum((book / path).stat().st_size for path in paths)
        assert weight < PAGE_BUDGET, f"{name} weighs {weight / 1e6:.2f} MB"
        if name in pages():
            assert visit.page.locator(".bd-article h1").count() == 1
        links = visit.page.eval_on_selector_all("a[href]", "(found) => found.map((link) => link.href)")
        assert [link for link in sorted(set(links)) if leads_nowhere(book, site, link)] == []
        if name != LOOKED_AT_WHOLE:
            visit.page.evaluate(WITHOUT_INSIDES)
        assert barriers(visit.page) == []
        assert pale_texts(visit.page) == []
        # The page follows the system: no second visit. Without motion, else colours are read on their way.
        visit.page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        drawn(visit.page)
        assert visit.page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert pale_texts(visit.page) == []
        assert visit.problems == []


def test_a_barrier_is_found(browser):
    """One of each kind, beside its like without fault: what is left out of a look for speed must not be what is looked for."""
    page = browser.new_page()
    page.set_content(
        """<html lang="en"><title>t</title><main><h1>t</h1><style>p, a { color: #222; text-decoration: none }</style>
        <p>Many words are around <a href="#a" style="text-decoration: underline">a link that is seen</a>, as in a text they are.</p>
        <p>Many words are around <a href="#b" id="hidden" style="color: #444">one that is hardly seen</a>, as in a text they are.</p>
        <p>Words <span>of</span> <span id="pale" style="color: #ccc">another</span> colour.</p>
        <div class="bd-article"><pre style="overflow: auto; width: 9em">print("longer than its box, and no stop of the tab key")</pre></div>
        <a href="#c"><img id="nameless" src="data:,"></a></main>"""
    )
    assert sorted(found.split(": ")[1].split(" ")[-1] for found in pale_texts(page)) == ["#hidden", "#pale"]
    assert {found.split(":")[0] for found in barriers(page)} >= {
        "image-alt",
        "link-name",
        "scrollable-region-focusable",
    }
    page.close()


@pytest.mark.parametrize("name", pages())
def test_every_formula_is_set(book, name):
    """In the tables that cells print dollars stay dollars in some columns."""
    page = (book / f"{name}.html").read_text(encoding="utf8")
    article = page[page.index("<article") : page.rindex("</article>")]
    words = re.sub(r"<[^>]+>", "", re.sub(r"(?s)<(pre|code|script|style|svg)\b.*?</\1>", "", article))
    assert re.findall(r"\$[^$\n]{1,60}\$", words) == []


@cache
def anchors(page):
    return set(re.findall(r'\b(?:id|name)="([^"]+)"', page.read_text(encoding="utf8")))


def leads_nowhere(book, site, link):
    """Whether a link into the book names a file or a place that is not there."""
    if not link.startswith(site):
        return False
    path, _, anchor = unquote(link.removeprefix(site)).lstrip("/").partition("#")
    target = book / path.partition("?")[0]
    if not target.is_file():
        return True
    # An anchor with an equals sign is the state of a figure: #playground?seed=7, #tour=1.
    return bool(anchor) and "=" not in anchor and target.suffix == ".html" and anchor not in anchors(target)


def test_front_door_leads_to_the_landing_page(browser, site):
    with Visit(browser, f"{site}/index.html") as visit:
        visit.page.wait_for_url("**/book/intro.html")


def test_search_finds_a_page(browser, site):
    with Visit(browser, f"{site}/search.html?q=notation") as visit:
        visit.page.wait_for_selector("#search-results li a")
        assert visit.page.locator("#search-results a[href*=notation]").count() >= 1


def luminance(colour):
    """Relative luminance (WCAG 2) of a computed CSS colour."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_figures_read_in_both_modes(browser, site, scheme):
    with Visit(browser, f"{site}/{pages()[1]}.html", color_scheme=scheme) as visit:
        colours = visit.page.evaluate(
            """() => {
                const of = (selector, property) => {
                    const found = document.querySelector(selector);
                    return found && getComputedStyle(found)[property];
                };
                const probe = document.createElement("i");
                document.querySelector(".bd-article").append(probe);
                probe.style.color = "var(--fig-ink)";
                return {
                    paper: of("body", "backgroundColor"), prose: of(".bd-article p", "color"),
                    link: of(".bd-article a", "color") ?? of(".nav-link", "color"),
                    ink: getComputedStyle(probe).color,
                };
            }"""
        )
    assert (luminance(colours["paper"]) > 0.5) == (scheme == "light")
    for what in ("prose", "link", "ink"):
        assert contrast(colours[what], colours["paper"]) >= 4.5, (what, colours)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_prints_on_light_paper_without_its_frame(browser, site, scheme):
    with Visit(browser, f"{site}/{pages()[3]}.html", color_scheme=scheme, viewport=A4) as visit:
        visit.page.emulate_media(media="print")
        shown = visit.page.evaluate(
            """(frame) => {
                const visible = (one) => one.checkVisibility();
                const colour = (one) => getComputedStyle(one).color;
                const all = [...document.querySelectorAll(".bd-article :is(p, h2, pre, pre *)")].filter(visible);
                return {
                    frame: frame.filter((part) => [...document.querySelectorAll(part)].some(visible)),
                    colours: [...new Set(all.map(colour))],
                    width: document.documentElement.scrollWidth,
                    folded: [...document.querySelectorAll("details:not([open])")].filter(visible).length,
                };
            }""",
            FRAME,
        )
    assert (shown["frame"], shown["folded"]) == ([], 0)
    assert shown["width"] <= A4["width"]
    paper = "rgb(255, 255, 255)"
    assert {
        colour: contrast(colour, paper) for colour in shown["colours"] if contrast(colour, paper) < 4.5
    } == {}


def test_search_works_in_a_folder_without_a_server(browser, book):
    with Visit(browser, f"{(book / pages()[1]).as_uri()}.html") as visit:
        visit.page.keyboard.press("Control+k")
        visit.page.keyboard.type("radius")
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_url("**/search.html?q=radius")
        visit.page.get_by_text("Search finished").wait_for()
        found = visit.page.locator("#search-results a[href*=two_radii]")
        assert found.count() >= 1
        found.first.click()
        visit.page.wait_for_url("**/03_two_radii.html*")
        visit.settle()
        assert visit.problems == []


# ---- what others take of it ----


def head(page):
    """The head of a page: {name or property: content} of its tags."""
    text = page.read_text(encoding="utf8").partition("</head>")[0]
    return dict(re.findall(r'<meta (?:property|name)="([^"]+)" content="([^"]*)"', text))


def test_a_book_that_knows_its_address_has_cards_and_a_sitemap(good):
    base = "https://someone.github.io/somewhere/"
    tags = head(good / "figures.html")
    assert tags["og:title"] == "Figures"
    assert tags["og:url"] == f"{base}figures.html"
    assert tags["og:image"].startswith(base)
    assert (good / tags["og:image"].removeprefix(base)).is_file()
    places = re.findall(r"<loc>([^<]+)</loc>", (good / "sitemap.xml").read_text())
    assert places == [f"{base}figures.html", f"{base}records.html"]
    assert f"- [Records]({base}records.html)" in (good / "llms.txt").read_text()


def test_every_page_says_what_it_is(book):
    known = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]["book_repository"]
    assert (book / "sitemap.xml").exists() == bool(known)
    lines = (book / "llms.txt").read_text(encoding="utf8").splitlines()
    listed = [
        re.fullmatch(r"- \[[^]]+\]\((?:https://[^/]+/[^/]+/)?([^)]+)\): .{20,}", line) for line in lines[6:]
    ]
    assert [found and found[1] for found in listed] == [f"{name}.html" for name in pages()[1:]]
    descriptions = {name: head(book / f"{name}.html")["og:description"] for name in pages()}
    assert {name: text for name, text in descriptions.items() if not 40 < len(text) < 260} == {}
    assert {name: text for name, text in descriptions.items() if re.search(r"[\\{}$<]", text)} == {}
    assert ("og:image" in head(book / "book" / "intro.html")) == bool(known)


def test_the_reference_links_what_a_docstring_names_as_a_reader_types_it(book):
    pages = [(book / "book" / f"{name}.html").read_text() for name in ("api", "api_training", "api_measuring")]
    for name, target in [
        ("adakd.distill", "adakd.api.distill"),  # on another page or on its own
        ("Interrupted", "adakd.training.Interrupted"),
        ("TokenData.measure", "adakd.data.TokenData.measure"),
        ("data", None),  # an argument, though a module of ours has that name
    ]:
        marked = re.compile(
            rf'(?:href="[^"]*#([^"]*)"[^>]*>)?<code class="xref py py-obj[^"]*"><span class="pre">{name}</span>'
        )
        found = {match.group(1) for page in pages for match in marked.finditer(page)}
        assert found <= {target}, (name, found)
        assert found or target is None


def test_every_chapter_says_how_to_cite_it(book):
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        html = (book / "notebooks" / f"{path.stem}.html").read_text(encoding="utf8")
        entry = re.search(r'<details class="cite">.*?</details>', html, re.DOTALL)[0]
        text = re.sub(r"<[^>]+>", "", entry)
        assert f"@incollection{{adakd2026-{path.stem}," in text
        title = json.loads(path.read_text(encoding="utf8"))["cells"][0]["source"][0].strip("# \n")
        assert re.search(rf"title +=  ?\{{{re.escape(title)}\}}", text), (title, text)


# ---- figures ----


def live_pages():
    return [name for name in pages() if _holds_figures(ROOT / f"{name}.ipynb", ROOT / f"{name}.md")]


def _holds_figures(notebook, page):
    if notebook.is_file():
        return "widgets" in json.loads(notebook.read_text(encoding="utf8"))["metadata"]
    return "```{live-figure}" in page.read_text(encoding="utf8")


LARGEST = """(box) => Math.max(0, ...[...box.querySelectorAll("svg, canvas")].map((drawing) => {
    const { width, height } = drawing.getBoundingClientRect();
    return Math.min(width, height);
}))"""


def answer_the_keyboard(visit):
    """Every figure has drawn itself, and every slider of it changes it."""
    boxes = visit.page.locator(".live-figure")
    assert boxes.count() >= 1
    for index in range(boxes.count()):
        box = boxes.nth(index).locator(".live-figure-canvas")
        assert box.evaluate(LARGEST) > 50
        sliders = box.locator("input[type=range]:enabled:visible")
        for number in range(sliders.count()):
            before = box.inner_html()
            sliders.nth(number).focus()
            there, back = "ArrowLeft", "ArrowRight"
            if sliders.nth(number).evaluate("(input) => input.value === input.min"):
                there, back = back, there
            for key in (there, there, back, there):
                visit.page.keyboard.press(key)
            drawn(visit.page)
            assert box.inner_html() != before, f"slider {number} of figure {index} changes nothing"
    assert visit.problems == []


@pytest.mark.parametrize("name", live_pages())
def test_live_figures_answer_the_keyboard_and_print_the_still_picture(browser, site, name):
    with Visit(browser, f"{site}/{name}.html") as visit:
        answer_the_keyboard(visit)
        box = visit.page.locator(".live-figure:has(.figure)").first
        assert not box.locator(".live-figure-still").is_visible()
        visit.page.emulate_media(media="print")
        assert box.locator(".live-figure-still svg").is_visible()
        assert not box.locator(".live-figure-canvas").is_visible()


@pytest.mark.parametrize("name", live_pages())
def test_live_figures_answer_the_keyboard_on_a_phone_without_a_server(browser, book, name):
    with Visit(browser, (book / f"{name}.html").as_uri(), viewport=PHONE) as visit:
        assert visit.outside("file://") == []
        assert visit.page.locator(".live-figure.is-live").count() == visit.page.locator(".live-figure").count()
        answer_the_keyboard(visit)


def test_the_playground_on_the_landing_page_shares_its_setting(browser, site):
    with Visit(browser, f"{site}/book/intro.html") as visit:
        playground = visit.page.locator(".ak-playground")
        assert visit.page.url.endswith("intro.html")
        playground.get_by_role("button", name="two peaks").click()
        assert "#playground?" in visit.page.url
        playground.locator(".ak-student.b select").first.select_option("zdkd")
        address = visit.page.url
        assert "b=zdkd" in address
        assert visit.problems == []
    with Visit(browser, address) as visit:  # somebody else's browser
        playground = visit.page.locator(".ak-playground")
        assert playground.locator(".ak-student.b select").first.input_value() == "zdkd"
        assert playground.get_by_label("confusable pair").is_checked()
        visit.page.evaluate("location.hash = '#playground?seed=7'")
        visit.page.wait_for_function("document.querySelector('.ak-student.b select').value === 'kd'")
        assert visit.problems == []


@pytest.mark.parametrize("name", ["notebooks/00_playground", "book/intro"])
def test_the_panel_of_the_tour_stays_in_sight(browser, site, name):
    with Visit(browser, f"{site}/{name}.html#tour=3") as visit:
        panel = visit.page.locator(".ak-tour")
        panel.wait_for()
        visit.page.evaluate("document.querySelector('.ak-playground').scrollIntoView()")
        box = panel.bounding_box()
        assert box["y"] > 0
        assert box["y"] + box["height"] <= visit.page.viewport_size["height"] + 1
        assert visit.problems == []


@pytest.mark.parametrize("name", live_pages())
def test_still_picture_shows_without_javascript(browser, site, name):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/{name}.html")
    assert page.locator(".live-figure-still").first.is_visible()
    context.close()


LIVE = {
    "counter": """
        export default () => ({
          initialize({ model }) { model.set("started", true); },
          render({ model, el }) {
            const button = document.createElement("button");
            const show = () => { button.textContent = `${model.get("count")} ${model.get("started")}`; };
            button.onclick = () => { model.set("count", model.get("count") + 1); model.save_changes(); };
            model.on("change:count", show);
            show();
            el.append(button);
            window.stopListening = () => model.off("change:count", show);
            return () => { sessionStorage.left = "cleaned"; };
          },
        });""",
    "broken": """export default { render() { throw new Error("no pencil"); } };""",
}


SVG = """<?xml version="1.0"?><svg viewBox="0 0 9 9" width="90" height="90" xmlns="http://www.w3.org/2000/svg">
<title>A dot &amp; a line</title><metadata>long</metadata><style>*{fill: red}</style>
<defs><clipPath id="p"><rect width="9" height="9"/></clipPath></defs>
<g clip-path="url(#p)"><circle r="3" style="fill: #000000; stroke: #ffffff"/></g></svg>"""

RECORDS = {
    "b.json": {"kind": "student", "method": "kd", "result": {"last": 0.5}, "teacher": {"model": "big"}},
    "a.json": {"kind": "student", "method": "ce", "result": {"last": 0.25}, "teacher": None},
    "t.json": {"kind": "teacher", "method": "ce", "result": {"last": 0.75}, "teacher": None},
}


def write_records(folder):
    (folder / "book" / "records").mkdir(parents=True)
    for name, record in RECORDS.items():
        (folder / "book" / "records" / name).write_text(json.dumps(record))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A small book of everything that the extension does, built for a known repository."""
    folder = tmp_path_factory.mktemp("good")
    write_records(folder)
    counter, its_state = shown_widget("a", _esm=LIVE["counter"], _css=".counted { color: red }", count=1)
    broken, other_state = shown_widget("b", _esm=LIVE["broken"])
    figures = notebook(
        markdown("# Figures\n"),
        code(outputs=[counter], id="one"),
        code(outputs=[counter], id="two"),
        code(outputs=[broken], id="three"),
        code(outputs=[shown(svg=SVG), shown(svg=SVG)], id="four"),
        markdown("**Figure 1.** A dot.\n\nNot a **Figure 2.** caption, of $x$, and ($y$) once."),
        **widgets(its_state, other_state),
    )
    records = """# Records

```{records} *.json
:columns: Method = method; Last = result.last | .1%; Teacher = teacher.model?; Record = file
:where: kind = student
:sort: result.last
```

```{records} none/*.json
:columns: Method = method
:empty: Nothing yet.
```

It reached {record}`b.json result.last | .0%`.
"""
    done = small_book(folder, {"figures": figures, "records": records}, repository="someone/somewhere")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "_build" / "html"


@pytest.fixture(scope="module")
def figures(good):
    server, address = serve(good)
    yield f"{address}/figures.html"
    server.shutdown()
    server.server_close()


def test_views_of_one_model_follow_each_other_until_they_stop(browser, figures):
    with Visit(browser, figures) as visit:
        one, two = (visit.page.locator(".live-figure button").nth(index) for index in (0, 1))
        assert one.inner_text() == "1 true"  # initialize ran before render
        one.click()
        assert (one.inner_text(), two.inner_text()) == ("2 true", "2 true")
        visit.page.evaluate("stopListening()")
        one.click()
        assert (one.inner_text(), two.inner_text()) == ("3 true", "2 true")
        visit.page.goto(figures.replace("figures.html", "records.html"))
        assert visit.page.evaluate("sessionStorage.left") == "cleaned"


def test_figure_that_fails_says_why_and_leaves_the_others(browser, figures):
    with Visit(browser, figures) as visit:
        note = visit.page.locator(".live-figure.is-broken [role=alert]")
        assert note.inner_text() == "This figure could not start: no pencil."
        assert visit.page.locator(".live-figure.is-live").count() == 2
        assert any("no pencil" in problem for problem in visit.problems)


def test_svg_stands_in_the_page_with_its_own_ids_and_the_themes_colours(browser, figures):
    with Visit(browser, figures) as visit:
        svg = visit.page.locator(".figure svg")
        assert svg.count() == 2
        assert svg.first.get_attribute("aria-label") == "A dot & a line"
        assert svg.first.locator("title, style, metadata").count() == 0
        ids = visit.page.eval_on_selector_all("[id]", "(found) => found.map((one) => one.id)")
        assert len(ids) == len(set(ids))
        fill, expected = visit.page.evaluate(
            """() => {
                const of = (selector) => getComputedStyle(document.querySelector(selector));
                return [of("circle").fill, of("html").getPropertyValue("--fig-ink").trim()];
            }"""
        )
        assert re.findall(r"\d+", fill)[:3] == [str(int(expected[i : i + 2], 16)) for i in (1, 3, 5)]
        captions = visit.page.locator(".figure-caption")
        assert captions.all_inner_texts() == ["Figure 1. A dot."]


def test_punctuation_stays_with_its_formula(good):
    html = (good / "figures.html").read_text()
    tied = re.findall(r'<span class="tied">(.*?)</span></span>|<span class="tied">(.*?</span>.)</span>', html)
    texts = [re.sub(r"<[^>]+>", "", "".join(found)) for found in tied]
    assert texts == ["\\(x\\),", "(\\(y\\))"]


# ---- records and links ----


def test_tables_and_numbers_are_made_from_records(good):
    html = (good / "records.html").read_text()
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert "Method Last Teacher Record ce 25.0% – a kd 50.0% big b" in text
    assert "Nothing yet." in text
    assert re.search(r"It reached 50% ?\.", text)
    linked = [good / link for link in re.findall(r'href="(_downloads/[^"]*)"', html)]
    assert [json.loads(path.read_text()) for path in linked] == [RECORDS["a.json"], RECORDS["b.json"]]


RUNS = ".results tbody tr:not([hidden])"


def test_all_runs_are_filtered_sorted_and_opened_by_the_keyboard(browser, site, book):
    with Visit(browser, f"{site}/book/results.html#?weights=matched") as visit:
        page = visit.page
        every, matched = page.locator(".results tbody tr").count(), page.locator(RUNS).count()
        assert 0 < matched < every
        assert page.locator(".results-count").inner_text().startswith(f"{matched} of {every} groups")
        page.get_by_role("combobox", name="Method", exact=True).select_option("zkd")
        assert page.url.endswith("#?method=zkd&weights=matched")
        assert page.locator(RUNS).count() == 1
        page.get_by_role("button", name="Show all").click()
        page.wait_for_function("!location.hash")
        assert page.locator(RUNS).count() == every
        for order in ("descending", "ascending"):
            page.get_by_role("button", name="Accuracy, %").press("Enter")
            assert page.locator("th[aria-sort]").get_attribute("aria-sort") == order
            means = page.eval_on_selector_all(RUNS, "(rows) => rows.map((row) => Number(row.dataset.accuracy))")
            assert means == sorted(means, reverse=order == "descending")

        link = page.locator("tr[data-source$='study/matched'] .runs a").last
        record = json.loads((book / "book" / link.get_attribute("href")).read_text())
        link.press("Enter")
        dialog = page.get_by_role("dialog", name=f"seed {record['seed']}")
        assert f"{record['result']['last']:.2f} %" in dialog.locator("h2").inner_text()
        assert dialog.get_by_label("Command").inner_text().endswith(f"--seed {record['seed']}")
        assert json.loads(dialog.get_by_label("Configuration").inner_text()) == record["config"]
        dialog.get_by_role("button", name="Copy").click()
        dialog.get_by_role("button", name=re.compile("Copied|Selected")).wait_for()
        assert barriers(page) == pale_texts(page) == []
        page.keyboard.press("Escape")
        assert page.get_by_role("dialog").count() == 0
        assert page.evaluate("document.activeElement.getAttribute('href')") == link.get_attribute("href")
        assert visit.problems == []


def test_a_link_to_runs_that_there_are_not_ends_the_build(tmp_path):
    shutil.copytree(ROOT / "book" / "records" / "gratings", tmp_path / "book" / "records" / "gratings")
    links = "[these](runs.md#?source=gratings), [those](runs.md#?source=nowhere)"
    done = small_book(tmp_path, {"links": links, "runs": "# All runs\n\n```{results}\n```\n"})
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert re.findall(r"local id not found in doc 'runs': '(\S+)'", said) == ["?source=nowhere"]


@pytest.mark.parametrize(
    ("chapter", "source"),
    [("11_comparing_fairly", "study"), ("14_when_it_helps", "when"), ("17_beyond_one_peak", "language")],
)
def test_a_chapter_leads_to_its_runs(browser, site, chapter, source):
    with Visit(browser, f"{site}/notebooks/{chapter}.html") as visit:
        visit.page.locator(f"a[href$='results.html#?source={source}']").click()
        assert visit.page.get_by_role("combobox", name="Experiment", exact=True).input_value() == source
        runs = visit.page.locator(RUNS)
        assert 0 < runs.count() < visit.page.locator(".results tbody tr").count()
        # A row may have seeds of another experiment, too, but none of the shown is without this one.
        sources = runs.evaluate_all("(rows) => rows.map((row) => row.dataset.source.split('|'))")
        assert all(source in {name.partition("/")[0] for name in names} for names in sources)
        assert visit.problems == []


def test_all_runs_stand_without_a_server_and_without_a_script(browser, book):
    address = (book / "book" / "results.html").as_uri()
    with Visit(browser, address) as visit:
        visit.page.get_by_role("combobox", name="Seeds", exact=True).select_option("5")
        assert 0 < visit.page.locator(RUNS).count() < visit.page.locator(".results tbody tr").count()
        visit.page.locator(f"{RUNS} .runs a").first.click()
        visit.page.get_by_role("dialog").get_by_role("link", name="The whole record").click()
        visit.page.wait_for_url("**/records/**.json")
        assert visit.problems == []
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    page.locator("td.command summary").first.click()
    assert page.locator("td.command pre").first.inner_text().startswith("adakd ")
    page.locator(".runs a").first.click()
    page.wait_for_url("**/records/**.json")
    context.close()


def header_links(page):
    header = page.read_text().partition("bd-header-article")[2].partition("<article")[0]
    return re.findall(r'href="(https?://[^"]*)"', header)


def test_buttons_point_at_the_repository_when_it_is_known(good):
    links = header_links(good / "figures.html")
    assert "https://github.com/someone/somewhere" in links
    assert any(link.endswith("/github/someone/somewhere/blob/main/figures.ipynb") for link in links)


def test_no_button_points_anywhere_but_at_the_home(book):
    home = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]["book_repository"]
    links = header_links(book / f"{pages()[1]}.html")
    assert [link for link in links if f"/{home}" not in link] == [] if home else links == []


# ---- what the build refuses ----


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """What the build says of a book in which everything is wrong."""
    folder = tmp_path_factory.mktemp("bad")
    write_records(folder)
    core, core_state = shown_widget(
        "a", _model_module="@jupyter-widgets/controls", _model_name="IntSliderModel"
    )
    stateless, _ = shown_widget("b")
    chapter = notebook(
        markdown("# Chapter\n"),
        code(outputs=[core], id="one"),
        code(outputs=[stateless], id="two"),
        code(outputs=[shown(svg='<svg viewBox="0 0 9 9"></svg>')], id="three"),
        code(outputs=[{"output_type": "stream", "name": "stderr", "text": "UserWarning: look out"}], id="four"),
        code('adakd.exercises.check("99.1", ...)', id="five"),
        **widgets(core_state),
    )
    prose = """# Prose

{doc}`nowhere`

```{records} *.json
:columns: Seed = seed
```

```{records} *.json
:columns: Seed
```

```{records} *.json
:columns: Method = method | .1%
```

{record}`none.json seed`

```{live-figure} Session
```

```{live-figure} Playground
:state: {"classes": 99}
```

```{live-figure} Playground
:state: not JSON
```
"""
    done = small_book(folder, {"chapter": chapter, "prose": prose})
    assert done.returncode != 0, "the build accepted it"
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    "complaint",
    [
        "chapter, cell 2: IntSliderModel of @jupyter-widgets/controls is a core ipywidget",
        "chapter, cell 3: the notebook does not hold this widget's state; run `make notebooks`",
        "chapter, cell 4: a figure without alternative text",
        "stderr was found in the cell outputs of cell 5",
        "chapter, cell 6: there is no exercise '99.1' in adakd.exercises",
        "unknown document: 'nowhere'",
        "no 'seed' in the record",
        ":columns: is 'Seed'; expected Title = path",
        "'method' is 'ce'",
        "cannot read the record none.json",
        "expected a live figure of adakd.explore, got 'Session'",
        "Playground refuses this state: The value of the 'classes' trait",
        "Playground refuses this state: Expecting value",
    ],
)
def test_build_refuses(refused, complaint):
    assert complaint in refused


# ---- running notebooks ----


TINY = """import itertools, sys
import anywidget, traitlets
import matplotlib.pyplot as plt
%config InlineBackend.figure_formats = ["svg"]
class Dot(anywidget.AnyWidget):
    _esm = "export default {}"
    size = traitlets.Int(3).tag(sync=True)
    def __repr__(self):
        return f"Dot({self.size})"
"""


def run_notebooks(*arguments):
    return subprocess.run(
        [sys.executable, str(NOTEBOOKS), *map(str, arguments)], capture_output=True, text=True
    )


def elsewhere(text, by):
    """A notebook's text as another processor may write it: the last corner of the curve lower, the ids of paths new."""
    cells = json.loads(text)
    (svg,) = (
        output["data"]["image/svg+xml"]
        for cell in cells["cells"]
        for output in cell.get("outputs", [])
        if "image/svg+xml" in output.get("data", {})
    )
    drawn = re.sub(r"(?<=[#\"])([mp])[0-9a-f]{4}([0-9a-f]{6})", r"\1ffff\2", "".join(svg))
    x, y = re.search(r"L (\S+) (\S+) \n\" clip-path", drawn).groups()
    svg[:] = drawn.replace(f"L {x} {y}", f"L {x} {float(y) + by}").splitlines(keepends=True)
    return json.dumps(cells)


def test_two_runs_give_the_same_bytes_and_pass_the_check(tmp_path):
    path = tmp_path / "tiny.ipynb"
    cells = [
        markdown("# Tiny\n"),
        code(TINY, id="random1"),
        code("Dot(size=2)\nDot(size=4)", id="random2", ExecuteTime={"start": "now"}),
        code("for i in range(3):\n    print(i, flush=True)\nprint({'a', 'b', 'c'})", id="random3"),
        code("_ = plt.figure(figsize=(2, 1)).add_subplot().plot([1, 2])", id="random4", tags=["keep"]),
        code("from tqdm.auto import tqdm\nlen(list(tqdm(range(9))))", id="random5"),
    ]
    path.write_text(json.dumps(notebook(*cells, toc="an editor's")))
    states = []
    for _ in range(2):
        done = run_notebooks("write", path)
        assert done.returncode == 0, done.stderr
        states.append(path.read_bytes())
    assert states[0] == states[1]

    written = json.loads(states[0])
    assert set(written["metadata"]) == {"kernelspec", "language_info", "widgets"}
    saved = written["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    shapes = [model["state"].get("size") for model in saved.values() if model["model_module"] == "anywidget"]
    assert shapes == [4]  # the one that is shown, not the one that was only made
    assert written["cells"][2]["metadata"] == {}
    assert written["cells"][4]["metadata"] == {"tags": ["keep"]}
    outputs = written["cells"][3]["outputs"]
    assert [output["name"] for output in outputs] == ["stdout"]
    assert written["cells"][5]["outputs"][0]["data"]["text/plain"] == ["9"]

    path.write_text(elsewhere(states[0].decode(), by=1))  # a pixel
    checked = run_notebooks("check", path)
    assert checked.returncode == 0, checked.stdout
    assert "5 passed" in checked.stdout
    path.write_text(states[0].decode().replace('"0\\n"', '"7\\n"'))
    stale = run_notebooks("check", path)
    assert stale.returncode != 0, "an output that nobody gets any more passed the check"
    path.write_text(elsewhere(states[0].decode(), by=9))
    assert "a path has another shape" in run_notebooks("check", path).stdout


def test_notebook_that_fails_is_reported_and_left_alone(tmp_path):
    path = tmp_path / "wrong.ipynb"
    path.write_text(json.dumps(notebook(code("assert 1 == 2, 'arithmetic'"))))
    before = path.read_bytes()
    done = run_notebooks("write", path)
    assert done.returncode == 1
    assert "arithmetic" in done.stderr
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_notebooks_run_side_by_side_and_one_that_fails_stops_no_other(tmp_path):
    wrong, right = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    wrong.write_text(json.dumps(notebook(code("assert 1 == 2, 'arithmetic'"))))
    right.write_text(json.dumps(notebook(code("import os\nprint(os.environ['OMP_NUM_THREADS'])"))))
    done = run_notebooks("write", wrong, right)
    assert done.returncode == 1
    assert "arithmetic" in done.stderr
    assert json.loads(right.read_text())["cells"][0]["outputs"][0]["text"] == ["1\n"]
    wrong.write_text(right.read_text().replace(r"1\n", r"2\n"))
    checked = run_notebooks("check", wrong, right)
    assert checked.returncode == 1
    assert "1 failed, 1 passed" in checked.stdout


# ---- make ----


def test_make_names_the_python_that_is_too_old(tmp_path):
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "pyproject.toml").touch()
    old = tmp_path / "python3.10"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(["make", "book", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()
