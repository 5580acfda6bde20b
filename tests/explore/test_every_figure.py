"""What every live figure promises, whatever it shows."""

import json
from pathlib import Path

import pytest
from made_up_runs import Example, Ranked, Sentence
from pages import drawn, pictures, words

from adakd import explore
from adakd.explore.live import LiveFigure, style_sheet


class Lesson(explore.Playground):
    """Under way, so that whatever it depends on shows, and with every slider there is."""

    def __init__(self, **state):
        super().__init__(**{"step": 30, "a": "kd", "b": "zkd"} | state)


EXAMPLES = {  # of figures that start empty, with something to show
    explore.TrainingProgress: Example,
    explore.RankingExplorer: Ranked,
    explore.SentenceExplorer: Sentence,
    explore.Playground: Lesson,
}
FIGURES = [
    EXAMPLES.get(figure, figure)
    for name in explore.__all__
    if isinstance(figure := getattr(explore, name), type) and issubclass(figure, LiveFigure)
]
every_figure = pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
CONTROLS = ".ak input, .ak button, .ak select"


def output(widget):
    bundle = widget._repr_mimebundle_()
    return bundle[0] if isinstance(bundle, tuple) else bundle


@every_figure
@pytest.mark.parametrize("width", [390, 800])
def test_it_fits_and_every_slider_changes_the_picture(open_figure, figure, width):
    page = open_figure(figure(), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sliders = page.locator("input[type=range]")
    assert sliders.count() >= 1
    for index in range(sliders.count()):
        before = pictures(page)
        sliders.nth(index).focus()
        at_top = sliders.nth(index).evaluate("(input) => input.value === input.max")
        page.keyboard.press("Home" if at_top else "End")
        assert pictures(page) != before, f"slider {index}"


@every_figure
def test_every_choice_and_button_answers(open_figure, figure):
    page = open_figure(figure())
    for index in range(page.locator(".ak button").count()):
        page.locator(".ak button").nth(index).click()
        assert drawn(page).locator(".ak-pictures svg").count() >= 1
    choices = page.locator(".ak-choice")
    for group in range(choices.count()):
        radios = choices.nth(group).locator("input")
        seen = set()
        for index in range(radios.count()):
            radios.nth(index).check()
            seen.add(pictures(page) + words(page))
        assert len(seen) == radios.count()


@every_figure
def test_keys_stay_in_the_figure(open_figure, figure):
    page = open_figure(figure())
    page.evaluate("window.leaked = 0; document.addEventListener('keydown', () => leaked++)")
    for control in page.locator("input").all():
        control.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
    assert page.evaluate("leaked") == 0


@every_figure
def test_every_control_has_a_name_and_every_picture_a_sentence(open_figure, figure):
    page = open_figure(figure())
    assert page.evaluate("[...document.querySelectorAll('input, select')].every((i) => i.labels.length === 1)")
    assert page.evaluate(
        "[...document.querySelectorAll('.ak-pictures svg')].every((s) => s.getAttribute('aria-label'))"
    )
    assert len(words(page)) > 40


@every_figure
def test_it_speaks_after_a_change_and_not_before(open_figure, figure):
    page = open_figure(figure())
    assert page.locator("[aria-live=polite]").inner_text() == ""
    page.locator("input[type=range]").first.focus()
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('[aria-live]').textContent !== ''")
    assert page.locator("[aria-live=polite]").text_content() == words(page)


@every_figure
def test_it_stops_when_told(open_figure, figure):
    page = open_figure(figure())
    before = pictures(page)
    page.evaluate("stop()")
    page.locator("input[type=range]").first.focus()
    page.keyboard.press("End")
    assert pictures(page) == before


@every_figure
def test_colours_follow_the_page(open_figure, figure):
    page = open_figure(figure())
    page.add_style_tag(content=":root { --pst-color-text-base: rgb(1, 2, 3) }")
    assert drawn(page).evaluate("getComputedStyle(document.querySelector('.title')).fill") == "rgb(1, 2, 3)"


@every_figure
def test_print_shows_the_picture_without_its_controls(open_figure, figure):
    page = open_figure(figure())
    page.emulate_media(media="print")
    assert drawn(page).locator(f"{CONTROLS} >> visible=true").count() == 0
    assert page.locator(".ak-pictures svg").first.is_visible()


@every_figure
def test_a_trait_set_elsewhere_redraws(open_figure, figure):
    page = open_figure(figure())
    before = pictures(page)
    first = page.locator("input[type=range]").first
    first.focus()
    page.keyboard.press("End")
    changed = pictures(page)
    values = page.evaluate(
        "(names) => Object.fromEntries(names.map((name) => [name, model.get(name)]))", list(figure.controls)
    )
    start = {name: getattr(figure(), name) for name in figure.controls}
    page.evaluate(
        "(values) => Object.entries(values).forEach(([name, value]) => model.set(name, value))", start
    )
    assert pictures(page) == before != changed
    page.evaluate(
        "(values) => Object.entries(values).forEach(([name, value]) => model.set(name, value))", values
    )
    assert pictures(page) == changed


@every_figure
def test_output_is_the_same_on_every_run_and_has_words_and_a_picture(figure):
    one, two = figure(), figure()
    first, second = output(one), output(two)
    assert repr(one) == repr(two)
    assert "0x" not in repr(one)
    for kind in ("text/plain", "image/svg+xml"):
        assert first[kind] == second[kind]
    assert one.describe() in first["text/plain"]
    assert first["application/vnd.jupyter.widget-view+json"]["model_id"] == one.model_id
    assert all(name in repr(one) for name in figure.controls)


@every_figure
def test_its_files_are_small_and_name_no_host(figure):
    assert len(style_sheet("kit.css").encode()) < 7_000
    trains = issubclass(figure, explore.Playground)  # this one has an engine
    assert len(figure._esm.encode()) < (60_000 if trains else 30_000)
    assert len(figure._css.removeprefix(style_sheet("kit.css")).encode()) < (4_500 if trains else 3_000)
    for text in (figure._esm, figure._css):
        assert "//" not in text.replace("http://www.w3.org/2000/svg", "").replace("// ", "").replace("//  ", "")
        assert "@import" not in text
        assert "url(h" not in text


def saved_figures():
    """The live figures whose state the committed notebooks hold."""
    for path in sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb")):
        widgets = json.loads(path.read_text(encoding="utf8"))["metadata"].get("widgets", {})
        for saved in widgets.values():
            for model in saved["state"].values():
                if "_esm" in model["state"]:
                    yield pytest.param(model["state"], id=path.stem)


@pytest.mark.parametrize("state", list(saved_figures()))
def test_the_notebooks_hold_the_figures_as_they_are_now(state):
    """nbval does not compare what a widget is made of: a notebook that was not run again would show an old figure."""
    current = {figure._esm: figure._css for figure in FIGURES}
    assert state["_esm"] in current, "run `make notebooks`"
    assert state["_css"] == current[state["_esm"]]
