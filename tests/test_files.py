"""Files of a run: whole or not at all; weights that fit, or an error that says why they do not."""

import argparse
import collections
import errno
import hashlib
import io
import json
import os
import stat
import zipfile

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import adakd
from adakd import WeightsError, create_model, load_weights
from adakd.training import files as files_module
from adakd.training.files import (
    check_fields,
    parse_json,
    read_checkpoint,
    read_json,
    refuse_folders,
    remove_leftovers,
    save_weights,
    sha256_of,
    write_checkpoint,
    write_json,
)

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


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_one_to_the_new_file(writer, there, tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    if there:
        target.write_bytes(b"old")
    link.symlink_to("target")
    writer(link, 2)
    assert link.is_symlink()
    assert not target.is_symlink()
    assert len(target.read_bytes()) > 3


def test_what_is_no_file_is_written_to_and_never_replaced(tmp_path):
    """As /dev/stdout and /dev/null: here a named pipe, with somebody who reads it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_json(pipe, {"a": 1})
        assert json.loads(os.read(reader, 100)) == {"a": 1}
    finally:
        os.close(reader)
    assert pipe.is_fifo()


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


def test_tied_weights_come_back_tied(tmp_path):
    network, other = (nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)}) for _ in range(2))
    flat = torch.arange(6.0)
    for each in (network, other):
        each["b"].weight = each["a"].weight
    network.register_buffer("first", flat[:4])
    network.register_buffer("last", flat[2:])  # which overlap
    other.register_buffer("first", torch.zeros(4))
    other.register_buffer("last", torch.zeros(4))
    save_weights(network, tmp_path / "tied.safetensors")
    load_weights(other, tmp_path / "tied.safetensors")
    assert other["a"].weight is other["b"].weight
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


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


# ---- weights as others save them ----

PREFIXES = [
    "",
    "model.",
    "_orig_mod.",
    "module.",
    "student.",
    "module.student.",
    "module._orig_mod.",
    "model.student.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("counters", [True, False])
def test_prefixes_of_both_formats_and_without_counters(prefix, suffix, counters, tmp_path):
    state = {
        prefix + name: tensor
        for name, tensor in model().state_dict().items()
        if counters or not name.endswith("num_batches_tracked")
    }
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert same(load_weights(fresh(), path), model())


WRAPPERS = ["model", "state_dict", "net", "model_state_dict", "student", "network", "weights"]


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("inner", [None, "state_dict"])
def test_wrappers(wrap, inner, tmp_path):
    state = {f"module.{name}": tensor for name, tensor in model().state_dict().items()}
    state = collections.OrderedDict(state)
    torch.save(
        {"epoch": 3, "optimizer": {"state": {}}, wrap: {inner: state} if inner else state}, tmp_path / "w.pt"
    )
    assert same(load_weights(fresh(), tmp_path / "w.pt"), model())


def test_what_a_distiller_saves_holds_its_student(tmp_path):
    distiller = adakd.Distiller(model(), fresh(), "kd+ctkd")
    torch.save(distiller.state_dict(), tmp_path / "w.pt")
    assert any(name.startswith("criterion.") for name in distiller.state_dict())
    assert same(load_weights(fresh(), tmp_path / "w.pt"), model())


def test_a_checkpoint_of_a_run_holds_its_network(tmp_path):
    write_checkpoint(tmp_path / "checkpoint.pt", {"model": model().state_dict(), "epoch": 3})
    assert same(load_weights(fresh(), tmp_path / "checkpoint.pt"), model())


def test_two_networks_in_one_file_are_not_chosen_between(tmp_path):
    state = {f"{part}.{name}": t for part in ("student", "module") for name, t in model().state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"holds two networks, module.… and student.…: save the one"):
        load_weights(fresh(), tmp_path / "w.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_floating_formats_are_converted(dtype, suffix, tmp_path):
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in model().state_dict().items()}
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = load_weights(fresh(), path).state_dict()
    for name, tensor in model().state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], state[name].to(tensor.dtype))


CONV = "conv1.weight"
WRONG = {
    "complex": (lambda t: t.to(torch.complex64), "is torch.complex64, expected floating numbers"),
    "int8": (lambda t: t.to(torch.int8), "is torch.int8, expected floating numbers"),
    "bool": (lambda t: t > 0, "is torch.bool, expected floating numbers"),
    "sparse": (lambda t: t.to_sparse(), "is torch.sparse_coo, expected a plain dense tensor"),
    "csr": (lambda t: t.reshape(8, 27).to_sparse_csr(), "is torch.sparse_csr, expected a plain dense tensor"),
    "meta": (lambda t: t.to("meta"), "has a shape and no values"),
    "number": (lambda t: 3.5, "is a float, expected a tensor"),
    "list": (lambda t: t.tolist(), "is a list, expected a tensor"),
    "none": (lambda t: None, "is a NoneType, expected a tensor"),
    "NaN": (lambda t: torch.full_like(t, torch.nan), "216 of 216 values are not finite in torch.float32"),
    "infinite": (lambda t: t.double() * 1e300, r"\d+ of 216 values are not finite in torch.float32"),
    "shape": (lambda t: t[:4], r"is \(4, 3, 3, 3\), expected \(8, 3, 3, 3\)"),
    "expanded": (lambda t: torch.zeros(1).expand(10**13), r"is \(10000000000000,\), expected"),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.filterwarnings(
    "ignore:Validating sparse tensor invariants:UserWarning"
)  # torch 2.14's, as it reads one
def test_tensors_that_are_no_weights(change, message, tmp_path):
    state = model().state_dict()
    torch.save({**state, CONV: change(state[CONV])}, tmp_path / "w.pth")
    target, before = fresh(), fresh()
    with pytest.raises(WeightsError, match=rf"w.pth does not fit this network: {CONV}:? {message}"):
        load_weights(target, tmp_path / "w.pth")
    assert same(target, before)


def test_names_that_are_not_texts(tmp_path):
    torch.save({1: torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"cannot be read as weights .*an entry named 1, expected names"):
        load_weights(fresh(), tmp_path / "w.pth")


def test_names_of_another_library_are_shown_beside_the_networks(tmp_path):
    torch.save({f"encoder.layer{i}.w": torch.zeros(2) for i in range(9)}, tmp_path / "w.pth")
    expected = (
        r"does not fit resnet8x0.5 \(10 classes\): missing conv1.weight.*The file begins with encoder.layer0.w, "
        r"encoder.layer1.w, encoder.layer2.w; the network with conv1.weight, bn1.weight, bn1.bias"
    )
    with pytest.raises(WeightsError, match=expected):
        load_weights(fresh(), tmp_path / "w.pth", name="resnet8x0.5 (10 classes)")


def test_a_class_beside_the_tensors_is_named_with_what_to_do(tmp_path):
    torch.save({"model": model().state_dict(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "w.pth")
    expected = r"holds argparse.Namespace, which is refused.*safe_globals\(\[argparse.Namespace\]\)"
    with pytest.raises(WeightsError, match=expected):
        load_weights(fresh(), tmp_path / "w.pth")
    if not hasattr(torch.serialization, "safe_globals"):  # torch 2.4, where the message names the other way
        return
    with torch.serialization.safe_globals([argparse.Namespace]):
        assert same(load_weights(fresh(), tmp_path / "w.pth"), model())


def test_nobody_is_advised_to_allow_what_acts(tmp_path):
    torch.save({"model": Payload()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"asks to call .*exec.*do not load it") as caught:
        load_weights(fresh(), tmp_path / "w.pth")
    assert "safe_globals" not in str(caught.value)


def test_numpy_arrays_beside_the_tensors_are_named(tmp_path):
    torch.save({"model": model().state_dict(), "acc": numpy.float64(3)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"holds numpy\S+, which is refused"):
        load_weights(fresh(), tmp_path / "w.pth")


def test_weights_are_held_against_their_hash(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(model(), path)
    right = sha256_of(path)
    load_weights(fresh(), path, sha256=right)
    save_weights(fresh(), path)  # another network of the same shapes
    with pytest.raises(
        WeightsError, match=rf"w.safetensors .*expected sha256 {right}, got {sha256_of(path)}\); restore"
    ):
        load_weights(fresh(), path, sha256=right)


def test_published_archives_are_held_against_their_crc(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(model().state_dict(), path)
    content = bytearray(path.read_bytes())
    content[content.index(model().state_dict()["fc.weight"].numpy().tobytes()) + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"w.pth cannot be read as weights .*CRC"):
        load_weights(fresh(), path)


# ---- JSON ----

BAD = {
    "cut": (b'{"a": 1', "Expecting"),
    "deep": (b"[" * 100_000, "nested more than 64 deep"),
    "65 deep": (b"[" * 66 + b"]" * 66, "nested more than 64 deep"),
    "long integer": (b"9" * 5000, "a whole number of 5000 digits"),
    "NaN": (b'{"a": NaN}', "NaN is not JSON"),
    "infinity": (b'{"a": -Infinity}', "-Infinity is not JSON"),
    "beyond": (b'{"a": 1e999}', "1e999 is beyond any number"),
    "twice": (b'{"a": 1, "a": 2}', "the field 'a' stands there twice"),
    "half a pair": (b'["\\ud800"]', "surrogates not allowed"),
    "no UTF-8": (b'["\xff"]', "can't decode byte 0xff"),
    "nothing": (b"", "Expecting value"),
    "an escape": (b'{"\\u001b[2J": 1, "\\u001b[2J": 1}', r"x1b\[2J' stands there twice"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_json_that_is_none_is_named(content, message, tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"record.json is damaged \(.*{message}.*\); delete it") as caught:
        read_json(path)
    assert "\x1b" not in str(caught.value)


def test_json_of_any_reasonable_kind_is_read():
    value = {"τ\u2028": [1, -2.5, True, None, "🙂", 2**63 - 1], "deep": [[[[{"a": {}}]]]]}
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        for content in (text.encode(), b"\xef\xbb\xbf" + text.encode()):
            assert parse_json(content, "here", "") == value


def test_json_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("adakd.training._json.LARGEST", 100)
    (tmp_path / "a.json").write_text('"' + "x" * 200 + '"')
    with pytest.raises(ValueError, match="101 bytes, and at most 100 are expected"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "field 'a' is missing, expected a whole number"),
        ([], r"expected an object, got list \[\]"),
        (None, "expected an object, got null"),
        ({"a": True}, "field 'a': expected a whole number, got bool True"),
        ({"a": 1, "b": {"c": ["x"]}}, r"field 'b.c\[0\]': expected a number or null, got str 'x'"),
        ({"a": 1, "b": {}}, "field 'b.c' is missing, expected a list"),
        ({"a": 1, "x": 3}, "field 'x': expected a text, got int 3"),
    ],
)
def test_fields_are_checked_and_named(value, message):
    spec = {"a": int, "b?": {"c": [(int, float, type(None))]}, ...: str}
    check_fields({"a": 1, "b": {"c": [1, None, 2.5], "more": 1}, "x": "y"}, spec, "f.json", "delete it")
    with pytest.raises(ValueError, match=rf"f.json is damaged \({message}\); delete it"):
        check_fields(value, spec, "f.json", "delete it")


# ---- files that cannot be written, and what is left of them ----


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_is_respected(mask, tmp_path):
    before = os.umask(mask)
    try:
        write_json(tmp_path / "record.json", {})
        assert os.umask(mask) == mask, "it is left as it was"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "record.json").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_names_the_file_and_what_to_do(writer, tmp_path, monkeypatch):
    """The file itself takes no byte, as on a disk that is full."""
    writer(tmp_path / "file", 1)
    before = (tmp_path / "file").read_bytes()

    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

        def fileno(self):
            return 0

    def full(handle, mode):
        os.close(handle)
        return Full()

    monkeypatch.setattr(files_module.os, "fdopen", full)
    with pytest.raises(OSError, match=r"No space left on device; .*free some space.*/file'") as caught:
        writer(tmp_path / "file", 2)
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "file").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    kept = [
        "record.json",
        ".record.json",
        ".record.json.much-longer",
        "x.record.json.abcdefgh",
        ".other.json.abcdefgh",
    ]
    for name in (*kept, ".record.json.abcdefgh", ".checkpoint.pt.a_bc1234"):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path, ["record.json", "checkpoint.pt"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_a_folder_in_a_files_place_is_refused(tmp_path):
    refuse_folders(tmp_path, ["record.json"])
    (tmp_path / "record.json").mkdir()
    with pytest.raises(IsADirectoryError, match=r"a folder stands where a file.*move it away.*record.json"):
        refuse_folders(tmp_path, ["record.json"])
