"""The conformance kit on this library's losses, and on formulas of public code whose faults are known.

The public formulas are typed anew from their description; where one is from is said beside it.
"""

import json
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import reference as ref
import torch
import torch.nn.functional as F

import adakd
from adakd.conformance import check, golden_case

GOLDEN = json.loads(resources.files("adakd").joinpath("golden.json").read_text())


def mean_over_elements(student, teacher, target, tau=4.0):
    """`loss_fn_kd` of haitongli/knowledge-distillation-pytorch: KLDivLoss at its default reduction."""
    return tau**2 * F.kl_div(F.log_softmax(student / tau, 1), F.softmax(teacher / tau, 1), reduction="mean")


def log_of_softmax(student, teacher, target, tau=4.0):
    """The loss of PyTorch's tutorial on distillation: p (log p − log q) with log p from p."""
    p = F.softmax(teacher / tau, 1)
    return tau**2 * (p * (p.log() - F.log_softmax(student / tau, 1))).sum() / len(p)


def over_classes(student, teacher, target, tau=4.0):
    """A `DistillKL` in circulation that divides by `y_s[0].shape[0]`, meant to be the batch."""
    kl = F.kl_div(F.log_softmax(student / tau, 1), F.softmax(teacher / tau, 1), reduction="sum")
    return tau**2 * kl / student[0].shape[0]


def masked_by_thousand(student, teacher, target, tau=4.0):
    """DKD as released (mdistiller): binary parts by log of softmax, the label masked by −1000; α 1, β 8."""
    label = F.one_hot(target, student.shape[1]).to(student.dtype)

    def parts(logits):
        p = F.softmax(logits / tau, 1)
        two = torch.stack([(p * label).sum(1), (p * (1 - label)).sum(1)], 1)
        return two, F.log_softmax(logits / tau - 1000 * label, 1)

    (q, log_q), (p, log_p) = parts(student), parts(teacher)
    binary = F.kl_div(q.log(), p, reduction="batchmean")
    others = F.kl_div(log_q, log_p.exp(), reduction="batchmean")
    return tau**2 * (binary + 8 * others)


def standardized_as_released(student, teacher, target, tau=2.0):
    """Logit standardization as released: `std` with n − 1, and 1e-7 added."""
    s, t = ((x - x.mean(1, keepdim=True)) / (1e-7 + x.std(1, keepdim=True)) for x in (student, teacher))
    return tau**2 * F.kl_div(F.log_softmax(s / tau, 1), F.softmax(t / tau, 1), reduction="batchmean")


def faults(report):
    return {finding.name: finding.text for finding in report.faults}


PAPER = {"standardize": "population"}  # as its equation has it; the row "zkd" is what its code computes


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.parametrize(
    ("loss", "method", "options", "finding", "words"),
    [
        (mean_over_elements, "kd", {}, "values", "kd divided by the number of classes K"),
        (log_of_softmax, "kd", {}, "saturated teacher", "value nan"),
        (over_classes, "kd", {}, "values", "kd times B/K"),
        (masked_by_thousand, "dkd", {}, "saturated student", "not finite"),
        (standardized_as_released, "zkd", PAPER, "values", "zkd standardized by the deviation with n − 1"),
    ],
)
def test_faults_of_public_formulas_are_found_and_named(loss, method, options, finding, words):
    report = check(loss, method, **options)
    assert not report.passed
    assert words in faults(report)[finding], str(report)


def test_what_is_right_in_a_public_formula_passes():
    right = {finding.name for finding in check(log_of_softmax, "kd").findings if finding.passed}
    assert {"values", "gradients", "growing τ", "reduction", "central differences"} <= right
    right = {finding.name for finding in check(masked_by_thousand, "dkd").findings if finding.passed}
    assert {"values", "gradients", "growing τ", "shift of the student"} <= right
    report = check(standardized_as_released, "zkd")
    assert report.passed, str(report)


# ---- kinds of fault, planted ----

KD = adakd.create_method("kd")


def kd(student, teacher, target):
    return KD(student, teacher, target).kd


def without_square(student, teacher, target, tau=4.0):
    return kd(student * 4 / tau, teacher * 4 / tau, target) / 16


def cross_entropy(student, teacher, target):
    p = F.softmax(teacher / 4, 1)
    return -16 * (p * F.log_softmax(student / 4, 1)).sum(1).mean()


def attached(student, teacher, target):
    """The maximum logit's temperature with a gradient of its own, where the method takes it as a constant."""
    s, t = (adakd.standardize(x) for x in (student, teacher))
    tau = (1 + 3**0.5) / 2 * torch.maximum(s.amax(1), t.amax(1))[:, None]
    kl = F.kl_div(F.log_softmax(s / tau, 1), F.softmax(t / tau, 1), reduction="none").sum(1)
    return (tau[:, 0] ** 2 * kl).mean()


@pytest.mark.parametrize(
    ("loss", "method", "finding", "words"),
    [
        (without_square, "kd", "values", "kd without the factor τ²"),
        (without_square, "kd", "growing τ", "the factor τ² is missing"),
        (lambda s, t, y: kd(t, s, y), "kd", "values", "kd with student and teacher exchanged"),
        (cross_entropy, "kd", "values", "with the same gradient"),
        (lambda s, t, y: kd(s, t, y) * len(s), "kd", "values", "a sum over the batch"),
        (lambda s, t, y: kd(s, t, y) * len(s), "kd", "reduction", "changes it by 100 %"),
        (lambda s, t, y: adakd.create_method("kd", tau=2.0)(s, t, y).kd, "kd", "values", "kd at τ = 2"),
        (
            lambda s, t, y: adakd.create_method("zkd+mlt-abs")(s, t, y).kd,
            "zkd+mlt",
            "values",
            "it is zkd+mlt-abs",
        ),
        (lambda s, t, y: adakd.create_method("dkd")(s, t, y).kd, "kd", "values", "it is dkd"),
        (lambda s, t, y: kd(s - s[:1], t, y), "kd", "order of the rows", "changes it"),
        (lambda s, t, y: kd(s, t, y) + s[:, 0].square().mean(), "kd", "shift of the student", "changes it"),
        (lambda s, t, y: kd(s, t, y) + (s * s.detach()).mean(), "kd", "central differences", "detached"),
        (lambda s, t, y: kd(s.detach(), t, y), "kd", "gradients", "none for the student's logits"),
        (
            lambda s, t, y: kd(s.float(), t.float(), y) + (s.amax() > 1e3) * s.sum() * torch.inf,
            "kd",
            "saturated student",
            "not finite",
        ),
    ],
)
def test_a_planted_fault_is_found_and_named(loss, method, finding, words):
    report = check(loss, method)
    assert words in faults(report)[finding], str(report)


ZKD = adakd.create_method("zkd+mlt")


def recipe(student, teacher, target, T=4.0, alpha=0.9):  # noqa: N803 - as it is written everywhere
    """The whole loss of haitongli/knowledge-distillation-pytorch, of which check takes the term alone."""
    return alpha * mean_over_elements(student, teacher, target, T) + (1 - alpha) * F.cross_entropy(
        student, target
    )


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.parametrize(
    ("loss", "method", "words"),
    [
        (lambda s, t, y: 0.9 * kd(s, t, y), "kd", "it is kd times 0.9; leave the weight out"),
        (lambda s, t, y: 9 * ZKD(s, t, y).kd, "zkd+mlt", "it is zkd+mlt times 9; leave the weight out"),
        (
            lambda s, t, y: 3 * kd(s, t, y) * len(s),
            "kd",
            "it is kd times 3 times the batch size B: a sum over the batch; leave",
        ),
        (
            lambda s, t, y: kd(s, t, y) + 0.1 * F.cross_entropy(s, y),
            "kd",
            "it is kd, and the cross entropy is inside, 0.1 times",
        ),
        (
            lambda s, t, y: 0.9 * kd(s, t, y) + 0.1 * F.cross_entropy(s, y),
            "kd",
            "it is kd times 0.9, and the cross entropy is inside, 0.1 times",
        ),
        (
            recipe,
            "kd",
            "it is kd times 0.9 divided by the number of classes K: a mean over the elements, and the cross entropy is "
            "inside, 0.1 times",
        ),
        (
            lambda s, t, y: 0.9 * without_square(s, t, y) + 0.1 * F.cross_entropy(s, y),
            "kd",
            "it is kd without the factor τ² times 0.9, and the cross entropy is inside, 0.1 times",
        ),
        (
            lambda s, t, y: 0.4 * kd(s, t, y) + 0.2 * F.cross_entropy(s, y),
            "kd",
            "it is kd times 0.4, and the cross entropy is inside, 0.2 times",
        ),
        (
            lambda s, t, y: 0.9 * adakd.create_method("kd", tau=2.0)(s, t, y).kd + F.cross_entropy(s, y),
            "kd",
            "it is kd at τ = 2 times 0.9, and the cross entropy is inside, 1 times",
        ),
        (lambda s, t, y: F.cross_entropy(s, y), "kd", "it is the cross entropy with the labels"),
    ],
)
def test_a_weight_and_the_cross_entropy_inside_are_named(loss, method, words):
    found = faults(check(loss, method))["values"]
    assert words in found
    assert words.startswith("it is the cross entropy") or found.endswith("check takes the term alone")


def test_what_is_a_method_is_no_other_one_with_a_weight():
    """Numbers that may be any explain much: what needs none is named first."""
    for name in ("kd+mlt", "zkd", "dkd", "ttm", "dist"):
        found = faults(check(lambda s, t, y, name=name: adakd.create_method(name)(s, t, y).kd, "zkd+mlt"))
        assert "times" not in found["values"], found


def test_what_is_neither_is_called_neither():
    for loss in (
        lambda s, t, y: kd(s, t, y) + s.square().mean(),
        lambda s, t, y: 0 * kd(s, t, y),
        lambda s, t, y: torch.nan * kd(s, t, y),
    ):
        assert "it is" not in faults(check(loss, "kd"))["values"]


def of_two(student, teacher):
    return kd(student, teacher, None)


class OfTwo(torch.nn.Module):
    def forward(self, student, teacher):
        return of_two(student, teacher)


WRAP = "wrap it in a function of these three"


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (of_two, [WRAP, "of_two() takes 2 positional arguments but 3 were given"]),
        (OfTwo(), [WRAP, "OfTwo.forward() takes 3 positional arguments but 4 were given"]),
        (torch.dist, ["raised TypeError"]),  # of which Python knows no signature
        (lambda s, t, y: s.nothing(), ["with logits (4, 10) in float64 raised AttributeError", "'nothing'"]),
        (lambda s, t, y: s @ torch.eye(10), ["raised RuntimeError", "double", "float"]),
        (lambda s, t, y: F.softmax(s, 1), ["got a tensor of shape (4, 10); sum over the classes"]),
        (lambda s, t, y: kd(s, t, y).item(), ["got the number 4.1297", "without .item()"]),
        (lambda s, t, y: None, ["got None; does the function end without a return?"]),
        (KD, ["got Terms; return the distillation term alone", "loss(s, t, y).kd"]),
        (lambda s, t, y: {"kd": kd(s, t, y)}, ["got dict; return the distillation term alone"]),
    ],
)
def test_a_loss_that_cannot_be_looked_at_is_one_finding(loss, words):
    report = check(loss, "kd")
    (finding,) = report.findings
    assert (finding.name, finding.passed) == ("call", False)
    assert [word for word in words if word not in finding.text] == []
    assert (WRAP in finding.text) == (WRAP in words)
    assert "…" not in finding.text
    assert str(report).startswith("kd: 1 check, 1 failed\n")


def test_a_long_message_is_cut_between_words():
    def loss(student, teacher, target):
        raise ValueError("several\nwords " * 30)

    (finding,) = check(loss, "kd").findings
    assert "\n" not in finding.text
    assert finding.text.endswith((" several …", " words …"))
    assert len(finding.text) < 300


def test_what_fails_for_one_shape_alone_is_said_where_it_does():
    def loss(student, teacher, target):
        return kd(student, teacher, target) if len(student) > 1 else student[0]

    found = faults(check(loss, "kd"))
    assert found.keys() == {"values", "gradients"}
    assert all(text.startswith("expected a scalar tensor") for text in found.values())


def test_the_check_of_the_teachers_gradient_asks_for_a_scalar_too():
    def rows(student, teacher, target):
        return student if teacher.requires_grad else kd(student, teacher, target)

    found = faults(check(rows, "kd"))
    assert found.keys() == {"teacher's gradient"}
    assert found["teacher's gradient"].startswith("expected a scalar tensor")

    def blind(student, teacher, target):
        return kd(student.detach(), teacher.detach(), target)

    (of_teacher,) = (found for found in check(blind, "kd").findings if found.name == "teacher's gradient")
    assert (of_teacher.passed, of_teacher.text) == (True, "none")


def test_a_temperature_of_a_module_is_seen_as_it_grows():
    class Mine(torch.nn.Module):
        def forward(self, student, teacher, target, tau=4.0):
            return without_square(student, teacher, target, tau)

    assert "the factor τ² is missing" in faults(check(Mine(), "kd"))["growing τ"]


def test_a_temperature_with_a_gradient_of_its_own_has_the_value_and_another_gradient():
    assert faults(check(attached, "zkd+mlt")).keys() == {"gradients"}


@pytest.mark.parametrize("method", sorted(GOLDEN))
def test_the_librarys_own_losses_conform(method):
    def loss(student, teacher, target):
        return adakd.create_method(method)(student, teacher, target).kd

    report = check(loss, method, ignore_index=-100)
    assert report.passed, str(report)
    assert len(report.findings) >= 8


def of_teacher_in_place(student, teacher, target):
    return kd(student, teacher.div_(2).mul(2), target)


def of_both_in_place(student, teacher, target, tau=4.0):
    p, log_q = F.softmax(teacher.div_(tau), 1), F.log_softmax(student.div_(tau), 1)
    return tau**2 * F.kl_div(log_q, p, reduction="batchmean")


def of_labels_in_place(student, teacher, target):
    return kd(student, teacher, target.zero_())  # of which the term reads none


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (of_teacher_in_place, "changes the teacher's logits in place"),
        (of_both_in_place, "changes the student's logits and the teacher's logits in place"),
        (of_labels_in_place, "changes the labels in place"),
    ],
)
def test_a_loss_that_changes_its_inputs_is_blamed_for_that_alone(loss, words):
    found = faults(check(loss, "kd"))
    assert found.keys() - {"saturated student", "float16"} == {"inputs"}, found
    assert words in found["inputs"]


def test_rows_left_out_are_left_out():
    def counts_them(student, teacher, target):
        return kd(student, teacher, target.clamp(min=0))

    assert "masked rows" in faults(check(counts_them, "kd", ignore_index=-100))
    assert "masked rows" not in faults(check(counts_them, "kd"))


def z(row):
    """As the released code of logit standardization has it."""
    return ref.standardize(row, ddof=1, eps=1e-7)


def maximum_logit(s, t, y):
    s, t = ref.standardize(s), ref.standardize(t)
    return ref.kd(s, t, ref.mlt(s, t))


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("kd", lambda s, t, y: ref.kd(s, t, 4.0)),
        ("zkd", lambda s, t, y: ref.kd(z(s), z(t), 2.0)),
        ("dkd", lambda s, t, y: ref.dkd(s, t, y, 4.0)),
        ("zkd+mlt", maximum_logit),
    ],
)
def test_golden_values_against_an_independent_reference(method, value):
    case = golden_case(method)
    rows = [value(*row) for row in zip(*case[:3], strict=True)]
    np.testing.assert_allclose(np.mean(rows), GOLDEN[method], rtol=1e-12)


@pytest.mark.parametrize("method", sorted(GOLDEN))
def test_golden_values_are_those_on_record(method):
    assert golden_case(method).value == pytest.approx(GOLDEN[method], rel=1e-12)


def test_golden_covers_every_method_that_a_batch_determines():
    for name, row in adakd.METHODS.items():
        if name not in GOLDEN and row.on_logits and row.needs_teacher:
            with pytest.raises(ValueError, match="keeps a state"):
                golden_case(name)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((3,), {}, TypeError, "expected a function"),
        ((kd, "kdd"), {}, ValueError, "unknown method"),
        ((kd, "fitnet"), {}, ValueError, "expected one on logits"),
        ((kd, "ce"), {}, ValueError, "expected one on logits"),
        ((kd, "ctkd"), {}, ValueError, "keeps a state"),
        ((kd, "kd"), {"rule": "nothing"}, ValueError, "unknown method"),
        ((kd, "kd"), {"beta": 2.0}, ValueError, "option of kd"),
        ((kd, "kd"), {"rtol": 0}, ValueError, "rtol"),
    ],
)
def test_bad_input(arguments, options, error, message):
    with pytest.raises(error, match=message):
        check(*arguments, **options)


def test_the_page_on_using_prints_what_the_kit_says(capsys):
    page = (Path(adakd.__file__).parents[1] / "book" / "using.md").read_text(encoding="utf-8")
    section = page.partition("\n## Is my loss right?\n")[2].partition("\n## ")[0]
    code, printed = re.findall(r"^```\w+\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    exec(compile(code, "using.md", "exec"), {"adakd": adakd})
    assert capsys.readouterr().out == printed
