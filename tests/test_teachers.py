"""Teachers that are no single network: several as one, and recorded logits."""

import dataclasses
import hashlib
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import adakd
from adakd import Ensemble, Recorded
from adakd.data import Tokens
from adakd.models import create_model, seeded_model
from adakd.study import Study, run_study
from adakd.teachers.find import load_teacher, locate_teacher
from adakd.teachers.recorded import RecordedTeacher, Rows, _coded
from adakd.temperatures import measure_temperatures
from adakd.training import load_weights

NAME = "resnet8x0.5"
SMALL = {"device": "cpu", "precision": "fp32", "progress": False, "epochs": 2, "batch_size": 20}


def networks(count=2):
    return [seeded_model(NAME, 10, seed).eval() for seed in range(1, count + 1)]


def distilled(teacher, data, out, method="kd", **options):
    return adakd.distill(teacher, NAME, method, data, out=out, **{**SMALL, "train_images": 50, **options})


# ---- several as one ----


def test_the_mean_of_an_ensemble_is_the_one_that_is_said():
    one, other = networks()
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = Ensemble(one, other, mean="logits")(images)
        assert torch.allclose(logits, (one(images) + other(images)) / 2, atol=1e-6)
        probabilities = Ensemble(one, other)(images).exp()
        expected = (one(images).softmax(1) + other(images).softmax(1)) / 2
        assert torch.allclose(probabilities, expected, atol=1e-6)


@pytest.mark.parametrize("cache", ["fp32", None])
def test_an_ensemble_teaches_and_is_recorded(cache, tiny_data, tmp_path):
    members = networks()
    runs = {
        mean: distilled(Ensemble(*members, mean=mean), tiny_data, tmp_path, cache=cache)
        for mean in ("probabilities", "logits")
    }
    assert [run.record["teacher"]["model"] for run in runs.values()] == [
        "ensemble-of-2-probabilities",
        "ensemble-of-2-logits",
    ]
    assert len({run.record["weights_sha256"] for run in runs.values()}) == 2
    assert all("accuracy" in run.record["teacher"] for run in runs.values())
    # Of one and the same network it is that network.
    twice = distilled(Ensemble(members[0], members[0], mean="logits"), tiny_data, tmp_path, cache=cache)
    assert twice.history == distilled(members[0], tiny_data, tmp_path, cache=cache).history


def test_an_ensemble_of_runs(tiny_data, tiny_teacher, tmp_path):
    run = distilled(Ensemble(tiny_teacher, networks(1)[0]), tiny_data, tmp_path)
    assert run.record["config"]["teacher"]["model"] == "ensemble-of-2-probabilities"


@pytest.mark.parametrize(
    ("members", "mean", "error", "message"),
    [
        (2, "median", ValueError, "'probabilities' or 'logits', got 'median'"),
        (None, "logits", TypeError, "expected torch.nn.Module or a finished Run, got str at 0"),
    ],
)
def test_ensembles_that_cannot_be(members, mean, error, message):
    with pytest.raises(error, match=message):
        Ensemble(*(networks(members) if members else ("a", "b")), mean=mean)


# ---- a file of logits ----


def recorded_logits(data):
    """Of a network, of which a live teacher has the same: the data have one view an image."""
    (network,) = networks(1)
    places = torch.arange(len(data.train))
    with torch.no_grad():
        return network, network(adakd.data.Views(data, seed=0).at(places))


def test_recorded_logits_teach_as_the_network_does(tiny_data, tmp_path):
    network, logits = recorded_logits(tiny_data)
    np.save(tmp_path / "full.npy", logits.numpy())
    np.save(tmp_path / "views.npy", logits[:, None].numpy())
    save_file({"logits": logits}, tmp_path / "full.safetensors")
    live = distilled(network, tiny_data, tmp_path, cache=None)
    for name in ("full.npy", "views.npy", "full.safetensors"):
        run = distilled(Recorded(tmp_path / name), tiny_data, tmp_path)
        assert [row["kd"] for row in run.history] == pytest.approx(
            [row["kd"] for row in live.history], rel=1e-4
        )
        assert run.record["teacher"]["logits"] == "recorded"
        right = (logits.argmax(1) == tiny_data.train.labels).double().mean().item()
        assert run.record["teacher"]["transfer_accuracy"] == pytest.approx(100 * right)
        assert distilled(Recorded(tmp_path / name), tiny_data, tmp_path).folder == run.folder


def top(logits, k):
    values, indices = logits.log_softmax(1).topk(k)
    return {"values": values.contiguous(), "indices": indices.contiguous()}


def test_all_classes_as_the_highest_are_all_classes(tiny_data, tmp_path):
    _, logits = recorded_logits(tiny_data)
    save_file(top(logits, 10), tmp_path / "all.safetensors")
    for missing in ("zero", "uniform"):
        found = Recorded(tmp_path / "all.safetensors", missing).logits(10)
        assert torch.allclose(found.softmax(1), logits.softmax(1), atol=1e-6)


def test_missing_mass(tmp_path):
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    p = logits.softmax(1)[0]
    save_file(top(logits, 2), tmp_path / "two.safetensors")
    zero = Recorded(tmp_path / "two.safetensors", "zero").logits(4).softmax(1)[0]
    assert torch.allclose(zero, torch.stack([*(p[:2] / p[:2].sum()), *torch.zeros(2)]), atol=1e-6)
    uniform = Recorded(tmp_path / "two.safetensors", "uniform").logits(4).softmax(1)[0]
    assert torch.allclose(uniform, torch.stack([*p[:2], *[(1 - p[:2].sum()) / 2] * 2]), atol=1e-6)


def test_sampled_classes_have_their_share_without_bias(tmp_path):
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draws = torch.multinomial(p, 4000, replacement=True, generator=torch.Generator().manual_seed(0))
    save_file({"indices": draws.reshape(1000, 4)}, tmp_path / "draws.safetensors")
    found = Recorded(tmp_path / "draws.safetensors", "sampled").logits(4).double().exp()
    assert torch.allclose(found.sum(1), torch.ones(1000, dtype=torch.float64), atol=1e-6)
    expected = draws.bincount(minlength=4) / 4000
    assert torch.allclose(found.mean(0), expected.double(), atol=1e-6)
    assert torch.allclose(found.mean(0).float(), p, atol=4 * math.sqrt(0.25 / 4000))


@pytest.mark.parametrize("missing", ["zero", "uniform", "sampled"])
def test_how_the_missing_mass_is_taken_is_another_run(missing, tiny_data, tmp_path):
    _, logits = recorded_logits(tiny_data)
    save_file(top(logits, 3), tmp_path / "three.safetensors")
    run = distilled(Recorded(tmp_path / "three.safetensors", missing), tiny_data, tmp_path)
    assert run.record["config"]["teacher"]["missing"] == missing
    assert all(math.isfinite(row["loss"]) for row in run.history)


def test_a_recorded_file_is_held_against_its_hash(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4), np.float32))
    recorded = Recorded(tmp_path / "a.npy")
    assert Recorded(tmp_path / "a.npy", sha256=recorded.sha256).sha256 == recorded.sha256
    np.save(tmp_path / "a.npy", np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match="is not the file that it was"):
        Recorded(tmp_path / "a.npy", sha256=recorded.sha256)


def written(folder, content):
    path = folder / ("a.npy" if isinstance(content, np.ndarray) else "a.safetensors")
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save_file(content, path)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nothing", "cannot be read as logits"),
        ({"values": torch.zeros(60, 3)}, "or 'indices' and 'codes' and 'scale', got values"),
        (np.zeros((60, 9), np.float32), r"\(N, 10\) or \(N, V, 10\)"),
        (np.zeros((60, 10), np.int64), "expected floating-point logits"),
        (np.zeros((59, 10), np.float32), "expected logits of 60 training images"),
        (np.zeros((60, 2, 10), np.float32), "in 1 views"),
        (np.full((60, 10), np.nan, np.float32), "NaN or infinite"),
        (
            {"values": torch.zeros(60, 2), "indices": torch.tensor([[0, 1]]).repeat(60, 1)},
            "sum to at most 1; got a sum of 2",
        ),
        (
            {"values": torch.full((60, 2), -1.0), "indices": torch.tensor([[0, 10]]).repeat(60, 1)},
            "indices .* from 0 to 9",
        ),
        (
            {"values": torch.full((60, 2), -1.0), "indices": torch.tensor([[1, 1]]).repeat(60, 1)},
            "a class stands twice",
        ),
        (
            {"values": torch.full((60, 2), -1.0), "indices": torch.tensor([[0.9, 1.9]]).repeat(60, 1)},
            r"expected indices to be integers.*got torch.float32; convert them: indices.long\(\)",
        ),
        (
            {"values": torch.full((60, 2), -1.0), "indices": torch.tensor([[False, True]]).repeat(60, 1)},
            "expected indices to be integers.*got torch.bool",
        ),
        (
            {"values": torch.full((60, 2), -1), "indices": torch.tensor([[0, 1]]).repeat(60, 1)},
            "expected values to be log-probabilities, floating-point numbers, got torch.int64",
        ),
        (
            {
                "values": torch.full((60, 2), -1.0).to(torch.float8_e4m3fn),
                "indices": torch.tensor([[0, 1]]).repeat(60, 1),
            },
            "expected values in float16, bfloat16, float32 or float64, got torch.float8_e4m3fn",
        ),
        (
            {"logits": torch.zeros(60, 10).to(torch.float8_e5m2)},
            r"expected logits in float16, .* got torch.float8_e5m2; convert them .*logits.half\(\)",
        ),
        ({"values": torch.full((60, 3), -2.0), "indices": torch.zeros(60, 2).long()}, "values of the shape of"),
        (
            {
                "codes": torch.zeros(60, 2),
                "scale": torch.ones(1),
                "indices": torch.tensor([[0, 1]]).repeat(60, 1),
            },
            "expected codes in torch.uint8 and a floating-point scale",
        ),
        (
            {
                "codes": torch.zeros(60, 2, dtype=torch.uint8),
                "scale": torch.ones(1),
                "indices": torch.tensor([[0, 1]]).repeat(60, 1),
            },
            r"expected codes \(..., 3\), one more than indices, got \(60, 2\)",
        ),
        (
            {
                "codes": torch.zeros(60, 3, dtype=torch.uint8),
                "scale": torch.tensor([math.inf]),
                "indices": torch.tensor([[0, 1]]).repeat(60, 1),
            },
            "expected finite scales above 0, got inf",
        ),
        *(
            (
                {
                    "codes": torch.zeros(60, 3, dtype=torch.uint8),
                    "scale": scale,
                    "indices": torch.tensor([[0, 1]]).repeat(60, 1),
                },
                message,
            )
            for scale, message in (
                (
                    torch.ones(1, dtype=torch.complex64),
                    r"scale \(1,\), or \(60, 1\), got torch.uint8 and torch.complex64",
                ),
                (torch.ones(1, dtype=torch.int64), "got torch.uint8 and torch.int64"),
                (torch.ones(60), r"got torch.uint8 and torch.float32 of shape \(60,\)"),
                (
                    torch.ones(60, 1).index_fill(0, torch.tensor(7), -1),
                    "expected finite scales above 0, got -1",
                ),
            )
        ),
        (
            {"logits": torch.zeros(60, 10), "examples": torch.zeros(60, 5, dtype=torch.uint8)},
            "a hash of 6 bytes",
        ),
        (
            {"logits": torch.zeros(60, 10), "examples": torch.zeros(60, 6, dtype=torch.uint8)},
            "60 of the 60 training images of .* are not among those",
        ),
    ],
)
def test_files_that_are_no_teacher(content, message, tiny_data, tmp_path):
    with pytest.raises(ValueError, match=message):
        distilled(Recorded(written(tmp_path, content)), tiny_data, tmp_path / "out")
    assert not list(tmp_path.rglob("record.json"))


def test_a_recording_of_images_is_the_networks(tiny_data, tmp_path):
    network, logits = recorded_logits(tiny_data)
    network.train()
    made = adakd.record_logits(network, tiny_data, tmp_path / "net.safetensors", batch_size=7)
    assert network.training
    assert torch.allclose(made.logits(10), logits, atol=1e-5)
    three = adakd.record_logits(network, tiny_data, tmp_path / "three.safetensors", top=3).logits(10)
    p, q = logits.softmax(1), three.softmax(1)
    assert torch.allclose(p.topk(3).values, q.topk(3).values, atol=1e-6)
    assert q.sort(1).values[:, :7].std(dim=1).max() < 1e-6  # the rest, evenly


def shuffled(data, order):
    """The same images in another order, or some of them."""
    part = adakd.data.Split(data.train.images[order], data.train.labels[order])
    return dataclasses.replace(data, train=part)


def test_the_rows_of_images_are_found_whatever_their_order(tiny_data, tmp_path):
    network, logits = recorded_logits(tiny_data)
    adakd.record_logits(network, tiny_data, tmp_path / "net.safetensors")
    recorded = Recorded(tmp_path / "net.safetensors")
    assert torch.allclose(recorded.for_data(tiny_data).rows.at(...), logits, atol=1e-5)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(recorded.for_data(shuffled(tiny_data, order)).rows.at(...), logits[order], atol=1e-5)
    some = order[:20]
    assert torch.allclose(recorded.for_data(shuffled(tiny_data, some)).rows.at(...), logits[some], atol=1e-5)
    other = shuffled(tiny_data, order)
    other.train.images[3] += 1
    with pytest.raises(ValueError, match=r"1 of the 60 training images of .* are not among those"):
        recorded.for_data(other)


def test_eight_bits_lose_less_than_the_classes_that_are_left_out(tiny_data, tmp_path):
    network, logits = recorded_logits(tiny_data)
    p = (3 * logits).softmax(1)
    network = torch.nn.Sequential(network, Times(3.0))
    files = {
        bits: adakd.record_logits(network, tiny_data, tmp_path / f"{bits}.safetensors", top=4, bits=bits)
        for bits in (8, 32)
    }
    assert (tmp_path / "8.safetensors").stat().st_size < 60 * (4 * 2 + 1 + 6) + 500
    q = {bits: file.logits(10).softmax(1) for bits, file in files.items()}
    assert torch.allclose(q[8].sum(1), torch.ones(60))
    for tau in (
        1,
        4,
    ):  # at a high temperature the classes that are left out weigh most, and their probability is hardest to keep
        log_p = (p.log() / tau).log_softmax(1)
        log_q = {bits: (q[bits].log() / tau).log_softmax(1) for bits in files}
        lost = {bits: (log_p.exp() * (log_p - log_q[bits])).sum(1).mean() for bits in files}
        assert lost[8] < 1.1 * lost[32] + 1e-3, tau
    order = torch.arange(59, -1, -1)
    backwards = files[8].for_data(shuffled(tiny_data, order)).rows
    assert torch.equal(backwards.at(...), files[8].logits(10)[order])
    assert distilled(files[8], tiny_data, tmp_path).record["teacher"]["missing"] == "uniform"


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("share", [0.16, 1.0])
@pytest.mark.parametrize("sure", [0.0, 2000.0])
def test_a_row_that_is_sure_makes_no_other_coarse(classes, share, sure):
    """The bounds of `record_logits`' docstring."""
    logits = 3 * torch.randn(500, classes, generator=torch.Generator().manual_seed(0)).double()
    logits[0, 0] += sure
    values, indices = logits.log_softmax(1).topk(max(2, int(share * classes)))
    exact = Rows({"values": values, "indices": indices}, classes, "uniform").at(...)[1:].double()
    rows = Rows({"indices": indices, **_coded(values, classes)}, classes, "uniform")
    rows.check()
    coded = rows.at(...).double()
    assert coded.exp().sum(1).allclose(torch.ones((), dtype=torch.float64), atol=1e-5)
    if sure:
        assert coded[0].argmax() == 0
        assert -70 < coded[0].min() < -50
    coded = coded[1:]
    assert (exact.exp() * (exact - coded)).sum(1).mean() < 1e-4
    assert (exact - coded).abs()[exact > -7].max() < 0.06
    one = rows.at((torch.tensor([3, 1]),))
    assert torch.equal(one.double(), rows.at(...).double()[[3, 1]])


def test_a_file_with_one_scale_is_read_as_before():
    codes = torch.tensor([[0, 100, 255]], dtype=torch.uint8)
    rows = Rows(
        {"codes": codes, "scale": torch.tensor([20.0]), "indices": torch.tensor([[2, 0]])}, 4, "uniform"
    )
    rows.check()
    falls = torch.tensor([20 * (100 / 255) ** 2, 20.0, 0.0, 20.0])
    assert torch.allclose(rows.at(...)[0], (-falls).log_softmax(0), atol=1e-6)
    path = Path(__file__).parents[1] / "book/records/answers/wrn_16_2-cifar100-top16.safetensors"
    answers = Recorded(path)
    assert answers._tensors["scale"].shape == (1,)
    assert answers.rows(100).at((torch.arange(9),)).exp().sum(1).allclose(torch.ones(()), atol=1e-5)


class Times(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def test_a_file_of_logits_is_a_teacher_by_its_path(tiny_data, tmp_path):
    network, _ = recorded_logits(tiny_data)
    made = adakd.record_logits(network, tiny_data, tmp_path / "net.safetensors", top=3, bits=8)
    run = distilled(made, tiny_data, tmp_path)
    for path in (made.path, str(made.path)):
        assert distilled(path, tiny_data, tmp_path).folder == run.folder
    save_file({"weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(
        adakd.TeacherError, match=r"--teacher-weights.*Nor are these recorded logits: .*got weight"
    ):
        distilled(tmp_path / "weights.safetensors", tiny_data, tmp_path)


def studied(teacher, data, out, way="matched"):
    study = Study(("kd",), (0,), ways=(way,))
    return run_study(study, out / "study", teacher, NAME, data, train_images=50, **SMALL)


@pytest.mark.parametrize(
    "asks",
    [
        studied,
        lambda teacher, data, out: adakd.cache_teacher(teacher, data, out=out, device="cpu"),
        lambda teacher, data, out: measure_temperatures(teacher, data=data, out=out, device="cpu"),
    ],
    ids=["study", "cache", "temperatures"],
)
def test_what_asks_the_network_itself_refuses_recorded_logits(asks, tiny_data, tmp_path):
    np.save(tmp_path / "full.npy", recorded_logits(tiny_data)[1].numpy())
    with pytest.raises(ValueError, match="teacher: expected a network, got recorded logits, which exist for"):
        asks(tmp_path / "full.npy", tiny_data, tmp_path)


def test_a_study_at_published_weights_asks_no_network(tiny_data, tmp_path):
    np.save(tmp_path / "full.npy", recorded_logits(tiny_data)[1].numpy())
    (record,) = studied(tmp_path / "full.npy", tiny_data, tmp_path, "published")
    assert (
        record["config"]["teacher"]
        == distilled(tmp_path / "full.npy", tiny_data, tmp_path).record["config"]["teacher"]
    )


# ---- a file of logits for text ----


class Bigrams(torch.nn.Module):
    """What follows a token, whatever stands before it: a window knows as much of it as the whole passage."""

    def __init__(self, classes):
        super().__init__()
        rows = 3 * torch.randn(classes, classes, generator=torch.Generator().manual_seed(5))
        self.rows = torch.nn.Embedding.from_pretrained(rows)

    def forward(self, tokens):
        return self.rows(tokens)


class Counting(torch.nn.Module):
    """How many tokens of the window a row has seen, as its first logit."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, tokens):
        rows = torch.zeros(*tokens.shape, self.classes)
        rows[..., 0] = torch.arange(tokens.shape[1]) + 1.0
        return rows


@pytest.fixture(scope="module")
def text():
    stream = torch.randint(5, (480,), generator=torch.Generator().manual_seed(3))
    return adakd.TokenData("five", Tokens(stream[:400], 8), Tokens(stream[400:], 8), tuple("abcde"))


def read(teacher, data, out, **options):
    settings = {"device": "cpu", "precision": "fp32", "progress": False, "epochs": 2, "batch_size": 5}
    return adakd.distill(teacher, "gru16", "kd", data, out=out, **{**settings, "train_images": 20, **options})


def test_recorded_tokens_teach_as_the_network_does(text, tmp_path):
    network = Bigrams(5)
    live = read(network, text, tmp_path, cache=None)
    whole = adakd.record_logits(network, text, tmp_path / "whole.safetensors", batch_size=3)
    all_five = adakd.record_logits(network, text, tmp_path / "five.safetensors", top=5)
    labels = text.train.passages[:, 1:]
    right = (network.rows(text.train.passages[:, :-1]).argmax(-1) == labels).double().mean().item()
    for teacher in (whole, all_five):
        run = read(teacher, text, tmp_path)
        assert [row["kd"] for row in run.history] == pytest.approx(
            [row["kd"] for row in live.history], rel=1e-4
        )
        assert run.record["teacher"]["transfer_accuracy"] == pytest.approx(100 * right)
        assert read(Recorded(teacher.path), text, tmp_path).folder == run.folder
    assert run.record["config"]["teacher"]["missing"] == "uniform"


def test_a_token_is_read_from_the_longest_context_of_a_window(text, tmp_path):
    made = adakd.record_logits(Counting(5), text, tmp_path / "counts.safetensors").logits(5)
    assert made.shape == (25, 16, 5)
    assert made[:, :, 0].unique(dim=0).tolist() == [[*range(1, 9), *[8] * 8]]


def test_a_window_reads_the_rows_of_its_tokens(text):
    """The number of a row is its value; the places are those of the windows' own tokens."""
    numbers = torch.arange(25 * 16.0).reshape(25, 16, 1).expand(25, 16, 5)
    rows = Rows({"logits": numbers}, 5, "uniform")
    source = RecordedTeacher(rows, {}).source(SimpleNamespace(data=text), None, None)
    slots = torch.tensor([0, 3, 8, 17, 199])  # passage · 8 + view
    for slot, row in zip(slots.tolist(), source.signals(None, slots).logits, strict=True):
        passage, view = divmod(slot, 8)
        assert row[:, 0].tolist() == [passage * 16 + view + place for place in range(8)]


def test_memory_holds_what_the_file_holds(text, tmp_path):
    made = adakd.record_logits(Bigrams(5), text, tmp_path / "two.safetensors", top=2)
    rows = made.rows(5)
    assert {name: tensor.numel() for name, tensor in rows.tensors.items()} == dict.fromkeys(
        ("values", "indices"), 25 * 16 * 2
    )
    some = (torch.tensor([[3], [4]]), torch.tensor([[0, 1], [9, 15]]))
    assert torch.equal(rows.at(some), made.logits(5)[some])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            np.zeros((25, 15, 5), np.float32),
            "expected logits of 25 training passages of five at their 16 tokens",
        ),
        (np.zeros((25, 5), np.float32), r"at their 16 tokens, got shape \(25, 5\)"),
        (np.zeros((24, 16, 5), np.float32), "of 25 training passages"),
        (np.zeros((25, 16, 4), np.float32), "floating-point logits"),
    ],
)
def test_files_that_are_no_teacher_of_a_text(content, message, text, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(Recorded(written(tmp_path, content)), text, tmp_path / "out")
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"path": "net.npy"}, ValueError, "expected a .safetensors file, got 'net.npy'"),
        ({"top": 0}, ValueError, "top: expected an integer from 1 to the 5 classes, got 0"),
        ({"top": 6}, ValueError, "from 1 to the 5 classes, got 6"),
        ({"top": True}, ValueError, "got True"),
        ({"bits": 8}, ValueError, "8 with top=, got 8 with top=None"),
        ({"bits": 4, "top": 2}, ValueError, "bits: expected 32, or 8"),
        ({"data": "five"}, TypeError, "expected ImageData or TokenData, got str"),
        ({"network": Bigrams(6)}, ValueError, r"logits of the 5 classes of five, .* got shape \(25, 8, 6\)"),
        ({"network": torch.nn.Identity()}, ValueError, "not finite"),
    ],
)
def test_what_cannot_be_recorded(change, error, message, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if isinstance(change.get("network"), torch.nn.Identity):
        change["network"].forward = lambda tokens: torch.full((*tokens.shape, 5), torch.nan)
    with pytest.raises(error, match=message):
        adakd.record_logits(**{"network": Bigrams(5), "data": text, "path": "net.safetensors", **change})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: torch.zeros(len(x) - 1, 10), r"of shape \(7, 10\) for 7 images, got shape \(6, 10\)"),
        (lambda x: torch.zeros(1, 10), r"got shape \(1, 10\)"),
        (lambda x: torch.zeros(len(x), 10, 1), r"got shape \(7, 10, 1\)"),
        (lambda x: torch.zeros(len(x), 4, 10), r"got shape \(7, 4, 10\)"),
        (lambda x: torch.zeros(len(x)), r"got shape \(7,\)"),
        (lambda x: torch.zeros(len(x), 10).long(), "expected floating-point logits, .* got torch.int64"),
        (lambda x: torch.zeros(len(x), 10) > 0, "got torch.bool"),
        (lambda x: torch.zeros(len(x), 10, dtype=torch.complex64), "got torch.complex64"),
    ],
)
def test_outputs_that_are_no_logits_of_the_images_are_not_recorded(output, message, tiny_data, tmp_path):
    network = torch.nn.Identity()
    network.forward = output
    with pytest.raises(ValueError, match=f"^network: .*{message}"):
        adakd.record_logits(network, tiny_data, tmp_path / "net.safetensors", batch_size=7)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("cut", "shape"),
    [(lambda x: x[:, -1], "3, 5"), (lambda x: x[:, :4], "3, 4, 5"), (lambda x: x[:1], "1, 8, 5")],
)
def test_outputs_that_are_no_logits_of_the_tokens_are_not_recorded(cut, shape, text, tmp_path):
    network = Bigrams(5)
    of_tokens = network.forward
    network.forward = lambda tokens: cut(of_tokens(tokens))
    with pytest.raises(ValueError, match=rf"of shape \(3, 8, 5\) for 3 passages, got shape \({shape}\)"):
        adakd.record_logits(network, text, tmp_path / "net.safetensors", batch_size=3)
    assert list(tmp_path.iterdir()) == []


# ---- published weights of the larger networks ----


@pytest.mark.parametrize("wrap", ["model", "net"])
@pytest.mark.parametrize("name", ["MobileNetV2", "ShuffleV1", "ShuffleV2", "ResNet50"])
def test_published_weights_of_the_tables_networks_teach(name, wrap, tiny_data, tmp_path):
    """As the repositories of the literature save them: wrapped, with the epoch and the best accuracy beside them."""
    published = seeded_model(name, 10, seed=3)
    path = tmp_path / "ckpt_epoch_240.pth"
    torch.save({"epoch": 240, "best_acc": torch.tensor(70.1), wrap: published.state_dict()}, path)
    teacher = load_teacher(name, locate_teacher(name, path, "gratings", tmp_path), tiny_data)
    assert teacher.identity["model"] == name
    assert not teacher.model.training
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(teacher.model(images), published.eval()(images))
    other = {"MobileNetV2": "ShuffleV1"}.get(name, "MobileNetV2")
    with pytest.raises(adakd.WeightsError, match="does not fit"):
        load_teacher(other, locate_teacher(other, path, "gratings", tmp_path), tiny_data)


@pytest.mark.slow
def test_a_published_teacher_and_a_student_of_depthwise_convolutions(tiny_data, tmp_path):
    torch.save({"net": seeded_model("MobileNetV2", 10, seed=3).state_dict()}, tmp_path / "published.pth")
    settings = {**SMALL, "train_images": 20, "batch_size": 10, "epochs": 1, "recipe": "paper"}
    settings["cache"] = None  # an untrained MobileNetV2 says next to nothing, in fp16 nothing at all
    weights = {"teacher_weights": tmp_path / "published.pth"}
    run = adakd.distill("MobileNetV2", "ShuffleV2", "kd", tiny_data, out=tmp_path, **weights, **settings)
    assert run.record["config"]["recipe"]["lr"] == 0.01
    assert run.record["teacher"]["model"] == "MobileNetV2"
    assert adakd.load_weights(seeded_model("ShuffleV2", 10, 0), run.folder / "weights.safetensors")


# ---- the answers that are in the tree ----

ANSWERS = Path(__file__).parents[1] / "book/records/answers/wrn_16_2-cifar100-top16.safetensors"


def test_the_published_answers_are_those_of_their_card():
    card = json.loads(ANSWERS.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["file"]["bytes"] == ANSWERS.stat().st_size < 2_000_000
    rows = Recorded(ANSWERS, sha256=card["file"]["sha256"]).rows(100)
    assert rows.shape == (card["data"]["images"],) == (50_000,)
    values, rest = rows.known(...)
    assert torch.allclose(values.exp().sum(1) + 84 * rest.exp()[:, 0], torch.ones(50_000, dtype=torch.float64))
    assert 84 * rest.exp().mean().item() == pytest.approx(card["beyond"], rel=0.05)

    teacher = ANSWERS.parents[1] / "teachers/wrn_16_2-cifar100-quick-seed0.safetensors"
    assert card["teacher"]["sha256"] == hashlib.sha256(teacher.read_bytes()).hexdigest()
    found = {(row["missing"], row["bits"], row["tau"]): row["kl"] for row in card["lost"]}
    for missing in ("uniform", "zero"):  # what the page of records says of the eight bits
        for tau in card["config"]["taus"]:
            assert found[missing, 8, tau] < 1.1 * found[missing, 32, tau] + 1e-3


@pytest.mark.skipif("ADAKD_DATA" not in os.environ, reason="ADAKD_DATA names no CIFAR-100")
def test_the_published_answers_are_the_teachers():
    data = adakd.load_data("cifar100", official=False)
    some = shuffled(data, torch.arange(49_999, 0, -997))
    teacher = ANSWERS.parents[1] / "teachers/wrn_16_2-cifar100-quick-seed0.safetensors"
    network = load_weights(create_model("wrn_16_2", 100), teacher).eval()
    with torch.no_grad():
        images, _ = next(adakd.data.eval_batches(dataclasses.replace(some, test=some.train), 100))
        p = network(images).double().softmax(1)
    q = Recorded(ANSWERS).for_data(some).rows.at(...).double().exp()
    assert (p.argmax(1) == q.argmax(1)).double().mean() > 0.95  # near ties are rounded apart
    assert 0.5 * (p - q).abs().sum(1).mean() < 0.03
