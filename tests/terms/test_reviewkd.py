"""ReviewKD: the released pyramid, every layer in NumPy, gradients, and the fusions that nobody trains."""

import io

import numpy as np
import pytest
import torch
from examples import batch, built, golden, leaves, signals
from layers import array, averaged, batch_norm, convolution, nearest, sigmoid

from adakd import Objective
from adakd.terms.reviewkd import ReviewKD, pyramid_distance

STUDENT = {"stage1": (2, 8, 8), "stage2": (3, 8, 8), "stage3": (6, 4, 4), "pooled": (6,)}
TEACHER = {"stage1:pre": (3, 16, 16), "stage2:pre": (4, 8, 8), "stage3:pre": (5, 2, 2), "pooled": (5,)}


def pair(rows=4, seed=0):
    return signals(rows=rows, seed=seed, **STUDENT), signals(rows=rows, seed=seed + 50, **TEACHER)


def test_the_released_pyramid():
    case, inputs = golden("hcl")
    student = inputs["student"].requires_grad_()
    value = pyramid_distance(student, inputs["teacher"])
    assert value.shape == (4,)
    value.mean().backward()
    assert value.mean().item() == pytest.approx(case["loss"], rel=1e-9)
    torch.testing.assert_close(student.grad, inputs[case["grad"]], rtol=1e-9, atol=1e-11)


def pyramid(s, t):
    squares, weights = [((s - t) ** 2).mean(axis=(1, 2, 3))], [1.0]
    for fields, weight in ((4, 1 / 2), (2, 1 / 4), (1, 1 / 8)):
        if fields < s.shape[2]:
            squares.append(((averaged(s, fields) - averaged(t, fields)) ** 2).mean(axis=(1, 2, 3)))
            weights.append(weights[-1] / 2)
            assert s.shape[2] != 8 or weights[-1] == weight
    return sum(w * x for w, x in zip(weights, squares, strict=True)) / sum(weights)


def test_every_layer_in_numpy():
    student, teacher = pair()
    term = built(ReviewKD(), student, teacher)
    expected, below = np.zeros(4), None
    for level, name in enumerate(("pooled", "stage3", "stage2", "stage1")):
        s = array(student.features[name]).reshape(4, -1, *STUDENT[name][1:] or (1, 1))
        t = array(teacher.features[name if level == 0 else f"{name}:pre"])
        t = t.reshape(4, -1, *TEACHER[name if level == 0 else f"{name}:pre"][1:] or (1, 1))
        fusion = term.fusions[level]
        x = batch_norm(fusion.reduce[1], convolution(fusion.reduce[0], s))
        assert x.shape[1] == 6  # the channels of the pooled features
        if below is not None:
            below = nearest(below, x.shape[2])
            attention = sigmoid(convolution(fusion.attend, np.concatenate([x, below], axis=1)))
            x = x * attention[:, :1] + below * attention[:, 1:]
        below = nearest(x, t.shape[2])
        expected += pyramid(batch_norm(fusion.expand[1], convolution(fusion.expand[0], below)), t)
    np.testing.assert_allclose(array(term(student, teacher, batch(rows=4))), expected, rtol=1e-10)


def test_the_fused_map_has_no_more_than_512_channels():
    student = signals(rows=2, **{"stage1": (160, 2, 2), "pooled": (1280,)})
    teacher = signals(rows=2, **{"stage1": (512, 4, 4), "pooled": (512,)})
    term = built(ReviewKD(True, "stage1,pooled", "stage1,pooled"), student, teacher)
    assert term.fusions[0].reduce[0].weight.shape == (512, 1280, 1, 1)
    assert term(student, teacher, batch(rows=2)).isfinite().all()


def test_of_four_stages_beside_three_the_first_is_left_out():
    student, teacher = pair()
    fourth = {f"stage{i + 1}:pre": teacher.features[f"stage{i}:pre"] for i in (1, 2, 3)}
    first = {"stage1:pre": torch.zeros(4, 7, 32, 32, dtype=torch.float64), "pooled": teacher.features["pooled"]}
    expected = built(ReviewKD(), student, teacher)(student, teacher, batch(rows=4))
    deeper = teacher._replace(features={**first, **fourth})
    assert torch.equal(built(ReviewKD(), student, deeper)(student, deeper, batch(rows=4)), expected)


@pytest.mark.parametrize("trained", [True, False])
def test_gradients(trained):
    student, teacher = (leaves(x) for x in pair())
    term = built(ReviewKD(trained=trained), student, teacher)
    term(student, teacher, batch(rows=4)).mean().backward()
    for name, feature in student.features.items():
        assert feature.grad.abs().sum() > 0, name  # also through fusions that are not trained
    assert all(feature.grad is None for feature in teacher.features.values())
    for name, parameter in term.named_parameters():
        assert (parameter.grad is not None) == trained, name
        if trained:
            assert parameter.grad.abs().sum() > 0, name


def test_the_released_run_leaves_the_fusions_as_they_were_drawn():
    """Two students, one step each by the same loss: with and without the fusions trained."""
    moved = {}
    for trained in (True, False):
        student, teacher = pair()
        objective = Objective({"review": ReviewKD(trained=trained)}, {"review": 1.0}, ce_weight=0.0)
        objective.build(student, teacher, 20, seed=3).double()
        inner = [x.requires_grad_() for x in student.features.values()]
        before = [p.clone() for p in objective.parameters()]
        optimizer = torch.optim.SGD([*inner, *objective.parameters()], lr=0.1, weight_decay=5e-4)
        loss = objective(student, teacher, None)
        loss.total.backward()
        optimizer.step()
        after = list(objective.parameters())
        moved[trained] = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert moved[trained]
    assert all(moved[True])
    assert not any(moved[False])


def test_a_saved_term_goes_on_bit_for_bit():
    student, teacher = pair()
    term = built(ReviewKD(), student, teacher)
    term(student, teacher, batch(rows=4))  # batch norms count
    file = io.BytesIO()
    torch.save(term.state_dict(), file)
    file.seek(0)
    other = built(ReviewKD(), student, teacher, seed=9)
    other.load_state_dict(torch.load(file, weights_only=True))
    for a, b in zip(term.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    expected = term(*pair(seed=1), batch(rows=4))
    assert torch.equal(other(*pair(seed=1), batch(rows=4)), expected)


def test_what_is_missing_is_said():
    student, teacher = pair()
    with pytest.raises(RuntimeError, match="ReviewKD has no fusions yet: call build"):
        ReviewKD()(student, teacher, batch(rows=4))
    with pytest.raises(ValueError, match=r"teacher features: expected 'stage1:pre', got pooled"):
        ReviewKD().build(student, teacher._replace(features={"pooled": teacher.features["pooled"]}), 20)
    with pytest.raises(ValueError, match="expected as many layers of one network as of the other, got 2 and 1"):
        ReviewKD(student_layers="a,b", teacher_layers="c")
