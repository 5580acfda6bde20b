"""The literature's loop does what ours does: otherwise its speed would compare nothing."""

import gc
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from adakd import create_method, create_model
from adakd.bench import (
    Ceiling,
    StepBench,
    alternate,
    bench_step,
    ceiling,
    roofline_seconds,
    synthetic_data,
    turns,
)
from adakd.data import Views
from adakd.training import Recipe, choose_precision, write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import evidence
import literature
import peers

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


@pytest.mark.parametrize("pair", peers.PAIRS, ids=lambda pair: pair.method)
def test_a_published_formula_is_timed_beside_its_own_value(pair):
    batch = peers.batch_of(7, 11, torch.float64)
    theirs = pair.peer(*batch, 3)
    ours = create_method(pair.method).double()(*batch, 3).total
    gradients = [torch.autograd.grad(loss, batch[0])[0] for loss in (theirs, ours)]
    agree = torch.allclose(theirs, ours, rtol=1e-12) and torch.allclose(*gradients, rtol=1e-9, atol=1e-12)
    assert agree == pair.same


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


class Machine:
    """A clock that goes as its steps say, and as a machine does that has other work and grows warm."""

    def __init__(self, monkeypatch, drift=0.0, after_itself=0.0, disturbed=0):
        self.now, self.last, self.calls = 0.0, None, []
        self.drift, self.after_itself, self.disturbed = drift, after_itself, disturbed
        monkeypatch.setattr("adakd.bench.timing.time", SimpleNamespace(perf_counter=lambda: self.now))

    def step(self, name, seconds):
        def run():
            self.calls.append(name)
            spent = seconds + self.after_itself * (self.last == name) + self.drift * self.now
            if self.disturbed:
                spent *= 1 + 0.01 * torch.randn(()).item()
                spent *= 1 + 9 * torch.rand(()).item() * (torch.rand(()).item() < 1 / self.disturbed)
            self.now, self.last = self.now + spent, name

        return run

    def ratio(self, **options):
        return alternate(self.step("a", 1.004), self.step("b", 1.0), CPU, progress=False, **options)


def test_steps_alternate_in_pairs_that_begin_and_end_alike(monkeypatch):
    machine = Machine(monkeypatch)
    found = machine.ratio(pairs=6)
    assert machine.calls == ["a", "b", "b", "a"] * (5 + 6)
    exact = {
        "median": 1.004,
        "lowest": 1.004,
        "highest": 1.004,
        "low": 1.004,
        "high": 1.004,
        "of_medians": 1.004,
    }
    assert found == pytest.approx({**exact, "confidence": 0.95, "pairs": 6})


def test_neither_drift_nor_who_comes_before_is_taken_for_a_difference(monkeypatch):
    found = Machine(monkeypatch, drift=1e-4, after_itself=0.2).ratio(pairs=100)
    expected = (1.004 + 0.1) / (1 + 0.1)  # either comes once after itself, of twice
    assert found["median"] == pytest.approx(expected, abs=1e-4)
    assert found["high"] - found["low"] < 2e-4


def test_disturbances_widen_the_interval_and_do_not_move_it(monkeypatch):
    torch.manual_seed(0)
    found = Machine(monkeypatch, drift=1e-5, disturbed=10).ratio(pairs=300)
    assert found["lowest"] < 0.5
    assert found["highest"] > 2
    assert 1.0 < found["low"] <= 1.004 <= found["high"] < 1.008
    few = Machine(monkeypatch, disturbed=3).ratio(pairs=30)
    assert few["high"] - few["low"] > found["high"] - found["low"]


def test_the_collector_rests_while_the_clock_runs():
    def step():
        assert not gc.isenabled()

    alternate(step, step, CPU, pairs=6, progress=False)
    assert gc.isenabled()

    def broken():
        raise ConnectionError

    with pytest.raises(ConnectionError):
        alternate(step, broken, CPU, pairs=6, progress=False)
    assert gc.isenabled()


def test_too_few_pairs_are_refused_before_anything_is_timed():
    with pytest.raises(ValueError, match=r"pairs: expected at least 6 .* got 5"):
        bench_step(StepBench("nothing", "nothing", pairs=5))


def test_an_fp32_ceiling_is_that_of_the_faster_kind_of_product(monkeypatch):
    """A GPU's convolutions may use TF32 where its products do not: here they take no time at all."""
    matrix = torch.randn(64, 64)
    pixels = matrix.view(1, 2, 32, 64).permute(0, 3, 1, 2)
    same = torch.nn.functional.conv2d(pixels, matrix.view(64, 64, 1, 1))
    torch.testing.assert_close(same.permute(0, 2, 3, 1).reshape(64, 64), matrix @ matrix.T)
    plain = ceiling(CPU, FP32)
    monkeypatch.setattr("adakd.bench.roofline.conv2d", lambda pixels, filters: None)
    assert ceiling(CPU, FP32).flops > 100 * plain.flops
    bf16 = choose_precision("bf16", CPU, 0)
    assert ceiling(CPU, bf16).flops < 100 * plain.flops


def test_a_ceiling_is_measured_where_nobody_published_one():
    limit = ceiling(CPU, FP32)
    assert limit.source == "measured"
    assert 1e9 < limit.flops < 1e15
    assert 1e8 < limit.bandwidth < 1e13


def test_a_step_is_split_into_parts_and_recorded():
    settings = StepBench("resnet14", "resnet8", precision="fp32", rounds=2, least=0.01, pairs=6)
    record = bench_step(settings, progress=False)
    assert {"commit", "hardware", "versions", "config"} <= record.keys()
    share = {name: value["median"] for name, value in record["share"].items()}
    assert share["live"] == 1.0
    assert share["cached"] < 1.0
    operations = sum(
        record["operations"].values()
    )  # on a busy machine more a second than its ceiling just then
    assert record["fraction_of_peak"]["live"] == pytest.approx(
        operations / record["seconds"]["live"]["median"] / record["ceiling"]["flops"]
    )
    adapting = record["adaptive_to_fixed"]
    assert adapting["lowest"] == adapting["low"] <= adapting["median"] <= adapting["high"]
    assert (adapting["pairs"], record["config"]["pairs"]) == (6, 6)
    assert record["operations"]["student"] / 64 / 3 == pytest.approx(25.0e6, rel=0.02)


def test_a_step_without_a_teacher_is_refused():
    with pytest.raises(ValueError, match="expected one that distills by logits, got 'ce'"):
        bench_step(StepBench("resnet14", "resnet8", "ce", rounds=1, least=0.01), progress=False)


@pytest.mark.parametrize(("how", "compiled"), [("eager", False), ("compiled", True), ("compiled-avx512", True)])
def test_every_loss_is_faster_than_the_published_formula_as_the_page_of_methods_says(how, compiled):
    record = json.loads((Path(__file__).parents[1] / f"book/records/bench/peers-{how}.json").read_text())
    assert record["status"] == "complete"
    assert record["config"]["compiled"] is compiled
    assert [row["method"] for row in record["rows"]] == [pair.method for pair in peers.PAIRS]
    for row in record["rows"]:
        assert all(ratio["low"] > 1 for ratio in row["peer_to_ours"].values()), row["method"]


class Shared(evidence.Evidence):
    """One run is wanted, and another process ends it while this one is about to claim it."""

    def __init__(self, folder):
        super().__init__(folder, folder)
        self.looks, self.carried_out = 0, []

    def wanted(self):
        return [evidence.Wanted("kd", 0, {})], {"settings": []}

    def about(self, experiment, plan):
        return {}

    def done(self, experiment):
        self.looks += 1
        if self.looks > 1 or self.carried_out:
            yield "kd", 0, {}

    def carry_out(self, experiment, row):
        self.carried_out.append(row)


def test_what_another_process_has_just_ended_is_not_done_again(tmp_path):
    one = Shared(tmp_path)
    one.run("wanted")
    assert (one.looks, one.carried_out) == (2, [])


def test_a_plan_of_other_settings_is_told_of_and_kept(tmp_path, caplog):
    write_json(tmp_path / "wanted.json", {"config": {"settings": [{"method": "kd", "tau": 2.0}]}})
    Shared(tmp_path).run("wanted")
    assert "names other settings" in caplog.text
    assert json.loads((tmp_path / "wanted.json").read_text())["config"]["settings"][0]["tau"] == 2.0
    caplog.clear()
    (tmp_path / "wanted.json").unlink()
    Shared(tmp_path).run("wanted")
    Shared(tmp_path).run("wanted")
    assert not caplog.text
