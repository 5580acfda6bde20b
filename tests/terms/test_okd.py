"""OKD: the sum by hand, who learns from which summand, and the teacher that it begins with."""

import numpy as np
import pytest
import torch
from examples import batch, built, leaves, signals
from layers import array

from adakd import KL, Fixed, LogitTerm
from adakd.terms.okd import OKD


def pair(seed=0):
    return signals(seed=seed), signals(seed=seed + 50, pooled=(9,))


def opened(term):
    """With a module that is no longer 0."""
    torch.manual_seed(5)
    torch.nn.init.normal_(term.up.weight)
    return term


def test_the_sum_by_hand():
    student, teacher = pair()
    term = opened(built(OKD(rank=3, tau=2.0, follow=0.5, hold=0.25), student, teacher))
    t = (
        array(teacher.logits)
        + array(teacher.features["pooled"]) @ array(term.down.weight).T @ array(term.up.weight).T
    )

    def softmax(x):
        x = np.exp(x - x.max(axis=1, keepdims=True))
        return x / x.sum(axis=1, keepdims=True)

    p, q = softmax(t / 2), softmax(array(student.logits) / 2)
    expected = 4 * (p * np.log(p / q)).sum(1) + 0.5 * 4 * (q * np.log(q / p)).sum(1)
    expected -= 0.25 * np.log(softmax(t)[np.arange(6), batch().target])
    np.testing.assert_allclose(array(term(student, teacher, batch())), expected, rtol=1e-10)


def test_it_begins_with_the_teacher_as_it_is():
    student, teacher = (leaves(x) for x in pair())
    term = built(OKD(tau=4.0), student, teacher)
    assert torch.equal(term.moved(teacher), teacher.logits)
    term(student, teacher, batch()).mean().backward()
    gradient = student.logits.grad.clone()
    student.logits.grad = None
    LogitTerm(KL(), Fixed(4.0))(student, teacher, batch()).mean().backward()
    torch.testing.assert_close(gradient, student.logits.grad)


def test_the_student_learns_from_the_first_summand_and_the_module_from_the_others():
    student, teacher = (leaves(x) for x in pair())
    alone = opened(built(OKD(follow=0.0, hold=0.0), student, teacher))
    alone(student, teacher, batch()).mean().backward()
    gradient = student.logits.grad.clone()
    assert gradient.abs().sum() > 0
    assert all(p.grad is None or not p.grad.any() for p in alone.parameters())
    student.logits.grad = None
    both = opened(built(OKD(), student, teacher))
    both(student, teacher, batch()).mean().backward()
    torch.testing.assert_close(student.logits.grad, gradient)
    assert all(p.grad.abs().sum() > 0 for p in both.parameters())
    assert teacher.logits.grad is None
    assert teacher.features["pooled"].grad is None


def test_the_module_goes_to_the_student_or_to_the_labels():
    """Only the module is trained: towards a student that stays, its distance falls; towards labels, the cross entropy."""
    student, teacher = pair()
    for options, falls in (({"hold": 0.0}, "kl"), ({"follow": 0.0}, "ce")):
        term = built(OKD(rank=5, tau=1.0, **options), student, teacher)
        optimizer = torch.optim.SGD(term.parameters(), lr=0.2)

        def measure():
            with torch.no_grad():
                moved = teacher._replace(logits=term.moved(teacher))  # noqa: B023
                return {
                    "kl": LogitTerm(KL(), Fixed(1.0))(moved, student, batch()).mean().item(),
                    "ce": torch.nn.functional.cross_entropy(moved.logits, batch().target).item(),
                }

        before = measure()
        for _ in range(60):
            optimizer.zero_grad()
            term(student, teacher, batch()).mean().backward()
            optimizer.step()
        assert measure()[falls] < 0.7 * before[falls]


def test_what_is_missing_is_said():
    student, teacher = pair()
    with pytest.raises(RuntimeError, match="OKD has no up yet"):
        OKD()(student, teacher, batch())
    with pytest.raises(ValueError, match="teacher features: expected 'pooled', got none"):
        OKD().build(student, teacher._replace(features={}), 20)


@pytest.mark.parametrize("options", [{"rank": 0}, {"tau": 0.0}, {"follow": -1.0}, {"hold": float("nan")}])
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match="expected"):
        OKD(**options)
