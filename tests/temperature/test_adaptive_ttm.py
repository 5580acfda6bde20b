"""Temperature-adaptive matching: scipy's minimum, the stationary equation, the regression slope and its limits."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from strategies import batches

from adakd import TTM, LogitObjective, Temperatures, pearson, standardize
from adakd.temperature import AdaptiveTTM
from adakd.temperature.adaptive_ttm import inverse_temperature

LOW, HIGH = 0.01, 10.0


def divergence(beta, s, t):
    return reference.kl(reference.log_softmax(beta * t), reference.log_softmax(s))


def scipys(s, t):
    """The lowest of the minima that a fine grid finds, made exact by scipy between its neighbours; its value."""
    grid = np.geomspace(LOW, HIGH, 200)
    values = [divergence(beta, s, t) for beta in grid]
    i = int(np.argmin(values))
    bounds = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
    found = minimize_scalar(divergence, bounds=bounds, args=(s, t), method="bounded", options={"xatol": 1e-9})
    return found.x, min(found.fun, *values)


def moments(beta, s, t):
    """Variance of t, and covariance of t and s, under softmax(beta t)."""
    p = torch.softmax(beta * t, dim=1)
    t, s = (x - (p * x).sum(1, keepdim=True) for x in (t, s))
    return (p * t * t).sum(1, keepdim=True), (p * t * s).sum(1, keepdim=True)


def made(classes, agreement, scale, rows=16, seed=0):
    """Pairs whose standardized logits have that correlation, the student's `scale` times as wide."""
    generator = torch.Generator().manual_seed(seed)
    teacher, noise = (torch.randn(rows, classes, generator=generator, dtype=torch.float64) for _ in "tn")
    teacher[::2, 0] += 3
    teacher = standardize(teacher)
    noise = noise - (noise * teacher).mean(1, keepdim=True) * teacher
    student = agreement * teacher + (1 - agreement**2) ** 0.5 * standardize(noise)
    return scale * student, 2 * teacher


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("agreement", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_it_is_scipys_minimum(classes, agreement, scale):
    student, teacher = made(classes, agreement, scale)
    beta = inverse_temperature(student, teacher, LOW, HIGH)
    agreeing = 0
    for b, s, t in zip(beta.flatten().numpy(), student.numpy(), teacher.numpy(), strict=True):
        expected, least = scipys(s, t)
        # Of two minima of nearly one depth the coarser grid may take the other: it is 17 values wide.
        assert divergence(b, s, t) <= least + 0.02 * abs(divergence(1e-9, s, t)) + 1e-9
        agreeing += abs(b - expected) < 1e-4 * expected + 1e-6
    assert agreeing >= 0.9 * len(beta)


@pytest.mark.parametrize("agreement", [0.5, 0.9])
def test_the_minimum_is_where_the_slope_of_the_regression_is_the_inverse_temperature(agreement):
    student, teacher = made(20, agreement, 2.0)
    beta = inverse_temperature(student, teacher, LOW, HIGH)
    inside = (beta > 1.001 * LOW) & (beta < 0.999 * HIGH)
    assert inside.double().mean() > 0.8
    variance, covariance = moments(beta, student, teacher)
    torch.testing.assert_close((beta * variance)[inside], covariance[inside], rtol=1e-6, atol=1e-9)


def test_of_small_logits_it_is_the_correlation_times_the_ratio_of_deviations():
    """Weights are then equal: on standardized logits the inverse temperature is what KL's limit is 1 minus of."""
    student, teacher = made(20, 0.8, 1.0)
    small = 1e-3
    beta = inverse_temperature(small * student, small * teacher, LOW, HIGH).squeeze(1)
    expected = pearson(student, teacher) * student.std(1) / teacher.std(1)
    torch.testing.assert_close(beta, expected, rtol=3e-3, atol=0)
    z = [small * standardize(x) for x in (student, teacher)]
    torch.testing.assert_close(
        inverse_temperature(*z, LOW, HIGH).squeeze(1), pearson(student, teacher), rtol=3e-3, atol=0
    )


@settings(max_examples=30)
@given(batch=batches(spread=True), factor=st.floats(0.02, 5), shift=st.floats(-20, 20))
def test_a_student_that_is_the_teacher_times_a_number(batch, factor, shift):
    teacher = batch[1] / 10
    rows = factor * teacher + shift, teacher
    temperatures = AdaptiveTTM()(*rows)
    assert TTM()(*rows, None, temperatures).abs().max() < 1e-9
    variance = moments(torch.full((len(teacher), 1), factor, dtype=torch.float64), *rows)[0]
    sure = variance > 1e-4  # where it is not nearly one-hot, and the number can be told
    torch.testing.assert_close(
        (1 / temperatures.teacher)[sure], torch.full_like(variance, factor)[sure], rtol=1e-3, atol=0
    )
    assert torch.equal(temperatures.student, torch.ones_like(temperatures.student))


@given(batch=batches())
def test_no_temperature_of_a_grid_is_nearer(batch):
    student, teacher, _ = batch[0] / 10, batch[1] / 10, batch[2]
    found = TTM()(student, teacher, None, AdaptiveTTM()(student, teacher))
    for tau in torch.logspace(-1, 2, 17, dtype=torch.float64):
        tau = tau.reshape(1, 1)
        assert (found <= TTM()(student, teacher, None, Temperatures(tau, tau)) + 1e-9).all()


def test_inside_the_bounds_the_temperature_needs_no_gradient():
    """At a minimum the derivative by it is 0: the gradient with it held is the numerical one of the whole."""
    student, teacher = made(6, 0.8, 2.0, rows=4)
    rule = AdaptiveTTM()

    def value(s):
        return TTM()(s, teacher, None, rule(s, teacher))

    assert torch.autograd.gradcheck(value, student.requires_grad_(), atol=1e-4, eps=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", [1e-6, 1e4, 1e18])
def test_finite_and_between_the_bounds(dtype, scale):
    generator = torch.Generator().manual_seed(0)
    student, teacher = ((scale * torch.randn(5, 7, generator=generator)).to(dtype) for _ in "st")
    terms = LogitObjective(TTM(), AdaptiveTTM(0.5, 20.0), ce_weight=0)(student, teacher, torch.arange(5))
    assert terms.total.isfinite()
    assert (terms.temperature.teacher >= 0.5).all()
    assert (terms.temperature.teacher <= 20.0).all()


def test_where_the_student_disagrees_it_is_as_hot_as_it_may_be():
    teacher = torch.tensor([[3.0, 0.0, -3.0]])
    assert AdaptiveTTM()(-teacher, teacher).teacher.item() == pytest.approx(100.0)


@pytest.mark.parametrize(("minimum", "maximum"), [(0.0, 4.0), (5.0, 4.0), (-1.0, 2.0)])
def test_it_refuses(minimum, maximum):
    with pytest.raises(ValueError, match="minimum"):
        AdaptiveTTM(minimum, maximum)
