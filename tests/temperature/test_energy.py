"""Energy: hotter where the teacher is sure, by the order of a batch."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches

from adakd.temperature import Energy


def test_by_hand():
    """The sure half is hotter, the unsure half colder; the middle of an odd batch is between."""
    teacher = torch.tensor([[9.0, 0.0], [1.0, 0.0], [3.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
    tau = Energy(4.0, 1.5)(torch.zeros(5, 2), teacher)
    assert tau.teacher.flatten().tolist() == [5.5, 2.5, 4.0, 2.5, 5.5]
    assert torch.equal(tau.student, tau.teacher)
    narrow = Energy(4.0, 1.5, share=0.2)(torch.zeros(5, 2), teacher).teacher
    assert narrow.flatten().tolist() == [5.5, 4.0, 4.0, 2.5, 4.0]


@given(batch=batches(), shift=st.floats(-20, 20))
def test_a_shift_of_the_teacher_and_the_student_at_all_mean_nothing(batch, shift):
    student, teacher, _ = batch
    tau = Energy()(student, teacher).teacher
    assert torch.equal(Energy()(student * 3 + 1, teacher).teacher, tau)
    assert torch.equal(Energy()(student, teacher + shift).teacher, tau)


@given(batch=batches(), spread=st.floats(0, 3.9), share=st.floats(0.05, 0.5))
def test_temperatures_fall_with_the_energy(batch, spread, share):
    student, teacher, _ = batch
    tau = Energy(4.0, spread, share)(student, teacher).teacher.squeeze(1)
    sure = teacher.logsumexp(1)
    order = sure.argsort()
    tied = (sure[order].diff() < 1e-9).tolist()
    for (a, b), tie in zip(itertools.pairwise(order), tied, strict=True):
        assert tie or tau[a] <= tau[b]
    assert (tau > 0).all()


@pytest.mark.parametrize("rows", [1, 4])
def test_where_all_are_alike_nobody_is_hotter(rows):
    teacher = torch.randn(1, 6, generator=torch.Generator().manual_seed(0)).expand(rows, 6)
    permuted = torch.stack([row.roll(i) for i, row in enumerate(teacher)])  # equal but for rounding
    assert (Energy()(permuted, permuted).teacher == 4.0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 0.0}, "tau: expected a finite number above 0"),
        ({"spread": 4.0}, r"spread: expected a number from 0 to below tau \(4\), got 4.0"),
        ({"spread": -1.0}, "spread: expected"),
        ({"share": 0.0}, "share: expected a number above 0 and at most 0.5, got 0.0"),
        ({"share": 0.6}, "share: expected"),
    ],
)
def test_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Energy(**options)
