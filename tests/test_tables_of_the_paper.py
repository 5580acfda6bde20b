"""Every method of the paper's Tables 1 and 2 on every pair of networks there: a step each, at the paper's resolution."""

import copy

import pytest
import torch

from adakd import Batch, LiveTeacher, Trainer, create_method, create_model
from adakd.data import ImageData, Split
from adakd.runs.deployed import build_terms
from adakd.training import choose_precision, get_recipe

METHODS = (
    *("fitnet", "at", "rkd", "crd", "reviewkd", "simkd", "catkd"),
    *("ttm", "wttm", "zkd", "zctkd", "zkd+mlt", "zdkd", "zdkd+mlt"),
)
# Teacher and student.
TABLE_1 = (
    ("resnet32x4", "ShuffleV2"),
    ("resnet32x4", "wrn_16_2"),
    ("resnet32x4", "wrn_40_2"),
    ("wrn_40_2", "resnet8x4"),
    ("wrn_40_2", "MobileNetV2"),
    ("vgg13", "MobileNetV2"),
    ("ResNet50", "MobileNetV2"),
)
TABLE_2 = (
    ("wrn_40_2", "wrn_16_2"),
    ("wrn_40_2", "wrn_40_1"),
    ("resnet56", "resnet20"),
    ("resnet110", "resnet20"),
    ("resnet110", "resnet8x4"),
    ("resnet32x4", "resnet32"),
    ("vgg13", "vgg8"),
)
# Of the literature's tables, and not of this paper's.
OTHERS = (("resnet32x4", "ShuffleV1"), ("wrn_40_2", "ShuffleV1"), ("ResNet50", "vgg8"))
FAST = {("resnet56", "resnet20"), ("wrn_40_2", "MobileNetV2")}
PAIRS = [
    pytest.param(*pair, id="→".join(pair), marks=[] if pair in FAST else pytest.mark.slow)
    for pair in (*TABLE_1, *TABLE_2, *OTHERS)
]
BATCH, CLASSES = 4, 100


def images_like_cifar():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (40, 32, 32, 3), generator=generator, dtype=torch.uint8)
    split = Split(pixels, torch.arange(40))
    return ImageData(
        name="noise",
        train=split,
        test=split,
        classes=tuple(map(str, range(CLASSES))),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        padding=4,
        flip=True,
        official=True,
        checksum="0" * 64,
    )


def test_the_pairs_are_those_of_the_tables():
    assert len(set(TABLE_1)) == len(set(TABLE_2)) == 7


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_a_step_of_every_method(teacher, student):
    torch.manual_seed(0)
    networks = create_model(student, CLASSES), create_model(teacher, CLASSES).eval().requires_grad_(False)
    data, recipe = images_like_cifar(), get_recipe("demo", epochs=1, batch_size=BATCH, train_images=8, lr=0.001)
    fp32 = choose_precision("fp32", data.device, 0)
    images = torch.randn(BATCH, 3, 32, 32)
    before = copy.deepcopy(networks[1].state_dict())
    for method in METHODS:
        objective, learner = create_method(method), copy.deepcopy(networks[0])
        if objective.builds:
            build_terms(objective, learner, networks[1], images[:2], len(data.train), seed=0)
        trainer = Trainer(learner, objective, recipe, data, fp32, teacher=networks[1])
        source = LiveTeacher(networks[1], fp32, data.device, objective.taps)
        batch = Batch(torch.arange(BATCH), torch.arange(BATCH), 1)
        terms = trainer.step(images, source.signals(images, torch.arange(BATCH)), batch)
        assert terms.total.isfinite(), method
        assert terms.kd > 0, method
        for name, parameter in objective.named_parameters():
            assert parameter.grad.isfinite().all(), (method, name)
            assert parameter.grad.abs().sum() > 0, (method, name)
        stem = next(learner.parameters())
        assert not torch.equal(stem, next(networks[0].parameters())), method
        assert trainer.deployed.eval()(images).shape == (BATCH, CLASSES), method
    after = networks[1].state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
