"""The figure that follows training: what a run's history becomes, what the page reads out, live and afterwards."""

import json
import math

import pytest
import traitlets
from made_up_runs import Example, history, row
from pages import box_of, drawn, pictures, words

from adakd.explore import TrainingProgress
from adakd.explore.live import style_sheet


def state(figure):
    return {name: getattr(figure, name) for name in figure.controls}


# ---- in Python ----


def test_a_followed_run_is_the_run_added_when_it_is_done():
    live, later = TrainingProgress(), TrainingProgress()
    seen = []
    live.observe(lambda change: seen.append(len(change["new"][0]["epoch"])), "runs")
    on_epoch = live.follow("kd", epochs=6)
    for one in history(6):
        on_epoch(one)
    later.add_run("kd", history(6), epochs=6)
    assert live.runs == later.runs
    assert seen == [0, 1, 2, 3, 4, 5, 6]  # the page hears of every epoch


def test_it_follows_the_runs_of_a_comparison_in_turns():
    figure = TrainingProgress()
    heavy = {"method": "kd", "method_options": {"kd_weight": 9}, "seed": 0}
    plain = {"method": "kd", "method_options": {}, "seed": 1}
    for one in history(3):
        figure.follow_all(heavy, one)
        figure.follow_all(plain, one)
    assert {run["name"]: run["epoch"] for run in figure.runs} == {
        "kd kd_weight=9, seed 0": [1, 2, 3],
        "kd, seed 1": [1, 2, 3],
    }
    figure.follow_all(plain, row(1))  # the same comparison, made again
    assert figure.runs[1]["epoch"] == [1]


def test_a_run_replaces_the_one_of_its_name_in_its_place():
    figure = Example()
    figure.add_run("kd, seed 1", history(2))
    assert [run["name"] for run in figure.runs] == ["kd, seed 0", "kd, seed 1", "ce"]
    assert figure.runs[1]["epoch"] == [1, 2]
    figure.follow("ce")
    assert figure.runs[2]["epoch"] == []


def test_it_holds_what_json_can_and_forgets_the_zeros_of_a_run_without_teacher():
    figure = Example()
    figure.add_run("lost", [row(1, loss=math.nan, kd=math.inf)])
    json.dumps(figure.runs, allow_nan=False)
    taught, alone = figure.runs[0], figure.runs[2]
    assert taught["tau"] == [3.0] * 6
    assert alone["tau"] == alone["rho"] == alone["kd"] == [None] * 6
    assert figure.runs[3]["loss"] == figure.runs[3]["kd"] == [None]


def test_values_at_an_epoch():
    figure = Example(epoch=3)
    values = figure.values()
    assert (values["epoch"], values["last"], values["total"]) == (3, 6, 8)
    loss, train, test, rho, tau = values["shown"]["kd, seed 0"]
    assert (loss, train, rho, tau) == (
        pytest.approx(5 / 3, rel=1e-4),
        35.0,
        pytest.approx(1 - 0.5 / 3, rel=1e-4),
        3.0,
    )
    assert test == 32.0  # measured in epoch 2, and not since
    figure.epoch = 1
    assert figure.values()["shown"]["kd, seed 0"][2] is None
    figure.epoch = 0
    assert figure.values()["epoch"] == 6
    assert figure.values()["shown"]["kd, seed 1"][2] == 34.0  # it ended in epoch 4
    figure.hidden = ["ce"]
    assert list(figure.values()["shown"]) == ["kd, seed 0", "kd, seed 1"]


def test_rows_of_something_else_are_refused():
    with pytest.raises(ValueError, match="temperature"):
        TrainingProgress().add_run("kd", [{"epoch": 1, "loss": 2.0}])


@pytest.mark.parametrize("wrong", [{"epoch": -1}, {"part": "mse"}, {"hidden": [1]}])
def test_wrong_states_are_refused(wrong):
    with pytest.raises(traitlets.TraitError):
        TrainingProgress(**wrong)


def test_shown_by_with_it_is_shown_again_when_the_runs_are_done(monkeypatch):
    shown = []

    class Handle:
        def update(self, figure):
            shown.append(("updated", list(figure.values()["shown"])))

    def display(figure, display_id):
        shown.append(("shown", list(figure.values()["shown"])))
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    figure = TrainingProgress()

    def train():
        with figure:
            figure.add_run("kd", history(3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert shown == [("shown", []), ("updated", ["kd"])]


def test_without_a_teacher_it_has_half_the_panels():
    figure = TrainingProgress()
    assert "Temperature" in figure.still().svg
    figure.add_run("teacher", history(4, taught=False))
    assert "Temperature" not in figure.still().svg
    assert "ρ" not in figure.describe()


# ---- in the page ----


@pytest.mark.parametrize(
    "figure",
    [
        Example(epoch=e, hidden=h)
        for e in (0, 1, 3, 99)
        for h in ([], ["ce"], ["kd, seed 0", "kd, seed 1", "ce"])
    ]
    + [TrainingProgress()],
)
def test_javascript_reads_out_the_same(open_figure, figure):
    page = open_figure(TrainingProgress())
    assert page.evaluate("(s) => figure.compute(s)", state(figure)) == figure.values()


def test_the_page_follows_a_run_and_its_slider_follows_too(open_figure):
    figure = TrainingProgress()
    page = open_figure(figure)
    assert page.locator("svg.ak-drags").count() == 4
    assert "No run yet" in words(page)
    on_epoch = figure.follow("kd", epochs=5)
    before = pictures(page)
    for one in history(3):
        on_epoch(one)
        page.evaluate("(runs) => model.set('runs', runs)", figure.runs)
        after = pictures(page)
        assert after != before
        before = after
        assert page.get_by_role("slider").input_value() == str(one["epoch"])
    assert drawn(page).inner_text(".ak-slider output") == "3/5"
    assert page.locator(".ak-runs input").count() == 1


def test_a_run_is_hidden_and_shown_by_its_box(open_figure):
    page = open_figure(Example())
    everything = pictures(page)
    page.get_by_role("checkbox", name="kd, seed 1").focus()
    page.keyboard.press("Space")
    assert page.evaluate("model.get('hidden')") == ["kd, seed 1"]
    assert pictures(page) != everything
    assert page.get_by_role("checkbox", name="kd, seed 1").evaluate("(box) => box === document.activeElement")
    page.keyboard.press("Space")
    assert page.evaluate("model.get('hidden')") == []
    assert pictures(page) == everything


def test_hidden_all_says_so(open_figure):
    page = open_figure(Example(hidden=["kd, seed 0", "kd, seed 1", "ce"]))
    assert "No run is shown" in words(page)


def test_the_mouse_reads_out_an_epoch_and_leaves_none_behind(open_figure):
    page = open_figure(Example(epoch=0))
    page.evaluate("() => { window.asked = 0; model.save_changes = () => { asked += 1; }; }")
    assert "Epoch 6 of 8" in words(page)
    box = box_of(page, "svg.ak-drags", 1)
    page.mouse.move(box["x"] + 41, box["y"] + 100)
    assert "Epoch 1 of 8" in words(page)
    assert "not yet measured" in drawn(page).inner_text(".ak-numbers")
    page.mouse.move(box["x"] + 100, box["y"] - 60)
    drawn(page)
    assert page.evaluate("model.get('epoch')") == 0
    assert page.evaluate("asked") == 0  # a kernel at work is not interrupted by a mouse that passes
    page.mouse.click(box["x"] + 41, box["y"] + 100)
    page.mouse.move(box["x"] + 100, box["y"] - 60)
    drawn(page)
    assert page.evaluate("model.get('epoch')") == 1  # a click stays
    assert page.evaluate("asked") >= 1


def test_the_readings_are_means_of_a_colour(open_figure):
    page = open_figure(Example(epoch=2))
    text = page.inner_text(".ak-numbers")
    assert "kd, mean of 2" in text
    assert "test 32.0 % · loss 2.50 · ρ 0.750 · τ 3.00" in text
    assert "ce\ntest 32.0 % · loss 2.50" in text.replace("\n\n", "\n")


def test_no_teacher_no_such_panels(open_figure):
    figure = TrainingProgress()
    figure.add_run("teacher", history(4, taught=False))
    page = open_figure(figure)
    assert page.locator("svg.ak-drags").count() == 2
    page.get_by_role("radio", name="distillation").check()
    assert "no teacher, no such loss" in pictures(page)


def test_a_long_run_still_fits_a_phone(open_figure):
    figure = TrainingProgress()
    for seed in range(3):
        figure.add_run(f"a method of a long name, seed {seed}", history(240))
    page = open_figure(figure, 390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".point").count() == 0  # 120 measurements are a line


def test_nothing_moves_by_itself():
    css = style_sheet("kit.css", "progress.css")
    assert "transition" not in css
    assert "animation" not in css
