"""Sample weights: entropies against scipy, the ratio of temperatures, and that a row's loss is multiplied by it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from strategies import batches

from adakd import DTKD, KL, Fixed, LogitObjective, Temperatures
from adakd.weight import WEIGHTS, Entropy, TeacherScale

every_weight = pytest.mark.parametrize("name", WEIGHTS)


def at(tau, dtype=torch.float64):
    tau = torch.full((1, 1), tau, dtype=dtype)
    return Temperatures(tau, tau)


def pair(batch=5, classes=7, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(batch, classes, generator=generator, dtype=dtype) for _ in "st"]


@given(batch=batches(), softness=st.sampled_from([0.5, 1.0, 3.0]))
def test_entropies_are_scipys(batch, softness):
    student, teacher, target = batch
    h_s, h_t = (entropy(torch.softmax(x / softness, 1).numpy(), axis=1) for x in (student, teacher))
    expected = 0.5 * h_t * (1 + h_s / math.log(student.shape[1]))
    ours = Entropy(softness)(student, teacher, target, at(4.0))
    np.testing.assert_allclose(ours, expected, rtol=1e-7, atol=1e-9)
    assert ((ours >= 0) & (ours <= math.log(student.shape[1]) + 1e-9)).all()


def test_what_is_certain_counts_for_nothing_and_what_is_not_for_log_k():
    rows = torch.tensor([[900.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    weight = Entropy()(rows, rows, None, at(1.0))
    assert weight.tolist() == pytest.approx([0.0, math.log(4)])
    assert Entropy()(rows.flip(0), rows, None, at(1.0)).tolist() == pytest.approx([0.0, math.log(4) / 2])


def test_the_ratio_turns_both_temperatures_into_the_teachers_squared():
    student, teacher = pair()
    student.requires_grad_()
    tau = DTKD()(student, teacher)
    assert tau.student.requires_grad
    weighted = KL()(student, teacher, None, tau) * TeacherScale()(student, teacher, None, tau)
    p, log_q = torch.softmax(teacher / tau.teacher, 1), torch.log_softmax(student / tau.student, 1)
    expected = tau.teacher.squeeze(1) ** 2 * (p * (p.log() - log_q)).sum(1)
    torch.testing.assert_close(weighted, expected)
    one, other = (torch.autograd.grad(x.sum(), student, retain_graph=True)[0] for x in (weighted, expected))
    torch.testing.assert_close(one, other)
    assert torch.equal(TeacherScale()(student, teacher, None, at(3.0)), torch.ones(1, dtype=torch.float64))


@every_weight
def test_a_weight_multiplies_the_value_of_its_row(name):
    student, teacher = pair()
    weight, rule = WEIGHTS[name](), Fixed(3.0)
    term = LogitObjective(KL(), rule, weight=weight).term
    target = torch.arange(5)
    tau = rule(student, teacher)
    bare = KL()(student, teacher, target, tau)
    value, _ = term.evaluate(student, teacher, _batch(target))
    torch.testing.assert_close(value, bare * weight(student, teacher, target, tau))
    leaf = student.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(term.evaluate(leaf, teacher, _batch(target))[0].sum(), leaf)
    bare = torch.autograd.grad(KL()(leaf, teacher, target, tau).sum(), leaf)[0]
    torch.testing.assert_close(gradient, bare * weight(student, teacher, target, tau).expand(5).unsqueeze(1))


def _batch(target):
    from adakd import Batch

    return Batch(target, None, 1)


@every_weight
@given(batch=batches())
def test_no_weight_is_negative_or_reads_the_order_of_classes_and_samples(name, batch):
    student, teacher, target = batch
    weight = WEIGHTS[name]()
    plain = weight(student, teacher, target, at(2.0)).expand(len(student))
    assert (plain >= 0).all()
    mirrored = weight(student.flip(1), teacher.flip(1), student.shape[1] - 1 - target, at(2.0))
    if (teacher == teacher.amax(1, keepdim=True)).sum(1).max() == 1:  # or the first of several highest is taken
        torch.testing.assert_close(mirrored.expand(len(student)), plain, rtol=1e-9, atol=1e-12)
    backwards = weight(student.flip(0), teacher.flip(0), target.flip(0), at(2.0)).expand(len(student))
    torch.testing.assert_close(backwards.flip(0), plain)
    shifted = weight(student + 3.5, teacher - 2.5, target, at(2.0)).expand(len(student))
    torch.testing.assert_close(shifted, plain, rtol=1e-8, atol=1e-9)


@every_weight
@pytest.mark.parametrize("scale", [1e-6, 1e4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_finite_at_the_extremes(name, scale, dtype):
    student, teacher = (x.to(dtype) for x in pair(scale=scale, dtype=torch.float32))
    student[0], teacher[1] = 0.0, 0.0
    student.requires_grad_()
    terms = LogitObjective(KL(), Fixed(1.0), weight=WEIGHTS[name]())(student, teacher, torch.arange(5))
    terms.total.backward()
    assert terms.total.isfinite()
    assert student.grad.isfinite().all()


@every_weight
def test_one_graph(name):
    torch.compiler.reset()
    student, teacher = pair(dtype=torch.float32)
    eager = LogitObjective(KL(), Fixed(2.0), weight=WEIGHTS[name]())
    compiled = torch.compile(eager, fullgraph=True, backend="eager")
    target = torch.arange(5)
    torch.testing.assert_close(compiled(student, teacher, target).total, eager(student, teacher, target).total)


@pytest.mark.parametrize("softness", [0.0, -1.0, math.nan])
def test_entropy_refuses(softness):
    with pytest.raises(ValueError, match="softness: expected a finite number above 0"):
        Entropy(softness)
