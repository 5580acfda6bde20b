"""Reverse KL, skewed KL and generalized Jensen-Shannon: references, limits, bounds, and that they part at low temperature."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from strategies import batches

from adakd import KL, Fixed, LogitObjective, Temperatures
from adakd.divergence import JSD, ReverseKL, SkewedKL
from adakd.divergence.skewed_kl import log_mixture

TAUS = st.sampled_from([0.5, 1.0, 4.0])
SHARES = st.sampled_from([0.0, 0.1, 0.5, 0.9])
ALL = [ReverseKL(), SkewedKL(), SkewedKL(0.1, reverse=True), JSD(), JSD(0.1), JSD(0.0), JSD(1.0)]
every = pytest.mark.parametrize("divergence", ALL, ids=repr)


def at(tau):
    tau = torch.full((1, 1), tau, dtype=torch.float64)
    return Temperatures(tau, tau)


def probabilities(batch, tau):
    return tuple(torch.softmax(x / tau, dim=1).numpy() for x in (batch[1], batch[0]))


def agree(value, expected, tau):
    np.testing.assert_allclose(value.numpy(), tau**2 * expected, rtol=1e-7, atol=1e-9)


@given(batch=batches(), tau=TAUS)
def test_reverse_kl_is_scipys(batch, tau):
    p, q = probabilities(batch, tau)
    with np.errstate(divide="ignore", over="ignore"):
        expected = rel_entr(q, p).sum(1)
    agree(ReverseKL()(*batch[:2], None, at(tau)), expected, tau)


@given(batch=batches(), tau=TAUS, skew=SHARES)
def test_skewed_kl_is_scipys(batch, tau, skew):
    p, q = probabilities(batch, tau)
    rows = *batch[:2], None, at(tau)
    agree(SkewedKL(skew)(*rows), rel_entr(p, skew * p + (1 - skew) * q).sum(1), tau)
    agree(SkewedKL(skew, reverse=True)(*rows), rel_entr(q, (1 - skew) * p + skew * q).sum(1), tau)


@given(batch=batches(), tau=TAUS, beta=st.sampled_from([0.01, 0.3, 0.5, 0.9]))
def test_jsd_is_scipys(batch, tau, beta):
    p, q = probabilities(batch, tau)
    m = beta * p + (1 - beta) * q
    expected = beta * rel_entr(p, m).sum(1) + (1 - beta) * rel_entr(q, m).sum(1)
    agree(JSD(beta)(*batch[:2], None, at(tau)), expected, tau)
    agree(JSD(0.5)(*batch[:2], None, at(tau)), jensenshannon(p, q, axis=1) ** 2, tau)


@given(batch=batches(), tau=TAUS)
def test_the_ends_are_the_two_directions(batch, tau):
    rows = *batch[:2], None, at(tau)
    kl, reverse = KL()(*rows), ReverseKL()(*rows)
    assert torch.equal(SkewedKL(0.0)(*rows), kl)
    assert torch.equal(JSD(0.0)(*rows), kl)
    assert torch.equal(SkewedKL(0.0, reverse=True)(*rows), reverse)
    assert torch.equal(JSD(1.0)(*rows), reverse)
    torch.testing.assert_close(ReverseKL()(batch[1], batch[0], None, at(tau)), kl)


def test_jsd_tends_to_both_directions():
    generator = torch.Generator().manual_seed(1)
    rows = *(2 * torch.randn(6, 8, generator=generator, dtype=torch.float64) for _ in "st"), None, at(2.0)
    errors = []
    for beta in (1e-2, 1e-3, 1e-4):
        forward = (JSD(beta)(*rows) / beta - KL()(*rows)).abs().max()
        reverse = (JSD(1 - beta)(*rows) / beta - ReverseKL()(*rows)).abs().max()
        errors.append((forward, reverse))
    for coarse, fine in itertools.pairwise(errors):
        assert all(f < c / 5 for c, f in zip(coarse, fine, strict=True))


@given(batch=batches(), beta=st.floats(0.01, 0.99), skew=st.floats(0.01, 0.99))
def test_bounds(batch, beta, skew):
    rows = *batch[:2], None, at(1.0)
    assert (JSD(beta)(*rows) <= -beta * math.log(beta) - (1 - beta) * math.log1p(-beta) + 1e-12).all()
    for reverse in (False, True):
        value = SkewedKL(skew, reverse)(*rows)
        assert (value <= -math.log(skew) + 1e-12).all()
        assert (value >= -1e-12).all()


@every
@given(batch=batches())
def test_invariances(divergence, batch):
    student, teacher, _ = batch
    value = divergence(student, teacher, None, at(2.0))
    torch.testing.assert_close(divergence(student.flip(1), teacher.flip(1), None, at(2.0)), value)
    torch.testing.assert_close(divergence(student + 3.5, teacher - 2.0, None, at(2.0)), value)
    torch.testing.assert_close(divergence(3 * student, 3 * teacher, None, at(6.0)), 9 * value)
    assert divergence(teacher + 1, teacher, None, at(2.0)).abs().max() < 1e-12


@every
def test_gradient_is_the_numerical_one_and_sums_to_zero(divergence):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(3, 5, generator=generator, dtype=torch.float64) for _ in "st")
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: divergence(s, teacher, None, at(2.0)), student)
    (gradient,) = torch.autograd.grad(divergence(student, teacher, None, at(2.0)).sum(), student)
    assert gradient.sum(1).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("divergence", "factor"),
    [
        (ReverseKL(), 1.0),
        (SkewedKL(0.1), 0.81),
        (SkewedKL(0.1, True), 0.81),
        (JSD(0.5), 0.25),
        (JSD(0.1), 0.09),
    ],
    ids=repr,
)
def test_at_high_temperature_they_are_kl_times_a_number(divergence, factor):
    """Second order has no direction: what is left between them is their size."""
    generator = torch.Generator().manual_seed(0)
    rows = *(2 * torch.randn(4, 9, generator=generator, dtype=torch.float64) for _ in "st"), None
    torch.testing.assert_close(divergence(*rows, at(1e4)), factor * KL()(*rows, at(1e4)), rtol=2e-3, atol=0)
    assert not torch.allclose(divergence(*rows, at(1.0)), factor * KL()(*rows, at(1.0)), rtol=0.05)


def test_the_reverse_gradient_in_closed_form():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in "st")
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(ReverseKL()(student, teacher, None, at(3.0)).sum(), student)
    q = torch.softmax(student / 3, 1)
    d = q.log() - torch.log_softmax(teacher / 3, 1)
    torch.testing.assert_close(gradient, 3 * q * (d - (q * d).sum(1, keepdim=True)))


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_finite_at_the_extremes(divergence, dtype, scale):
    generator = torch.Generator().manual_seed(0)
    student, teacher = ((scale * torch.randn(5, 7, generator=generator)).to(dtype) for _ in "st")
    student[0], teacher[1] = 0.0, 0.0
    student.requires_grad_()
    terms = LogitObjective(divergence, Fixed(1.0), ce_weight=0)(student, teacher, torch.arange(5))
    terms.total.backward()
    assert terms.total.isfinite()
    assert student.grad.isfinite().all()


def test_a_mixture_in_log_space():
    a, b = torch.tensor([[0.3, 0.7]]), torch.tensor([[0.6, 0.4]])
    for share in (0.0, 0.25, 1.0):
        torch.testing.assert_close(log_mixture(a.log(), b.log(), share).exp(), share * a + (1 - share) * b)
    far = log_mixture(torch.tensor([[0.0, -1e5]]), torch.tensor([[-1e5, 0.0]]), 0.5)
    torch.testing.assert_close(far, torch.full((1, 2), -math.log(2)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SkewedKL(1.0), "skew: expected a number from 0 to below 1, got 1.0"),
        (lambda: SkewedKL(-0.1), "skew: expected"),
        (lambda: JSD(1.5), "mixture: expected a number from 0 to 1, got 1.5"),
        (lambda: JSD(math.nan), "mixture: expected"),
    ],
)
def test_they_refuse(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_they_say_what_they_are():
    assert repr(SkewedKL(0.2, True)) == "SkewedKL(skew=0.2, reverse=True)"
    assert repr(JSD(0.25)) == "JSD(mixture=0.25)"
