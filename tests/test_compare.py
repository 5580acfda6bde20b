"""Comparing: paired runs, one forward of the teacher for all, a table of nothing but what the runs have."""

import functools
import importlib
import math
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import sweeps
import torch

import adakd
from adakd import Interrupted, LogitObjective
from adakd.cli.stop import StopRequests
from adakd.engine import Processes
from adakd.runs import Run
from adakd.study import format_lines, summarize
from adakd.teachers import find as find_module
from adakd.training import loop as loop_module

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


def test_afresh_is_once_and_not_for_every_process_that_dies(tiny_data, tiny_teacher, tmp_path, monkeypatch):
    options = {**SMALL, "out": tmp_path}
    (before,) = adakd.compare(["kd"], (0,), tiny_teacher, "resnet8x0.5", tiny_data, **options)
    monkeypatch.setattr(importlib.import_module("adakd.api"), "_carry_out", sweeps.dying_comparison)
    options |= {"fresh": True, "engine": Processes(1)}
    (after,) = adakd.compare(["kd"], (0,), tiny_teacher, "resnet8x0.5", tiny_data, **options)
    assert after.folder == before.folder
    assert after.record["started"] > before.record["finished"]
    assert len(after.record["sessions"]) == 2  # the second went on from the checkpoint of the first


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


# ---- a live teacher ----

LIVE = ["ce", "kd", "zkd+mlt", "dkd+ctkd", ("kd", {"kd_weight": 7})]
TAUGHT = 4
EPOCHS, STEPS = 2, 3  # the last batch of an epoch is smaller
TIMES = {"seconds", "started", "finished", "sessions", "commit"}


def compare_live(methods, seeds, teacher, data, out, **options):
    options = {**SMALL, "cache": None, "out": out, "should_stop": StopRequests(), **options}
    return adakd.compare(methods, seeds, teacher, "resnet8x0.5", data, **options)


def distill_live(method, seed, teacher, data, out, **options):
    name, settings = (method, {}) if isinstance(method, str) else method
    options = {**SMALL, "cache": None, "out": out, "method_options": settings, **options}
    options = {"should_stop": StopRequests(), **options}
    return adakd.distill(teacher, "resnet8x0.5", name, data, seed=seed, **options)


def outcome(run):
    """All of a run that must be the same again."""
    record = {key: value for key, value in run.record.items() if key not in TIMES}
    return run.folder.name, record, (run.folder / "weights.safetensors").read_bytes()


def outcomes(runs):
    return [outcome(run) for run in runs]


@pytest.fixture(scope="module")
def alone(tiny_data, tiny_teacher, tmp_path_factory):
    """What comes of LIVE with seeds 0 and 1 when each run is made for itself, with a live teacher of its own."""
    out = tmp_path_factory.mktemp("alone")
    return outcomes(
        distill_live(method, seed, tiny_teacher, tiny_data, out) for seed in (0, 1) for method in LIVE
    )


@pytest.fixture
def asked(monkeypatch):
    """The sizes of the batches that the teacher is asked about."""
    sizes = []
    load = find_module._teacher_model.__wrapped__

    @functools.cache
    def counted(*arguments):
        model = load(*arguments)
        model.register_forward_hook(lambda module, inputs, logits: sizes.append(len(inputs[0])))
        return model

    monkeypatch.setattr(find_module, "_teacher_model", counted)
    return sizes


class Killed(BaseException):
    """What a run does not survive and nothing catches."""


def kill():
    raise Killed


def interrupt():
    signal.raise_signal(signal.SIGINT)


def ctrl_c():
    """What Python makes of it where nobody handles the signal."""
    raise KeyboardInterrupt


def at_step(monkeypatch, number, happening):
    """Something happens in the n-th step from now on, whichever run it is of."""
    forward, left = LogitObjective.forward, [number]

    def disturbed(self, *arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            happening()
        return forward(self, *arguments, **options)

    monkeypatch.setattr(LogitObjective, "forward", disturbed)


@pytest.mark.parametrize("methods", [1, 2, 5])
def test_a_live_teacher_is_asked_once_an_epoch_whatever_the_number_of_methods(
    methods, tiny_data, tiny_teacher, tmp_path, asked
):
    compare_live(LIVE[-methods:], (0, 1), tiny_teacher, tiny_data, tmp_path)
    assert asked == [20, 20, 10] * EPOCHS * 2


def test_without_a_taught_method_the_teacher_is_not_asked(tiny_data, tiny_teacher, tmp_path, asked):
    compare_live(["ce"], (0,), tiny_teacher, tiny_data, tmp_path)
    assert asked == []


def test_runs_that_share_a_teacher_are_those_of_distill_to_the_last_bit(
    alone, tiny_data, tiny_teacher, tmp_path
):
    runs = compare_live(LIVE, (0, 1), tiny_teacher, tiny_data, tmp_path)
    assert outcomes(runs) == alone
    assert not (tmp_path / "cache").exists()
    assert list(tmp_path.rglob("checkpoint.pt")) == []
    assert "logits" not in runs[1].record["teacher"]
    shared = [run.record["sessions"][0].get("runs_of_one_teacher") for run in runs]
    assert shared == [None, *[TAUGHT] * 4] * 2


def test_in_bf16_too(tiny_data, tiny_teacher, tmp_path):
    methods, options = ["kd", "zkd"], {"precision": "bf16"}
    runs = compare_live(methods, (0,), tiny_teacher, tiny_data, tmp_path / "together", **options)
    for method, run in zip(methods, runs, strict=True):
        one = distill_live(method, 0, tiny_teacher, tiny_data, tmp_path / "alone", **options)
        assert outcome(run) == outcome(one)


def test_a_set_too_large_for_a_cache_is_asked_once_too(
    alone, tiny_data, tiny_teacher, tmp_path, asked, monkeypatch
):
    monkeypatch.setattr("adakd.training.cache.LARGEST", 100)
    runs = compare_live(LIVE, (0,), tiny_teacher, tiny_data, tmp_path, cache="fp16")
    assert asked == [20, 20, 10] * EPOCHS
    assert outcomes(runs) == alone[: len(LIVE)]


# ce trains alone (losses 1 to 6); then four methods train in lockstep, and all of them end with the step.
LAST_STEP = STEPS * EPOCHS * (1 + TAUGHT) - TAUGHT  # after so many losses only the last step of all is left


@pytest.mark.parametrize("happening", [interrupt, kill, ctrl_c])
@pytest.mark.parametrize("number", [1, 6, 7, 9, 14, 18, 20, 26, 28, 30])
def test_stopped_anywhere_and_continued(
    happening, number, alone, tiny_data, tiny_teacher, tmp_path, monkeypatch, asked
):
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        at_step(patch, number, happening)
        stopped = pytest.raises({interrupt: Interrupted, kill: Killed, ctrl_c: KeyboardInterrupt}[happening])
        if happening is interrupt and number > LAST_STEP:  # there is nothing to continue
            compare_live(LIVE, (0,), tiny_teacher, tiny_data, tmp_path)
        else:
            with stopped:
                compare_live(LIVE, (0,), tiny_teacher, tiny_data, tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler
    runs = compare_live(LIVE, (0,), tiny_teacher, tiny_data, tmp_path)
    assert outcomes(runs) == alone[: len(LIVE)]
    # What was said of the epoch under way is lost with the process, and no more than that.
    assert STEPS * EPOCHS <= len(asked) <= STEPS * (EPOCHS + 1)


def test_stopped_again_and_again(alone, tiny_data, tiny_teacher, tmp_path, monkeypatch):
    """After every second loss: in each step of each epoch."""
    for _ in range(STEPS * EPOCHS * len(LIVE)):
        with monkeypatch.context() as patch:
            at_step(patch, 2, interrupt)
            try:
                runs = compare_live(LIVE, (0,), tiny_teacher, tiny_data, tmp_path)
                break
            except Interrupted:
                pass
    assert outcomes(runs) == alone[: len(LIVE)]


def test_runs_that_stand_elsewhere_catch_up_and_are_taught_together_from_there(
    alone, tiny_data, tiny_teacher, tmp_path, monkeypatch, asked
):
    """One finished, one in the second epoch, one in the first, two that have not begun."""
    distill_live("kd", 0, tiny_teacher, tiny_data, tmp_path)
    for method, steps in (("zkd+mlt", 4), ("dkd+ctkd", 2)):
        with monkeypatch.context() as patch:
            at_step(patch, steps, interrupt)
            with pytest.raises(Interrupted):
                distill_live(method, 0, tiny_teacher, tiny_data, tmp_path)
    asked.clear()
    runs = compare_live(LIVE, (0,), tiny_teacher, tiny_data, tmp_path)
    assert outcomes(runs) == alone[: len(LIVE)]
    assert sorted(asked) == sorted([20, 20, 10] * EPOCHS), "each step of each epoch once"


def test_a_run_that_fails_leaves_the_others_their_teacher(
    alone, tiny_data, tiny_teacher, tmp_path, monkeypatch, asked, caplog
):
    forward, calls = LogitObjective.forward, []

    def diverges(self, *arguments, epoch, **options):
        terms = forward(self, *arguments, epoch=epoch, **options)
        calls.append(self.kd_weight == 7 and epoch == 2)
        return terms._replace(total=terms.total * math.nan) if sum(calls) == STEPS and calls[-1] else terms

    seeds, of_one_seed = (0, 1), len(LIVE)
    with monkeypatch.context() as patch:
        patch.setattr(LogitObjective, "forward", diverges)
        with (
            caplog.at_level("WARNING", logger="adakd"),
            pytest.raises(FloatingPointError, match="loss became nan in epoch 2; the last good state"),
        ):
            compare_live(LIVE, seeds, tiny_teacher, tiny_data, tmp_path)
    assert "kd, seed 0 failed (the loss became nan" in caplog.text
    assert len(list(tmp_path.rglob("record.json"))) == 2 * of_one_seed - 1
    asked.clear()
    runs = compare_live(LIVE, seeds, tiny_teacher, tiny_data, tmp_path)
    assert outcomes(runs) == alone
    assert asked == [20, 20, 10], "of the epoch that was lost"


def test_a_run_that_fails_does_not_stop_the_others_of_a_cache(tiny_data, tiny_teacher, tmp_path, monkeypatch):
    forward = LogitObjective.forward

    def breaks(self, *arguments, **options):
        if self.standardize:
            raise ConnectionError("something broke")
        return forward(self, *arguments, **options)

    monkeypatch.setattr(LogitObjective, "forward", breaks)
    with pytest.raises(ConnectionError):
        adakd.compare(
            ["zkd", "kd", "zdkd"], (0,), tiny_teacher, "resnet8x0.5", tiny_data, out=tmp_path, **SMALL
        )
    (record,) = tmp_path.rglob("record.json")
    assert record.parent.name.startswith("kd-")


@pytest.mark.parametrize("cache", ["fp16", None])
def test_asked_to_stop_in_a_runs_last_step_it_begins_no_other(
    cache, tiny_data, tiny_teacher, tmp_path, monkeypatch
):
    methods = ["ce", "kd"]
    with monkeypatch.context() as patch:
        at_step(patch, STEPS * EPOCHS, interrupt)
        with pytest.raises(Interrupted, match="1 of 2 runs are finished"):
            compare_live(methods, (0,), tiny_teacher, tiny_data, tmp_path, cache=cache)
    assert len(list(tmp_path.rglob("record.json"))) == 1
    assert len(list(tmp_path.rglob("checkpoint.pt"))) == 0
    compare_live(methods, (0,), tiny_teacher, tiny_data, tmp_path, cache=cache)


def test_their_display_counts_the_steps_of_all(tiny_data, tiny_teacher, tmp_path, capsys):
    distill_live("kd", 0, tiny_teacher, tiny_data, tmp_path)
    compare_live(["ce", "kd", "zkd", "dkd"], (0,), tiny_teacher, tiny_data, tmp_path, progress=True)
    shown = capsys.readouterr().err
    assert "24/24" in shown
    assert "25/24" not in shown


def test_their_seconds_are_their_own(tiny_data, tiny_teacher, tmp_path, monkeypatch):
    """A clock that goes a second at each step shows whose it was."""
    now, forward = [0.0], LogitObjective.forward

    def slow(self, *arguments, **options):
        now[0] += 1.0
        return forward(self, *arguments, **options)

    monkeypatch.setattr(LogitObjective, "forward", slow)
    monkeypatch.setattr(loop_module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    runs = compare_live(["kd", "zkd", "dkd"], (0,), tiny_teacher, tiny_data, tmp_path)
    assert [run.record["seconds"] for run in runs] == [STEPS * EPOCHS] * 3


# What torch 2.13 says of itself when it loads its compiler and looks at logits.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_captured_steps_of_many_runs_stay_captured(tiny_data, tiny_teacher, tmp_path, monkeypatch, caplog):
    """All losses are one function to the compiler, and all networks are; it gives up beyond a number of versions."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    methods = ["kd", "zkd", "dkd", "zdkd", "zkd+mlt", "dkd+ctkd", "ttm", "dist", "dtkd", "kd+mlt"]
    limit = torch._dynamo.config.recompile_limit
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True), caplog.at_level("WARNING"):
        runs = compare_live(methods, (0,), tiny_teacher, tiny_data, tmp_path, capture=True)
    assert all(run.record["sessions"][0]["captured"] for run in runs)
    assert "could not be compiled" not in caplog.text
    assert torch._dynamo.config.recompile_limit == limit


# ---- the table ----


def fake(method, seed, accuracy, **settings):
    config = {"model": "m", "data": {"name": "d"}, "recipe": {"epochs": 1}, "precision": "fp32"}
    config["teacher"] = None if method == "ce" else {"model": "t", "sha256": "0"}
    config |= {"method": method, "method_options": {}, "seed": seed} | settings
    return Run(Path("nowhere"), {"config": config, "result": {"last": accuracy}})


def test_means_intervals_and_paired_differences():
    accuracies = {"ce": (60.0, 62.0, 61.0), "kd": (63.0, 66.0, 64.0)}
    runs = [
        fake(method, seed, value) for method, values in accuracies.items() for seed, value in enumerate(values)
    ]
    first, second = summarize(runs)
    assert (first.name, first.seeds, first.accuracy.estimate) == ("ce", (0, 1, 2), 61.0)
    half = 4.302653 / 3**0.5  # Student's for three values of deviation 1
    assert first.accuracy.high - 61.0 == pytest.approx(half, rel=1e-6)
    assert first.ahead == {"ce": None}
    ahead = second.ahead["ce"]
    assert ahead.estimate == pytest.approx(10 / 3)  # of 3, 4 and 3
    assert ahead.high - ahead.estimate == pytest.approx(
        half / 3**0.5, rel=1e-6
    )  # less than the accuracies' own


def test_only_shared_seeds_are_paired():
    rows = summarize([fake("ce", 0, 60.0), fake("kd", 0, 61.0), fake("kd", 5, 90.0), fake("dkd", 7, 70.0)])
    assert rows[1].ahead["ce"].estimate == 1.0
    assert rows[1].ahead["ce"].n == 1
    assert rows[2].ahead["ce"] is None


def test_options_make_another_method():
    rows = summarize([fake("kd", 0, 60.0), fake("kd", 0, 61.0, method_options={"kd_weight": 9})])
    assert [row.name for row in rows] == ["kd", "kd (kd_weight=9)"]


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
    runs = [
        fake("ce", 0, 60.0),
        fake("ce", 1, 62.0),
        fake("ce", 2, 61.0),
        fake("kd", 0, 59.0),
        fake("kd", 1, 60.0),
    ]
    lines = format_lines(summarize(runs)).splitlines()
    assert lines[1].split() == ["ce", "3", "61.00", "±", "2.48", "–"]
    # Two seeds have an interval of 12.7 times their distance: it is not shown, and how many there are is.
    assert lines[2].split() == ["kd", "2", "59.50", "(n", "=", "2)", "-1.50", "(n", "=", "2)"]
