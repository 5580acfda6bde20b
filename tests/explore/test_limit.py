"""The limit explorer: its JavaScript against adakd, its bounds, the chapter's numbers, its words and drags."""

import itertools
import math
import random

import numpy as np
import pytest
import traitlets
from pages import box_of, pictures, words

from adakd.explore import LimitExplorer

ERRORS = ("everywhere", "top", "bottom")


def states(count):
    """Corners of the ranges, and random states between them."""
    yield from (
        {"error": error, "classes": classes, "agreement": agreement, "tau": tau}
        for error, classes, agreement, tau in itertools.product(
            ERRORS, (10, 100), (0.0, 0.9, 0.99), (0.1, 1000.0)
        )
    )
    draw = random.Random(0)
    for _ in range(count):
        yield {
            "error": draw.choice(ERRORS),
            "classes": draw.choice((10, 100)),
            "agreement": draw.uniform(0, 0.99),
            "tau": 10 ** draw.uniform(-1, 3),
        }


STATES = list(states(60))


def log_softmax(x):
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def numpy_values(figure):
    """The figure's numbers a third time, from the formulas, sharing no code with adakd."""
    k = figure.classes
    ramp = [math.sqrt(3) * (1 - (2 * i + 1) / (k - 4)) for i in range(k - 4)]
    v = np.array([12.0, 10.0, 0.0, *ramp, -8.0])
    teacher = (v - v.mean()) / v.std()
    error = np.zeros(k)
    if figure.error == "everywhere":
        error[2:-1] = [(i + 1) * 0.6180339887498949 % 1 - 0.5 for i in range(2, k - 1)]
    else:
        error[[0, 1] if figure.error == "top" else [-1, -1]] = [-1, 1]
    design = np.stack([np.ones(k), teacher], axis=1)  # what a line in z^t explains is no error
    error -= design @ np.linalg.lstsq(design, error, rcond=None)[0]
    rho = figure.agreement
    student = rho * teacher + math.sqrt(1 - rho**2) * error / error.std()
    both, tau = np.concatenate([teacher, student]), figure.tau

    def loss(tau):
        p, q = log_softmax(teacher / tau), log_softmax(student / tau)
        return tau**2 * (np.exp(p) * (p - q)).sum()

    c = (1 + math.sqrt(3)) / 2
    taus = {"teacher": c * teacher.max(), "both": c * both.max(), "absolute": c * abs(both).max()}
    return {
        "rho": np.corrcoef(student, teacher)[0, 1],
        "limit": 1 - rho,
        "loss": loss(tau),
        "ratio": loss(tau) / (1 - rho),
        "lower": (1 - rho) * math.exp(-np.ptp(both) / tau),
        "upper": (1 - rho) * math.exp(both.max() / tau),
        **{f"tau_{name}": at for name, at in taus.items()},
        **{f"loss_{name}": loss(at) for name, at in taus.items()},
        "teacher_peak": math.exp(log_softmax(teacher / tau)[0]),
        "student_last": math.exp(log_softmax(student / tau)[-1]),
    }


@pytest.mark.parametrize("state", STATES[::4], ids=str)
def test_values_against_numpy(state):
    values = LimitExplorer(**state).values()
    for name, expected in numpy_values(LimitExplorer(**state)).items():
        assert values[name] == pytest.approx(expected, rel=1e-7, abs=1e-9), name


def test_javascript_against_adakd(assert_javascript_agrees):
    assert_javascript_agrees([LimitExplorer(**state) for state in STATES])


@pytest.mark.parametrize("state", STATES, ids=str)
def test_the_loss_is_between_its_bounds_and_the_rule_keeps_its_promise(state):
    values = LimitExplorer(**state).values()
    assert values["lower"] - 1e-9 <= values["loss"] <= values["upper"] + 1e-9
    for rule in ("both", "absolute"):
        assert values[f"loss_{rule}"] <= math.exp(math.sqrt(3) - 1) * values["limit"]
    near = min(values["near"], 1000.0)
    assert LimitExplorer(**state | {"tau": near}).values()["upper"] == pytest.approx(1.1 * values["limit"])


def test_all_errors_cost_the_same_at_high_temperature_and_not_at_low():
    cold, hot = (
        [LimitExplorer(error=error, tau=tau).values()["loss"] for error in ERRORS] for tau in (1.0, 1000.0)
    )
    assert hot == pytest.approx([0.1] * 3, abs=1e-3)
    assert cold[1] > 100 * cold[2]


def drag(page, picture, x):
    box = box_of(page, ".ak-pictures svg", picture)
    page.mouse.move(box["x"] + 60, box["y"] + 120)
    page.mouse.down()
    page.mouse.move(box["x"] + x, box["y"] + 120, steps=3)
    page.mouse.up()
    return page.evaluate("model.get('tau')")


def test_dragging_moves_tau(open_figure):
    page = open_figure(LimitExplorer())
    plot = box_of(page, ".ak-pictures svg")["width"] - 44 - 8
    assert drag(page, 0, 44 + plot / 2) == pytest.approx(10, rel=0.02)
    assert drag(page, 0, plot + 200) == 1000
    assert drag(page, 0, 2) == 0.1
    assert drag(page, 1, 200) == 0.1  # the bars have no temperature to drag


@pytest.mark.parametrize(
    ("scene", "holds"),
    [
        ("τ = 1", lambda v, tau: tau == 1),
        ("τ of Algorithm 1", lambda v, tau: tau == pytest.approx(v["tau_both"], rel=1e-9)),
        ("at most 10 % above", lambda v, tau: v["upper"] == pytest.approx(1.1 * v["limit"])),
        ("τ = 1000", lambda v, tau: v["ratio"] == pytest.approx(1, abs=0.01)),
    ],
)
def test_each_scene_shows_what_it_says(open_figure, scene, holds):
    page = open_figure(LimitExplorer(tau=2.0))
    page.get_by_role("button", name=scene, exact=True).click()
    tau = page.evaluate("model.get('tau')")
    assert holds(LimitExplorer(tau=tau).values(), tau)


def test_it_says_what_it_shows(open_figure):
    page = open_figure(LimitExplorer())
    values = LimitExplorer().values()
    sentence = words(page)
    assert "takes the second class for the first" in sentence
    assert f"Algorithm 1 takes τ = {values['tau_both']:.1f}" in sentence
    assert "times its limit 1 − ρ = 0.100" in sentence
    page.get_by_label("last class not seen").check()
    page.get_by_label("100", exact=True).focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("model.get('classes')") == 10
    assert "% of its limit" in words(page)
    assert "Softmax at τ = 1.00" in pictures(page)


def test_hot_or_cold_it_draws_numbers_only(open_figure):
    page = open_figure(LimitExplorer(), 390)
    for state in STATES[:18]:
        page.evaluate("(s) => Object.entries(s).forEach(([name, value]) => model.set(name, value))", state)
        picture = pictures(page)
        assert "NaN" not in picture
        assert "Infinity" not in picture
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_description_has_the_loss_and_its_limit():
    said = LimitExplorer(tau=8.0, error="bottom", classes=10).describe()
    assert "has not seen the last class ruled out, K = 10, ρ = 0.90" in said
    assert "its limit 1 − ρ = 0.1" in said


@pytest.mark.parametrize("wrong", [{"error": "left"}, {"classes": 11}, {"agreement": 1.0}, {"tau": 0.01}])
def test_wrong_states_are_refused(wrong):
    with pytest.raises(traitlets.TraitError):
        LimitExplorer(**wrong)
