"""Teachers that are no single network: several as one, and recorded logits."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import adakd
from adakd import Ensemble, Recorded
from adakd.data import Tokens
from adakd.models import seeded_model
from adakd.teachers.find import load_teacher, locate_teacher
from adakd.teachers.recorded import RecordedTeacher, Rows

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
        ({"values": torch.zeros(60, 3)}, "expected 'logits', or 'indices' and 'values', got values"),
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
        ({"values": torch.full((60, 3), -2.0), "indices": torch.zeros(60, 2).long()}, "values of the shape of"),
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
        ({"data": "five"}, TypeError, "expected ImageData or TokenData, got str"),
        ({"network": Bigrams(6)}, ValueError, r"logits of the 5 classes of five, got shape \(25, 16, 6\)"),
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
