"""Sweeps: a grid says what it says, every engine makes the same records, and nothing that breaks loses or repeats one."""

import csv
import dataclasses
import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path

import pytest

import adakd
from adakd.cli import main
from adakd.data import Views, load_gratings
from adakd.engine import Outcome, Pool, Processes, Ray, Task, work_off
from adakd.runs import BusyError
from adakd.study import Study, run_study
from adakd.sweep import estimate, read_grid, read_sweep_failures, run_sweep
from adakd.sweep.estimate import SHAPES
from adakd.sweep.run import plan_sweep
from adakd.training import Interrupted

sys.path.insert(0, str(Path(__file__).parent))
import sweeps

ROOT = Path(__file__).parents[1]
GRIDS = ROOT / "grids"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    "OMP_NUM_THREADS": "1",
}
# Runs of each grid: pairs × methods × overrides × seeds, and each student's without a teacher once.
COUNTS = {"demo": 9, "fig2": 30, "table1": 7 * 13 * 5 + 5 * 5, "table2": 7 * 14 * 5 + 6 * 5, "table4": 7 * 5}


# ---- grids ----


def test_every_grid_is_counted():
    assert {path.stem for path in GRIDS.glob("*.toml")} == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_a_grid_has_its_runs(name):
    cells = read_grid(GRIDS / f"{name}.toml").cells()
    assert len(cells) == len(set(cells)) == COUNTS[name]


def test_a_setting_may_be_a_list():
    """As milestones are one: a cell, which is known by its hash, holds them as a tuple."""
    weights = [1.0] * 9 + [2.0]
    grid = read_grid(
        {"methods": [{"name": "kd", "class_weights": weights}], "overrides": [{"milestones": [1, 2]}]}
    )
    (cell,) = grid.cells()
    assert (cell.options, cell.changes) == ((("class_weights", tuple(weights)),), (("milestones", (1, 2)),))


def test_the_tables_with_five_seeds_are_a_thousand_runs():
    assert COUNTS["table1"] + COUNTS["table2"] == 1000


def plain(name):
    """As the paper prints a name, and as we do."""
    return name.lower().replace("shufflenet", "shuffle").replace("-", "").replace("_", "")


@pytest.mark.parametrize("number", ["1", "2"])
def test_the_grid_of_a_table_has_its_pairs_and_methods(number):
    with (ROOT / "book" / "data" / "paper_tables.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == number]
    grid = read_grid(GRIDS / f"table{number}.toml")
    assert {(plain(one), plain(other)) for one, other in grid.pairs} == {
        (plain(row["teacher"]), plain(row["student"])) for row in rows
    }
    printed = {plain(row["method"]) for row in rows if row["type"] != "reference"}
    assert {plain(method) for method in grid.methods} == {*printed, "ce"}


def test_the_grid_of_table_4_has_its_weights():
    with (ROOT / "book" / "data" / "paper_tables.csv").open(encoding="utf-8") as file:
        printed = [
            row["method"].partition("lambda_KD=")[2] for row in csv.DictReader(file) if row["table"] == "4"
        ]
    cells = read_grid(GRIDS / "table4.toml").cells()
    weights = {dict(cell.options).get("kd_weight", 9.0) for cell in cells}
    assert weights == set(map(float, printed))


def test_every_key_does_what_it_says():
    grid = read_grid(
        {
            "teachers": ["resnet14", "resnet20"],
            "students": ["resnet8", "resnet8x0.5"],
            "methods": ["ce", {"name": "kd", "kd_weight": 3.0}],
            "seeds": [3, 4],
            "settings": {"epochs": 5},
            "overrides": [{"lr": 0.1}, {"lr": 0.2, "batch_size": 10}],
        },
        "mine",
    )
    cells = grid.cells()
    # ce once for a student, kd for each teacher of it.
    assert Counter(cell.method for cell in cells) == {"ce": 2 * 2 * 2, "kd": 2 * 2 * 2 * 2}
    assert {cell.seed for cell in cells[: len(cells) // 2]} == {3}, "seed by seed"
    assert {cell.options for cell in cells if cell.method == "kd"} == {(("kd_weight", 3.0),)}
    assert {cell.changes for cell in cells} == {(("lr", 0.1),), (("batch_size", 10), ("lr", 0.2))}
    recipe = grid.student_recipe("resnet8", {"lr": 0.2})
    assert (recipe.epochs, recipe.lr) == (5, 0.2)


def test_what_is_the_rows_own_value_makes_no_other_run():
    usual, told = (read_grid({"methods": [method]}) for method in ("zkd", {"name": "zkd", "kd_weight": 9.0}))
    assert usual.cells() == told.cells()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"methds": ["kd"]}, "unknown key of a grid 'methds'. Did you mean 'methods'"),
        ({"methods": []}, "methods: expected at least one, got an empty list"),
        ({"methods": "kd"}, "methods: expected a list, got 'kd'"),
        ({"methods": ["kdd"]}, "unknown method 'kdd'"),
        ({"methods": ["kd", "kd"]}, "methods: expected each once"),
        ({"methods": [{"kd_weight": 1}]}, "methods: expected names, or tables like"),
        ({"methods": [{"name": "ce", "tau": 2.0}]}, "unknown option of ce: 'tau'"),
        ({"methods": [{"name": "kd", "tau": "warm"}]}, "kd: tau: expected"),
        ({"seeds": []}, "seeds: expected at least one, got an empty list"),
        ({"seeds": [0.5]}, "seeds: expected integers, got 0.5"),
        ({"seeds": [-1]}, "seed: expected an integer from 0"),
        ({"seeds": [1, 1]}, "seeds: expected each once"),
        ({"students": ["resnet9"]}, "students: unknown model 'resnet9'"),
        ({"teachers": ["resnet9"]}, "nor is it a folder of a finished run"),
        ({"pairs": [["resnet14"]]}, "pairs: expected"),
        ({"pairs": [["resnet14", "resnet8"]], "students": ["resnet8"]}, "pairs: give pairs, or teachers and"),
        ({"data": "cifar1000"}, "unknown data set 'cifar1000'"),
        ({"recipe": "papers"}, "unknown recipe 'papers'"),
        ({"settings": {"epoch": 3}}, "unknown setting of the grid 'epoch'"),
        ({"settings": {"epochs": 0}}, "epochs: must be at least 1"),
        ({"teacher": {"train_images": 5}}, "a teacher sees all images"),
        ({"teacher": {"model": "resnet14"}}, "unknown setting of a teacher 'model'"),
        ({"overrides": [{}]}, "overrides: expected tables with at least one setting"),
        ({"overrides": [{"lr": -1.0}]}, "lr: expected a number from 0"),
        (
            {"overrides": [{"kd_weigth": 1.0}]},
            "unknown option of kd: 'kd_weigth'.*nor is it a setting of the recipe",
        ),
        ({"precision": "fp8"}, "precision: expected 'auto', 'fp32', 'bf16', 'fp16', got 'fp8'"),
        ({"cache": "int8"}, "cache: expected 'fp16', 'fp32', 'off', got 'int8'"),
    ],
)
def test_what_no_run_can_be_made_of_is_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_grid({"methods": ["kd"], **changes})


def test_a_file_that_is_wrong_is_named(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    for content, complaint in (
        ("methods = [", "not a TOML file"),
        ("seeds = [0]", "methods: expected at least one"),
        ('methods = ["kd"]\nsed = [1]', "unknown key of a grid 'sed'"),
    ):
        path.write_text(content)
        assert main(["sweep", str(path)]) == 1
        said = capsys.readouterr().err
        assert str(path) in said
        assert complaint in said
    assert main(["sweep", str(tmp_path / "none.toml")]) == 1
    assert "no grid at" in capsys.readouterr().err
    assert main(["sweep"]) == 1
    assert "expected a grid's file, or --methods" in capsys.readouterr().err


# ---- estimates ----


def test_shapes_are_those_of_the_data():
    data = load_gratings()
    shape = SHAPES["gratings"]
    assert dataclasses.astuple(shape) == (
        *(len(data.train), len(data.test), data.num_classes, data.train.images.shape[1]),
        Views(data, 0).count,
    )


def test_an_estimate_counts_what_is_left():
    grid = read_grid({"methods": ["kd"], "seeds": [0, 1, 2, 3], "data": "cifar100", "recipe": "paper"})
    whole = estimate(grid)
    assert whole.runs == 4
    assert whole.steps == 4 * 240 * 782
    half = estimate(grid, done=grid.cells()[:2])
    assert (half.runs, half.steps * 2, half.weights * 2) == (2, whole.steps, whole.weights)
    assert half.hours["T4"] < whole.hours["T4"]
    assert whole.hours["H100"] < whole.hours["T4"]
    assert estimate(grid, done=grid.cells()).hours["T4"] == 0
    assert estimate(grid, missing=["wrn_16_2"]).hours["T4"] > whole.hours["T4"]


def test_logits_that_are_kept_take_the_disk_and_spare_the_hours():
    """Every view of every image in fp16 for CIFAR-100, its checksum and its note; a method on features needs the network."""
    grid = {"methods": ["kd"], "seeds": [0, 1, 2, 3], "data": "cifar100", "recipe": "paper"}
    kept, live, features = (
        estimate(read_grid({**grid, **changes}), gpus=["T4"])
        for changes in ({}, {"cache": "off"}, {"methods": ["kd", "at"]})
    )
    assert kept.caches == pytest.approx(50_000 * 162 * 205, rel=0.01)
    assert live.caches == features.caches == 0
    assert kept.hours["T4"] < live.hours["T4"]


def test_an_unknown_gpu_is_refused(capsys):
    assert main(["sweep", str(GRIDS / "demo.toml"), "--dry-run", "--gpus", "H1000"]) == 1
    assert "unknown GPU 'H1000'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_books_table_is_made_from_the_grids():
    tool = ROOT / "book" / "_tools" / "scaling.py"
    assert subprocess.run([sys.executable, tool, "--check"]).returncode == 0, "run book/_tools/scaling.py"


# ---- the loop that keeps a pool at work ----


class Scripted(Pool):
    """Tells of each task what its script says next."""

    def __init__(self, script, free=2):
        self.script, self.most, self.tasks, self.begun, self.stopped = script, free, [], [], False

    @property
    def free(self):
        return self.most - len(self.tasks)

    @property
    def under_way(self):
        return {task.name for task in self.tasks}

    def submit(self, task):
        assert task.name not in self.under_way
        assert self.free > 0
        self.begun.append(task.name)
        self.tasks.append(task)

    def outcomes(self, seconds):
        task = self.tasks.pop(0)
        said = Interrupted("stopped") if self.stopped else self.script[task.name].pop(0)
        return [Outcome(task, error=said) if isinstance(said, BaseException) else Outcome(task, said)]

    def stop(self):
        self.stopped = True

    def close(self):
        self.tasks.clear()


def wanted_from(names, done):
    return lambda: [Task(name, print) for name in names if name not in done]


def test_what_another_process_is_at_is_looked_at_again(monkeypatch):
    monkeypatch.setattr("adakd.engine.base.SECONDS_BETWEEN_LOOKS", 0.01)
    pool, done = Scripted({"a": [BusyError("by another"), 1], "b": [2], "c": [3]}), {}

    def ended(outcome):
        done[outcome.task.name] = outcome.result

    work_off(pool, wanted_from("abc", done), ended)
    assert done == {"a": 1, "b": 2, "c": 3}
    assert Counter(pool.begun) == {"a": 2, "b": 1, "c": 1}


def test_who_asks_to_stop_gets_what_was_under_way_saved():
    pool, done = Scripted({"a": [1], "b": [2], "c": [3]}), {}

    def ended(outcome):
        done[outcome.task.name] = outcome.result

    with pytest.raises(Interrupted, match="stopped; one record"):
        work_off(
            pool, wanted_from("abc", done), ended, should_stop=lambda: bool(done), state=lambda: "one record"
        )
    assert pool.under_way == set()
    assert done == {"a": 1}


def test_an_error_of_the_owner_ends_the_loop():
    def refuse(outcome):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        work_off(Scripted({"a": [1]}), wanted_from("a", {}), refuse)


@pytest.mark.parametrize(
    ("engine", "settings"),
    [
        (Processes, {"workers": 0}),
        (Processes, {"workers": True}),
        (Processes, {"retries": -1}),
        (Ray, {"workers": 0}),
        (Ray, {"gpus_per_run": -1}),
        (Ray, {"gpus_per_run": 1.5}),
        (Ray, {"cpus_per_run": None}),
        (Ray, {"cpus_per_run": 1024}),
        (Ray, {"retries": None}),
    ],
)
def test_an_engine_refuses_numbers_that_are_none(engine, settings):
    with pytest.raises(ValueError, match="expected"):
        engine(**settings)


def test_what_cannot_be_sent_is_said_before_a_process_starts():
    with (
        Processes().open() as pool,
        pytest.raises(ValueError, match="give networks, methods and teachers by name"),
    ):
        pool.submit(Task("a", print, (lambda: None,)))


def test_a_process_in_the_place_of_one_that_died_takes_its_number(monkeypatch):
    """By which it has a GPU: the next number is perhaps that of a GPU which another process has."""
    started = []

    class Started:
        def __init__(self, command, *, env, pass_fds, **_):
            self.number, self.held = env, os.dup(pass_fds[0])
            started.append(self)

        def wait(self, seconds=None):
            return -signal.SIGKILL

    monkeypatch.setattr("adakd.engine.local._environment", lambda number, workers: number)
    monkeypatch.setattr("adakd.engine.local.subprocess.Popen", Started)
    with Processes(2).open() as pool:
        pool.submit(Task("a", print))
        pool.submit(Task("b", print))
        os.close(started[0].held)
        pool.outcomes(10)  # finds it dead
        pool.outcomes(0)  # and starts another
    assert [process.number for process in started] == [0, 1, 0]
    for process in started[1:]:
        os.close(process.held)


# ---- sweeps ----


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """60 training and 40 test gratings, in each sweep of this file."""
    with pytest.MonkeyPatch.context() as patch:
        sweeps.use_tiny_data(patch=patch.setattr)
        yield


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """The sweep, one run after the other and undisturbed."""
    out = tmp_path_factory.mktemp("whole")
    assert sweeps.sweep(out).errors == {}
    return out


def test_a_sweep_has_a_record_of_every_run(whole):
    records = list(sweeps.records_of(whole).values())
    assert sorted((r["config"]["method"], r["seed"]) for r in records) == [
        ("ce", 0),
        ("ce", 1),
        ("kd", 0),
        ("kd", 1),
    ]
    # The teacher was trained, once; its students are of it.
    (teacher,) = (whole / "gratings" / "resnet8").glob("*/record.json")
    weights = json.loads(teacher.read_text())["weights_sha256"]
    assert {r["config"]["teacher"]["sha256"] for r in records if r["config"]["method"] == "kd"} == {weights}


def test_what_all_runs_would_say_alike_is_said_once(tmp_path, caplog):
    caplog.set_level("INFO", logger="adakd")
    for out in (tmp_path / "one", tmp_path / "other"):  # of two sweeps, each says it
        caplog.clear()
        sweeps.sweep(out)
        told = [record.getMessage() for record in caplog.records]
        assert [line for line in told if "(as given)" in line] == ["teacher resnet8 on cpu in fp32 (as given)"]
        assert told.count("kd resnet8x0.5 on cpu in fp32") == 2
        assert len([line for line in told if line.startswith("  teacher resnet8: ")]) == 1


def test_a_sweep_that_is_done_does_nothing(whole, monkeypatch):
    monkeypatch.setattr("adakd.sweep.run.plan_student", lambda *_: pytest.fail("a finished run was begun"))
    before = (whole / "sweeps" / "tiny" / "sweep.jsonl").read_bytes()
    assert len(sweeps.sweep(whole).accuracy) == 4
    assert (whole / "sweeps" / "tiny" / "sweep.jsonl").read_bytes() == before


def test_a_dry_run_says_what_is_left_and_writes_nothing(whole, tmp_path, capsys):
    path = tmp_path / "tiny.toml"
    path.write_text(
        'teachers = ["resnet8"]\nstudents = ["resnet8x0.5"]\nmethods = ["ce", "kd"]\nseeds = [0, 1, 2]\n'
        'precision = "fp32"\nsettings = {epochs = 3, train_images = 40, batch_size = 20, eval_every = 3}\n'
        "[teacher]\nepochs = 3\nbatch_size = 20\neval_every = 3\n"
    )
    assert tomllib.loads(path.read_text()) == {**sweeps.TINY, "seeds": [0, 1, 2]}
    files = sorted(whole.rglob("*"))
    assert main(["sweep", str(path), "--out", str(whole), "--device", "cpu", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "6 runs on gratings, 4 done, 2 left (12 steps)" in said
    assert "teachers: all there" in said
    assert "estimate" in said
    assert sorted(whole.rglob("*")) == files
    dry = ["sweep", str(path), "--out", str(whole), "--device", "cpu", "--dry-run"]
    assert main([*dry, "--json", str(tmp_path / "plan.json")]) == 0
    assert capsys.readouterr().out == said
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert (plan["runs"], plan["done"], plan["left"], plan["steps"]) == (6, 4, 2, 12)
    assert plan["teachers_to_train"] == []
    assert set(plan["bytes"]) == {"caches", "checkpoint", "weights"}
    assert main([*dry, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == plan
    assert main(["sweep", str(path), "--out", str(tmp_path / "none"), "--dry-run", "--device", "cpu"]) == 0
    assert "1 to be trained first (resnet8)" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_a_dry_run_without_the_data_says_so_in_words_of_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("adakd.sweep.run.load_data", adakd.load_data)
    command = ["sweep", "--methods", "ce", "kd", "--data", "cifar100", "--root", str(tmp_path), "--dry-run"]
    assert main([*command, "--device", "cpu"]) == 0
    told = capsys.readouterr()
    assert (
        f"cifar100 is not in {tmp_path} and --dry-run downloads nothing; so none of the runs is known"
        in told.err
    )
    assert "download=" not in told.err
    assert "0 done" in told.out


@pytest.mark.parametrize("data", ["sentences", "pydoc"])
def test_a_dry_run_of_text_leaves_the_estimate_out(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("adakd.sweep.run.load_data", adakd.load_data)
    command = ["sweep", "--methods", "ce", "kd", "--data", data, "--out", str(tmp_path), "--dry-run"]
    assert main([*command, "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert f"2 runs on {data}, 0 done, 2 left\n" in said
    assert main([*command, "--device", "cpu", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["left"] == 2
    assert "hours and disk: estimated for cifar10, cifar100, gratings alone" in said
    with pytest.raises(ValueError, match=f"data: expected 'cifar10', .* got '{data}'"):
        estimate(read_grid({"methods": ["kd"], "data": data}))


def test_an_unknown_option_of_a_plan_is_refused(tmp_path):
    with pytest.raises(TypeError, match="'offical'"):
        plan_sweep(read_grid(sweeps.TINY, "tiny"), tmp_path, None, offical=False)


def test_options_go_before_what_the_file_says(tmp_path, capsys):
    command = ["sweep", str(GRIDS / "demo.toml"), "--out", str(tmp_path), "--dry-run", "--device", "cpu"]
    assert (
        main(
            [
                *command,
                "--methods",
                "zkd",
                "kd:kd_weight=3",
                "--seeds",
                "7",
                "--epochs",
                "2",
                "--train-images",
                "40",
            ]
        )
        == 0
    )
    assert "demo: 2 runs on gratings, 0 done, 2 left (4 steps)" in capsys.readouterr().out


def test_records_alone_are_enough(whole, tmp_path):
    """The folders of the runs may be gone: what has a record is not trained again."""
    records = tmp_path / "sweeps" / "tiny"
    records.mkdir(parents=True)
    (records / "sweep.jsonl").write_bytes((whole / "sweeps" / "tiny" / "sweep.jsonl").read_bytes())
    assert len(sweeps.sweep(tmp_path).accuracy) == 4
    assert len(sweeps.records_of(tmp_path)) == 4
    assert not list(tmp_path.rglob("resnet8x0.5/*/record.json"))


def test_a_folder_of_other_data_is_refused(whole):
    other = read_grid({"methods": ["kd"], "data": "cifar100"}, "tiny")
    with pytest.raises(ValueError, match="holds a sweep of gratings, and the grid is of cifar100"):
        run_sweep(other, out=whole, device="cpu", progress=False)


def test_a_run_that_diverges_is_noted_and_left_out(tmp_path):
    grid = read_grid(
        {**sweeps.TINY, "methods": ["ce", {"name": "kd", "kd_weight": 1e15}], "seeds": [0]}, "tiny"
    )
    for _ in range(2):  # the second finds it noted
        results = run_sweep(grid, out=tmp_path, device="cpu", progress=False)
        assert [cell.method for cell in results.accuracy] == ["ce"]
        assert [cell.method for cell in results.errors] == ["kd"]
        (noted,) = read_sweep_failures(results.folder).values()
        assert "lower the learning rate" in noted.lower()
    assert isinstance(next(iter(results.errors.values())), str), "it was tried again"
    results = run_sweep(grid, out=tmp_path, device="cpu", progress=False, retry_failed=True)
    assert isinstance(next(iter(results.errors.values())), FloatingPointError)


def test_a_stopped_sweep_goes_on_where_it_was(whole, tmp_path):
    """Asked to stop after every few steps, again and again: each time one message, and in the end the same records."""
    grid, stops = read_grid(sweeps.TINY, "tiny"), 0
    finished = False
    while not finished:
        asked = iter([False] * 10 + [True] * 1000)
        try:
            run_sweep(grid, out=tmp_path, device="cpu", progress=False, should_stop=lambda: next(asked))  # noqa: B023
            finished = True
        except Interrupted:
            stops += 1
    assert stops >= 2
    assert sweeps.records_of(tmp_path) == sweeps.records_of(whole)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_full_disk_ends_it_with_one_message_and_it_goes_on(whole, tmp_path):
    """No file may grow beyond a size that checkpoints exceed: the system's own error, with the number for it."""
    resource = importlib.import_module("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        with pytest.raises(OSError, match="the sweep stops, and what was saved stays") as caught:
            sweeps.sweep(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert not (tmp_path / "sweeps" / "tiny" / "sweep.jsonl").exists()
    sweeps.sweep(tmp_path)
    assert sweeps.records_of(tmp_path) == sweeps.records_of(whole)


def command(out, engine):
    """A sweep as a process of its own, whose workers die at each distillation's first checkpoint."""
    return subprocess.Popen(
        [sys.executable, "-c", "import sweeps; sweeps.main()", out, engine],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_killed_workers_and_a_killed_command_leave_no_trace(engine, whole, tmp_path):
    """The process of each distillation dies once, and the command itself at the first record; then it is repeated."""
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed; it has an extra of its own")
    records = tmp_path / "sweeps" / "tiny" / "sweep.jsonl"
    first = command(tmp_path, engine)
    while first.poll() is None and not records.is_file():
        time.sleep(0.02)
    first.kill()
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    second = command(tmp_path, engine)
    said, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors
    assert json.loads(said.splitlines()[-1]) == {"done": 4, "errors": []}
    assert len(list(tmp_path.glob("died-*"))) == 2
    assert sweeps.records_of(tmp_path) == sweeps.records_of(whole)
    assert not list(tmp_path.rglob("checkpoint.pt"))


@pytest.mark.slow
def test_killed_at_random_moments_and_started_again(tmp_path):
    """ADAKD_KILLS=50 kills it fifty times; a few of them are everybody's share."""
    moments = int(os.environ.get("ADAKD_KILLS", "5"))
    done = subprocess.run(
        [sys.executable, "-c", "import sweeps; sweeps.killed()", tmp_path, str(moments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    print(report)
    assert report["kills"] == moments
    assert report["different"] == []


@pytest.mark.slow
def test_a_comparison_and_a_study_make_the_same_records_in_other_processes(tiny_data, tiny_teacher, tmp_path):
    """Their tasks are sent, planned again, and answered; also those of a live teacher, which train in lockstep."""
    settings = {"device": "cpu", "precision": "fp32", "progress": False, "epochs": 2, "train_images": 40}
    settings |= {"batch_size": 20, "eval_every": 2}
    found = {}
    for name, engine in (("here", None), ("there", Processes(1))):
        where = {"engine": engine, "out": tmp_path / name, **settings}
        given = (tiny_teacher, "resnet8x0.5", tiny_data)
        runs = adakd.compare(("ce", "kd", "at"), (0,), *given, **where)
        study = Study(("kd", "zkd"), (1,), reference="kd", ways=("published", "matched"))
        records = [run.record for run in runs]
        records += run_study(study, tmp_path / name / "study", *given, **where)
        found[name] = [
            {key: part for key, part in record.items() if key not in sweeps.OF_THE_OCCASION}
            for record in records
        ]
    # A record that a study has kept is a smaller one, of the same run.
    assert [record["config"] for record in found["here"]] == [record["config"] for record in found["there"]]
    assert found["here"] == found["there"]


def test_callbacks_do_not_leave_this_process(tiny_data, tiny_teacher):
    with pytest.raises(ValueError, match="on_epoch: is called in this process only"):
        adakd.compare(
            ("ce",), (0,), tiny_teacher, "resnet8x0.5", tiny_data, on_epoch=print, engine=Processes(1)
        )


def test_a_cluster_that_is_not_there_is_named_with_what_may_be_missing(monkeypatch):
    ray = pytest.importorskip("ray")

    def refuse(**options):
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", refuse)
    with (
        pytest.raises(ValueError, match=r"no Ray at 192\.0\.2\.9:1: nobody answers; .*RAY_AUTH_MODE=token"),
        Ray(address="192.0.2.9:1").open(load_gratings(60, 40), should_stop=lambda: False, report=print),
    ):
        pass
