"""Advice: independent values, five teachers with a known fault, and settings that the records support."""

import gzip
import importlib.util
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import adakd
from adakd.advice import SPREAD, measured_settings
from adakd.cli import main
from adakd.data import eval_batches, load_data, load_gratings
from adakd.models import create_model, seeded_model
from adakd.statistics import mean_interval
from adakd.study import gradient_norm, read_records
from adakd.training import load_weights

ROOT = Path(__file__).parents[1]
REAL = os.environ.get("ADAKD_DATA")


def drawn(rows=60, classes=8, scale=3.0, seed=0):
    """A teacher that knows something: logits, those of a student, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (rows,), generator=generator)
    teacher = scale * torch.randn(rows, classes, generator=generator)
    teacher[torch.arange(rows), labels] += 2 * scale
    return teacher, 0.3 * torch.randn(rows, classes, generator=generator), labels


# ---- what is computed ----


def test_numbers_are_those_of_numpy():
    teacher, student, labels = drawn()
    advice = adakd.advise(teacher, student, labels)
    t = teacher.double().numpy()
    sigma = t.std(axis=1)
    z = (t - t.mean(axis=1, keepdims=True)) / sigma[:, None]
    p = np.exp(t) / np.exp(t).sum(axis=1, keepdims=True)
    entropy = -(p * np.log(p)).sum(axis=1)
    for found, values in (
        (advice.spread, sigma),
        (advice.max_z, z.max(axis=1)),
        (advice.entropy, entropy),
        (advice.choices, np.exp(entropy)),
    ):
        assert found["mean"] == pytest.approx(values.mean(), rel=1e-5)
        assert found["q5"] == pytest.approx(np.quantile(values, 0.05), rel=1e-5)
        assert found["q50"] == pytest.approx(np.quantile(values, 0.5), rel=1e-5)
    assert (advice.rows, advice.classes) == (60, 8)
    assert advice.accuracy == pytest.approx(100 * (t.argmax(axis=1) == labels.numpy()).mean(), rel=1e-5)
    assert advice.warnings == {}
    rules = {row["method"]: row for row in advice.temperatures}
    assert rules["kd"]["raw"]["q5"] == 4
    assert rules["kd"]["standardized"]["q50"] == pytest.approx(np.quantile(4 / sigma, 0.5), rel=1e-5)
    assert rules["zkd"]["standardized"]["q95"] == 2
    assert rules["zkd"]["raw"]["q95"] == pytest.approx(np.quantile(2 * sigma, 0.95), rel=1e-5)
    c2 = (1 + math.sqrt(3)) / 2
    peaks = np.quantile(c2 * z.max(axis=1), 0.25)
    assert rules["zkd+mlt-teacher"]["standardized"]["q25"] == pytest.approx(peaks, rel=1e-5)


def test_rules_are_those_of_the_registry_that_need_no_training():
    found = {row["method"].partition("+")[2] for row in adakd.advise(*drawn()).temperatures}
    assert {"mlt", "mlt-abs", "mlt-teacher", "mlt-two-sided", "dtkd", "normkd"} <= found
    assert not found & {"ctkd", "ctkd-instance", "dts", "meta", "itkd"}


def test_a_registered_rule_is_among_them():
    @adakd.register_rule("hot-here", options={"tau": 9.0})
    class Hot(adakd.Fixed):
        pass

    try:
        rows = {row["method"]: row for row in adakd.advise(*drawn()).temperatures}
    finally:
        from adakd.methods import RULE_NAMES
        from adakd.temperature import RULES

        del RULES["hot-here"], RULE_NAMES["hot-here"]
    assert rows["kd+hot-here"]["raw"]["q50"] == 9


def test_matched_weights_pull_as_hard_as_the_reference():
    teacher, student, labels = drawn()
    advice = adakd.advise(teacher, student, labels, reference="kd")
    s, t = student.double(), teacher.double()
    force = 0.9 * gradient_norm(adakd.create_method("kd"), s, t, labels)
    assert {row["method"] for row in advice.gradients} >= {"kd", "zkd", "dkd", "dtkd", "dist", "zkd+mlt"}
    for row in advice.gradients:
        if row["method"] in ("zkd", "dkd", "dist", "dtkd"):
            norm = gradient_norm(adakd.create_method(row["method"]), s, t, labels)
            assert row["norm"] == pytest.approx(norm, rel=1e-5)
            assert row["matched"] * norm == pytest.approx(force, rel=1e-4)


def test_methods_that_read_labels_need_them():
    teacher, student, _ = drawn()
    assert "dkd" not in {row["method"] for row in adakd.advise(teacher, student).gradients}
    with pytest.raises(ValueError, match=r"reference: expected .* labels too, got 'dkd'"):
        adakd.advise(teacher, student, reference="dkd")


def test_a_scaled_teacher_has_the_same_standardized_temperatures():
    teacher, student, _ = drawn()
    one, other = adakd.advise(teacher, student), adakd.advise(10 * teacher, student)
    for a, b in zip(one.temperatures, other.temperatures, strict=True):
        if a["reads"] == "standardized":
            assert a["standardized"]["q50"] == pytest.approx(b["standardized"]["q50"], rel=1e-4)
            assert 10 * a["raw"]["q50"] == pytest.approx(b["raw"]["q50"], rel=1e-4)


def test_views_stand_one_after_the_other():
    teacher, student, labels = drawn()
    views = [x.reshape(20, 3, 8) for x in (teacher, student)]
    found = adakd.advise(*views, labels[::3]).to_dict()
    assert found == adakd.advise(teacher, student, labels[::3].repeat_interleave(3)).to_dict()


def test_no_student_is_said_plainly_and_is_reproducible():
    teacher, student, _ = drawn()
    advice = adakd.advise(teacher)
    assert "independent and normal" in advice.assumed
    assert advice.assumed[:40] in str(advice)
    assert advice.to_dict() == adakd.advise(teacher).to_dict()
    assert adakd.advise(teacher, student).assumed is None


def test_the_assumed_spread_is_that_of_an_untrained_network():
    data = load_gratings(train_images=20, test_images=40)
    images, _ = next(iter(eval_batches(data)))
    torch.manual_seed(0)
    with torch.no_grad():
        logits = create_model("resnet8", data.num_classes, data.channels).train()(images.float())
    assert logits.std(dim=1, correction=0).mean().item() == pytest.approx(SPREAD, rel=0.5)


def test_advice_is_json_and_text():
    advice = adakd.advise(*drawn())
    assert json.loads(json.dumps(advice.to_dict(), allow_nan=False)) == advice.to_dict()
    text = str(advice)
    for row in (*advice.temperatures, *advice.gradients):
        assert row["method"] in text
    for part in (
        "CIFAR-100",
        "3000 images",
        "resnet8",
        "other data may differ",
        "study accuracy, % seeds",
        "8 classes (study: 100)",
        "study λ your λ",
    ):
        assert part in " ".join(text.split())
    assert max(map(len, text.split("\n"))) <= 112


def test_the_plot_has_every_rule_and_a_text_alternative(monkeypatch):
    """It needs matplotlib alone, and leaves the caller's settings and backend."""
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setitem(sys.modules, "adakd.explore", None)  # which needs anywidget
    monkeypatch.setitem(matplotlib.rcParams, "backend", "pdf")
    before = dict(matplotlib.rcParams)
    advice = adakd.advise(*drawn())
    picture = advice.plot()
    for row in advice.temperatures:
        assert f">{row['method']}<" in picture.svg
    assert f"Temperature of {len(advice.temperatures)} rules" in repr(picture)
    assert dict(matplotlib.rcParams) == before


# ---- teachers with a fault ----


def masked(value):
    teacher, student, labels = drawn()
    teacher, student = (torch.cat([x, torch.zeros(len(x), 1)], dim=1) for x in (teacher, student))
    teacher[:, 8] = value
    return teacher, student, labels


def probabilities():
    teacher, student, labels = drawn()
    return teacher.softmax(dim=1), student, labels


def log_probabilities():
    teacher, student, labels = drawn()
    return teacher.log_softmax(dim=1), student, labels


def two_classes():
    teacher, student, labels = drawn(classes=2)
    return teacher, student, labels


def guessing():
    teacher, student, labels = drawn(rows=400)
    return teacher, student, labels.roll(1)


def constant_rows():
    teacher, student, labels = drawn()
    return teacher.where(torch.arange(60)[:, None] % 3 > 0, 1.5), student, labels


def saturated():
    teacher, student, labels = drawn()
    return 100 * teacher, student, labels


def repeated():
    return tuple(torch.cat([x, x[:20]]) for x in drawn())


def with_noise(rows, size):
    return rows + size * torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))


def one_class_a_row(value):
    """Another class of each row, never the label's."""
    teacher, student, labels = drawn()
    teacher[torch.arange(60), (labels + 1 + torch.arange(60) % 7) % 8] = value
    return teacher, student, labels


def filled_up(value):
    teacher, student, labels = drawn()
    top = teacher.topk(3).indices
    return torch.full_like(teacher, value).scatter(1, top, teacher.gather(1, top)), student, labels


def of_teacher(change):
    def make():
        teacher, student, labels = drawn(rows=200)
        return change(teacher), student, labels

    return make


def of_student(change, labels=True):
    def make():
        teacher, student, target = drawn()
        return teacher, change(teacher, student), target if labels else None

    return make


def shifted():
    teacher, student, _ = drawn(rows=400)
    return teacher, student, teacher.argmin(dim=1)


def always_the_same():
    """Right as often as its one class is."""
    _, student, labels = drawn(rows=400)
    often = torch.where(torch.arange(400) % 10 > 0, 2, labels)
    return with_noise(6.0 * torch.nn.functional.one_hot(torch.full((400,), 2), 8), 1.0), student, often


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: one_class_a_row(-1e9), "masked in some rows"),
        (lambda: one_class_a_row(-100.0), "masked in some rows"),
        (lambda: filled_up(-1e9), "masked in some rows"),
        (of_teacher(lambda t: t + torch.tensor([0.0] * 7 + [-1e4])), "masked in some rows"),
        (of_teacher(lambda t: t.where(torch.arange(8) + 8 * (t[:, :1] < 0) != 3, -1e9)), "masked in some rows"),
        (of_student(lambda t, s: s.index_fill(1, torch.tensor(3), -1e9)), "masked in some rows"),
        (of_teacher(torch.sigmoid), "scores"),
        (of_teacher(lambda t: torch.nn.functional.normalize(t, dim=1)), "scores"),
        (of_teacher(adakd.standardize), "standardized rows"),
        (of_teacher(lambda t: (t - t.mean(1, keepdim=True)) / t.std(1, keepdim=True)), "standardized rows"),
        (of_teacher(lambda t: t / 1000), "nearly uniform"),
        (always_the_same, "near chance"),
        (shifted, "below chance"),
        (lambda: (with_noise(drawn()[0][:1].expand(60, 8), 1e-3), None, None), "rows alike"),
        (of_student(lambda t, s: t), "student like the teacher"),
        (of_student(lambda t, s: 0.1 * t - 5), "student like the teacher"),
        (of_student(lambda t, s: with_noise(t, 2.0)), "trained student"),
        (of_student(lambda t, s: with_noise(t, 2.0), labels=False), "student's spread"),
        (of_student(lambda t, s: 0 * s), "student's spread"),
        (of_student(lambda t, s: 1e-12 * s), "student's spread"),
        (lambda: masked(-math.inf), "masked class"),
        (lambda: masked(-1e4), "masked class"),
        (lambda: masked(torch.finfo(torch.float32).min), "masked class"),
        (probabilities, "probabilities"),
        (log_probabilities, "log-probabilities"),
        (two_classes, "two classes"),
        (guessing, "near chance"),
        (constant_rows, "collapsed"),
        (saturated, "collapsed"),
        (repeated, "repeated rows"),
    ],
)
def test_a_fault_is_named_and_nothing_else_is(make, fault):
    advice = adakd.advise(*make())
    assert list(advice.warnings) == [fault]
    assert f"warning: {fault}: " in str(advice)
    json.dumps(advice.to_dict(), allow_nan=False)


def test_a_fault_of_both_names_both():
    teacher, student, _ = drawn()
    found = adakd.advise(teacher.softmax(dim=1), student.softmax(dim=1)).warnings
    assert list(found) == ["probabilities"]
    assert "the teacher's and the student's rows" in found["probabilities"]


@pytest.mark.parametrize("rows", [1, 8])
def test_of_few_rows_no_accuracy_is_judged(rows):
    teacher, student, _ = (x[:rows] for x in drawn())
    assert adakd.advise(teacher, student, teacher.argmax(dim=1)).warnings == {}


@pytest.mark.parametrize("change", [lambda t, s: t, lambda t, s: 0.1 * t, lambda t, s: 0 * s])
def test_where_there_is_no_gradient_there_is_no_weight(change):
    """Rounding is no gradient: no λ of 10¹⁸ comes of it."""
    teacher, student, _ = drawn()
    advice = adakd.advise(teacher, change(teacher, student))
    assert {row["matched"] for row in advice.gradients} == {None}
    assert {row["here"] for row in advice.supported if row["method"] == "zkd"} == {None}


def test_a_masked_class_changes_nothing_else():
    clean, found = adakd.advise(*drawn()).to_dict(), adakd.advise(*masked(-math.inf)).to_dict()
    assert "class 8 " in found.pop("warnings")["masked class"]
    clean.pop("warnings")
    assert found == clean


@pytest.mark.parametrize("logits", [lambda rows: rows.half(), lambda rows: rows.bfloat16()])
def test_what_stands_in_the_place_of_logits_is_seen_in_half_precision(logits):
    teacher, _, _ = drawn()
    assert "log-probabilities" in adakd.advise(logits(teacher.log_softmax(dim=1))).warnings
    assert "probabilities" in adakd.advise(logits(teacher.softmax(dim=1))).warnings
    assert adakd.advise(logits(teacher)).warnings == {}


# ---- what cannot be advised on ----


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, s, y: (t[0], s, y), r"teacher_logits: expected shape \(images, classes\)"),
        (lambda t, s, y: (t[:, :1], s, y), "at least 1 image and 2 classes"),
        (lambda t, s, y: (t, s[:-1], y), "student_logits: expected the teacher's shape"),
        (
            lambda t, s, y: (t.index_fill(0, torch.tensor([3]), math.nan), s, y),
            "teacher_logits: 1 of 60 rows hold NaN",
        ),
        (lambda t, s, y: (t, s * math.inf, y), "student_logits: 60 of 60 rows hold NaN or infinity"),
        (lambda t, s, y: (t, s, y + 1), "^labels: expected labels from 0 to 7, got 8"),
        (lambda t, s, y: (t, s, y[:-1]), "labels: expected 60 class labels"),
        (lambda t, s, y: (t, s, y + 1), "count from 1, so subtract 1"),
        (lambda t, s, y: (t, s, y.double()), r"labels.long\(\)"),
        (lambda t, s, y: (t, s, torch.nn.functional.one_hot(y)), r"labels.argmax\(-1\)"),
        (lambda t, s, y: (t.T.contiguous(), None, y), "are the logits transposed"),
        (lambda t, s, y: (t.view(6, 10, 8), None, y.view(6, 10)), "flatten both"),
        (lambda t, s, y: (t.view(6, 10, 8), s, None), "student_logits: expected the teacher's shape"),
        (lambda t, s, y: ((1e5 * t).half(), s, y), "record in float32"),
        (lambda t, s, y: (t * 0, s, y), "every row is constant"),
        (lambda t, s, y: (t.index_fill(1, y[:1], -math.inf), s, y), "labels: row 0 has the class"),
        (lambda t, s, y: (t * 1e36, s, y), "expected logits of at most 1e"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(change, message):
    with pytest.raises(ValueError, match=message):
        adakd.advise(*change(*drawn()))


def test_labels_of_any_integers_are_labels():
    teacher, student, labels = drawn()
    assert adakd.advise(teacher, student, labels.int()) == adakd.advise(teacher, student, labels)


@pytest.mark.parametrize("given", ["a list", "numpy"])
def test_what_is_no_tensor_is_refused_with_what_to_do(given):
    teacher, _, labels = drawn()
    logits, labels = (teacher.tolist(), None) if given == "a list" else (teacher, labels.numpy())
    with pytest.raises(TypeError, match=r"use torch.as_tensor\(\)"):
        adakd.advise(logits, labels=labels)


def test_a_vocabulary_is_no_matter_of_minutes(monkeypatch):
    """Fewer rows, and no square of the number of classes in memory."""
    monkeypatch.setattr("adakd.advice.METHODS", {name: adakd.METHODS[name] for name in ("kd", "zkd", "mlkd")})
    teacher = 3 * torch.randn(40, 5000, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("adakd.advice.MOST_NUMBERS", (20 * 5000, 5000))
    found = adakd.advise(teacher)
    assert [row["method"] for row in found.gradients] == ["kd", "zkd"]
    assert found.spread["mean"] == pytest.approx(
        teacher[torch.arange(20) * 39 // 19].std(dim=1, correction=0).mean().item(), rel=1e-5
    )
    assert "mlkd" in [row["method"] for row in adakd.advise(teacher[:, :100]).gradients]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_needs_no_mode_of_its_callers(mode):
    """Where logits are recorded no gradient is."""
    wanted = adakd.advise(*drawn())
    with mode():
        assert adakd.advise(*(x.clone() for x in drawn())) == wanted
        assert adakd.conformance.check(kd_by_hand, "kd").passed


def kd_by_hand(student, teacher, target):
    p, q = (x.div(4.0).log_softmax(dim=1) for x in (teacher, student))
    return 16 * (p.exp() * (p - q)).sum(dim=1).mean()


def test_advice_shares_nothing_with_the_next():
    adakd.advise(*drawn()).supported[0]["options"]["tau"] = 1.5
    assert all(row["options"].get("tau") != 1.5 for row in adakd.advise(*drawn()).supported)


def test_integers_are_no_logits():
    with pytest.raises(TypeError, match="teacher_logits: expected a floating-point tensor"):
        adakd.advise(torch.ones(4, 3, dtype=torch.int64))


@pytest.mark.parametrize("reference", ["ce", "ctkd", "fitnet", "fitnet+kd"])
def test_a_reference_must_have_a_gradient_norm(reference):
    with pytest.raises(ValueError, match="reference: expected a method on logits"):
        adakd.advise(*drawn(), reference=reference)


# ---- the command ----


@pytest.fixture
def files(tmp_path):
    teacher, student, labels = drawn()
    np.save(tmp_path / "teacher.npy", teacher.numpy())
    save_file({"logits": student}, tmp_path / "student.safetensors")
    np.save(tmp_path / "labels.npy", labels.numpy().astype(np.int16))
    return tmp_path


def test_command(files, capsys):
    student, labels = ["--student", f"{files}/student.safetensors"], ["--labels", f"{files}/labels.npy"]
    assert main(["advise", f"{files}/teacher.npy", *student, *labels, "--json", f"{files}/advice.json"]) == 0
    expected = adakd.advise(*drawn())
    assert capsys.readouterr().out == f"{expected}\n"
    assert json.loads((files / "advice.json").read_text()) == expected.to_dict()


def test_command_writes_a_figure(files):
    pytest.importorskip("matplotlib")
    assert main(["advise", f"{files}/teacher.npy", "--plot", f"{files}/tau.svg"]) == 0
    assert (files / "tau.svg").read_text(encoding="utf-8").startswith("<svg")


def pickled(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def two_arrays(path):
    with path.open("wb") as file:
        for batch in drawn()[:2]:
            np.save(file, batch.numpy())


def kept_highest(path):
    teacher = drawn()[0].log_softmax(dim=1).topk(3)
    save_file({"indices": teacher.indices, "values": teacher.values}, path)


@pytest.mark.parametrize(
    ("name", "write", "parts"),
    [
        ("nothing.npy", lambda path: None, ("there is no file", "numpy.save")),
        ("logits.pt", lambda path: path.write_bytes(b"x"), ("expected a file .npy or .safetensors",)),
        ("pickle.npy", pickled, ("cannot be read as logits", "allow_pickle=False")),
        ("damaged.npy", lambda path: path.write_bytes(b"\x93NUMPY"), ("cannot be read as logits",)),
        ("damaged.safetensors", lambda path: path.write_bytes(b"12345678"), ("cannot be read as logits",)),
        ("other.safetensors", lambda path: save_file({"a": torch.ones(3)}, path), ("named 'logits'", "got a")),
        ("two.npy", two_arrays, ("bytes follow its first array, (60, 8)", "numpy.concatenate")),
        ("archive.npy", lambda path: torch.save(torch.ones(2, 3), path), ("it is an archive",)),
        ("packed.npy", lambda path: path.write_bytes(gzip.compress(b"1")), ("it is compressed",)),
        ("text.npy", lambda path: path.write_text("0.1,0.9"), ("numpy.save writes, and it is something else",)),
        ("top.safetensors", kept_highest, ("got the 3 highest of a row", "without top=")),
        ("whole.npy", lambda path: np.save(path, np.ones((4, 3), dtype=int)), ("floating-point", "int64")),
        ("row.npy", lambda path: np.save(path, np.ones(4)), ("expected shape (images, classes)", "(4,)")),
    ],
)
def test_files_that_cannot_be_read(name, write, parts, tmp_path, capsys):
    write(tmp_path / name)
    assert main(["advise", str(tmp_path / name)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for part in ("adakd: ", *parts):
        assert part in error


def test_what_record_logits_writes_is_read(tmp_path, capsys):
    data = load_gratings()
    adakd.record_logits(seeded_model("resnet8x0.5", 10, 0), data, tmp_path / "own.safetensors")
    assert main(["advise", f"{tmp_path}/own.safetensors"]) == 0
    assert f"teacher: {len(data.train)} rows of 10 classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["teacher.npy", "--json", "teacher.npy"], "'teacher.npy' is read by this command"),
        (["teacher.npy", "--json", "./other/../teacher.npy"], "is read by this command"),
        (["teacher.npy", "--labels", "labels.npy", "--json", "labels.npy"], "'labels.npy' is read"),
        (["teacher.npy", "--plot", "a.svg", "--json", "./a.svg"], "is written by another option too"),
        (["teacher.npy", "--json", "link.json"], "is read by this command"),
        (["teacher.npy", "--reference", "x" * 5000, "--json", "new.json"], "unknown method"),
    ],
)
def test_no_result_is_written_over_what_is_read(arguments, named, files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    (files / "other").mkdir()
    (files / "link.json").symlink_to("teacher.npy")
    before = {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()}
    assert main(["advise", *arguments]) == 1
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()} == before


def test_a_file_in_another_order_of_bytes_is_the_same(files, capsys):
    teacher, _, labels = drawn()
    np.save(files / "teacher-big.npy", teacher.numpy().astype(">f4"))
    np.save(files / "labels-big.npy", labels.numpy().astype(">i8"))
    said = []
    for end in ("", "-big"):
        assert main(["advise", f"{files}/teacher{end}.npy", "--labels", f"{files}/labels{end}.npy"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    recorded = [adakd.Recorded(files / f"teacher{end}.npy").logits(8) for end in ("", "-big")]
    assert torch.equal(*recorded)


def test_what_is_no_row_of_logits_is_said_as_it_is(files, capsys):
    np.save(files / "number.npy", np.float32(3))
    assert main(["advise", f"{files}/number.npy"]) == 1
    assert "(images, views, classes), at least 1 image and 2 classes, got ()" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"got torch.float32 of shape \(\)"):
        adakd.Recorded(files / "number.npy").logits(8)
    save_file({"logits": drawn()[0].to(torch.float8_e4m3fn)}, files / "f8.safetensors")
    assert main(["advise", f"{files}/f8.safetensors"]) == 1
    assert "in float16, bfloat16, float32 or float64, got torch.float8_e4m3fn" in capsys.readouterr().err
    np.save(files / "far.npy", drawn()[2].numpy() + 1)
    assert main(["advise", f"{files}/teacher.npy", "--labels", f"{files}/far.npy"]) == 1
    assert f"adakd: --labels {files}/far.npy: expected labels from 0 to 7, got 8" in capsys.readouterr().err


def test_labels_that_cannot_be_read(files, capsys):
    np.save(files / "half.npy", np.full(60, 0.5))
    assert main(["advise", f"{files}/teacher.npy", "--labels", f"{files}/half.npy"]) == 1
    assert "expected integers, a class for each image, got torch.float64" in capsys.readouterr().err
    assert main(["advise", f"{files}/teacher.npy", "--plot", f"{files}/tau.gif"]) == 1
    assert "ends in .svg" in capsys.readouterr().err


# ---- what the records say ----


def records_tool():
    spec = importlib.util.spec_from_file_location("advice_tool", ROOT / "book" / "_tools" / "advice.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_the_shipped_settings_are_what_the_records_say():
    assert records_tool().main(["--check"]) == 0


def measured():
    """Every run that is counted: the study's, and those of its protocol beside it."""
    records = ROOT / "book" / "records"
    beside = ("labels", "more_labels", "direction", "twin")
    return read_records(records / "study", *(records / "evidence" / f"{name}.jsonl" for name in beside))


def accuracies(method, kd_weight, ce_weight):
    """Test accuracy of every run at these weights, by reading the lines."""
    found = {}
    for record in measured():
        row, options = adakd.get_method(record["config"]["method"]), record["config"]["method_options"]
        weights = options.get("kd_weight", row.kd_weight), options.get("ce_weight", row.ce_weight)
        if record["config"]["method"] == method and "tau" not in options and weights == (kd_weight, ce_weight):
            found[record["seed"]] = record["result"]["last"]
    return [found[seed] for seed in sorted(found)]


def best_of_the_grid():
    """The highest mean test accuracy of any setting that five seeds have run, with its interval."""
    groups = {}
    for record in measured():
        key = record["config"]["method"], json.dumps(record["config"]["method_options"], sort_keys=True)
        groups.setdefault(key, []).append(record["result"]["last"])
    return max(map(mean_interval, (v for v in groups.values() if len(v) >= 5)), key=lambda i: i.estimate)


def test_what_is_recommended_is_within_the_interval_of_the_best():
    best = best_of_the_grid()
    recommended = [row for row in adakd.advise(*drawn()).supported if row["among"] == "of all methods"]
    assert recommended
    for row in recommended:
        mean = mean_interval(accuracies(row["method"], row["kd_weight"], row["ce_weight"])).estimate
        assert mean == pytest.approx(row["accuracy"], abs=1e-3)
        assert mean in best


def test_the_recommended_weight_pulls_as_hard_as_in_the_study():
    teacher, student, labels = drawn(rows=40)
    for row in adakd.advise(teacher, student, labels).supported:
        norm = gradient_norm(adakd.create_method(row["method"]), student.double(), teacher.double(), labels)
        assert row["here"] * norm == pytest.approx(row["kd_weight"] * row["gradient_norm"], rel=1e-4)


def test_of_two_classes_no_standardized_method_is_recommended():
    advice = adakd.advise(*two_classes())
    assert advice.reference == "kd"
    methods = [row["method"] for row in (*advice.supported, *advice.gradients)]
    assert "dist" in methods
    assert not any(adakd.get_method(method).standardize for method in methods)
    assert all(row["matched"] is None or row["matched"] < 1e6 for row in advice.gradients)


def test_a_teacher_like_the_studys_is_told_from_others():
    teacher, student, labels = drawn(rows=200, classes=100, scale=3.2)
    assert adakd.advise(teacher, student, labels).unlike == []
    assert any("median σ" in text for text in adakd.advise(teacher / 10, student, labels).unlike)
    assert measured_settings()["teacher"]["classes"] == 100


def test_on_the_embedded_set_it_recommends_as_measured_and_says_that_this_is_other_data():
    data = load_gratings(train_images=20, test_images=200)
    images, labels = next(iter(eval_batches(data)))
    teacher = create_model("resnet14", data.num_classes, data.channels).eval()
    load_weights(teacher, ROOT / "book/records/when/resnet14-gratings-demo-seed0.safetensors")
    torch.manual_seed(0)
    student = create_model("resnet8x0.5", data.num_classes, data.channels).train()
    with torch.no_grad():
        t, s = teacher(images.float()), student(images.float())
    advice, best = adakd.advise(t, s, labels), best_of_the_grid()
    assert advice.warnings == {}
    assert advice.accuracy > 80
    assert "10 classes (study: 100)" in advice.unlike
    assert "first candidates" in str(advice)
    first = advice.supported[0]
    assert mean_interval(accuracies(first["method"], first["kd_weight"], first["ce_weight"])).estimate in best
    norm = gradient_norm(adakd.create_method(first["method"]), s.double(), t.double(), labels)
    assert first["here"] * norm == pytest.approx(first["kd_weight"] * first["gradient_norm"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="ADAKD_DATA names no folder with CIFAR")
def test_on_the_studys_own_teacher_its_own_weights_come_back():
    """Teacher and untrained student of the study, other images: λ as there, at an accuracy within the best's interval."""
    data = load_data("cifar100", root=REAL, official=False)
    images, labels = next(iter(eval_batches(data)))
    teacher, student = create_model("wrn_16_2", 100), seeded_model("resnet8", 100, 0).train()
    load_weights(teacher, ROOT / "book/records/teachers/wrn_16_2-cifar100-quick-seed0.safetensors")
    with torch.no_grad():
        t, s = teacher.eval()(images.float()), student(images.float())
    assert s.std(dim=1, correction=0).mean().item() == pytest.approx(SPREAD, rel=0.25)
    advice, best = adakd.advise(t, s, labels), best_of_the_grid()
    assert advice.unlike == []
    assert advice.warnings == {}
    for row in advice.supported:
        assert 0.8 < row["here"] / row["kd_weight"] < 1.25
    first = advice.supported[0]
    assert mean_interval(accuracies(first["method"], first["kd_weight"], first["ce_weight"])).estimate in best
