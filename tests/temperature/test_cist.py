"""CIST: one height for every row, its weight, its floor."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches

from adakd import KL, LogitObjective, MaxLogit, Temperatures, series
from adakd.temperature import CIST
from adakd.weight import Confidence


@given(batch=batches(), ratio=st.floats(0.5, 20))
def test_every_row_is_as_high(batch, ratio):
    student, teacher = batch[0].abs() + 0.5, batch[1].abs() + 0.5
    tau = CIST(ratio)(student, teacher)
    for logits, temperature in ((student, tau.student), (teacher, tau.teacher)):
        top = (logits / temperature).amax(1)
        torch.testing.assert_close(top, torch.full_like(top, ratio))


@given(batch=batches(), scale=st.floats(0.5, 20))
def test_each_sides_scale_is_its_own(batch, scale):
    student, teacher = batch[0].abs() + 0.5, batch[1].abs() + 0.5
    tau, scaled = CIST()(student, teacher), CIST()(scale * student, teacher)
    torch.testing.assert_close(scaled.student, scale * tau.student)
    assert torch.equal(scaled.teacher, tau.teacher)
    p = torch.softmax(teacher / tau.teacher, 1)
    hot = CIST()(student, scale * teacher).teacher
    torch.testing.assert_close(
        torch.softmax(scale * teacher / hot, 1), p
    )  # the soft label does not see the scale


def test_with_one_peak_the_highest_probability_is_a_function_of_the_ratio():
    teacher = torch.zeros(3, 10, dtype=torch.float64)
    teacher[:, 0] = torch.tensor([1.0, 5.0, 40.0], dtype=torch.float64)
    p = torch.softmax(teacher / CIST(3.0)(teacher, teacher).teacher, 1)[:, 0]
    torch.testing.assert_close(p, torch.full_like(p, 1 / (1 + 9 * torch.tensor(-3.0).exp().item())))


def test_the_teachers_side_is_the_maximum_logit_rule():
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(5, 7, generator=generator, dtype=torch.float64) + 3 for _ in "st"]
    ours, theirs = CIST(1 / series.upper_factor())(*rows).teacher, MaxLogit(reference="teacher")(*rows).teacher
    torch.testing.assert_close(ours, theirs)


def test_the_floor_is_told_once():
    teacher = torch.randn(4, 6).log_softmax(1)
    criterion = LogitObjective(KL(), CIST())
    with pytest.warns(UserWarning, match="maximum logit of 4 of 4 rows is not above 0 .* its floor, 0.001"):
        terms = criterion(teacher + 5, teacher, torch.zeros(4, dtype=torch.int64))
    assert (terms.temperature.teacher == torch.tensor(1e-3)).all()
    criterion(teacher + 5, teacher, torch.zeros(4, dtype=torch.int64))  # an error if it were said again


def test_rows_of_equal_logits_are_nothing_to_warn_of():
    LogitObjective(KL(), CIST())(torch.zeros(2, 5), torch.zeros(2, 5), torch.tensor([0, 1]))


@given(batch=batches())
def test_the_weight_by_hand(batch):
    student, teacher, target = batch
    tau = torch.ones(1, 1, dtype=torch.float64)
    weight = Confidence()(student, teacher, target, Temperatures(tau, tau))
    p, q = torch.softmax(teacher, 1), torch.softmax(student, 1)
    highest = teacher.argmax(1, keepdim=True)
    expected = p.gather(1, highest) * (1 - q.gather(1, highest))
    torch.testing.assert_close(weight, expected.squeeze(1), rtol=1e-9, atol=1e-12)
    assert ((weight >= 0) & (weight <= 1)).all()


def test_a_sure_teacher_that_is_followed_has_nothing_left_to_teach():
    teacher = torch.tensor([[20.0, 0.0, 0.0], [20.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    student = torch.tensor([[20.0, 0.0, 0.0], [0.0, 20.0, 0.0], [0.0, 0.0, 0.0]])
    tau = torch.ones(1, 1)
    weight = Confidence()(student, teacher, None, Temperatures(tau, tau))
    assert weight.tolist() == pytest.approx([0.0, 1.0, 2 / 9], abs=1e-6)


@pytest.mark.parametrize("ratio", [0, -1.0, float("nan"), float("inf")])
def test_it_refuses(ratio):
    with pytest.raises(ValueError, match="ratio: expected a finite number above 0"):
        CIST(ratio)
