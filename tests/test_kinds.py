"""Arguments of the wrong kind: said by their name, with what was expected, before anything trains."""

import dataclasses
import re
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import adakd
from adakd import exercises
from adakd.api import cache_teacher, fit
from adakd.data import (
    Views,
    balanced_subset,
    epoch_order,
    eval_batches,
    held_out,
    load_cifar,
    load_sentences,
    load_text,
)
from adakd.methods import register_method
from adakd.methods.registry import fill_options
from adakd.models import create_model, network_of
from adakd.statistics import bootstrap_interval, sign_test
from adakd.study import (
    Study,
    compare_records,
    describe_method,
    gradient_norm,
    keep_records,
    read_failures,
    read_records,
    read_study,
    run_study,
    summarize,
    tidy,
)
from adakd.study.measures import measures_of
from adakd.study.records import append_record
from adakd.study.tables import weights_of
from adakd.sweep import read_grid, read_sweep_failures, run_sweep
from adakd.teachers import find_teacher
from adakd.temperatures import logits_of, measure_temperatures
from adakd.theory import lower_factor, samuelson_bounds, upper_factor
from adakd.training import choose_precision, get_recipe, load_weights, save_weights

SMALL = {"device": "cpu", "precision": "fp32", "progress": False, "epochs": 1, "batch_size": 20}


class Net(nn.Module):
    """The smallest network there is of images."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


class Extra(Net):
    """One with a state beside its tensors."""

    def __init__(self, num_classes=10, extra=None):
        super().__init__(num_classes)
        self.extra = {"calls": 1} if extra is None else extra

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        self.extra = state


def net(seed=0, kind=Net, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(**options)


@pytest.fixture
def distilled(tiny_data, tmp_path):
    def run(**options):
        given = {
            "teacher": net(),
            "student": Net,
            "method": "kd",
            "data": tiny_data,
            "out": tmp_path,
            "train_images": 40,
        }
        return adakd.distill(**{**given, **SMALL, **options})

    return run


KINDS = [
    (
        {"teacher": [net(), net()]},
        TypeError,
        r"teacher: expected a Run, .* got a list; of several networks adakd\.Ensemble",
    ),
    ({"teacher": 3}, TypeError, "teacher: expected a Run, the folder of one, .* got 3$"),
    ({"teacher": torch.ones(3)}, TypeError, "teacher: expected a Run"),
    (
        {"teacher": net(kind=Extra)},
        TypeError,
        "expected a state_dict of tensors, got dict under '_extra_state'",
    ),
    (
        {"student": net(kind=Extra)},
        TypeError,
        "expected a state_dict of tensors, got dict under '_extra_state'",
    ),
    ({"student": Extra}, TypeError, "expected a state_dict of tensors, got dict under '_extra_state'"),
    (
        {"student": net().requires_grad_(False)},
        ValueError,
        "student: expected a network to be trained, .* all frozen",
    ),
    (
        {"student": lambda: Net()},
        TypeError,
        "network: expected a function of the number of classes, .* called with 10",
    ),
    ({"seed": "1"}, TypeError, r"seed: expected an integer from 0 to 2\^63 - 1, got '1'"),
    ({"seed": 1.5}, TypeError, "seed: expected an integer"),
    (
        {"data": 5},
        TypeError,
        r"data: expected the name of a data set \(as 'gratings'\), an adakd.ImageData .* got 5",
    ),
    ({"data": None}, TypeError, "data: expected the name of a data set"),
    (
        {"method_options": "tau=2"},
        TypeError,
        "method_options: expected a dict of options by their names, .* got 'tau=2'",
    ),
    ({"method_options": [("tau", 2)]}, TypeError, "method_options: expected a dict"),
    ({"method_options": {"tau": torch.ones(3)}}, ValueError, "kd: tau: expected a number, got "),
    ({"method": adakd.KL()}, TypeError, r"got KL\(\); a divergence becomes one by adakd.LogitObjective"),
    (
        {"milestones": 5},
        ValueError,
        r"milestones: expected a sequence of epochs, such as \(150, 180, 210\), got 5",
    ),
    ({"out": None}, TypeError, "out: expected a folder, as a text or a path, got None"),
    ({"root": 3}, TypeError, "root: expected a folder"),
    ({"teacher_weights": 3}, TypeError, "teacher_weights: expected a file of weights"),
    ({"device": 3.5}, TypeError, "device: expected 'cuda', 'cpu', 'auto'"),
    ({"progress": "no"}, TypeError, "progress: expected True or False, got 'no'"),
    ({"on_epoch": 3}, TypeError, "on_epoch: expected a function"),
    ({"should_stop": 3}, TypeError, "should_stop: expected a function"),
    (
        {"precision": ["fp32"]},
        TypeError,
        r"precision: expected 'auto', 'fp32', 'bf16' or 'fp16', got \['fp32'\]",
    ),
    ({"precision": None}, TypeError, "precision: expected 'auto'"),
    *(
        ({name: "x"}, ValueError, f"unknown recipe setting '{name}'.* Known: algorithm, ")
        for name in ("role", "name", "network", "epoch")
    ),
    ({"cache": ["fp16"]}, TypeError, r"cache: expected 'fp16', 'fp32' or None, got \['fp16'\]"),
    ({"cache": False}, TypeError, "cache: expected 'fp16', 'fp32' or None, got False"),
    ({"fresh": "no"}, TypeError, "fresh: expected True or False, got 'no'"),
    ({"official": "no"}, TypeError, "official: expected True or False, got 'no'"),
    ({"capture": "no"}, TypeError, "capture: expected True, False or None, got 'no'"),
    ({"world": 2}, TypeError, r"world: expected what adakd.training.join_world\(\) returns, got 2"),
]


@pytest.mark.parametrize(("given", "error", "message"), KINDS, ids=[str(i) for i in range(len(KINDS))])
def test_distill_says_which_argument_is_of_another_kind(given, error, message, distilled, tmp_path):
    with pytest.raises(error, match=message):
        distilled(**given)
    assert not any(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"methods": 3}, TypeError, "methods: expected a sequence of names, or of pairs"),
        (
            {"methods": [3]},
            TypeError,
            r"methods: expected names, or pairs of a name and a dict of options, .* got 3",
        ),
        ({"methods": [("kd",)]}, TypeError, "methods: expected names, or pairs"),
        ({"methods": [("kd", "tau=2")]}, TypeError, "methods: expected names, or pairs"),
        ({"seeds": 3}, TypeError, r"seeds: expected a sequence of integers, such as \(0, 1, 2\), got 3"),
        ({"seeds": "01"}, TypeError, "seeds: expected a sequence of integers"),
        ({"seeds": ["a"]}, TypeError, "seed: expected an integer .* got 'a'"),
        ({"seeds": [[0]]}, TypeError, "seed: expected an integer"),
        ({"engine": 3}, TypeError, "engine: expected one of adakd.engine, or None, got 3"),
        ({"data": 5}, TypeError, "data: expected the name of a data set"),
        ({"teacher": [3]}, TypeError, "teacher: expected a Run"),
        ({"on_failure": 3}, TypeError, "on_failure: expected a function"),
        ({"progress": "no"}, TypeError, "progress: expected True or False, got 'no'"),
        *(
            ({name: "x"}, ValueError, f"unknown recipe setting '{name}'")
            for name in ("role", "name", "network")
        ),
        ({"fresh": "no"}, TypeError, "fresh: expected True or False, got 'no'"),
        ({"cache": ["fp16"]}, TypeError, "cache: expected 'fp16', 'fp32' or None"),
        ({"precision": ["fp32"]}, TypeError, "precision: expected 'auto'"),
        ({"methods": [("kd", {"class_weights": torch.ones(10)})] * 2}, ValueError, "given twice"),
    ],
)
def test_so_does_compare(given, error, message, tiny_data, tmp_path):
    options = {
        "methods": ["kd"],
        "seeds": (0,),
        "teacher": net(),
        "student": Net,
        "data": tiny_data,
        "out": tmp_path,
    }
    with pytest.raises(error, match=message):
        adakd.compare(**{**options, **SMALL, "train_images": 40, **given})


def test_so_do_the_others(tiny_data, tmp_path):
    for given, message in [
        ({"data": 5}, "data: expected"),
        ({"seed": "1"}, "seed: expected an integer"),
        ({"out": 3}, "out: expected a folder"),
        ({"fresh": "no"}, "fresh: expected True or False"),
        ({"precision": ["fp32"]}, "precision: expected 'auto'"),
        ({"model": net(kind=Extra)}, "state_dict of tensors"),
    ]:
        with pytest.raises(TypeError, match=message):
            adakd.train_teacher(**{"model": Net, "data": tiny_data, "out": tmp_path, **SMALL, **given})
    with pytest.raises(ValueError, match="student: expected a network to be trained"):
        adakd.train_teacher(net().requires_grad_(False), tiny_data, out=tmp_path, **SMALL)
    for run in (3, None, net()):
        with pytest.raises(TypeError, match="run: expected a Run, or the folder of one"):
            adakd.evaluate(run)
    with pytest.raises(TypeError, match="weights: expected a file of weights"):
        adakd.evaluate_weights(3, "resnet8", tiny_data)
    with pytest.raises(TypeError, match="seeds: expected a sequence of integers"):
        cache_teacher(net(), tiny_data, seeds=3, out=tmp_path, device="cpu", progress=False)
    with pytest.raises(TypeError, match=r"dtype: expected 'fp16' or 'fp32', got \['fp16'\]"):
        cache_teacher(net(), tiny_data, out=tmp_path, device="cpu", progress=False, dtype=["fp16"])
    with pytest.raises(ValueError, match=r"precision: expected 'auto', .* got \['fp32'\]"):
        choose_precision(["fp32"], tiny_data.device, 0)
    with pytest.raises(TypeError, match="folder: expected the folder of a run, as a text or a path, got 3"):
        adakd.open_run(3)
    with pytest.raises(TypeError, match=r"name: expected the name of a data set .* got 3"):
        adakd.load_data(3)
    with pytest.raises(ValueError, match="batch_size: expected a whole number of at least 1, got 0"):
        eval_batches(tiny_data, 0)
    for given, message in [
        ({"teacher": 3}, "teacher: expected a Run, the folder of one"),
        ({"student": 3}, "folder: expected the folder of a run"),
        ({"out": 3}, "out: expected a folder"),
    ]:
        with pytest.raises(TypeError, match=message):
            measure_temperatures(
                **{"teacher": "resnet8", "data": tiny_data, "device": "cpu", "out": tmp_path, **given}
            )
    with pytest.raises(TypeError, match=r"grid: expected an adakd.sweep.Grid, .* got 'grid.toml'"):
        run_sweep("grid.toml", out=tmp_path)
    for name in (3, None, ["kd"]):
        with pytest.raises(TypeError, match=r"method: expected a name of adakd.METHODS, such as 'zkd"):
            adakd.create_method(name)
    with pytest.raises(TypeError, match=r"class_weights: expected .* got 'x'"):
        adakd.LogitObjective(adakd.KL(), class_weights="x")
    with pytest.raises(ValueError, match="num_classes: expected a whole number, got '10'"):
        create_model("resnet8", "10")
    with pytest.raises(ValueError, match="milestones: expected a sequence of epochs"):
        adakd.Recipe("mine", epochs=9, milestones=5)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"network": None}, TypeError, "network: expected a Run, the folder of one, or a module, got None"),
        ({"file": 3}, TypeError, "file: expected the file to be written, as a text or a path, got 3"),
        ({"data": 3}, TypeError, "data: expected the name of a data set"),
        ({"normalize": "no"}, TypeError, "normalize: expected True or False, got 'no'"),
    ],
)
def test_so_does_an_export(given, error, message, tiny_data, tmp_path):
    with pytest.raises(error, match=message):
        adakd.export_network(
            **{"network": net(), "file": tmp_path / "x.pt2", "data": tiny_data, "normalize": True, **given}
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"network": "resnet8"}, TypeError, "network: expected a module, got 'resnet8'"),
        ({"path": 3}, TypeError, "path: expected a .safetensors file, as a text or a path, got 3"),
        ({"batch_size": 0}, ValueError, "batch_size: expected a whole number of at least 1, got 0"),
    ],
)
def test_so_does_a_recording(given, error, message, tiny_data, tmp_path):
    with pytest.raises(error, match=message):
        adakd.record_logits(
            **{"network": net(), "data": tiny_data, "path": tmp_path / "x.safetensors", **given}
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"methods": "kd"}, r"methods: expected a sequence, such as \('kd', 'zkd\+mlt'\), got 'kd'"),
        ({"methods": ("kd", 3)}, "methods: expected a sequence"),
        ({"seeds": 3}, r"seeds: expected a sequence, such as \(0, 1, 2\), got 3"),
        ({"seeds": ("a",)}, "seeds: expected a sequence"),
        ({"grid": ("a",)}, r"grid: expected a sequence, such as \(0.25, 1.0, 4.0\), got \('a',\)"),
        ({"ways": "published"}, r"ways: expected a sequence, such as \('published', 'matched'\)"),
        ({"ce_weight": "x"}, "ce_weight: expected a finite number, got 'x'"),
    ],
)
def test_so_does_a_study(given, message):
    with pytest.raises(TypeError, match=message):
        Study(**{"methods": ("kd",), **given})
    assert Study(iter(["kd"]), np.arange(2), grid=[1]).seeds == (0, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"study": "kd"}, "study: expected an adakd.study.Study, got 'kd'"),
        ({"folder": 3}, "folder: expected a folder, as a text or a path, got 3"),
        ({"retry_failed": "no"}, "retry_failed: expected True or False, got 'no'"),
        ({"fresh": "no"}, "fresh: expected True or False, got 'no'"),
    ],
)
def test_so_does_its_run(given, message, tiny_data, tmp_path):
    study = Study(("ce",), (0,), ways=("published",))
    with pytest.raises(TypeError, match=message):
        run_study(**{"study": study, "folder": tmp_path / "study", "data": tiny_data, "out": tmp_path, **given})
    assert not list(tmp_path.iterdir())


def studied(tmp_path, **options):
    study = Study(("ce",), (0,), ways=("published",))
    return run_study(study, tmp_path / "study", **{"out": tmp_path, **options})


def swept(tmp_path, **options):
    grid = tmp_path.parent / f"{tmp_path.name}.toml"
    grid.write_text('data = "gratings"\nstudents = ["resnet8x0.5"]\nmethods = ["ce"]\n')
    return run_sweep(read_grid(grid), **{"out": tmp_path, **options})


def measured(tmp_path, **options):
    return measure_temperatures("resnet8x0.5", **{"out": tmp_path, **options})


@pytest.mark.parametrize("call", [studied, swept, measured])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"out": 3}, "out: expected a folder, as a text or a path, got 3"),
        ({"root": 3}, "root: expected a folder, as a text or a path, or None, got 3"),
        ({"official": "no"}, "official: expected True or False, got 'no'"),
        ({"progress": "no"}, "progress: expected True or False, got 'no'"),
        ({"device": 3}, "device: expected 'cuda', 'cpu', 'auto', a torch.device, or None, got 3"),
    ],
)
def test_so_does_what_says_where_runs_are(call, given, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        call(tmp_path, **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "error", "given", "message"),
    [
        (studied, TypeError, {"should_stop": 3}, "should_stop: expected a function"),
        (swept, TypeError, {"should_stop": 3}, "should_stop: expected a function"),
        (swept, TypeError, {"capture": "no"}, "capture: expected True, False or None, got 'no'"),
        (studied, ValueError, {"epoch": 3}, "Did you mean 'epochs'"),
        (swept, TypeError, {"devise": "cpu"}, "unknown keyword 'devise'. Did you mean 'device'"),
        (swept, TypeError, {"epochs": 3}, "unknown keyword 'epochs'"),
        (measured, TypeError, {"outt": "x"}, "unknown keyword 'outt'. Did you mean 'out'"),
        (measured, TypeError, {"capture": True}, "unknown keyword 'capture'"),
    ],
)
def test_and_takes_no_other_keyword(call, error, given, message, tmp_path):
    with pytest.raises(error, match=message):
        call(tmp_path, **given)
    assert not list(tmp_path.iterdir())


def trained(data, tmp_path, recipe=None, **options):
    """By `fit`."""
    recipe = recipe or get_recipe("demo", epochs=1, batch_size=20, train_images=40)
    given = {
        "seed": 0,
        "checkpoint": tmp_path / "c.pt",
        "config": {},
        "precision": choose_precision("fp32", data.device, 0),
    }
    made = {
        "model": net(1),
        "criterion": adakd.create_method("kd"),
        "progress": False,
        "teacher": net(),
        **options,
    }
    return fit(made.pop("model"), data, recipe, made.pop("criterion"), **{**given, **made})


class ExtraLoss(adakd.LogitObjective):
    """A loss with a state beside its tensors."""

    get_extra_state, set_extra_state = Extra.get_extra_state, Extra.set_extra_state
    extra: ClassVar = {"calls": 1}


def test_a_state_beside_tensors_is_refused_of_losses_and_in_fit_too(distilled, tiny_data, tmp_path):
    loss = ExtraLoss(adakd.KL())
    with pytest.raises(TypeError, match="method: expected a state_dict of tensors, got dict"):
        distilled(method=loss)
    for role, given in {"student": {"model": net(kind=Extra)}, "objective": {"criterion": loss}}.items():
        with pytest.raises(TypeError, match=f"{role}: expected a state_dict of tensors, got dict"):
            trained(tiny_data, tmp_path, **given)
    assert not any(tmp_path.iterdir())


def test_fit_says_it_too(tiny_data, tmp_path):
    with pytest.raises(ValueError, match="student: expected a network to be trained"):
        trained(tiny_data, tmp_path, model=net().requires_grad_(False))
    with pytest.raises(TypeError, match=r"recipe: expected an adakd.Recipe, such as get_recipe"):
        trained(tiny_data, tmp_path, recipe="demo")
    with pytest.raises(TypeError, match="seed: expected an integer"):
        trained(tiny_data, tmp_path, seed="1")
    for given, message in [
        ({"model": "resnet8"}, "model: expected a module, got 'resnet8'"),
        ({"criterion": "kd"}, r"criterion: expected a loss, such as adakd.create_method\('kd'\) gives"),
        ({"teacher": "resnet14"}, "teacher: expected a module, an adakd.ViewCache, or None, got 'resnet14'"),
        ({"precision": "fp32"}, r"precision: expected a Precision, such as choose_precision\("),
        ({"checkpoint": 3}, "checkpoint: expected a file, as a text or a path, got 3"),
        ({"capture": "no"}, "capture: expected True or False, got 'no'"),
        ({"progress": "no"}, "progress: expected True or False, got 'no'"),
    ]:
        with pytest.raises(TypeError, match=message):
            trained(tiny_data, tmp_path, **given)
    for data in (None, "gratings"):
        with pytest.raises(TypeError, match=r"data: expected an adakd.ImageData or an adakd.TokenData, such"):
            fit(
                net(),
                data,
                get_recipe("demo"),
                adakd.create_method("ce"),
                seed=0,
                checkpoint=tmp_path / "c.pt",
                config={},
                precision=choose_precision("fp32", tiny_data.device, 0),
            )
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError) as raised:
        trained(tiny_data, tmp_path, model=net().double())
    (note,) = raised.value.__notes__
    assert note.startswith(
        "student: its parameters are torch.float64, and images are torch.float32; call .float()"
    )


UNTRAINABLE = [
    (lambda: net().half(), r"expected parameters in torch.float32, got torch.float16; call .float\(\) on it"),
    (lambda: net().bfloat16(), "expected parameters in torch.float32, got torch.bfloat16"),
    (nn.ReLU, "expected a network with parameters to be trained, got ReLU"),
    (lambda: Net().to("meta"), "expected weights, got conv.weight on the meta device"),
    (
        lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(10)),
        r"expected a network that knows its shapes, got lazy layers \(1.weight\); call it once",
    ),
    (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10, dtype=torch.complex64)),
        r"expected real parameters, got torch.complex64 \(1.weight\)",
    ),
]


@pytest.mark.parametrize(("made", "message"), UNTRAINABLE, ids=[str(i) for i in range(len(UNTRAINABLE))])
def test_what_is_wrong_with_a_student_is_said_before_it_trains(made, message, distilled, tiny_data, tmp_path):
    message = f"^(student|network): {message}"
    with pytest.raises(ValueError, match=message):
        trained(tiny_data, tmp_path, model=made())
    with pytest.raises(ValueError, match=message):
        distilled(student=made())
    with pytest.raises(ValueError, match=message):
        adakd.train_teacher(made(), tiny_data, out=tmp_path, **SMALL)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message):
        distilled(student=lambda num_classes: made())
    if re.search("meta|lazy", message):
        for teacher in (made(), adakd.Ensemble(made(), net())):
            with pytest.raises(
                ValueError, match=r"^network: expected (weights|a network that knows its shapes)"
            ):
                distilled(teacher=teacher)
    assert not any(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("classes", [9, 11])
@pytest.mark.parametrize("method", ["ce", "kd"])
def test_a_student_has_the_classes_of_the_data(method, classes, distilled, tmp_path):
    with pytest.raises(
        ValueError, match=rf"^student: expected logits of the 10 classes of gratings, .*, {classes}\)"
    ):
        distilled(student=net(num_classes=classes), method=method)
    assert not any(tmp_path.rglob("record.json"))


def losses(history):
    return [row["loss"] for row in history]


@pytest.mark.parametrize("cache", ["fp32", None])
def test_a_teacher_of_another_format_is_asked_in_fp32(cache, distilled, tiny_data, tmp_path):
    """And the caller's own stays as it is."""
    rounded = net().half()
    expected = distilled(teacher=net().half().float(), out=tmp_path / "fp32", cache=cache)
    found = distilled(teacher=rounded, out=tmp_path / "half", cache=cache)
    assert losses(found.history) == losses(expected.history)
    assert rounded.head.weight.dtype == torch.float16
    if cache is None:
        double = distilled(teacher=net().double(), out=tmp_path / "double", cache=cache)
        assert losses(double.history) == losses(distilled(out=tmp_path / "plain", cache=cache).history)
        by_fit = [
            trained(tiny_data, tmp_path / name, teacher=each)[0]
            for name, each in (("a", rounded), ("b", net().half().float()))
        ]
        assert losses(by_fit[0]) == losses(by_fit[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_whoever_asks_a_network_of_another_format_has_a_copy_in_fp32(dtype, tiny_data, tmp_path):
    rounded = net().to(dtype)
    exact = net().to(dtype).float()
    for found, expected in (
        (
            adakd.record_logits(rounded, tiny_data, tmp_path / "a.safetensors").logits(10),
            adakd.record_logits(exact, tiny_data, tmp_path / "b.safetensors").logits(10),
        ),
        (logits_of(rounded, tiny_data), logits_of(exact, tiny_data)),
    ):
        assert torch.equal(found, expected)
    assert rounded.head.weight.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_members_of_an_ensemble_may_be_of_several_formats(dtype, distilled, tiny_data, tmp_path):
    mixed = adakd.Ensemble(net(0).to(dtype), net(1), adakd.Ensemble(net(2).to(dtype)))
    exact = adakd.Ensemble(net(0).to(dtype).float(), net(1), adakd.Ensemble(net(2).to(dtype).float()))
    found = distilled(teacher=mixed, out=tmp_path / "mixed")
    assert losses(found.history) == losses(distilled(teacher=exact, out=tmp_path / "exact").history)
    assert [each.head.weight.dtype for each in list(mixed.teachers)[:2]] == [dtype, torch.float32]
    assert torch.equal(logits_of(mixed, tiny_data), logits_of(exact, tiny_data))
    images = next(eval_batches(tiny_data, 4))[0]
    assert torch.allclose(mixed(images).float(), exact(images), atol=2e-2)


def test_a_part_in_another_format_is_the_teachers_own_affair(tiny_data, distilled):
    class Careful(Net):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.full((), 1 / 3, dtype=torch.float64))

        def forward(self, x):
            assert self.scale.dtype == torch.float64
            return super().forward((x * self.scale).float())

    assert distilled(teacher=net(kind=Careful)).accuracy >= 0


def test_class_weights_are_tensors_arrays_or_lists(distilled, tmp_path):
    weights = torch.rand(10, generator=torch.Generator().manual_seed(0)) + 0.5
    runs = [
        distilled(method_options={"class_weights": given}, out=tmp_path / str(number))
        for number, given in enumerate(
            (weights, weights.numpy(), weights.tolist(), np.asarray(weights.tolist()))
        )
    ]
    assert len({run.folder.name for run in runs}) == 1
    assert runs[0].record["config"]["method_options"] == {"class_weights": weights.tolist()}
    for run in runs:
        assert losses(run.history) == losses(runs[0].history)


def test_a_state_of_tensors_is_a_state(distilled):
    """Also the one that a module calls extra."""
    run = distilled(student=net(kind=Extra, extra=torch.ones(2)), teacher=net(kind=Extra, extra=torch.zeros(3)))
    assert run.accuracy >= 0


def test_a_factory_is_called_with_the_number_of_classes():
    assert network_of(Net).build(7).head.out_features == 7
    with pytest.raises(
        TypeError, match=r"cannot be called with 7 .*; give the module itself, or lambda num_classes"
    ):
        network_of(lambda: Net()).build(7)


@pytest.mark.parametrize("wrong", [3, None, b"w", ["w"]], ids=str)
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (adakd.Recorded, "path"),
        (read_grid, "source"),
        (read_records, "path"),
        (read_study, "folder"),
        (read_failures, "folder"),
        (read_sweep_failures, "folder"),
        (load_text, "path"),
        (adakd.open_run, "folder"),
        (partial(load_weights, net()), "path"),
        (partial(save_weights, net()), "path"),
        (partial(find_teacher, "resnet8", "gratings"), "out"),
        (partial(keep_records, records=[]), "path"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_no_path_is_said_to_be_none(call, name, wrong):
    with pytest.raises(TypeError, match=rf"^{name}: expected .* as a text or a path, got "):
        call(wrong)


@pytest.mark.parametrize("wrong", [3, b"d", ["d"]], ids=str)
@pytest.mark.parametrize("name", ["gratings", "cifar10"])
def test_a_root_that_is_no_path_is_said_to_be_none(name, wrong):
    with pytest.raises(TypeError, match=r"^root: expected a folder, as a text or a path, got "):
        adakd.load_data(name, wrong)


@pytest.mark.parametrize("wrong", [3, None, "cifar1000", ["cifar10"]], ids=str)
def test_an_archive_that_is_not_known(wrong):
    with pytest.raises(ValueError, match=r"^name: expected 'cifar10' or 'cifar100', got "):
        load_cifar(wrong)


@pytest.mark.parametrize(("model", "data", "name"), [(3, "gratings", "model"), ("resnet8", None, "data")])
def test_a_teacher_is_found_by_names(model, data, name, tmp_path):
    with pytest.raises(TypeError, match=f"^{name}: expected a name, "):
        find_teacher(model, data, tmp_path)


# What a call says of an argument of the wrong kind: the call, the error, and how its message begins.
SAID = {
    "recorded logits of 3": (
        lambda: recorded_rows().for_data(3),
        TypeError,
        "data: expected an ImageData or a",
    ),
    "logits of 'x' classes": (
        lambda: recorded_rows().logits("x"),
        ValueError,
        "classes: expected a whole number",
    ),
    "a record of nothing": (
        lambda: append_record("x.jsonl", {}),
        ValueError,
        "record: expected the record of a run, as run.record, got one without 'config'",
    ),
    "a record of 3": (lambda: append_record("x.jsonl", 3), TypeError, "record: expected the record of a run"),
    "a method of {}": (lambda: describe_method({}), ValueError, "record: expected .* without 'config'"),
    "measures of {}": (lambda: measures_of({}), ValueError, "record: expected .* without 'result'"),
    "weights of {}": (lambda: weights_of({}), ValueError, "record: expected .* without 'config'"),
    "summarize 'x'": (lambda: summarize("x"), TypeError, "runs: expected a sequence of runs, .* got 'x' in it"),
    "summarize 3": (lambda: summarize(3), TypeError, "runs: expected a sequence of runs, got 3"),
    "tidy 'x'": (lambda: tidy("x"), TypeError, "record: expected the record of a run"),
    "compare 3": (lambda: compare_records(3), TypeError, "groups: expected records by name"),
    "gradient_norm 3": (
        lambda: gradient_norm(3, *[torch.ones(2, 3)] * 3),
        TypeError,
        "criterion: expected a loss on logits",
    ),
    "words -1": (lambda: load_sentences(train_words=-1), ValueError, "train_words: expected a whole number"),
    "words 1.5": (lambda: load_sentences(train_words=1.5), ValueError, "train_words: expected a whole"),
    "a subset of 1.5": (
        lambda: balanced_subset(torch.arange(9), 1.5, 0),
        ValueError,
        "train_images: expected a whole number, got 1.5",
    ),
    "1.5 held out": (lambda: held_out(torch.arange(9), 1.5), ValueError, "validation_images: expected a whole"),
    "an order by 1.5": (lambda: epoch_order(1.5, 0, 9), ValueError, "seed: expected a whole number"),
    "an order of -1": (
        lambda: epoch_order(0, 0, -1),
        ValueError,
        "size: expected a whole number of at least 0",
    ),
    "batches of 3": (lambda: eval_batches(3), TypeError, "data: expected an ImageData or a TokenData, got 3"),
    "a device 3": (
        lambda: choose_precision("auto", 3, 0),
        TypeError,
        r"device: expected a torch.device, as data.device, got 3",
    ),
    "stages of 3": (lambda: adakd.stages_of(3), TypeError, "network: expected a module, got 3"),
    "-1 channels": (
        lambda: create_model("resnet8", 10, -1),
        ValueError,
        "in_channels: expected a whole number",
    ),
    "'x' channels": (lambda: create_model("resnet8", 10, "x"), ValueError, "in_channels: expected a whole"),
    "logits by 3": (lambda: logits_of(3, None), TypeError, "model: expected a module, got 3"),
    "logits of 3": (lambda: logits_of(net(), 3), TypeError, "data: expected an adakd.ImageData, got 3"),
    "a method 3": (lambda: register_method(3), TypeError, "row: expected an adakd.methods.Method"),
    "options 3": (lambda: fill_options("kd", 3), TypeError, "options: expected a dict of options"),
    "a seed -1": (lambda: bootstrap_interval([1.0, 2.0], seed=-1), ValueError, "seed: expected an integer of"),
    "2^70 wins": (lambda: sign_test(2**70, 0), ValueError, "wins, losses: expected at most"),
    "'x' classes": (lambda: samuelson_bounds("x"), ValueError, "num_classes: expected a whole number"),
    "an order []": (lambda: lower_factor([]), ValueError, "order: expected an integer of at least 1"),
    "another order []": (lambda: upper_factor([]), ValueError, "order: expected an integer of at least 1"),
    "an exercise []": (lambda: exercises.check([]), TypeError, "name: expected chapter and number"),
}


def recorded_rows():
    np.save("rows.npy", np.zeros((2, 3), np.float32))
    return adakd.Recorded("rows.npy")


@pytest.mark.parametrize("case", SAID)
def test_what_is_of_the_wrong_kind_is_said_by_its_name(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, error, message = SAID[case]
    with pytest.raises(error, match=f"^{message}"):
        call()
    assert not list(tmp_path.glob("*.jsonl"))


def test_views_and_checksums_of_the_wrong_kind(tiny_data):
    for given, error, message in [
        ({"limit": "x"}, ValueError, "views: expected a whole number, got 'x'"),
        ({"subset": 3}, TypeError, "subset: expected indices of training images"),
        ({"seed": "x"}, ValueError, "seed: expected a whole number"),
    ]:
        with pytest.raises(error, match=f"^{message}"):
            Views(tiny_data, **{"seed": 0, **given})
    with pytest.raises(TypeError, match=r"^checksum: expected a SHA-256"):
        dataclasses.replace(tiny_data, checksum=3)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (adakd.Recorded, "path"),
        (read_grid, "source"),
        (read_records, "path"),
        (load_text, "path"),
        (adakd.open_run, "folder"),
        (lambda path: append_record(path, {}), "path"),
        (lambda path: find_teacher("resnet8", "gratings", path), "out"),
        (lambda path: adakd.distill(out=path), "out"),
        (lambda path: adakd.distill("resnet8", teacher_weights=path), "teacher_weights"),
    ],
)
def test_a_path_holds_no_nul(call, name):
    with pytest.raises(ValueError, match=rf"^{name}: expected .* NUL.*, got 'a\\x00b'"):
        call("a\0b")


@pytest.mark.parametrize(("call", "name"), [(adakd.Recorded, "path"), (read_grid, "source")])
def test_a_folder_in_the_place_of_a_file_is_said_to_be_one(call, name, tmp_path):
    for folder in (tmp_path, str(tmp_path), ""):
        with pytest.raises(IsADirectoryError, match=f"^{name}: expected a.* file.*, got the folder "):
            call(folder)
