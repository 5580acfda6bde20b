"""The channels of ReviewKD's fusions, pair by pair, beside the table of names in the released code."""

import pytest
import torch

from adakd import Objective, create_model
from adakd.runs.deployed import build_terms
from adakd.terms.reviewkd import ReviewKD

# Teacher, student: channels of the student's levels and of the teacher's, from the first to the deepest.
RELEASED = {
    ("resnet32x4", "resnet8x4"): ([64, 128, 256, 256], [64, 128, 256, 256]),
    ("resnet56", "resnet20"): ([16, 32, 64, 64], [16, 32, 64, 64]),
    ("wrn_40_2", "wrn_16_2"): ([32, 64, 128, 128], [32, 64, 128, 128]),
    ("wrn_40_2", "wrn_40_1"): ([16, 32, 64, 64], [32, 64, 128, 128]),
    ("vgg13", "vgg8"): ([128, 256, 512, 512, 512], [128, 256, 512, 512, 512]),
    ("wrn_40_2", "ShuffleV1"): ([240, 480, 960, 960], [32, 64, 128, 128]),
    ("resnet32x4", "ShuffleV1"): ([240, 480, 960, 960], [64, 128, 256, 256]),
    ("resnet32x4", "ShuffleV2"): ([116, 232, 464, 1024], [64, 128, 256, 256]),
    ("vgg13", "MobileNetV2"): ([12, 16, 48, 160, 1280], [128, 256, 512, 512, 512]),
    ("ResNet50", "MobileNetV2"): ([12, 16, 48, 160, 1280], [256, 512, 1024, 2048, 2048]),
    ("ResNet50", "vgg8"): ([128, 256, 512, 512, 512], [256, 512, 1024, 2048, 2048]),
}


@pytest.mark.slow
@pytest.mark.parametrize(("teacher", "student"), RELEASED)
def test_reviewkd_has_the_released_channels(teacher, student):
    inner, outer = RELEASED[teacher, student]
    objective = Objective({"review": ReviewKD()}, {"review": 1.0})
    networks = create_model(student, 100), create_model(teacher, 100)
    build_terms(objective, *networks, torch.zeros(2, 3, 32, 32), train_images=40, seed=0)
    fusions = list(objective.terms["review"].fusions)[::-1]
    assert [fusion.reduce[0].in_channels for fusion in fusions] == inner
    assert [fusion.expand[0].out_channels for fusion in fusions] == outer
    assert {fusion.reduce[0].out_channels for fusion in fusions} == {min(512, inner[-1])}
