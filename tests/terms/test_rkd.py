"""RKD: the released numbers, distances and angles one by one, and what relations do not see."""

import numpy as np
import pytest
import torch
from examples import batch, golden, leaves, signals
from layers import array

from adakd import Signals
from adakd.terms.rkd import RKD, angles, distances


def pair(rows=6, seed=0):
    return signals(rows=rows, seed=seed, pooled=(7,)), signals(rows=rows, seed=seed + 50, pooled=(9,))


@pytest.mark.parametrize("name", ["rkd", "rkd_distance", "rkd_angle", "rkd_squared", "rkd_repdistiller"])
def test_the_released_code(name):
    case, inputs = golden(name)
    student = inputs["student"].requires_grad_()
    outputs = [Signals(torch.zeros(6, 5), {"pooled": x}) for x in (student, inputs["teacher"])]
    options = {key: value for key, value in case["params"].items() if not isinstance(value, str)}
    value = RKD(**options)(*outputs, batch()).mean()
    value.backward()
    assert value.item() == pytest.approx(case["loss"], rel=1e-9)
    torch.testing.assert_close(student.grad, inputs[case["grad"]], rtol=1e-9, atol=1e-11)


def smooth(a, b):
    return 0.5 * (a - b) ** 2 if abs(a - b) < 1 else abs(a - b) - 0.5


def relations(x, squared):
    n = len(x)
    d = np.array(
        [[np.sqrt(np.sum((x[i] - x[j]) ** 2)) ** (2 if squared else 1) for j in range(n)] for i in range(n)]
    )
    d /= d.sum() / (n * (n - 1))
    cosine = np.zeros((n, n, n))
    for i, j, k in np.ndindex(n, n, n):
        if i not in (j, k):
            a, b = x[j] - x[i], x[k] - x[i]
            cosine[i, j, k] = a @ b / np.sqrt((a @ a) * (b @ b))
    return d, cosine


@pytest.mark.parametrize("squared", [False, True])
def test_pair_by_pair_and_triple_by_triple(squared):
    student, teacher = pair()
    (d_s, a_s), (d_t, a_t) = (relations(array(x.features["pooled"]), squared) for x in (student, teacher))
    expected = np.zeros(6)
    for i in range(6):
        expected[i] += 25 / 6 * sum(smooth(d_s[i, j], d_t[i, j]) for j in range(6))
        expected[i] += 50 / 36 * sum(smooth(a_s[i, j, k], a_t[i, j, k]) for j, k in np.ndindex(6, 6))
    value = RKD(squared=squared)(student, teacher, batch())
    np.testing.assert_allclose(array(value), expected, rtol=1e-9)


def test_relations_see_neither_place_nor_scale_nor_orientation():
    student, teacher = pair()
    turn, _ = torch.linalg.qr(
        torch.randn(9, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    )
    moved = teacher._replace(features={"pooled": 5 * teacher.features["pooled"] @ turn + 2})
    torch.testing.assert_close(RKD()(student, moved, batch()), RKD()(student, teacher, batch()))
    torch.testing.assert_close(
        RKD()(moved, teacher, batch()), torch.zeros(6, dtype=torch.float64), atol=1e-12, rtol=0
    )


def test_distances_and_angles_of_a_right_triangle():
    x = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(distances(x) * 4, torch.tensor([[0, 3, 4], [3, 0, 5], [4, 5, 0]]).double())
    assert angles(x)[0, 1, 2] == 0
    torch.testing.assert_close(angles(x)[1, 0, 2], torch.tensor(0.6, dtype=torch.float64))


def test_two_equal_features_have_finite_gradients():
    """An image that stands twice in a batch, or a student whose features are dead."""
    student, teacher = pair()
    for features in (torch.zeros(6, 7), student.features["pooled"][[0, 0, 1, 1, 2, 2]]):
        ours = leaves(student._replace(features={"pooled": features.double()}))
        RKD()(ours, teacher, batch()).mean().backward()
        gradient = ours.features["pooled"].grad
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 1e3


def test_a_batch_of_one_has_no_relations():
    student, teacher = pair(rows=1)
    assert RKD()(student, teacher, batch(1)).tolist() == [0.0]


def test_weights_out_of_range():
    with pytest.raises(ValueError, match="angle_weight: expected a number of at least 0, got -1"):
        RKD(angle_weight=-1)
    with pytest.raises(ValueError, match=r"distance_weight \+ angle_weight: expected a number above 0"):
        RKD(distance_weight=0, angle_weight=0)
    with pytest.raises(ValueError, match="expected one layer, got 2"):
        RKD("a,b", "c,d")
