"""Refined logit distillation: the released masks, DKD where the teacher is right, finite where nothing is left."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches

from adakd import DKD, Fixed, LogitObjective, Temperatures
from adakd.divergence import RLD


def at(tau):
    tau = torch.full((1, 1), tau, dtype=torch.float64)
    return Temperatures(tau, tau)


def formula(s, t, y, tau, alpha, beta):
    """One row in NumPy: two binary distributions, and the classes below the label by the teacher."""
    p, q = reference.softmax(t / tau), reference.softmax(s / tau)
    log_p, log_q = reference.log_softmax(t / tau), reference.log_softmax(s / tau)
    highest = int(np.argmax(t))

    def binary(log, k):
        rest = np.delete(log, k)
        return np.array([log[k], np.logaddexp.reduce(rest)])

    sure = reference.kl(binary(log_p, highest), binary(log_q, y))
    below = t < t[y]
    ranked = 0.0
    if below.any():
        ranked = reference.kl(reference.log_softmax(t[below] / tau), reference.log_softmax(s[below] / tau))
    assert p.sum() == pytest.approx(q.sum())
    return tau**2 * (alpha * sure + beta * ranked)


@given(batch=batches(), tau=st.sampled_from([0.5, 1.0, 4.0]))
def test_numpy(batch, tau):
    student, teacher, target = batch
    ours = RLD(0.7, 3.0)(student, teacher, target, at(tau))
    rows = zip(student.numpy(), teacher.numpy(), target.numpy(), strict=True)
    expected = [formula(s, t, y, tau, 0.7, 3.0) for s, t, y in rows]
    torch.testing.assert_close(ours, torch.tensor(np.array(expected)), rtol=1e-7, atol=1e-9)


def released(student, teacher, target, tau, alpha, beta):
    """What the released masks compute: the label's and the highest class against the rest, and -1e9 on the others."""
    rows = torch.arange(len(target))
    p, q = torch.softmax(teacher / tau, 1), torch.softmax(student / tau, 1)
    p_top, q_label = p.amax(1), q[rows, target]
    sure = p_top * (p_top / q_label).log() + (1 - p_top) * ((1 - p_top) / (1 - q_label)).log()
    mask = teacher >= teacher[rows, target].unsqueeze(1)
    log_p, log_q = (torch.log_softmax((x / tau).masked_fill(mask, -1e9), 1) for x in (teacher, student))
    return tau**2 * (alpha * sure + beta * (log_p.exp() * (log_p - log_q)).sum(1))


def test_the_released_masks():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(64, 10, generator=generator, dtype=torch.float64) for _ in "st")
    target = torch.randint(10, (64,), generator=generator)
    ours = RLD(1.0, 8.0)(student, teacher, target, at(4.0))
    torch.testing.assert_close(ours, released(student, teacher, target, 4.0, 1.0, 8.0))


@given(batch=batches(min_classes=3))
def test_it_is_dkd_where_the_teacher_is_right(batch):
    student, teacher, _ = batch
    target = teacher.argmax(1)
    teacher = teacher.scatter_add(1, target.unsqueeze(1), torch.ones(len(target), 1, dtype=teacher.dtype))
    rows = student, teacher, target, at(2.0)
    torch.testing.assert_close(RLD(1.0, 8.0)(*rows), DKD(1.0, 8.0)(*rows), rtol=1e-8, atol=1e-9)


def test_classes_above_the_label_are_not_taught():
    teacher = torch.tensor([[5.0, 3.0, 1.0, 0.0, -1.0]], dtype=torch.float64)  # wrong: the label is class 1
    student = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([1])
    RLD(0.0, 1.0)(student, teacher, target, at(2.0)).sum().backward()
    assert (student.grad[0, :2] == 0).all()
    assert (student.grad[0, 2:] != 0).all()
    moved = teacher.clone()
    moved[0, 0] = 9.0
    same = [RLD(0.0, 1.0)(student, t, target, at(2.0)).item() for t in (teacher, moved)]
    assert same[0] == same[1]


@given(batch=batches())
def test_invariances(batch):
    student, teacher, target = batch
    value = RLD()(student, teacher, target, at(2.0))
    classes = student.shape[1]
    # argmax takes the first of equal highest; their probability is one, so the class it falls on means nothing.
    flipped = RLD()(student.flip(1), teacher.flip(1), classes - 1 - target, at(2.0))
    torch.testing.assert_close(flipped, value, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(
        RLD()(student + 3.5, teacher - 2.5, target, at(2.0)), value, rtol=1e-8, atol=1e-9
    )
    assert (value >= -1e-9).all()


@pytest.mark.parametrize("target", [[0, 1, 2], [4, 4, 4]])
def test_gradient_is_the_numerical_one_also_by_the_temperature(target):
    generator = torch.Generator().manual_seed(3)
    student, teacher = (2 * torch.randn(3, 5, generator=generator, dtype=torch.float64) for _ in "st")
    target, tau = torch.tensor(target), torch.full((1, 1), 2.0, dtype=torch.float64)
    teacher[0, target[0]] = teacher.min() - 1  # nothing is below its label

    def value(s, tau):
        return RLD()(s, teacher, target, Temperatures(tau, tau))

    assert torch.autograd.gradcheck(value, (student.requires_grad_(), tau.requires_grad_()))


@pytest.mark.parametrize("classes", [2, 3, 100])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_finite_at_the_extremes(classes, dtype, scale):
    generator = torch.Generator().manual_seed(0)
    student, teacher = ((scale * torch.randn(6, classes, generator=generator)).to(dtype) for _ in "st")
    student[0], teacher[1] = 0.0, 0.0
    student.requires_grad_()
    target = torch.arange(6) % classes
    terms = LogitObjective(RLD(), Fixed(1.0), ce_weight=0)(student, teacher, target)
    terms.total.backward()
    assert terms.total.isfinite()
    assert student.grad.isfinite().all()
