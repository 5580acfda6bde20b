"""Refinements, rules, divergences, weights, terms and rows from outside: by a decorator, or by an entry point of an installed package."""

import dataclasses
import math
import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import adakd
from adakd import (
    Divergence,
    Method,
    Objective,
    Refinement,
    SampleWeight,
    TemperatureRule,
    Temperatures,
    Term,
    create_method,
    get_method,
)
from adakd.divergence import DIVERGENCES
from adakd.expression import numbers
from adakd.methods import RULE_NAMES, registry
from adakd.methods.base import PARTS
from adakd.runs.deployed import build_terms
from adakd.signals import Taps
from adakd.temperature import RULES
from adakd.training import choose_precision, evaluate_model, get_recipe, student_views
from adakd.training.loop import fit

NAME = "resnet8x0.5"
SMALL = {"device": "cpu", "precision": "fp32", "progress": False, "epochs": 2, "batch_size": 20}


@pytest.fixture(autouse=True)
def tables():
    """What a test registers goes when it ends."""
    known = [(table, dict(table)) for table in (*PARTS.values(), RULE_NAMES, adakd.METHODS)]
    yield
    for table, before in known:
        table.clear()
        table.update(before)


class Warm(TemperatureRule):
    """τ = 1 + the spread of the teacher's logits."""

    def __init__(self, least: float = 1.0):
        super().__init__()
        self.least = least

    def forward(self, student, teacher, target=None, epoch=None):
        tau = self.least + teacher.std(dim=1, keepdim=True)
        return Temperatures(tau, tau)


class Squared(Divergence):
    """Half of the squared distance of the softened logits."""

    def forward(self, student, teacher, target, temperatures):
        return ((student / temperatures.student - teacher / temperatures.teacher) ** 2).sum(1) / 2


class Shift(Refinement):
    """The student's logits, all raised by one number."""

    def __init__(self, by: float = 1.0):
        super().__init__()
        self.by = by

    def forward(self, student, teacher, batch):
        return student + self.by, teacher


class Halves(SampleWeight):
    """One half for every row."""

    def forward(self, student, teacher, target, temperatures):
        return torch.full_like(student[:, 0], 0.5)


class Hint(Term):
    """Features of one stage through a connector, and a memory of the images that were seen."""

    taps = Taps(("layer2",), ("layer2",))

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = scale

    def build(self, student, teacher, train_images):
        inputs, outputs = (x.features["layer2"].shape[1] for x in (student, teacher))
        self.connector = nn.Conv2d(inputs, outputs, 1)
        self.register_buffer("seen", torch.zeros(train_images))

    def forward(self, student, teacher, batch):
        if self.training:
            self.seen[batch.index] += 1
        apart = self.connector(student.features["layer2"]) - teacher.features["layer2"].detach()
        return self.scale * apart.square().flatten(1).mean(1)


class Reused(nn.Module):
    """A student up to its last stage, a connector, and the teacher's classifier."""

    def __init__(self, student, connector, classifier):
        super().__init__()
        self.student, self.connector, self.classifier = student, connector, classifier

    def forward(self, x):
        s = self.student
        features = s.layer3(s.layer2(s.layer1(s.relu(s.bn1(s.conv1(x))))))
        return self.classifier(self.connector(features).mean((2, 3)))


class Reuse(Term):
    """Features of the last stage, of which the teacher's classifier then reads the classes (as SimKD)."""

    taps = Taps(("layer3",), ("layer3",))

    def build(self, student, teacher, train_images):
        inputs, outputs = (x.features["layer3"].shape[1] for x in (student, teacher))
        self.connector = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs))

    def forward(self, student, teacher, batch):
        apart = self.connector(student.features["layer3"]) - teacher.features["layer3"]
        return apart.square().flatten(1).mean(1)

    def deploy(self, student, teacher):
        return Reused(student, self.connector, teacher.fc)


def distilled(method, teacher, data, out, **options):
    return adakd.distill(teacher, NAME, method, data, out=out, **{**SMALL, "train_images": 50, **options})


def test_a_registered_rule_goes_with_every_row(tiny_data, tiny_teacher, tmp_path):
    adakd.register_rule("warm", options={"least": 2.0}, paper="me", formula="2 + σ")(Warm)
    assert create_method("dkd+warm").temperature.least == 2.0
    assert create_method("zkd+warm", least=3.0).temperature.least == 3.0
    assert get_method("kd+warm").formula.endswith("τ = 2 + σ")
    run = distilled("kd+warm", tiny_teacher, tiny_data, tmp_path)
    assert all(row["temperature"] > 2 for row in run.history)
    assert set(run.record["config"]) - {"objective"} == set(tiny_teacher.record["config"])


def test_a_part_from_outside_gets_the_number():
    class Scaled(adakd.KL):
        def __init__(self, most=1.0):
            super().__init__()
            self.most = most

    adakd.register_divergence("scaled-by-most")(Scaled)
    for most in ("inf", math.inf):
        assert adakd.create_method("scaled-by-most", most=most).divergence.most == math.inf


def test_a_registered_divergence_is_a_method(tiny_data, tiny_teacher, tmp_path):
    adakd.register_divergence("squared", kd_weight=0.1)(Squared)
    assert isinstance(create_method("squared").divergence, Squared)
    assert create_method("squared+mlt").kd_weight == 0.1
    run = distilled("squared", tiny_teacher, tiny_data, tmp_path)
    assert run.history[0]["kd"] > 0


def test_another_part_under_one_name_is_another_run(tiny_data, tiny_teacher, tmp_path):
    folders = set()
    for least in (1.0, 2.0):
        adakd.register_rule("warm", options={"least": least})(Warm)
        folders.add(distilled("kd+warm", tiny_teacher, tiny_data, tmp_path).folder)
        folders.add(distilled("kd+warm", tiny_teacher, tiny_data, tmp_path).folder)
    assert len(folders) == 2
    assert "objective" not in distilled("kd", tiny_teacher, tiny_data, tmp_path).record["config"]


def test_a_registered_term_reads_features_and_owns_parts(tiny_data, tiny_teacher, tmp_path):
    adakd.register_term("hint", kd_weight=0.5)(Hint)
    objective = create_method("hint", scale=2.0)
    assert isinstance(objective, Objective)
    assert objective.weights == {"hint": 0.5}
    run = distilled("hint", tiny_teacher, tiny_data, tmp_path / "whole")
    assert "logits" not in run.record["teacher"], "a cache has no features"
    assert run.history[0]["loss"] > run.history[0]["ce"]
    assert run.history[0]["rule_gradient"] > 0, "the connector is trained"


def test_a_term_that_reads_features_needs_a_network(tiny_data, tmp_path):
    adakd.register_term("hint")(Hint)
    np.save(tmp_path / "logits.npy", np.zeros((60, 10), np.float32))
    with pytest.raises(
        ValueError, match=r"'hint' reads features of the teacher \(layer2\), and recorded logits"
    ):
        distilled("hint", adakd.Recorded(tmp_path / "logits.npy"), tiny_data, tmp_path)


@pytest.mark.parametrize("steps", [2, 4])
def test_a_run_of_a_term_is_continued_to_the_last_bit(steps, tiny_data, tiny_teacher, tmp_path):
    adakd.register_term("hint")(Hint)
    whole = distilled("hint", tiny_teacher, tiny_data, tmp_path / "whole")
    left = iter([False] * (steps - 1))
    with pytest.raises(adakd.Interrupted):
        distilled("hint", tiny_teacher, tiny_data, tmp_path / "stopped", should_stop=lambda: next(left, True))
    (checkpoint,) = tmp_path.rglob("checkpoint.pt")
    assert torch.load(checkpoint, weights_only=True)["criterion"]["terms.hint.seen"].sum() > 0
    run = distilled("hint", tiny_teacher, tiny_data, tmp_path / "stopped")
    assert run.history == whole.history
    assert run.record["weights_sha256"] == whole.record["weights_sha256"]


def test_a_term_in_lockstep_with_others_is_alone_to_the_last_bit(tiny_data, tiny_teacher, tmp_path):
    adakd.register_term("hint")(Hint)
    options = {**SMALL, "train_images": 50, "cache": None}
    runs = adakd.compare(["kd", "hint"], (0,), tiny_teacher, NAME, tiny_data, out=tmp_path / "all", **options)
    for method, run in zip(("kd", "hint"), runs, strict=True):
        alone = distilled(method, tiny_teacher, tiny_data, tmp_path / "one", cache=None)
        assert run.history == alone.history
        assert run.record["weights_sha256"] == alone.record["weights_sha256"]


# ---- a network that is deployed in the student's place ----


def measured(network, data):
    fp32 = choose_precision("fp32", data.device, 0)
    return evaluate_model(network, data, fp32)


def test_what_a_term_deploys_is_measured_saved_and_made_again(tiny_data, tiny_teacher, tmp_path):
    adakd.register_term("reuse", ce_weight=0.0)(Reuse)
    run = distilled("reuse", tiny_teacher, tiny_data, tmp_path)
    assert "train_accuracy" not in run.history[0], "the student's own classifier is not trained"
    opened = adakd.open_run(run.folder)  # by another process, which has the record alone
    for network in (run.model(), opened.model(), opened.model(NAME), opened.model(run.model())):
        assert isinstance(network, Reused)
        assert not network.training
        assert torch.equal(network.classifier.weight, tiny_teacher.model().fc.weight)
        assert measured(network, tiny_data) == run.accuracy
    assert adakd.evaluate(opened, data=tiny_data, device="cpu") == run.accuracy
    assert isinstance(distilled("reuse", tiny_teacher, tiny_data, tmp_path).model(), Reused), "a finished run"
    with pytest.raises(ValueError, match=r"not the one that .* was trained with"):
        opened.model(adakd.create_model("resnet8", 10))


def test_a_deployed_network_teaches(tiny_data, tiny_teacher, tmp_path):
    adakd.register_term("reuse", ce_weight=0.0)(Reuse)
    run = adakd.open_run(distilled("reuse", tiny_teacher, tiny_data, tmp_path).folder)
    taught = distilled("kd", run, tiny_data, tmp_path)
    assert taught.record["teacher"]["accuracy"] == run.accuracy
    assert taught.record["teacher"]["sha256"] == run.record["weights_sha256"]


def test_a_deployed_network_of_a_nameless_teacher(tiny_data, tiny_teacher, tmp_path):
    adakd.register_term("reuse", ce_weight=0.0)(Reuse)
    run = distilled("reuse", tiny_teacher.model(), tiny_data, tmp_path)
    assert measured(run.model(), tiny_data) == run.accuracy
    opened = adakd.open_run(run.folder)
    with pytest.raises(ValueError, match=r"teacher 'ResNet' is not known here .*objective\.deploy"):
        opened.model()
    assert measured(opened.model(run.model()), tiny_data) == run.accuracy


def test_a_deployed_network_is_measured_where_training_stands(tiny_data):
    """It shares its parts with student and connector, and leaves their modes as they are."""
    student, teacher = (adakd.create_model(name, 10) for name in (NAME, "resnet8"))
    teacher.eval().requires_grad_(False)
    objective = Objective({"reuse": Reuse()}, {"reuse": 1.0}, 0.0)
    recipe = get_recipe("demo", epochs=1, batch_size=20, train_images=60)
    views = student_views(tiny_data, recipe, 0)
    images = next(views.steps(1, 2)).images
    build_terms(objective, student, teacher, images, 60, 0)
    fp32 = choose_precision("fp32", tiny_data.device, 0)
    with pytest.raises(ValueError, match=r"reuses a part of the teacher.*got None; give the network"):
        adakd.Trainer(student, objective, recipe, tiny_data, fp32)
    trainer = adakd.Trainer(student, objective, recipe, tiny_data, fp32, teacher=teacher)
    modes = [module.training for module in trainer.deployed.modules()]
    before = trainer.deployed.eval()(images)
    trainer.deployed.train()
    trainer.deployed.classifier.eval()
    measured(trainer.deployed, tiny_data)
    assert [module.training for module in trainer.deployed.modules()] == modes
    fit(trainer, views, adakd.LiveTeacher(teacher, fp32, tiny_data.device, objective.taps))
    assert trainer.history[-1]["test_accuracy"] == measured(trainer.deployed, tiny_data)
    assert not torch.equal(trainer.deployed.eval()(images), before)
    assert objective.deploy(student, teacher).connector is objective.terms["reuse"].connector


def test_a_registered_refinement_and_weight_are_parts_of_rows(tiny_data, tiny_teacher, tmp_path):
    adakd.register_refinement("shift")(Shift)
    adakd.register_weight("halves")(Halves)
    row = Method(
        "mine", "me", "½·KL", "kl", rule="fixed", rule_options={"tau": 4.0}, refine="shift", weight="halves"
    )
    adakd.register_method(row)
    rows = [torch.randn(6, 10, dtype=torch.float64) for _ in range(2)]
    target = torch.arange(6)
    ours, plain = create_method("mine", by=3.0)(*rows, target).kd, create_method("kd")(*rows, target).kd
    torch.testing.assert_close(ours, plain / 2)  # a shift of all logits moves no probability
    run = distilled("mine", tiny_teacher, tiny_data, tmp_path)
    assert "objective" in run.record["config"], "the name alone does not say what it is"


def test_a_registered_row():
    row = Method("mine", "me", "τ²·KL, τ = 7", "kl", rule="fixed", rule_options={"tau": 7.0}, kd_weight=3.0)
    assert adakd.register_method(row) is row
    assert create_method("mine").kd_weight == 3.0
    assert create_method("mine+mlt").kd_weight == 3.0
    with pytest.raises(ValueError, match="unknown part 'nothing'"):
        adakd.register_method(Method("other", "me", "", "nothing"))


@pytest.mark.parametrize("name", ["../../../escaped", "/tmp/escaped", "a/b", "kd+../x", "..", "", "kd\n", 3])
def test_a_name_that_leads_out_of_its_folder_is_no_methods(
    name, tiny_data, tiny_teacher, tmp_path, monkeypatch
):
    before = dict(adakd.METHODS)
    with pytest.raises(ValueError, match="method: expected a name of letters"):
        adakd.register_method(dataclasses.replace(adakd.METHODS["kd"], name=name))
    assert before == adakd.METHODS
    monkeypatch.setitem(adakd.METHODS, name, dataclasses.replace(adakd.METHODS["kd"], name=name))
    with pytest.raises((ValueError, TypeError), match="method: expected a name"):
        distilled(name, tiny_teacher, tiny_data, tmp_path / "a" / "b" / "c")
    escaped = type(f"../../../{name}", (adakd.LogitObjective,), {})(adakd.KL(), adakd.Fixed(4.0))
    with pytest.raises(ValueError, match="method: expected a name of letters"):
        distilled(escaped, tiny_teacher, tiny_data, tmp_path / "a" / "b" / "c")
    assert not list(tmp_path.rglob("*.json"))


def test_a_name_of_a_model_does_not_lead_out_of_the_cache(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setitem(adakd.MODELS, "../../../escaped", adakd.MODELS[NAME])
    weights = tmp_path / "weights.safetensors"
    adakd.training.save_weights(adakd.create_model(NAME, 10), weights)
    with pytest.raises(ValueError, match=r"teacher: expected a name of letters.*got '\.\.'"):
        distilled("kd", "../../../escaped", tiny_data, tmp_path / "a" / "b", teacher_weights=weights)
    assert not list(tmp_path.rglob("cache.json"))


@pytest.mark.parametrize(
    ("register", "part", "error", "message"),
    [
        (adakd.register_rule("warm"), Squared, TypeError, "expected a subclass of TemperatureRule"),
        (adakd.register_divergence("squared"), Warm, TypeError, "expected a subclass of Divergence"),
        (adakd.register_term("hint"), nn.Linear, TypeError, "expected a subclass of Term"),
        (adakd.register_rule("ctkd"), Warm, ValueError, "there is one of that name, CTKD"),
        (adakd.register_divergence("kl"), Squared, ValueError, "there is one of that name, KL"),
        (adakd.register_divergence("kd"), Squared, ValueError, "there is one of that name"),
        (adakd.register_refinement("shift"), Warm, TypeError, "expected a subclass of Refinement"),
        (adakd.register_refinement("swap"), Shift, ValueError, "there is one of that name, Swap"),
        (adakd.register_weight("halves"), Shift, TypeError, "expected a subclass of SampleWeight"),
        (adakd.register_weight("entropy"), Halves, ValueError, "there is one of that name, Entropy"),
        (adakd.register_rule("a+b"), Warm, ValueError, "expected a name of letters"),
    ],
)
def test_what_cannot_be_registered(register, part, error, message):
    before = dict(adakd.METHODS), dict(RULES), dict(DIVERGENCES)
    with pytest.raises(error, match=message):
        register(part)
    assert before == (adakd.METHODS, RULES, DIVERGENCES)


def test_what_an_installed_package_offers_is_found_when_it_is_asked_for(monkeypatch):
    asked = []

    def entry_points(group):
        asked.append(group)
        offers = {"adakd.rules": ("warm", Warm), "adakd.terms": ("hint", Hint)}
        return (
            [SimpleNamespace(name=name, load=lambda part=part: part) for name, part in [offers[group]]]
            if group in offers
            else []
        )

    monkeypatch.setattr(registry, "_looked", [])
    monkeypatch.setattr(registry, "entry_points", entry_points)
    create_method("kd+mlt")
    assert asked == [], "a known name asks nobody"
    assert isinstance(create_method("kd+warm").temperature, Warm)
    assert isinstance(create_method("hint").terms["hint"], Hint)
    kinds = ("refinements", "rules", "divergences", "weights", "terms", "methods")
    assert asked == [f"adakd.{kind}" for kind in kinds], "once"
    with pytest.raises(ValueError, match="unknown method 'kd\\+cold'"):
        get_method("kd+cold")


def test_a_broken_plug_in_is_named_once_and_stands_in_nobodys_way(monkeypatch):
    def broken():
        raise ImportError("No module named 'torchthing'")

    offers = {
        "adakd.rules": [
            SimpleNamespace(name="cool", load=broken, dist=SimpleNamespace(name="coolkd")),
            SimpleNamespace(name="ctkd", load=lambda: Warm),  # a name that is taken
            SimpleNamespace(name="warm", load=lambda: Warm),
        ]
    }
    monkeypatch.setattr(registry, "_looked", [])
    monkeypatch.setattr(registry, "entry_points", lambda group: offers.get(group, []))
    with (
        pytest.warns(UserWarning, match="is left out") as warned,
        pytest.raises(ValueError, match=r"unknown method 'kdd'\. Did you mean 'kd'"),
    ):
        get_method("kdd")
    first, second = (str(each.message) for each in warned)
    assert "entry point 'cool' (adakd.rules) of coolkd is left out: ImportError: No module named" in first
    assert "entry point 'ctkd' (adakd.rules) of an installed package is left out: ValueError" in second
    assert isinstance(create_method("kd+warm").temperature, Warm)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="unknown method 'kdd'"):
            get_method("kdd")


def test_the_rule_of_the_contributors_page_runs_and_its_formulas_are_those_of_the_rules():
    page = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        exec(compile(code, "CONTRIBUTING.md", "exec"), names)
    assert "spread" in RULE_NAMES
    assert set(names["LIVE"]) > {"spread"}
    for name, live in names["LIVE"].items():
        row = RULE_NAMES[name]
        rule = RULES[row.rule] if row.rule in RULES else names["Spread"]
        student, teacher = torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(0)).double()
        expected = rule(**row.options)(student, teacher)
        found = live.temperatures(student, teacher, numbers(rule, row.options))
        for tau, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(tau.expand(5, 1), wanted.expand(5, 1), rtol=1e-9, atol=1e-12)
