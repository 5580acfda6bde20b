"""The zoo of temperatures: its JavaScript against adakd's rules, its refusals, its invariances, its controls."""

import itertools
import math
import re

import numpy as np
import pytest
import traitlets
from pages import drawn, words

from adakd.explore import ZooExplorer

RULES = ZooExplorer.rule.values
PAIRS = [
    {},
    {"teacher_scale": 9.0, "student_scale": 7.5},
    {"shift": -10.0},
    {"shift": 7.5, "student_scale": 0.1},
    {"teacher_scale": 1.5, "student_scale": 6.0, "label": "second"},
    {"peak": 1.0, "second": 1.0, "ruled_out": -16.0, "agreement": 0.95, "classes": 100},
    {"agreement": 0.3, "epoch": 120},
    {"agreement": 0.0, "epoch": 5, "label": "slip"},
    {"agreement": 1.0, "student_scale": 3.0, "classes": 6},
    {"peak": 20.0, "ruled_out": -20.0, "teacher_scale": 100.0, "student_scale": 30.0},
    {"classes": 1000, "epoch": 240},
]
STATES = [
    pair | {"logits": logits, "rule": RULES[(7 * i + 3 * j) % len(RULES)]}
    for (i, pair), (j, logits) in itertools.product(enumerate(PAIRS), enumerate(ZooExplorer.logits.values))
]


def test_javascript_against_adakd(assert_javascript_agrees):
    assert_javascript_agrees([ZooExplorer(**state) for state in STATES])


def numpy_temperatures(f):
    """Seven of the rules a third time, from their formulas, on the logits of their papers; [student, teacher]."""
    k = f.classes
    rest = [math.sqrt(3) * (1 - (2 * i + 1) / (k - 4)) for i in range(k - 4)]
    v = np.array([f.peak, f.second, 0.0, *rest, f.ruled_out])
    teacher = (v - v.mean()) / v.std()
    slip = np.array([math.sqrt(12) * ((i + 1) * 0.6180339887498949 % 1 - 0.5) for i in range(k)])
    slip[2] = 4.0
    design = np.stack([np.ones(k), teacher], axis=1)
    error = slip - design @ np.linalg.lstsq(design, slip, rcond=None)[0]
    student = f.agreement * teacher + math.sqrt(1 - f.agreement**2) * error / error.std()
    raw_t, raw_s = f.teacher_scale * teacher, f.student_scale * student + f.shift
    c = (1 + math.sqrt(3)) / 2
    lse_t, lse_s = (x.max() + np.log(np.exp(x - x.max()).sum()) for x in (raw_t, raw_s))
    p, q = np.exp(raw_t - lse_t), np.exp(raw_s - lse_s)
    y = ["peak", "second", "slip"].index(f.label)
    excess = (lse_s - raw_s[y]) - (lse_t - raw_t[y])  # of the student's cross entropy
    boost = 1.0 if excess <= 1 else min(excess / (excess - 1), 2.0) if excess >= 2 else 1.35
    m_t, m_s = max(raw_t.max(), 0.01), max(raw_s.max(), 0.01)
    return {
        "mlt-teacher": [c * teacher.max()] * 2,
        "mlt": [c * max(teacher.max(), student.max())] * 2,
        "mlt-abs": [c * max(abs(teacher).max(), abs(student).max())] * 2,
        "cswt-unit": [6 - 4 * p @ q / math.sqrt(p @ p * (q @ q))] * 2,
        "dts": [min(4, max(2, 2 * (1 + math.cos(math.pi * f.epoch / 240)) * boost))] * 2,
        "dtkd-max": [8 * m / (m_s + m_t) for m in (m_s, m_t)],
        "published_dtkd": [8 * m / (lse_s + lse_t) for m in (lse_s, lse_t)],
    }


@pytest.mark.parametrize("state", PAIRS)
def test_values_against_numpy(state):
    figure = ZooExplorer(**state)
    values = figure.values()
    for name, expected in numpy_temperatures(figure).items():
        assert values[name] == pytest.approx(expected, rel=1e-7), name


def test_every_row_is_shown_or_said_to_be_missing():
    from adakd.methods import METHODS, RULE_NAMES
    from adakd.temperature import RULES as ALL

    live = {name for name, row in RULE_NAMES.items() if row.live}
    assert {name for name in RULES if name in RULE_NAMES} == live
    missing = re.search('Not shown here, for no formula does: ([^"]*)\\.', ZooExplorer._esm)[1].split(", ")
    assert set(missing) == set(RULE_NAMES) - live
    shown = {RULE_NAMES[name].rule if name in RULE_NAMES else METHODS[name].rule for name in RULES}
    assert shown | {RULE_NAMES[name].rule for name in missing} == set(ALL)


def test_standardized_rules_see_neither_scale_nor_shift():
    start = ZooExplorer(logits="standardized").values()
    other = ZooExplorer(logits="standardized", teacher_scale=9.0, student_scale=0.3, shift=-10.0).values()
    for name in RULES:
        assert other[name] == pytest.approx(start[name], rel=1e-9), name
    assert other["p"] == pytest.approx(start["p"], abs=1e-12)


def test_on_raw_logits_the_softmax_of_a_rule_that_stands_still_sharpens():
    start, scaled = ZooExplorer(rule="kd"), ZooExplorer(rule="kd", teacher_scale=9.0, student_scale=7.5)
    assert scaled.values()["kd"] == start.values()["kd"] == [4.0, 4.0]
    assert scaled.values()["p"][0] > 2 * start.values()["p"][0]
    raw = ZooExplorer(rule="mlt", logits="raw"), ZooExplorer(rule="mlt", logits="raw", teacher_scale=9.0)
    assert raw[1].values()["mlt"][1] == pytest.approx(3 * raw[0].values()["mlt"][1])


def test_dtkd_is_refused_where_its_formula_is_negative():
    shifted = ZooExplorer(shift=-10.0)
    values = shifted.values()
    for name in ("dtkd", "dtkd-max"):
        assert shifted.refused(name)
        assert min(values[f"published_{name}"]) < 0 < min(values[name])
        assert sum(values[f"published_{name}"]) == pytest.approx(8)
        assert not ZooExplorer().refused(name)
        assert ZooExplorer().values()[name] == pytest.approx(ZooExplorer().values()[f"published_{name}"])
    assert not ZooExplorer(shift=-10.0, logits="standardized").refused("dtkd")
    assert not any(shifted.refused(name) for name in RULES if not name.startswith("dtkd"))


def test_dts_is_shown_where_its_running_mean_settles():
    import torch

    from adakd.temperature import DTS

    figure = ZooExplorer(epoch=120, agreement=0.3)
    student, teacher = (rows[:1] for rows in figure.batch(False))
    rule = DTS().double()
    for _ in range(300):
        tau = rule(student, teacher, torch.tensor([0]), 120).teacher.item()
    assert figure.values()["dts"][0] == pytest.approx(tau, rel=1e-9)
    assert 2 < tau < 4  # neither end: the boost is at work


def test_batch_rules_read_their_companions():
    from adakd.temperature import Cosine, Difficulty

    figure = ZooExplorer()
    student, teacher = figure.batch(False)
    assert student.shape == teacher.shape == (4, 10)
    for rule, name in ((Cosine(), "cswt"), (Difficulty(), "adakd")):
        alone = rule(student[:1], teacher[:1]).teacher.item()
        assert alone == pytest.approx(4)
        assert figure.values()[name][0] == rule(student, teacher).teacher[0].item() != pytest.approx(alone)


def test_each_rule_stays_in_its_reach(open_figure):
    page = open_figure(ZooExplorer())
    for figure in [ZooExplorer(**state) for state in STATES]:
        page.evaluate(
            "(state) => Object.entries(state).forEach(([name, value]) => model.set(name, value))",
            {name: getattr(figure, name) for name in figure.controls},
        )
        outside = drawn(page).evaluate(
            """() => {
              return [...document.querySelectorAll(".rule")].filter((row) => {
                const range = row.querySelector(".reach"), dot = row.querySelector(".dot");
                if (!range || !dot) return false;
                const [a, b] = [range, dot].map((e) => e.getBBox()), at = b.x + b.width / 2;
                return at < a.x - 0.1 || at > a.x + a.width + 0.1;
              }).map((row) => row.dataset.rule);
            }"""
        )
        assert outside == [], figure


def test_rows_and_menu_choose_a_rule(open_figure):
    page = open_figure(ZooExplorer())
    page.evaluate("window.leaked = 0; document.addEventListener('keydown', () => leaked++)")
    page.locator("[data-rule=cswt]").click()
    assert page.evaluate("model.get('rule')") == "cswt"
    assert words(page).startswith("CSWT, batch sets τ = 2.04")
    assert page.locator("[data-rule=cswt].on").count() == 1
    assert "ρ = 0.5, 0.75 and 0.95" in page.inner_text(".card")
    menu = page.get_by_role("combobox", name="softmax by")
    assert menu.input_value() == "cswt"
    menu.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("model.get('rule')") == menu.input_value() == "cswt-unit"
    assert page.evaluate("leaked") == 0


def test_scenes_answer(open_figure):
    page = open_figure(ZooExplorer())
    assert "All rules make the softmax of the start" in words(page)
    page.get_by_role("button", name="student − 10").click()
    assert words(page).startswith("Refused (DTKD; DTKD, max)")
    assert page.locator(".rule .refused").count() == 2
    page.get_by_role("button", name="both × 3").click()
    start, scaled = ZooExplorer().values(), ZooExplorer(teacher_scale=9.0, student_scale=7.5).values()
    same = [
        name
        for name, before, now in zip(RULES, start["peaks"], scaled["peaks"], strict=True)
        if scaled[name] == pytest.approx(start[name], rel=0.004) and now == pytest.approx(before, rel=0.004)
    ]
    assert 0 < len(same) < len(RULES)
    assert f"{len(same)} make the same one" in words(page)
    assert page.locator(".rule .refused").count() == 0
    page.get_by_label("all standardized z").check()
    assert "All rules make the softmax of the start" in words(page)
    page.get_by_role("button", name="1000 classes").click()
    assert "All rules" not in words(page)


def test_words_and_picture_without_a_page():
    figure = ZooExplorer(shift=-10.0, rule="dtkd-max")
    assert "Refused: DTKD and DTKD, max" in figure.describe()
    assert "refused: a temperature below 0" in figure.still().svg
    assert "Refused" not in ZooExplorer().describe()
    assert "τ = 4.63 (teacher), 3.37 (student)" in ZooExplorer(rule="dtkd").describe()


@pytest.mark.parametrize("wrong", [{"epoch": 0}, {"label": "third"}, {"rule": "fixed"}, {"teacher_scale": 0.0}])
def test_wrong_states_are_refused(wrong):
    with pytest.raises(traitlets.TraitError):
        ZooExplorer(**wrong)
