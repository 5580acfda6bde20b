"""Training: a stopped run continues bit for bit, nothing is lost, records are complete, and a student learns."""

import dataclasses
import hashlib
import itertools
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import adakd
from adakd import (
    CheckpointError,
    Interrupted,
    LogitObjective,
    Recipe,
    TeacherError,
    TemperatureRule,
    Temperatures,
)
from adakd.cli.stop import StopRequests
from adakd.data import eval_batches, ring_distance
from adakd.models import seeded_model
from adakd.plan import Request
from adakd.runs import resolve_device
from adakd.training import RECIPES, REQUIRED_FIELDS, choose_precision, evaluate_model, get_recipe, save_weights
from adakd.training import loop as loop_module
from adakd.training import trainer as trainer_module

CPU = torch.device("cpu")
FP32 = choose_precision("fp32", CPU, 0)
SMALL = {"device": "cpu", "precision": "fp32", "progress": False, "epochs": 3, "batch_size": 20}
TIMES = {"seconds", "started", "finished", "sessions"}


# ---- a small run, interrupted in every way -----------------------------------------------------------------------


class Learned(TemperatureRule):
    """A temperature with a parameter and a state: a checkpoint must hold both."""

    def __init__(self):
        super().__init__()
        self.log_tau = nn.Parameter(torch.zeros(1, 1))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, student, teacher, target=None, epoch=None):
        self.calls += 1
        tau = 2 + self.log_tau.exp() + self.calls / 100
        return Temperatures(tau, tau)


class Disturbed(LogitObjective):
    """A loss that does something in its n-th call."""

    def __init__(self, at=None, happening=None):
        super().__init__(adakd.KL(), Learned(), standardize=True)
        self.calls_left, self.happening = at, happening

    def forward(self, *arguments, **options):
        terms = super().forward(*arguments, **options)
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left == 0:
                return self.happening(terms) or terms
        return terms


def interrupt(terms):
    signal.raise_signal(signal.SIGINT)


def terminate(terms):
    signal.raise_signal(signal.SIGTERM)


def interrupt_twice(terms):
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


def fail(terms):
    raise ConnectionError("something broke")


def lose(terms):
    return terms._replace(total=terms.total * math.nan)


def explode(terms):
    """A loss that is a number, and gradients that are none."""
    terms.total.register_hook(lambda gradient: gradient * math.inf)


SHORT = {
    "onecycle": Recipe("test", epochs=3, batch_size=20, lr=0.1, schedule="onecycle", eval_every=2),
    "multistep": Recipe("test", epochs=3, batch_size=24, lr=0.1, milestones=(1, 2)),
}
STEPS = 9


def run_fit(data, folder, recipe="onecycle", at=None, happening=None, config=None):
    """What is left after a run, or a continued one, of three epochs of three steps."""
    model, teacher = (seeded_model("resnet8x0.5", 10, seed) for seed in (0, 1))
    criterion = Disturbed(at, happening)
    recipe = SHORT[recipe] if isinstance(recipe, str) else recipe
    history, seconds = adakd.fit(
        model,
        data,
        recipe,
        criterion,
        seed=4,
        checkpoint=folder / "checkpoint.pt",
        config=config or recipe.describe(),
        precision=FP32,
        teacher=teacher,
        progress=False,
        should_stop=StopRequests(),
    )
    assert seconds > 0
    return SimpleNamespace(model=model.state_dict(), criterion=criterion.state_dict(), history=history)


@pytest.fixture(scope="module")
def whole(tiny_data, tmp_path_factory):
    """The same runs, left alone."""
    return {name: run_fit(tiny_data, tmp_path_factory.mktemp(name), name) for name in SHORT}


def assert_same(one, other):
    assert one.history == other.history
    for part in ("model", "criterion"):
        ours, theirs = getattr(one, part), getattr(other, part)
        different = [key for key in theirs if not torch.equal(ours[key], theirs[key])]
        assert different == []


@pytest.mark.parametrize("recipe", SHORT)
@pytest.mark.parametrize("at", range(1, STEPS))
def test_interrupted_at_any_step_and_continued(recipe, at, whole, tiny_data, tmp_path):
    with pytest.raises(Interrupted, match=r"stopped (in|after) epoch \d; saved in .*checkpoint.pt"):
        run_fit(tiny_data, tmp_path, recipe, at, interrupt)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (saved["epoch"] - 1) * 3 + saved["step"] == at, "it stops after the step in which it is asked to"
    assert_same(run_fit(tiny_data, tmp_path, recipe), whole[recipe])


def test_interrupted_after_every_step(whole, tiny_data, tmp_path):
    for _ in range(STEPS - 1):
        with pytest.raises(Interrupted):
            run_fit(tiny_data, tmp_path, at=1, happening=interrupt)
    assert_same(run_fit(tiny_data, tmp_path), whole["onecycle"])


def test_interrupted_in_the_last_step_of_all_there_is_nothing_to_continue(whole, tiny_data, tmp_path):
    assert_same(run_fit(tiny_data, tmp_path, at=STEPS, happening=interrupt), whole["onecycle"])


def test_terminated_politely(whole, tiny_data, tmp_path):
    with pytest.raises(Interrupted):
        run_fit(tiny_data, tmp_path, at=5, happening=terminate)
    assert_same(run_fit(tiny_data, tmp_path), whole["onecycle"])


def test_interrupted_twice_it_stops_at_once(whole, tiny_data, tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        run_fit(tiny_data, tmp_path, at=5, happening=interrupt_twice)
    assert not isinstance(caught.value, Interrupted)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["epoch"] == 2, "of the last whole epoch"
    assert_same(run_fit(tiny_data, tmp_path), whole["onecycle"])


@pytest.mark.parametrize("recipe", SHORT)
@pytest.mark.parametrize("at", [1, 3, 4, 5, 9])
def test_failed_at_any_step_and_continued(recipe, at, whole, tiny_data, tmp_path):
    with pytest.raises(ConnectionError):
        run_fit(tiny_data, tmp_path, recipe, at, fail)
    assert (tmp_path / "checkpoint.pt").is_file() == (at > 3)
    assert_same(run_fit(tiny_data, tmp_path, recipe), whole[recipe])


@pytest.mark.parametrize("at", [2, 3, 5, 7, 9])
def test_checkpoints_within_an_epoch_change_nothing(at, whole, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with pytest.raises(ConnectionError):
        run_fit(tiny_data, tmp_path, at=at, happening=fail)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (saved["epoch"] - 1) * 3 + saved["step"] == at - 1, "of the step before"
    assert_same(run_fit(tiny_data, tmp_path), whole["onecycle"])


def test_signals_are_given_back(tiny_data, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted):
        run_fit(tiny_data, tmp_path, at=2, happening=interrupt)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_fit_in_a_thread_where_no_signals_arrive(whole, tiny_data, tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(run_fit(tiny_data, tmp_path)))
    thread.start()
    thread.join()
    assert_same(results[0], whole["onecycle"])


def test_continuing_is_said(tiny_data, tmp_path, caplog):
    with pytest.raises(Interrupted):
        run_fit(tiny_data, tmp_path, at=5, happening=interrupt)
    with caplog.at_level("INFO", logger="adakd"):
        run_fit(tiny_data, tmp_path)
    assert "continuing training from epoch 2, step 2" in caplog.messages


# ---- checkpoints that cannot be used -----------------------------------------------------------------------------


def test_a_checkpoint_of_another_run_is_refused_with_the_difference(tiny_data, tmp_path):
    config = {"seed": 4, "recipe": {"lr": 0.1}}
    with pytest.raises(Interrupted):
        run_fit(tiny_data, tmp_path, at=2, happening=interrupt, config=config)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    for changed, message in (
        ({"seed": 5, "recipe": {"lr": 0.1}}, "seed was 4, is 5"),
        ({"seed": 4, "recipe": {"lr": 0.2}}, r"recipe was {'lr': 0.1}, is {'lr': 0.2}"),
        ({"seed": 4}, r"recipe was {'lr': 0.1}, is None"),
        ({**config, "method": "kd"}, "method was None, is 'kd'"),
    ):
        with pytest.raises(CheckpointError, match=f"is of another run: {message}"):
            run_fit(tiny_data, tmp_path, config=changed)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    run_fit(tiny_data, tmp_path, config=config)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (numpy.float64(2), "2.0"),
        (Path("a"), "'a'"),
        ({"y": [Path("a")]}, "'y'"),
        (math.nan, "nan"),
        (len, "len"),
    ],
)
def test_a_config_that_no_checkpoint_gives_back_is_refused_before_training(value, shown, tiny_data, tmp_path):
    with pytest.raises(TypeError, match=f"config: expected numbers, .*{shown}.* under 'x'"):
        run_fit(tiny_data, tmp_path, config={"x": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 1, 100, 20_000, -1])
def test_a_truncated_checkpoint_is_refused_and_kept(keep, tiny_data, tmp_path):
    with pytest.raises(Interrupted):
        run_fit(tiny_data, tmp_path, at=2, happening=interrupt)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:keep])
    damaged = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"checkpoint.pt cannot be read .*; delete it to start again"):
        run_fit(tiny_data, tmp_path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("content", [{"model": {}}, [1, 2], torch.zeros(3), {}])
def test_a_file_that_is_no_checkpoint_is_refused(content, tiny_data, tmp_path):
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=r"checkpoint.pt cannot be read"):
        run_fit(tiny_data, tmp_path)


def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(whole, tiny_data, tmp_path):
    with pytest.raises(
        FloatingPointError, match=r"loss became nan in epoch 2; the last good state is in .*point.pt"
    ):
        run_fit(tiny_data, tmp_path, at=6, happening=lose)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (saved["epoch"], saved["step"]) == (2, 0)
    assert_same(run_fit(tiny_data, tmp_path), whole["onecycle"])


def test_a_loss_that_is_not_finite_in_the_first_epoch_leaves_nothing(tiny_data, tmp_path):
    with pytest.raises(FloatingPointError, match="loss became nan in epoch 1; nothing was saved yet"):
        run_fit(tiny_data, tmp_path, at=3, happening=lose)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_weights_lost_within_an_epoch_are_noticed_in_the_next_step(whole, tiny_data, tmp_path):
    with pytest.raises(ValueError, match="student_logits: 20 of 20 rows hold NaN or infinity"):
        run_fit(tiny_data, tmp_path, at=5, happening=lose)
    assert_same(run_fit(tiny_data, tmp_path), whole["onecycle"])


def test_an_interruption_does_not_save_what_cannot_be_continued(whole, tiny_data, tmp_path):
    def lose_and_interrupt(terms):
        signal.raise_signal(signal.SIGINT)
        return lose(terms)

    with pytest.raises(FloatingPointError):
        run_fit(tiny_data, tmp_path, at=5, happening=lose_and_interrupt)
    assert_same(run_fit(tiny_data, tmp_path), whole["onecycle"])


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_weights_that_are_not_finite_are_never_saved(epoch, whole, tiny_data, tmp_path):
    """The loss of the epoch's last step is still a number; what its update leaves is none."""
    with pytest.raises(FloatingPointError, match=f"weights became infinite or NaN in epoch {epoch}"):
        run_fit(tiny_data, tmp_path, at=3 * epoch, happening=explode)
    assert (tmp_path / "checkpoint.pt").exists() == (epoch > 1)
    assert_same(run_fit(tiny_data, tmp_path), whole["onecycle"])


def test_a_method_with_a_teacher_needs_one(tiny_data, tmp_path):
    with pytest.raises(ValueError, match="distills from a teacher, and none was given"):
        adakd.fit(
            seeded_model("resnet8x0.5", 10, 0),
            tiny_data,
            SHORT["onecycle"],
            adakd.create_method("kd"),
            seed=0,
            checkpoint=tmp_path / "c.pt",
            config={},
            precision=FP32,
            progress=False,
        )


# ---- what all methods share --------------------------------------------------------------------------------------


def fit_by(teacher, student, data, folder):
    """Train a student by a network of the caller's."""
    options = {"seed": 0, "checkpoint": folder / "c.pt", "config": {}, "precision": FP32, "progress": False}
    adakd.fit(student, data, SHORT["onecycle"], adakd.create_method("zkd+mlt"), teacher=teacher, **options)


def test_the_teacher_is_not_touched(tiny_data, tmp_path):
    """Weights and running statistics, bit for bit, and what is trained in which mode, of a teacher in training mode."""

    def flags():
        return [each.training for each in teacher.modules()], [
            each.requires_grad for each in teacher.parameters()
        ]

    teacher = seeded_model("resnet14", 10, 1).train()
    teacher.bn1.eval().requires_grad_(False)
    as_given = flags()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    fit_by(teacher, seeded_model("resnet8x0.5", 10, 0), tiny_data, tmp_path)
    assert [key for key, value in teacher.state_dict().items() if not torch.equal(value, before[key])] == []
    assert flags() == as_given
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("share", ["all", "a layer"])
def test_a_teacher_that_shares_tensors_with_the_student_is_refused(share, tiny_data, tmp_path):
    student = seeded_model("resnet8x0.5", 10, 0)
    teacher = student if share == "all" else seeded_model("resnet8x0.5", 10, 1)
    teacher.conv1 = student.conv1
    with pytest.raises(ValueError, match="student, teacher: expected"):
        fit_by(teacher, student, tiny_data, tmp_path)
    assert all(each.requires_grad for each in student.parameters())


def test_methods_are_paired(tiny_data, tmp_path):
    """One seed, any method: the same first weights, transfer set, images, views and order."""
    seen = {}
    for method in ("ce", "kd", "zdkd", "zkd+mlt"):
        model = seeded_model("resnet8x0.5", 10, 0)
        images = []
        first = {key: value.clone() for key, value in model.state_dict().items()}
        model.register_forward_pre_hook(
            lambda module, inputs, images=images: images.append(
                (module.training, hashlib.sha256(inputs[0].numpy().tobytes()).hexdigest())
            )
        )
        adakd.fit(
            model,
            dataclasses.replace(tiny_data, padding=2, flip=True),
            dataclasses.replace(SHORT["onecycle"], train_images=50),
            adakd.create_method(method),
            seed=3,
            checkpoint=tmp_path / f"{method}.pt",
            config={},
            precision=FP32,
            teacher=seeded_model("resnet8x0.5", 10, 1),
            progress=False,
        )
        seen[method] = (first, images)
    first, images = seen.pop("ce")
    assert len({digest for training, digest in images if training}) == 9, "nine steps, nine different batches"
    for other_first, other_images in seen.values():
        assert all(torch.equal(first[key], other_first[key]) for key in first)
        assert other_images == images


def test_ctkd_with_dkd_trains_and_the_record_shows_how(tiny_data, tiny_teacher, tmp_path):
    """The trap: with the released mask of -1000 this is NaN as soon as the temperature has a gradient."""
    run = adakd.distill(
        tiny_teacher,
        "resnet8x0.5",
        "dkd+ctkd",
        tiny_data,
        out=tmp_path,
        **{**SMALL, "epochs": 70, "eval_every": 70, "train_images": 60},
    )
    temperatures = [row["temperature"] for row in run.history]
    gradients = [row["rule_gradient"] for row in run.history]
    assert 70 * 3 >= 200  # steps
    assert all(map(math.isfinite, [*temperatures, *gradients]))
    assert all(gradient > 0 for gradient in gradients)
    assert all(1 < tau < 21 for tau in temperatures)
    assert abs(temperatures[-1] - temperatures[0]) > 0.01


@pytest.mark.parametrize("options", [{"order": math.inf}, {"kd_weight": numpy.float64(3)}])
def test_options_of_every_number_type_are_recorded(options, tiny_data, tiny_teacher, tmp_path):
    run = adakd.distill(
        tiny_teacher,
        "resnet8x0.5",
        "zkd+mlt",
        tiny_data,
        seed=numpy.int64(1),
        method_options=options,
        out=tmp_path,
        **{**SMALL, "epochs": 1, "train_images": 20, "lr": numpy.float64(0.1)},
    )
    assert json.loads((run.folder / "record.json").read_text())["seed"] == 1


def test_options_that_no_record_can_hold_are_refused_before_training(tiny_data, tiny_teacher, tmp_path):
    with pytest.raises(ValueError, match="that a record can hold"):
        adakd.distill(
            tiny_teacher, "resnet8x0.5", "kd", tiny_data, method_options={"tau": math.nan}, out=tmp_path
        )


def test_a_learned_temperature_that_the_divergence_does_not_read(tiny_data, tiny_teacher, tmp_path):
    with pytest.raises(ValueError, match="Correlation reads no temperature, so theta of CTKD would never be"):
        adakd.distill(
            tiny_teacher, "resnet8x0.5", "correlation+ctkd", tiny_data, out=tmp_path, **{**SMALL, "epochs": 1}
        )
    assert not list(tmp_path.rglob("checkpoint.pt"))


def test_a_continued_run_names_its_sessions(student):
    assert len(student.record["sessions"]) == 1
    assert student.record["sessions"][0]["commit"] == student.record["commit"]


def test_history_gives_the_rate_that_was_used(tiny_data, tmp_path):
    history = run_fit(tiny_data, tmp_path, recipe="multistep").history
    assert [row["lr"] for row in history] == pytest.approx([0.1, 0.01, 0.001])


def test_history_says_what_happened(whole):
    for name, run in whole.items():
        assert [row["epoch"] for row in run.history] == [1, 2, 3]
        for row in run.history:
            assert row["loss"] == pytest.approx(row["ce"] + row["kd"], rel=1e-5)  # both weights are 1
            assert 0 <= row["train_accuracy"] <= 100
            assert -1 <= row["correlation"] <= 1
            assert 2 < row["temperature"] < 4
        measured = [row["epoch"] for row in run.history if "test_accuracy" in row]
        assert measured == ([2, 3] if name == "onecycle" else [1, 2, 3])
    assert whole["onecycle"].history[-1]["train_accuracy"] > whole["onecycle"].history[0]["train_accuracy"]


def test_means_of_an_epoch_are_of_its_images_and_of_no_other(tiny_data, tmp_path):
    """At lr 0 the weights stand still, and means over batches of 24, 24 and 12 must be those of all 60 views."""
    data = dataclasses.replace(tiny_data, padding=2, flip=True)
    model = seeded_model("resnet8x0.5", 10, 0).eval()
    model.train = lambda mode=True: model  # batch norm would make the loss depend on the batches
    history, _ = adakd.fit(
        model,
        data,
        Recipe("still", epochs=3, batch_size=24, lr=0.0, weight_decay=0.0),
        adakd.create_method("ce"),
        seed=0,
        checkpoint=tmp_path / "c.pt",
        config={},
        precision=FP32,
        progress=False,
    )
    for row in history:
        images, labels = next(adakd.data.Views(data, seed=0).batches(row["epoch"], 60))
        with torch.no_grad():
            logits = model(images)
        assert row["loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
        right = (logits.argmax(1) == labels).float().mean().item()
        assert row["train_accuracy"] == pytest.approx(100 * right, abs=1e-4)
    assert len({row["loss"] for row in history}) == 3


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_counts_right_answers_and_leaves_the_mode(training, tiny_data):
    model = seeded_model("resnet8x0.5", 10, 0).train(training)
    accuracy = evaluate_model(model, tiny_data, FP32)
    assert model.training is training
    model.eval()
    with torch.no_grad():
        right = sum(
            (model(images).argmax(1) == labels).sum().item() for images, labels in eval_batches(tiny_data, 7)
        )
    assert accuracy == 100 * right / 40


# ---- recipes, formats, devices -----------------------------------------------------------------------------------


def rates(recipe, steps=2):
    """The learning rate of every step."""
    optimizer = recipe.optimizer([nn.Parameter(torch.zeros(1))])
    scheduler = recipe.scheduler(optimizer, steps)
    found = []
    for _ in range(recipe.epochs * steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_the_papers_recipe():
    for role in ("teacher", "student"):
        recipe = get_recipe("paper", role)
        assert (recipe.epochs, recipe.batch_size, recipe.train_images) == (240, 64, None)
        optimizer = recipe.optimizer([nn.Parameter(torch.zeros(1))])
        settings = optimizer.param_groups[0]
        assert (settings["momentum"], settings["weight_decay"], settings["nesterov"]) == (0.9, 5e-4, False)
        expected = [0.05] * 150 + [0.005] * 30 + [0.0005] * 30 + [0.00005] * 30
        assert rates(recipe)[::2] == pytest.approx(expected)
        assert rates(recipe)[1::2] == pytest.approx(expected), "the rate changes between epochs only"


@pytest.mark.parametrize("network", ["MobileNetV2", "ShuffleV1", "ShuffleV2"])
def test_the_literature_trains_depthwise_convolutions_with_a_lower_rate(network):
    for role in ("teacher", "student"):
        usual = get_recipe("paper", role)
        assert get_recipe("paper", role, network=network) == dataclasses.replace(usual, lr=0.01)
        assert get_recipe("paper", role, network=network, lr=0.02).lr == 0.02
        assert get_recipe("paper", role, network="resnet8x4") == usual
    assert get_recipe("quick", network=network) == get_recipe("quick")
    own = Recipe("paper", epochs=2, lr=0.3)
    assert get_recipe(own, network=network) == own


def test_a_run_has_the_rate_of_its_network():
    class MobileNetV2(nn.Linear):
        """Somebody's own, which happens to be called so."""

    requests = {
        "MobileNetV2": Request("cifar100", "MobileNetV2", recipe="paper"),
        "own": Request("cifar100", MobileNetV2(2, 2), recipe="paper"),
        "asked": Request("cifar100", "ShuffleV2", recipe="paper", changes={"lr": 0.04}),
        "resnet8x4": Request("cifar100", "resnet8x4", recipe="paper"),
    }
    rates = {name: request.resolved_recipe("student").lr for name, request in requests.items()}
    assert rates == {"MobileNetV2": 0.01, "own": 0.05, "asked": 0.04, "resnet8x4": 0.05}
    assert requests["MobileNetV2"].resolved_recipe("teacher").lr == 0.01


def test_onecycle_warms_up_and_anneals_to_zero():
    found = rates(get_recipe("demo", epochs=10), steps=5)
    peak = found.index(max(found))
    assert max(found) == pytest.approx(0.1)
    assert 8 <= peak <= 11
    assert all(a < b for a, b in itertools.pairwise(found[: peak + 1]))
    assert all(a > b for a, b in itertools.pairwise(found[peak:]))
    assert found[-1] < 1e-5


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6, 7, 40])
def test_one_cycle_of_any_length_but_five_is_torchs_own(steps):
    recipe = Recipe("own", epochs=steps, lr=0.1, schedule="onecycle")
    optimizer = recipe.optimizer([nn.Parameter(torch.zeros(1))])
    own = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=steps, pct_start=0.2, cycle_momentum=False
    )
    expected = []
    for step in range(steps):
        expected.append(own.get_last_lr()[0])
        optimizer.step()
        if step + 1 < steps:
            own.step()
    assert rates(recipe, steps=1) == expected


def test_one_cycle_of_five_steps_begins_at_its_peak():
    """Its warm-up would have no length, by which torch divides."""
    found = rates(Recipe("own", epochs=5, lr=0.1, schedule="onecycle"), steps=1)
    assert found[0] == pytest.approx(0.1)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../../x"}, "recipe: expected a name of letters"),
        ({"name": ""}, "recipe: expected a name"),
        ({"name": ".hidden"}, "does not begin with a dot"),
        ({"name": "a/b"}, "recipe: expected a name"),
        ({"name": 3}, "recipe: expected a name"),
        ({"epochs": True}, "epochs: expected an integer, got True"),
        ({"epochs": 1.0}, "epochs: expected an integer, got 1.0"),
        ({"epochs": 2**63 - 1}, "epochs: must be at most 100000"),
        ({"epochs": 10**5000}, "epochs: must be at most 100000, got a number of thousands of digits"),
        ({"batch_size": False}, "batch_size: expected an integer"),
        ({"train_images": True}, "train_images: expected an integer"),
        ({"lr": float("nan")}, "lr: expected a number"),
        ({"lr": float("inf")}, "lr: expected a number"),
        ({"lr": -0.1}, "lr: expected a number"),
        ({"lr": "0.1"}, "lr: expected a number"),
        ({"lr": 10**400}, "lr: expected a number"),
        ({"momentum": float("nan")}, "momentum: expected a number"),
        ({"momentum": 1.0}, "momentum below 1"),
        ({"weight_decay": -1}, "weight_decay: expected a number"),
        ({"gamma": float("nan")}, "gamma: expected a number"),
        ({"gamma": 0}, "gamma above 0"),
        ({"milestones": (8, 4)}, r"milestones: expected ascending epochs, got \(8, 4\)"),
        ({"milestones": (4, 11)}, "milestones: must be at most 10, got 11"),
        ({"milestones": (0,)}, "milestones: must be at least 1, got 0"),
        ({"milestones": (1.5,)}, "milestones: expected an integer, got 1.5"),
    ],
)
def test_recipes_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**{"name": "own", "epochs": 10, **changes})


@pytest.mark.parametrize("epochs", [1, 2, 3, 100])
def test_milestones_of_another_length_are_in_it(epochs):
    recipe = get_recipe(Recipe("own", epochs=240, milestones=(1, 150, 210)), epochs=epochs)
    assert all(1 <= milestone <= epochs for milestone in recipe.milestones)


def test_recipes_have_both_roles_and_can_be_changed():
    for name, roles in RECIPES.items():
        assert set(roles) == {"teacher", "student"}
        for role, recipe in roles.items():
            assert recipe.name == name
            assert get_recipe(name, role) == recipe
            shorter = tuple(round(milestone * 3 / recipe.epochs) for milestone in recipe.milestones)
            expected = dataclasses.replace(recipe, epochs=3, milestones=shorter)
            assert get_recipe(name, role, epochs=3, lr=None) == expected
            assert json.loads(json.dumps(recipe.describe())) == recipe.describe()
    assert get_recipe("demo", train_images="all").train_images is None
    own = Recipe("own", epochs=2)
    assert get_recipe(own, lr=0.3) == dataclasses.replace(own, lr=0.3)


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (("papre",), {}, "unknown recipe 'papre'. Did you mean 'paper'"),
        (("demo", "pupil"), {}, "role: expected 'teacher' or 'student', got 'pupil'"),
        (("demo",), {"epoch": 3}, "unknown recipe setting 'epoch'. Did you mean 'epochs'"),
        (("demo",), {"epochs": 0}, "must be at least 1, got 0"),
        (("demo",), {"batch_size": 0}, "must be at least 1"),
        (("demo",), {"schedule": "cosine"}, "expected 'multistep' or 'onecycle', got 'cosine'"),
    ],
)
def test_recipes_that_do_not_exist(arguments, changes, message):
    with pytest.raises(ValueError, match=message):
        get_recipe(*arguments, **changes)


@pytest.mark.parametrize(
    ("capabilities", "parameters", "name", "reason"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, 10, "bf16", "matrix tiles"),
        ({"amx_bf16": False, "avx512_bf16": True}, 10**6, "bf16", "multiplies bf16 in hardware"),
        ({"amx_bf16": False, "avx512_bf16": True}, 10**4, "fp32", "too small"),
        ({"amx_bf16": False}, 10**6, "fp32", "no faster format is known for this cpu"),
        ({}, 10**6, "fp32", "no faster format is known for this cpu"),
    ],
)
def test_precision_of_a_cpu(capabilities, parameters, name, reason, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    chosen = choose_precision("auto", CPU, parameters)
    assert chosen.name == name
    assert reason in chosen.reason
    assert not chosen.scaler(CPU).is_enabled()


@pytest.mark.parametrize(
    ("capability", "name"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((7, 0), "fp16")]
)
def test_precision_of_a_gpu(capability, name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    chosen = choose_precision("auto", torch.device("cuda"), 10**6)
    assert chosen.name == name
    assert "this GPU" in chosen.reason


def test_precision_that_is_asked_for_or_impossible():
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        chosen = choose_precision(name, CPU, 0)
        assert (chosen.name, chosen.reason) == (name, "as given")
        with chosen.autocast(CPU):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    with pytest.raises(ValueError, match="fp16 needs a GPU; use 'bf16', 'fp32' or 'auto' on a CPU"):
        choose_precision("fp16", CPU, 0)
    with pytest.raises(ValueError, match="expected 'auto', 'fp32', 'bf16' or 'fp16', got 'half'"):
        choose_precision("half", CPU, 0)


def test_bf16_trains_in_it_and_keeps_weights_and_losses_in_fp32(tiny_data, tiny_teacher, tmp_path):
    run = small_student(tiny_data, tiny_teacher, tmp_path, "kd", precision="bf16")
    assert run.record["config"]["precision"] == "bf16"
    assert {p.dtype for p in run.model().parameters()} == {torch.float32}
    assert all(math.isfinite(row["loss"]) for row in run.history)


def test_devices():
    assert resolve_device("cpu") == resolve_device(CPU) == CPU
    assert resolve_device(None) == resolve_device("auto")
    for name in ("gpu", "meta", "tpu:0"):
        with pytest.raises(ValueError, match=f"expected 'cuda', 'cpu' or 'auto', got '{name}'"):
            resolve_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU")
def test_cuda_that_is_not_there():
    with pytest.raises(ValueError, match="'cuda' was given, but torch finds no CUDA GPU; use 'cpu'"):
        resolve_device("cuda")


# ---- runs --------------------------------------------------------------------------------------------------------


def small_student(data, teacher, out, method="zkd+mlt", **options):
    options = {**SMALL, "train_images": 60, **options}
    return adakd.distill(teacher, "resnet8x0.5", method, data, out=out, **options)


@pytest.fixture(scope="module")
def student(tiny_data, tiny_teacher, tmp_path_factory):
    return small_student(tiny_data, tiny_teacher, tmp_path_factory.mktemp("student"))


def outcome(run):
    """All of a run that must be the same again."""
    record = {key: value for key, value in run.record.items() if key not in TIMES}
    return record, (run.folder / "weights.safetensors").read_bytes()


def strict_json(path):
    def refuse(name):
        raise AssertionError(f"{name} in {path}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_record_is_complete(student, tiny_teacher, tiny_data):
    record = strict_json(student.folder / "record.json")
    assert record == student.record
    assert [field for field in REQUIRED_FIELDS if record.get(field) is None] == []
    assert record["kind"] == "student"
    assert record["status"] == "complete"
    assert record["data"] == tiny_data.describe()
    assert record["versions"]["torch"] == torch.__version__
    assert record["hardware"]["device"] == "cpu"
    assert record["commit"]
    assert record["seconds"] > 0
    assert record["started"] <= record["finished"]
    assert record["teacher"]["sha256"] == tiny_teacher.record["weights_sha256"]
    assert record["teacher"]["accuracy"] == tiny_teacher.accuracy
    weights = (student.folder / "weights.safetensors").read_bytes()
    assert record["weights_sha256"] == hashlib.sha256(weights).hexdigest()


def test_result_is_that_of_the_history(student):
    result, measured = student.record["result"], [row for row in student.history if "test_accuracy" in row]
    assert measured[-1]["epoch"] == 3
    assert result["last"] == student.accuracy == measured[-1]["test_accuracy"]
    assert result["best"] == max(row["test_accuracy"] for row in measured)
    assert result["best"] == student.history[result["best_epoch"] - 1]["test_accuracy"]
    assert result["test_images"] == 40


def test_the_last_epoch_is_the_result_and_the_best_stands_beside_it(
    tiny_data, tiny_teacher, tmp_path, monkeypatch
):
    accuracies = iter([40.0, 70.0, 60.0])
    monkeypatch.setattr(trainer_module, "measure_model", lambda *_: {"accuracy": next(accuracies)})
    run = small_student(tiny_data, tiny_teacher, tmp_path, eval_every=1)
    assert run.accuracy == 60.0
    assert run.record["result"] == {"last": 60.0, "best": 70.0, "best_epoch": 2, "test_images": 40}


def test_a_finished_run_leaves_weights_and_a_record(student, tiny_data):
    assert sorted(path.name for path in student.folder.iterdir()) == ["record.json", "weights.safetensors"]
    opened = adakd.open_run(student.folder)
    assert opened.record == student.record
    assert repr(opened) == f"Run(resnet8x0.5, zkd+mlt, {student.accuracy:.2f}%)"
    model = opened.model()
    assert not model.training
    assert evaluate_model(model, tiny_data, FP32) == student.accuracy


def test_a_finished_run_is_not_repeated(student, tiny_data, tiny_teacher, monkeypatch, caplog):
    def refuse(*_, **__):
        raise AssertionError("it trained again")

    monkeypatch.setattr(trainer_module.Trainer, "step", refuse)
    with caplog.at_level("INFO", logger="adakd"):
        again = small_student(tiny_data, tiny_teacher, student.folder.parents[2])
    assert again.record == student.record
    assert "is finished already" in caplog.text


def test_fresh_repeats_it_to_the_last_bit(student, tiny_data, tiny_teacher):
    before, finished = outcome(student), (student.folder / "record.json").stat().st_mtime_ns
    again = small_student(tiny_data, tiny_teacher, student.folder.parents[2], fresh=True)
    assert outcome(again) == before
    assert (student.folder / "record.json").stat().st_mtime_ns > finished


def test_other_settings_have_another_folder(student, tiny_data, tiny_teacher):
    out = student.folder.parents[2]
    folders = {student.folder}
    for options in ({"seed": 1}, {"method": "kd"}, {"method_options": {"kd_weight": 5}}, {"lr": 0.05}):
        folders.add(small_student(tiny_data, tiny_teacher, out, **{"epochs": 1, **options}).folder)
    assert len(folders) == 5


def test_the_callers_random_state_is_not_used(student, tiny_data, tiny_teacher, tmp_path):
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = small_student(tiny_data, tiny_teacher, tmp_path)
    assert outcome(again) == outcome(student)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("at", range(1, 6))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_around_any_write_loses_nothing(
    at, when, student, tiny_data, tiny_teacher, tmp_path, monkeypatch
):
    """Three checkpoints, the weights, the record: five renames that a power cut can precede or follow."""
    replace, left = os.replace, [at]

    def crash(source, target):
        left[0] -= 1
        if left[0] == 0 and when == "before":
            raise KeyboardInterrupt
        replace(source, target)
        if left[0] == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", crash)
        with pytest.raises(KeyboardInterrupt):
            small_student(tiny_data, tiny_teacher, tmp_path)
    again = small_student(tiny_data, tiny_teacher, tmp_path)
    assert outcome(again) == outcome(student)
    assert outcome(adakd.open_run(again.folder)) == outcome(student)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    """SIGKILL, which nothing can catch, while a teacher and a student train; see worker.py."""
    worker = Path(__file__).parent / "worker.py"
    done = subprocess.run(
        [sys.executable, worker, tmp_path, "7"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["status"] == 0
    assert len(report["states"]) >= 2, f"hardly any kill met a running child: {report}"
    runs = {
        name: sorted(
            path.parent.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("record.json")
        )
        for name in ("whole", "killed")
    }
    assert len(runs["whole"]) == 2
    assert runs["killed"] == runs["whole"]
    for run in runs["whole"]:
        one, other = (outcome(adakd.open_run(tmp_path / name / run)) for name in ("whole", "killed"))
        assert one == other
    assert list(tmp_path.rglob("checkpoint.pt")) == []


# ---- teachers ----------------------------------------------------------------------------------------------------


def test_a_teacher_by_run_folder_and_weights_is_the_same_teacher(student, tiny_data, tiny_teacher, tmp_path):
    by_folder = small_student(tiny_data, str(tiny_teacher.folder), tmp_path / "folder")
    assert outcome(by_folder) == outcome(student)
    weights = tiny_teacher.folder / "weights.safetensors"
    by_weights = small_student(tiny_data, "resnet8x0.5", tmp_path / "weights", teacher_weights=weights)
    assert by_weights.folder.name == student.folder.name
    assert outcome(by_weights)[1] == outcome(student)[1]


def test_a_student_on_all_labels_teaches_by_its_folder_alone(tiny_data, tmp_path):
    baseline = small_student(tiny_data, None, tmp_path, method="ce", train_images="all")
    assert baseline.record["kind"] == "student"
    assert adakd.find_teacher("resnet8x0.5", "gratings", tmp_path) is None
    taught = small_student(tiny_data, baseline.folder, tmp_path)
    assert taught.record["teacher"]["sha256"] == baseline.record["weights_sha256"]
    trained = adakd.train_teacher("resnet8x0.5", tiny_data, out=tmp_path, seed=1, **SMALL)
    assert adakd.find_teacher("resnet8x0.5", "gratings", tmp_path).folder == trained.folder != baseline.folder


def test_a_student_whose_run_is_the_teachers_is_found_as_one(tiny_data, tmp_path):
    """Both are one run: the second call opens what the first has made."""
    same = {"data": tiny_data, "out": tmp_path, "device": "cpu", "precision": "fp32", "progress": False}
    recipe = adakd.get_recipe("demo", "teacher")
    baseline = adakd.distill(student="resnet8x0.5", method="ce", recipe=recipe, **same)
    assert adakd.train_teacher("resnet8x0.5", recipe="demo", **same).folder == baseline.folder
    assert adakd.find_teacher("resnet8x0.5", "gratings", tmp_path).folder == baseline.folder


def test_a_teacher_is_found_by_its_model(tiny_data, tmp_path):
    assert adakd.find_teacher("resnet8x0.5", "gratings", tmp_path) is None
    trained = adakd.train_teacher("resnet8x0.5", tiny_data, out=tmp_path, **SMALL)
    # A baseline on a transfer set is no teacher, though it has the same method and model.
    small_student(tiny_data, None, tmp_path, method="ce", train_images=20)
    assert adakd.find_teacher("resnet8x0.5", "gratings", tmp_path).folder == trained.folder
    taught = small_student(tiny_data, "resnet8x0.5", tmp_path)
    assert taught.record["teacher"]["sha256"] == trained.record["weights_sha256"]


def test_two_teachers_of_one_name_are_not_chosen_between(tiny_data, tmp_path):
    for seed in (0, 1):
        adakd.train_teacher("resnet8x0.5", tiny_data, seed=seed, out=tmp_path, **{**SMALL, "epochs": 1})
    with pytest.raises(
        TeacherError, match=r"several teachers resnet8x0.5 on gratings: .*seed0.*seed1.*Name the folder"
    ):
        small_student(tiny_data, "resnet8x0.5", tmp_path)


def test_without_a_trained_teacher_the_command_is_named(tiny_data, tmp_path):
    data = dataclasses.replace(tiny_data, name="cifar10")
    with pytest.raises(TeacherError, match="adakd teacher --model wrn_16_2 --data cifar10; or name the folder"):
        small_student(data, "wrn_16_2", tmp_path)
    assert not list(tmp_path.rglob("record.json"))


def test_a_missing_teacher_is_noticed_before_data_are_looked_for(tmp_path):
    with pytest.raises(TeacherError, match="Train it first"):
        adakd.distill("wrn_16_2", "resnet8", data="cifar100", out=tmp_path, root=tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_teachers_that_are_none(tiny_data, tmp_path):
    (tmp_path / "file.pth").write_bytes(b"")
    for teacher, message in (
        ("resnet18", "unknown model 'resnet18'. Did you mean 'resnet8'.*nor is it a folder"),
        (tmp_path / "file.pth", "is a file; name the folder of a finished run.*--teacher-weights"),
    ):
        with pytest.raises(TeacherError, match=message):
            small_student(tiny_data, teacher, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"holds no finished run$"):
        small_student(tiny_data, tmp_path, tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="interrupted: repeat its command"):
        small_student(tiny_data, tmp_path, tmp_path)


def test_a_teacher_of_other_classes_or_other_data(tiny_data, tiny_teacher, tmp_path):
    more = dataclasses.replace(tiny_data, classes=(*tiny_data.classes, "another"))
    with pytest.raises(ValueError, match=r"trained on gratings \(10 classes\), not on gratings \(11 classes\)"):
        small_student(more, tiny_teacher, tmp_path)
    renamed = dataclasses.replace(tiny_data, name="cifar10")
    with pytest.raises(
        ValueError, match=r"was trained on gratings \(10 classes\), not on cifar10 \(10 classes\)"
    ):
        small_student(renamed, tiny_teacher, tmp_path)
    weights = tmp_path / "hundred.safetensors"
    save_weights(seeded_model("resnet8x0.5", 100, 0), weights)
    with pytest.raises(adakd.WeightsError, match=r"fc.weight is \(100, 32\), expected \(10, 32\)"):
        small_student(tiny_data, "resnet8x0.5", tmp_path, teacher_weights=weights)


def test_names_are_checked_before_anything_is_done(tmp_path):
    for options, message in (
        ({"method": "zkd+mtl"}, "unknown method"),
        ({"student": "resnet9"}, "unknown model"),
        ({"data": "cifar101"}, "unknown data set"),
        ({"recipe": "quik"}, "unknown recipe"),
        ({"method_options": {"taw": 3}}, "unknown option"),
        ({"precision": "fp8"}, "precision"),
        ({"device": "gpu"}, "device"),
        ({"epoch": 3}, "unknown recipe setting"),
    ):
        with pytest.raises(ValueError, match=message):
            adakd.distill(out=tmp_path, progress=False, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_run_is_named(student, tmp_path):
    shutil.copytree(student.folder, tmp_path / "run")
    record = (tmp_path / "run" / "record.json").read_text()
    (tmp_path / "run" / "record.json").write_text(record[: len(record) // 2])
    with pytest.raises(ValueError, match=r"run/record.json is damaged"):
        adakd.open_run(tmp_path / "run")
    (tmp_path / "run" / "record.json").write_text(record)
    (tmp_path / "run" / "weights.safetensors").unlink()
    with pytest.raises(adakd.WeightsError, match="no weights at"):
        adakd.open_run(tmp_path / "run").model()


# ---- floors: what the demonstration shows ------------------------------------------------------------------------


def test_the_teacher_of_the_demonstration_knows_the_gratings(demo):
    assert demo.teacher.accuracy >= 90.0


def test_a_taught_student_is_above_an_untaught_one(demo):
    """By more than two standard errors over three seeds, of the means and of the paired differences."""
    ce, kd = ([run.accuracy for run in demo.students[method]] for method in ("ce", "kd"))
    gain = statistics.mean(kd) - statistics.mean(ce)
    standard_error = math.sqrt((statistics.variance(ce) + statistics.variance(kd)) / 3)
    assert gain > 2 * standard_error
    paired = [taught - alone for taught, alone in zip(kd, ce, strict=True)]
    assert statistics.mean(paired) > 2 * statistics.stdev(paired) / math.sqrt(3)


def test_the_demonstration_is_small(demo):
    """What makes it quick anywhere: the operations of its forward passes. `make bench` says the seconds."""
    images = len(adakd.load_data("gratings").train)

    def operations(run):
        with FlopCounterMode(display=False) as counter:
            run.model()(torch.zeros(1, 3, 32, 32))
        return counter.get_total_flops()

    total = len(demo.teacher.history) * images * operations(demo.teacher)
    for method, runs in demo.students.items():
        for run in runs:
            seen = len(run.history) * run.record["config"]["recipe"]["train_images"]
            taught = method != "ce"
            total += seen * (operations(run) + taught * operations(demo.teacher))
    assert total < 5e12


def test_evaluating_again_gives_the_records_accuracy(demo):
    for run in (demo.teacher, demo.students["kd"][0].folder):
        accuracy = adakd.open_run(run.folder if isinstance(run, adakd.Run) else run).accuracy
        assert adakd.evaluate(run) == pytest.approx(accuracy, abs=0.051)  # one image of 2000


def test_the_teachers_soft_probabilities_fall_with_ring_distance(demo):
    """At tau = 4, mean over the test images: from the class over its neighbours to theirs, and low from there on.

    Not down to the perpendicular: from distance 3 on the shares rise again, to a third of a neighbour's.
    """
    model, data = demo.teacher.model(), adakd.load_data("gratings")
    with torch.no_grad():
        logits = torch.cat([model(images) for images, _ in eval_batches(data)])
    soft = (logits / 4).softmax(dim=1)
    distance = ring_distance(data.test.labels[:, None], torch.arange(10)[None])
    share = [soft[distance == d].mean().item() for d in range(6)]
    assert share[0] > share[1] > share[2]
    assert share[0] > 2 * share[1]
    assert share[1] > 2 * max(share[2:])
