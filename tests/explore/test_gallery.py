"""Every answer of the playground's gallery, trained for 20 seeds by PyTorch; each number that a text says is checked."""

import json
import math
import os
import re
from statistics import mean

import pytest
import torch
from gallery import FILE, SEEDS, SETTINGS, key, train

from adakd.explore import Playground
from adakd.explore.gallery import GALLERY
from adakd.explore.plane import Lesson

RECORD = json.loads(FILE.read_text(encoding="utf8"))
AGAIN = SEEDS if os.environ.get("ADAKD_EVERY_SEED") == "1" else (0, 13)


def taught(name, **changes):
    """What each seed comes to after 600 steps; ``changes`` to the question's state as a reader makes them."""
    return RECORD[key(name, changes)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "changes"), SETTINGS, ids=[key(*setting) for setting in SETTINGS])
def test_the_seeds_are_what_the_library_trains(name, changes):
    rows = taught(name, **changes)
    assert len(rows) == len(SEEDS)
    for seed in AGAIN:
        found = train(name, changes, seed)
        assert found.keys() == rows[seed].keys()
        for (
            what,
            value,
        ) in found.items():  # in double precision: another CPU moves a point across a border at most
            assert value == pytest.approx(rows[seed][what], rel=1e-3, abs=0.2 if "accuracy" in what else 0), (
                what
            )


def test_every_setting_is_trained_and_no_other():
    assert [*RECORD] == [key(*setting) for setting in SETTINGS]


def leads(name, **changes):
    return [row["accuracy_b"] - row["accuracy_a"] for row in taught(name, **changes)]


def says(name, *parts):
    answer = next(question.answer for question in GALLERY if question.name == name)
    for part in parts:
        assert part in answer, part


def one_digit(value):
    return f"{value:.1f}"


def test_soft_labels_of_40_points_beat_their_labels():
    few, all_of_them = leads("40 points"), leads("40 points", transfer=1000)
    assert min(few) > 0
    assert mean(all_of_them) < mean(few) / 2
    says(
        "40 points",
        "for every one of 20 seeds",
        f"by {one_digit(mean(few))} points",
        f"to {one_digit(mean(all_of_them))} points",
    )


def test_two_peaks_get_a_lower_temperature():
    lower = [row["lower"] for row in taught("two peaks")]
    assert min(lower) > 0
    assert max(map(abs, leads("two peaks"))) <= 0.5 + 1e-9
    says(
        "two peaks",
        f"lower by {one_digit(mean(lower))} on average",
        "every one of 20 seeds",
        "never more than 0.5 points apart",
    )


def test_two_peaks_leave_the_teacher_unsure():
    lesson = Lesson(Playground.ask("two peaks", seed=0).setting)
    sure = lesson.taught.softmax(-1).amax(-1)
    paired = lesson.labels[: len(sure)] < 2
    assert sure[paired].mean() < sure[~paired].mean() - 0.1
    between = torch.tensor([[0.8, 0.0]], dtype=torch.float64)
    second, first = lesson.teacher(between).softmax(-1)[0].sort().values[-2:]
    assert second > 0.25
    assert first < 0.75


def test_three_classes_have_a_ceiling_that_they_reach():
    factor = (1 + math.sqrt(3)) / 2
    ceilings = {"a": factor * math.sqrt(2), "b": factor * math.sqrt(2) * math.sqrt(2 / 3)}
    for row in taught("three classes"):
        for who, ceiling in ceilings.items():
            assert 0.99 * ceiling < row[f"highest_{who}"] <= ceiling + 1e-6
    says(
        "three classes",
        f"{ceilings['a']:.2f}",
        f"{ceilings['b']:.2f}",
        f"{factor * 3:.2f}",
        f"{factor * 3 * math.sqrt(0.9):.2f}",
    )
    assert "1.93" in GALLERY[2].question


def test_a_high_temperature_is_a_correlation():
    for row in taught("τ to infinity"):
        assert row["kl_a"] == pytest.approx(row["distance_a"], rel=0.01)
    assert max(map(abs, leads("τ to infinity"))) <= 0.5 + 1e-9
    apart = [row["kl_a"] / row["distance_a"] for row in taught("τ to infinity", tau_a=1.0)]
    assert max(apart) < 0.95
    assert mean(apart) < 0.7
    says("τ to infinity", "within 1 %", "more than 0.5 points")


def test_a_learned_temperature_climbs_where_the_points_are_few():
    few, many, standardized = (
        [row["tau_b"] for row in taught("a learned τ", **changes)]
        for changes in ({}, {"transfer": 1000}, {"b": "zctkd"})
    )
    start = 1 + 20 / (1 + math.exp(-1))
    assert min(few) > 19.8 > start + 4
    assert min(many) > 16
    assert max(many) < 19.5
    assert max(abs(tau - (start + 1)) for tau in standardized) < 0.4
    lead = leads("a learned τ")
    assert max(lead) > 0
    says("a learned τ", "above 19.8", f"{one_digit(-mean(lead))} points", "between 16 and 19.5", "hardly moves")
    assert f"starts at {start:.1f}" in GALLERY[4].question


def test_the_weight_alone_makes_a_difference():
    lead = leads("λ: 0.9 or 9")
    assert min(lead) > -1e-9
    says("λ: 0.9 or 9", f"by {one_digit(mean(lead))} points", "behind for none of 20 seeds")


@pytest.mark.parametrize("question", GALLERY, ids=lambda question: question.name)
def test_a_question_asks_and_is_short(question):
    assert "?" in question.question
    assert len(question.question) < 260
    assert len(question.answer) < 480
    assert not re.search(r"\\bobviously\\b|\\bsimply\\b", question.answer)
