"""Attention transfer: the released numbers, the formula in NumPy, and what it does not see."""

import numpy as np
import pytest
import torch
from examples import batch, golden, signals
from layers import array, averaged

from adakd import Signals
from adakd.terms.attention import Attention

SIZES = {"stage1": (16, 8), "stage2": (8, 8), "stage3": (4, 8), "stage4": (2, 2)}


def pair(stages=3, seed=0):
    names = list(SIZES)[:stages]
    student = {name: (3 + i, SIZES[name][0], SIZES[name][0]) for i, name in enumerate(names)}
    teacher = {name: (5 + i, SIZES[name][1], SIZES[name][1]) for i, name in enumerate(names)}
    return signals(seed=seed, **student), signals(seed=seed + 50, **teacher)


@pytest.mark.parametrize("name", ["at_p2", "at_p2_pool", "at_p1", "at_repdistiller"])
def test_the_released_code(name):
    case, inputs = golden(name)
    student = inputs["student"].requires_grad_()
    outputs = [Signals(torch.zeros(4, 5), {"x": x}) for x in (student, inputs["teacher"])]
    value = Attention("x", "x", p=case["params"]["p"])(*outputs, batch(4)).mean()
    value.backward()
    assert value.item() == pytest.approx(case["loss"], rel=1e-9)
    torch.testing.assert_close(student.grad, inputs[case["grad"]], rtol=1e-9, atol=1e-11)


def vectors(maps, fields, p):
    found = (np.abs(averaged(maps, fields)) ** p).mean(axis=1).reshape(len(maps), -1)
    return found / np.sqrt((found**2).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("p", [1, 2, 2.5])
@pytest.mark.parametrize("stages", [3, 4])
def test_the_formula(p, stages):
    student, teacher = pair(stages)
    square, norm = np.zeros(6), np.zeros(6)
    for name in list(SIZES)[:stages]:
        fields = min(SIZES[name])
        a, b = (vectors(array(x.features[name]), fields, p) for x in (student, teacher))
        square += ((a - b) ** 2).sum(axis=1) / fields**2
        norm += np.sqrt(((a - b) ** 2).sum(axis=1))
    np.testing.assert_allclose(array(Attention(p=p)(student, teacher, batch())), square, rtol=1e-10)
    term = Attention(p=p, distance="norm")
    np.testing.assert_allclose(array(term(student, teacher, batch())), norm, rtol=1e-10)


def test_the_fourth_stage_counts_where_both_have_one():
    student, teacher = pair(4)
    three = {name: teacher.features[name] for name in ("stage1", "stage2", "stage3")}
    less = Attention()(student, teacher._replace(features=three), batch())
    assert (less < Attention()(student, teacher, batch())).all()
    named = Attention("stage1, stage2, stage3")
    assert tuple(named.taps) == (("stage1", "stage2", "stage3"),) * 2
    assert torch.equal(named(student, teacher, batch()), less)


def test_it_sees_neither_scale_nor_order_nor_number_of_channels():
    student, teacher = pair()
    expected = Attention()(student, teacher, batch())
    louder = student._replace(features={name: -7 * x.flip(1) for name, x in student.features.items()})
    twice = teacher._replace(features={name: torch.cat([x, x], 1) for name, x in teacher.features.items()})
    torch.testing.assert_close(Attention()(louder, twice, batch()), expected)


def test_what_does_not_fit_is_said():
    student, teacher = pair()
    with pytest.raises(ValueError, match=r"student features: expected maps \(N, C, H, W\), got \(6, 4\)"):
        Attention("x", "x")(signals(x=(4,)), signals(x=(4,)), batch())
    with pytest.raises(ValueError, match="student features: expected 'stage1', got none"):
        Attention()(student._replace(features={}), teacher, batch())
    with pytest.raises(ValueError, match="p: expected a number above 0, got 0"):
        Attention(p=0)
    with pytest.raises(ValueError, match="distance: expected 'mean-square' or 'norm', got 'l1'"):
        Attention(distance="l1")
