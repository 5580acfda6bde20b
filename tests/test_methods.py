"""The rows of the papers' tables, the names that combine them, and what can be overridden."""

import dataclasses
import itertools
import math
import re

import pytest
import torch

from adakd import METHODS, Fixed, LogitObjective, MaxLogit, Objective, create_method, get_method
from adakd.methods import RULE_NAMES, fill_options

ROWS = ["kd", "zkd", "dkd", "zdkd"]
RULES = ["mlt", "mlt-abs", "mlt-teacher", "mlt-two-sided"]

# Published settings: CE weight, KD weight, warm-up, standardization, temperature, options of the divergence.
PUBLISHED = {
    "ce": (1.0, None, 0, False, None, {}),
    "kd": (0.1, 0.9, 0, False, 4.0, {}),
    "zkd": (0.1, 9.0, 0, "sample", 2.0, {}),
    "dkd": (1.0, 1.0, 20, False, 4.0, {"alpha": 1.0, "beta": 8.0}),
    "zdkd": (1.0, 9.0, 20, "sample", 2.0, {"alpha": 1.0, "beta": 8.0}),
    "zkd+mlt": (0.1, 9.0, 0, "population", ("both", "signed"), {}),
    "zkd+mlt-abs": (0.1, 9.0, 0, "sample", ("both", "absolute"), {}),
    "zkd+mlt-teacher": (0.1, 9.0, 0, "population", ("teacher", "signed"), {}),
    "zdkd+mlt": (1.0, 9.0, 20, "population", ("both", "signed"), {"alpha": 1.0, "beta": 8.0}),
    "zdkd+mlt-abs": (1.0, 9.0, 20, "sample", ("both", "absolute"), {"alpha": 1.0, "beta": 8.0}),
    "zdkd+mlt-teacher": (1.0, 9.0, 20, "population", ("teacher", "signed"), {"alpha": 1.0, "beta": 8.0}),
}


def batch():
    """Rows whose largest logit is the student's, the teacher's, or a negative one: every definition differs."""
    generator = torch.Generator().manual_seed(5)
    student, teacher = (3 * torch.randn(6, 10, generator=generator, dtype=torch.float64) for _ in range(2))
    student[0, 0], teacher[1, 1], teacher[2, 2], student[3, 3] = 30.0, 25.0, -28.0, -33.0
    return student, teacher, torch.arange(6)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name):
    ce_weight, kd_weight, warmup, standardize, temperature, options = PUBLISHED[name]
    criterion = create_method(name)
    assert criterion.ce_weight == ce_weight
    assert criterion.warmup_epochs == warmup
    assert criterion.standardize == standardize
    if kd_weight is None:
        assert criterion.divergence is None
        return
    assert criterion.kd_weight == kd_weight
    assert {key: getattr(criterion.divergence, key) for key in options} == options
    if isinstance(temperature, float):
        assert isinstance(criterion.temperature, Fixed)
        assert criterion.temperature.tau == temperature
    else:
        assert isinstance(criterion.temperature, MaxLogit)
        assert (criterion.temperature.reference, criterion.temperature.magnitude) == temperature
        assert criterion.temperature.order == 2


@pytest.mark.parametrize("name", METHODS)
def test_every_row_builds_and_says_where_it_is_from(name):
    row = METHODS[name]
    told = fill_options(name, {}, num_classes=10)
    assert isinstance(create_method(name, **told), LogitObjective if row.on_logits else Objective)
    assert row.name == name
    assert row.formula
    assert row.paper
    assert get_method(name) is row


def test_every_published_row_is_another_loss():
    totals = {name: create_method(name)(*batch(), epoch=3).total.item() for name in PUBLISHED}
    assert all(math.isfinite(total) for total in totals.values())
    same = [
        pair
        for pair in itertools.combinations(totals, 2)
        if math.isclose(totals[pair[0]], totals[pair[1]], rel_tol=1e-6)
    ]
    assert same == []


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("rule", RULES)
def test_every_combination_is_the_rows_loss_with_the_rules_temperature(row, rule):
    combined, alone = create_method(f"{row}+{rule}"), create_method(row)
    assert type(combined.divergence) is type(alone.divergence)
    assert (combined.ce_weight, combined.kd_weight) == (alone.ce_weight, alone.kd_weight)
    assert bool(combined.standardize) == bool(alone.standardize)
    assert combined.warmup_epochs == alone.warmup_epochs
    # The rule does all that differs: given the row's own rule, the loss is the row's.
    combined.temperature, combined.standardize = alone.temperature, alone.standardize
    assert combined(*batch()).total == alone(*batch()).total


@pytest.mark.parametrize("row", ROWS)
def test_formula_of_a_combination_names_one_temperature(row):
    formula = get_method(f"{row}+mlt-two-sided").formula
    assert formula.count("τ =") <= 1
    assert "c₂⁻" in formula


@pytest.mark.parametrize("row", [name for name in METHODS if "+" not in name and METHODS[name].divergence])
@pytest.mark.parametrize("rule", RULE_NAMES)
def test_every_row_takes_every_rule(row, rule):
    name = f"{row}+{rule}"
    told = fill_options(name, {}, num_classes=10, epochs=60)  # what a run knows of itself
    learned = list(create_method(f"kd+{rule}", **fill_options(f"kd+{rule}", {}, num_classes=10)).parameters())
    if learned and not get_method(row).parts["divergence"].reads_temperature:
        with pytest.raises(ValueError, match="would never be trained"):
            create_method(name, **told)
        return
    assert create_method(name, **told)(*batch(), epoch=3).total.isfinite()


def test_an_untried_combination():
    row = get_method("dkd+mlt-abs")
    assert row.name == "dkd+mlt-abs"
    assert "combination" in row.note
    assert "dkd+mlt-abs" not in METHODS


@pytest.mark.parametrize(
    ("name", "override", "where"),
    [
        ("kd", {"tau": 7.0}, lambda c: c.temperature.tau),
        ("kd", {"ce_weight": 0.5}, lambda c: c.ce_weight),
        ("zkd+mlt", {"kd_weight": 18}, lambda c: c.kd_weight),
        ("dkd", {"beta": 2.0}, lambda c: c.divergence.beta),
        ("dkd", {"alpha": 0.5}, lambda c: c.divergence.alpha),
        ("dkd", {"warmup_epochs": 5}, lambda c: c.warmup_epochs),
        ("zkd", {"standardize": "population"}, lambda c: c.standardize),
        ("zkd+mlt", {"reference": "teacher"}, lambda c: c.temperature.reference),
        ("zkd+mlt", {"magnitude": "two-sided"}, lambda c: c.temperature.magnitude),
        ("zkd+mlt", {"order": 4}, lambda c: c.temperature.order),
        ("ce", {"ce_weight": 2.0}, lambda c: c.ce_weight),
    ],
)
def test_overrides(name, override, where):
    before = where(create_method(name))
    assert where(create_method(name, **override)) == next(iter(override.values()))
    assert before != next(iter(override.values()))
    assert where(create_method(name)) == before, "an override must not outlive its call"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("zkd+mtl", "zkd+mlt"),
        ("zkd-mlt", "zkd+mlt"),
        ("KD", "kd"),
        ("dkdd", "dkd"),
        ("zdkd+mltabs", "zdkd+mlt-abs"),
        ("dkd+mlt-teachr", "dkd+mlt-teacher"),
    ],
)
def test_unknown_names_are_answered_with_near_ones(name, near):
    with pytest.raises(ValueError, match="unknown method") as caught:
        create_method(name)
    hint = str(caught.value).partition("Did you mean")[2]
    assert f"'{near}'" in hint
    assert hint.endswith("? `adakd methods` lists all"), "and no list of all of them"


@pytest.mark.parametrize("name", ["", "+", "kd+", "+mlt", "ce+mlt", "zkd+mlt+mlt", "hinton", "mlt"])
def test_names_that_combine_nothing(name):
    with pytest.raises(ValueError, match=r"unknown method .*( Known: ce, |`adakd methods` lists all$)"):
        get_method(name)


@pytest.mark.parametrize(
    ("name", "override", "near"),
    [
        ("kd", "taw", "tau"),
        ("dkd", "beat", "beta"),
        ("zkd+mlt", "kd_wieght", "kd_weight"),
        ("zkd+mlt", "referense", "reference"),
        ("kd", "temperature", "tau"),
        ("zkd", "T", "tau"),
        ("ttm", "temp", "tau"),
    ],
)
def test_unknown_options_are_answered_with_near_ones(name, override, near):
    with pytest.raises(ValueError, match=rf"unknown option of .*{override}.*Did you mean '{near}'"):
        create_method(name, **{override: 1})


@pytest.mark.parametrize(
    ("name", "override"),
    [("kd", "beta"), ("zkd+mlt", "tau"), ("ce", "tau"), ("dkd", "reference")],
)
def test_an_option_that_the_method_has_no_use_for(name, override):
    with pytest.raises(ValueError, match=re.escape(f"unknown option of {name}:")):
        create_method(name, **{override: 1.0})


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("kd", {"tau": "four"}),
        ("kd", {"kd_weight": "nine"}),
        ("dkd", {"alpha": None}),
        ("dkd", {"beta": "eight"}),
        ("zkd+mlt", {"order": "2"}),
    ],
)
def test_values_of_the_wrong_kind_are_the_users_error(name, override):
    with pytest.raises(ValueError, match=r"\w"):
        create_method(name, **override)


def test_rows_are_data():
    row = METHODS["kd"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.kd_weight = 2.0
    assert dataclasses.replace(row, kd_weight=2.0).kd_weight == 2.0


def test_table_3_of_the_paper():
    """Its seven columns, as printed: weights of cross entropy and distillation, and tau (for TTM, gamma = 1 / tau)."""
    printed = {
        "ttm": (1, 1, 1 / 0.2),
        "wttm": (1, 1, 1 / 0.2),
        "zkd": (0.1, 9, 2),
        "zctkd": (0.1, 9, None),
        "zkd+mlt": (0.1, 9, None),
        "zdkd": (1, 1, 4),
        "zdkd+mlt": (1, 9, None),
    }
    assert {name for name, row in METHODS.items() if row.table3} == set(printed)
    for name, (ce_weight, kd_weight, tau) in printed.items():
        criterion = create_method(name, **METHODS[name].table3)
        assert (criterion.ce_weight, criterion.kd_weight) == (ce_weight, kd_weight)
        assert tau is None or criterion.temperature.tau == pytest.approx(tau)
