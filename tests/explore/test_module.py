"""The built modules are the sources', and what Python gives them reaches the page without a line of JavaScript."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from book_page import advice_box
from made_up_runs import Example, Ranked, Sentence
from pages import PAGE, START, drawn, make_ready

from adakd import explore
from adakd.explore.module import built_module

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "adakd" / "explore" / "static"
FIGURES = {
    "advice": advice_box,
    "gradient": explore.GradientExplorer,
    "limit": explore.LimitExplorer,
    "playground": lambda: explore.Playground(step=20, a="dtkd", b="zctkd"),
    "progress": Example,
    "ranking": Ranked,
    "sentence": Sentence,
    "taylor": explore.TaylorExplorer,
    "temperature": explore.TemperatureExplorer,
    "zoo": explore.ZooExplorer,
}


def test_the_built_modules_are_of_these_sources():
    lines = (STATIC / "built" / "sources.sha256").read_text().splitlines()
    built_from = {name: digest for digest, name in map(str.split, lines)}
    now = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in STATIC.glob("*.js")}
    assert built_from == now, "run `make figures`"
    assert {path.stem for path in (STATIC / "built").glob("*.js")} == FIGURES.keys()


def test_the_tool_builds_these_modules(tmp_path):
    if not (ROOT / "node_modules" / "esbuild").is_dir() or not shutil.which("node"):
        pytest.skip("esbuild is not here: `make figures` installs it")
    for part in ("package.json", "adakd/explore/static", "book/_tools/figures.mjs"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    subprocess.run(["node", "book/_tools/figures.mjs"], cwd=tmp_path, check=True)
    for path in sorted((STATIC / "built").iterdir()):
        assert (tmp_path / path.relative_to(ROOT)).read_bytes() == path.read_bytes(), "run `make figures`"


@pytest.mark.parametrize("name", FIGURES)
def test_a_built_figure_is_its_sources(browser, open_figure, name):
    """The modules as they are written, imported one by one by the browser, compute, say and draw the same."""
    figure = FIGURES[name]()
    state = {trait: getattr(figure, trait) for trait in figure.controls}
    given = "".join(
        f"export {line}\n" for line in re.findall(r"^const [A-Z_]{3,}=.*;$", figure._esm, re.MULTILINE)
    )

    def answer(route):
        file = route.request.url.rsplit("/", 1)[1]
        if file == "page":
            route.fulfill(body=PAGE % figure._css, content_type="text/html")
        else:
            text = given if file == "from-python.js" else (STATIC / file).read_text(encoding="utf-8")
            route.fulfill(body=text, content_type="text/javascript; charset=utf-8")

    page = browser.new_page(viewport={"width": 800, "height": 900})
    make_ready(page)
    page.route("**/*", answer)
    page.goto("http://figure.test/page")
    page.evaluate(
        START.replace("await import(url)", f'await import("http://figure.test/{name}.js")'),
        [figure._esm, state],
    )

    def shown(page):
        text = drawn(page).inner_html(".ak")
        return re.sub(r"\bak[0-9a-z]{8,}", "ID", text)  # of hatchings and radio buttons, drawn at random

    built = open_figure(figure)
    assert shown(page) == shown(built)
    assert json.dumps(page.evaluate("(s) => figure.compute(s)", state)) == json.dumps(
        built.evaluate("(s) => figure.compute(s)", state)
    )
    page.close()


def test_a_figure_gets_all_that_it_imports_and_nothing_else():
    with pytest.raises(ValueError, match=r"zoo\.js: imports \['GROUPS'.*given \['GROUPS'\]"):
        built_module("zoo.js", GROUPS={})


NEW_ROW = """
import json, torch, adakd
from adakd.expression import LiveRule
from adakd.methods import register_rule

@register_rule("spread", formula="1 + σ(t) + label", live=LiveRule("start + std(zt) * abs(mean(zs)) ** 2", in_graph=True))
class Spread(adakd.TemperatureRule):
    def __init__(self, start=1.5):
        super().__init__()
        self.start = start
    def forward(self, student, teacher, target=None, epoch=None):
        z = student.mean(1, keepdim=True)
        tau = self.start + teacher.std(1, correction=0, keepdim=True) * z * z
        return adakd.Temperatures(tau, tau)

from adakd.explore import Playground, ZooExplorer
zoo, playground = ZooExplorer(shift=2.0, rule="spread"), Playground(a="kd+spread", b="kd", step=20)
print(json.dumps([
    {"esm": f._esm, "css": f._css, "state": {n: getattr(f, n) for n in f.controls}, "values": f.values()}
    for f in (zoo, playground)
]))
"""


def test_a_new_row_is_in_the_zoo_and_in_the_playground(open_figure):
    answer = subprocess.run([sys.executable, "-c", NEW_ROW], capture_output=True, text=True, check=True)
    page = open_figure(explore.ZooExplorer())
    for figure in json.loads(answer.stdout):
        page.evaluate("stop()")
        page.set_content(PAGE % figure["css"])
        page.evaluate(START, [figure["esm"], figure["state"]])
        assert "spread" in drawn(page).inner_html("main")
        found = page.evaluate("(state) => figure.compute(state)", figure["state"])
        for name, value in figure["values"].items():
            assert found[name] == (None if value is None else pytest.approx(value, rel=1e-6, abs=1e-6)), name
