"""Neuron selectivity transfer: the released numbers, the kernel channel by channel, and its two forms."""

import numpy as np
import pytest
import torch
from examples import batch, golden, signals
from layers import array, averaged

from adakd import Signals
from adakd.terms import nst
from adakd.terms.nst import NST

# Of stage 1 there are more fields than channels, of stage 3 more channels.
STUDENT = {"stage1": (3, 8, 8), "stage2": (4, 4, 4), "stage3": (18, 4, 4)}
TEACHER = {"stage1": (5, 8, 8), "stage2": (6, 8, 8), "stage3": (20, 2, 2)}


def pair(seed=0):
    return signals(seed=seed, **STUDENT), signals(seed=seed + 50, **TEACHER)


def test_the_released_code():
    case, inputs = golden("nst")
    student = inputs["student"].requires_grad_()
    outputs = [Signals(torch.zeros(4, 5), {"x": x}) for x in (student, inputs["teacher"])]
    value = NST("x", "x")(*outputs, batch(4)).mean()
    value.backward()
    assert value.item() == pytest.approx(case["loss"], rel=1e-9)
    torch.testing.assert_close(student.grad, inputs[case["grad"]], rtol=1e-9, atol=1e-11)


def mean_kernel(a, b):
    return np.mean([[(x @ y) ** 2 for y in b] for x in a])


def test_channel_by_channel():
    student, teacher = pair()
    expected = np.zeros(6)
    for name in STUDENT:
        fields = min(STUDENT[name][1], TEACHER[name][1])
        s, t = (averaged(array(x.features[name]), fields) for x in (student, teacher))
        s, t = (x.reshape(*x.shape[:2], -1) for x in (s, t))
        s, t = (x / np.sqrt((x**2).sum(axis=2, keepdims=True)) for x in (s, t))
        for i in range(6):
            expected[i] += mean_kernel(t[i], t[i]) + mean_kernel(s[i], s[i]) - 2 * mean_kernel(s[i], t[i])
    np.testing.assert_allclose(array(NST()(student, teacher, batch())), expected, rtol=1e-10)


def test_both_forms_are_one():
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(6, c, 9, generator=generator, dtype=torch.float64) for c in (4, 7))
    by_channels = nst._kernel(t, t) + nst._kernel(s, s) - 2 * nst._kernel(s, t)
    by_fields = (nst._by_fields(s) - nst._by_fields(t)).square().sum(dim=(1, 2))
    torch.testing.assert_close(by_channels, by_fields)


def test_it_sees_neither_scale_nor_order_of_channels():
    student, teacher = pair()
    expected = NST()(student, teacher, batch())
    changed = teacher._replace(features={name: -x.flip(1) * 3 for name, x in teacher.features.items()})
    torch.testing.assert_close(NST()(student, changed, batch()), expected)


def test_it_is_never_negative():
    student, _ = pair()
    value = NST()(student, student, batch())
    torch.testing.assert_close(value, torch.zeros(6, dtype=torch.float64), atol=1e-12, rtol=0)
    assert (NST()(*pair(), batch()) > 0).all()
