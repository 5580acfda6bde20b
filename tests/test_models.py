"""The model zoo: counts and names of the published teachers, shapes, batch norm, initial weights."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from adakd import MODELS, create_model
from adakd.models import VGG, ImageNetResNet, MobileNetV2, ResNet, WideResNet, seeded_model
from adakd.models._pointwise import StridedPointwise
from adakd.models.language import LANGUAGE_MODELS

# Counted on the published models; adakd's own numbers must be these.
ZOO = json.loads((Path(__file__).parent / "zoo.json").read_text())
# The student of the embedded set is of this project alone.
OWN = {"resnet8x0.5"}
FAMILIES = [
    "resnet8",
    "resnet8x0.5",
    "wrn_16_1",
    "vgg8",
    "ResNet50",
    "MobileNetV2",
    "ShuffleV1",
    "ShuffleV2",
]


def meta(name, classes):
    """Shapes without numbers: nothing is allocated or computed."""
    with torch.device("meta"):
        return create_model(name, classes)


def test_the_zoo_is_all_there_is():
    assert set(MODELS) == set(ZOO) | OWN | set(LANGUAGE_MODELS)


@pytest.mark.parametrize("name", ZOO)
def test_parameters_buffers_and_names(name):
    expected = ZOO[name]
    for classes in (100, 10):
        model = meta(name, classes)
        assert sum(p.numel() for p in model.parameters()) == expected[f"params{classes}"]
    assert sum(b.numel() for b in model.buffers()) == expected["buffers"]
    keys = list(model.state_dict())
    assert len(keys) == expected["keys"]
    assert keys[:3] == expected["first_keys"]
    assert keys[-2:] == expected["last_keys"]


def test_half_width_student_by_hand():
    """Three blocks of two 3 × 3 convolutions with batch norm, two 1 × 1 shortcuts, a stem and a classifier."""
    stem = 3 * 8 * 9 + 2 * 8
    blocks = 2 * (8 * 8 * 9 + 16) + (8 * 16 * 9 + 16 * 16 * 9 + 64) + (16 * 32 * 9 + 32 * 32 * 9 + 128)
    shortcuts = (8 * 16 + 32) + (16 * 32 + 64)
    classifier = 32 * 10 + 10
    count = sum(p.numel() for p in meta("resnet8x0.5", 10).parameters())
    assert count == stem + blocks + shortcuts + classifier


@pytest.mark.parametrize("name", ZOO)
def test_multiplications_at_32_by_32(name):
    """Strides and poolings show in no parameter count; in the number of multiply-adds they do."""
    model, counted = meta(name, 100), []

    def count(module, inputs, output):
        if isinstance(module, nn.Conv2d):
            counted.append(output.numel() * module.weight[0].numel())  # weights of one output channel
        elif isinstance(module, nn.Linear):
            counted.append(output.numel() * module.in_features)

    for module in model.modules():
        module.register_forward_hook(count)
    assert model(torch.empty(1, 3, 32, 32, device="meta")).shape == (1, 100)
    assert sum(counted) / 1e6 == pytest.approx(ZOO[name]["MMACs"], abs=0.0051)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("classes", "channels", "size"), [(2, 1, 16), (10, 3, 16), (100, 3, 32)])
def test_images_to_logits(name, classes, channels, size):
    model = create_model(name, classes, in_channels=channels)
    logits = model(torch.randn(2, channels, size, size))
    assert logits.shape == (2, classes)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    model = create_model(name, 10)
    nn.functional.cross_entropy(model(torch.randn(8, 3, 16, 16)), torch.arange(8)).backward()
    without = [key for key, p in model.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize("name", FAMILIES)
def test_batch_norm_runs_once_a_step(name):
    """One public wrn runs three of them twice: their running statistics then move too far."""
    torch.manual_seed(0)
    model = create_model(name, 10).train()
    seen: dict[nn.Module, list[torch.Tensor]] = {}
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda m, inputs: seen.setdefault(m, []).append(inputs[0].clone()))
    model(torch.randn(8, 3, 16, 16))
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert set(seen) == set(norms)
    for norm in norms:
        (inputs,) = seen[norm]
        mean, variance = inputs.mean((0, 2, 3)), inputs.transpose(0, 1).flatten(1).var(1)
        torch.testing.assert_close(norm.running_mean, norm.momentum * mean, rtol=1e-4, atol=1e-6)
        expected = (1 - norm.momentum) + norm.momentum * variance
        torch.testing.assert_close(norm.running_var, expected, rtol=1e-4, atol=1e-6)
        assert norm.num_batches_tracked == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_evaluation_changes_nothing_and_looks_at_each_image_alone(name):
    torch.manual_seed(0)
    model = create_model(name, 10).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        together = model(images)
        alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", FAMILIES)
def test_initial_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(11)
    first = seeded_model(name, 10, seed=3).state_dict()
    torch.manual_seed(12)
    torch.rand(5)
    state = torch.get_rng_state()
    second, other = (seeded_model(name, 10, seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers were used up"


def test_a_seeded_network_leaves_the_random_state_of_cuda(monkeypatch):
    """Also where CUDA has not begun: torch.manual_seed would have it seeded then."""
    seeded = []
    for name in ("manual_seed", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, seeded.append)
    first = seeded_model("resnet8", 10, seed=7)
    assert seeded == []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected = create_model("resnet8", 10).state_dict()
    assert seeded == [7]  # what torch itself does, so that the patch is known to see it
    for key, value in first.state_dict().items():
        assert torch.equal(value, expected[key])


@pytest.mark.parametrize("name", ["resnet20", "wrn_16_2", "vgg8", "ResNet18", "ResNet50", "MobileNetV2"])
def test_initial_convolutions_keep_the_variance(name):
    """Normal with variance 2 / (k² · outputs), the initialization of all families but the ShuffleNets."""
    torch.manual_seed(0)
    for module in create_model(name, 100).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000:
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)


@pytest.mark.parametrize("name", ["ShuffleV1", "ShuffleV2"])
def test_initial_weights_of_the_shufflenets_are_torchs(name):
    """Uniform with variance 1 / (3 · inputs of one output), as nothing else was published."""
    torch.manual_seed(0)
    for module in create_model(name, 100).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000:
            inputs = module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx(1 / math.sqrt(3 * inputs), rel=0.05)
            assert module.weight.abs().max() <= 1 / math.sqrt(inputs)


def test_unknown_models_are_answered_with_near_names():
    for name, near in (
        ("resnet18", "'resnet8'"),
        ("wrn-16-2", "'wrn_16_2'"),
        ("VGG8", "'vgg8'"),
        ("ShuffleNetV2", "'ShuffleV2'"),
    ):
        with pytest.raises(ValueError, match="unknown model") as caught:
            create_model(name, 10)
        assert near in str(caught.value).partition("Known:")[0]


def test_other_wrong_arguments():
    with pytest.raises(ValueError, match="num_classes: expected at least 2, got 1"):
        create_model("resnet8", 1)
    with pytest.raises(ValueError, match=r"expected 6n \+ 2 \(8, 14, 20, …\), got 18"):
        ResNet(18, (16, 16, 32, 64), 10)
    with pytest.raises(ValueError, match=r"expected 6n \+ 4 \(10, 16, 22, …\), got 18"):
        WideResNet(18, 1, 10)
    with pytest.raises(ValueError, match="expected one of 8, 11, 13, 16, 19, got 12"):
        VGG(12, 10)
    with pytest.raises(ValueError, match="expected one of 18, 50, got 34"):
        ImageNetResNet(34, 10)
    with pytest.raises(ValueError, match=r"width: expected at least 1/16, got 0\.01"):
        MobileNetV2(0.01, 10)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_shortcut_is_the_strided_convolution(stride):
    torch.manual_seed(0)
    ours = StridedPointwise(8, 16, stride).double()
    theirs = torch.nn.Conv2d(8, 16, 1, stride, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(4, 8, 16, 16, dtype=torch.float64, requires_grad=True)
    ours(images).square().sum().backward()
    gradient, images.grad = images.grad, None
    theirs(images).square().sum().backward()
    torch.testing.assert_close(gradient, images.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_an_odd_batch_trains_on_several_threads():
    """torch's own strided kernel ends the process here."""
    code = (
        "import torch, adakd; torch.set_num_threads(2)\n"
        "model = adakd.create_model('resnet8x0.5', 10).to(memory_format=torch.channels_last)\n"
        "for _ in range(30): model(torch.randn(25, 16, 16, 3).permute(0, 3, 1, 2)).square().sum().backward()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
