"""SimKD: the projection in NumPy, maps of different sizes, and the network that is evaluated and saved."""

import copy
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from examples import batch, built, leaves, signals
from layers import array, averaged, batch_norm, convolution
from torch import nn

from adakd import Tapped, create_model
from adakd.terms.simkd import ReusedClassifier, SimKD


def pair(rows=4, s=(3, 4, 4), t=(6, 4, 4)):
    return signals(rows=rows, last=s), signals(rows=rows, seed=50, last=t)


@pytest.mark.parametrize(("inner", "outer", "size"), [(4, 4, 4), (8, 4, 4), (2, 4, 2)])
def test_every_layer_in_numpy(inner, outer, size):
    student, teacher = pair(s=(3, inner, inner), t=(6, outer, outer))
    term = built(SimKD(factor=3), student, teacher)
    x = averaged(array(student.features["last"]), size)
    layers = iter(term.projector)
    for convolved, normed, rectified in zip(layers, layers, layers, strict=True):
        assert isinstance(rectified, nn.ReLU)
        x = np.maximum(batch_norm(normed, convolution(convolved, x)), 0)
    assert [layer.weight.shape[:2] for layer in term.projector if isinstance(layer, nn.Conv2d)] == [
        (2, 3),
        (2, 2),
        (6, 2),
    ]
    expected = ((x - averaged(array(teacher.features["last"]), size)) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(array(term(student, teacher, batch(rows=4))), expected, rtol=1e-10)


def test_gradient_reaches_the_student_and_the_projector_and_no_teacher():
    student, teacher = (leaves(x) for x in pair())
    term = built(SimKD(), student, teacher)
    term(student, teacher, batch(rows=4)).mean().backward()
    assert student.features["last"].grad.abs().sum() > 0
    assert teacher.features["last"].grad is None
    assert all(p.grad.abs().sum() > 0 for p in term.parameters())


@pytest.fixture
def networks():
    torch.manual_seed(0)
    student, teacher = create_model("resnet8x0.5", 10).double(), create_model("vgg8", 10).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        outputs = [Tapped(copy.deepcopy(n).eval(), ("last",))(images) for n in (student, teacher)]
    term = built(SimKD(), *outputs)
    return student, teacher, images, term


def test_deployed_is_the_teachers_head_on_projected_features(networks):
    student, teacher, images, term = networks
    deployed = term.deploy(student, teacher).eval()
    found = Tapped(student, ("last",))(images).features["last"]
    assert found.shape[-1] == 8  # the teacher's map has 4 × 4 fields
    projected = term.projector(F.avg_pool2d(found, 2))
    expected = F.linear(projected.mean(dim=(2, 3)), teacher.classifier.weight, teacher.classifier.bias)
    torch.testing.assert_close(deployed(images), expected)


def test_a_student_that_has_the_teachers_map_has_its_logits():
    """The identity in the place of the projector, and the teacher for its own student."""
    teacher = create_model("resnet8x0.5", 10).double().eval()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    deployed = ReusedClassifier(teacher, nn.Identity(), teacher.fc, (8, 8)).eval()
    torch.testing.assert_close(deployed(images), teacher(images))


def test_deployed_follows_the_student_and_the_projector(networks):
    student, teacher, images, term = networks
    deployed = term.deploy(student, teacher).eval()
    before = deployed(images)
    with torch.no_grad():
        term.projector[0].weight.mul_(2)
        term.projector[1].running_var.mul_(3)
    assert not torch.equal(deployed(images), before)
    assert {id(p) for p in deployed.parameters()} == {
        *map(id, student.parameters()),
        *map(id, term.parameters()),
        *map(id, teacher.classifier.parameters()),
    }


def test_what_is_saved_is_enough(networks):
    student, teacher, images, term = networks
    deployed = term.deploy(student, teacher).eval()
    file = io.BytesIO()
    torch.save(deployed.state_dict(), file)
    file.seek(0)
    others = create_model("resnet8x0.5", 10).double(), create_model("vgg8", 10).double()
    with torch.no_grad():
        outputs = [Tapped(copy.deepcopy(n).eval(), ("last",))(images) for n in others]
    other = built(SimKD(), *outputs, seed=9).deploy(*others).eval()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(images), deployed(images))


def test_what_does_not_fit_is_said():
    student, teacher = pair()
    with pytest.raises(ValueError, match="factor: expected a whole number of at least 1, got 0"):
        SimKD(factor=0)
    with pytest.raises(ValueError, match="factor: expected at most the 6 channels of the teacher, got 8"):
        SimKD(factor=8).build(student, teacher, 20)
    with pytest.raises(RuntimeError, match="SimKD has no projector yet"):
        SimKD()(student, teacher, batch(rows=4))
    with pytest.raises(RuntimeError, match="SimKD has no projector yet"):
        SimKD().deploy(nn.Identity(), nn.Identity())
