"""Anybody's network, data and loss through the same calls as ours, and what identifies such a run."""

import dataclasses
import functools
import importlib.util
import json
import os
import random
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import adakd
from adakd import ImageData, LogitObjective, TokenData, create_model, evaluate
from adakd.cli import main
from adakd.data import Split, Tokens, checksum_of, identity_of, images, load_gratings, load_sentences, tokens
from adakd.export import export_network
from adakd.models import network_of
from adakd.models.network import settings_of
from adakd.plan import Request, plan_student
from adakd.runs import Resources
from adakd.study.tables import OF_NETWORK
from adakd.temperatures import measure_temperatures
from adakd.training import files, load_weights, loop, save_weights

SMALL = {"device": "cpu", "precision": "fp32", "progress": False, "epochs": 1, "batch_size": 20}


class MyCNN(nn.Module):
    """What a newcomer brings along."""

    def __init__(self, num_classes, width=8):
        super().__init__()
        self.features = nn.Conv2d(3, width, 3, stride=2)
        self.act = nn.ReLU()
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.act(self.features(x)).mean((2, 3)))


class Wrapped(nn.Module):
    """A network whose output holds the logits, as those of other libraries."""

    def __init__(self, num_classes):
        super().__init__()
        self.net = MyCNN(num_classes)

    def forward(self, x):
        return {"logits": self.net(x)}


def own_data(channels=3, name="mine"):
    images = torch.randint(
        256, (60, 16, 16, channels), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    split = Split(images, torch.arange(60) % 4)
    return ImageData(name, split, split, ("a", "b", "c", "d"), (0.5,) * channels, (0.25,) * channels)


def config_of(run):
    return run.record["config"]


def test_own_network_and_own_data_in_three_lines(tmp_path):
    data = own_data()
    teacher = adakd.train_teacher(MyCNN, data, out=tmp_path, **SMALL)
    student = adakd.distill(teacher, MyCNN, "zkd+mlt", data, out=tmp_path, **SMALL)
    assert config_of(student)["model"] == config_of(teacher)["model"] == "MyCNN"
    assert config_of(student)["teacher"]["sha256"] == teacher.record["weights_sha256"]
    assert student.folder.parent == tmp_path / "mine" / "MyCNN"
    # The accuracy again: in this process, and from the folder alone.
    assert evaluate(student, data=data, device="cpu") == student.accuracy
    assert evaluate(student.folder, data=data, network=MyCNN, device="cpu") == student.accuracy
    with pytest.raises(ValueError, match=r"'MyCNN' of .* is not known here: give .*open_run\(.*network="):
        evaluate(student.folder, data=data, device="cpu")
    with pytest.raises(
        ValueError, match=r"data that have no name here \('mine'\); give them: evaluate\(run, data="
    ):
        evaluate(student.folder, network=MyCNN, device="cpu")
    with pytest.raises(
        ValueError,
        match=r"data that have no name here \('mine'\); give them: export_network\(run, file, data\)",
    ):
        export_network(student, tmp_path / "file.pt2")
    with pytest.raises(ValueError, match=r"is not the one that .* was trained with"):
        evaluate(student.folder, data=data, network=lambda classes: MyCNN(classes, width=9), device="cpu")


def test_a_factory_is_seeded_by_the_run_and_its_run_is_found_again(tmp_path):
    data = own_data()
    torch.manual_seed(1)
    first = adakd.distill(None, MyCNN, "ce", data, out=tmp_path, **SMALL)
    made = (first.folder / "record.json").stat().st_mtime_ns
    torch.manual_seed(2)
    again = adakd.distill(None, MyCNN, "ce", data, out=tmp_path, **SMALL)
    assert (again.folder / "record.json").stat().st_mtime_ns == made
    other = adakd.distill(None, MyCNN, "ce", data, seed=1, out=tmp_path, **SMALL)
    assert other.record["weights_sha256"] != first.record["weights_sha256"]


def test_a_module_begins_with_its_own_weights_and_stays_as_it_is(tmp_path):
    data, network = own_data(), MyCNN(4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    run = adakd.distill(None, network, "ce", data, out=tmp_path, **{**SMALL, "lr": 1e-9})
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    trained = run.model().state_dict()
    assert all(torch.allclose(trained[name], tensor, atol=1e-4) for name, tensor in before.items())
    assert adakd.distill(None, network, "ce", data, out=tmp_path, **{**SMALL, "lr": 1e-9}).folder == run.folder
    with torch.no_grad():
        network.head.bias.add_(1)
    other = adakd.distill(None, network, "ce", data, out=tmp_path, **{**SMALL, "lr": 1e-9})
    assert other.folder != run.folder, "other weights to begin with are another run"


@pytest.mark.parametrize("cache", ["fp16", None])
def test_a_module_teaches(cache, tmp_path):
    data, network = own_data(), MyCNN(4, width=12)
    run = adakd.distill(network, MyCNN, "kd", data, out=tmp_path, cache=cache, **SMALL)
    teacher = run.record["teacher"]
    assert teacher["model"] == "MyCNN"
    assert teacher["sha256"] == config_of(run)["teacher"]["sha256"]
    assert 0 <= teacher["accuracy"] <= 100, "it is measured before it teaches"
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters()), (
        "the caller's own stays as it was"
    )
    again = adakd.distill(network, MyCNN, "kd", data, out=tmp_path, cache=cache, **SMALL)
    assert again.folder == run.folder
    with torch.no_grad():
        network.head.bias.add_(1)
    assert adakd.distill(network, MyCNN, "kd", data, out=tmp_path, cache=cache, **SMALL).folder != run.folder


def test_a_factory_is_no_teacher_unless_its_weights_are_given(tmp_path):
    data = own_data()
    with pytest.raises(adakd.TeacherError, match="makes an untrained one"):
        adakd.distill(MyCNN, MyCNN, "kd", data, out=tmp_path, **SMALL)
    adakd.training.save_weights(MyCNN(4), tmp_path / "my.safetensors")
    run = adakd.distill(
        MyCNN, MyCNN, "kd", data, out=tmp_path, teacher_weights=tmp_path / "my.safetensors", **SMALL
    )
    assert run.record["teacher"]["model"] == "MyCNN"


@pytest.mark.parametrize("cache", ["fp16", None])
def test_a_comparison_of_own_networks_is_that_of_distill(cache, tmp_path):
    data, network = own_data(), MyCNN(4, width=12)
    options = {**SMALL, "cache": cache}
    runs = adakd.compare(["ce", "kd", "zkd"], (0,), network, MyCNN, data, out=tmp_path / "all", **options)
    alone = adakd.distill(network, MyCNN, "zkd", data, out=tmp_path / "one", **options)
    assert runs[2].record["weights_sha256"] == alone.record["weights_sha256"]
    assert runs[2].history == alone.history


def test_a_registered_name_is_identified_by_what_it_names(tmp_path, monkeypatch):
    data = own_data()
    monkeypatch.setitem(adakd.MODELS, "mine", MyCNN)
    run = adakd.distill(None, "mine", "ce", data, out=tmp_path, **SMALL)
    assert evaluate(run.folder, data=data, device="cpu") == run.accuracy
    monkeypatch.setitem(adakd.MODELS, "mine", lambda classes: MyCNN(classes, width=9))
    other = adakd.distill(None, "mine", "ce", data, out=tmp_path, **SMALL)
    assert other.folder != run.folder
    with pytest.raises(ValueError, match="is not the one that"):
        evaluate(run.folder, data=data, device="cpu")


def test_a_name_of_ours_that_names_something_else_is_another_run(tmp_path, monkeypatch):
    data = own_data()
    ours = network_of("resnet8x0.5")
    assert ours.identity(4) == {}
    monkeypatch.setitem(adakd.MODELS, "resnet8x0.5", MyCNN)
    assert set(ours.identity(4)) == {"architecture", "settings", "initial"}
    run = adakd.distill(None, "resnet8x0.5", "ce", data, out=tmp_path, **SMALL)
    assert config_of(run)["architecture"] == ours.identity(4)["architecture"]


def test_an_output_that_holds_logits_is_enough(tmp_path):
    data = own_data()
    teacher = adakd.train_teacher(Wrapped, data, out=tmp_path, **SMALL)
    for cache in ("fp32", None):
        run = adakd.distill(teacher, Wrapped, "kd", data, out=tmp_path, cache=cache, **SMALL)
        assert evaluate(run, data=data, device="cpu") == run.accuracy


def test_images_of_four_channels(tmp_path):
    data = own_data(channels=4, name="satellite")
    run = adakd.distill(None, "resnet8x0.5", "ce", data, out=tmp_path, **SMALL)
    assert run.record["data"]["channels"] == 4
    assert evaluate(run.folder, data=data, device="cpu") == run.accuracy


class Masked(nn.Module):
    """A network with a causal mask that is saved along, as those of many language models."""

    def __init__(self, num_classes):
        super().__init__()
        self.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))
        self.head = nn.Linear(12, num_classes)

    def forward(self, x):
        x = nn.functional.adaptive_avg_pool2d(x, (4, 1)).squeeze(3)
        return self.head((x @ self.mask.softmax(1).T).flatten(1))


class Tied(nn.Module):
    """A network one of whose weights has two names, as of an embedding that also decodes."""

    def __init__(self, num_classes):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.head = nn.Linear(3, num_classes)

    def forward(self, x):
        return self.head(self.b(self.a(x.mean((2, 3))).relu()))


@pytest.mark.parametrize("network", [Tied, Masked])
def test_a_student_of_unusual_tensors_is_saved_continued_and_loaded(network, tmp_path):
    data, options = own_data(), {**SMALL, "epochs": 2}
    whole = adakd.distill(None, network, "ce", data, out=tmp_path / "whole", **options)
    left = iter([False] * 4)
    with pytest.raises(adakd.Interrupted):
        adakd.distill(None, network, "ce", data, out=tmp_path, should_stop=lambda: next(left, True), **options)
    run = adakd.distill(None, network, "ce", data, out=tmp_path, **options)
    assert run.record["weights_sha256"] == whole.record["weights_sha256"]
    assert evaluate(run.folder, data=data, network=network, device="cpu") == run.accuracy
    model = run.model()
    if network is Tied:
        assert model.a.weight is model.b.weight


class Dropping(nn.Module):
    """A network that draws random numbers while it trains."""

    def __init__(self, num_classes):
        super().__init__()
        self.a, self.drop, self.head = nn.Linear(3, 16), nn.Dropout(0.5), nn.Linear(16, num_classes)

    def forward(self, x):
        return self.head(self.drop(self.a(x.mean((2, 3))).relu()))


def test_what_a_student_draws_follows_the_run_and_not_the_caller(tmp_path):
    data, options = own_data(), {**SMALL, "epochs": 2}
    teacher = MyCNN(4)

    def run(seed, out, **further):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        try:
            return adakd.distill(teacher, Dropping, "kd", data, out=tmp_path / out, **options, **further)
        finally:
            assert torch.equal(torch.get_rng_state(), before)

    whole = run(1, "whole")
    others = {"again": run(2, "again")}
    for stop in (2, 4):  # within the first epoch and the second
        left = iter([False] * stop)
        with pytest.raises(adakd.Interrupted):
            run(3, f"stopped-{stop}", should_stop=functools.partial(next, left, True))
        others[f"stopped-{stop}"] = run(4, f"stopped-{stop}")
    torch.manual_seed(5)
    adakd.compare(["zkd", "kd"], [0], teacher, Dropping, data, out=tmp_path / "compared", **options)
    others["compared"] = adakd.open_run(tmp_path / "compared" / whole.folder.relative_to(tmp_path / "whole"))
    found = {name: other.record["weights_sha256"] for name, other in others.items()}
    assert found == dict.fromkeys(found, whole.record["weights_sha256"])


def test_a_network_that_draws_nothing_is_looked_at_once_an_epoch(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(loop, "generator_states", lambda: calls.append(1) or [])
    run = adakd.distill(None, MyCNN, "ce", own_data(), out=tmp_path, **{**SMALL, "epochs": 3})
    assert len(run.record["history"]) == 3
    assert len(calls) == 2 * 3


@pytest.mark.parametrize(
    "spoil", [lambda net: net.mask.diagonal().fill_(torch.inf), lambda net: net.mask.fill_(torch.nan)]
)
def test_a_mask_is_infinite_where_the_networks_is_and_nowhere_else(spoil, tmp_path):
    other = Masked(4)
    spoil(other)
    save_weights(other, tmp_path / "w.safetensors")
    with pytest.raises(adakd.WeightsError, match=r"mask: .* values are not finite"):
        load_weights(Masked(4), tmp_path / "w.safetensors")


@pytest.mark.parametrize("cache", ["fp16", None])
def test_a_teacher_of_other_classes_is_named(cache, tmp_path):
    with pytest.raises(ValueError, match="teacher and student disagree on the number of classes: 6 and 4"):
        adakd.distill(MyCNN(6), MyCNN, "kd", own_data(), out=tmp_path, cache=cache, **SMALL)


def test_a_teacher_of_other_outputs_is_named(tmp_path):
    teacher = nn.Sequential(nn.Conv2d(3, 4, 1))
    with pytest.raises(ValueError, match=r"expected logits \(batch, 4\), got shape \(60, 4, 16, 16\)"):
        adakd.distill(teacher, MyCNN, "kd", own_data(), out=tmp_path, **SMALL)


def test_an_output_that_holds_logits_is_studied_and_measured(tmp_path):
    data = own_data()
    teacher = adakd.train_teacher(Wrapped, data, out=tmp_path, **SMALL)
    study = adakd.study.Study(("kd",), (0,), ways=("matched",))
    records = adakd.study.run_study(study, tmp_path / "study", teacher, Wrapped, data, out=tmp_path, **SMALL)
    assert [record["config"]["method"] for record in records] == ["kd"]
    found = measure_temperatures(teacher, data=data, out=tmp_path, device="cpu", progress=False)
    assert found["result"]["test"]["accuracy"]["teacher"] == pytest.approx(teacher.accuracy, abs=1e-3)


class Recurrent(nn.Module):
    """A network with a part that returns a tuple."""

    def __init__(self, num_classes):
        super().__init__()
        self.rnn = nn.GRU(48, 8, batch_first=True)
        self.odd = Returns({"nothing": 0})
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        states, _ = self.rnn(x.permute(0, 2, 3, 1).flatten(2))
        self.odd(x)
        return self.head(states[:, -1])


class Returns(nn.Module):
    """A module that always returns one thing."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x):
        return self.what


def of_features(layer):
    return adakd.create_method("rkd", student_layers=layer, teacher_layers=layer)


def test_a_part_that_returns_a_tuple_is_read_by_its_first_tensor(tmp_path):
    data, teacher = own_data(), Recurrent(4)
    run = adakd.distill(teacher, Recurrent, of_features("rnn"), data, out=tmp_path, **SMALL)
    assert run.history[0]["kd"] > 0
    with pytest.raises(
        TypeError, match="student features: expected a tensor by the name 'odd', got dict; name"
    ):
        adakd.distill(teacher, Recurrent, of_features("odd"), data, out=tmp_path, **SMALL)


@pytest.mark.parametrize("network", [3, None.__class__, "resnet7", lambda classes: "no network"])
def test_what_is_no_network(network, tmp_path):
    with pytest.raises((TypeError, ValueError), match=r"network|unknown model|nn\.Module|argument"):
        adakd.distill(None, network, "ce", own_data(), out=tmp_path, **SMALL)
    assert not list(tmp_path.rglob("record.json"))


# ---- own data ----


def folder_of(teacher=None, student="resnet8x0.5", method="ce", data=None, out="runs"):
    """Where such a run lies: what tells it from others, without training."""
    resources = Resources(out=out, progress=False)
    changes = {"epochs": 1, "batch_size": 20, "train_images": 60}
    request = Request(own_data() if data is None else data, student, method, changes=changes, precision="fp32")
    return plan_student(dataclasses.replace(request, teacher=teacher), resources).folder


def with_other_labels(data):
    return dataclasses.replace(data, train=Split(data.train.images, data.train.labels.flip(0)))


OTHER_DATA = {
    "crop": lambda data: dataclasses.replace(data, padding=1),
    "flip": lambda data: dataclasses.replace(data, flip=True),
    "mean": lambda data: dataclasses.replace(data, mean=(0.4, 0.5, 0.5)),
    "std": lambda data: dataclasses.replace(data, std=(0.3, 0.25, 0.25)),
    "labels": with_other_labels,
    "test split": lambda data: dataclasses.replace(
        data, test=Split(data.test.images[:30], data.test.labels[:30])
    ),
    "a class more": lambda data: dataclasses.replace(data, classes=(*data.classes, "none of these")),
}


@pytest.mark.parametrize("named", [False, True], ids=["own", "named"])
@pytest.mark.parametrize("change", OTHER_DATA.values(), ids=OTHER_DATA)
def test_data_that_are_seen_otherwise_are_of_another_run(change, named):
    data = load_gratings(train_images=60, test_images=40) if named else own_data()
    folder = folder_of(data=data)
    assert folder_of(data=dataclasses.replace(data)) == folder == folder_of(data=data.to("cpu"))
    assert folder_of(data=change(data)) != folder
    assert folder_of(data=dataclasses.replace(change(data))) == folder_of(data=change(data))


def test_noisy_labels_are_not_answered_with_the_clean_run(tmp_path):
    data = own_data()
    noisy = with_other_labels(data)
    assert noisy.checksum == checksum_of(noisy.train, noisy.test) != data.checksum
    teacher = MyCNN(4)
    clean, other = (adakd.distill(teacher, MyCNN, "kd", each, out=tmp_path, **SMALL) for each in (data, noisy))
    assert clean.folder != other.folder
    views = {"padding": 0, "flip": False, "mean": [0.5] * 3, "std": [0.25] * 3}
    assert config_of(clean)["data"] == {
        **{"name": "mine", "sha256": data.checksum, "views": views},
        **{"train": 60, "test": 60, "classes": 4},
    }
    assert len(list((tmp_path / "cache" / "mine").iterdir())) == 2
    assert adakd.open_run(clean.folder) == clean


def test_labels_that_are_written_to_are_other_labels():
    data = own_data()
    before = folder_of(data=data)
    data.train.labels[:10] = 0
    after = folder_of(data=data)
    assert after != before
    assert data.checksum == checksum_of(data.train, data.test)
    data.train.labels[0] = 7
    with pytest.raises(ValueError, match=r"expected labels from 0 to 3.*got 7 at place 0"):
        folder_of(data=data)


@pytest.mark.parametrize("share", [torch.from_numpy, torch.as_tensor])
def test_images_that_numpy_writes_to_are_other_images(share):
    pixels = np.zeros((60, 16, 16, 3), dtype=np.uint8)
    split = Split(share(pixels), torch.arange(60) % 4)
    data = ImageData("mine", split, split, ("a", "b", "c", "d"), (0.5,) * 3, (0.25,) * 3)
    folders = [folder_of(data=data), folder_of(data=data)]
    pixels[0] = 1
    folders.append(folder_of(data=data))
    data.train.labels.numpy()[:10] = 0
    folders.append(folder_of(data=data))
    assert folders[0] == folders[1]
    assert len(set(folders)) == 3
    assert data.checksum == checksum_of(data.train, data.test)


def test_tokens_that_are_written_to_are_other_tokens():
    stream = torch.arange(2000) % 5
    data = TokenData("mine", Tokens(stream[:1800], 8), Tokens(stream[1800:], 8), tuple("abcde"))

    def folder():
        changes = {"epochs": 1, "batch_size": 20, "train_images": 60}
        request = Request(data, "gru64", "ce", changes=changes, precision="fp32")
        return plan_student(request, Resources(progress=False)).folder

    folders = [folder(), folder()]
    for write in (data.train.stream, data.test.stream, stream, stream.numpy()):
        write[:10] += 1
        write[:] %= 5
        folders.append(folder())
    assert folders[0] == folders[1]
    assert len(set(folders)) == 5
    data.train.stream[0] = 5
    with pytest.raises(ValueError, match="train: expected tokens from 0 to 4"):
        folder()


def test_a_set_that_torch_alone_holds_is_summed_up_once(monkeypatch):
    sets = [own_data(), load_gratings(60, 40), load_sentences(train_words=2**12, test_words=2**8)]
    for module in (images, tokens):
        monkeypatch.setattr(module, "array_of", None)
    for data in sets:
        assert data.to("cpu").to("cpu").checksum == data.checksum


def test_a_teacher_of_other_views_is_warned_of(tmp_path, caplog):
    data = own_data()
    teacher = adakd.train_teacher(MyCNN, data, out=tmp_path, **SMALL)
    adakd.distill(teacher, MyCNN, "kd", data, out=tmp_path, **SMALL)
    assert "seen as in" not in caplog.text
    with pytest.raises(adakd.Interrupted):
        adakd.distill(
            *(teacher, MyCNN, "kd", OTHER_DATA["mean"](data)), out=tmp_path, should_stop=lambda: True, **SMALL
        )
    assert "mine: the data are not seen as in the teacher's run, whose views were {'padding': 0" in caplog.text


def test_a_set_of_the_package_is_known_by_name_and_checksum_alone():
    for data in (load_gratings(60, 40), load_gratings(60, 40, classes=4)):
        assert identity_of(data) == {"name": data.name, "sha256": data.checksum}


# ---- settings that no tensor tells ----


class Scaled(nn.Module):
    """A network whose logits are scaled, by a number that is no tensor."""

    def __init__(self, network, k):
        super().__init__()
        self.network, self.k = network, k

    def forward(self, x):
        return self.k * self.network(x)


class Held(nn.Module):
    """A network that holds something, in public or in private."""

    def __init__(self, network, **held):
        super().__init__()
        self.network = network
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.network(x)


def with_buffer(network, value):
    network = Held(network)
    network.register_buffer("prior", torch.tensor(value), persistent=False)
    return network


def by_function(exponent):
    return lambda x: x**exponent


@dataclasses.dataclass
class Sizes:
    depth: int

    def times_depth(self, module, inputs, output):
        return output * self.depth


def times(factor, module, inputs, output):
    return output * factor


def hooked(network, where, *hooks):
    network = Held(network)
    for hook in hooks:
        getattr(network, f"register_{where}")(hook)
    return network


PAIRS_OF_SETTINGS = {
    "number": lambda net, i: Scaled(net, (1.0, -5.0)[i]),
    "private number": lambda net, i: Held(net, _k=i),
    "tensor": lambda net, i: Held(net, k=torch.tensor([1.0, i])),
    "array": lambda net, i: Held(net, k=np.array([1.0, i])),
    "buffer": lambda net, i: with_buffer(net, (1.0, i)),
    "dropout": lambda net, i: nn.Sequential(net, nn.Dropout((0.0, 0.9)[i])),
    "stride": lambda net, i: nn.Sequential(nn.Conv2d(3, 3, 3, stride=i + 1), net),
    "function": lambda net, i: Held(net, function=(torch.abs, torch.square)[i]),
    "own function": lambda net, i: Held(net, function=((lambda x: x), (lambda x: -x))[i]),
    "closure": lambda net, i: Held(net, function=by_function(i)),
    "partial": lambda net, i: Held(net, function=functools.partial(torch.clamp, min=i)),
    "object": lambda net, i: Held(net, sizes=Sizes(i)),
    "list of modules": lambda net, i: Held(net, parts=[nn.Dropout(i / 2)]),
    "set": lambda net, i: Held(net, names={"a", "b", str(i)}),
    "class": lambda net, i: Held(net, kind=(nn.ReLU, nn.GELU)[i]),
    "operator": lambda net, i: Held(net, function=(torch.ops.aten.abs, torch.ops.aten.square)[i]),
    "generator": lambda net, i: Held(net, random=torch.Generator().manual_seed(i)),
    "dtype": lambda net, i: Held(net, dtype=(torch.float32, torch.float64)[i]),
    "hook": lambda net, i: hooked(net, "forward_hook", *[lambda module, x, y: -y][:i]),
    "hook's number": lambda net, i: hooked(net, "forward_hook", functools.partial(times, i + 1)),
    "pre-hook": lambda net, i: hooked(
        net, "forward_pre_hook", (lambda module, x: x, lambda module, x: -x[0])[i]
    ),
    "gradient's hook": lambda net, i: hooked(net, "full_backward_hook", *[lambda module, x, y: None][:i]),
    "hook of an object": lambda net, i: hooked(net, "forward_hook", Sizes(i).times_depth),
    "spectral norm": lambda net, i: nn.Sequential(
        nn.utils.spectral_norm(nn.Conv2d(3, 3, 1), n_power_iterations=i + 1), net
    ),
}


@pytest.mark.parametrize("made", PAIRS_OF_SETTINGS.values(), ids=PAIRS_OF_SETTINGS)
def test_networks_of_other_settings_are_of_other_runs(made):
    network = MyCNN(4)

    def seeded(i):
        torch.manual_seed(0)  # so that what is made has the same tensors
        return made(network, i)

    def teacher(i):
        return folder_of(seeded(i), MyCNN, "kd")

    def student(i):
        return folder_of(None, lambda classes: made(MyCNN(classes), i), "ce")

    def module(i):
        return folder_of(None, seeded(i), "ce")

    for folders in (teacher, student, module):
        assert folders(0) == folders(0) != folders(1)


def test_a_hook_on_a_parameter_of_what_a_factory_makes_is_a_setting():
    def made(hooks):
        def factory(classes):
            network = MyCNN(classes)
            for hook in hooks:
                network.head.weight.register_hook(hook)
            return network

        return folder_of(None, factory, "ce")

    assert made([]) == made([]) != made([torch.neg])


def test_what_a_hook_has_recorded_is_no_setting():
    """Nor are hooks of ours, by which features are read."""
    network, seen = MyCNN(4), {}
    network.act.register_forward_hook(lambda module, inputs, output: seen.update(act=output, all=[output]))
    before = settings_of(network)
    adakd.Tapped(network, ("features",))(torch.zeros(1, 3, 16, 16))
    assert seen
    assert settings_of(network) == before


def test_a_teacher_that_is_hooked_meanwhile_is_asked_again(tmp_path):
    data, teacher = own_data(), MyCNN(4)
    first = adakd.distill(teacher, MyCNN, "kd", data, out=tmp_path, **SMALL)
    teacher.register_forward_hook(lambda module, inputs, output: -5 * output)
    second = adakd.distill(teacher, MyCNN, "kd", data, out=tmp_path, **SMALL)
    assert first.folder != second.folder
    assert first.history != second.history
    assert len(list((tmp_path / "cache" / "mine").iterdir())) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch itself
def test_a_compiled_network_is_described_without_a_word_of_the_compiler(caplog):
    first, again, other = (nn.Sequential(nn.Dropout(p)) for p in (0.1, 0.1, 0.2))
    digests = [settings_of(torch.compile(network)) for network in (first, again, other)]
    assert digests[0] == digests[1] != digests[2]
    assert settings_of(Held(first, lock=threading.Lock())) == settings_of(Held(again, lock=threading.Lock()))
    assert not caplog.text


def test_an_ensemble_is_known_by_where_it_finds_the_logits():
    parts = [MyCNN(4), MyCNN(4)]
    folders = [folder_of(adakd.Ensemble(parts, logits=which), MyCNN, "kd") for which in (None, 0, 1)]
    assert len(set(folders)) == 3


def filled(network):
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.01)
    return network


def tied(network):
    network[1].weight = network[0].weight
    return network


PAIRS_OF_BEGINNINGS = {
    "other weights": (filled, lambda network: network),
    "tied": (tied, lambda network: network),
    "tied, of equal weights": (lambda network: tied(filled(network)), filled),
    "other numbers": (nn.Module.double, lambda network: network),
}


@pytest.mark.parametrize("pair", PAIRS_OF_BEGINNINGS.values(), ids=PAIRS_OF_BEGINNINGS)
def test_networks_that_begin_otherwise_are_of_other_runs(pair):
    def network(change, classes):
        torch.manual_seed(0)
        return change(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, classes)))

    def factory(change):
        return folder_of(None, functools.partial(network, change), "ce")

    def module(change):
        return folder_of(None, network(change, 4), "ce")

    for made in (factory, module):
        first, second = map(made, pair)
        assert first.parent == second.parent
        assert made(pair[0]) == first != second


def test_what_a_factory_makes_by_chance_is_warned_of(caplog):
    """Its run is found again, and can be continued."""

    def drawn_elsewhere(classes):
        network = MyCNN(classes)
        nn.init.constant_(network.head.bias, random.random())
        return network

    assert folder_of(None, drawn_elsewhere, "ce") == folder_of(None, drawn_elsewhere, "ce")
    assert caplog.text.count("'drawn_elsewhere': the function makes other weights at each call") == 1


def test_a_part_of_a_student_that_is_not_trained_is_another_run():
    def frozen(classes):
        network = MyCNN(classes)
        network.features.requires_grad_(False)
        return network

    frozen.__name__ = "MyCNN"
    assert folder_of(None, MyCNN, "ce").parent == folder_of(None, frozen, "ce").parent
    assert folder_of(None, MyCNN, "ce") != folder_of(None, frozen, "ce")


def test_a_batch_norm_in_evaluation_mode_stays_so_and_is_of_another_run(tmp_path):
    def network(resting):
        torch.manual_seed(0)
        made = create_model("resnet8x0.5", 4)
        made.bn1.train(not resting)
        return made

    data, student = own_data(), network(True)
    run = adakd.distill(None, student, "ce", data, out=tmp_path, **SMALL)
    adakd.fit(
        student,
        data,
        adakd.get_recipe("demo", epochs=2, batch_size=20, train_images="all"),
        adakd.create_method("ce"),
        seed=0,
        checkpoint=tmp_path / "c.pt",
        config={},
        precision=adakd.choose_precision("fp32", torch.device("cpu"), 0),
        progress=False,
    )
    for trained in (run.model(), student):
        assert trained.bn1.num_batches_tracked == 0 != trained.layer1[0].bn1.num_batches_tracked
        assert trained.bn1.running_mean.eq(0).all()
    assert not student.bn1.training
    assert student.training
    folders = [folder_of(None, given, "ce") for given in (network(True), network(False), network(False).eval())]
    assert folders[0] != folders[1] == folders[2]


def test_a_teacher_of_another_setting_is_asked_again(tmp_path):
    data, teacher = own_data(), Scaled(MyCNN(4), 1.0)
    first = adakd.distill(teacher, MyCNN, "kd", data, out=tmp_path, **SMALL)
    teacher.k = -5.0
    second = adakd.distill(teacher, MyCNN, "kd", data, out=tmp_path, **SMALL)
    assert first.folder != second.folder
    assert len(list((tmp_path / "cache" / "mine").iterdir())) == 2
    assert first.history != second.history


def test_weights_of_a_file_in_a_network_of_another_setting_are_another_teacher(tmp_path):
    adakd.training.save_weights(Scaled(MyCNN(4), 1.0), tmp_path / "my.safetensors")

    def distilled(k):
        def scaled(classes):
            return Scaled(MyCNN(classes), k)

        weights = tmp_path / "my.safetensors"
        return adakd.distill(scaled, MyCNN, "kd", own_data(), out=tmp_path, teacher_weights=weights, **SMALL)

    assert distilled(1.0).folder == distilled(1.0).folder != distilled(-5.0).folder


def test_a_run_opened_with_another_setting_is_warned_of(tmp_path, caplog):
    data = own_data()

    def scaled(classes, k=1.0):
        return Scaled(MyCNN(classes), k)

    run = adakd.open_run(adakd.distill(None, scaled, "ce", data, out=tmp_path, **SMALL).folder)
    assert evaluate(run, data=data, network=scaled, device="cpu") == run.accuracy
    assert "other settings" not in caplog.text
    evaluate(run, data=data, network=functools.partial(scaled, k=-1.0), device="cpu")
    assert "other settings than the one that" in caplog.text


def test_a_run_opened_with_its_network_teaches_and_is_exported(tmp_path):
    """As the run itself does in the process that made it."""
    data = own_data()
    run = adakd.distill(None, MyCNN, "ce", data, out=tmp_path, **SMALL)
    opened = adakd.open_run(run.folder, network=MyCNN)
    taught = [
        adakd.distill(each, "resnet8x0.5", "kd", data, out=tmp_path / name, cache=None, **SMALL)
        for name, each in (("a", run), ("b", opened))
    ]
    assert taught[0].folder.name == taught[1].folder.name
    assert adakd.Ensemble(opened, run)
    assert export_network(opened, tmp_path / "mine.pt2", data).agreeing == 60
    assert measure_temperatures(opened, opened, data, device="cpu", progress=False)["result"]
    for asks in (
        lambda: adakd.distill(run.folder, "resnet8x0.5", "kd", data, out=tmp_path, **SMALL),
        lambda: export_network(run.folder, tmp_path / "other.pt2", data),
        lambda: adakd.Ensemble(adakd.open_run(run.folder)),
    ):
        with pytest.raises(ValueError, match=r"adakd\.open_run\(folder, network=\.\.\.\)"):
            asks()
    with pytest.raises(ValueError, match=r"is not the one that .* was trained with"):
        adakd.open_run(run.folder, network=Wrapped).model()


def test_a_network_of_a_package_is_known_by_its_name(monkeypatch):
    fake_torchvision(monkeypatch)
    assert set(network_of("torchvision/tiny").identity(4)) == {"architecture"}


# ---- own losses ----


class Doubled(LogitObjective):
    """A loss of one's own."""

    def forward(self, *arguments, **options):
        terms = super().forward(*arguments, **options)
        return terms._replace(total=2 * terms.total)


def test_an_own_objective_is_a_method(tmp_path):
    data, teacher = own_data(), MyCNN(4)
    folders = set()
    for objective in (
        Doubled(adakd.KL(), adakd.Fixed(4.0)),
        Doubled(adakd.KL(), adakd.Fixed(5.0)),
        Doubled(adakd.KL(), adakd.Fixed(5.0), kd_weight=2.0),
        Doubled(adakd.KL(), adakd.CTKD()),
    ):
        start = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
        run = adakd.distill(teacher, MyCNN, objective, data, out=tmp_path, **SMALL)
        folders.add(run.folder)
        assert config_of(run)["method"] == "Doubled"
        assert all(torch.equal(tensor, start[name]) for name, tensor in objective.state_dict().items())
        assert adakd.distill(teacher, MyCNN, objective, data, out=tmp_path, **SMALL).folder == run.folder
    assert len(folders) == 4, "other settings are another run"
    with pytest.raises(ValueError, match="method_options: an objective has none of ours"):
        adakd.distill(teacher, MyCNN, objective, data, method_options={"tau": 2}, out=tmp_path, **SMALL)


class Distance(adakd.Divergence):
    """A divergence that holds something."""

    def __init__(self, **held):
        super().__init__()
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, student, teacher, target, temperatures):
        return (student - teacher).square().sum(1)


def of_distance(**held):
    return LogitObjective(Distance(**held), adakd.Fixed(4.0))


def of_distance_hooked(*hooks):
    objective = of_distance()
    for hook in hooks:
        objective.register_forward_hook(hook)
    return objective


class Opaque:
    """What shows nothing of itself."""

    __slots__ = ()


PAIRS_OF_OBJECTIVES = {
    "mode of a part": lambda i: LogitObjective(adakd.KL(), adakd.Fixed(2.0).train(i == 0)),
    "class weights": lambda i: LogitObjective(adakd.KL(), class_weights=((1, 1, 1, 1), (9, 0.1, 0.1, 0.1))[i]),
    "function": lambda i: of_distance(fn=(torch.abs, torch.square)[i]),
    "lambda": lambda i: of_distance(fn=((lambda x: x + 1), (lambda x: x + 2))[i]),
    "private": lambda i: of_distance(_alpha=i),
    "tensor": lambda i: of_distance(prior=torch.full((4,), float(i))),
    "array": lambda i: of_distance(prior=np.full(4, i)),
    "tensor in a list": lambda i: of_distance(priors=[torch.full((4,), float(i))]),
    "hook": lambda i: of_distance_hooked(*[lambda module, x, terms: terms._replace(total=-terms.total)][:i]),
}


@pytest.mark.parametrize("made", PAIRS_OF_OBJECTIVES.values(), ids=PAIRS_OF_OBJECTIVES)
def test_objectives_of_other_settings_are_of_other_runs(made, caplog):
    teacher = MyCNN(4)
    folders = [folder_of(teacher, MyCNN, made(i)) for i in (0, 0, 1)]
    assert folders[0] == folders[1] != folders[2]
    assert not caplog.text


def test_the_same_functions_are_the_same_run_in_every_process():
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from test_own_networks import *\n"
        "print(folder_of(None, lambda n: Held(MyCNN(n, 9), f=by_function(2), names={'a', 'b', 'c'}), 'ce').name)\n"
        "print(folder_of(None, lambda n: MyCNN(n), of_distance(fn=lambda x: x in {'a', 'b', 'c'})).name)\n"
    )
    code = code.replace(
        "folder_of(None, lambda n: MyCNN(n), of", "folder_of(MyCNN(4).requires_grad_(False), MyCNN, of"
    )
    root = Path(__file__).parents[1]
    said = {
        subprocess.run(
            [sys.executable, "-c", f"import torch; torch.manual_seed(0)\n{code}"],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert len(said.pop().split()) == 2


def test_what_no_digest_can_be_made_of_is_warned_of(caplog):
    folders = {folder_of(MyCNN(4).eval(), MyCNN, of_distance(thing=Opaque())).name for _ in range(2)}
    assert caplog.text.count("Distance.thing (Opaque) is nothing of which a digest can be made") == 1
    assert len(folders) == 2, "the teachers are two"


def test_own_objectives_in_a_comparison(tmp_path):
    heard = []
    runs = adakd.compare(
        ["kd", Doubled(adakd.KL())],
        (0,),
        MyCNN(4),
        MyCNN,
        own_data(),
        out=tmp_path,
        on_epoch=lambda which, row: heard.append(which["method"]),
        **SMALL,
    )
    assert [config_of(run)["method"] for run in runs] == heard == ["kd", "Doubled"]


def test_objectives_of_one_class_are_told_apart_in_tables(tmp_path, capsys):
    losses = [Doubled(adakd.KL(), adakd.Fixed(tau)) for tau in (2.0, 4.0)]
    data, teacher = own_data(), MyCNN(4)
    runs = adakd.compare(["kd", *losses], (0, 1), teacher, MyCNN, data, out=tmp_path, **SMALL)
    names = [
        f"Doubled [{run.record['config']['objective'][:8]}]" for run in runs if "objective" in config_of(run)
    ]
    lines = adakd.study.summarize(runs)
    assert [line.name for line in lines] == ["kd", *dict.fromkeys(names)]
    assert len(set(names)) == 2
    assert [line.name for line in adakd.study.summarize(runs[:2])] == ["kd", "Doubled"], (
        "one needs no more than its name"
    )
    assert main(["table", str(tmp_path), "--to", "kd"]) == 0
    assert all(name in capsys.readouterr().out for name in names[:1])
    with pytest.raises(ValueError, match=r"Doubled has seed 0 twice"):
        adakd.study.summarize([runs[1], runs[1]])


def test_records_of_own_objectives_are_rows(tmp_path):
    run = adakd.distill(MyCNN(4), MyCNN, Doubled(adakd.KL()), own_data(), out=tmp_path, **SMALL)
    (row,) = adakd.study.tidy([run.record])
    assert (row["method"], row["ce_weight"], row["kd_weight"]) == ("Doubled", None, None)
    assert row["settings"] == f"objective={config_of(run)['objective'][:8]}"
    record = {**run.record, "config": {**config_of(run), "method_options": {"kd_weight": 2.0}}}
    assert adakd.study.weights_of(record) == (None, 2.0)


def test_runs_of_networks_with_other_settings_are_not_compared(tmp_path):
    data = own_data()

    def dropping(p):
        return lambda classes: nn.Sequential(MyCNN(classes), nn.Dropout(p))

    runs = [adakd.distill(None, dropping(p), "ce", data, out=tmp_path, **SMALL) for p in (0.0, 0.9)]
    with pytest.raises(ValueError, match="the runs differ in settings"):
        adakd.study.summarize(runs)
    assert main(["table", str(tmp_path)]) == 0


def test_a_study_is_of_one_network(tmp_path):
    data, study = own_data(), adakd.study.Study(("ce",), (0,), ways=("published",))
    options = {**SMALL, "data": data, "out": tmp_path, "teacher": MyCNN(4)}

    def with_dropout(p):
        return lambda classes: nn.Sequential(MyCNN(classes), nn.Dropout(p))

    folder = tmp_path / "study"
    (first,) = adakd.study.run_study(study, folder, student=with_dropout(0.0), **options)
    with pytest.raises(ValueError, match=r"is of another study: settings was '.*', is '.*'. Choose another"):
        adakd.study.run_study(study, folder, student=with_dropout(0.9), **options)
    other = adakd.distill(student=with_dropout(0.9), method="ce", **{**options, "teacher": None})
    adakd.study.append_record(folder / "published.jsonl", other.record)
    assert config_of(other)["seed"] == first["seed"]
    found = adakd.study.read_study(folder).runs("published", "ce")[0]
    assert found["config"] == first["config"]


def test_a_study_whose_plan_knows_its_network_by_name_alone_goes_on(tmp_path):
    """As older versions wrote it down."""
    data, network = own_data(), MyCNN(4)
    options = {**SMALL, "data": data, "out": tmp_path, "teacher": MyCNN(4)}
    folder = tmp_path / "study"

    def studied(seeds, student):
        study = adakd.study.Study(("ce",), seeds, ways=("published",))
        return adakd.study.run_study(study, folder, student=student, **options)

    studied((0,), network)
    plan = json.loads((folder / "study.json").read_text())
    config = {name: value for name, value in plan["config"].items() if name not in OF_NETWORK}
    files.write_record(folder / "study.json", {**plan, "config": config})
    assert list(adakd.study.read_study(folder).runs("published", "ce")) == [0]
    with pytest.raises(ValueError, match="is of another study: initial was"):
        studied((0, 1), MyCNN(4))
    assert len(studied((0, 1), network)) == 2
    assert list(adakd.study.read_study(folder).runs("published", "ce")) == [0, 1]


# ---- other packages ----


def fake_torchvision(monkeypatch, broken=None):
    """A stand-in for a package that need not be here."""
    package, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
    models.list_models = lambda: ["tiny", "resnet18"]
    models.get_model = lambda name, weights, num_classes: MyCNN(num_classes)
    package.models = models
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


def test_a_network_of_another_package_by_name(tmp_path, monkeypatch):
    fake_torchvision(monkeypatch)
    data = own_data()
    teacher = adakd.train_teacher("torchvision/resnet18", data, out=tmp_path, **SMALL)
    assert teacher.folder.parent == tmp_path / "mine" / "torchvision-resnet18"
    assert adakd.find_teacher("torchvision/resnet18", "mine", tmp_path).folder == teacher.folder
    run = adakd.distill("torchvision/resnet18", "torchvision/tiny", "kd", data, out=tmp_path, **SMALL)
    assert run.record["teacher"]["model"] == "torchvision/resnet18"
    assert evaluate(run.folder, data=data, device="cpu") == run.accuracy
    with pytest.raises(ValueError, match=r"unknown model of torchvision: 'resnet81'. Did you mean 'resnet18'"):
        create_model("torchvision/resnet81", 4)


def test_it_teaches_by_the_command_line_too(tmp_path, monkeypatch, capsys):
    fake_torchvision(monkeypatch)
    tiny = load_gratings(train_images=60, test_images=40)
    monkeypatch.setattr("adakd.data.load_gratings", lambda: tiny)
    small = ["--out", str(tmp_path), "--device", "cpu", "--epochs", "1", "--batch-size", "20", "--quiet"]
    assert main(["teacher", "--model", "torchvision/resnet18", *small]) == 0
    few = ["--train-images", "40", "--student", "resnet8x0.5", "--method", "kd"]
    assert main(["distill", "--teacher", "torchvision/resnet18", *few, *small]) == 0
    assert "resnet8x0.5 from torchvision/resnet18 by kd on gratings" in capsys.readouterr().out
    assert main(["distill", "--teacher", "timm/no", *few, *small]) == 1
    assert "Train it first: adakd teacher --model timm/no" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_a_package_that_is_not_there_is_named_with_the_command(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"{package} cannot be imported .*; install it: pip install {package}"):
        create_model(f"{package}/resnet18", 10)


def test_a_package_of_another_build_is_named_with_the_command(monkeypatch):
    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("adakd.models.network.import_module", broken)
    with pytest.raises(
        ValueError, match=r"another build than torch .*nms.*pip install --force-reinstall --no-deps"
    ):
        create_model("torchvision/resnet18", 10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet18"])
def test_a_real_one(name):
    if importlib.util.find_spec(name.partition("/")[0]) is None:
        pytest.skip(f"{name.partition('/')[0]} is not installed")
    assert create_model(name, 7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_a_run_of_ours_is_described_as_ever(tiny_data, tmp_path):
    run = adakd.train_teacher("resnet8x0.5", tiny_data, out=tmp_path, **SMALL)
    assert set(config_of(run)) == {
        *("model", "method", "method_options", "data", "recipe", "seed", "precision", "teacher"),
    }
    assert dataclasses.replace(run, network=None) == run
