"""Measuring temperatures: distributions that agree with the rules and with NumPy, and a record of a real run."""

import dataclasses
import json
import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from strategies import batches

import adakd
from adakd import DataError, MaxLogit, TeacherError, WeightsError, find_teacher, series, standardize
from adakd.data import eval_batches
from adakd.temperatures import PERCENT, RULES, logits_of, measure_temperatures, summarize_temperatures
from adakd.training import REQUIRED_FIELDS

QUANTILES = [f"q{n}" for n in PERCENT]
DEFINITIONS = {"teacher": "abstract", "both": "paper", "both-absolute": "code", "both-two-sided": "two-sided"}


def distributions(summary, path=""):
    """Every distribution of a summary, with its place."""
    for name, value in summary.items():
        if isinstance(value, dict):
            if "q50" in value:
                yield f"{path}{name}", value
            else:
                yield from distributions(value, f"{path}{name}.")


def quantile_and_mean(values):
    return {
        "mean": np.mean(values),
        "std": np.std(values),
        **{f"q{n}": np.percentile(values, n) for n in PERCENT},
    }


def assert_is(distribution, values, rel=6e-6):
    expected = quantile_and_mean(np.asarray(values, dtype=np.float64))
    found = {name: distribution[name] for name in expected}
    assert found == pytest.approx(expected, rel=rel, abs=1e-7)


# ---- one split ---------------------------------------------------------------------------------------------------


@given(batch=batches(spread=True))
def test_each_rules_distribution_is_the_references(batch):
    student, teacher, labels = batch
    summary = summarize_temperatures(teacher, labels, student)
    tau = summary["tau"]
    assert list(tau) == list(RULES)
    rows = [
        (reference.standardize(s), reference.standardize(t))
        for s, t in zip(student.numpy(), teacher.numpy(), strict=True)
    ]
    for name, definition in DEFINITIONS.items():
        assert_is(tau[name], [reference.mlt(s, t, definition) for s, t in rows])
    for name, definition in (("teacher-absolute", "code"), ("teacher-two-sided", "two-sided")):
        assert_is(tau[name], [reference.mlt(t, t, definition) for _, t in rows])
    assert_is(summary["loss"], [reference.kd(s, t, reference.mlt(s, t)) for s, t in rows])
    assert_is(summary["one_minus_rho"], [1 - reference.pearson(s, t) for s, t in rows])


@given(batch=batches(spread=True))
def test_shares_outside_are_counted_logit_by_logit(batch):
    student, teacher, labels = batch
    tau = summarize_temperatures(teacher, labels, student)["tau"]
    low, high = series.lower_end(2) * (1 + 1e-7), series.upper_end(2) * (1 + 1e-7)
    rows = torch.cat([standardize(teacher), standardize(student)], dim=1)
    for name, options in RULES.items():
        x = rows / MaxLogit(**options)(standardize(student), standardize(teacher)).teacher
        assert tau[name]["above"] == pytest.approx((x > high).any(1).double().mean().item(), rel=1e-5)
        assert tau[name]["below"] == pytest.approx((x < low).any(1).double().mean().item(), rel=1e-5)
    for name in ("both-absolute", "both-two-sided"):
        assert tau[name]["above"] == tau[name]["below"] == 0


@given(batch=batches(spread=True))
def test_distributions_are_ordered_and_within_samuelsons_bounds(batch):
    student, teacher, labels = batch
    summary = summarize_temperatures(teacher, labels, student)
    for name, distribution in distributions(summary):
        values = [distribution[q] for q in QUANTILES]
        assert values == sorted(values), name
        assert values[0] - 1e-9 <= distribution["mean"] <= values[-1] + 1e-9, name
        assert distribution["std"] >= 0, name
    classes = teacher.shape[1]
    low, high = (series.upper_factor(2) * bound for bound in series.samuelson_bounds(classes))
    for name in ("teacher", "both", "teacher-absolute", "both-absolute"):
        assert low * (1 - 1e-5) <= summary["tau"][name]["q0"]
        assert summary["tau"][name]["q100"] <= high * (1 + 1e-5)
    for distribution in summary["entropy"].values():
        assert distribution["q100"] <= math.log(classes) * (1 + 1e-5)


@given(batch=batches(spread=True))
def test_histograms_hold_every_sample_in_its_bin(batch):
    student, teacher, labels = batch
    rule = MaxLogit()(standardize(student), standardize(teacher)).teacher
    histogram = summarize_temperatures(teacher, labels, student)["tau"]["both"]["histogram"]
    counts, width = histogram["counts"], histogram["width"]
    assert sum(counts) == len(teacher)
    assert counts[0] > 0
    assert counts[-1] > 0
    assert histogram["start"] / width == pytest.approx(round(histogram["start"] / width), abs=1e-4)
    edges = histogram["start"] + width * np.arange(len(counts) + 1)
    edges[0], edges[-1] = edges[0] - 1e-6, edges[-1] + 1e-6
    assert (
        abs(np.histogram(rule.numpy(), edges)[0] - counts).sum()
        <= 2 * (abs((rule.numpy() / width) % 1 - 0.5) > 0.5 - 1e-6).sum()
    )


def test_bins_are_one_width_for_one_number_of_classes():
    widths = {}
    for classes in (10, 100, 1000):
        logits = torch.randn(50, classes, generator=torch.Generator().manual_seed(classes))
        tau = summarize_temperatures(logits, torch.zeros(50, dtype=torch.int64))["tau"]
        assert {rule["histogram"]["width"] for rule in tau.values()} == {tau["teacher"]["histogram"]["width"]}
        widths[classes] = tau["teacher"]["histogram"]["width"]
    assert widths == {10: 0.05, 100: 0.2, 1000: 0.5}


def test_what_is_said_of_the_teacher():
    teacher = torch.tensor([[3.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, -8.0], [2.0, 2.0, 2.0, 2.0]])
    summary = summarize_temperatures(teacher, torch.tensor([0, 3, 1]))
    rows = teacher.numpy().astype(np.float64)
    z = np.stack([reference.standardize(row) for row in rows])
    assert summary["images"] == 3
    assert summary["accuracy"] == {"teacher": pytest.approx(100 / 3, rel=1e-5)}
    assert_is(summary["max_z"], z.max(1))
    assert_is(summary["min_z"], z.min(1))
    assert_is(summary["std"], rows.std(1))
    assert_is(
        summary["raw_tau"],
        [reference.mlt(row, row, "abstract") * raw.std() for row, raw in zip(z, rows, strict=True)],
    )
    assert_is(summary["second_gap"], [z[0, 0] - z[0, 1], 0, 0])
    assert_is(summary["asymmetry"], [-z[0, 3] / z[0, 0], 3, 1])  # a constant row leans to neither side
    soft = [reference.softmax(row) for row in rows]
    assert_is(summary["entropy"]["raw_1"], [-(p * np.log(p)).sum() for p in soft])
    soft = [reference.softmax(row / 4) for row in rows]
    assert_is(summary["entropy"]["raw_4"], [-(p * np.log(p)).sum() for p in soft])
    soft = [reference.softmax(row / 2) for row in z]
    assert_is(summary["entropy"]["z_2"], [-(p * np.log(p)).sum() for p in soft])
    tau = [reference.mlt(row, row, "abstract") for row in z]
    assert_is(summary["tau"]["teacher"], [*tau[:2], 1e-3])
    soft = [reference.softmax(row / t) for row, t in zip(z[:2], tau, strict=False)] + [np.full(4, 0.25)]
    assert_is(summary["entropy"]["mlt"], [-(p * np.log(p)).sum() for p in soft])
    assert summary["mean_tau"]["right"] == pytest.approx(tau[0], rel=1e-5)
    assert summary["mean_tau"]["wrong"] == pytest.approx((tau[1] + 1e-3) / 2, rel=1e-5)
    assert not any(name.startswith("both") for name in summary["tau"])
    assert "student_decides" not in summary


def test_a_class_ruled_out_is_below_the_interval_of_the_signed_rules_only():
    teacher = torch.tensor([[0.0] * 9 + [-9.0]] * 3 + [[9.0] + [0.0] * 9])
    tau = summarize_temperatures(teacher, torch.zeros(4, dtype=torch.int64))["tau"]
    assert {name: rule["below"] for name, rule in tau.items()} == {
        "teacher": 0.75,
        "teacher-absolute": 0.0,
        "teacher-two-sided": 0.0,
    }
    assert {name: rule["raised"] for name, rule in tau.items()} == {
        "teacher": 0.0,
        "teacher-absolute": 0.75,
        "teacher-two-sided": 0.75,
    }
    assert all(rule["above"] == 0 for rule in tau.values())


def test_the_student_decides_where_its_peak_is_higher():
    sure, unsure = [9.0, 0.0, 0.0, 0.0], [9.0, 9.0, 0.0, 0.0]
    teacher, student = torch.tensor([sure, unsure, unsure]), torch.tensor([unsure, sure, sure])
    summary = summarize_temperatures(teacher, torch.zeros(3, dtype=torch.int64), student)
    assert summary["student_decides"] == pytest.approx(2 / 3, rel=1e-5)
    assert summary["tau"]["teacher"]["above"] == pytest.approx(2 / 3, rel=1e-5)
    assert summary["tau"]["both"]["above"] == 0


def test_the_claim_of_6_to_10_counts_both_ends():
    peak = torch.zeros(4, 100, dtype=torch.float64)
    heights = [5.9, 6.1, 9.9, 10.1]
    c = series.upper_factor(2)
    for row, height in zip(peak, heights, strict=True):
        row[0] = m = height / c  # the peak; what is left of mean and square goes to two groups of the others
        row[1:50] = a = (-m + math.sqrt(m**2 - 99 * (m**2 + 50 * (m**2 - 100)) / 49)) / 99
        row[50:] = -(m + 49 * a) / 50
    assert standardize(peak).amax(1).tolist() == pytest.approx([height / c for height in heights])
    tau = summarize_temperatures(peak, torch.zeros(4, dtype=torch.int64))["tau"]["teacher"]
    assert tau["in_6_to_10"] == 0.5


def numeric(function, s):
    """Central differences of a function of one row."""
    step = 1e-5 * np.eye(len(s))
    return np.array([(function(s + d) - function(s - d)) / 2e-5 for d in step])


def test_gradients_are_compared_as_numpy_would():
    generator = torch.Generator().manual_seed(4)
    student, teacher = torch.randn(2, 6, 5, dtype=torch.float64, generator=generator)
    found = summarize_temperatures(teacher, torch.zeros(6, dtype=torch.int64), student)["gradient"]
    rows = list(zip(student.numpy(), teacher.numpy(), strict=True))

    def pulls(loss):
        return np.concatenate(
            [
                numeric(lambda x, t=t, s=s: loss(reference.standardize(x), reference.standardize(t), s), s)
                for s, t in rows
            ]
        )

    def frozen(z_s, z_t, s):
        return reference.kd(z_s, z_t, reference.mlt(reference.standardize(s), z_t))

    ours = pulls(frozen)
    others = {
        "limit": pulls(lambda z_s, z_t, s: 1 - reference.pearson(z_s, z_t)),
        "through_tau": pulls(lambda z_s, z_t, s: reference.kd(z_s, z_t, reference.mlt(z_s, z_t))),
        **{
            row["tau"]: pulls(lambda z_s, z_t, s, tau=row["tau"]: reference.kd(z_s, z_t, tau))
            for row in found["fixed"]
        },
    }
    table = {"limit": found["limit"], "through_tau": found["through_tau"]}
    table |= {row["tau"]: row for row in found["fixed"]}
    for name, theirs in others.items():
        norm = np.linalg.norm(ours)
        assert table[name]["cosine"] == pytest.approx(ours @ theirs / norm / np.linalg.norm(theirs), rel=1e-5)
        assert table[name]["length"] == pytest.approx(np.linalg.norm(theirs) / norm, rel=1e-5)
        assert table[name]["gap"] == pytest.approx(np.linalg.norm(ours - theirs) / norm, rel=1e-4)
    assert found["closest"] == min(found["fixed"], key=lambda row: row["gap"])
    assert found["through_tau"]["gap"] > 1e-3, "the student decides somewhere, and its peak feels it"


def test_chunks_of_rows_do_not_show(monkeypatch):
    generator = torch.Generator().manual_seed(5)
    student, teacher = torch.randn(2, 23, 7, dtype=torch.float64, generator=generator)
    labels = torch.zeros(23, dtype=torch.int64)
    whole = summarize_temperatures(teacher, labels, student)
    monkeypatch.setattr("adakd.temperatures.ROWS", 4)
    parts = summarize_temperatures(teacher, labels, student)
    for one, other in zip(whole["gradient"]["fixed"], parts["gradient"]["fixed"], strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_scale_and_shift_of_the_logits_change_nothing_standardized():
    generator = torch.Generator().manual_seed(6)
    student, teacher = torch.randn(2, 20, 10, dtype=torch.float64, generator=generator)
    labels = torch.zeros(20, dtype=torch.int64)
    one = summarize_temperatures(teacher, labels, student)
    other = summarize_temperatures(7 * teacher + 3, labels, 0.5 * student - 1)
    for name in ("max_z", "min_z", "second_gap", "asymmetry", "loss", "one_minus_rho"):
        assert one[name] == pytest.approx(other[name], rel=1e-5), name
    for rule in RULES:
        assert one["tau"][rule]["q50"] == pytest.approx(other["tau"][rule]["q50"], rel=1e-5)
    assert one["entropy"]["mlt"] == pytest.approx(other["entropy"]["mlt"], rel=1e-5)
    assert one["entropy"]["raw_1"] != pytest.approx(other["entropy"]["raw_1"], rel=1e-2)


@pytest.mark.parametrize("order", [1, 3, "inf", math.inf])
def test_the_order_scales_the_temperature(order):
    logits = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    labels = torch.zeros(9, dtype=torch.int64)
    second, other = (summarize_temperatures(logits, labels, order=n)["tau"]["teacher"] for n in (2, order))
    factor = series.upper_factor(math.inf if order == "inf" else order) / series.upper_factor(2)
    assert other["mean"] == pytest.approx(factor * second["mean"], rel=1e-5)


def test_rows_without_a_label_are_left_out():
    """In logits and labels alike, as everywhere: they are no wrong answers."""
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, 6, 5, generator=generator)
    labels = torch.tensor([0, -100, 2, 3, -100, 1])
    keep = labels != -100
    expected = summarize_temperatures(teacher[keep], labels[keep], student[keep])
    teacher[1], student[4] = torch.nan, torch.inf
    assert summarize_temperatures(teacher, labels, student) == expected
    assert expected["images"] == 4


@pytest.mark.parametrize("label", [5, 9, -1])
def test_labels_out_of_range_are_no_wrong_answers(label):
    with pytest.raises(ValueError, match=rf"labels: expected labels from 0 to 4, got {label} in row 1 .* -100"):
        summarize_temperatures(torch.randn(3, 5), torch.tensor([-100, label, 2]))


def test_no_row_with_a_label():
    with pytest.raises(ValueError, match="labels: every row has the label -100"):
        summarize_temperatures(torch.randn(2, 5), torch.tensor([-100, -100]))


@pytest.mark.parametrize(
    "student", [None, "same", "constant"], ids=["alone", "its own student", "constant student"]
)
def test_degenerate_logits_still_give_json(student):
    teacher = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    student = {"same": teacher, "constant": torch.ones(2, 3)}.get(student)
    summary = summarize_temperatures(teacher, torch.tensor([2, 0]), student)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["mean_tau"]["wrong"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"teacher": torch.zeros(3, 5, 1)},
            r"^teacher logits: expected shape \(batch, classes\), got \(3, 5, 1\)",
        ),
        ({"teacher": torch.zeros(3, 1)}, "^teacher logits: expected at least 2 classes"),
        ({"student": torch.zeros(5)}, "^student logits: expected shape"),
        (
            {"teacher": torch.zeros(0, 5), "labels": torch.zeros(0, dtype=torch.int64)},
            "^teacher logits: the batch is empty",
        ),
        ({"student": torch.zeros(3, 6)}, "disagree on the number of classes: 5 and 6"),
        ({"student": torch.zeros(2, 5)}, "expected the student's shape"),
        ({"labels": torch.zeros(3)}, "expected 3 class labels"),
        ({"teacher": torch.full((3, 5), float("nan"))}, "teacher: 3 of 3 rows hold NaN or infinity"),
        ({"student": torch.full((3, 5), float("inf"))}, "student: 3 of 3 rows hold NaN or infinity"),
        ({"order": 0}, "order: expected an integer of at least 1"),
        ({"order": 2.5}, "order: expected an integer of at least 1"),
    ],
)
def test_what_cannot_be_summarized(change, message):
    arguments = {"teacher": torch.randn(3, 5), "labels": torch.zeros(3, dtype=torch.int64), **change}
    with pytest.raises(ValueError, match=message):
        summarize_temperatures(**arguments)


# ---- logits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_logits_are_the_networks_in_evaluation_mode(tiny_data, tiny_teacher, training):
    model = tiny_teacher.model().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits = logits_of(model, tiny_data)
    assert model.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        expected = torch.cat([model(images) for images, _ in eval_batches(tiny_data)])
    torch.testing.assert_close(logits, expected)
    assert logits_of(model, tiny_data, "train").shape == (60, 10)


def test_logits_of_a_network_that_returns_more_and_whose_parts_have_modes_of_their_own(tiny_data):
    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = adakd.create_model("resnet8x0.5", 10)

        def forward(self, x):
            return {"logits": self.network(x)}

    model = Wrapped().train()
    frozen = model.network.bn1.eval()
    logits = logits_of(model, tiny_data)
    assert torch.equal(logits, logits_of(model.network, tiny_data))
    assert model.training and model.network.conv1.training and not frozen.training  # noqa: PT018


def test_an_unknown_split(tiny_data, tiny_teacher):
    with pytest.raises(ValueError, match="split: expected 'train' or 'test', got 'valid'"):
        logits_of(tiny_teacher.model(), tiny_data, "valid")


# ---- the record --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_student(tiny_data, tiny_teacher, tmp_path_factory):
    return adakd.distill(
        tiny_teacher,
        "resnet8x0.5",
        "zkd+mlt",
        tiny_data,
        out=tmp_path_factory.mktemp("student"),
        device="cpu",
        precision="fp32",
        progress=False,
        epochs=1,
        batch_size=20,
        train_images="all",
    )


def test_the_record_of_the_embedded_set(demo):
    """The demonstration's own teacher and a student of it, on all images."""
    student = demo.students["kd"][0]
    record = measure_temperatures(demo.teacher, student, device="cpu", progress=False)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert len(json.dumps(record, indent=1)) < 30_000, "a record is read, and kept in git"
    needed = set(REQUIRED_FIELDS) - {"history", "seed"}
    assert [field for field in sorted(needed) if record.get(field) is None] == []
    assert record["kind"] == "temperatures"
    assert record["seconds"] > 0
    assert record["config"]["data"]["sha256"] == record["data"]["sha256"]
    for role, run in (("teacher", demo.teacher), ("student", student)):
        assert record["config"][role]["sha256"] == record[role]["sha256"] == run.record["weights_sha256"]
        assert record[role]["accuracy"] == run.accuracy
        assert record["result"]["test"]["accuracy"][role] == pytest.approx(run.accuracy, abs=0.5)
    assert record["student"]["train_images"] == 250
    assert record["bounds"]["tau"] == pytest.approx([0.455342, 4.09808])
    for split, images in (("train", 4000), ("test", 2000)):
        found = record["result"][split]
        assert found["images"] == images
        assert sum(found["tau"]["both"]["histogram"]["counts"]) == images
        for rule in found["tau"].values():
            assert record["bounds"]["tau"][0] <= rule["q0"]
            assert rule["q100"] <= record["bounds"]["tau"][1] < 6
            assert rule["in_6_to_10"] == 0
        # Chapter 6 builds on these three.
        assert found["tau"]["teacher"]["below"] == 0
        assert found["tau"]["teacher"]["std"] < 0.1 * found["tau"]["teacher"]["mean"]
        assert found["gradient"]["closest"]["gap"] < 0.05

    data = adakd.load_data("gratings")
    z = standardize(logits_of(demo.teacher.model(), data).double())
    tau = MaxLogit(reference="teacher")(z, z).teacher
    assert_is(record["result"]["test"]["tau"]["teacher"], tau.squeeze(1).numpy(), rel=1e-4)


def test_measuring_twice_is_measuring_once(tiny_data, tiny_teacher, tiny_student):
    one, other = (
        measure_temperatures(tiny_teacher, tiny_student, tiny_data, device="cpu", progress=False)
        for _ in range(2)
    )
    assert one["result"] == other["result"]


def test_a_teacher_by_its_name_its_folder_and_its_weights(tiny_data, tiny_teacher):
    out = tiny_teacher.folder.parents[2]
    common = {"data": tiny_data, "device": "cpu", "progress": False}
    records = [
        measure_temperatures(tiny_teacher, **common),
        measure_temperatures(tiny_teacher.folder, **common),
        measure_temperatures(str(tiny_teacher.folder), **common),
        measure_temperatures("resnet8x0.5", out=out, **common),
        measure_temperatures(
            "resnet8x0.5", teacher_weights=tiny_teacher.folder / "weights.safetensors", **common
        ),
    ]
    assert find_teacher("resnet8x0.5", "gratings", out).folder == tiny_teacher.folder
    for record in records:
        assert record["result"] == records[0]["result"]
        assert record["config"] == records[0]["config"]
        assert record["student"] is None
        assert record["config"]["student"] is None
    assert records[-1]["teacher"] == {
        "model": "resnet8x0.5",
        "sha256": tiny_teacher.record["weights_sha256"],
        "file": "weights.safetensors",
    }


def test_the_order_is_recorded(tiny_data, tiny_teacher):
    record = measure_temperatures(tiny_teacher, data=tiny_data, order=math.inf, device="cpu", progress=False)
    assert record["config"]["order"] == "inf"
    assert record["bounds"]["tau"] == pytest.approx([1 / 3 / math.log(2), 3 / math.log(2)], rel=1e-5)


def test_other_data_than_the_runs_are_refused_or_told(tiny_data, tiny_teacher, demo, caplog):
    with pytest.raises(ValueError, match=r"the teacher in .* was trained on gratings \(10 classes\), not on"):
        measure_temperatures(
            tiny_teacher,
            data=dataclasses.replace(tiny_data, name="other"),
            progress=False,
        )
    with caplog.at_level("WARNING"):
        measure_temperatures(demo.teacher, data=tiny_data, device="cpu", progress=False)
    assert "the data are not those of the teacher's run" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"data": "grating"}, ValueError, "unknown data set 'grating'. Did you mean 'gratings'"),
        ({"teacher": "resnet15"}, TeacherError, "unknown model 'resnet15'.* nor is it a folder"),
        ({"teacher": "resnet14"}, TeacherError, "Train it first: adakd teacher --model resnet14"),
        ({}, TeacherError, "no trained resnet14 for gratings under"),
        ({"teacher": "{folder}"}, FileNotFoundError, "holds no finished run"),
        ({"teacher": "{folder}/file"}, TeacherError, "is a file; name the folder of a finished run"),
        ({"student": "{folder}"}, FileNotFoundError, "holds no finished run"),
        ({"teacher": "resnet14", "teacher_weights": "{folder}/none"}, WeightsError, "no weights at"),
        (
            {"teacher": "resnet14", "teacher_weights": "{folder}/file"},
            WeightsError,
            "cannot be read as weights",
        ),
        ({"teacher": "resnet15", "teacher_weights": "{folder}/file"}, ValueError, "unknown model 'resnet15'"),
        ({"order": 0}, ValueError, "order: expected an integer of at least 1"),
        ({"device": "gpu"}, ValueError, "device: expected 'cuda', 'cpu' or 'auto', got 'gpu'"),
        (
            {"data": "cifar10", "teacher": "resnet14", "teacher_weights": "{folder}/file", "official": False},
            DataError,
            "an unofficial archive is expected",
        ),
    ],
)
def test_what_cannot_be_measured(arguments, error, message, tmp_path):
    (tmp_path / "file").write_text("nothing")
    filled = {
        key: value.format(folder=tmp_path) if isinstance(value, str) else value
        for key, value in arguments.items()
    }
    with pytest.raises(error, match=message):
        measure_temperatures(**filled, out=tmp_path, root=tmp_path, progress=False)
