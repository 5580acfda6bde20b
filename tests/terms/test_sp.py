"""Similarity-preserving distillation: the released numbers, the Gram matrix row by row, and what it does not see."""

import numpy as np
import pytest
import torch
from examples import batch, golden, signals
from layers import array

from adakd import Signals
from adakd.terms.sp import SP


def pair(seed=0):
    return signals(seed=seed, last=(7, 4, 4)), signals(seed=seed + 50, last=(9, 2, 2))


def test_the_released_code():
    case, inputs = golden("sp")
    student = inputs["student"].requires_grad_()
    outputs = [Signals(torch.zeros(4, 5), {"last": x}) for x in (student, inputs["teacher"])]
    value = SP()(*outputs, batch(4)).mean()
    value.backward()
    assert value.item() == pytest.approx(case["loss"], rel=1e-9)
    torch.testing.assert_close(student.grad, inputs[case["grad"]], rtol=1e-9, atol=1e-11)


def rows(x):
    x = x.reshape(len(x), -1)
    gram = np.array([[a @ b for b in x] for a in x])
    return np.array([row / np.sqrt(row @ row) for row in gram])


def test_the_formula_over_two_layers():
    student, teacher = pair()
    expected = ((rows(array(student.features["last"])) - rows(array(teacher.features["last"]))) ** 2).mean(
        axis=1
    )
    np.testing.assert_allclose(array(SP()(student, teacher, batch())), expected, rtol=1e-10)
    twice = [
        x._replace(features={"a": x.features["last"], "b": x.features["last"]}) for x in (student, teacher)
    ]
    np.testing.assert_allclose(array(SP("a,b", "a,b")(*twice, batch())), 2 * expected, rtol=1e-10)


def test_it_sees_neither_scale_nor_orientation_but_the_origin():
    student, teacher = pair()
    flat = teacher.features["last"].flatten(1)
    turn, _ = torch.linalg.qr(
        torch.randn(36, 36, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    )
    expected = SP()(student, teacher, batch())
    turned = teacher._replace(features={"last": 3 * flat @ turn})
    torch.testing.assert_close(SP()(student, turned, batch()), expected)
    moved = teacher._replace(features={"last": flat + 1})
    assert not torch.allclose(SP()(student, moved, batch()), expected)
