"""The trainer by itself, the loop around it, and what a library call leaves alone."""

import ast
import contextlib
import dataclasses
import functools
import importlib
import signal
from pathlib import Path

import pytest
import sweeps
import torch

import adakd
from adakd import Batch, CheckpointError, Recipe, Signals, Trainer, choose_precision, create_method
from adakd.engine import StopRequests
from adakd.models import seeded_model
from adakd.plan import Request, ensure_teacher, plan_student
from adakd.runs import Resources, RunConfig
from adakd.study import Study, read_study, run_study
from adakd.teachers import LiveTeacher, MissingTeacherError, load_teacher, locate_teacher
from adakd.training import Checkpoint, Runner, lockstep, student_views
from adakd.training.loop import fit

CPU = torch.device("cpu")
FP32 = choose_precision("fp32", CPU, 0)
NAME = "resnet8x0.5"
RECIPE = Recipe("test", epochs=2, batch_size=20, lr=0.1, schedule="onecycle")
SMALL = {"device": "cpu", "precision": "fp32", "progress": False, "epochs": 2, "batch_size": 20}
PACKAGE = Path(adakd.__file__).parent


def trainer_of(data, method="zkd+ctkd"):
    return Trainer(seeded_model(NAME, 10, 0), create_method(method), RECIPE, data, FP32)


def teacher_of(data):
    return LiveTeacher(seeded_model(NAME, 10, 1), FP32, data.device)


def same(one, other):
    """Whether two trainers are in one state to the last bit."""
    ours, theirs = (each.state_dict() for each in (one, other))
    return ours["history"] == theirs["history"] and all(
        torch.equal(ours[part][key], theirs[part][key]) for part in ("model", "criterion") for key in ours[part]
    )


@contextlib.contextmanager
def in_fp64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


AMBIENT = {
    "fp64": in_fp64,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
    "another device": lambda: torch.device("meta"),
}


SOME = {**SMALL, "train_images": 40}


def mode():
    devices = torch.is_autocast_enabled("cpu"), torch.get_default_device()
    return torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *devices


TRAINING = {
    # By features: their loss is computed outside of the steps' own autocast.
    "distill": lambda network, data, out, **more: [
        adakd.distill(network, NAME, "sp", data, out=out, **SOME, **more)
    ],
    "train_teacher": lambda network, data, out, **more: [
        adakd.train_teacher(NAME, data, out=out, **SOME, **more)
    ],
    "compare": lambda network, data, out, **more: adakd.compare(
        ["ce", "kd"], (0,), network, NAME, data, out=out, **SOME, **more
    ),
}


@pytest.fixture(scope="module")
def whole(tiny_data):
    trainer = trainer_of(tiny_data)
    fit(trainer, student_views(tiny_data, RECIPE, 0), teacher_of(tiny_data))
    return trainer


def test_a_loop_of_ones_own_is_that_of_fit(whole, tiny_data):
    """Everything is in the state: after each step another trainer goes on from it."""
    trainer, network = trainer_of(tiny_data), seeded_model(NAME, 10, 1).eval()
    views = student_views(tiny_data, RECIPE, 0)
    for epoch in (1, 2):
        for shown in views.steps(epoch, RECIPE.batch_size):
            with torch.no_grad():
                logits = network(shown.images)
            terms = trainer.step(shown.images, Signals(logits), Batch(shown.labels, shown.index, epoch))
            assert terms.total.isfinite()
            following = trainer_of(tiny_data)
            following.load_state_dict(trainer.state_dict())
            trainer = following
        assert trainer.step_in_epoch == 3
        trainer._lr = whole.history[epoch - 1]["lr"]  # of the last step, which the one before has made
        trainer.end_epoch()
    assert trainer.done
    assert same(trainer, whole)


def test_a_step_shows_where_its_images_are_from(tiny_data):
    data = dataclasses.replace(tiny_data, padding=1, flip=True)
    views = student_views(data, dataclasses.replace(RECIPE, train_images=50), 3)
    for shown in views.steps(2, 20, start=1):
        assert torch.equal(data.train.labels[views.index[shown.index]], shown.labels)
        assert shown.index.max() < 50  # among those that are shown
        assert torch.equal(views.at(shown.slots), shown.images)


def test_lockstep_is_fit_for_each_of_them(whole, tiny_data):
    views = student_views(tiny_data, RECIPE, 0)
    others = [trainer_of(tiny_data, method) for method in ("ce", "kd")]
    runners = [Runner(trainer_of(tiny_data)), *map(Runner, others)]
    lockstep(runners, views, teacher_of(tiny_data))
    assert [runner.error for runner in runners] == [None] * 3
    assert same(runners[0].trainer, whole)
    alone = trainer_of(tiny_data, "kd")
    fit(alone, views, teacher_of(tiny_data))
    assert same(others[1], alone)


def test_a_checkpoint_from_before_terms_had_names_is_continued(whole, tiny_data, tmp_path):
    path, views, trainer = (
        tmp_path / "checkpoint.pt",
        student_views(tiny_data, RECIPE, 0),
        trainer_of(tiny_data),
    )
    asked = iter([False] * 3)
    with pytest.raises(adakd.Interrupted):
        fit(
            trainer,
            views,
            teacher_of(tiny_data),
            checkpoint=Checkpoint(path),
            should_stop=lambda: next(asked, True),
        )
    saved = torch.load(path, weights_only=True)
    assert saved["criterion"]
    saved["criterion"] = {key.removeprefix("terms.kd."): value for key, value in saved["criterion"].items()}
    assert any(key.startswith("temperature.") for key in saved["criterion"])
    torch.save(saved, path)
    continued = trainer_of(tiny_data)
    fit(continued, views, teacher_of(tiny_data), checkpoint=Checkpoint(path))
    assert same(continued, whole)


def test_a_checkpoint_of_another_method_is_refused(tiny_data, tmp_path):
    path = tmp_path / "checkpoint.pt"
    Checkpoint(path).save(trainer_of(tiny_data))
    with pytest.raises(CheckpointError, match=r"criterion\.terms\.kd\.temperature.* is not of this network"):
        Checkpoint(path).resume(trainer_of(tiny_data, "kd"))


# ---- what a library call leaves alone ----


def test_no_library_call_handles_a_signal(tiny_data, tmp_path):
    """Also by its text: signals belong to the command line, and to processes of our own that it starts."""
    before, seen = signal.getsignal(signal.SIGINT), []
    adakd.train_teacher(
        NAME,
        tiny_data,
        out=tmp_path,
        on_epoch=lambda row: seen.append(signal.getsignal(signal.SIGINT)),
        **SMALL,
    )
    assert seen == [before] * 2
    named = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "signal.signal" in path.read_text()
    }
    assert named == {"_entry.py", "engine/stop.py", "engine/_worker.py"}


@pytest.fixture
def usual_ctrl_c():
    """As a terminal has it: a shell's background job, as this may be, begins with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("usual_ctrl_c")
def test_ctrl_c_in_python_leaves_the_last_checkpoint(tiny_data, tmp_path):
    def press(row):
        if row["epoch"] == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        adakd.train_teacher(NAME, tiny_data, out=tmp_path / "a", on_epoch=press, **SMALL)
    assert not isinstance(caught.value, adakd.Interrupted)
    (checkpoint,) = tmp_path.rglob("checkpoint.pt")
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 2
    continued = adakd.train_teacher(NAME, tiny_data, out=tmp_path / "a", **SMALL)
    left_alone = adakd.train_teacher(NAME, tiny_data, out=tmp_path / "b", **SMALL)
    assert continued.record["weights_sha256"] == left_alone.record["weights_sha256"]
    assert continued.history == left_alone.history


@pytest.mark.parametrize("call", [TRAINING["train_teacher"], TRAINING["compare"]], ids=["one run", "several"])
@pytest.mark.usefixtures("usual_ctrl_c")
def test_a_request_to_stop_ends_one_call_and_not_the_next(call, tiny_data, tmp_path):
    stop, network = StopRequests(), seeded_model(NAME, 10, 1)

    def press(row, *_):
        if not pressed:
            pressed.append(signal.raise_signal(signal.SIGINT))

    pressed = []
    with pytest.raises(adakd.Interrupted):
        call(network, tiny_data, tmp_path, should_stop=stop, on_epoch=press)
    assert call(network, tiny_data, tmp_path, should_stop=stop)


def test_a_request_that_nothing_has_answered_is_kept():
    stop = StopRequests()
    with stop:
        signal.raise_signal(signal.SIGINT)
    assert stop()


def test_a_signal_that_is_not_pythons_is_left_alone(monkeypatch):
    stop, before = StopRequests(), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda number: None)
        with stop:
            patch.undo()
            assert signal.getsignal(signal.SIGTERM) is before


def test_should_stop_saves_and_raises(tiny_data, tmp_path):
    with pytest.raises(adakd.Interrupted, match="stopped in epoch 1"):
        adakd.train_teacher(NAME, tiny_data, out=tmp_path, should_stop=lambda: True, **SMALL)
    assert len(list(tmp_path.rglob("checkpoint.pt"))) == 1


@pytest.mark.parametrize("ambient", AMBIENT.values(), ids=AMBIENT)
@pytest.mark.parametrize("call", TRAINING.values(), ids=TRAINING)
def test_a_run_is_the_same_however_torch_is_set(call, ambient, tiny_data, tmp_path):
    network = seeded_model(NAME, 10, 1)
    plain = call(network, tiny_data, tmp_path / "plain")
    with ambient():
        before = mode()
        runs = call(network, tiny_data, tmp_path / "other")
        accuracies = [adakd.evaluate(run, data=tiny_data, device="cpu") for run in runs]
        assert mode() == before
    assert [(run.folder.name, run.history) for run in runs] == [(run.folder.name, run.history) for run in plain]
    assert [run.record["weights_sha256"] for run in runs] == [run.record["weights_sha256"] for run in plain]
    assert accuracies == [run.accuracy for run in plain]


def test_studies_and_sweeps_are_too(tiny_data, tiny_teacher, tmp_path, monkeypatch):
    sweeps.use_tiny_data(monkeypatch.setattr)

    def histories(out):
        study = Study(("ce", "kd"), seeds=(0,), ways=("published",))
        run_study(study, out / "study", tiny_teacher, NAME, tiny_data, out=out / "runs", **SOME)
        sweeps.sweep(out)
        found = [*read_study(out / "study").records, *sweeps.records_of(out).values()]
        return [[record["config"], record["history"]] for record in found]

    plain = histories(tmp_path / "plain")
    with in_fp64(), torch.inference_mode():
        assert histories(tmp_path / "other") == plain


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_network_that_was_made_in_inference_mode_is_refused(role, tiny_data, tmp_path):
    networks = {"teacher": seeded_model(NAME, 10, 1), "student": NAME}
    with torch.inference_mode():
        networks[role] = seeded_model(NAME, 10, 1)
    with pytest.raises(TypeError, match=r"network: expected usual tensors, got one of torch\.inference_mode"):
        adakd.distill(**networks, method="kd", data=tiny_data, out=tmp_path, **SOME)


# What torch 2.13 says of itself when it loads its compiler.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_nothing_of_the_compiler_is_reset(tiny_data, tmp_path, monkeypatch):
    def refuse():
        raise AssertionError("what the caller had compiled is gone")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    monkeypatch.setattr("torch._dynamo.reset", refuse)
    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    before = getattr(torch._dynamo.config, limit)
    run = adakd.train_teacher(NAME, tiny_data, out=tmp_path, capture=True, **SMALL)
    assert run.record["sessions"][0]["captured"]
    assert getattr(torch._dynamo.config, limit) == before


# ---- teachers ----


def test_finding_and_loading_train_nothing(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("it trained")

    monkeypatch.setattr(Trainer, "step", refuse)
    with pytest.raises(MissingTeacherError, match="Train it first"):
        locate_teacher(NAME, None, "gratings", tmp_path)
    with pytest.raises(MissingTeacherError, match="Train it first"):
        plan_student(Request(teacher=NAME), Resources(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_a_student_is_found_before_its_teacher_trains(tmp_path):
    for wrong in ({"options": {"taw": 3}}, {"changes": {"train_images": 10**6}}, {"precision": "half"}):
        with pytest.raises(ValueError, match=r"taw|train_images|precision"):
            ensure_teacher([Request(teacher=NAME), Request(teacher=NAME, **wrong)], Resources(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_loaded_teacher_is_frozen(tiny_data, tiny_teacher):
    teacher = load_teacher(NAME, tiny_teacher, tiny_data)
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert teacher.identity == {"model": NAME, "sha256": tiny_teacher.record["weights_sha256"]}


# ---- the house ----


def test_a_config_is_what_the_record_says(tiny_data, tiny_teacher):
    asked = Request(tiny_data, NAME, "kd", {"kd_weight": 9}, RECIPE, teacher=tiny_teacher, precision="fp32")
    job = plan_student(asked, Resources(cache=None))
    assert isinstance(job.config, RunConfig)
    assert job.config.describe() == {
        "model": NAME,
        "method": "kd",
        "method_options": {"kd_weight": 9},
        "data": {"name": "gratings", "sha256": tiny_data.checksum},
        "recipe": RECIPE.describe(),
        "seed": 0,
        "precision": "fp32",
        "teacher": {"model": NAME, "sha256": tiny_teacher.record["weights_sha256"]},
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.config.seed = 1


def test_no_function_hides_a_module_of_its_name():
    assert not [
        name
        for module in ("fit", "compare", "run")
        for name in [f"adakd.training.{module}"]
        if importlib.util.find_spec(name)
    ]
    assert adakd.fit is adakd.training.fit is importlib.import_module("adakd.api").fit


# Faces to be called by keyword, and rules whose arguments are nothing but numbers of a paper.
FACES = {"api"}
HYPER_PARAMETERS = {"objective.LogitObjective.__init__", "temperature.policy.Policy.__init__"}


def functions(node, name):
    """Every function in a piece of code, by its dotted name."""
    for child in ast.iter_child_nodes(node):
        inside = f"{name}.{child.name}" if isinstance(child, (ast.FunctionDef, ast.ClassDef)) else name
        if isinstance(child, ast.FunctionDef):
            yield inside, child.args
        yield from functions(child, inside)


def parameters_of(arguments):
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    stars = [star for star in (arguments.vararg, arguments.kwarg) if star is not None]
    return [each.arg for each in (*named, *stars) if each.arg not in ("self", "cls")]


def test_no_function_has_more_than_eight_parameters():
    long = set()
    for path in PACKAGE.rglob("*.py"):
        room = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for name, arguments in functions(ast.parse(path.read_text(encoding="utf-8")), room):
            if len(parameters_of(arguments)) > 8:
                long.add("api" if room == "api" else name)
    assert long == FACES | HYPER_PARAMETERS
