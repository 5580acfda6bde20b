"""The terms on features between real networks: one family, other families, other resolutions, stages and widths."""

import copy

import pytest
import torch

from adakd import Objective, Tapped, create_model
from adakd.runs.deployed import build_terms
from adakd.terms.catkd import CATKD
from adakd.terms.crd import CRD
from adakd.terms.okd import OKD
from adakd.terms.reviewkd import ReviewKD
from adakd.terms.simkd import SimKD
from adakd.terms.ssd import SSD

TERMS = {
    "crd": lambda: CRD(negatives=16),
    "reviewkd": ReviewKD,
    "simkd": SimKD,
    "catkd": CATKD,
    "ssd": SSD,
    "okd": OKD,
}
# Teacher and student: 3 stages and 3, another family, 4 × 4 fields against 8 × 8, 4 stages against 3 and the other way.
PAIRS = [
    ("resnet14", "resnet8x0.5"),
    ("wrn_16_1", "resnet8x0.5"),
    ("vgg8", "resnet8x0.5"),
    ("resnet8x0.5", "vgg8"),
]
# Of the paper's tables or like them, and one of four stages that teach three.
LARGER = [
    ("resnet8x4", "MobileNetV2"),
    ("resnet8x4", "ShuffleV1"),
    ("resnet8x4", "ShuffleV2"),
    ("vgg8", "MobileNetV2"),
    ("ResNet50", "MobileNetV2"),
    ("ResNet50", "resnet8"),
]


@pytest.mark.parametrize(
    ("teacher", "student"), [*PAIRS, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in LARGER)]
)
@pytest.mark.parametrize("name", TERMS)
def test_a_step_moves_the_student_and_every_connector_and_no_teacher(name, teacher, student):
    torch.manual_seed(0)
    networks = create_model(student, 10), create_model(teacher, 10).eval()
    images, target = torch.randn(8, 3, 32, 32), torch.arange(8) % 10
    objective = Objective({name: TERMS[name]()}, {name: 1.0}, ce_weight=0.0)
    build_terms(objective, *networks, images[:2], train_images=40, seed=0)
    if name == "okd":  # of a module that is 0, one of its two factors has no gradient
        torch.nn.init.normal_(objective.terms["okd"].up.weight)
    tapped = [Tapped(network, names) for network, names in zip(networks, objective.taps, strict=True)]
    with torch.no_grad():
        taught = tapped[1](images)
    loss = objective(tapped[0](images), taught, target, epoch=1, index=torch.arange(8))
    assert loss.parts[name] > 0
    loss.total.backward()
    stem = next(networks[0].parameters())
    assert stem.grad.abs().sum() > 0
    for key, parameter in objective.named_parameters():
        assert parameter.grad.abs().sum() > 0, key
    assert all(parameter.grad is None for parameter in networks[1].parameters())


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_half_precision_features_are_compared_in_fp32(teacher, student):
    torch.manual_seed(0)
    networks = create_model(student, 10), create_model(teacher, 10).eval()
    images, target = torch.randn(4, 3, 32, 32), torch.arange(4)
    objective = Objective({key: make() for key, make in TERMS.items()}, dict.fromkeys(TERMS, 1.0))
    build_terms(objective, *networks, images[:2], train_images=40, seed=0)
    tapped = [Tapped(network, names) for network, names in zip(networks, objective.taps, strict=True)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = [network(images) for network in tapped]
        loss = objective(*outputs, target, epoch=1, index=torch.arange(4))
    assert outputs[0].features["last"].dtype == torch.bfloat16
    assert {part.dtype for part in loss.parts.values()} == {torch.float32}
    assert loss.total.isfinite()
    loss.total.backward()


@pytest.mark.parametrize("student", ["resnet8x0.5", "vgg8"])
def test_deployed_gives_the_logits_of_the_teachers_classes(student):
    networks = create_model(student, 10), create_model("wrn_16_1", 10)
    images = torch.randn(2, 3, 32, 32)
    objective = Objective({"simkd": SimKD()}, {"simkd": 1.0}, ce_weight=0.0)
    build_terms(objective, *networks, images, train_images=40, seed=0)
    assert objective.deploys
    assert objective.deploy(*networks).eval()(images).shape == (2, 10)


@pytest.mark.parametrize("name", TERMS)
def test_ignored_rows_are_as_if_they_were_not_there(name):
    torch.manual_seed(0)
    networks = create_model("resnet8x0.5", 10).eval(), create_model("vgg8", 10).eval()
    images, index = torch.randn(6, 3, 32, 32), torch.arange(6)
    target = torch.tensor([1, -100, 3, 0, -100, 2])
    keep = target != -100
    objective = Objective({name: TERMS[name]()}, {name: 1.0})
    build_terms(objective, *networks, images[:2], train_images=40, seed=0)
    tapped = [Tapped(network, names) for network, names in zip(networks, objective.taps, strict=True)]
    other = copy.deepcopy(objective)
    few = other(*(network(images[keep]) for network in tapped), target[keep], epoch=1, index=index[keep])
    found = objective(*(network(images) for network in tapped), target, epoch=1, index=index)
    torch.testing.assert_close(found.parts[name], few.parts[name], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.total, few.total, rtol=1e-4, atol=1e-6)
    for key, value in objective.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "index", [torch.arange(4), list(range(6))], ids=["of the rows that are left", "a list"]
)
def test_positions_beside_ignored_rows_are_of_the_whole_batch(index):
    logits, target = torch.randn(6, 5), torch.tensor([1, -100, 3, 0, -100, 2])
    with pytest.raises(ValueError, match=r"index: expected the positions of the batch's 6 images"):
        Objective({"crd": CRD(negatives=16)}, {"crd": 1.0})(logits, logits, target, index=index)


@pytest.mark.slow
@pytest.mark.parametrize("name", TERMS)
def test_the_whole_loss_is_one_graph(name):
    """Compiled without a break, step after step: also with a memory that a step changes."""
    torch.manual_seed(0)
    networks = create_model("resnet8x0.5", 10).eval(), create_model("wrn_16_1", 10).eval()
    images, target = torch.randn(6, 3, 32, 32), torch.arange(6)
    objective = Objective({name: TERMS[name]()}, {name: 1.0})
    build_terms(objective, *networks, images[:2], train_images=40, seed=0)
    with torch.no_grad():
        outputs = [
            Tapped(network, names)(images) for network, names in zip(networks, objective.taps, strict=True)
        ]
    eager = copy.deepcopy(objective)
    compiled = torch.compile(objective, fullgraph=True, backend="aot_eager")
    for epoch in (1, 2):
        given = {"epoch": epoch, "ignore_index": None, "index": torch.arange(6)}
        found, expected = compiled(*outputs, target, **given), eager(*outputs, target, **given)
        torch.testing.assert_close(found.total, expected.total)
    for key, value in objective.state_dict().items():
        torch.testing.assert_close(value, eager.state_dict()[key])
