"""The literature's loop does what ours does: otherwise its speed would compare nothing."""

import sys
from pathlib import Path

import pytest
import torch

from adakd import create_method, create_model
from adakd.bench import Ceiling, bench_step, ceiling, roofline_seconds, synthetic_data, turns
from adakd.data import Views
from adakd.training import Recipe, choose_precision

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import literature

CPU = torch.device("cpu")
FP32 = choose_precision("fp32", CPU, 0)


@pytest.fixture(scope="module")
def data():
    return synthetic_data(images=128, classes=10)


def test_pil_shows_the_same_images(data):
    views = Views(data, seed=2, subset=torch.arange(0, 128, 2))
    ours, theirs = views.batches(3, 16), literature.batches_of(data, views, 3, 16)
    for (images, labels), (expected, names) in zip(ours, theirs, strict=True):
        torch.testing.assert_close(images, expected, rtol=0, atol=1e-6)
        assert torch.equal(labels, names)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-11), (torch.float32, 4e-6)])
def test_its_loop_is_ours_step_by_step(data, dtype, rounding):
    """56 steps, each from the weights that the literature's loop has: the same loss and the same update."""
    model, mine, teacher = (create_model("resnet8x0.5", 10).to(dtype) for _ in range(3))
    teacher.eval()
    mine = mine.to(memory_format=torch.channels_last).train()
    criterion = create_method("kd")
    optimizer = Recipe("test", epochs=1, lr=0.05).optimizer(mine.parameters())
    steps = 0
    for epoch in range(1, 8):
        views = Views(data, seed=epoch)
        batches = [
            (images.to(dtype), labels) for images, labels in literature.batches_of(data, views, epoch, 16)
        ]
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for batch, (images, labels) in zip(batches, views.batches(epoch, 16), strict=True):
            if dtype is torch.float64:
                images = batch[0]  # the two ways to normalize a pixel differ in fp32's last digit
            mine.load_state_dict(before)
            optimizer.state.clear()  # a momentum of one step, as the loop below has
            with torch.no_grad():
                taught = teacher(images)
            total = criterion(mine(images), taught, labels, epoch=1).total
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            (loss,) = literature.train(model, teacher, [batch])
            assert total.item() == pytest.approx(loss, abs=rounding)
            for (name, tensor), updated in zip(
                model.state_dict().items(), mine.state_dict().values(), strict=True
            ):
                torch.testing.assert_close(updated, tensor, rtol=10 * rounding, atol=10 * rounding, msg=name)
            before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            steps += 1
    assert steps >= 50


def test_its_workers_deliver_every_image_once(data):
    labels = torch.cat([labels for _, labels in literature.loader_of(data, 50, workers=0)])
    assert torch.equal(labels.sort().values, data.train.labels.sort().values)


# ---- the measuring itself ----


def test_a_roofline_is_bound_by_what_is_scarce():
    model, images = create_model("resnet8x0.5", 10), torch.zeros(4, 3, 16, 16)
    slow_sums = roofline_seconds(model, images, Ceiling(1e9, 1e18, ""), training=False)
    slow_memory = roofline_seconds(model, images, Ceiling(1e18, 1e9, ""), training=False)
    both = roofline_seconds(model, images, Ceiling(1e9, 1e9, ""), training=False)
    assert max(slow_sums, slow_memory) < both <= slow_sums + slow_memory
    assert roofline_seconds(model, images, Ceiling(1e9, 1e18, ""), training=True) == pytest.approx(
        3 * slow_sums, rel=1e-6
    )


def test_a_roofline_counts_what_a_counter_counts():
    model, images = create_model("resnet20", 100), torch.zeros(2, 3, 32, 32)
    least = roofline_seconds(model, images, Ceiling(1.0, float("inf"), ""), training=False)
    assert least / 2 == pytest.approx(81.6e6, rel=0.01)  # MFLOP an image, as the design's table has it


def test_turns_measure_each_once_a_round():
    calls = {"a": 0, "b": 0}

    def count(name):
        calls[name] += 1

    spent = turns(
        {name: lambda name=name: count(name) for name in calls},
        CPU,
        reference="a",
        rounds=4,
        least=0.0,
        progress=False,
    )
    assert {name: len(values) for name, values in spent.items()} == {"a": 4, "b": 4}
    assert calls["b"] == 3 + 4


def test_a_ceiling_is_measured_where_nobody_published_one():
    limit = ceiling(CPU, FP32)
    assert limit.source == "measured"
    assert 1e9 < limit.flops < 1e15
    assert 1e8 < limit.bandwidth < 1e13


def test_a_step_is_split_into_parts_and_recorded():
    record = bench_step("resnet14", "resnet8", precision="fp32", rounds=2, least=0.01, progress=False)
    assert {"commit", "hardware", "versions", "config"} <= record.keys()
    share = {name: value["median"] for name, value in record["share"].items()}
    assert share["live"] == 1.0
    assert share["cached"] < 1.0
    assert 0 < record["fraction_of_peak"]["live"] < 1
    assert record["operations"]["student"] / 64 / 3 == pytest.approx(25.0e6, rel=0.02)


def test_a_step_without_a_teacher_is_refused():
    with pytest.raises(ValueError, match="expected one that distills, got 'ce'"):
        bench_step("resnet14", "resnet8", "ce", rounds=1, least=0.01, progress=False)
