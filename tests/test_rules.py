"""Temperature rules: fixed, and the maximum logit in its three definitions and a fourth."""

import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches

from adakd import Fixed, MaxLogit, TemperatureRule, series, standardize

DEFINITIONS = {
    "paper": MaxLogit(),
    "code": MaxLogit(magnitude="absolute"),
    "abstract": MaxLogit(reference="teacher"),
    "two-sided": MaxLogit(magnitude="two-sided"),
}


def standardized(batch):
    return standardize(batch[0]), standardize(batch[1])


def inside(logits, tau, order=2):
    """Whether every logit of each row is in the interval of convergence at temperature tau."""
    scaled = logits / tau
    return ((scaled <= series.upper_end(order) + 1e-9) & (scaled >= series.lower_end(order) - 1e-9)).all(dim=1)


@pytest.mark.parametrize("definition", DEFINITIONS)
@given(batch=batches(spread=True))
def test_max_logit_is_the_reference(definition, batch):
    student, teacher = standardized(batch)
    expected = [
        [reference.mlt(s, t, definition)] for s, t in zip(student.numpy(), teacher.numpy(), strict=True)
    ]
    temperatures = DEFINITIONS[definition](student, teacher)
    torch.testing.assert_close(temperatures.teacher, torch.tensor(np.array(expected)), rtol=1e-12, atol=0)
    assert torch.equal(temperatures.student, temperatures.teacher)


@given(batch=batches(spread=True))
def test_max_logit_is_within_samuelsons_range(batch):
    student, teacher = standardized(batch)
    low, high = (series.upper_factor() * bound for bound in series.samuelson_bounds(student.shape[1]))
    for definition in ("paper", "abstract", "code"):
        tau = DEFINITIONS[definition](student, teacher).teacher
        assert ((tau >= low - 1e-9) & (tau <= high + 1e-9)).all(), definition


@given(batch=batches(spread=True))
def test_definitions_are_ordered(batch):
    student, teacher = standardized(batch)
    tau = {name: rule(student, teacher).teacher for name, rule in DEFINITIONS.items()}
    assert (tau["abstract"] <= tau["paper"]).all()
    assert (tau["paper"] <= tau["two-sided"]).all()
    assert (tau["two-sided"] <= tau["code"]).all()


@given(batch=batches(spread=True))
def test_absolute_and_two_sided_keep_every_logit_inside(batch):
    """The condition of the derivation, for teacher and student alike; the released code satisfies it too."""
    student, teacher = standardized(batch)
    for definition in ("code", "two-sided"):
        tau = DEFINITIONS[definition](student, teacher).teacher
        assert inside(student, tau).all(), definition
        assert inside(teacher, tau).all(), definition


def test_algorithm_1_breaks_its_own_condition_where_one_class_is_ruled_out():
    teacher = standardize(torch.tensor([[-9.0] + [0.0] * 9], dtype=torch.float64))
    assert not inside(teacher, MaxLogit()(teacher, teacher).teacher).any()
    assert inside(teacher, MaxLogit(magnitude="two-sided")(teacher, teacher).teacher).all()


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 8, math.inf])
@given(batch=batches(spread=True))
def test_two_sided_keeps_every_logit_inside_at_every_order(order, batch):
    student, teacher = standardized(batch)
    tau = MaxLogit(magnitude="two-sided", order=order)(student, teacher).teacher
    assert inside(student, tau, order).all()
    assert inside(teacher, tau, order).all()


@given(batch=batches(spread=True))
def test_max_logit_ignores_the_order_of_classes_and_samples(batch):
    student, teacher = standardized(batch)
    for rule in DEFINITIONS.values():
        tau = rule(student, teacher).teacher
        assert torch.equal(rule(student.roll(1, dims=1), teacher.roll(1, dims=1)).teacher, tau)
        assert torch.equal(rule(student.flip(0), teacher.flip(0)).teacher, tau.flip(0))


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_max_logit_carries_no_gradient(definition):
    student = torch.randn(2, 5, requires_grad=True)
    assert not DEFINITIONS[definition](student, torch.randn(2, 5)).student.requires_grad


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("rows", [torch.zeros(3, 10), -torch.ones(3, 10)])
def test_temperatures_are_positive_where_nothing_has_a_peak(definition, rows):
    tau = DEFINITIONS[definition](rows, rows)
    assert (tau.student > 0).all()
    assert tau.student.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_probabilities_are_warned_of_in_every_format(dtype):
    """The floor as a float32 is above the floor as Python has it."""
    rows = torch.randn(4, 6, dtype=dtype).log_softmax(1)
    rule = MaxLogit(reference="teacher")
    assert "of 4 of 4 rows is not above 0" in rule.complaint(rows, rows, rule(rows, rows))
    assert rule.complaint(rows + 9, rows + 9, rule(rows + 9, rows + 9)) is None


def test_a_peak_of_four_classes_by_hand():
    teacher = torch.tensor([[3.0, -1.0, -1.0, -1.0], [1.0, 1.0, 1.0, -3.0]]) / math.sqrt(3)
    student = teacher.flip(0)
    c = (1 + math.sqrt(3)) / 2
    both = MaxLogit()(student, teacher).teacher
    assert both.flatten().tolist() == pytest.approx([c * math.sqrt(3)] * 2)
    only_teacher = MaxLogit(reference="teacher")(student, teacher).teacher
    assert only_teacher.flatten().tolist() == pytest.approx([c * math.sqrt(3), c / math.sqrt(3)])


@given(batch=batches(), tau=st.floats(0.01, 100))
def test_fixed_is_one_temperature_in_the_logits_dtype(batch, tau):
    student, teacher, target = batch
    temperatures = Fixed(tau)(student, teacher, target, epoch=3)
    assert temperatures.student.tolist() == temperatures.teacher.tolist() == [[tau]]
    assert temperatures.teacher.dtype == teacher.dtype


@pytest.mark.parametrize("tau", [0, -1.0, math.nan, math.inf])
def test_fixed_refuses_what_is_not_above_0(tau):
    with pytest.raises(ValueError, match="tau: expected a finite number above 0"):
        Fixed(tau)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "student"}, "reference: expected 'both' or 'teacher', got 'student'"),
        ({"magnitude": "max"}, "magnitude: expected 'signed', 'absolute' or 'two-sided', got 'max'"),
        ({"order": 0}, "order: expected an integer of at least 1"),
    ],
)
def test_max_logit_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        MaxLogit(**options)


def test_the_base_class_chooses_nothing():
    with pytest.raises(NotImplementedError, match="TemperatureRule does not say"):
        TemperatureRule()(torch.zeros(1, 2), torch.zeros(1, 2))


def test_rules_say_what_they_are():
    assert repr(Fixed(2.5)) == "Fixed(tau=2.5)"
    assert repr(MaxLogit("teacher")) == "MaxLogit(reference='teacher', magnitude='signed', order=2)"
