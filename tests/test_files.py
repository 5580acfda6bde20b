"""Files of a run: whole or not at all; weights that fit, or an error that says why they do not."""

import hashlib
import io
import json
import os
import stat
import zipfile

import pytest
import torch
from safetensors.torch import load_file

from adakd import WeightsError, create_model, load_weights
from adakd.training.files import read_checkpoint, save_weights, sha256_of, write_checkpoint, write_json

CPU = torch.device("cpu")


def model(classes=10, name="resnet8x0.5"):
    torch.manual_seed(0)
    return create_model(name, classes)


def fresh(classes=10, name="resnet8x0.5"):
    torch.manual_seed(1)
    return create_model(name, classes)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


WRITERS = {
    "json": lambda path, value: write_json(path, {"value": value}),
    "checkpoint": lambda path, value: write_checkpoint(path, {"value": value}),
    "weights": lambda path, value: save_weights(torch.nn.Linear(2, value), path),
}


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("failing", ["os.fsync", "os.replace", "os.chmod"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(writer, failing, tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file"
    writer(path, 1)
    old = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(failing, fail)
        with pytest.raises(OSError, match="No space left"):
            writer(path, 2)
    assert path.read_bytes() == old
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
    writer(path, 2)
    assert path.read_bytes() != old


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_the_file_appears_only_when_it_is_whole_and_on_disk(writer, tmp_path, monkeypatch):
    events, fsync, replace = [], os.fsync, os.replace
    path = tmp_path / "file"

    def record_sync(handle):
        events.append(("sync", path.exists()))
        fsync(handle)

    def record_rename(source, target):
        events.append(("rename", path.exists()))
        replace(source, target)

    monkeypatch.setattr("os.fsync", record_sync)
    monkeypatch.setattr("os.replace", record_rename)
    writer(path, 1)
    assert events == [("sync", False), ("rename", False)]
    assert path.stat().st_size > 0


def test_other_users_can_read_results(tmp_path):
    write_json(tmp_path / "record.json", {})
    assert stat.S_IMODE((tmp_path / "record.json").stat().st_mode) == 0o644


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_not_json(value, tmp_path):
    write_json(tmp_path / "record.json", {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "record.json", {"accuracy": value})
    assert json.loads((tmp_path / "record.json").read_text()) == {"old": 1}


def test_json_is_readable_by_people(tmp_path):
    write_json(tmp_path / "record.json", {"τ": [1, 2]})
    assert (tmp_path / "record.json").read_text(encoding="utf-8") == '{\n "τ": [\n  1,\n  2\n ]\n}\n'


def test_weights_come_back_as_they_were(tmp_path):
    save_weights(model(), tmp_path / "w.safetensors")
    assert same(load_weights(fresh(), tmp_path / "w.safetensors"), model())
    content = (tmp_path / "w.safetensors").read_bytes()
    assert sha256_of(tmp_path / "w.safetensors") == hashlib.sha256(content).hexdigest()


def test_weights_in_half_precision(tmp_path):
    save_weights(model(), tmp_path / "w.safetensors", dtype=torch.float16)
    saved = load_file(tmp_path / "w.safetensors")
    assert saved["conv1.weight"].dtype == torch.float16
    assert saved["bn1.num_batches_tracked"].dtype == torch.int64
    loaded = load_weights(fresh(), tmp_path / "w.safetensors").state_dict()
    assert loaded["conv1.weight"].dtype == torch.float32
    assert torch.equal(loaded["conv1.weight"], model().state_dict()["conv1.weight"].half().float())


def test_weights_of_a_channels_last_network(tmp_path):
    save_weights(model().to(memory_format=torch.channels_last), tmp_path / "w.safetensors")
    assert same(load_weights(fresh(), tmp_path / "w.safetensors"), model())


@pytest.mark.parametrize("wrap", ["model", "state_dict", "net", None])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".tar"])
def test_published_checkpoints(wrap, prefix, suffix, tmp_path):
    state = {prefix + name: tensor for name, tensor in model().state_dict().items()}
    torch.save({wrap: state, "epoch": 240, "best_acc": 79.4} if wrap else state, tmp_path / f"teacher{suffix}")
    assert same(load_weights(fresh(), tmp_path / f"teacher{suffix}"), model())


def test_no_file(tmp_path):
    with pytest.raises(WeightsError, match=f"no weights at {tmp_path / 'none.pth'}"):
        load_weights(fresh(), tmp_path / "none.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_truncated_weights(suffix, keep, tmp_path):
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(model().state_dict(), path)
    else:
        save_weights(model(), path)
    path.write_bytes(path.read_bytes()[:keep])
    target, before = fresh(), fresh()
    with pytest.raises(WeightsError, match=r"cannot be read as weights .* may be truncated"):
        load_weights(target, path)
    assert same(target, before)


def test_weights_of_another_number_of_classes(tmp_path):
    save_weights(model(classes=10), tmp_path / "w.safetensors")
    target, before = fresh(classes=100), fresh(classes=100)
    with pytest.raises(WeightsError, match=r"fc.weight is \(10, 32\), expected \(100, 32\).*number of classes"):
        load_weights(target, tmp_path / "w.safetensors")
    assert same(target, before)


@pytest.mark.parametrize(
    ("saved", "wanted"), [("resnet8", "wrn_16_1"), ("resnet8", "resnet14"), ("resnet14", "resnet8")]
)
def test_weights_of_another_network(saved, wanted, tmp_path):
    save_weights(model(name=saved), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"does not fit this network: (missing|unexpected) .* and \d+ more"):
        load_weights(fresh(name=wanted), tmp_path / "w.safetensors")


class Payload:
    def __reduce__(self):
        return exec, ("raise SystemExit('code was run')",)


@pytest.mark.parametrize("content", [Payload(), [1, 2, 3], torch.zeros(3), {"model": Payload()}])
def test_what_is_no_state_dict_is_refused_and_never_run(content, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_weights(fresh(), tmp_path / "w.pth")


def test_checkpoints_hold_tensors_and_plain_values_only(tmp_path):
    write_checkpoint(tmp_path / "c.pt", {"weights": torch.ones(2), "history": [{"epoch": 1}], "seconds": 1.5})
    saved = read_checkpoint(tmp_path / "c.pt", CPU)
    assert saved["history"] == [{"epoch": 1}]
    torch.save({"x": Payload()}, tmp_path / "bad.pt")
    with pytest.raises(Exception, match=r"[Ww]eights"):
        read_checkpoint(tmp_path / "bad.pt", CPU)


def test_a_checkpoint_is_an_ordinary_torch_file(tmp_path):
    write_checkpoint(tmp_path / "c.pt", {"x": 1})
    assert zipfile.is_zipfile(io.BytesIO((tmp_path / "c.pt").read_bytes()))
