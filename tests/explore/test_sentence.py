"""The figure of chapter 17: its numbers against formulas of their own, against JavaScript, and what it answers."""

import math

import numpy as np
import pytest
import traitlets
from made_up_runs import Sentence, made_up_rows
from pages import box_of, pictures, words

from adakd.explore import SentenceExplorer

RULES = ("teacher", "both", "absolute", "constant", "adakd")
STATES = [
    {"position": position, "rule": rule, "view": view}
    for position in (1, 3, 5)
    for rule in RULES
    for view in ("outputs", "softened")
]


def numpy_values(figure):
    """The figure's numbers from the formulas, sharing no code with adakd."""
    at, c = figure.position - 1, (1 + math.sqrt(3)) / 2
    raw_t, raw_s = (np.array(figure.data[who]) for who in ("teacher", "student"))
    t, s = ((x[at] - x[at].mean()) / x[at].std() for x in (raw_t, raw_s))

    def soft(z, tau=1.0):
        p = np.exp((z - z.max()) / tau)
        return p / p.sum()

    def entropy(p):
        return -(p * np.log(p)).sum()

    p, q = (np.exp(x - x.max(1, keepdims=True)) for x in (raw_t, raw_s))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    far = np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum(1) / 2)
    tau = {
        "teacher": c * t.max(),
        "both": c * max(t.max(), s.max()),
        "absolute": c * max(abs(t).max(), abs(s).max()),
        "constant": 2.0,
        "adakd": 4 * math.exp(-0.5 * math.tanh(math.log(far[at] / np.median(far)))) / raw_t[at].std(),
    }[figure.rule]
    loss = tau**2 * (soft(t, tau) * np.log(soft(t, tau) / soft(s, tau))).sum()
    limit = 1 - np.corrcoef(t, s)[0, 1]
    return {
        "tau": tau,
        "highest": t.max(),
        "asymmetry": -t.min() / t.max(),
        "entropy": entropy(p[at]),
        "entropy_student": entropy(q[at]),
        "entropy_soft": entropy(soft(t, tau)),
        "loss": loss,
        "limit": limit,
        "ratio": loss / limit,
    }


@pytest.mark.parametrize("state", STATES[::2])
def test_values_against_numpy(state):
    values = Sentence(**state).values()
    for name, expected in numpy_values(Sentence(**state)).items():
        assert values[name] == pytest.approx(expected, rel=1e-7, abs=1e-8), name


def test_javascript_against_adakd(assert_javascript_agrees):
    assert_javascript_agrees([Sentence(**state) for state in STATES])


def test_javascript_draws_what_adakd_softens(open_figure):
    page = open_figure(Sentence())
    for state in STATES:
        figure = Sentence(**state)
        answer = page.evaluate("(s) => figure.compute(s)", {n: getattr(figure, n) for n in figure.controls})
        assert answer["taus"] == pytest.approx(figure.taus(figure.rule).tolist(), abs=1e-6)
        at, unit = figure.position - 1, {"outputs": 1.0, "softened": figure.values()["tau"]}[figure.view]
        for name, rows in zip("qp", figure.logits(), strict=True):
            row = rows[at]
            if figure.view == "softened":
                row = (row - row.mean()) / row.std(correction=0)
            assert answer[name] == pytest.approx((row / unit).softmax(0).tolist(), abs=1e-6)


def test_the_pointer_and_the_slider_choose_a_position(open_figure):
    page = open_figure(Sentence())
    box = box_of(page, "svg", 0)
    page.mouse.move(box["x"] + box["width"] - 8, box["y"] + 100)
    page.mouse.down()
    page.mouse.up()
    assert page.evaluate("model.get('position')") == 5
    before = pictures(page)
    page.get_by_role("slider").focus()
    page.keyboard.press("Home")
    assert page.evaluate("model.get('position')") == 1
    assert pictures(page) != before


def test_it_says_what_it_shows(open_figure):
    figure = Sentence(position=2)
    said = words(open_figure(figure))
    assert "After “tu ma”: 2 words are plausible." in said
    assert f"τ = {figure.values()['tau']:.2f}" in said
    assert f"{figure.values()['ratio']:.2f}"[:4] in figure.describe()


def test_truth_and_plausible_words_may_be_unknown(open_figure):
    teacher, student = made_up_rows(2, 4)
    page = open_figure(SentenceExplorer(["a", "b", "c"], "abcd", teacher, student))
    assert "plausible" not in words(page)
    assert page.locator(".truth").count() == 0


def test_wrong_states_are_refused():
    for wrong in ({"position": 0}, {"position": 6}, {"rule": "mlt"}, {"view": "soft"}):
        with pytest.raises(traitlets.TraitError):
            Sentence(**wrong)
    teacher, student = made_up_rows(2, 4)
    with pytest.raises(ValueError, match=r"teacher: expected shape \(1, 4\) for 2 words"):
        SentenceExplorer(["a", "b"], "abcd", teacher, student)
    with pytest.raises(ValueError, match="plausible: expected 2 numbers, got 1"):
        SentenceExplorer(["a", "b", "c"], "abcd", teacher, student, plausible=[1])
