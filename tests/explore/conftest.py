"""A live figure on a bare page, drawn, and its JavaScript beside its Python."""

import pytest
from pages import PAGE, START, drawn, make_ready, open_browser


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture
def open_figure(browser):
    """open_figure(figure, width=800) -> a page on which it is drawn; complaints and requests fail the test at its end."""
    pages, complaints, requests = [], [], []

    def start(figure, width=800, **options):
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        pages.append(page)
        make_ready(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.set_content(PAGE % figure._css)
        page.evaluate(START, [figure._esm, {name: getattr(figure, name) for name in figure.controls}])
        return drawn(page)

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
