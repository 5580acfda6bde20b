"""Every committed record is complete evidence for the numbers that are read from it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from adakd import create_model, get_method, load_weights
from adakd.study import read_records
from adakd.training import REQUIRED_FIELDS

RECORDS = Path(__file__).parents[1] / "book" / "records"
FILES = sorted(RECORDS.rglob("*.json"))
# Records of studies stand one a line.
COLLECTIONS = sorted(RECORDS.rglob("*.jsonl"))
ANSWERS = RECORDS / "answers"  # of a teacher: no weights (tests/test_teachers.py)
WEIGHTS = sorted(path for path in RECORDS.rglob("*.safetensors") if path.parent != ANSWERS)
CLASSES = {"gratings": 10, "cifar10": 10, "cifar100": 100, "sentences": 64}
# What is measured on no network has no data, no history and no accuracy.
OF_NO_RUN = {"data", "history", "result", "seed", "seconds"}


def refuse(name):
    raise ValueError(f"{name} is not JSON")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RECORDS)))
def test_record(path):
    check(json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse))


@pytest.mark.parametrize("path", COLLECTIONS, ids=lambda path: str(path.relative_to(RECORDS)))
def test_every_line_is_a_record(path):
    records = [
        json.loads(line, parse_constant=refuse) for line in path.read_text(encoding="utf-8").splitlines()
    ]
    for record in records:
        check(record)
        assert re.fullmatch(r"[0-9a-f]{40}", record["commit"]), (
            "made by a changed or unknown version of the library"
        )
    assert len({json.dumps(record["config"], sort_keys=True) for record in records}) == len(records)
    assert path.stat().st_size < 2**20


def check(record):
    is_run = record["kind"] in ("teacher", "student")
    needed = set(REQUIRED_FIELDS) - (set() if is_run else OF_NO_RUN)
    assert sorted(field for field in needed if record.get(field) is None) == []
    assert record["status"] == "complete"
    if not is_run:
        return
    history, result, recipe = record["history"], record["result"], record["config"]["recipe"]
    assert [row["epoch"] for row in history] == list(range(1, recipe["epochs"] + 1))
    assert result["last"] == history[-1]["test_accuracy"]
    best = history[result["best_epoch"] - 1]["test_accuracy"]
    assert result["best"] == best == max(row["test_accuracy"] for row in history if "test_accuracy" in row)
    assert result["test_images"] == record["data"]["test_images"]
    assert record["seed"] == record["config"]["seed"]
    assert record["config"]["data"]["sha256"] == record["data"]["sha256"]
    assert record["seconds"] > 0
    if record["kind"] == "student" and record["config"]["method"] != "ce":
        assert record["teacher"]["sha256"] == record["config"]["teacher"]["sha256"]


PLANS = [path for path in FILES if "settings" in json.loads(path.read_text(encoding="utf-8")).get("config", {})]


def setting_of(method, options):
    """What tells the settings of an experiment apart, where it is left out the method's own."""
    row = get_method(method)
    own = {"tau": row.rule_options.get("tau"), "ce_weight": row.ce_weight, "kd_weight": row.kd_weight}
    return method, *(options.get(name, value) for name, value in own.items())


@pytest.mark.parametrize("path", PLANS, ids=lambda path: str(path.relative_to(RECORDS)))
def test_every_planned_run_has_its_record(path):
    """An experiment that is quoted is whole: of each setting each seed, on one set of images, in one number format."""
    plan = json.loads(path.read_text(encoding="utf-8"))["config"]
    runs = [run for run in read_records(path.parent, RECORDS / "study") if run["kind"] == "student"]
    own = {
        (run["data"]["sha256"], run["config"]["precision"]) for run in read_records(path.with_suffix(".jsonl"))
    }
    ((data, precision),) = own
    ended = {
        (*setting_of(run["config"]["method"], run["config"]["method_options"]), run["seed"])
        for run in runs
        if run["data"]["sha256"] == data and run["config"]["precision"] == precision
    }
    wanted = {(*setting_of(row["method"], row), seed) for row in plan["settings"] for seed in plan["seeds"]}
    assert wanted - ended == set()


TEMPERATURES = [path for path in FILES if path.parent.name == "temperatures"]


def quantiles(summary):
    """Every distribution in it, from its smallest to its largest value."""
    for value in summary.values():
        if isinstance(value, dict) and "q50" in value:
            yield [entry for name, entry in value.items() if re.fullmatch(r"q\d+", name)]
        elif isinstance(value, dict):
            yield from quantiles(value)


@pytest.mark.parametrize("path", TEMPERATURES, ids=lambda path: path.stem)
def test_temperatures(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["kind"] == "temperatures"
    assert path.stat().st_size < 30_000
    assert record["seconds"] > 0
    assert record["config"]["data"]["sha256"] == record["data"]["sha256"]
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in FILES]
    trained = {run["weights_sha256"]: run for run in runs if "weights_sha256" in run}
    for role in ("teacher", "student"):
        if record[role] is None:
            continue
        run = trained[record[role]["sha256"]]  # a network without a record of its training is no evidence
        assert record[role]["model"] == run["config"]["model"]
        assert record["data"]["sha256"] == run["data"]["sha256"]
        # Measured in fp32, where the run may have measured itself in bf16.
        assert abs(record["result"]["test"]["accuracy"][role] - run["result"]["last"]) < 0.3
    low, high = record["bounds"]["tau"]
    for split, found in record["result"].items():
        assert found["images"] == record["data"][f"{split}_images"]
        for values in quantiles(found):
            assert values == sorted(values)
            assert len(values) == 9
        for tau in found["tau"].values():
            assert low <= tau["q0"]
            assert tau["q100"] <= high
            assert sum(tau["histogram"]["counts"]) == found["images"]


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.name)
def test_kept_weights_are_of_the_network_they_are_named_after(path):
    model, data, *_ = path.stem.split("-")
    load_weights(create_model(model, CLASSES[data]), path)
    assert path.stat().st_size < 16e6
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in FILES]
    trained = [(run["config"]["model"], run["data"]["name"]) for run in runs if "weights_sha256" in run]
    assert (model, data) in trained, "weights without a record"


def test_records_of_one_table_are_of_one_set_of_images():
    """Accuracies on different pixels must not stand side by side."""
    checksums = {}
    for path in FILES:
        record = json.loads(path.read_text(encoding="utf-8"))
        if "data" in record:
            checksums.setdefault(record["data"]["name"], set()).add(record["data"]["sha256"])
    assert {name: len(found) for name, found in checksums.items() if len(found) > 1} == {}


def test_the_front_pages_are_made_from_the_records():
    tool = RECORDS.parent / "_tools" / "readme.py"
    assert subprocess.run([sys.executable, tool, "--check"]).returncode == 0, "run book/_tools/readme.py"
