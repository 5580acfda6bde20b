"""On a CUDA GPU everything is what it is on a CPU; skipped where there is none."""

import math

import pytest
import torch

import adakd
from adakd.data import Views
from adakd.models import network_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")


@pytest.mark.parametrize("method", [name for name, row in adakd.METHODS.items() if row.on_logits])
def test_losses_are_those_of_the_cpu(method):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(16, 100, generator=generator) for _ in range(2))
    target = torch.arange(16)
    results = {}
    for device in ("cpu", "cuda"):
        logits = student.to(device, copy=True).requires_grad_()
        total = adakd.create_method(method).to(device)(logits, teacher.to(device), target.to(device)).total
        total.backward()
        results[device] = (total.detach().cpu(), logits.grad.cpu())
    torch.testing.assert_close(results["cuda"], results["cpu"], rtol=1e-4, atol=1e-6)


def test_views_are_those_of_the_cpu():
    data = adakd.load_data("gratings")
    data = type(data)(**{**vars(data), "padding": 2, "flip": True})
    for (images, labels), (expected, expected_labels) in zip(
        Views(data.to("cuda"), seed=3).batches(2, 512), Views(data, seed=3).batches(2, 512), strict=True
    ):
        assert torch.equal(labels.cpu(), expected_labels)
        torch.testing.assert_close(images.cpu(), expected, rtol=0, atol=1e-6)


def test_weights_drawn_on_the_gpu_follow_the_seed_and_its_random_state_stays():
    def on_gpu(num_classes):
        return torch.nn.Linear(4, num_classes, device="cuda")

    torch.cuda.manual_seed(5)
    state = torch.cuda.get_rng_state()
    first, second, other = (network_of(on_gpu).build(3, seed=seed).weight for seed in (7, 7, 8))
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("precision", ["auto", "fp32", "fp16"])
def test_a_run_on_the_gpu(precision, tiny_data, tiny_teacher, tmp_path):
    run = adakd.distill(
        tiny_teacher,
        "resnet8x0.5",
        "zkd+mlt",
        tiny_data,
        out=tmp_path,
        device="cuda",
        precision=precision,
        progress=False,
        epochs=2,
        batch_size=20,
        train_images=60,
    )
    assert run.record["hardware"]["gpu"]
    assert all(math.isfinite(row["loss"]) for row in run.history)
    assert {p.device.type for p in run.model().parameters()} == {"cpu"}


def test_runs_that_share_a_live_teacher(tiny_data, tiny_teacher, tmp_path):
    """In captured steps, with the networks of all of them in memory."""
    options = {"device": "cuda", "cache": None, "progress": False, "epochs": 2, "batch_size": 20}
    methods = ["ce", "kd", "zkd+mlt"]
    runs = adakd.compare(methods, (0,), tiny_teacher, "resnet8x0.5", tiny_data, out=tmp_path / "1", **options)
    for method, run in zip(methods, runs, strict=True):
        alone = adakd.distill(tiny_teacher, "resnet8x0.5", method, tiny_data, out=tmp_path / "2", **options)
        assert run.folder.name == alone.folder.name
        for row, other in zip(run.history, alone.history, strict=True):
            assert row["loss"] == pytest.approx(other["loss"], rel=0.02)
