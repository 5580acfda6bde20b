"""Warm-up before distillation: who is corrected, how, until when, and what follows."""

import math

import pytest
import torch
from examples import batch, leaves, signals

from adakd import KL, Fixed, LogitTerm, Signals
from adakd.terms.warmup_distill import WarmupDistill


def pair(seed=0):
    return signals(rows=40, seed=seed), signals(rows=40, seed=seed + 50)


def given(epoch):
    return batch(rows=40, epoch=epoch)


def test_afterwards_it_is_kd():
    student, teacher = pair()
    kd = LogitTerm(KL(), Fixed(4.0))
    for epochs, epoch in ((10, 11), (10, None), (0, 1)):
        value = WarmupDistill(align_epochs=epochs)(student, teacher, given(epoch))
        torch.testing.assert_close(value, kd(student, teacher, given(epoch)))
    assert not torch.allclose(WarmupDistill(align_epochs=10)(student, teacher, given(10)), value)


def test_row_by_row():
    student, teacher = pair()
    value = WarmupDistill(threshold=0.3, beta=2.0)(student, teacher, given(1))
    corrected = 0
    for s, t, found in zip(student.logits.tolist(), teacher.logits.tolist(), value.tolist(), strict=True):
        a, b = max(range(5), key=s.__getitem__), max(range(5), key=t.__getitem__)
        p = math.exp(t[a]) / sum(map(math.exp, t))
        expected = 0.0
        if p < 0.3 and a != b:
            corrected += 1
            expected = math.log1p(math.exp(-2 * (s[b] - s[a])))
        assert found == pytest.approx(expected)
    assert 0 < corrected < 40


def test_a_correction_lifts_the_teachers_answer_and_lowers_the_students():
    student, teacher = (leaves(x) for x in pair())
    WarmupDistill()(student, teacher, given(1)).sum().backward()
    own, corrected = student.logits.argmax(dim=1), teacher.logits.argmax(dim=1)
    changed = student.logits.grad.abs().sum(dim=1) > 0
    assert changed.any()
    assert not changed[own == corrected].any()
    rows = changed.nonzero().flatten()
    gradient = student.logits.grad[rows]
    assert (gradient[torch.arange(len(rows)), own[rows]] > 0).all()
    assert (gradient[torch.arange(len(rows)), corrected[rows]] < 0).all()
    assert ((gradient != 0).sum(dim=1) == 2).all()
    assert teacher.logits.grad is None


def test_a_student_that_agrees_has_nothing_to_correct():
    student, _ = pair()
    value = WarmupDistill(threshold=1.0)(student, Signals(3 * student.logits), given(1))
    assert not value.any()


def test_corrected_long_enough_the_teacher_rejects_nothing():
    student, teacher = (leaves(x) for x in pair())
    term, optimizer = WarmupDistill(), torch.optim.SGD([student.logits], lr=1.0)
    before = (term(student, teacher, given(1)) > 0).sum()
    for _ in range(100):
        optimizer.zero_grad()
        term(student, teacher, given(1)).sum().backward()
        optimizer.step()
    assert before > 0
    assert not term(student, teacher, given(1)).any()


@pytest.mark.parametrize("options", [{"align_epochs": -1}, {"threshold": 1.5}, {"beta": 0.0}, {"tau": 0.0}])
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match="expected"):
        WarmupDistill(**options)
