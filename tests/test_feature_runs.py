"""Methods that read features, the whole way: train, stop and go on, compare, measure, record."""

import json
import logging
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import adakd
from adakd import METHODS, create_method
from adakd.cli import main
from adakd.data import load_gratings
from adakd.runs.folder import WEIGHTS
from adakd.study import Study, read_study, run_study, summarize

STUDENT = "resnet8x0.5"
# The rows "-released" teach nothing, on purpose.
ON_FEATURES = [name for name, row in METHODS.items() if row.term is not None and not name.endswith("-released")]
SMALL = {
    "device": "cpu",
    "precision": "fp32",
    "progress": False,
    "batch_size": 20,
    "epochs": 2,
    "train_images": 50,
}
# Of the teacher: one family with the student, another one, and one whose maps are of other sizes.
TEACHERS = ("resnet14", "wrn_16_1", "vgg8")


def distilled(method, teacher, data, out, **changes):
    return adakd.distill(teacher, STUDENT, method, data, out=out, **{**SMALL, **changes})


def stopped(method, teacher, data, out, steps, **changes):
    """What the checkpoint holds of a run that was interrupted after so many steps."""
    left = iter([False] * (steps - 1))
    with pytest.raises(adakd.Interrupted):
        distilled(method, teacher, data, out, should_stop=lambda: next(left, True), **changes)
    (checkpoint,) = out.rglob("checkpoint.pt")
    return torch.load(checkpoint, weights_only=True)


def test_a_memory_holds_the_images_that_are_shown(tiny_data, tiny_teacher, tmp_path):
    """And none of the others: CRD would be contrasted with random vectors."""
    saved = stopped("crd", tiny_teacher, tiny_data, tmp_path, steps=3)
    (labels,) = (value for name, value in saved["criterion"].items() if name.endswith("labels"))
    assert len(labels) == SMALL["train_images"] < len(tiny_data.train)
    assert (labels >= 0).all()  # each has been seen once


def check_learned(method, saved):
    """Every connector stands in the optimizer, and a gradient has moved it."""
    network = [name for name, value in adakd.create_model(STUDENT, 10).named_parameters()]
    (group,) = saved["optimizer"]["param_groups"]
    connectors = range(len(network), len(group["params"]))
    for number in connectors:
        assert saved["optimizer"]["state"][number]["momentum_buffer"].abs().sum() > 0, number
    objective = create_method(method)
    learned = [name for name in saved["criterion"] if not name.endswith(("running_mean", "running_var"))]
    assert len(connectors) <= len(learned)
    if not objective.deploys:
        assert {*range(len(network))} <= set(saved["optimizer"]["state"])


def check_continued(method, teacher, data, out, steps, **changes):
    """A run, and the same stopped and continued: the same to the last bit; its weights are the student's alone."""
    whole = distilled(method, teacher, data, out / "whole", **changes)
    check_learned(method, stopped(method, teacher, data, out / "stopped", steps, **changes))
    run = distilled(method, teacher, data, out / "stopped", **changes)
    assert run.history == whole.history
    assert run.record["weights_sha256"] == whole.record["weights_sha256"]
    kept = set(load_file(run.folder / WEIGHTS))
    assert kept == set(run.model().state_dict())
    if not create_method(method).deploys:
        assert kept == set(adakd.create_model(STUDENT, 10).state_dict())
    assert adakd.evaluate(adakd.open_run(run.folder), data=data, device="cpu") == run.accuracy
    return run


@pytest.mark.parametrize("method", ON_FEATURES)
def test_a_few_steps_stopped_and_continued(method, tiny_data, tiny_teacher, tmp_path):
    run = check_continued(method, tiny_teacher, tiny_data, tmp_path, steps=4)
    assert "logits" not in run.record["teacher"] or not create_method(method).taps.teacher
    assert run.history[0]["kd"] > 0


@pytest.fixture(scope="module")
def gratings():
    return load_gratings(train_images=800, test_images=100)


@pytest.fixture(scope="module")
def teachers(gratings, tmp_path_factory):
    out = tmp_path_factory.mktemp("teachers")
    options = {**SMALL, "epochs": 2, "batch_size": 40, "train_images": None}
    return {name: adakd.train_teacher(name, gratings, out=out, **options) for name in TEACHERS}


# Every method with one kind of teacher; ADAKD_EVERY_PAIR=1 for all of them, which takes three times as long.
EVERY_PAIR = [
    (method, teacher)
    for i, method in enumerate(ON_FEATURES)
    for j, teacher in enumerate(TEACHERS)
    if (method, teacher) != ("okd", "vgg8")  # its loss grows without end at this learning rate
    and (os.environ.get("ADAKD_EVERY_PAIR") == "1" or j == (0 if method == "okd" else i % len(TEACHERS)))
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "teacher"), EVERY_PAIR)
def test_a_hundred_steps_of_every_kind_of_pair(method, teacher, gratings, teachers, tmp_path):
    # The weight of CAT-KD belongs to maps of a network that was trained for long; here they are of norm 1.
    options = {"warmup_epochs": 0, **({"normalize": True} if method == "catkd" else {})}
    changes = {"epochs": 8, "batch_size": 16, "lr": 0.05, "train_images": 200, "method_options": options}
    run = check_continued(method, teachers[teacher], gratings, tmp_path, steps=57, **changes)
    assert len(run.history) * 13 > 100
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert run.history[-1]["kd"] < run.history[0]["kd"]


# ---- beside other methods ----


def test_compared_with_logits_all_have_the_live_teacher(tiny_data, tiny_teacher, tmp_path, caplog):
    caplog.set_level(logging.INFO, "adakd")
    methods = ["ce", "kd", "fitnet", "rkd+zkd"]
    options = {**SMALL, "out": tmp_path / "all"}
    runs = adakd.compare(methods, (0,), tiny_teacher, STUDENT, tiny_data, **options)
    said = [record.getMessage() for record in caplog.records if "not cached" in record.getMessage()]
    assert said == [
        "fitnet reads features of the teacher (stage2); rkd+zkd reads features of the teacher (pooled): the teacher "
        "runs along for all methods, and its logits are not cached"
    ]
    assert not list(tmp_path.rglob("*cache*"))
    assert [line.name for line in summarize(runs)] == methods
    for method, run in zip(methods, runs, strict=True):
        alone = distilled(method, tiny_teacher, tiny_data, tmp_path / "one", cache=None)
        assert (run.history, run.record["weights_sha256"]) == (alone.history, alone.record["weights_sha256"])


def test_compared_among_logits_they_have_the_cache(tiny_data, tiny_teacher, tmp_path):
    options = {**SMALL, "out": tmp_path}
    runs = adakd.compare(["kd", "zkd"], (0,), tiny_teacher, STUDENT, tiny_data, **options)
    assert all("logits" in run.record["teacher"] for run in runs)


def test_a_study_runs_them_at_published_weights(tiny_data, tiny_teacher, tmp_path):
    options = {**SMALL, "train_images": 30, "validation_images": 20, "out": tmp_path / "runs"}
    study = Study(("kd", "fitnet", "at+zkd"), (0,), grid=(1.0,))
    assert study.taught == ("kd",)
    records = run_study(study, tmp_path / "records", tiny_teacher, STUDENT, tiny_data, **options)
    assert {record["config"]["method"] for record in records} == set(study.methods)
    found = read_study(tmp_path / "records")
    assert found.methods == ["kd", "fitnet", "at+zkd"]
    assert found.weights("published", "fitnet") == (1.0, 100.0)
    assert [line.name for line in found.table("published")] != []
    assert {line.name for line in found.table("published")} == set(study.methods)
    assert {line.name for line in found.table("matched")} == {"kd"}
    assert len({json.dumps(record["config"]["teacher"]) for record in records}) == 1


# ---- what is said and recorded ----


def test_options_of_a_term_identify_a_run(tiny_data, tiny_teacher, tmp_path):
    usual = distilled("fitnet", tiny_teacher, tiny_data, tmp_path)
    other = distilled("fitnet", tiny_teacher, tiny_data, tmp_path, method_options={"student_layers": "stage3"})
    same = distilled("fitnet", tiny_teacher, tiny_data, tmp_path)
    assert usual.folder == same.folder != other.folder
    assert other.record["config"]["method_options"] == {"student_layers": "stage3"}
    assert other.record["weights_sha256"] != usual.record["weights_sha256"]
    assert "objective" not in usual.record["config"], "its name says all"


def test_a_network_of_ones_own_is_read_by_its_layers(tiny_data, tiny_teacher, tmp_path):
    def network(num_classes):
        body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU())
        return nn.Sequential(body, nn.Flatten(), nn.Linear(6 * 8 * 8, num_classes))

    options = {"student_layers": "0"}
    run = adakd.distill(
        tiny_teacher, network, "fitnet", tiny_data, out=tmp_path, method_options=options, **SMALL
    )
    assert run.history[0]["kd"] > 0
    with pytest.raises(ValueError, match="Sequential does not say where its stages are"):
        adakd.distill(tiny_teacher, network, "fitnet", tiny_data, out=tmp_path, **SMALL)


def test_recorded_logits_have_no_features(tiny_data, tmp_path):
    np.save(tmp_path / "logits.npy", np.zeros((60, 10), np.float32))
    with pytest.raises(
        ValueError, match=r"'at' reads features of the teacher \(stage1, stage2, stage3, stage4\)"
    ):
        distilled("at", adakd.Recorded(tmp_path / "logits.npy"), tiny_data, tmp_path)


def test_by_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--epochs", "1", "--train-images", "40", "--quiet", "--device", "cpu"]
    teacher = adakd.train_teacher(STUDENT, out=tmp_path / "runs", epochs=1, progress=False, device="cpu")
    assert (
        main(
            [
                "distill",
                "--method",
                "fitnet",
                "--set",
                "regressor=true",
                "--teacher",
                str(teacher.folder),
                *small,
            ]
        )
        == 0
    )
    (folder,) = tmp_path.glob("runs/gratings/*/fitnet-*")
    assert main(["evaluate", str(folder)]) == 0
    assert (
        main(
            [
                "compare",
                "--methods",
                "kd",
                "fitnet",
                "pkt:kd_weight=10",
                "--seeds",
                "0",
                "--teacher",
                str(teacher.folder),
                *small,
            ]
        )
        == 0
    )
    table = capsys.readouterr().out
    assert "pkt (kd_weight=10" in table
    assert main(["methods", "at"]) == 0
    assert "distance=mean-square" in capsys.readouterr().out


# ---- in a loop that is not ours ----


@pytest.mark.parametrize("method", ["fitnet", "at", "rkd", "sp", "pkt", "nst", "fitnet+zkd+mlt"])
def test_in_a_distiller(method):
    torch.manual_seed(0)
    student, teacher = (adakd.create_model(name, 10) for name in (STUDENT, "vgg8"))
    images, target = torch.randn(8, 3, 16, 16), torch.arange(8)
    distiller = adakd.Distiller(student, teacher, method).build(images[:2])
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.01)
    first = distiller(images, target).total
    for _ in range(8):
        optimizer.zero_grad()
        distiller(images, target).total.backward()
        optimizer.step()
    assert all(p.grad is not None for p in distiller.parameters())
    assert distiller(images, target).total < first
    assert not any(p.requires_grad for p in teacher.parameters())
    assert distiller.deploy() is student
