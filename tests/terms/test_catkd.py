"""CAT-KD: the released numbers, the maps in NumPy, what they are to the logits, and the loss that is 0 as released."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from examples import batch, golden, leaves, signals
from layers import array, averaged

from adakd import Objective
from adakd.terms.catkd import CATKD, activation_maps, map_distance


def pair(seed=0):
    student = signals(seed=seed, last=(7, 4, 4))
    teacher = signals(seed=seed + 50, last=(9, 8, 8))
    for outputs, channels in ((student, 7), (teacher, 9)):
        outputs.features["classifier:weight"] = torch.randn(
            5, channels, generator=torch.Generator().manual_seed(seed + channels), dtype=torch.float64
        )
    return student, teacher


@pytest.mark.parametrize("resolution", [2, 4])
@pytest.mark.parametrize("normalize", [0, 1])
def test_the_released_code(resolution, normalize):
    case, inputs = golden(f"cat_res{resolution}_norm{normalize}")
    student = inputs["student"].requires_grad_()
    pooled = [F.adaptive_avg_pool2d(x, resolution) for x in (student, inputs["teacher"])]
    value = map_distance(*pooled, bool(normalize))
    value.mean().backward()
    assert value.mean().item() == pytest.approx(case["loss"], rel=1e-9)
    torch.testing.assert_close(student.grad, inputs[case["grad"]], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("resolution", [1, 2, 4])
@pytest.mark.parametrize("normalize", [False, True])
def test_maps_field_by_field(resolution, normalize):
    student, teacher = pair()
    maps = []
    for outputs in (student, teacher):
        found, weight = array(outputs.features["last"]), array(outputs.features["classifier:weight"])
        attention = np.zeros((len(found), 5, *found.shape[2:]))
        for i, j in np.ndindex(*found.shape[2:]):  # classified first, averaged then
            attention[:, :, i, j] = found[:, :, i, j] @ weight.T
        attention = averaged(attention, resolution)
        if normalize:
            attention /= np.sqrt((attention**2).sum(axis=(2, 3), keepdims=True))
        maps.append(attention)
    expected = ((maps[0] - maps[1]) ** 2).mean(axis=(1, 2, 3))
    value = CATKD(resolution, normalize)(student, teacher, batch())
    np.testing.assert_allclose(array(value), expected, rtol=1e-10)


def test_the_mean_of_a_map_is_the_logit_without_its_bias():
    student, _ = pair()
    found, weight = student.features["last"], student.features["classifier:weight"]
    maps = activation_maps(found, weight, 4)
    torch.testing.assert_close(maps.mean(dim=(2, 3)), found.mean(dim=(2, 3)) @ weight.T)
    torch.testing.assert_close(activation_maps(found, weight, 1)[:, :, 0, 0], maps.mean(dim=(2, 3)))


def test_gradient_reaches_map_and_classifier_of_the_student_alone():
    student, teacher = (leaves(x) for x in pair())
    CATKD()(student, teacher, batch()).mean().backward()
    assert all(x.grad.abs().sum() > 0 for x in student.features.values())
    assert all(x.grad is None for x in teacher.features.values())


def test_normalized_maps_do_not_know_scale():
    student, teacher = pair()
    louder = teacher._replace(features={**teacher.features, "last": 7 * teacher.features["last"]})
    term = CATKD(normalize=True)
    torch.testing.assert_close(term(student, louder, batch()), term(student, teacher, batch()))
    assert not torch.allclose(CATKD()(student, louder, batch()), CATKD()(student, teacher, batch()))


@pytest.mark.parametrize("normalize", [False, True])
def test_as_released_by_2503_09030_it_is_cross_entropy(normalize):
    """The student is compared with itself: value 0, gradient 0, whatever the teacher."""
    student, teacher = (leaves(x) for x in pair())
    value = CATKD(2, normalize, "student")(student, teacher, batch())
    assert torch.equal(value, torch.zeros(6, dtype=torch.float64))
    value.mean().backward()
    for feature in student.features.values():
        assert torch.equal(feature.grad, torch.zeros_like(feature))
    objective = Objective({"cat": CATKD(2, normalize, "student")}, {"cat": 15.0})
    loss = objective(student, teacher, batch().target)
    assert torch.equal(loss.total, loss.ce)


def test_what_does_not_fit_is_said():
    student, teacher = pair()
    with pytest.raises(ValueError, match=r"at most 4, since the student's last map has 4×4 fields, got 8"):
        CATKD(resolution=8)(student, teacher, batch())
    with pytest.raises(ValueError, match="expected 'teacher' or 'student', got 'itself'"):
        CATKD(against="itself")
    with pytest.raises(ValueError, match="expected a whole number of at least 1, got 0"):
        CATKD(resolution=0)
    with pytest.raises(ValueError, match="student features: expected 'last', got none"):
        CATKD()(student._replace(features={}), teacher, batch())
