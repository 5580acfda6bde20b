"""Numeric options of every registered part: what is no finite number is refused where the part is made, by the option's name."""

import inspect
import math
import re

import pytest
import torch

import adakd
from adakd.cli import main
from adakd.methods import METHODS, RULE_NAMES
from adakd.methods.base import PARTS
from adakd.methods.registry import fill_options, options_of
from adakd.plan import plain_options

TOLD = {"num_classes": 3}
# Order ∞ of a Taylor polynomial: the exponential itself.
MEANT = {("rule", "maxlogit", "order", math.inf)}
NUMBERS = [
    (kind, name, option, value)
    for kind, parts in PARTS.items()
    for name, part in parts.items()
    for option, parameter in inspect.signature(part).parameters.items()
    if not isinstance(parameter.default, bool)
    and parameter.annotation in (int, float, int | None, float | None)
    for value in (math.nan, math.inf, -math.inf)
    if (kind, name, option, value) not in MEANT
]


def test_the_numbers_of_all_kinds_are_found():
    assert len(NUMBERS) > 200
    assert {kind for kind, *_ in NUMBERS} == set(PARTS)
    assert ("divergence", "dkd", "alpha", math.nan) in NUMBERS


@pytest.mark.parametrize(("kind", "name", "option", "value"), NUMBERS)
def test_a_number_that_is_not_finite_is_refused_by_its_name(kind, name, option, value):
    part = PARTS[kind][name]
    told = {key: each for key, each in TOLD.items() if key in inspect.signature(part).parameters}
    part(**told)
    if "instance" in inspect.signature(part).parameters:
        told["instance"] = True  # else some are of no use
    with pytest.raises(ValueError, match=rf"{option}\b.*: expected .*{value}"):
        part(**{**told, option: value})


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("option", ["ce_weight", "kd_weight", "warmup_epochs", "label_smoothing"])
def test_so_are_those_of_the_loss(option, value):
    with pytest.raises(ValueError, match=rf"{option}: expected .*{value}"):
        adakd.create_method("kd", **{option: value})


@pytest.mark.parametrize("setting", ["alpha=inf", "kd_weight=inf", "tau=inf"])
def test_a_command_refuses_them_before_it_trains(setting, tmp_path, capsys):
    arguments = ["distill", "--method", "dkd", "--set", setting, "--out", str(tmp_path), "--device", "cpu"]
    assert main(arguments) != 0
    assert f"{setting.partition('=')[0]}: expected a finite number" in capsys.readouterr().err
    assert not any(tmp_path.rglob("*.json"))


def refusal(name, options):
    """What a run of a method says to these options; None where it takes them."""
    told = fill_options(name, plain_options(options), epochs=60, num_classes=10, seed=0)
    try:
        adakd.create_method(name, **told)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", [*METHODS, *(f"kd+{rule}" for rule in RULE_NAMES), "crd+kd"])
def test_infinity_is_the_number_in_every_run_too(name):
    """Although a record writes it as a text: what is refused is refused in words."""
    for option in sorted(options_of(name)):
        if option.endswith(("layers", "stage")):
            continue  # names, of which nobody knows them all
        said = refusal(name, {option: math.inf})
        bare = option.rpartition(".")[2]
        assert said is None or re.search(rf"(\b{bare}\b|weight of).*: expected .*inf", said)
        assert said or option in ("order", "standardize")


@pytest.mark.parametrize("value", ["4", "much", None, [1], [], {}, 4j, torch.ones(2)], ids=str)
@pytest.mark.parametrize(("kind", "name", "option"), sorted({each[:3] for each in NUMBERS}))
def test_what_is_no_number_is_refused_by_its_name(kind, name, option, value):
    signature = inspect.signature(PARTS[kind][name]).parameters
    if value is None and signature[option].default is None:
        pytest.skip("None is its own word")
    told = {key: each for key, each in TOLD.items() if key in signature} | (
        {"instance": True} if "instance" in signature else {}
    )
    with pytest.raises((TypeError, ValueError), match=rf"^[^:]*\b{option}\b[^:]*: expected .*, got "):
        PARTS[kind][name](**{**told, option: value})


@pytest.mark.parametrize("value", ["4", [1], {}, 4j, torch.ones(2)], ids=str)
@pytest.mark.parametrize("option", ["ce_weight", "kd_weight", "warmup_epochs", "label_smoothing"])
def test_nor_is_it_one_of_the_loss(option, value):
    with pytest.raises(TypeError, match=rf"{option}: expected a .*number.*, got "):
        adakd.LogitObjective(adakd.KL(), **{option: value})


def test_weights_of_terms_are_numbers():
    with pytest.raises(TypeError, match="weight of kd: expected a finite number of at least 0, got tensor"):
        adakd.Objective({"kd": adakd.LogitTerm(adakd.KL())}, {"kd": torch.ones(2)})
    assert adakd.Objective({"kd": adakd.LogitTerm(adakd.KL())}, {"kd": torch.tensor(2.0)}).weights == {
        "kd": 2.0
    }


@pytest.mark.parametrize("value", [[], {}, ["population"], 1.5, torch.ones(2)], ids=str)
def test_what_is_no_standardization(value):
    with pytest.raises(ValueError, match="standardize: expected False, True, 'population' or 'sample', got"):
        adakd.LogitTerm(adakd.KL(), standardize=value)
    with pytest.raises(ValueError, match=r"kl_standardize: expected .*, got"):
        adakd.MLKD(kl_standardize=value)


@pytest.mark.parametrize("value", [1, ["body"], torch.ones(2)], ids=str)
def test_layers_are_named_by_a_text(value):
    with pytest.raises(
        TypeError, match="student_layers: expected names of submodules separated by commas, got"
    ):
        PARTS["term"]["attention"](student_layers=value)


@pytest.mark.parametrize("value", [2.5, True, "8", None])
def test_a_whole_number_is_one(value):
    with pytest.raises(ValueError, match="width: expected a whole number of at least 1, got"):
        PARTS["term"]["crd"](width=value)


def test_a_word_in_the_place_of_a_number_is_told():
    with pytest.raises(TypeError, match="alpha: expected a finite number, got 'much'"):
        adakd.DKD(alpha="much")
