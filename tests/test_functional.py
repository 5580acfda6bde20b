"""The pure forms say what the modules say, for numbers, columns and a temperature a side."""

import pytest
import torch

import adakd
from adakd import Temperatures, functional

FORMS = {
    "kl": (functional.kl, adakd.KL()),
    "ttm": (functional.ttm, adakd.TTM()),
    "dist": (functional.dist, adakd.DIST()),
    "mlkd": (functional.mlkd, adakd.MLKD()),
    "anchored_kl": (functional.anchored_kl, adakd.Anchored()),
    "taylor_kl": (functional.taylor_kl, adakd.TaylorKL()),
    "dkd": (lambda s, t, tau: functional.dkd(s, t, TARGET, tau), adakd.DKD()),
    "reverse_kl": (functional.reverse_kl, adakd.ReverseKL()),
    "skewed_kl": (functional.skewed_kl, adakd.SkewedKL()),
    "jsd": (functional.jsd, adakd.JSD()),
    "ab": (functional.ab, adakd.AB()),
    "rld": (lambda s, t, tau: functional.rld(s, t, TARGET, tau), adakd.RLD()),
    "logit_distance": (lambda s, t, tau: functional.logit_distance(s, t), adakd.LogitDistance()),
    "correlation": (lambda s, t, tau: functional.correlation(s, t), adakd.Correlation()),
}
GENERATOR = torch.Generator().manual_seed(0)
STUDENT, TEACHER = (2 * torch.randn(6, 5, generator=GENERATOR, dtype=torch.float64) for _ in "st")
TARGET = torch.tensor([0, 1, 2, 3, 4, 0])
COLUMN = torch.rand(6, generator=GENERATOR, dtype=torch.float64) + 1


@pytest.mark.parametrize("tau", [3.0, COLUMN, (2.0, COLUMN)], ids=["number", "column", "sides"])
@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_its_module(name, tau):
    form, module = FORMS[name]
    sides = tau if isinstance(tau, tuple) else (tau, tau)
    columns = (torch.as_tensor(side, dtype=torch.float64).reshape(-1, 1) for side in sides)
    expected = module(STUDENT, TEACHER, TARGET, Temperatures(*columns))
    assert torch.equal(form(STUDENT, TEACHER, tau), expected)


def test_forms_differentiate_the_student_and_not_the_teacher():
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    functional.kl(student, teacher, 2.0).sum().backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda s: functional.kl(s, TEACHER, 2.0), STUDENT.clone().requires_grad_())


def test_half_precision_is_raised():
    assert functional.kl(STUDENT.half(), TEACHER.half(), 2.0).dtype == torch.float32


@pytest.mark.parametrize("tau", [0.0, -1.0, (1.0, 0.0)])
def test_a_temperature_is_above_zero(tau):
    with pytest.raises(ValueError, match="tau: expected temperatures above 0"):
        functional.kl(STUDENT, TEACHER, tau)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"of one shape \(N, K\), got \(6, 5\) and \(6, 4\)"):
        functional.kl(STUDENT, TEACHER[:, :4])


def test_every_pure_form_is_tested():
    others = {"peak", "pearson", "standardize"}  # of logits, and tested there
    assert set(FORMS) == set(functional.__all__) - others
