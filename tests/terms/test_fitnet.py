"""FitNet: the released numbers, the regressor in NumPy, and every size that it reaches."""

import numpy as np
import pytest
import torch
from examples import batch, built, golden, signals
from layers import array, batch_norm, convolution

from adakd import Signals
from adakd.terms.fitnet import FitNet, make_regressor


def pair(student=(6, 4, 4), teacher=(9, 4, 4), seed=0):
    return signals(seed=seed, stage2=student), signals(seed=seed + 50, stage2=teacher)


def test_the_released_code():
    case, inputs = golden("fitnet_mse")
    student = inputs["student"].requires_grad_()
    outputs = [Signals(torch.zeros(4, 5), {"stage2": x}) for x in (student, inputs["teacher"])]
    term = built(FitNet(regressor=False), *outputs)
    term(*outputs, batch(4)).mean().backward()
    torch.testing.assert_close(student.grad, inputs[case["grad"]], rtol=1e-9, atol=1e-11)
    assert term(*outputs, batch(4)).mean().item() == pytest.approx(case["loss"], rel=1e-9)


@pytest.mark.parametrize("size", [4, 6])
def test_convolution_batch_norm_and_relu_step_by_step(size):
    student, teacher = pair((6, size, size))
    term = built(FitNet(), student, teacher)
    x = batch_norm(term.regressor[1], convolution(term.regressor[0], array(student.features["stage2"])))
    expected = ((np.maximum(x, 0) - array(teacher.features["stage2"])) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(array(term(student, teacher, batch())), expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("fields", "wanted", "kernel", "stride"),
    [
        ((8, 8), (8, 8), (1, 1), (1, 1)),
        ((8, 8), (4, 4), (3, 3), (2, 2)),
        ((4, 4), (8, 8), (4, 4), (2, 2)),
        ((8, 8), (5, 5), (4, 4), (1, 1)),
        ((2, 2), (6, 6), (5, 5), (3, 3)),
        ((4, 4), (16, 16), (8, 8), (4, 4)),
        ((8, 6), (4, 6), (3, 1), (2, 1)),
        ((1, 1), (1, 1), (1, 1), (1, 1)),
    ],
)
def test_the_regressor_ends_at_the_teachers_shape(fields, wanted, kernel, stride):
    layer, norm, relu = regressor = make_regressor((3, *fields), (5, *wanted))
    assert regressor(torch.randn(2, 3, *fields)).shape == (2, 5, *wanted)
    assert (layer.kernel_size, layer.stride) == (kernel, stride)
    assert norm.num_features == 5
    assert not relu.inplace, "it would overwrite what the batch norm needs"


def test_vectors_are_maps_of_one_field():
    student, teacher = pair((6,), (9,))
    term = built(FitNet(), student, teacher)
    assert term.regressor[0].kernel_size == (1, 1)
    assert term(student, teacher, batch()).shape == (6,)


def test_layers_of_networks_of_ones_own():
    student, teacher = pair()
    other = student._replace(features={"body.2": student.features["stage2"]})
    value = built(FitNet(), student, teacher)(student, teacher, batch())
    term = built(FitNet(student_layers="body.2"), other, teacher)
    assert tuple(term.taps) == (("body.2",), ("stage2",))
    assert torch.equal(term(other, teacher, batch()), value)


def test_a_batch_norm_reads_the_batch():
    assert FitNet().reads_batch
    assert not FitNet(regressor=False).reads_batch


def test_what_does_not_fit_is_said():
    student, teacher = pair((6, 3, 3), (9, 4, 4))
    with pytest.raises(ValueError, match="no regressor takes maps of 3×3 fields to 4×4"):
        built(FitNet(), student, teacher)
    with pytest.raises(ValueError, match=r"expected the shape .*\(9, 4, 4\), got \(6, 3, 3\)"):
        built(FitNet(regressor=False), student, teacher)
    with pytest.raises(RuntimeError, match="FitNet has no regressor yet: call build"):
        FitNet()(student, teacher, batch())
    with pytest.raises(
        ValueError, match=r"teacher features: expected \(N, C, H, W\) or \(N, C\), got \(6, 2, 3\)"
    ):
        built(FitNet(), student, signals(stage2=(2, 3)))
    with pytest.raises(ValueError, match="expected one layer, got 2"):
        FitNet("a, b", "c, d")
    student, teacher = pair((6, 4, 4), (9, 4, 4))
    term = built(FitNet(), student, teacher)
    with pytest.raises(ValueError, match=r"expected the shape .*\(9, 4, 4\), got \(9, 8, 8\)"):
        term(signals(stage2=(6, 8, 8)), teacher, batch())
