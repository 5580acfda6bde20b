"""Comparing: paired runs, one cache, a table that says only what the runs say."""

import math
from types import SimpleNamespace

import pytest

import adakd
from adakd.study import format_table, summarize

SMALL = {
    "device": "cpu",
    "precision": "fp32",
    "progress": False,
    "epochs": 2,
    "batch_size": 20,
    "train_images": 50,
}


@pytest.fixture(scope="module")
def compared(tiny_data, tiny_teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    methods = ["ce", "kd", ("kd", {"kd_weight": 9}), "zkd+mlt"]
    options = {**SMALL, "out": out}
    return SimpleNamespace(
        out=out,
        methods=methods,
        options=options,
        runs=adakd.compare(methods, (0, 1), tiny_teacher, "resnet8x0.5", tiny_data, **options),
    )


def test_every_method_runs_with_every_seed(compared):
    seen = [(run.record["config"]["method"], run.record["seed"]) for run in compared.runs]
    assert seen == [(name, seed) for seed in (0, 1) for name in ("ce", "kd", "kd", "zkd+mlt")]


def test_runs_are_those_of_distill(compared, tiny_data, tiny_teacher):
    alone = adakd.distill(
        tiny_teacher,
        "resnet8x0.5",
        "kd",
        tiny_data,
        seed=1,
        method_options={"kd_weight": 9},
        **{**compared.options, "fresh": True},
    )
    assert alone.folder == compared.runs[6].folder
    assert alone.history == compared.runs[6].history


def test_all_read_one_cache(compared):
    (cache,) = (compared.out / "cache" / "gratings").iterdir()
    assert {run.record["teacher"]["logits"] for run in compared.runs if run.record["teacher"]} == {
        "fp16 of fp32"
    }
    assert cache.name.startswith("resnet8x0.5-")


def test_repeating_opens_what_is_finished(compared, tiny_data, tiny_teacher):
    made = [(run.folder / "record.json").stat().st_mtime_ns for run in compared.runs]
    again = adakd.compare(compared.methods, (0, 1), tiny_teacher, "resnet8x0.5", tiny_data, **compared.options)
    assert [(run.folder / "record.json").stat().st_mtime_ns for run in again] == made


def test_one_display_for_all(compared, tiny_data, tiny_teacher, capsys):
    options = {**compared.options, "progress": True, "epochs": 1}
    adakd.compare(["ce", "kd"], (0,), tiny_teacher, "resnet8x0.5", tiny_data, **options)
    shown = capsys.readouterr().err
    assert "6/6" in shown
    assert "kd resnet8x0.5" in shown


@pytest.mark.parametrize(
    ("methods", "seeds", "complaint"),
    [
        ([], (0,), "at least one method"),
        (["kd"], (), "at least one method and one seed"),
        (["kd", "kd"], (0,), "twice"),
        (["kd"], (0, 0), "twice"),
        (["kd", "zdk"], (0,), "unknown method 'zdk'"),
        ("kd", (0,), "expected a sequence of names"),
        (["ce", ("kd", {"kd_wieght": 9})], (0,), "kd_wieght"),
        (["ce", "kd"], (0, -1), "seed: expected"),
    ],
)
def test_what_makes_no_comparison_is_refused_before_any_run(
    tiny_data, tiny_teacher, tmp_path, methods, seeds, complaint
):
    with pytest.raises(ValueError, match=complaint):
        adakd.compare(methods, seeds, tiny_teacher, "resnet8x0.5", tiny_data, out=tmp_path, **SMALL)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"teacher": "nowhere"}, "unknown model 'nowhere'|nowhere"),
        ({"student": "resnet7"}, "unknown model 'resnet7'"),
        ({"cache": "int8"}, "cache: expected"),
        ({"views": 2}, "views: expected 1 to 1"),
        ({"train_images": 10**6}, "train_images: expected"),
    ],
)
def test_what_only_a_later_run_would_notice_is_told_before_the_first(
    tiny_data, tiny_teacher, tmp_path, options, complaint
):
    options = {"teacher": tiny_teacher, "student": "resnet8x0.5", **options}
    with pytest.raises((ValueError, RuntimeError), match=complaint):
        adakd.compare(["ce", "kd"], (0,), data=tiny_data, out=tmp_path, **{**SMALL, **options})
    assert not list(tmp_path.rglob("*.pt"))
    assert not list(tmp_path.rglob("record.json"))


# ---- the table ----


def fake(method, seed, accuracy, **settings):
    config = {"model": "m", "data": {"name": "d"}, "recipe": {"epochs": 1}, "precision": "fp32"}
    config["teacher"] = None if method == "ce" else {"model": "t", "sha256": "0"}
    config |= {"method": method, "method_options": {}, "seed": seed} | settings
    return SimpleNamespace(record={"config": config}, accuracy=accuracy)


def test_means_errors_and_paired_differences():
    runs = [fake("ce", 0, 60.0), fake("ce", 1, 62.0), fake("kd", 0, 63.0), fake("kd", 1, 66.0)]
    first, second = summarize(runs)
    assert (first.method, first.seeds, first.mean, first.error) == ("ce", 2, 61.0, pytest.approx(1.0))
    assert math.isnan(first.difference)
    assert second.difference == pytest.approx(3.5)  # of 3 and 4
    assert second.difference_error == pytest.approx(0.5)  # less than the accuracies' own 1.5


def test_only_shared_seeds_are_paired():
    rows = summarize([fake("ce", 0, 60.0), fake("kd", 0, 61.0), fake("kd", 5, 90.0), fake("dkd", 7, 70.0)])
    assert [row.difference for row in rows[1:2]] == [1.0]
    assert math.isnan(rows[1].difference_error)
    assert math.isnan(rows[2].difference)


def test_options_make_another_method():
    rows = summarize([fake("kd", 0, 60.0), fake("kd", 0, 61.0, method_options={"kd_weight": 9})])
    assert [row.method for row in rows] == ["kd", "kd (kd_weight=9)"]


@pytest.mark.parametrize(
    "other", [{"model": "n"}, {"precision": "bf16"}, {"recipe": {"epochs": 2}}, {"teacher": {"model": "u"}}]
)
def test_runs_that_are_not_comparable_are_refused(other):
    with pytest.raises(ValueError, match=f"differ in {next(iter(other))}"):
        summarize([fake("kd", 0, 60.0), fake("zkd", 0, 60.0, **other)])


def test_a_seed_twice_is_refused():
    with pytest.raises(ValueError, match="seed 0 twice"):
        summarize([fake("kd", 0, 60.0), fake("kd", 0, 61.0)])


def test_the_table_shows_signs_and_what_is_unknown():
    text = format_table(summarize([fake("ce", 0, 60.0), fake("ce", 1, 62.0), fake("kd", 0, 59.0)]))
    assert "61.00 ± 1.00" in text
    assert text.splitlines()[2].split() == ["kd", "1", "59.00", "-1.00"]
    assert text.splitlines()[1].split()[-1] == "–"
