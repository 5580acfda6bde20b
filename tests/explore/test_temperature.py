"""The live figure: its JavaScript against adakd, its controls by mouse and keys, its words."""

import itertools
import math

import numpy as np
import pytest
import traitlets
from pages import box_of, pictures, words

from adakd.explore import TemperatureExplorer
from adakd.series import lower_factor, upper_factor

STATES = [
    {"peak": peak, "ruled_out": ruled_out, "agreement": agreement, "classes": classes} | choice
    for (peak, ruled_out), agreement, classes, choice in itertools.product(
        [(8.0, -3.0), (0.0, -20.0), (20.0, 0.0)],
        [0.0, 0.8, 1.0],
        [6, 10, 100],
        [{"rule": rule} for rule in ("teacher", "both", "absolute")]
        + [{"rule": "hand", "tau": tau} for tau in (0.1, 1.0, 100.0)],
    )
]


def numpy_values(figure):
    """The figure's numbers a third time, from the formulas, sharing no code with adakd."""
    k = figure.classes
    rest = [math.sqrt(3) * (1 - (2 * i + 1) / (k - 4)) for i in range(k - 4)]
    v = np.array([figure.peak, figure.second, 0.0, *rest, figure.ruled_out])
    teacher = (v - v.mean()) / v.std()
    slip = np.array([math.sqrt(12) * ((i + 1) * 0.6180339887498949 % 1 - 0.5) for i in range(k)])
    slip[2] = 4.0
    design = np.stack([np.ones(k), teacher], axis=1)  # the error is what a line in z^t cannot explain
    error = slip - design @ np.linalg.lstsq(design, slip, rcond=None)[0]
    student = figure.agreement * teacher + math.sqrt(1 - figure.agreement**2) * error / error.std()
    both = np.concatenate([teacher, student])
    c = (1 + math.sqrt(3)) / 2
    tau = {
        "hand": figure.tau,
        "teacher": c * teacher.max(),
        "both": c * both.max(),
        "absolute": c * abs(both).max(),
    }[figure.rule]
    p, q = (np.exp(z / tau - z.max() / tau) for z in (teacher, student))
    p, q = p / p.sum(), q / q.sum()
    return {
        "tau": tau,
        "entropy": -(p[p > 0] * np.log(p[p > 0])).sum(),
        "rho": np.corrcoef(student, teacher)[0, 1],
        "loss": tau**2 * (p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum(),
        "required": max(c * both.max(), (c - 1) * -both.min()),
    }


@pytest.mark.parametrize("state", STATES[:: len(STATES) // 40])
def test_values_against_numpy(state):
    figure = TemperatureExplorer(**state)
    values = figure.values()
    for name, expected in numpy_values(figure).items():
        assert values[name] == pytest.approx(expected, rel=1e-7, abs=1e-8), name
    assert values["rho"] == pytest.approx(figure.agreement, abs=1e-12)


def test_absolute_rule_always_satisfies_both_ends():
    for state in STATES:
        values = TemperatureExplorer(**state).values()
        assert values["tau_absolute"] >= values["required"] * (1 - 1e-12)


def test_signed_rule_can_fail_at_the_lower_end():
    values = TemperatureExplorer(peak=1.0, second=1.0, ruled_out=-16.0, agreement=0.95, classes=100).values()
    assert values["tau_both"] < values["required"] == values["lower"]


def test_javascript_against_adakd(open_figure):
    page = open_figure(TemperatureExplorer())
    assert page.evaluate("[figure.C_UPPER, figure.C_LOWER]") == pytest.approx(
        [upper_factor(2), lower_factor(2)], abs=1e-15
    )
    figures = [TemperatureExplorer(**state) for state in STATES]
    answers = page.evaluate(
        "(states) => states.map((s) => figure.compute(s))",
        [{name: getattr(figure, name) for name in figure.controls} for figure in figures],
    )
    for figure, answer in zip(figures, answers, strict=True):
        student, teacher = figure.logits()
        assert answer["teacher"] == pytest.approx(teacher[0].tolist(), abs=1e-6)
        assert answer["student"] == pytest.approx(student[0].tolist(), abs=1e-6)
        for name, expected in figure.values().items():
            assert answer[name] == pytest.approx(expected, abs=1e-6), (figure, name)


@pytest.mark.parametrize("width", [390, 800])
def test_every_control_changes_the_picture(open_figure, width):
    page = open_figure(TemperatureExplorer(), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    before = pictures(page)
    for index in range(page.locator("input[type=range]").count()):
        slider = page.locator("input[type=range]").nth(index)
        slider.focus()
        page.keyboard.press("End" if index == 5 else "PageDown")
        after = pictures(page)
        assert after != before, f"slider {index}"
        before = after
    page.get_by_label("both, absolute").check()
    page.get_by_role("button", name="one class ruled out").click()
    assert "both, signed 1.82 too low" in pictures(page)


def test_keys_move_a_slider_and_stay_in_the_figure(open_figure):
    page = open_figure(TemperatureExplorer(tau=1.0, rule="hand"))
    page.evaluate("window.leaked = 0; document.addEventListener('keydown', () => leaked++)")
    page.get_by_label("temperature τ").focus()
    for key in ("ArrowRight", "ArrowUp", "PageUp", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    assert page.evaluate("model.get('tau')") == pytest.approx(10**0.1)
    page.keyboard.press("Home")
    assert page.evaluate("model.get('tau')") == pytest.approx(0.1)
    page.get_by_label("by hand").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("model.get('rule')") == "teacher"
    assert page.evaluate("leaked") == 0


def test_moving_tau_takes_it_from_the_rule_and_dragging_does_too(open_figure):
    page = open_figure(TemperatureExplorer())
    page.get_by_label("temperature τ").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("model.get('rule')") == "hand"
    page.get_by_label("both, signed").check()
    box = box_of(page, "svg", 1)
    page.mouse.move(box["x"] + 150, box["y"] + 120)
    page.mouse.down()
    page.mouse.move(box["x"] + 100, box["y"] + 120, steps=3)
    page.mouse.up()
    tau = page.evaluate("model.get('tau')")
    page.mouse.move(box["x"] + 300, box["y"] + 120)
    assert page.evaluate("[model.get('rule'), model.get('tau')]") == ["hand", tau]
    assert 0.1 < tau < 1


def test_it_says_what_it_shows(open_figure):
    figure = TemperatureExplorer()
    page = open_figure(figure)
    sentence = words(page)
    assert f"τ = {figure.values()['tau']:.2f}" in sentence
    assert page.locator("[aria-live=polite]").inner_text() == ""  # a page that opens does not talk
    page.get_by_role("button", name="two peaks").click()
    page.wait_for_function("document.querySelector('[aria-live]').textContent !== ''")
    assert page.locator("[aria-live=polite]").text_content() == words(page) != sentence
    assert page.evaluate("[...document.querySelectorAll('input')].every((i) => i.labels.length === 1)")
    assert page.evaluate("[...document.querySelectorAll('svg')].every((s) => s.getAttribute('aria-label'))")


@pytest.mark.parametrize("wrong", [{"classes": 5}, {"agreement": 1.1}, {"rule": "mlt"}, {"tau": 0.0}])
def test_wrong_states_are_refused(wrong):
    with pytest.raises(traitlets.TraitError):
        TemperatureExplorer(**wrong)
