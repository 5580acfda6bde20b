"""Inverse difficulty temperature: the printed formula, its bounds, and where it is undefined."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches

from adakd.temperature import Difficulty
from adakd.temperature.difficulty import hellinger


def scores(student, teacher):
    p, q = teacher.softmax(dim=1).numpy(), student.softmax(dim=1).numpy()
    return np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum(axis=1) / 2)


@given(batch=batches(), strength=st.floats(0, 3))
def test_the_printed_formula(batch, strength):
    student, teacher, _ = batch
    score = scores(student, teacher)
    tau = Difficulty(4, strength)(student, teacher).teacher.flatten()
    if score.min() > 0:
        expected = 4 * np.exp(-strength * np.tanh(np.log(score / np.median(score))))
        np.testing.assert_allclose(tau, expected, rtol=1e-6)
    assert (tau >= 4 * math.exp(-strength) - 1e-9).all()
    assert (tau <= 4 * math.exp(strength) + 1e-9).all()


@given(batch=batches())
def test_hard_samples_are_sharper(batch):
    student, teacher, _ = batch
    order = np.argsort(scores(student, teacher))
    tau = Difficulty()(student, teacher).teacher.flatten()[torch.from_numpy(order)]
    assert (tau.diff() <= 1e-6).all()


@given(batch=batches())
def test_hellinger_is_a_bounded_symmetric_distance(batch):
    student, teacher, _ = batch
    h = hellinger(student, teacher)
    np.testing.assert_allclose(h.flatten(), scores(student, teacher), rtol=1e-6, atol=1e-12)
    assert ((h >= 0) & (h <= 1 + 1e-12)).all()
    torch.testing.assert_close(h, hellinger(teacher, student))
    assert hellinger(student, student).max() == 0


def test_hellinger_of_almost_equal_logits_is_not_noise():
    logits = torch.tensor([[1.0, 0.0]])
    near = logits + torch.tensor([[1e-5, 0.0]])
    p = 1 / (1 + math.exp(-1))
    slope = math.sqrt(p * (1 - p) / 8)  # of the distance, by the difference of two logits
    assert hellinger(near, logits).item() == pytest.approx(1e-5 * slope, rel=0.02)


def test_scores_of_zero():
    same = torch.tensor([[1.0, 2.0, 0.0]] * 3)
    assert Difficulty()(same, same).teacher.tolist() == [[4.0]] * 3
    other = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 4.0]])
    tau = Difficulty(4, 0.5)(same, other).teacher.flatten()
    assert tau[0].item() == pytest.approx(4 * math.exp(0.5))  # tanh(log 0) = -1
    zero_median = Difficulty(4, 0.5)(same, torch.tensor([[1.0, 2.0, 0.0]] * 2 + [[0.0, 0.0, 4.0]])).teacher
    assert zero_median.flatten().tolist() == [4.0, 4.0, pytest.approx(4 * math.exp(-0.5))]


def test_scores_that_are_rounding_noise_count_as_0():
    teacher = torch.tensor([[0.3, 1.7, -0.2], [2.0, 0.1, 0.4], [0.6, 0.7, 0.8]])
    student = teacher + torch.tensor([[5.3], [-7.1], [0.9]])  # the same probabilities
    assert hellinger(student, teacher).max() > 0
    torch.testing.assert_close(
        Difficulty(4)(student, teacher).teacher, torch.full((3, 1), 4.0), rtol=0.02, atol=0
    )


def test_a_batch_of_one_has_the_base_temperature():
    assert Difficulty(3)(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 9.0]])).teacher.item() == 3.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 0}, "tau: expected a finite number above 0"),
        ({"strength": -0.1}, "strength: expected a finite number of at least 0, got -0.1"),
        ({"strength": math.nan}, "strength: expected a finite number of at least 0"),
    ],
)
def test_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Difficulty(**options)
