"""Sums of methods by name, and rows that name a refinement, a weight or a term with options."""

import json

import pytest
import torch

import adakd
from adakd import Batch, Method, Objective, Refinement, SampleWeight, Signals, Term, create_method, get_method
from adakd.methods import RULE_NAMES, fill_options, is_built_in, options_of
from adakd.methods.base import PARTS
from adakd.study import summarize, weights_of

SMALL = {"device": "cpu", "precision": "fp32", "progress": False, "epochs": 2, "batch_size": 20}


class Apart(Term):
    """Mean square distance of the logits of both networks, times a scale; it has an option of a rule's name."""

    def __init__(self, scale: float = 1.0, tau: float = 1.0):
        super().__init__()
        self.scale, self.tau = scale, tau

    def forward(self, student, teacher, batch):
        return self.scale * ((student.logits - teacher.logits) / self.tau).square().mean(1)


class Twice(Apart):
    """The same under another name, which wants to know the number of classes."""

    def __init__(self, num_classes: int, scale: float = 2.0):
        super().__init__(scale)
        self.num_classes = num_classes


class Shrunk(Refinement):
    """Both rows times a factor."""

    def __init__(self, factor: float = 0.5):
        super().__init__()
        self.factor = factor

    def forward(self, student, teacher, batch):
        return self.factor * student, self.factor * teacher


class Constant(SampleWeight):
    """One number for every row."""

    def __init__(self, value: float = 3.0):
        super().__init__()
        self.value = value

    def forward(self, student, teacher, target, temperatures):
        return torch.full((len(student),), self.value, dtype=student.dtype)


@pytest.fixture(autouse=True)
def terms():
    """Two terms with rows of their own, for the length of a test."""
    known = [(table, dict(table)) for table in (*PARTS.values(), RULE_NAMES, adakd.METHODS)]
    adakd.register_term("apart", ce_weight=0.7, kd_weight=0.25, paper="A")(Apart)
    adakd.register_term("twice", ce_weight=0.3, kd_weight=0.5, paper="B")(Twice)
    PARTS["refine"]["shrunk"], PARTS["weight"]["constant"] = Shrunk, Constant
    yield
    for table, before in known:
        table.clear()
        table.update(before)


def batch():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in "st")
    return student, teacher, torch.randint(5, (6,), generator=generator)


@pytest.mark.parametrize("name", ["apart", "ce", "counted"])
def test_slices_know_a_term_by_any_name(name):
    whole, sliced = (
        Objective({name: Apart(), "further": Apart(2.0)}, {name: 0.5, "further": 1.0}, chunk=chunk)
        for chunk in (None, 4)
    )
    expected, found = whole(*batch()), sliced(*batch())
    for value in ("total", "ce", "parts"):
        torch.testing.assert_close(getattr(found, value), getattr(expected, value))


def test_a_sum_is_the_sum_of_its_terms_each_at_its_own_weight(monkeypatch):
    # A term alone may be computed in one step, which rounds otherwise; the composition has the very numbers of the sum.
    monkeypatch.setattr("adakd.objective.plain_terms", lambda *_: None)
    student, teacher, target = batch()
    terms = create_method("apart+zkd+mlt")(student, teacher, target, epoch=1)
    kd = create_method("zkd+mlt")(student, teacher, target, epoch=1)
    apart = Apart()(Signals(student), Signals(teacher), Batch(target)).mean()
    torch.testing.assert_close(terms.total, 0.7 * kd.ce + 0.25 * apart + 9.0 * kd.kd)
    assert torch.equal(terms.kd, kd.kd)
    assert torch.equal(terms.temperature.teacher, kd.temperature.teacher)
    assert set(terms.parts) == {"apart", "zkd+mlt"}


def test_several_terms_before_one_on_logits():
    criterion = create_method("apart+twice+kd", num_classes=5)
    assert isinstance(criterion, Objective)
    assert criterion.weights == {"apart": 0.25, "twice": 0.5, "kd": 0.9}
    assert criterion.ce_weight == 0.7, "that of the first row"
    assert create_method("twice+apart", num_classes=5).ce_weight == 0.3


def test_warm_ups_stay_with_their_terms():
    assert create_method("apart+dkd").warmups == {"apart": 0, "dkd": 20}


def test_a_sum_as_a_row():
    row = get_method("apart+zkd+mlt")
    assert (row.name, row.kd_weight, row.ce_weight) == ("apart+zkd+mlt", None, 0.7)
    assert [summand.name for summand in row.summands] == ["apart", "zkd+mlt"]
    assert row.needs_teacher
    assert not row.reads_batch
    assert get_method("apart+dist").reads_batch
    assert row.paper.startswith("A; Matsuyama")
    assert row.formula.startswith("0.25·[Apart] + 9·[τ²·KL")


def test_a_published_sum_is_a_row_of_its_own():
    apart, kd = get_method("apart"), get_method("kd")
    adakd.register_method(Method("both", "C", "A + KD", ce_weight=1.0, kd_weight=None, summands=(apart, kd)))
    assert create_method("both").weights == {"apart": 0.25, "kd": 0.9}
    assert create_method("both").ce_weight == 1.0


# ---- options -----------------------------------------------------------------------------------------------------


def test_an_option_of_one_term_needs_no_address():
    criterion = create_method(
        "apart+zkd+mlt", scale=4.0, reference="teacher", standardize="sample", ce_weight=0.2
    )
    assert criterion.terms["apart"].scale == 4.0
    assert criterion.terms["zkd+mlt"].temperature.reference == "teacher"
    assert criterion.terms["zkd+mlt"].standardize == "sample"
    assert criterion.ce_weight == 0.2


@pytest.mark.parametrize("option", ["kd_weight", "warmup_epochs", "tau"])
def test_an_option_of_several_terms_needs_one(option):
    with pytest.raises(
        ValueError, match=rf"{option}: several terms have it; say which, apart.{option} or kd.{option}"
    ):
        create_method("apart+kd", **{option: 2})
    assert option not in options_of("apart+kd")
    assert {f"apart.{option}", f"kd.{option}"} <= options_of("apart+kd")


def test_an_address_reaches_one_term():
    criterion = create_method("apart+kd", **{"apart.kd_weight": 2.0, "kd.tau": 7.0, "kd.warmup_epochs": 3})
    assert criterion.weights == {"apart": 2.0, "kd": 0.9}
    assert (criterion.terms["apart"].tau, criterion.terms["kd"].temperature.tau) == (1.0, 7.0)
    assert criterion.warmups == {"apart": 0, "kd": 3}
    assert create_method("apart+zkd+mlt", **{"zkd+mlt.kd_weight": 1.0}).weights["zkd+mlt"] == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"apart.scael": 1.0}, "unknown option of apart\\+kd: 'apart.scael'. Did you mean 'apart.scale'"),
        ({"hint.scale": 1.0}, "unknown option of apart\\+kd: 'hint.scale'"),
        ({"apart.ce_weight": 1.0}, "unknown option"),
        ({"kd.temperature": 4.0}, "unknown option of apart\\+kd: 'kd.temperature'. Did you mean 'kd.tau'\\?"),
        ({"temp": 4.0}, "Did you mean 'apart.tau' or 'kd.tau'\\?"),
        ({"scale": 1.0, "apart.scale": 2.0}, "scale and apart.scale are one option, given twice"),
        ({"apart.scale": "large"}, "apart: scale: expected a number, got 'large'"),
        ({"apart.kd_weight": -1.0}, "weight of apart: expected a finite number of at least 0"),
        ({"ce_weight": "all"}, "ce_weight: expected a number, got 'all'"),
    ],
)
def test_options_that_a_sum_cannot_use(options, message):
    with pytest.raises(ValueError, match=message):
        create_method("apart+kd", **options)


def test_what_a_run_knows_is_told_to_every_term_that_wants_it():
    name = "twice+kd+ctkd-instance"
    told = fill_options(name, {"twice.num_classes": 3}, num_classes=10, seed=1, epochs=9)
    assert told == {"twice.num_classes": 3, "kd+ctkd-instance.num_classes": 10, "kd+ctkd-instance.seed": 1}
    assert create_method(name, **told).terms["twice"].num_classes == 3
    assert fill_options("twice+kd", {"num_classes": 4}, num_classes=10) == {"num_classes": 4}
    assert fill_options("kd", {"tau": 2.0}, num_classes=10) == {"tau": 2.0}


# ---- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kd+apart", "terms come first; write 'apart\\+kd'"),
        ("apart+kdd", "unknown method 'kdd'.*Did you mean 'kd'"),
        ("apart+zkd+mtl", "unknown method 'zkd\\+mtl'.*Did you mean 'zkd\\+mlt'"),
        ("apart+ce", "'ce' has no term to add"),
        ("apart+apart", "expected every term once"),
        ("apart+mlt", "unknown method 'mlt'"),
        ("kd+zkd", r"unknown method 'kd\+zkd': 'kd' and 'zkd' are both on logits, and a sum has one such term"),
        ("apart+zkd+mlt+dkd", r"unknown method 'zkd\+mlt\+dkd': 'zkd\+mlt' and 'dkd' are both on logits"),
        ("kd+zkd+mlt", r"'kd' and 'zkd\+mlt' are both on logits.*; choose one of the two"),
        ("apart+", "unknown method 'apart\\+'"),
    ],
)
def test_sums_that_are_none(name, message):
    with pytest.raises(ValueError, match=message):
        get_method(name)


def test_whose_a_sum_is():
    assert not is_built_in("apart+kd")
    ours = next((name for name, row in adakd.METHODS.items() if row.term and is_built_in(name)), None)
    assert ours is None or is_built_in(f"{ours}+kd")


def test_a_run_of_a_sum_is_recorded_and_opened_again(tiny_data, tiny_teacher, tmp_path):
    def distilled():
        options = {"method_options": {"twice.kd_weight": 0.1}, "train_images": 50, "out": tmp_path, **SMALL}
        return adakd.distill(tiny_teacher, "resnet8x0.5", "twice+zkd+mlt", tiny_data, **options)

    run = distilled()
    assert run.folder.name.startswith("twice+zkd+mlt-")
    assert run.record["config"]["method_options"] == {"twice.kd_weight": 0.1}
    assert run.history[0]["kd"] > 0
    assert run.history[0]["loss"] > 0.3 * run.history[0]["ce"] + 9 * run.history[0]["kd"]
    assert distilled().folder == run.folder
    assert weights_of(run.record) == (0.3, None), "on the teacher each term has its own"
    assert len(summarize([run])) == 1


def test_the_commands_know_sums(capsys):
    from adakd.cli import main
    from adakd.cli.options import method, setting

    assert main(["methods", "apart+zkd+mlt"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    for part in (
        "apart+zkd+mlt",
        "λ_CE: 0.7",
        "apart.kd_weight=0.25",
        "zkd+mlt.kd_weight=9.0",
        "apart.scale=1.0",
    ):
        assert part in words
    assert main(["methods", "--json", "-"]) == 0
    assert {"apart", "twice"} <= {about["name"] for about in json.loads(capsys.readouterr().out)["methods"]}
    assert setting("zkd+mlt.kd_weight=9") == ("zkd+mlt.kd_weight", 9)
    assert method("apart+kd:kd.tau=2,scale=3") == ("apart+kd", {"kd.tau": 2, "scale": 3})


# ---- the other slots of a row --------------------------------------------------------------------------------------


@pytest.fixture
def row():
    """A row that uses every slot."""
    return adakd.register_method(
        Method(
            "all",
            "me",
            "all of the sentence",
            "kl",
            rule="fixed",
            rule_options={"tau": 2.0},
            refine="shrunk",
            refine_options={"factor": 0.25},
            weight="constant",
            weight_options={"value": 5.0},
        )
    )


def test_every_slot_of_a_row_is_filled(row):
    student, teacher, target = batch()
    term = create_method("all").term
    assert (term.refine.factor, term.weight.value, term.temperature.tau) == (0.25, 5.0, 2.0)
    plain = create_method("kd", tau=2.0)(0.25 * student, 0.25 * teacher, target).kd
    torch.testing.assert_close(create_method("all")(student, teacher, target).kd, 5.0 * plain)


def test_overrides_reach_every_slot(row):
    term = create_method("all", factor=1.0, value=2.0, tau=3.0).term
    assert (term.refine.factor, term.weight.value, term.temperature.tau) == (1.0, 2.0, 3.0)
    assert {"factor", "value", "tau"} <= options_of("all")
    with pytest.raises(ValueError, match="all: factor: expected a number, got 'half'"):
        create_method("all", factor="half")


def test_options_of_a_term_in_its_row():
    adakd.register_method(Method("far", "me", "", term="apart", term_options={"scale": 8.0}))
    assert create_method("far").terms["far"].scale == 8.0
    assert create_method("far", scale=1.0).terms["far"].scale == 1.0


@pytest.mark.parametrize("slot", ["refine", "divergence", "rule", "weight", "term"])
def test_parts_that_there_are_none_of(slot):
    with pytest.raises(ValueError, match="unknown part 'nothing'"):
        adakd.register_method(Method("none", "me", "", **{slot: "nothing"}))
