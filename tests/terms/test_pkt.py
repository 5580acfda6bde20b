"""Probabilistic knowledge transfer: the released numbers, the probabilities one by one, and what they do not see."""

import numpy as np
import pytest
import torch
from examples import batch, golden, leaves, signals
from layers import array

from adakd import Signals
from adakd.terms.pkt import PKT, affinities


def pair(seed=0):
    return signals(seed=seed, pooled=(7,)), signals(seed=seed + 50, pooled=(9,))


def test_the_released_code():
    case, inputs = golden("pkt")
    student = inputs["student"].requires_grad_()
    outputs = [Signals(torch.zeros(6, 5), {"pooled": x}) for x in (student, inputs["teacher"])]
    value = PKT()(*outputs, batch()).mean()
    value.backward()
    assert value.item() == pytest.approx(case["loss"], rel=1e-9)
    torch.testing.assert_close(student.grad, inputs[case["grad"]], rtol=1e-9, atol=1e-11)


def probabilities(x):
    cosine = np.array(
        [[a @ b / ((np.linalg.norm(a) + 1e-7) * (np.linalg.norm(b) + 1e-7)) for b in x] for a in x]
    )
    likeness = (cosine + 1) / 2
    return likeness / likeness.sum(axis=1, keepdims=True)


def test_the_formula():
    student, teacher = pair()
    q, p = (probabilities(array(x.features["pooled"])) for x in (student, teacher))
    expected = np.mean(p * np.log((p + 1e-7) / (q + 1e-7)), axis=1)
    np.testing.assert_allclose(array(PKT()(student, teacher, batch())), expected, rtol=1e-9)


def test_probabilities_see_the_direction_of_each_feature_alone():
    student, teacher = pair()
    found = teacher.features["pooled"]
    assert torch.allclose(affinities(found).sum(dim=1), torch.ones(6, dtype=torch.float64))
    scale = torch.arange(1, 7, dtype=torch.float64)[:, None]
    louder = teacher._replace(features={"pooled": scale * found})
    torch.testing.assert_close(
        PKT()(student, louder, batch()), PKT()(student, teacher, batch()), rtol=1e-5, atol=0
    )


def test_a_dead_feature_is_no_nan():
    student, teacher = pair()
    found = student.features["pooled"].clone()
    found[2] = 0
    student = leaves(student._replace(features={"pooled": found}))
    value = PKT()(student, teacher, batch())
    value.mean().backward()
    assert value.isfinite().all()
    gradient = student.features["pooled"].grad
    assert gradient.isfinite().all()
    assert gradient[2].abs().sum() == 0 < gradient[1].abs().sum()
