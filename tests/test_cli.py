"""The command line, as its users type it: train, distill, evaluate, mistakes, and Ctrl-C."""

import argparse
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from archives import write_cifar

from adakd import (
    METHODS,
    MODELS,
    RECIPES,
    LogitObjective,
    Objective,
    Recipe,
    __version__,
    find_teacher,
    open_run,
)
from adakd.bench import bench_step
from adakd.cli import _COMMANDS, _parser, main
from adakd.cli.options import engine_of
from adakd.cli.table import groups_of
from adakd.data import DataError, load_gratings
from adakd.methods import RULE_NAMES, get_method
from adakd.models import create_model
from adakd.study import Study, read_study, run_study
from adakd.sweep import Grid, read_grid, run_sweep
from adakd.sweep.run import plan_sweep
from adakd.training import save_weights

ROOT = Path(__file__).parents[1]
TINY = ["--epochs", "1", "--quiet", "--device", "cpu"]
SMALL = [*TINY, "--train-images", "40"]


@pytest.fixture
def adakd(capsys):
    """adakd("distill", ...) -> (exit status, stdout, stderr)."""

    def run(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as exit:  # argparse's way to end
            status = exit.code
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with one small teacher on the gratings, trained by the command; in fp32, whatever this CPU prefers.

    On all images: a run on a part of them is found by its folder, and not as the teacher of that name.
    """
    out = tmp_path_factory.mktemp("cli")
    assert main(["teacher", "--model", "resnet8x0.5", "--out", str(out), *TINY, "--precision", "fp32"]) == 0
    assert find_teacher("resnet8x0.5", "gratings", out)
    return out


def teacher_in(runs):
    return find_teacher("resnet8x0.5", "gratings", runs)


def commands():
    parser = _parser()
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return subparsers.choices


# ---- help --------------------------------------------------------------------------------------------------------


def test_help_begins_with_what_to_type(adakd):
    status, out, _ = adakd("--help")
    assert status == 0
    for part in ("Start here", "adakd distill", "--data cifar100", "Ctrl-C", *commands()):
        assert part in out


@pytest.mark.parametrize("command", commands())
def test_help_of_each_command_explains_each_option(adakd, command):
    status, out, _ = adakd(command, "--help")
    assert status == 0
    parser = commands()[command]
    assert parser.description in re.sub(r"\s+", " ", out)
    for action in parser._actions:
        assert action.help, f"{command}: {action.dest} is not explained"
        for option in action.option_strings:
            assert option in out
    assert "None" not in out


def test_version(adakd):
    status, out, err = adakd("--version")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == f"adakd {__version__}"
    assert out.splitlines()[1].startswith(f"torch {torch.__version__}, Python 3.")
    assert len(out.splitlines()) == 2


def test_methods_lists_everything_there_is(adakd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = adakd("methods")
    assert status == 0
    for name, row in METHODS.items():
        (line,) = (line for line in out.splitlines() if line.split()[:1] == [name])
        assert f"{row.ce_weight:g}" in line.split()
        assert row.formula[:40] in line
    for suffix in RULE_NAMES:
        assert f"  +{suffix} " in out
    titles = [line for line in out.splitlines() if line and not line.startswith("  ")]
    assert len(titles) == 6, "five groups, and where there is more"
    indented = [line for line in out.splitlines() if line.startswith("  ")]
    assert len(indented) == 1 + len(METHODS) + len(RULE_NAMES), "a line each"
    assert max(map(len, out.splitlines())) <= 80


def test_methods_are_cut_where_a_terminal_ends_and_nowhere_else(adakd, monkeypatch):
    def longest():
        return max(len(line) for line in adakd("methods")[1].splitlines() if line.startswith("  "))

    monkeypatch.delenv("COLUMNS", raising=False)
    whole = adakd("methods")[1]  # to a pipe or a file
    for about in (*METHODS.values(), *RULE_NAMES.values()):
        assert about.formula in whole
    assert "…" not in whole
    monkeypatch.setenv("COLUMNS", "60")
    assert longest() == 60
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr("adakd.cli.methods.sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((70, 24)))
    assert longest() == 70


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other versions of argparse lay help out otherwise")
def test_the_books_page_is_the_help_of_every_command():
    tool = ROOT / "book" / "_tools" / "cli.py"
    assert subprocess.run([sys.executable, tool, "--check"]).returncode == 0, "run book/_tools/cli.py"
    page = (ROOT / "book" / "cli.md").read_text(encoding="utf-8")
    assert page.count("usage: adakd ") == 1 + len(_COMMANDS) + 3  # adakd bench has three of its own
    blocks = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert {line for block in blocks for line in block.splitlines() if len(line) > 80} == set()


@pytest.mark.parametrize("name", [*METHODS, "zdkd+mlt-two-sided", "dkd+meta"])
def test_methods_tells_all_about_one(adakd, name):
    status, out, _ = adakd("methods", name)
    assert status == 0
    words, row = " ".join(out.split()), get_method(name)
    for part in (row.name, row.paper, row.formula, row.note, f"λ_CE: {row.ce_weight}"):
        assert " ".join(part.split()) in words
    for key, value in {**row.divergence_options, **row.rule_options, **(row.table3 or {})}.items():
        assert f"{key}={value}" in words
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("suffix", RULE_NAMES)
def test_methods_tells_all_about_a_rule(adakd, suffix):
    status, out, _ = adakd("methods", f"+{suffix}")
    assert status == 0
    for part in (f"+{suffix}", RULE_NAMES[suffix].paper, RULE_NAMES[suffix].note):
        assert " ".join(part.split()) in " ".join(out.split())


def test_methods_as_json(adakd, tmp_path):
    status, out, _ = adakd("methods", "--json", "-")
    found = json.loads(out)
    assert status == 0
    assert [about["name"] for about in found["methods"]] == list(METHODS)
    assert [about["name"] for about in found["rules"]] == [f"+{suffix}" for suffix in RULE_NAMES]
    status, out, _ = adakd("methods", "wttm", "--json", tmp_path / "wttm.json")
    assert status == 0
    assert out.startswith("wttm")
    assert json.loads((tmp_path / "wttm.json").read_text())["settings"]["weight"] == METHODS["wttm"].weight


def test_json_is_shown_as_it_is_read_where_the_output_can_show_it(adakd, monkeypatch):
    """And what would steer a terminal is JSON's own escape, as what its encoding lacks."""
    row = METHODS["wttm"]
    shown = adakd("methods", "wttm", "--json", "-")[1]
    assert f'"formula": "{row.formula}"' in shown
    steering = "τ = \x9b31m \u202e \x7f \ud800 \U000e0001\n"
    monkeypatch.setitem(METHODS, "wttm", replace(row, note=steering))
    shown = adakd("methods", "wttm", "--json", "-")[1]
    assert json.loads(shown)["note"] == steering
    assert r'"note": "τ = \u009b31m \u202e \u007f \ud800 \udb40\udc01\n"' in shown
    for encoding in ("ascii", "latin-1"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["methods", "wttm", "--json", "-"]) == 0
        stream.flush()
        found = stream.buffer.getvalue().decode(encoding)
        assert json.loads(found)["formula"] == row.formula
        assert r"\u03c4" in found
        assert ("·" in found) == (encoding == "latin-1")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("demo", "unknown command 'demo': the demonstration is `adakd distill`, and in a clone"),
        ("demo", "`make demo`"),
        ("destill", "unknown command 'destill': did you mean distill?"),
        ("frobnicate", "the commands are teacher, distill, compare, "),
    ],
)
def test_an_unknown_command_says_what_was_meant(adakd, typed, said):
    status, out, err = adakd(typed)
    assert (status, out) == (2, "")
    assert err.startswith("usage: adakd ")
    assert said in err


@pytest.mark.parametrize(
    ("name", "near"), [("zkd+mtl", "'zkd+mlt'"), ("wtm", "'ttm'"), ("+mtl", "'mlt'"), ("kd+mtl", "'kd+mlt'")]
)
def test_methods_of_an_unknown_name_shows_near_ones(adakd, name, near):
    assert_one_line(adakd("methods", name), "unknown", "Did you mean", near)


@pytest.mark.parametrize(
    "arguments", [[], ["destill"], ["distill", "--epochs", "many"], ["evaluate"], ["distill", "x"]]
)
def test_what_cannot_be_parsed_ends_with_2_and_the_usage(adakd, arguments):
    status, out, err = adakd(*arguments)
    assert status == 2
    assert err.startswith("usage: adakd")
    assert out == ""


# ---- the whole way -----------------------------------------------------------------------------------------------


def test_teacher_distill_evaluate(adakd, runs):
    arguments = ["distill", "--teacher", "resnet8x0.5", "--method", "zkd+mlt", "--set", "kd_weight=18", "--set"]
    arguments += [
        "reference=teacher",
        "--seed",
        "3",
        "--lr",
        "0.02",
        "--batch-size",
        "16",
        "--out",
        runs,
        *SMALL,
    ]
    status, out, err = adakd(*arguments)
    assert status == 0, err
    assert "resnet8x0.5 from resnet8x0.5 by zkd+mlt on gratings" in out
    folder = out.splitlines()[-1].strip()
    record = open_run(folder).record
    assert record["config"]["method_options"] == {"kd_weight": 18, "reference": "teacher"}
    assert record["seed"] == 3
    recipe = record["config"]["recipe"]
    assert (recipe["epochs"], recipe["lr"], recipe["batch_size"], recipe["train_images"]) == (1, 0.02, 16, 40)
    assert record["teacher"]["sha256"] == teacher_in(runs).record["weights_sha256"]
    assert f"test accuracy {record['result']['last']:.2f} %" in out

    status, out, err = adakd("evaluate", folder, "--device", "cpu")
    assert status == 0, err
    measured, recorded = map(float, re.findall(r"([\d.]+) %", out))
    assert measured == pytest.approx(recorded, abs=0.051)


def test_a_repeated_command_opens_what_is_finished(adakd, runs, caplog):
    arguments = ["distill", "--teacher", "resnet8x0.5", "--out", runs, "--seed", "7", *SMALL]
    first = adakd(*arguments)
    with caplog.at_level("INFO"):
        second = adakd(*arguments)
    assert first[0] == second[0] == 0
    assert first[1] == second[1]
    assert "is finished already" in caplog.text


def test_fresh_forgets_it(adakd, runs):
    arguments = ["distill", "--method", "ce", "--out", runs, "--seed", "8", *SMALL]
    _, out, _ = adakd(*arguments)
    record = Path(out.splitlines()[-1].strip()) / "record.json"
    before = record.stat().st_mtime_ns
    assert adakd(*arguments, "--fresh")[0] == 0
    assert record.stat().st_mtime_ns > before


def test_without_a_method_or_teacher_the_defaults_are_told(adakd, demo, tmp_path):
    """`adakd distill` alone, short: the gratings' usual teacher is found, the student is the usual one."""
    shutil.copytree(demo.out / "gratings" / "resnet14", tmp_path / "gratings" / "resnet14")
    status, out, err = adakd("distill", "--out", tmp_path, "--epochs", 1, "--quiet")
    assert status == 0, err
    assert "resnet8x0.5 from resnet14 by zkd+mlt on gratings" in out


@pytest.mark.parametrize("weights", ["weights.safetensors", "published.pth"])
def test_a_teacher_by_folder_or_by_published_weights(adakd, runs, weights, tmp_path):
    teacher = teacher_in(runs).folder
    status, out, err = adakd("distill", "--teacher", teacher, "--out", tmp_path, *SMALL)
    assert status == 0, err
    path = teacher / weights
    if weights == "published.pth":
        path = tmp_path / weights
        torch.save({"model": open_run(teacher).model().state_dict()}, path)
    named = ["--teacher", "resnet8x0.5", "--teacher-weights", path]
    status, out, err = adakd("distill", *named, "--method", "kd", "--out", tmp_path, *SMALL)
    assert status == 0, err
    assert "resnet8x0.5 from resnet8x0.5 by kd" in out


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_from_an_unofficial_archive(adakd, name, tmp_path):
    write_cifar(tmp_path, name)
    data = ["--data", name, "--root", tmp_path, "--unofficial-archive", "--out", tmp_path / "runs"]
    status, out, err = adakd("teacher", *data, "--model", "resnet8", *TINY)
    assert status == 0, err
    teacher = Path(out.splitlines()[-1].strip())
    assert open_run(teacher).record["data"]["official"] is False
    short = ["--train-images", "20", "--batch-size", "10"]
    status, out, err = adakd("distill", *data, "--teacher", "resnet8", "--method", "kd", *TINY, *short)
    assert status == 0, err
    assert f"resnet8 from resnet8 by kd on {name}" in out
    status, out, err = adakd("evaluate", teacher, "--root", tmp_path)
    assert status == 0, err


def test_compare_prints_a_table_of_paired_differences(adakd, runs, tmp_path):
    methods = ["ce", "kd", "kd:kd_weight=9,ce_weight=0.5"]
    arguments = ["compare", "--methods", *methods, "--teacher", "resnet8x0.5", "--seeds", 0, 1, "--out", runs]
    status, out, err = adakd(*arguments, *SMALL)
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("resnet8x0.5 on gratings, last epoch")
    assert lines[1].split()[:2] == ["method", "seeds"]
    assert [line.partition("  ")[0] for line in lines[2:]] == ["ce", "kd", "kd (kd_weight=9, ce_weight=0.5)"]
    accuracies = {(seed, method): open_run(folder).accuracy for seed, method, folder in seen_runs(runs)}
    difference = sum(accuracies[seed, "kd"] - accuracies[seed, "ce"] for seed in (0, 1)) / 2
    assert f"{difference:+.2f} (n = 2)" in lines[3], "two values have no interval that is of use"
    kept = tmp_path / "kept.jsonl"
    for _ in range(2):  # once and for all
        status, _, err = adakd(*arguments, *SMALL, "--records", kept)
        assert status == 0, err
        assert len(kept.read_text().splitlines()) == 6


def seen_runs(runs):
    for path in (runs / "gratings" / "resnet8x0.5").glob("*/record.json"):
        config = json.loads(path.read_text())["config"]
        if (
            config["recipe"]["train_images"] == 40
            and not config["method_options"]
            and config["recipe"]["epochs"] == 1
        ):
            yield config["seed"], config["method"], path.parent


@pytest.mark.parametrize("option", ["--gpus-per-run", "--cpus-per-run"])
@pytest.mark.parametrize("text", ["0", "0.00", "0e0", "-0", "0.25"])
def test_what_a_run_takes_may_be_nothing(option, text):
    arguments = _parser().parse_args(["sweep", "--engine", "ray", option, text])
    engine = engine_of(arguments)
    assert str(getattr(engine, option[2:].replace("-", "_"))) == str(abs(float(text)))
    assert engine.cpus_per_run == (1 if option == "--gpus-per-run" else float(text))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--engine", "ray", "--gpus-per-run", "-0.5"],
            "gpus_per_run: expected a finite number of at least 0, got '-0.5'",
        ),
        (
            ["--engine", "ray", "--cpus-per-run", "inf"],
            "cpus_per_run: expected a finite number of at least 0, got 'inf'",
        ),
        (["--gpus-per-run", "1"], "--gpus-per-run, --cpus-per-run: are Ray's; say --engine ray"),
        (["--cpus-per-run", "1"], "--gpus-per-run, --cpus-per-run: are Ray's; say --engine ray"),
    ],
)
def test_what_a_run_cannot_take(adakd, arguments, message, tmp_path):
    assert_one_line(adakd("sweep", "--methods", "ce", "--out", tmp_path, *arguments), message)


def test_the_help_of_a_sweep_says_its_own_defaults(adakd):
    out = " ".join(adakd("sweep", "--help")[1].split())
    for said in ("gratings, embedded", "demo for gratings", "0)", "fp16)", "what the hardware does fastest"):
        assert f"(default: the grid's, else {said}" in out
    assert (Grid.seeds, Grid.data, Grid.cache) == ((0,), "gratings", "fp16")


def test_a_study_and_its_tables(adakd, runs, tmp_path):
    folder = tmp_path / "records"
    # Runs of its own: what another test has finished could not diverge.
    out = ["--out", tmp_path / "runs", "--teacher", teacher_in(runs).folder]
    arguments = ["study", folder, "--methods", "ce", "kd", "zkd", "--seeds", 0, 1, *SMALL, *out]
    arguments += ["--validation-images", 20, "--grid", 0.5, 1]
    status, out, err = adakd(*arguments)
    assert status == 0, err
    assert f"runs in {folder}" in out
    status, out, err = adakd("table", folder, "--to", "zkd")
    assert status == 0, err
    titles = [line for line in out.splitlines() if line.startswith("resnet8x0.5 on gratings at")]
    assert [title.split()[4] for title in titles] == ["published", "matched", "chosen"]
    assert out.count("ahead of zkd") == 3
    result = adakd("table", folder, "--to", "zkd", "zdk")
    assert_one_line(result, "--to: unknown method in these records: 'zdk'. Did you mean 'zkd'", "ce, kd, zkd")
    result = adakd("table", *folder.glob("*.jsonl"), "--to", "zdk")
    assert_one_line(result, "--to: unknown method in these records: 'zdk'", "zkd (kd_weight=")
    status, out, err = adakd("table", *folder.glob("*.jsonl"), "--markdown")
    assert status == 0, err
    assert "**resnet8x0.5 on gratings, 40 images × 1 epochs**" in out
    assert "| ahead of kd | ahead of zkd |" in out


@pytest.mark.parametrize(
    ("change", "added"),
    [
        ({"precision": "bf16"}, "precision bf16"),
        ({"recipe": {"lr": 0.5}}, "lr 0.5"),
        ({"teacher": {"model": "resnet20", "sha256": "0123456789"}}, "teacher resnet20, weights 01234567"),
        ({"teacher": {"logits": "fp16 of fp32"}}, "logits fp16 of fp32"),
        ({"data": {"sha256": "76543210ab"}}, "data 76543210"),
    ],
)
def test_a_table_pairs_only_what_summarize_pairs(change, added):
    config = {
        **{"model": "resnet8", "method_options": {}, "precision": "fp32"},
        "data": {"name": "gratings", "sha256": "89abcdef01"},
        "recipe": {"name": "demo", "lr": 0.1, "train_images": 40, "epochs": 1},
        "teacher": {"model": "resnet14", "sha256": "fedcba9876"},
    }
    other = {**config, **{k: {**config[k], **v} if isinstance(v, dict) else v for k, v in change.items()}}
    configs = [("ce", {**config, "teacher": None}), ("kd", config), ("zkd", config), ("kd", other)]
    records = [{"seed": 0, "config": {**one, "method": name}, "data": {}} for name, one in configs]
    (title, group), (further, rest) = groups_of(records)
    assert title.startswith("resnet8 on gratings, 40 images × 1 epochs, ")
    assert further.endswith(f"epochs, {added}")
    assert set(group) == {"kd", "zkd", "ce"}, "what had no teacher stands beside all that had one"
    assert set(rest) == ({"kd", "ce"} if "teacher" in change else {"kd"})
    with pytest.raises(ValueError, match="kd has seed 0 twice"):
        groups_of([*records, records[1]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table", "nowhere"], "no records at nowhere"),
        (["study", "records", "--methods", "kdd"], "Did you mean 'kd'"),
        (["study", "records", "--methods", "kd"], "validation_images"),
    ],
)
def test_studies_that_cannot_be(adakd, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert_one_line(adakd(*arguments), message)
    assert list(tmp_path.iterdir()) == []


def test_cache_is_filled_once(adakd, runs):
    arguments = ["cache", "--teacher", "resnet8x0.5", "--seeds", 7, 8, "--out", runs, *SMALL]
    status, out, err = adakd(*arguments)
    assert status == 0, err
    assert re.search(r"ViewCache\(resnet8x0.5, \d+ of 4000 views\)", out)
    folder = Path(out.splitlines()[-1].strip())
    assert (folder / "logits.fp16").stat().st_size == 4000 * 10 * 2
    assert adakd(*arguments)[1] == out


def test_a_live_teacher_leaves_no_cache(adakd, runs, tmp_path):
    teacher = teacher_in(runs).folder
    status, _, err = adakd(
        "distill", "--teacher", teacher, "--cache", "off", "--out", tmp_path, "--method", "kd", *SMALL
    )
    assert status == 0, err
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_bench_splits_a_step(adakd, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "adakd.cli.bench.bench_step",
        lambda settings, **options: bench_step(replace(settings, rounds=2, least=0.01), **options),
    )
    status, out, _ = adakd(
        *("bench", "step", "--teacher", "resnet14", "--student", "resnet8x0.5", "--device", "cpu"),
        *("--batch-size", 8, "--pairs", 7, "--json", tmp_path / "step.json"),
    )
    assert status == 0
    for part in ("data", "teacher", "student", "loss", "optimizer", "of the roofline"):
        assert part in out
    record = json.loads((tmp_path / "step.json").read_text())
    assert record["config"]["batch_size"] == 8
    assert "95 % interval" in out
    assert "(7 pairs)" in out
    assert record["adaptive_to_fixed"]["low"] <= record["adaptive_to_fixed"]["high"]


def test_bench_compares_losses_with_kd(adakd, tmp_path):
    status, out, err = adakd("bench", "losses", "--methods", "zkd", "--json", tmp_path / "bench.json")
    assert status == 0, err
    (line,) = (line for line in out.splitlines() if line.startswith("kd "))
    assert set(line.split()[1:]) == {"1.00"}
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert {row["method"] for row in rows} == {"kd", "zkd"}
    for row in rows:
        for ratio in row["ratio"].values():
            assert 0 < ratio["lowest"] <= ratio["median"] <= ratio["highest"]


def test_bench_compares_steps_by_features_with_kd(adakd, tmp_path, monkeypatch):
    monkeypatch.setattr("adakd.bench.methods.LEAST", 0.01)
    status, out, err = adakd(
        *(
            "bench",
            "methods",
            "--methods",
            "fitnet",
            "simkd",
            "--teacher",
            "resnet8",
            "--student",
            "resnet8x0.5",
        ),
        *("--batch-size", 4, "--rounds", 2, "--device", "cpu", "--json", tmp_path / "methods.json"),
    )
    assert status == 0, err
    rows = {row["method"]: row for row in json.loads((tmp_path / "methods.json").read_text())["rows"]}
    assert list(rows) == ["kd", "fitnet", "simkd"]
    assert rows["kd"]["ratio"] == {"median": 1.0, "lowest": 1.0, "highest": 1.0}
    assert rows["kd"]["parameters"] == 0 < rows["fitnet"]["parameters"]
    assert "fitnet" in out


@pytest.mark.parametrize(("what", "which"), [("losses", "on logits alone"), ("methods", "that are terms")])
def test_bench_says_which_methods_it_measures(adakd, what, which):
    assert not get_method("warmup-distill").on_logits, "a term that reads no features either"
    assert f"(default: all {which})" in re.sub(r"\s+", " ", adakd("bench", what, "--help")[1])


@pytest.mark.parametrize("what", ["losses", "step"])
def test_bench_says_where_features_are_timed(adakd, what):
    method = "--methods" if what == "losses" else "--method"
    status, _, err = adakd("bench", what, method, "fitnet", "--device", "cpu")
    assert status == 1
    assert "expected" in err
    assert "on logits alone, got 'fitnet'; `adakd bench methods` times a step of others" in err


@pytest.mark.parametrize("with_student", [False, True])
def test_temperatures_of_a_teacher(adakd, runs, with_student, tmp_path):
    teacher = teacher_in(runs)
    arguments = ["temperatures", "--teacher", "resnet8x0.5", "--out", runs, "--quiet", "--device", "cpu"]
    arguments += ["--student", teacher.folder] if with_student else []
    status, out, err = adakd(*arguments, "--json", tmp_path / "temperatures.json")
    assert status == 0, err
    assert err == "", "--quiet"
    record = json.loads((tmp_path / "temperatures.json").read_text())
    assert record["kind"] == "temperatures"
    assert record["config"]["teacher"]["sha256"] == teacher.record["weights_sha256"]
    assert "with 10 classes, τ = c · max z is between 0.455 and 4.098" in out
    rows = [line.split() for line in out.splitlines() if line.startswith(("train", "test"))]
    rules = list(record["result"]["test"]["tau"])
    assert [row[:2] for row in rows] == [[split, rule] for split in ("train", "test") for rule in rules]
    assert ("both-absolute" in rules) is with_student
    for split, rule, *numbers in rows:
        tau = record["result"][split]["tau"][rule]
        assert numbers == [f"{tau[name]:.2f}" for name in ("q5", "q50", "q95")]


def test_published_weights_are_measured(adakd, runs, tmp_path):
    run = teacher_in(runs)
    named = ["--weights", run.folder / "weights.safetensors", "--model", "resnet8x0.5"]
    as_it_was = ["--data", "gratings", "--device", "cpu", "--precision", "fp32"]
    status, out, err = adakd("evaluate", *named, *as_it_was, "--json", tmp_path / "found.json")
    assert status == 0, err
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["accuracy"] == pytest.approx(run.accuracy, abs=0.051)
    assert f"resnet8x0.5 on gratings: test accuracy {found['accuracy']:.2f} %" in out
    status, _, err = adakd("evaluate")
    assert (status, "--weights FILE --model NAME" in err) == (2, True)
    status, _, err = adakd("evaluate", run.folder, *named)
    assert status == 2
    assert_one_line(adakd("evaluate", *named[:2]), "Say it: --model NAME")
    assert_one_line(adakd("evaluate", *named[:3], "resnet8"), "does not fit")


def test_json_in_the_place_of_the_text(adakd, runs):
    arguments = ["distill", "--method", "ce", "--out", runs, "--seed", "9", *SMALL, "--json", "-"]
    status, out, err = adakd(*arguments)
    assert status == 0, err
    assert json.loads(out)["seed"] == 9
    status, out, _ = adakd(*arguments[:-2])
    assert out.startswith("resnet8x0.5 by ce on gratings")


def test_a_teacher_of_weights_is_measured_and_shown(adakd, runs, tmp_path, caplog):
    """Of a run, its record says how good it is; of published weights nobody did."""
    run = teacher_in(runs)
    named = ["--teacher", "resnet8x0.5", "--teacher-weights", run.folder / "weights.safetensors"]
    with caplog.at_level("INFO", logger="adakd"):
        status, out, err = adakd(
            "distill", *named, "--method", "kd", "--out", tmp_path, *SMALL, "--precision", "fp32"
        )
    assert status == 0, err
    record = open_run(out.splitlines()[-1].strip()).record
    assert record["teacher"]["accuracy"] == pytest.approx(run.accuracy, abs=0.051)
    assert 0 <= record["teacher"]["transfer_accuracy"] <= 100
    assert set(record["config"]["teacher"]) == {"model", "sha256", "logits"}, (
        "a run is no other by what is known of it"
    )
    assert f"teacher resnet8x0.5: {record['teacher']['accuracy']:.2f} % of the test images" in caplog.text
    assert f"its teacher's: {record['teacher']['accuracy']:.2f} %" in out


def test_a_teacher_that_guesses_is_warned_about(adakd, runs, tmp_path):
    """Its classes are in another order: the same network, and of no use."""
    state = teacher_in(runs).model().state_dict()
    state = {name: tensor.roll(1, 0) if name.startswith("fc") else tensor for name, tensor in state.items()}
    torch.save(state, tmp_path / "rolled.pth")
    named = ["--teacher", "resnet8x0.5", "--teacher-weights", tmp_path / "rolled.pth"]
    status, _, err = adakd("distill", *named, "--method", "kd", "--out", tmp_path, *SMALL)
    assert status == 0
    assert "no more than by guessing (10.00 %)" in err, "a warning, so also with --quiet"


def test_a_teacher_is_trained_first_and_that_is_said(adakd, tmp_path, monkeypatch):
    tiny = load_gratings(train_images=60, test_images=40)
    monkeypatch.setattr("adakd.data.load_gratings", lambda: tiny)
    monkeypatch.setitem(
        RECIPES, "demo", {role: Recipe("demo", epochs=2, batch_size=20) for role in ("teacher", "student")}
    )
    status, _, err = adakd("distill", "--teacher", "resnet8x0.5", "--out", tmp_path, "--device", "cpu")
    assert status == 0, err
    assert "no teacher yet: training resnet8x0.5 first (6 steps)\n" in err
    assert err.index("no teacher yet") < err.index("measuring") < err.index("zkd+mlt resnet8x0.5 on cpu")
    assert "one operation at a time" not in err
    status, _, err = adakd(
        "distill", "--teacher", "resnet8x0.5", "--out", tmp_path, "--device", "cpu", "--seed", 1, "--verbose"
    )
    assert "one operation at a time" in err


# ---- runs that fail ----


def lose(monkeypatch, method):
    """Every run of that method diverges in its first step."""
    forward = LogitObjective.forward

    def diverges(self, *arguments, **options):
        terms = forward(self, *arguments, **options)
        bad = self.needs_teacher and self.standardize == get_method(method).standardize
        return terms._replace(total=terms.total * float("nan")) if bad else terms

    monkeypatch.setattr(LogitObjective, "forward", diverges)


def test_a_comparison_shows_what_is_finished_and_says_what_failed(adakd, runs, monkeypatch):
    arguments = [
        "compare",
        "--methods",
        "ce",
        "kd",
        "zkd",
        "--seeds",
        20,
        "--teacher",
        "resnet8x0.5",
        "--out",
        runs,
    ]
    with monkeypatch.context() as patch:
        lose(patch, "zkd")
        status, out, err = adakd(*arguments, *SMALL)
    assert status == 1
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["method", "ce", "kd"]
    assert "1 of 3 runs failed" in err
    assert "zkd, seed 20: the loss became nan" in err
    status, out, err = adakd(*arguments, *SMALL)
    assert status == 0, err
    assert out.splitlines()[-1].startswith("zkd")


def test_a_study_goes_on_past_a_run_that_diverges(adakd, runs, tmp_path, monkeypatch):
    folder = tmp_path / "records"  # seeds of no other test: what is finished would only be opened
    arguments = ["study", folder, "--methods", "ce", "kd", "zkd", "--seeds", 40, 41, "--out", runs, *SMALL]
    arguments += ["--teacher", "resnet8x0.5", "--validation-images", 20, "--grid", 0.5, 1]
    with monkeypatch.context() as patch:
        lose(patch, "kd")
        status, out, err = adakd(*arguments)
        assert status == 1
        assert "runs failed and are left out; --retry-failed tries them again" in err
        assert "kd at published weights (0.9), seed 41: the loss became nan" in err
        failures = json.loads((folder / "failures.json").read_text())["failures"]
        assert {failure["method"] for failure in failures} == {"kd"}
        assert {failure["way"] for failure in failures} == {"published", "matched", "chosen"}
        status, _, _ = adakd(*arguments)
        assert status == 1
        assert json.loads((folder / "failures.json").read_text())["failures"] == failures, "not tried again"
    status, out, err = adakd("table", folder)
    assert status == 0, err
    assert "failed: kd at weight 0.9: 2 runs (seed 40, 41): the loss became nan" in out
    found = read_study(folder)
    assert set(found.runs("matched", "zkd")) == {40, 41}, "the others are whole"
    assert found.runs("published", "kd") == {}
    status, _, err = adakd(*arguments, "--retry-failed")
    assert status == 0, err
    assert read_study(folder).failures == []
    assert set(read_study(folder).runs("published", "kd")) == {40, 41}
    (folder / "failures.json").write_text("{")
    assert_one_line(adakd("table", folder), "failures.json is damaged", "delete it")


def test_a_study_without_a_teacher_needs_none(adakd, tmp_path):
    arguments = ["study", tmp_path / "records", "--methods", "ce", "--ways", "published", "--seeds", 0]
    status, _, err = adakd(*arguments, "--out", tmp_path / "runs", *SMALL)
    assert status == 0, err
    assert not list(tmp_path.rglob("resnet14"))


def test_a_sum_that_diverges_leaves_its_study_readable(adakd, runs, tmp_path, monkeypatch):
    """A weight for each of its terms, and none of the whole."""
    folder = tmp_path / "records"
    arguments = ["study", folder, "--methods", "ce", "fitnet+kd", "--seeds", 42, "--ways", "published"]
    arguments += ["--teacher", "resnet8x0.5", "--out", runs, *SMALL]
    forward = Objective.forward

    def diverges(self, *arguments, **options):
        terms = forward(self, *arguments, **options)
        return terms._replace(total=terms.total * float("nan")) if len(self.terms) > 1 else terms

    monkeypatch.setattr(Objective, "forward", diverges)
    for _ in range(2):
        status, _, err = adakd(*arguments)
        assert status == 1
        assert "fitnet+kd at published weights (–), seed 42: the loss became nan" in err
    (failure,) = read_study(folder).failures
    assert failure["kd_weight"] is None
    status, out, err = adakd("table", folder)
    assert status == 0, err
    assert "failed: fitnet+kd at weight –: 1 run (seed 42): the loss became nan" in out


def test_temperatures_of_published_weights_at_another_order(adakd, runs):
    weights = teacher_in(runs).folder / "weights.safetensors"
    arguments = ["temperatures", "--teacher", "resnet8x0.5", "--teacher-weights", weights]
    status, out, err = adakd(*arguments, "--order", "inf", "--device", "cpu")
    assert status == 0, err
    assert "between 0.481 and 4.328" in out  # 1/(3 ln 2) and 3/ln 2
    assert out.splitlines()[2].split() == ["images", "rule", "5", "%", "median", "95", "%"]
    assert "100%" in err


# ---- mistakes ----------------------------------------------------------------------------------------------------


def assert_one_line(result, *parts):
    status, out, err = result
    assert status == 1, err
    assert out == ""
    assert err.startswith("adakd: ")
    assert err.count("\n") == 1, "an error is one line"
    for part in parts:
        assert part in err


@pytest.mark.parametrize("command", ["evaluate", "export"])
@pytest.mark.parametrize(
    "options", [["--model", "resnet8"], ["--data", "gratings"], ["--data", "cifar10"], ["--unofficial-archive"]]
)
def test_what_the_record_of_a_folder_says_is_not_said_again(adakd, runs, command, options, tmp_path):
    target = ["--to", tmp_path / "student.pt2"] if command == "export" else []
    result = adakd(command, teacher_in(runs).folder, *target, *options)
    assert_one_line(result, f"{options[0]}: the record of the run in the folder says it; leave it out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["ce", "kd"])
def test_a_teacher_that_nobody_asks_is_told(adakd, runs, method, tmp_path, caplog):
    named = ["--teacher", teacher_in(runs).folder, "--method", method, "--out", tmp_path]
    caplog.set_level("INFO", logger="adakd")
    assert adakd("distill", *named, *SMALL)[0] == 0
    assert ("ce reads no teacher: the one given is not used" in caplog.text) == (method == "ce")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            ["--method", "zkd+mtl"],
            ["unknown method 'zkd+mtl'", "Did you mean 'zkd+mlt'", "? `adakd methods` lists all"],
        ),
        (["--method", "xxxx"], ["unknown method", "Known: ce, kd, "]),
        (["--student", "resnet9"], ["unknown model 'resnet9'", "'resnet8'"]),
        (["--student", "wrn-16-2"], ["'wrn_16_2'"]),
        (["--teacher", "resnet15"], ["unknown model 'resnet15'", "'resnet14'", "folder of a finished run"]),
        (["--data", "cifar-100"], ["unknown data set 'cifar-100'", "'cifar100'"]),
        (["--recipe", "papr"], ["unknown recipe 'papr'", "'paper'"]),
        (["--set", "kd_wieght=18"], ["unknown option of zkd+mlt: 'kd_wieght'", "Did you mean 'kd_weight'"]),
        (["--set", "tau=4"], ["unknown option of zkd+mlt: 'tau'"]),
        (["--set", "temperature=4"], ["unknown option of zkd+mlt: 'temperature'. Known: ce_weight"]),
        (["--method", "kd", "--set", "T=4"], ["unknown option of kd: 'T'. Did you mean 'tau'?"]),
        (["--method", "kd+zkd"], ["'kd' and 'zkd' are both on logits", "choose one of the two"]),
        (["--set", "kd_weight=nine"], ["nine"]),
        (["--set", "kd_weight=-1"], ["kd_weight: expected a finite number of at least 0, got -1"]),
        (["--set", "magnitude=max"], ["'signed', 'absolute' or 'two-sided', got 'max'"]),
        (["--method", "kd", "--set", "tau=four"], ["four"]),
        (["--method", "kd", "--set", "tau=0"], ["tau: expected a finite number above 0, got 0"]),
        (["--seed", str(2**63)], ["seed: expected an integer from 0 to 2^63 - 1"]),
        (["--method", "dkd", "--set", "alpha=None"], ["dkd"]),
        (["--epochs", "0"], ["epochs", "at least 1, got 0"]),
        (["--batch-size", "0"], ["batch_size"]),
        (["--lr", "-1"], ["-1"]),
        (["--train-images", "4001", "--method", "ce"], ["expected 1 to 4000", "got 4001"]),
        (["--train-images", "0", "--method", "ce"], ["expected 1 to 4000", "got 0"]),
        (["--precision", "fp16", "--device", "cpu"], ["fp16 needs a GPU"]),
        (["--precision", "fp8"], ["expected 'auto', 'fp32', 'bf16' or 'fp16', got 'fp8'"]),
        (["--device", "gpu"], ["expected 'cuda', 'cpu' or 'auto', got 'gpu'"]),
        (["--teacher", "resnet14", "--teacher-weights", "nowhere.pth"], ["no weights at nowhere.pth"]),
        (["--epochs", "9223372036854775807"], ["epochs: must be at most 100000, got 9223372036854775807"]),
        (["--epochs", "1" * 400], ["epochs: must be at most 100000"]),
        (["--lr", "nan"], ["lr: expected a finite number above 0, got 'nan'"]),
        (["--lr", "1e999"], ["lr: expected a finite number above 0"]),
        (["--batch-size", str(2**63)], ["batch_size: must be at most"]),
        (["--views", "0"], ["views: must be at least 1, got 0"]),
        (["--seed", "-1"], ["seed: expected an integer from 0 to 2^63 - 1, got -1"]),
        (["--method", "kd", "--set", "name=1"], ["unknown option of kd: 'name'"]),
        (["--method", "kd", "--set", "self=1"], ["unknown option of kd: 'self'"]),
        (["--method", "itkd", "--set", "seed=1.5"], ["seed: expected an integer, got 1.5"]),
        (["--method", "itkd", "--set", "updates=1e9"], ["updates: expected an integer"]),
        (["--method", "itkd", "--set", "updates=1000000000"], ["updates: expected at most 100000"]),
        (["--method", "kd", "--set", "tau=1e308"], ["tau: expected at most 1e+15 in size, got 1e+308"]),
        (
            ["--method", "kd", "--set", "tau=nan"],
            ["expected numbers and texts that a record can hold, got {'tau': nan}"],
        ),
        (["--method", "kd", "--set", "tau=true"], ["tau: expected a number, got True"]),
        (["--method", "kd", "--set", "tau=four"], ["tau: expected a number, got 'four'"]),
        (["--method", "wttm", "--set", "weighted=maybe"], ["weighted: expected true or false, got 'maybe'"]),
        (["--method", "wttm", "--set", "weighted=1"], ["weighted: expected true or false, got 1"]),
        (["--set", "order=100000000"], ["order"]),
        (
            ["--method", "ztaylor", "--set", "order=172"],
            ["order: expected an even integer from 2 to 170, got 172"],
        ),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(adakd, arguments, parts, runs, tmp_path):
    defaults = [] if "--teacher" in arguments else ["--teacher", teacher_in(runs).folder]
    defaults += [] if "--epochs" in arguments else ["--epochs", "1"]
    assert_one_line(adakd("distill", "--out", tmp_path, "--quiet", *defaults, *arguments), *parts)
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.parametrize(
    ("method", "text", "read"),
    [
        ("wttm", "weighted=false", False),
        ("wttm", "weighted=True", True),
        ("zkd", "standardize='sample'", "sample"),
        ("ztaylor", "order=30", 30),
        ("zkd+mlt", "order=inf", "inf"),
        ("kd", "tau=2.50", 2.5),
    ],
)
def test_settings_are_read_by_their_kind(adakd, runs, method, text, read):
    named = ["--teacher", "resnet8x0.5", "--method", method, "--set", text, "--out", runs]
    status, out, err = adakd("distill", *named, *SMALL)
    assert status == 0, err
    (found,) = open_run(out.splitlines()[-1].strip()).record["config"]["method_options"].values()
    assert found == read
    assert type(found) is type(read)


def test_exactly_five_steps(adakd, tmp_path):
    status, _, err = adakd("distill", "--method", "ce", "--train-images", 300, "--out", tmp_path, *TINY)
    assert status == 0, err


def test_weights_of_an_unnamed_network(adakd):
    assert_one_line(adakd("distill", "--teacher-weights", "some.pth"), "which network", "--teacher NAME")


@pytest.mark.parametrize(
    "arguments",
    [
        ["distill", "--out", ""],
        ["distill", "--method", ""],
        ["distill", "--teacher", " "],
        ["distill", "--out", "a\0b"],
        ["distill", "--quite"],
        ["bench", "step", "--quite"],
        ["methods", "--json", "."],
        ["distill", "--set", f"tau={'1' * 400}"],
        ["temperatures", "--order", "1" * 5000],
    ],
)
def test_what_is_no_value_ends_with_the_usage_of_its_command(adakd, arguments):
    status, _, err = adakd(*arguments)
    assert status == 2
    words = arguments[: 2 if arguments[0] == "bench" else 1]
    assert err.startswith(f"usage: adakd {' '.join(words)} ")
    assert max(map(len, err.splitlines())) < 200
    if "--quite" in arguments and words == ["distill"]:
        assert "did you mean --quiet?" in err


@pytest.mark.parametrize("text", ["kd_weight", "=3", "kd weight=3", ""])
def test_a_setting_that_is_no_setting(adakd, text):
    status, _, err = adakd("distill", "--set", text)
    assert status == 2
    assert "expected name=value (for example kd_weight=18)" in err


def test_unknown_models_of_a_teacher(adakd, tmp_path):
    result = adakd("teacher", "--model", "resnet18", "--out", tmp_path)
    assert_one_line(result, "unknown model 'resnet18'", *sorted(MODELS)[:3])


def test_offline(adakd, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    result = adakd("teacher", "--data", "cifar100", "--root", tmp_path / "data", "--out", tmp_path)
    assert_one_line((result[0], "", result[2]), "could not be downloaded", "ADAKD_DATA", "gratings")


def test_an_unofficial_archive_without_the_switch(adakd, tmp_path):
    write_cifar(tmp_path, "cifar10")
    result = adakd("teacher", "--data", "cifar10", "--root", tmp_path, "--out", tmp_path)
    assert_one_line(result, "do not match the official checksums", "--unofficial-archive")


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "--methods", "kd", "kd:tau=4,tau=5"],
        ["sweep", "--dry-run", "--methods", "kd:tau=4,tau=5"],
        ["distill", "--set", "tau=4", "--set", "tau=5"],
    ],
)
def test_a_setting_has_one_value(adakd, arguments, tmp_path):
    result = adakd(*arguments, "--out", tmp_path, "--device", "cpu")
    assert_one_line(result, "tau: expected one value, got 4 and 5; several of one method are several runs")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("below", ["", "sub"])
def test_a_file_in_the_place_of_a_folder_of_records_is_said_to_be_one(adakd, below, tmp_path):
    place = tmp_path / "t.json"
    place.write_text("{}")
    rest = ["--out", tmp_path / "runs", "--device", "cpu", "--quiet"]
    result = adakd("study", place / below, "--methods", "kd", "--ways", "published", *rest)
    assert_one_line(result, "FOLDER: expected a folder, got")
    for dry in ([], ["--dry-run"]):
        result = adakd("sweep", "--methods", "kd", "--records", place / below, *rest, *dry)
        assert_one_line(result, "records: expected a folder, got")
    said = f"expected a folder, got the file {re.escape(str(place))}"
    with pytest.raises(NotADirectoryError, match=f"^folder: {said}"):
        run_study(Study(("kd",), (0,), ways=("published",)), place / below, out=tmp_path / "runs")
    grid = read_grid({"methods": ["kd"]})
    with pytest.raises(NotADirectoryError, match=f"^records: {said}"):
        run_sweep(grid, out=tmp_path / "runs", records=place / below)
    with pytest.raises(NotADirectoryError, match=f"^records: {said}"):
        plan_sweep(grid, tmp_path / "runs", place / below)
    assert not (tmp_path / "runs").exists()


def test_no_teacher_for_cifar(adakd, tmp_path):
    write_cifar(tmp_path, "cifar10")
    result = adakd(
        "distill", "--data", "cifar10", "--root", tmp_path, "--unofficial-archive", "--out", tmp_path
    )
    assert_one_line(result, "Train it first: adakd teacher --model wrn_16_2 --data cifar10")


def test_a_teacher_of_other_classes(adakd, runs, tmp_path):
    write_cifar(tmp_path, "cifar100")
    teacher = teacher_in(runs).folder
    data = ["--data", "cifar100", "--root", tmp_path, "--unofficial-archive", "--train-images", 100]
    result = adakd("distill", *data, "--teacher", teacher, "--out", tmp_path)
    assert_one_line(result, "was trained on gratings (10 classes), not on cifar100 (100 classes)")
    weights = ["--teacher", "resnet8x0.5", "--teacher-weights", teacher / "weights.safetensors"]
    result = adakd("distill", *data, *weights, "--out", tmp_path)
    assert_one_line(result, "fc.weight is (10, 32), expected (100, 32)", "number of classes")


def test_runs_that_cannot_be_evaluated(adakd, runs, tmp_path):
    assert_one_line(adakd("evaluate", tmp_path), "holds no finished run")
    assert_one_line(adakd("evaluate", tmp_path / "nowhere"), "holds no finished run")
    run = shutil.copytree(teacher_in(runs).folder, tmp_path / "run")
    weights = (run / "weights.safetensors").read_bytes()
    (run / "weights.safetensors").write_bytes(weights[:5000])
    assert_one_line(adakd("evaluate", run), "cannot be read as weights")
    (run / "weights.safetensors").unlink()
    assert_one_line(adakd("evaluate", run), "no weights at")
    (run / "record.json").write_text("{")
    assert_one_line(adakd("evaluate", run), "record.json is damaged")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--data", "cifar-100"], ["unknown data set 'cifar-100'", "'cifar100'"]),
        (["--teacher", "resnet15"], ["unknown model 'resnet15'", "'resnet14'", "folder of a finished run"]),
        ([], ["no trained resnet14 for gratings", "Train it first: adakd teacher --model resnet14"]),
        (["--teacher", "."], ["holds no finished run"]),
        (["--student", "nowhere"], ["nowhere holds no finished run"]),
        (["--teacher", "resnet14", "--teacher-weights", "nowhere.pth"], ["no weights at nowhere.pth"]),
        (["--order", "0"], ["order: expected an integer of at least 1", "got 0"]),
        (["--device", "gpu"], ["expected 'cuda', 'cpu' or 'auto', got 'gpu'"]),
    ],
)
def test_temperatures_that_cannot_be_measured(adakd, arguments, parts, tmp_path):
    assert_one_line(adakd("temperatures", "--out", tmp_path, "--quiet", *arguments), *parts)


def test_temperatures_of_networks_of_other_data(adakd, runs, tmp_path):
    write_cifar(tmp_path, "cifar100")
    teacher = teacher_in(runs).folder
    data = ["--data", "cifar100", "--root", tmp_path, "--unofficial-archive", "--quiet"]
    result = adakd("temperatures", *data, "--teacher", teacher)
    assert_one_line(result, "was trained on gratings (10 classes), not on cifar100 (100 classes)")
    weights = ["--teacher", "resnet8x0.5", "--teacher-weights", teacher / "weights.safetensors"]
    assert_one_line(adakd("temperatures", *data, *weights), "fc.weight is (10, 32), expected (100, 32)")


def test_an_order_that_is_no_number(adakd):
    status, _, err = adakd("temperatures", "--order", "second")
    assert status == 2
    assert "expected an integer or inf, got 'second'" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_folder_that_cannot_be_written(adakd, tmp_path):
    tmp_path.chmod(0o500)
    assert_one_line(adakd("distill", "--method", "ce", "--out", tmp_path / "runs", *SMALL), "runs")


@pytest.mark.parametrize("inside", ["", "deeper/still"])
@pytest.mark.parametrize(
    "command",
    [
        ("teacher",),
        ("distill", "--method", "ce"),
        ("compare", "--methods", "ce"),
        ("study", "records", "--methods", "kd"),
        ("sweep", "--methods", "ce"),
        ("cache",),
        ("temperatures",),
    ],
)
def test_an_out_that_is_a_file(adakd, command, inside, tmp_path, monkeypatch):
    """It is said before anything is read or trained, as a folder that the command was to make."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / inside
    assert_one_line(
        adakd(*command, "--out", place), "--out: expected a folder, got", "the file ", "move the file away"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_where_records_were_to_lie(adakd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("")  # where nothing is said, too
    assert_one_line(adakd("distill"), "--out: expected a folder, got the file 'runs'")
    there = ["--out", tmp_path, "--methods", "kd"]
    assert_one_line(
        adakd("sweep", *there, "--records", "runs"), "--records: expected a folder, got the file 'runs'"
    )
    assert_one_line(adakd("study", "runs", *there), "FOLDER: expected a folder, got the file 'runs'")


# ---- as a process ------------------------------------------------------------------------------------------------


def python_m_adakd(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "adakd", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def test_python_m_adakd_ends_with_the_status_of_the_command(tmp_path):
    process = python_m_adakd("distill", "--method", "zkd+mtl", cwd=tmp_path)
    out, err = process.communicate()
    assert_one_line((process.returncode, out, err), "Did you mean 'zkd+mlt'")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_continues(adakd, tmp_path, caplog):
    arguments = [
        "distill",
        "--method",
        "ce",
        "--epochs",
        80,
        "--train-images",
        60,
        "--device",
        "cpu",
    ]
    process = python_m_adakd(*arguments, cwd=tmp_path)
    while not list(tmp_path.rglob("checkpoint.pt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert "ce resnet8x0.5 on cpu in" in err, "what it does and in which number format is said at the start"
    assert "one operation at a time" not in err, "the usual needs no word"
    assert re.search(
        r"stopped (in|after) epoch \d+; saved in .*checkpoint.pt\nRepeat the command to continue.", err
    )
    assert "Traceback" not in err
    assert out == ""
    (checkpoint,) = tmp_path.rglob("checkpoint.pt")
    epoch = torch.load(checkpoint, weights_only=True)["epoch"]
    with caplog.at_level("INFO"):
        status, out, err = adakd(*arguments, "--out", tmp_path / "runs")
    assert status == 0, err
    assert f"continuing ce resnet8x0.5 from epoch {epoch}" in caplog.text
    record = open_run(checkpoint.parent).record
    assert [row["epoch"] for row in record["history"]] == list(range(1, 81))


def test_ctrl_c_before_training(adakd, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("adakd.cli.distill.distill", stopped)
    assert adakd("distill") == (130, "", "\nstopped\n")


def test_progress_is_shown_unless_quiet(adakd, tmp_path):
    arguments = ["distill", "--method", "ce", "--epochs", 1, "--train-images", 40, "--out", tmp_path]
    _, out, err = adakd(*arguments)
    assert "100%" in err
    assert "step" in err
    assert "%" in out
    _, _, err = adakd(*arguments, "--seed", 1, "--quiet")
    assert err == ""


# ---- any terminal ------------------------------------------------------------------------------------------------


class Pipe(io.TextIOWrapper):
    """A stream in some encoding, whose reader may be gone."""

    def __init__(self, encoding="utf-8", gone=False):
        raw = GoneRaw() if gone else io.BytesIO()
        super().__init__(raw, encoding=encoding, errors="strict", write_through=gone)


class GoneRaw(io.BytesIO):
    def write(self, _):
        raise BrokenPipeError(32, "Broken pipe")


def said(stream):
    stream.flush()
    return stream.buffer.getvalue().decode(stream.encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_output_in_any_encoding(monkeypatch, encoding):
    out = Pipe(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["methods", "dist"]) == 0
    assert ("τ" if encoding == "utf-8" else "tau") in said(out)
    assert out.errors == "strict", "as it was before"


def test_a_reader_that_is_gone_is_no_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Pipe(gone=True))
    assert main(["methods"]) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stderr", [None, Pipe(gone=True)])
def test_a_run_does_not_end_because_nobody_reads_its_progress(monkeypatch, tmp_path, capsys, stderr):
    monkeypatch.setattr(sys, "stderr", stderr)
    arguments = ["distill", "--method", "ce", "--epochs", "1", "--train-images", "20", "--device", "cpu"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    assert "resnet8x0.5 by ce" in capsys.readouterr().out


def test_no_stdout_at_all(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["methods"]) == 0
    assert sys.stdout is None


def test_a_record_cannot_steer_the_terminal(adakd, runs, tmp_path):
    record = dict(teacher_in(runs).record)
    record["config"] = {**record["config"], "model": "\x1b[2J\x1b]0;title\x07resnet"}
    (tmp_path / "record.jsonl").write_text(json.dumps(record) + "\n")
    status, out, err = adakd("table", tmp_path / "record.jsonl")
    assert status in (0, 1)
    assert "\x1b" not in out + err
    assert "\x07" not in out + err


def test_what_was_typed_cannot_steer_the_terminal(adakd):
    for arguments in (
        ["distill", "--method", "\x1b[2J"],
        ["distill", "--\x1b[2J"],
        ["\x1b[2J"],
        ["methods", "\udcff"],
    ):
        status, out, err = adakd(*arguments)
        assert status in (1, 2)
        assert "\x1b" not in out + err
        assert ("\\x1b" in err) or ("\\udcff" in err)


def test_a_fault_of_ours_is_told_as_one(adakd, monkeypatch):
    def broken(*_, **__):
        raise KeyError("something")

    monkeypatch.setattr("adakd.cli.distill.distill", broken)
    monkeypatch.delenv("ADAKD_TRACEBACK", raising=False)
    status, out, err = adakd("distill")
    assert (status, out, err.count("\n")) == (70, "", 1)
    assert "internal error (KeyError: 'something')" in err
    assert "ADAKD_TRACEBACK=1" in err
    monkeypatch.setenv("ADAKD_TRACEBACK", "1")
    assert "in broken" in adakd("distill")[2]


@pytest.mark.parametrize("command", ["teacher", "distill", "compare", "cache", "study"])
def test_quiet_downloads_quietly(adakd, tmp_path, monkeypatch, command):
    asked = []

    def refuse(name, root, *, official, progress=None, **_):
        asked.append(progress)
        raise DataError("no such data here")

    monkeypatch.setattr("adakd.data.load_data", refuse)
    extra = {
        "compare": ["--methods", "ce"],
        "study": [tmp_path / "s", "--methods", "ce", "--validation-images", 50],
    }
    method = ["--method", "ce"] if command == "distill" else []
    for quiet in ([], ["--quiet"]):
        arguments = [command, *extra.get(command, []), *method, "--data", "cifar10", "--out", tmp_path, *quiet]
        if command == "cache":
            weights = tmp_path / "w.safetensors"
            save_weights(create_model("resnet8", 10), weights)
            arguments += ["--teacher", "resnet8", "--teacher-weights", weights]
        status, _, err = adakd(*arguments)
        assert status == 1, err
    assert asked == [None, False]
