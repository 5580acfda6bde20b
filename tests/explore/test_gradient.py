"""What the student feels: closed formulas against autograd, what is orthogonal to what, the controls."""

import itertools
import math

import numpy as np
import pytest
import torch
import traitlets
from pages import box_of, drawn, words

from adakd.explore import GradientExplorer

METHODS = GradientExplorer.a.values
PAIRS = [
    {},
    {"teacher_scale": 9.0, "student_scale": 0.5},
    {"agreement": 1.0},
    {"agreement": 0.0, "label": "slip", "classes": 100},
    {"peak": 20.0, "ruled_out": -20.0, "teacher_scale": 20.0, "student_scale": 30.0, "label": "second"},
    {"peak": 1.0, "second": 1.0, "ruled_out": -16.0, "agreement": 0.95, "classes": 6},
    {"classes": 1000},
]
STATES = [
    pair | {"a": a, "b": METHODS[(i + 3 * j) % len(METHODS)], "tau": tau}
    for (i, a), (j, pair) in itertools.product(enumerate(METHODS), enumerate(PAIRS))
    for tau in (0.1, 4.0, 100.0)
]


def test_javascript_against_autograd(assert_javascript_agrees):
    assert_javascript_agrees([GradientExplorer(**state) for state in STATES])


def losses(name, t, y, tau):
    """A loss of one pair as a function of the student's raw logits, in NumPy, sharing no code with adakd."""

    def log_softmax(v):
        return v - v.max() - np.log(np.exp(v - v.max()).sum())

    def standard(v):
        return (v - v.mean()) / v.std()

    def kl(p, q):
        return (np.exp(p) * (p - q)).sum()

    def soft_kl(t, s, tau_t, tau_s):
        return tau_t * tau_s * kl(log_softmax(t / tau_t), log_softmax(s / tau_s))

    def dkd(t, s):
        p, q = np.exp(log_softmax(t / tau)), np.exp(log_softmax(s / tau))
        others = np.arange(len(t)) != y
        nckd = kl(log_softmax(t[others] / tau), log_softmax(s[others] / tau))
        return tau**2 * (
            p[y] * math.log(p[y] / q[y]) + (1 - p[y]) * math.log((1 - p[y]) / (1 - q[y])) + 8 * nckd
        )

    def dtkd(t, s):
        m_t, m_s = (x.max() - log_softmax(x).max() for x in (t, s))
        return 3 * soft_kl(t, s, *(2 * tau * m / (m_t + m_s) for m in (m_t, m_s))) + soft_kl(t, s, tau, tau)

    return {
        "ce": lambda s: -log_softmax(s)[y],
        "kd": lambda s: soft_kl(t, s, tau, tau),
        "dkd": lambda s: dkd(t, s),
        "ttm": lambda s: kl(log_softmax(t / tau), log_softmax(s)),
        "dtkd": lambda s: dtkd(t, s),
        "dist": lambda s: (
            tau**2 * (1 - np.corrcoef(np.exp(log_softmax(t / tau)), np.exp(log_softmax(s / tau)))[0, 1])
        ),
        "zkd": lambda s: soft_kl(standard(t), standard(s), tau, tau),
        "zdkd": lambda s: dkd(standard(t), standard(s)),
        "correlation": lambda s: 1 - np.corrcoef(s, t)[0, 1],
    }[name]


@pytest.mark.parametrize("name", [name for name in METHODS if name != "zkd+mlt"])
@pytest.mark.parametrize("label", [0, 2])
def test_autograd_against_differences(name, label):
    figure = GradientExplorer(label=["peak", "second", "slip"][label], tau=3.0)
    student, teacher = (rows[0].numpy() for rows in figure.logits())
    loss = losses(name, teacher, label, 3.0)
    step = 1e-5 * np.eye(len(student))
    differences = [(loss(student + e) - loss(student - e)) / 2e-5 for e in step]
    assert figure.gradient(name).tolist() == pytest.approx(differences, abs=2e-7)


def test_mlt_is_zkd_at_its_own_temperature():
    figure = GradientExplorer()
    student, teacher = figure.logits()
    z = [(v - v.mean()) / v.std(correction=0) for v in (student, teacher)]
    tau = (1 + math.sqrt(3)) / 2 * max(v.max().item() for v in z)
    assert torch.allclose(figure.gradient("zkd+mlt"), figure.gradient("zkd", tau=tau), atol=1e-12)


@pytest.mark.parametrize("state", PAIRS)
def test_what_a_loss_cannot_do(state):
    figure = GradientExplorer(**state)
    student = figure.logits()[0][0]
    for name in METHODS:
        g = figure.gradient(name)
        scale = g.norm() + 1e-3  # where it is 0, rounding
        if name != "dtkd":  # none but DTKD can lift all logits at once
            assert abs(g.sum()) < 1e-9 * scale * math.sqrt(figure.classes), name
        if name in ("zkd", "zdkd", "zkd+mlt", "correlation"):  # standardized: none can stretch them
            assert abs(g @ student) < 1e-9 * scale * student.norm(), name
    start = GradientExplorer(tau=4.0)
    assert abs(start.gradient("dtkd").sum()) > 0.1
    assert abs(start.gradient("kd") @ start.logits()[0][0]) > 0.1


def test_zkd_goes_to_one_minus_rho_and_kd_to_the_difference_of_the_logits():
    figure = GradientExplorer()
    student, teacher = (rows[0] for rows in figure.logits())
    assert torch.allclose(figure.gradient("zkd", 1e5), figure.gradient("correlation"), rtol=1e-3, atol=1e-6)
    assert torch.allclose(figure.gradient("kd", 1e5), (student - teacher) / 10, rtol=1e-3, atol=1e-4)
    errors = [
        (figure.gradient("zkd", tau) - figure.gradient("correlation")).norm() for tau in (10.0, 20.0, 40.0)
    ]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)  # as 1/τ
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)


def test_the_same_shape_leaves_nothing_to_standardized_losses():
    values = GradientExplorer(agreement=1.0, student_scale=1.5, a="kd", b="zkd").values()
    assert values["norm_a"] > 0.1 > 1e-12 > values["norm_b"]
    assert values["weight"] == values["cosine"] == values["share_b"] == 0


def curves(page):
    drawn(page)
    return [page.locator(f".line-{who}").get_attribute("d") for who in "ab"]


def test_curves_follow_the_pair_and_not_the_temperature(open_figure):
    page = open_figure(GradientExplorer(curve="peak"))  # an axis that stays
    first = curves(page)
    page.get_by_label("temperature τ").focus()
    page.keyboard.press("PageUp")
    assert curves(page) == first
    page.get_by_label("second peak").focus()
    page.keyboard.press("PageUp")
    second = curves(page)
    assert first[0] != second[0]
    assert first[1] != second[1]
    page.get_by_label("B", exact=True).select_option("dkd")
    third = curves(page)
    assert third[0] == second[0]
    assert third[1] != second[1]
    page.get_by_label("direction").check()
    assert curves(page)[0] != third[0]


def test_dragging_and_menus(open_figure):
    page = open_figure(GradientExplorer())
    page.evaluate("window.leaked = 0; document.addEventListener('keydown', () => leaked++)")
    box = box_of(page, "svg", 1)
    page.mouse.move(box["x"] + 200, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 150, steps=3)
    page.mouse.up()
    assert 5 < page.evaluate("model.get('tau')") < 40
    page.get_by_label("A", exact=True).focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("model.get('a')") == "dkd"
    assert page.evaluate("leaked") == 0


def test_scenes_answer(open_figure):
    page = open_figure(GradientExplorer())
    assert "KD stretches them and zKD leaves their scale alone" in words(page)
    page.get_by_role("button", name="the same shape at half the size").click()
    assert words(page).startswith("zKD: no pull at all")
    assert "zKD: 0" in drawn(page).locator("svg").nth(1).text_content()
    page.get_by_role("button", name="where does β = 8 go?").click()
    values = GradientExplorer(a="kd", b="dkd", tau=4.0).values()
    assert f"DKD pulls {1 / values['weight']:.2f} times as hard as KD" in words(page)
    assert "B: DKD × 0.1" in drawn(page).locator("svg").first.text_content()
    page.get_by_label("B", exact=True).select_option("kd")
    assert words(page).startswith("Twice the same loss.")
    page.get_by_label("B", exact=True).select_option("dtkd")
    assert "DTKD also shifts all of them" in words(page)


def test_words_and_picture_without_a_page():
    figure = GradientExplorer(a="kd", b="zkd+mlt")
    assert "the gradient of KD has length 0.616, that of MLT 0.085" in figure.describe()
    for curve in GradientExplorer.curve.values:
        assert "MLT" in GradientExplorer(a="kd", b="zkd+mlt", curve=curve, bars="matched").still().svg


@pytest.mark.parametrize("wrong", [{"a": "mlkd"}, {"tau": 0.0}, {"curve": "norm"}, {"student_scale": 101.0}])
def test_wrong_states_are_refused(wrong):
    with pytest.raises(traitlets.TraitError):
        GradientExplorer(**wrong)
