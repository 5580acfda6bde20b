"""Where features are: portable names for every network, what a tap returns, and that it changes nothing."""

import copy
import json
import re
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import adakd
from adakd import MODELS, Tapped, Taps, create_model, stages_of
from adakd.models.language import LANGUAGE_MODELS

ZOO = json.loads((Path(__file__).parent / "zoo.json").read_text())
FAMILIES = ["resnet8x0.5", "resnet14", "wrn_16_1", "vgg8", "ResNet18", "MobileNetV2", "ShuffleV1", "ShuffleV2"]


def network(name):
    torch.manual_seed(0)
    return create_model(name, 10)


def features(model, names, images=None):
    if images is None:
        images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return Tapped(model, names)(images)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in LANGUAGE_MODELS])
def test_every_network_says_where_its_features_are(name):
    with torch.device("meta"):
        model = create_model(name, 100)
    names = stages_of(model)
    stages = [key for key in names if re.fullmatch(r"stage\d+", key)]
    assert sorted(stages) == [f"stage{i}" for i in range(len(stages))]
    assert {"last", "pooled", "classifier", "classifier:weight", "classifier:bias"} <= set(names)
    assert {f"{key}:pre" for key in (*stages, "last")} <= set(names)
    found = Tapped(model, names)(torch.empty(1, 3, 32, 32, device="meta")).features
    assert set(found) == set(names)
    for key in (*stages, "last"):
        assert found[f"{key}:pre"].shape == found[key].shape
    if name in ZOO:
        assert [list(found[key].shape[1:]) for key in sorted(stages)] == ZOO[name]["features"]
        assert found["pooled"].shape[1:] == found["classifier:weight"].shape[1:] == found["last"].shape[1:2]


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_a_network_of_text_has_no_stages_and_names_what_it_has(name):
    with pytest.raises(
        ValueError, match=r"does not say where its stages are\. Name the submodules instead, of .*output"
    ):
        stages_of(create_model(name, 64))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("training", [True, False])
def test_values_of_the_features(name, training):
    model = network(name).train(training)
    logits, found = features(model, stages_of(model))
    places = stages_of(model)
    for key in found:
        if key.startswith(("stage", "last")) and ":" not in key:
            before = found[f"{key}:pre"]
            assert (before < 0).any(), key  # a ReLU in place has spoiled none
            if places[f"{key}:pre"] == places[key]:  # a linear bottleneck
                assert (name, key[:5]) == ("MobileNetV2", "stage")
            else:
                assert torch.equal(found[key], F.relu(before)), key
    assert torch.equal(found["pooled"], found["last"].mean((2, 3)))
    weight, bias = found["classifier:weight"], found["classifier:bias"]
    torch.testing.assert_close(found["pooled"] @ weight.T + bias, logits)
    assert torch.equal(found["classifier"], logits)
    assert {id(weight), id(bias)} <= {id(parameter) for parameter in model.parameters()}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tap_changes_neither_logits_nor_state_nor_gradients(name):
    plain, tapped = network(name), network(name)
    images = torch.randn(4, 3, 16, 16)
    expected = plain(images)
    logits = features(tapped, stages_of(tapped), images).logits
    assert torch.equal(logits, expected)
    for one in (expected, logits):
        F.cross_entropy(one, torch.arange(4)).backward()
    for (key, a), b in zip(plain.named_parameters(), tapped.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), key
    states = plain.state_dict(), tapped.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_reach_what_is_below_a_feature(name):
    """Along a direction of the stem's weights, the gradient of each feature is its difference quotient."""
    model = network(name).double().eval()
    names = [key for key in stages_of(model) if not key.startswith("classifier:")]
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    stem = next(model.parameters())
    direction = torch.randn_like(stem)
    tapped = Tapped(model, names)
    step = 1e-8  # few ReLUs turn over
    with torch.no_grad():
        stem.add_(direction, alpha=step)
        after = tapped(images).features
        stem.add_(direction, alpha=-2 * step)
        before = tapped(images).features
        stem.add_(direction, alpha=step)
    found = tapped(images).features
    for key in names:
        mix = torch.randn_like(found[key])
        (gradient,) = torch.autograd.grad((found[key] * mix).sum(), stem, retain_graph=True)
        quotient = ((after[key] - before[key]) * mix).sum() / (2 * step)
        torch.testing.assert_close((gradient * direction).sum(), quotient, rtol=1e-3, atol=1e-4, msg=key)


def test_the_classifier_is_the_parameter_itself_also_in_a_copy():
    model = network("resnet8x0.5")
    tapped = Tapped(model, ("classifier:weight",))
    images = torch.randn(2, 3, 16, 16)
    assert tapped(images).features["classifier:weight"] is model.fc.weight
    tapped(images).features["classifier:weight"].square().sum().backward()
    torch.testing.assert_close(model.fc.weight.grad, 2 * model.fc.weight.detach())
    copied = copy.deepcopy(tapped)
    assert copied(images).features["classifier:weight"] is copied.network.fc.weight
    model.fc.weight = nn.Parameter(torch.zeros_like(model.fc.weight))  # somebody exchanges it
    assert not tapped(images).features["classifier:weight"].any()


class Mine(nn.Module):
    """A network of nobody's library."""

    def __init__(self, inplace=True):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=inplace))
        self.unused = nn.Linear(1, 1)
        self.head = nn.Linear(4, 10, bias=False)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


class Told(Mine):
    places: ClassVar = {
        "stage1": "body",
        "stage1:pre": "body.-1:input",
        "classifier": "head",
        "classifier:bias": "body.1:bias",
    }


def test_a_network_of_ones_own_says_it_by_an_attribute():
    assert stages_of(Told()) == {
        "stage1": "body",
        "stage1:pre": "body.2:input",
        "classifier": "head",
        "classifier:weight": "head:weight",
        "classifier:bias": "body.1:bias",
        "pooled": "head:input",
        "last": "body",
        "last:pre": "body.2:input",
    }
    found = features(Told(), ("last", "last:pre", "pooled", "body.1:weight")).features
    assert torch.equal(found["last"], F.relu(found["last:pre"]))
    assert found["body.1:weight"].shape == (4,)


def test_a_network_that_does_not_say_it_is_answered_with_its_submodules():
    with pytest.raises(ValueError, match="Mine does not say where its stages are") as caught:
        stages_of(Mine())
    assert "of body, body.0, body.1, body.2, unused, head; or give the network an attribute" in str(
        caught.value
    )
    for name in ("stage2", "last:pre", "pooled", "classifier:weight"):
        with pytest.raises(ValueError, match=f"there is no '{name}': Mine does not say") as caught:
            Tapped(Mine(), (name,))
        assert "body.2" in str(caught.value)


def test_a_submodule_may_be_called_as_a_stage():
    model = nn.Sequential()
    model.add_module("stage1", nn.Linear(3, 2))
    signals = Tapped(model, ("stage1",))(torch.ones(4, 3))
    assert signals.features["stage1"] is signals.logits


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bodies", "Mine has no submodule 'bodies'; its top level has body, unused, head"),
        ("body.7:input", r"Mine has no submodule 'body\.7'"),
        ("head:bias", "'head:bias' is no place in Mine: .* a parameter of Linear; it has weight"),
        ("body:output", "expected after the colon 'input' or a parameter of Sequential; it has none"),
    ],
)
def test_features_that_are_not_there(name, message):
    with pytest.raises(ValueError, match=message):
        Tapped(Mine(), (name,))


def test_the_portable_names_of_a_known_network_are_in_the_error():
    with pytest.raises(ValueError, match=r"no submodule 'stage7'; .* portable names are stage0, .*pooled"):
        Tapped(create_model("resnet8", 10), ("stage7",))
    wrong = Mine()
    wrong.places = {"stage1": "bodies"}
    with pytest.raises(ValueError, match=r"Mine\.places: there is no submodule 'bodies'"):
        stages_of(wrong)


def test_a_feature_that_was_overwritten_or_not_computed_is_an_error():
    with pytest.raises(RuntimeError, match=r"'body\.1' was overwritten in place .* 'relu:input'"):
        features(Mine(), ("body.1",))
    kept = features(Mine(inplace=False), ("body.1", "body")).features
    assert torch.equal(kept["body"], F.relu(kept["body.1"]))
    with pytest.raises(RuntimeError, match="'unused' was not computed: Mine calls no such submodule"):
        features(Mine(), ("unused",))
    with torch.inference_mode():
        assert set(features(Mine(), ("body",)).features) == {"body"}


def test_nothing_is_kept_of_calls_that_nobody_taps():
    model = Told()
    tapped = Tapped(model, ("last", "last:pre"))
    tapped(torch.randn(2, 3, 8, 8))
    model(torch.randn(2, 3, 8, 8))
    assert tapped._features is None


@pytest.mark.slow
def test_features_of_a_compiled_network():
    model = network("resnet8x0.5")
    names = tuple(stages_of(model))
    images = torch.randn(2, 3, 16, 16)
    expected = Tapped(model, names)(images)
    compiled = torch.compile(Tapped(copy.deepcopy(model), names), backend="aot_eager")
    found = compiled(images)
    torch.testing.assert_close(found.logits, expected.logits)
    assert list(found.features) == list(expected.features)
    for key in names:
        torch.testing.assert_close(found.features[key], expected.features[key])
    (found.features["stage1:pre"].sum() + found.features["classifier:weight"].square().sum()).backward()


def residual(kind, **attributes):
    """A network of the shape that the ResNets of torchvision and timm have."""

    class BasicBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
            for relu in ("relu",) if kind == "torchvision" else ("act1", "act2"):
                setattr(self, relu, nn.ReLU(inplace=True))
            self.conv2 = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            first, second = (self.relu, self.relu) if kind == "torchvision" else (self.act1, self.act2)
            return second(self.conv2(first(self.conv1(x))) + x)

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 4, 3)
            setattr(self, "relu" if kind == "torchvision" else "act1", nn.ReLU(inplace=True))
            for i in range(1, 5):
                setattr(self, f"layer{i}", nn.Sequential(BasicBlock(), BasicBlock()))
            self.fc = nn.Linear(4, 10)

        def forward(self, x):
            x = (self.relu if kind == "torchvision" else self.act1)(self.conv1(x))
            for i in range(1, 5):
                x = getattr(self, f"layer{i}")(x)
            return self.fc(x.mean((2, 3)))

    for name, value in attributes.items():
        setattr(ResNet, name, value)
    return ResNet()


TIMM = {
    "__module__": "timm.models.resnet",
    "feature_info": [{"module": name} for name in ("act1", "layer1", "layer2", "layer3", "layer4")],
    "get_classifier": lambda self: self.fc,
}


@pytest.mark.parametrize(
    ("kind", "attributes"), [("torchvision", {"__module__": "torchvision.models.resnet"}), ("timm", TIMM)]
)
def test_networks_of_other_packages(kind, attributes):
    torch.manual_seed(0)
    model = residual(kind, **attributes)
    names = stages_of(model)
    logits, found = features(model, names)
    for i in range(1, 5):
        assert torch.equal(found[f"stage{i}"], F.relu(found[f"stage{i}:pre"]))
        assert (found[f"stage{i}:pre"] < 0).any()
    assert torch.equal(found["pooled"], found["last"].mean((2, 3)))
    torch.testing.assert_close(
        found["pooled"] @ found["classifier:weight"].T + found["classifier:bias"], logits
    )


def test_stages_of_timm_without_a_stem_are_counted_from_one():
    info = [{"module": f"stages.{i}"} for i in range(2)]
    model = nn.Module()
    model.stages = nn.Sequential(nn.Sequential(nn.GELU()), nn.Sequential(nn.ReLU()))
    model.feature_info = info
    assert stages_of(model) == {
        "stage1": "stages.0",
        "stage2": "stages.1",
        "stage2:pre": "stages.1.0:input",
        "last": "stages.1",
        "last:pre": "stages.1.0:input",
    }


class LastMap(adakd.Term):
    """Mean square distance of last maps, through a 1 × 1 convolution, and of logits by the teacher's classifier."""

    taps = Taps(("last", "pooled"), ("last", "classifier:weight"))

    def build(self, student, teacher, train_images):
        self.connector = nn.Conv2d(student.features["last"].shape[1], teacher.features["last"].shape[1], 1)

    def forward(self, student, teacher, batch):
        distance = self.connector(student.features["last"]) - teacher.features["last"]
        return distance.square().mean((1, 2, 3)) + teacher.features["classifier:weight"].square().mean()


def test_one_term_fits_networks_of_two_families():
    teacher, student = network("wrn_16_1"), network("resnet8x0.5")
    images = torch.randn(4, 3, 16, 16)
    distiller = adakd.Distiller(student, teacher, adakd.Objective({"map": LastMap()}, {"map": 1.0})).train()
    distiller.build(images[:2])
    terms = distiller(images, torch.arange(4))
    connector, found = distiller.criterion.terms["map"].connector, features(teacher, ("last",), images).features
    distance = connector(features(student.eval(), ("last",), images).features["last"]) - found["last"]
    student.train()
    expected = distance.square().mean() + teacher.fc.weight.square().mean()
    assert terms.parts["map"] != expected  # batch norm of the evaluation
    terms.total.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_a_feature_that_may_be_missing():
    """Three stages of one family, four of another: a term reads as many as both have."""
    names = ("stage3", "stage4?", "head?")
    assert set(features(network("vgg8"), names)[1]) == {"stage3", "stage4"}
    assert set(features(network("resnet14"), names)[1]) == {"stage3"}
    assert set(features(network("vgg8"), ("stage4?", "stage4"))[1]) == {"stage4"}
