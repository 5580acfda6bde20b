"""A headless Chromium and a bare page that starts a live figure the way the built book does: no kernel, no server."""

import os
import shutil

import pytest

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGE = "<!doctype html><meta charset=utf-8><style>%s body { margin: 12px }</style><main></main>"
START = """async ([source, state]) => {
  const url = URL.createObjectURL(new Blob([source], {type: "text/javascript"}));
  window.figure = await import(url);
  const listeners = {};
  window.model = {
    get: (name) => state[name],
    set(name, value) { state[name] = value; (listeners["change:" + name] ?? []).forEach((f) => f()); },
    on(event, f) { (listeners[event] ??= []).push(f); },
    off(event, f) { listeners[event] = (listeners[event] ?? []).filter((g) => g !== f); },
    save_changes() {},
  };
  window.stop = figure.default.render({model, el: document.querySelector("main")});
}"""


@pytest.fixture(scope="module")
def browser():
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if not chromium or not sync_playwright:
        reason = f"needs playwright ({'found' if sync_playwright else 'missing'}) and chromium ({chromium or 'missing'})"
        if os.environ.get("ADAKD_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_figure(browser):
    """open_figure(figure, width=800) -> a page that shows it; complaints and requests fail the test at its end."""
    pages, complaints, requests = [], [], []

    def start(figure, width=800, **options):
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        pages.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.set_content(PAGE % figure._css)
        page.evaluate(START, [figure._esm, {name: getattr(figure, name) for name in figure.controls}])
        return page

    yield start
    for page in pages:
        page.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith("blob:")] == []


@pytest.fixture
def assert_javascript_agrees(open_figure):
    """assert_javascript_agrees(figures): what the page computes is what Python computes, name by name, to 1e-6."""

    def compare(figures):
        page = open_figure(type(figures[0])())
        answers = page.evaluate(
            "(states) => states.map((s) => figure.compute(s))",
            [{name: getattr(figure, name) for name in figure.controls} for figure in figures],
        )
        for figure, answer in zip(figures, answers, strict=True):
            for name, expected in figure.values().items():
                wanted = expected if expected is None else pytest.approx(expected, rel=1e-6, abs=1e-6)
                assert answer[name] == wanted, (figure, name)

    return compare
