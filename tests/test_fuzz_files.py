"""Every file that the library reads, damaged in every way: an error that names it, or the same result as before.

A reader takes a folder, has the library read one of its files, and gives back all that came of it, what belongs to the occasion
excepted. A damaged file must give just that, or an error of a kind that users get, with the file's name. Another result, another
kind of exception, or code of the file's own having run is a failure.
"""

import contextlib
import copy
import dataclasses
import io
import json
import logging
import math
import os
import pickle
import random
import shutil
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch

import adakd
from adakd import CacheError, CheckpointError, TeacherError, WeightsError, load_weights
from adakd.models import network_of, seeded_model
from adakd.plan import Request, plan_student
from adakd.runs import Resources
from adakd.study import Study, append_record, format_lines, read_records, read_study, run_study
from adakd.teachers.find import _teacher_model
from adakd.training import Recipe, choose_precision, student_views
from adakd.training.cache import open_cache
from adakd.training.files import read_checkpoint, with_checksum, write_checkpoint

CPU = torch.device("cpu")
FP32 = choose_precision("fp32", CPU, 0)
NAME = "resnet8x0.5"
SMALL = {"device": "cpu", "precision": "fp32", "progress": False, "epochs": 2, "batch_size": 20}
OF_THE_OCCASION = ("seconds", "started", "finished", "sessions", "commit")
CLEAR = (CheckpointError, WeightsError, CacheError, TeacherError, ValueError, OSError)


# ---- one of everything, whole ----


class Stop(BaseException):
    """Leaves a run after its first epoch: the checkpoint stays."""


def stop(row):
    raise Stop


@pytest.fixture(scope="module")
def data(tiny_data):
    return dataclasses.replace(tiny_data, padding=1, flip=True)  # 18 views an image


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A folder of a teacher, a student of it, an unfinished run, a cache, a study, and published weights."""
    root = tmp_path_factory.mktemp("whole")
    made = adakd.train_teacher(NAME, data, out=root / "made", **SMALL)
    shutil.copytree(made.folder, root / "teacher")
    teacher = adakd.open_run(root / "teacher")
    student = distill(root, data, teacher)
    shutil.copytree(student.folder, root / "student")
    with contextlib.suppress(Stop):
        distill(root, data, None, "ce", train_images=20, on_epoch=stop)
    study = Study(("ce", "kd"), (0,), reference="kd", ways=("published",))
    options = {**SMALL, "epochs": 1, "train_images": 20}
    run_study(study, root / "study", teacher, NAME, data, out=root / "made", **options)
    state = student.model().state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 2}, root / "published.pth")
    shutil.copy(student.folder / "weights.safetensors", root / "published.safetensors")
    return root


def distill(root, data, teacher, method="kd", **options):
    options = {"out": root / "out", "train_images": 40, "cache": "fp32", **SMALL, **options}
    return adakd.distill(teacher, NAME, method, data, **options)


def settled(record):
    return {name: value for name, value in record.items() if name not in OF_THE_OCCASION}


def bits(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


# ---- what the library makes of each file ----


def open_student(root, data):
    run = adakd.open_run(root / "student")
    return settled(run.record), bits(run.model())


def reopen_student(root, data):
    return settled(distill(root, data, str(root / "teacher")).record)


def planned(data, root, **teacher):
    """Config of a student of this teacher."""
    changes = {name: SMALL[name] for name in SMALL.keys() & Recipe.__dataclass_fields__.keys()}
    changes["train_images"] = 40
    request = Request(data, NAME, "kd", changes=changes, precision="fp32", **teacher)
    return plan_student(request, Resources(root, cache=None, progress=False)).config.describe()


def load_teacher(root, data):
    config = planned(data, root, teacher=str(root / "teacher"))
    return config, bits(_teacher_model(*teacher_arguments(root)))


def teacher_arguments(root):
    record = json.loads((root / "teacher" / "record.json").read_text())
    weights = root / "teacher" / "weights.safetensors"
    return network_of(NAME), (10, 3), weights, record["weights_sha256"], None  # the name says its settings


def go_on(root, data):
    run = distill(root, data, None, "ce", train_images=20)
    return settled(run.record), run.record["sessions"][:-1], bits(run.model())


def read_cache(root, data):
    (weights,) = (root / "teacher").glob("*.safetensors")
    model = load_weights(seeded_model(NAME, 10, 0), weights).eval()
    who = {"model": NAME, "sha256": adakd.open_run(root / "teacher").record["weights_sha256"]}
    views = student_views(data, Recipe("t", epochs=2, train_images=40), 0)
    cache, places = open_cache(root / "out", data, who, FP32, views.count, "fp32"), views.visited(2)
    cache.fill(model, views, places, FP32, progress=False)
    cache.verify(model, views, places, FP32)
    return cache.read(places).numpy().tobytes()


def tabulate(root, data):
    study = read_study(root / "study")
    records = read_records(root / "study", complete=True)
    return (
        settled(study.plan),
        format_lines(study.table("published", ("kd",))),
        [settled(record) for record in records],
    )


def load_published(name):
    def read(root, data):
        config = planned(data, root, teacher=NAME, teacher_weights=root / name)
        model = load_weights(seeded_model(NAME, 10, 0), root / name)
        # Published weights have no record that could know their hash: another file is another teacher, and is called so.
        return config if name.endswith(".safetensors") else bits(model)

    return read


READERS = {
    "checkpoint": ("out/**/checkpoint.pt", go_on),
    "sessions": ("out/**/sessions.json", go_on),
    "weights": ("student/weights.safetensors", open_student),
    "record": ("student/record.json", open_student),
    "record of a finished run": ("out/**/kd-*/record.json", reopen_student),
    "teacher's weights": ("teacher/weights.safetensors", load_teacher),
    "teacher's record": ("teacher/record.json", load_teacher),
    "cache's logits": ("out/**/logits.fp32", read_cache),
    "cache's checksums": ("out/**/checks.u32", read_cache),
    "cache's note": ("out/**/filled.u8", read_cache),
    "cache's identity": ("out/**/cache.json", read_cache),
    "study's records": ("study/published.jsonl", tabulate),
    "study's plan": ("study/study.json", tabulate),
    "published .pth": ("published.pth", load_published("published.pth")),
    "published .safetensors": ("published.safetensors", load_published("published.safetensors")),
}
JSON = {name for name, (path, _) in READERS.items() if path.endswith(".json")}


# ---- damage ----


class Payload:
    """A pickle that, when it is loaded as pickles usually are, does something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(flag):
    """Contents that act, that never end, or that are far larger than they look."""
    acting = {
        "os.system": Payload(os.system, f"touch {flag}"),
        "eval": Payload(eval, f"open({str(flag)!r}, 'w')"),
        "SystemExit": Payload(exec, "raise SystemExit(3)"),
        "raising": Payload(exec, "raise Exception"),
    }
    for name, payload in acting.items():
        yield f"pickle of {name}", pickle.dumps(payload)
        for place, content in (("", payload), (" in a state", {"model": payload, "config": {}})):
            buffer = io.BytesIO()
            torch.save(content, buffer)
            yield f"archive of {name}{place}", buffer.getvalue()
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"0" * 50_000_000)
        archive.writestr("archive/version", b"3\n")
    yield "zip bomb", bomb.getvalue()
    yield from JSON_BOMBS.items()
    yield "nothing", b""
    yield "another archive", b"PK\x05\x06" + bytes(18)


JSON_BOMBS = {
    "deep list": b"[" * 200_000 + b"]" * 200_000,
    "deep object": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "nested 100 deep": b'{"a":' * 100 + b"1" + b"}" * 100,
    "huge integer": b'{"kind": "student", "seed": ' + b"9" * 1_000_000 + b"}",
    "NaN": b'{"kind": "student", "seed": NaN}',
    "infinite float": b'{"kind": "student", "seed": 1e999}',
    "twice": b'{"kind": "student", "kind": "teacher"}',
    "half a pair": b'{"kind": "student", "seed": "\\ud800"}',
    "not UTF-8": b'{"kind": "\xff\xfe"}',
    "UTF-16": '{"kind": "student"}'.encode("utf-16"),
    "null": b"null",
    "list": b"[]",
    "object": b"{}",
    "text": b'"\\u001b[31mred"',
    "number": b"3",
    "only a kind": b'{"kind": "student"}',
    "config that is none": b'{"kind": "student", "config": null}',
}


def bytes_changed(content, draw):
    """One of the things that disks and copies do."""
    content = bytearray(content)
    size = len(content)
    start = draw.randrange(size)
    length = min(size - start, draw.choice((1, 16, 512, 2000)))
    match draw.choice(("bit", "bit", "bits", "cut", "zeros", "noise", "gone", "more", "again")):
        case "bit":
            content[start] ^= 1 << draw.randrange(8)
        case "bits":
            for _ in range(20):
                content[draw.randrange(size)] ^= 1 << draw.randrange(8)
        case "cut":
            del content[start:]
        case "zeros":
            content[start : start + length] = bytes(length)
        case "noise":
            content[start : start + length] = draw.randbytes(length)
        case "gone":
            del content[start : start + length]
        case "more":
            content[start:start] = draw.randbytes(length)
        case "again":
            content += content[start:]
    return bytes(content)


def places_in(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places_in(value[key], (*path, key))


STRANGE = [None, True, -1, 1.5, "x", [], {}, [[]], {"x": None}, "\x1b[2J", 2**62]


def typed(value, draw):
    """The same object with something strange in one place, or without it."""
    value = copy.deepcopy(value)
    *path, last = draw.choice([path for path in places_in(value) if path])
    parent = value
    for key in path:
        parent = parent[key]
    if draw.random() < 0.25:
        del parent[last]
    else:
        parent[last] = draw.choice(STRANGE)
    return value


def said(messages, path):
    return any(path.name in message and "left out" in message for message in messages)


class Attack:
    """Damages one file of a copy of the folder, reads it, and judges what came of it."""

    def __init__(self, name, whole, data, tmp_path, caplog):
        self.pattern, self.read = READERS[name]
        self.whole, self.data, self.tmp_path, self.caplog = whole, data, tmp_path, caplog
        self.flag = tmp_path / "code-was-run"
        self.number = 0
        self.outcomes = Counter()
        self.failures = []
        root, path = self.copy()
        self.content = path.read_bytes()
        self.right = self.read(root, data)

    def copy(self):
        root = self.tmp_path / "copies" / str(self.number)
        self.number += 1
        shutil.rmtree(root.parent, ignore_errors=True)
        shutil.copytree(self.whole, root)
        (path,) = root.glob(self.pattern)
        _teacher_model.cache_clear()
        return root, path

    def __call__(self, what, content, others=False):
        """`others`: another result is right too, as the file cannot know that it is another one."""
        root, path = self.copy()
        path.write_bytes(content)
        self.caplog.clear()
        try:
            result = self.read(root, self.data)
        except CLEAR as error:
            named = path.name in str(error) or path.parent.name in str(error)
            outcome = "error" if named else f"no name: {error!r:.200}"
            if "\x1b" in str(error):
                outcome = "steers the terminal"
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error!s:.200}"
        else:
            outcome = (
                "same" if result == self.right else "said" if said(self.caplog.messages, path) else "other"
            )
            # Whole lines that are gone leave a whole file.
            if outcome == "other" and path.suffix == ".jsonl" and self.content.startswith(content):
                outcome = "shorter"
        if self.flag.exists():
            outcome = "CODE WAS RUN"
        self.outcomes[outcome] += 1
        allowed = {"error", "same", "said", "shorter"} | ({"other"} if others else set())
        if outcome not in allowed:
            self.failures.append((what, outcome))


@pytest.fixture
def attack(request, whole, data, tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="adakd")
    made = Attack(request.param, whole, data, tmp_path, caplog)
    yield made
    assert made.failures == []
    print(f"\n{request.param}: {sum(made.outcomes.values())} {dict(made.outcomes)}")


def damage(attack, name, count):
    draw = random.Random(f"{name} {count}")
    others = name == "published .safetensors"
    for i in range(count):
        attack(f"bytes {i}", bytes_changed(attack.content, draw), others)


def strange_values(attack, name, count):
    draw = random.Random(f"{name} {count} typed")
    value = json.loads(attack.content)
    for i in range(count):
        changed = typed(value, draw)
        attack(f"typed {i}", json.dumps(changed).encode())
        if isinstance(changed, dict) and "checksum" in changed:  # and as from before there were checksums
            del changed["checksum"]
            attack(f"typed {i}, no checksum", json.dumps(changed).encode(), others=True)


EACH = pytest.mark.parametrize(
    ("attack", "name"), [(name, name) for name in READERS], ids=READERS, indirect=["attack"]
)


@EACH
def test_damaged_bytes(attack, name):
    damage(attack, name, 8)
    if name in JSON:
        strange_values(attack, name, 6)


@EACH
def test_hostile_contents(attack, name):
    binary = not attack.pattern.endswith(("json", "jsonl"))
    for what, content in hostile(attack.flag):
        if binary != (what in JSON_BOMBS) or what in ("huge integer", "nothing", "pickle of os.system"):
            attack(what, content)


@pytest.mark.slow
@EACH
def test_much_more_damage(attack, name):
    """A thousand, of which the tests above are a sample."""
    damage(attack, name, 60)
    if name in JSON:
        strange_values(attack, name, 40)


# ---- checkpoints whose bytes are whole, and which no run has written ----


def changed(saved, path, value):
    saved = copy.deepcopy(saved)
    *parents, last = path
    part = saved
    for key in parents:
        part = part[key]
    if value is KeyError:
        del part[last]
    else:
        part[last] = value(part[last]) if callable(value) else value
    return saved


def meta(tensor):
    return torch.empty_like(tensor, device="meta")


def quantized(tensor):
    warnings.simplefilter("ignore")  # torch will not make such tensors for ever; files hold them
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


CONV, BUFFER = ("model", "conv1.weight"), ("optimizer", "state", 0, "momentum_buffer")
CRAFTED = {
    "epoch 99": (("epoch",), 99, "epoch is 99, expected 1 to 3"),
    "epoch 0": (("epoch",), 0, "epoch is 0"),
    "epoch true": (("epoch",), True, "field 'epoch': expected a whole number, got bool True"),
    "epoch text": (("epoch",), "2", "field 'epoch': expected a whole number, got str '2'"),
    "step -1": (("step",), -1, "step is -1, expected 0 to 0"),
    "step 1": (("step",), 1, "step is 1"),
    "seconds NaN": (("seconds",), math.nan, "seconds is nan"),
    "seconds text": (("seconds",), "long", "field 'seconds': expected a number"),
    "history empty": (("history",), [], "history has 0 rows, expected one for each of 1 epochs"),
    "history null": (("history",), None, "field 'history': expected a list, got null"),
    "row text": (("history", 0), "x", r"field 'history\[0\]': expected an object"),
    "row's epoch": (("history", 0, "epoch"), 7, "history has 1 rows"),
    "row's loss": (("history", 0, "loss"), None, r"field 'history\[0\].loss': expected a number, got null"),
    "no config": (("config",), KeyError, "field 'config' is missing, expected an object"),
    "no optimizer": (("optimizer",), KeyError, "field 'optimizer' is missing"),
    "no meter": (("meter",), KeyError, "meter is a NoneType, expected a tensor"),
    "meter of another size": (("meter",), torch.zeros(3), r"meter is \(3,\), expected \(8,\)"),
    "model list": (("model",), [1], "field 'model': expected an object, got list"),
    "no tensor": (CONV, KeyError, "model.conv1.weight is missing"),
    "another tensor": (("model", "head"), torch.zeros(2), "model.head is not of this network"),
    "complex": (CONV, lambda t: t.to(torch.complex64), "conv1.weight is torch.complex64, expected floating"),
    "int8": (CONV, lambda t: t.to(torch.int8), "conv1.weight is torch.int8, expected floating"),
    "half": (CONV, lambda t: t.half(), "conv1.weight is torch.float16, expected torch.float32"),
    "sparse": (
        CONV,
        lambda t: t.to_sparse(),
        "conv1.weight is torch.sparse_coo, expected a plain dense tensor",
    ),
    "quantized": (CONV, quantized, "conv1.weight is quantized"),
    "meta": (CONV, meta, "conv1.weight has a shape and no values"),
    "a number": (CONV, 3.0, "conv1.weight is a float, expected a tensor"),
    "another shape": (CONV, lambda t: t[:1], r"conv1.weight is \(1, 3, 3, 3\), expected \(8, 3, 3, 3\)"),
    "NaN": (CONV, lambda t: t * math.nan, "conv1.weight: 216 of 216 values are not finite"),
    "floating counter": (("model", "bn1.num_batches_tracked"), torch.tensor(1.0), "expected whole numbers"),
    "momentum's shape": (BUFFER, torch.zeros(2), r"momentum_buffer is \(2,\)"),
    "momentum's kind": (BUFFER, lambda t: t.to(torch.complex64), "momentum_buffer is torch.complex64"),
    "momentum text": (BUFFER, "x", "momentum_buffer is a str"),
    "state of nobody": (("optimizer", "state", 999), {}, r"state\[999\] is of no parameter"),
    "state list": (("optimizer", "state"), [], "field 'optimizer.state': expected an object"),
    "no groups": (("optimizer", "param_groups"), [], "param_groups has 0 entries"),
    "rate": (("optimizer", "param_groups", 0, "lr"), "fast", "lr is 'fast', expected a number"),
    "rate NaN": (("optimizer", "param_groups", 0, "lr"), math.nan, "lr is nan, expected a number"),
    "other parameters": (
        ("optimizer", "param_groups", 0, "params"),
        [0],
        "params are not those of this network",
    ),
    "schedule": (("scheduler", "last_epoch"), 5, "scheduler.last_epoch is 5, expected 1"),
    "no schedule": (("scheduler",), None, "field 'scheduler': expected an object, got null"),
}


@pytest.fixture
def unfinished(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "copy")
    (path,) = (tmp_path / "copy").glob("out/**/checkpoint.pt")
    return tmp_path / "copy", path


@pytest.mark.filterwarnings(
    "ignore:Validating sparse tensor invariants:UserWarning"
)  # torch 2.14's, as it reads one
@pytest.mark.parametrize(("path", "value", "message"), CRAFTED.values(), ids=CRAFTED)
def test_a_checkpoint_that_no_run_writes_is_refused(path, value, message, unfinished, data):
    root, file = unfinished
    write_checkpoint(file, changed(read_checkpoint(file, CPU), path, value))
    with pytest.raises(
        CheckpointError, match=rf"checkpoint.pt cannot be read \(.*{message}.*delete it to start"
    ):
        go_on(root, data)


def test_what_a_schedule_does_not_know_is_not_loaded(unfinished, whole, data, tmp_path):
    """It would stand in the place of the schedule's own methods."""
    root, file = unfinished
    write_checkpoint(file, changed(read_checkpoint(file, CPU), ("scheduler", "get_lr"), 3))
    shutil.copytree(whole, tmp_path / "right")
    assert go_on(root, data) == go_on(tmp_path / "right", data)


def test_a_checkpoint_from_before_the_hash_goes_on(unfinished, whole, data, tmp_path):
    root, file = unfinished
    torch.save(torch.load(file, weights_only=True), file)
    shutil.copytree(whole, tmp_path / "right")
    assert go_on(root, data) == go_on(tmp_path / "right", data)


def test_a_checkpoint_from_before_the_hash_that_was_changed_is_refused(unfinished, data):
    """torch writes a CRC of each part and does not read it."""
    root, file = unfinished
    saved = torch.load(file, weights_only=True)
    torch.save(saved, file)
    content, weights = file.read_bytes(), saved["model"]["bn1.running_var"].numpy().tobytes()
    at = content.index(weights)
    file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(CheckpointError, match=r"checkpoint.pt cannot be read .*CRC.*delete it to start again"):
        go_on(root, data)


def test_sessions_from_before_the_checksum_are_kept(unfinished, data):
    root, file = unfinished
    path = file.with_name("sessions.json")
    sessions = json.loads(path.read_text())["begun"]
    path.write_text(json.dumps(sessions))
    _, earlier, _ = go_on(root, data)
    assert earlier == sessions


def test_records_from_before_the_checksum_are_read(whole, tmp_path):
    record = json.loads((whole / "student" / "record.json").read_text())
    del record["checksum"]
    shutil.copytree(whole / "student", tmp_path / "old")
    (tmp_path / "old" / "record.json").write_text(json.dumps(record))
    assert adakd.open_run(tmp_path / "old").record == record
    append_record(tmp_path / "old.jsonl", record)
    assert read_records(tmp_path / "old.jsonl", complete=True)[0]["config"] == record["config"]


def test_a_record_that_contradicts_itself_is_refused(whole, tmp_path):
    """From before the checksum: one changed digit."""
    record = json.loads((whole / "student" / "record.json").read_text())
    del record["checksum"]
    record["result"]["last"] += 10
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    with pytest.raises(
        ValueError, match=r"record.json is damaged .*'result.last' does not agree.*repeat the run"
    ):
        adakd.open_run(tmp_path)


def test_the_checksum_knows_nothing_of_the_occasion(whole):
    record = adakd.open_run(whole / "student").record
    assert Path(whole / "student" / "record.json").read_text().count(record["checksum"]) == 1
    later = with_checksum({**record, "seconds": 1e6, "started": "later", "finished": "then", "sessions": []})
    assert later["checksum"] == record["checksum"]
    assert with_checksum({**record, "seed": 1})["checksum"] != record["checksum"]
