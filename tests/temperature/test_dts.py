"""Dynamic temperature scheduler: the peer's trajectories, through the rule itself."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import adakd
from adakd.temperature import DTS
from adakd.temperature.dts import boost, next_temperature


def two_logits(ce):
    """A row of two logits whose cross entropy with class 0 is `ce` > 0."""
    return torch.tensor([[-math.log(math.expm1(ce)), 0.0]], dtype=torch.float64)


def rule_of(params):
    return DTS(
        initial=params["init"],
        minimum=params["mn"],
        maximum=params["mx"],
        epochs=params["epochs"],
        curve=params["curve"],
        adjust=params["adjust"],
        momentum=params["momentum"],
    ).double()


@pytest.mark.parametrize("name", ["adaptive", "plain_cosine", "wide"])
def test_the_trajectory_is_the_peers(golden, name):
    """Epochs count from 1, the first update comes after the first iteration."""
    params = golden.scalars["dts"][name]["params"]
    rule, target = rule_of(params), torch.tensor([0])
    returned, held = [], []
    for iteration, gap in enumerate(golden.arrays["dts/loss_divergence"]):
        teacher, student = 5.0, 5.0 - gap  # any two cross entropies with that gap
        epoch = 1 + iteration // params["iterations_per_epoch"]
        tau = rule(two_logits(student), two_logits(teacher), target, epoch)
        returned.append(tau.teacher.item())
        held.append(rule.tau.item())
    np.testing.assert_allclose(held, golden.arrays[f"dts/{name}"], rtol=1e-9)
    assert returned == [params["init"], *held[:-1]]


@given(gap=st.floats(-20, 20))
def test_boost_is_the_formula(gap):
    a = gap / (gap + 1) if gap != -1 else -math.inf
    expected = 1.35 if a > 2 else a if a > 1 else 1.0
    assert boost(torch.tensor(gap, dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-12)


def test_boost_around_an_excess_of_one_nat():
    gaps = torch.tensor([-0.999999, -1.0, -1.000001, -1.999999, -2.0, -1e9], dtype=torch.float64)
    torch.testing.assert_close(boost(gaps), torch.tensor([1, 1, 1.35, 1.35, 2, 1]).double())


@given(tau=st.floats(2, 4), aim=st.floats(-100, 100), momentum=st.floats(0, 0.999))
def test_an_update_stays_between_the_bounds_and_goes_towards_the_aim(tau, aim, momentum):
    start = torch.tensor(tau, dtype=torch.float64)
    new = next_temperature(start, torch.tensor(aim, dtype=torch.float64), 2.0, 4.0, momentum).item()
    clipped = min(max(aim, 2.0), 4.0)
    assert min(tau, clipped) - 1e-12 <= new <= max(tau, clipped) + 1e-12


def test_the_cosine_alone_needs_no_labels_and_ends_where_it_should():
    rule = DTS(initial=6.0, minimum=1.0, maximum=6.0, epochs=4, adjust=False, momentum=0.0)
    logits = torch.zeros(1, 2)
    seen = [rule(logits, logits, epoch=epoch).student.item() for epoch in (1, 2, 3, 4, 5)]
    expected = [6.0, *(3 * (1 + math.cos(math.pi * e / 4)) for e in (1, 2)), 1.0, 1.0]
    assert seen == pytest.approx(expected, abs=1e-6)
    rule(logits, logits, epoch=None)  # the schedule is over
    assert rule.tau.item() == 1.0


def test_without_labels_it_says_so_in_training_and_works_in_evaluation():
    rule, logits = DTS(), torch.zeros(1, 2)
    with pytest.raises(
        ValueError,
        match=r"target: DTS learns from the labels while training and got None.*eval\(\) of the rule",
    ):
        rule(logits, logits)
    assert rule.eval()(logits, logits).teacher.item() == 4.0
    objective = adakd.create_method("kd+dts", ce_weight=0).eval()  # as that message says
    with pytest.raises(ValueError, match="target: got None, but a term reads the labels"):
        objective(logits, logits, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minimum": 5.0}, "expected minimum <= maximum, got 5.0 and 4.0"),
        ({"minimum": 0.0}, "minimum: expected a finite number above 0"),
        ({"momentum": 1.0}, r"momentum: expected a number in \[0, 1\), got 1.0"),
        ({"epochs": 0}, "epochs: expected a finite number above 0"),
    ],
)
def test_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        DTS(**options)
