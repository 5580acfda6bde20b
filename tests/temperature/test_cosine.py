"""Cosine-similarity-weighted temperature: the formula, the range, the batch of one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches

from adakd.temperature import Cosine


def similarity(student, teacher):
    q, p = student.softmax(dim=1), teacher.softmax(dim=1)
    return (p * q).sum(dim=1, keepdim=True) / (p.norm(dim=1, keepdim=True) * q.norm(dim=1, keepdim=True))


@given(batch=batches())
def test_the_formula(batch):
    student, teacher, _ = batch
    c = similarity(student, teacher)
    unit = Cosine(2, 6, span="unit")(student, teacher).teacher
    torch.testing.assert_close(unit, 6 - 4 * c)
    if c.amax() - c.amin() > 1e-6:
        expected = 2 + 4 * (c.amax() - c) / (c.amax() - c.amin())
        torch.testing.assert_close(Cosine(2, 6)(student, teacher).teacher, expected)


@pytest.mark.parametrize("span", ["batch", "unit"])
@given(batch=batches(), low=st.floats(0.1, 5), width=st.floats(0, 10))
def test_bounds_and_order(span, batch, low, width):
    student, teacher, _ = batch
    tau = Cosine(low, low + width, span=span)(student, teacher).teacher
    assert tau.shape == (len(student), 1)
    assert ((tau >= low) & (tau <= low + width)).all()
    c = similarity(student, teacher)
    more_alike = c > c.T + 1e-9  # (B, B)
    assert (tau <= tau.T)[more_alike].all()


def test_a_batch_uses_the_whole_range_and_company_matters():
    student = torch.tensor([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [4.0, 3.0, 0.0]])
    teacher = torch.tensor([[5.0, 0.0, 0.0]] * 3)
    tau = Cosine(2, 6)(student, teacher).teacher.flatten()
    assert tau.tolist() == [2.0, 6.0, pytest.approx(2.5, abs=0.5)]
    assert Cosine(2, 6)(student[1:], teacher[1:]).teacher.flatten().tolist() == [6.0, 2.0]
    unit = Cosine(2, 6, span="unit")
    torch.testing.assert_close(unit(student, teacher).teacher[1:], unit(student[1:], teacher[1:]).teacher)


@given(batch=batches())
def test_equal_similarities_get_the_middle(batch):
    student, teacher = batch[0][:1].repeat(3, 1), batch[1][:1].repeat(3, 1)
    assert Cosine(2, 6)(student, teacher).teacher.tolist() == [[4.0]] * 3
    assert Cosine(2, 6)(student[:1], teacher[:1]).teacher.tolist() == [[4.0]]


def test_rounding_is_not_spread_over_the_range():
    """A student that agrees with the teacher but for the last digit, as an equal one does."""
    teacher = torch.tensor([[0.0, -1.78, -1.78], [-1.78, -1.78, -1.78], [3.0, 1.0, 0.1]])
    assert (similarity(teacher, teacher) != 1).any()
    assert Cosine(2, 6)(teacher, teacher).teacher.tolist() == [[4.0]] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"span": "epoch"}, "span: expected 'batch' or 'unit', got 'epoch'"),
        ({"minimum": 7.0}, "expected minimum <= maximum"),
        ({"minimum": -1.0}, "minimum: expected a finite number above 0"),
    ],
)
def test_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Cosine(**options)
