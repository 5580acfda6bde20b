"""The language of formulas that pages compute by: what it is, and that each rule's formula is the rule."""

import math

import pytest
import torch

from adakd.expression import LiveRule, evaluate, numbers, parse
from adakd.methods import RULE_NAMES
from adakd.temperature import RULES

LIVE = [name for name, row in RULE_NAMES.items() if row.live]
every_live_rule = pytest.mark.parametrize("name", LIVE)


def pairs():
    """Logits of student and teacher (5, K), standardized and raw ones, of which some are all below 0."""
    draw = torch.Generator().manual_seed(0)
    for classes in (3, 10, 100):
        for scale, shift in ((1.0, 0.0), (6.0, 0.5), (2.0, -9.0)):
            student, teacher = torch.randn(2, 5, classes, generator=draw, dtype=torch.float64)
            yield scale * student + shift, scale * teacher, torch.randint(classes, (5,), generator=draw)


def library(name, student, teacher, target, epoch):
    """The rule of that row; one that keeps a state where it settles if every batch is this one."""
    rule = RULES[RULE_NAMES[name].rule](**RULE_NAMES[name].options).double().eval()
    if hasattr(rule, "momentum") and rule.reads_epoch:
        rule.momentum = 0.0
        rule.train()(student, teacher, target, epoch)
        rule.eval()
    return rule, rule(student, teacher, target, epoch)


@every_live_rule
def test_the_formula_is_the_rule(name):
    row = RULE_NAMES[name]
    options = numbers(RULES[row.rule], row.options)
    for student, teacher, target in pairs():
        if RULES[
            row.rule
        ].keeps_state:  # one pair, as the zoo has it: its means over a batch are no part of the language
            student, teacher, target = student[:1], teacher[:1], target[:1]
        for epoch in (1, 100, 240):
            rule, expected = library(name, student, teacher, target, epoch)
            found = row.live.temperatures(student, teacher, options, target, epoch)
            for tau, wanted in zip(found, expected, strict=True):
                torch.testing.assert_close(
                    tau.expand(len(student), 1), wanted.expand(len(student), 1), rtol=1e-9, atol=1e-12
                )
            start = {key: value.item() for key, value in rule.named_parameters()}
            assert row.live.learned == start


@every_live_rule
def test_its_gradient_is_the_rule_s(name):
    row = RULE_NAMES[name]
    if RULES[row.rule].keeps_state:
        assert not row.live.in_graph
        return
    options = numbers(RULES[row.rule], row.options)
    for student, teacher, target in pairs():
        s = student.requires_grad_()
        _, expected = library(name, s, teacher, target, 1)
        assert any(tau.requires_grad for tau in expected) == bool(row.live.in_graph or row.live.learned)
        if row.live.in_graph:
            found = row.live.temperatures(s, teacher, options, target)
            for tau, wanted in zip(found, expected, strict=True):
                assert tau.requires_grad == wanted.requires_grad
                if not wanted.requires_grad:  # a teacher's own temperature
                    continue
                one, two = (torch.autograd.grad(x.sum(), s, retain_graph=True)[0] for x in (tau, wanted))
                torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


@every_live_rule
def test_the_rule_stays_in_its_reach(name):
    row = RULE_NAMES[name]
    if row.live.reach is None:
        return
    options = numbers(RULES[row.rule], row.options)
    for student, teacher, target in pairs():
        if row.standardize:
            student, teacher = (
                (x - x.mean(1, keepdim=True)) / x.std(1, correction=0, keepdim=True) for x in (student, teacher)
            )
        scope = {**options, "zt": teacher, "K": student.shape[1]}
        low, high = (evaluate(parse(text), scope).item() for text in row.live.reach)
        for tau in row.live.temperatures(student, teacher, options, target):
            assert low - 1e-9 <= tau.min()
            assert tau.max() <= high + 1e-9


def test_each_function_against_the_standard_library():
    row, other = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64), torch.tensor([[1.0, 0.0, 3.0]]).double()
    a, b = row[0].tolist(), other[0].tolist()
    total = sum(map(math.exp, a))
    p = [math.exp(x) / total for x in a]
    expected = {
        "max(zs)": 2.0,
        "min(zs, 0)": [min(x, 0) for x in a],
        "max(zs, 0, zt)": [max(x, 0, y) for x, y in zip(a, b, strict=True)],
        "sum(zs)": 1.5,
        "mean(zs)": 0.5,
        "std(zs)": math.sqrt(sum((x - 0.5) ** 2 for x in a) / 3),
        "lse(zs)": math.log(total),
        "softmax(zs)": p,
        "entropy(zs)": -sum(x * math.log(x) for x in p),
        "norm(zs)": math.sqrt(5.25),
        "cosine(zs, zt)": 6.5 / math.sqrt(5.25 * 10),
        "clip(zs, -0.5, 1)": [0.5, -0.5, 1.0],
        "where(max(zs) > K, 1, -2 ** 3)": -8.0,
        "label(zs)": -1.0,
        "others(zs)": [0.5, 2.0],
        "sigmoid(-label(zs)) + cos(pi)": 1 / (1 + math.exp(-1)) - 1,
    }
    for text, wanted in expected.items():
        found = evaluate(parse(text), {"zs": row, "zt": other, "K": 3}, torch.tensor([1]))
        assert found.flatten().tolist() == pytest.approx(wanted if isinstance(wanted, list) else [wanted]), text


def test_functions_of_the_batch():
    zt = torch.tensor([[1.0], [5.0], [3.0], [4.0]])
    for text, wanted in (("max", 5.0), ("min", 1.0), ("mean", 3.25), ("median", 3.5)):
        assert evaluate(parse(f"batch_{text}(sum(zt))"), {"zt": zt}).item() == wanted


@pytest.mark.parametrize(
    "text",
    [
        *("zt.max()", "max(zt, key=zs)", "zt[0]", "lambda: 1", "'zt'", "True", "zt @ zs", "zt if zs else 1"),
        *("1 < zt < 2", "maximum(zt, 1)", "open(zt)", "max()", "clip(zt, 1)", "zt zs", "", "__import__(zt)"),
    ],
)
def test_what_is_not_of_the_language_is_refused(text):
    with pytest.raises(ValueError, match=r"language|expected"):
        parse(text)


def test_unknown_names_and_missing_labels_are_refused():
    rows = torch.zeros(1, 3)
    with pytest.raises(ValueError, match=r"'teu'.*zt"):
        LiveRule("teu").temperatures(rows, rows, {"tau": 4.0})
    with pytest.raises(ValueError, match="no target"):
        LiveRule("label(zs)").temperatures(rows, rows, {})
    with pytest.raises(ValueError, match="printed"):
        LiveRule("4").temperatures(rows, rows, {}, printed=True)
