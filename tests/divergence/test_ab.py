"""Alpha-beta divergence: its formula, its named points, its limits on the lines where a denominator is 0."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import batches

from adakd import KL, Fixed, LogitObjective, Temperatures
from adakd.divergence import AB, ReverseKL
from adakd.divergence.ab import power_excess
from adakd.temperature.difficulty import hellinger

POINTS = [(0.8, 0.3), (0.5, 0.5), (1.0, 1.0), (2.0, -0.5), (-0.5, 1.5), (-0.2, -0.3), (1.0, -0.9)]


def at(tau, dtype=torch.float64):
    tau = torch.full((1, 1), tau, dtype=dtype)
    return Temperatures(tau, tau)


def formula(alpha, beta, s, t, tau):
    """As it is printed, in NumPy, one row."""
    p, q = (np.exp(x / tau - np.logaddexp.reduce(x / tau)) for x in (t, s))
    total = alpha + beta
    summand = p**alpha * q**beta - alpha / total * p**total - beta / total * q**total
    return -(tau**2) / (alpha * beta) * summand.sum()


def pair(seed=0, batch=5, classes=7, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(batch, classes, generator=generator, dtype=dtype) for _ in "st"]


@pytest.mark.parametrize(("alpha", "beta"), POINTS)
@settings(max_examples=30)
@given(batch=batches(), tau=st.sampled_from([4.0, 10.0]))
def test_the_printed_formula(alpha, beta, batch, tau):
    student, teacher, _ = batch[0] / 4, batch[1] / 4, batch[2]
    ours = AB(alpha, beta)(student, teacher, None, at(tau))
    expected = [formula(alpha, beta, s, t, tau) for s, t in zip(student.numpy(), teacher.numpy(), strict=True)]
    torch.testing.assert_close(ours, torch.tensor(np.array(expected)), rtol=1e-7, atol=1e-9)


@given(batch=batches(), tau=st.sampled_from([0.5, 1.0, 4.0]))
def test_named_points(batch, tau):
    student, teacher, _ = batch
    rows = student, teacher, None, at(tau)
    close = {"rtol": 1e-7, "atol": 1e-9}
    torch.testing.assert_close(AB(1, 0)(*rows), KL()(*rows), **close)
    torch.testing.assert_close(AB(0, 1)(*rows), ReverseKL()(*rows), **close)
    squared = hellinger(student / tau, teacher / tau).squeeze(1).square()
    torch.testing.assert_close(AB(0.5, 0.5)(*rows), 4 * tau**2 * squared, **close)
    p, q = torch.softmax(teacher / tau, 1), torch.softmax(student / tau, 1)
    torch.testing.assert_close(AB(1, 1)(*rows), tau**2 * (p - q).square().sum(1) / 2, **close)
    apart = torch.log_softmax(teacher / tau, 1) - torch.log_softmax(student / tau, 1)
    torch.testing.assert_close(AB(0, 0)(*rows), tau**2 * apart.square().sum(1) / 2, **close)


# The point on a line, and the direction in which it is left.
LINES = [((0.0, 0.7), (1, 0)), ((0.7, 0.0), (0, 1)), ((0.6, -0.6), (1, 0)), ((0.0, 0.0), (1, 2))]


@pytest.mark.parametrize(("point", "way"), LINES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_continuous_across_the_singular_lines(point, way, dtype):
    """The printed formula loses all its digits there: in fp32 it divides 1e-7 by 1e-8."""
    student, teacher = pair(dtype=dtype)

    def both(step):
        leaf = student.clone().requires_grad_()
        value = AB(point[0] + step * way[0], point[1] + step * way[1])(leaf, teacher, None, at(2.0, dtype))
        return value.detach(), *torch.autograd.grad(value.sum(), leaf)

    on_it = both(0.0)
    for step in (1e-3, 1e-5, 1e-8, 1e-12, -1e-8, -1e-3):
        for near, exact in zip(both(step), on_it, strict=True):
            bound = 30 * abs(step) + 200 * torch.finfo(dtype).eps
            assert ((near - exact).abs() <= bound * (1 + exact.abs())).all(), step


@given(d=st.floats(-20, 0), alpha=st.floats(-2, 2), beta=st.floats(-2, 2))
def test_the_three_forms_are_one_number(d, alpha, beta):
    """Against the integral over the first exponent, in which nothing is divided by a small number."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    c = beta + alpha * (nodes + 1) / 2  # the derivative of (e^cd - 1)/c, by c
    x = c * d
    safe = np.where(abs(x) < 1e-3, 1.0, x)
    slope = np.where(abs(x) < 1e-3, 0.5 + x / 3 + x**2 / 8, (safe * np.exp(safe) - np.expm1(safe)) / safe**2)
    expected = (weights * d**2 * slope).sum() / 2
    ours = power_excess(alpha, beta, torch.tensor([d], dtype=torch.float64)).item()
    assert ours == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(batch=batches(), alpha=st.floats(0, 2), beta=st.floats(0, 2))
def test_it_is_a_divergence_and_exchanging_the_exponents_exchanges_the_sides(batch, alpha, beta):
    student, teacher, _ = batch
    value = AB(alpha, beta)(student, teacher, None, at(2.0))
    assert (value >= -1e-12).all()
    assert AB(alpha, beta)(teacher, teacher, None, at(2.0)).abs().max() < 1e-12
    exchanged = AB(beta, alpha)(teacher, student, None, at(2.0))
    torch.testing.assert_close(value, exchanged, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), [*POINTS, (1, 0), (0, 1), (0, 0), (0.5, -0.5)])
def test_gradient_is_the_numerical_one(alpha, beta):
    student, teacher = pair(batch=3, classes=5)
    divergence = AB(alpha, beta)
    assert torch.autograd.gradcheck(lambda s: divergence(s, teacher, None, at(2.0)), student.requires_grad_())


def test_near_the_teacher_every_one_of_them_is_the_same_quadratic():
    """With weights p^(alpha + beta): the second order has no direction."""
    student, teacher = pair()
    student = teacher + 1e-4 * student
    p = torch.softmax(teacher, 1)
    d = torch.log_softmax(student, 1) - torch.log_softmax(teacher, 1)
    for alpha, beta in [*POINTS, (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)]:
        value = AB(alpha, beta)(student, teacher, None, at(1.0))
        torch.testing.assert_close(value, (p ** (alpha + beta) * d**2).sum(1) / 2, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("alpha", "beta"), [(0.8, 0.3), (1, 0), (0, 1), (1e-6, 1e-6), (1e-9, 1.0), (3, 2)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_finite_at_the_extremes(alpha, beta, scale, dtype):
    student, teacher = pair(scale=scale, dtype=torch.float32)
    student = student.to(dtype).requires_grad_()
    terms = LogitObjective(AB(alpha, beta), Fixed(4.0), ce_weight=0)(
        student, teacher.to(dtype), torch.arange(5)
    )
    terms.total.backward()
    assert terms.total.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(("alpha", "beta", "name"), [(math.nan, 1, "alpha"), (1, math.inf, "beta")])
def test_it_refuses(alpha, beta, name):
    with pytest.raises(ValueError, match=f"{name}: expected a finite number"):
        AB(alpha, beta)


def test_it_says_what_it_is():
    assert repr(AB(0.25, 1)) == "AB(alpha=0.25, beta=1)"
