"""Numbers and properties of the series behind the maximum-logit temperature (section 3 of the paper)."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adakd import series

ORDERS = (1, 2, 3, 4, 5, 6, 7, 8, 11, 16, math.inf)


@pytest.mark.parametrize(
    ("order", "end", "factor"),
    [
        (1, 1.0, 1.0),
        (2, 0.7320508, 1.3660254),
        (3, 0.6988855, 1.4308496),
        (4, 0.6939031, 1.4411233),
        (5, 0.6932326, 1.4425173),
        (math.inf, math.log(2), 1.4426950),
    ],
)
def test_upper_end_and_factor(order, end, factor):
    assert series.upper_end(order) == pytest.approx(end, abs=6e-8)
    assert series.upper_factor(order) == pytest.approx(factor, abs=6e-8)


@pytest.mark.parametrize(
    ("order", "end", "factor"),
    [
        (1, -1.0, 1.0),
        (2, -2.7320508, 0.3660254),
        (3, -1.5960716, 0.6265383),
        (4, -3.2652960, 0.3062509),
        (5, -2.1806071, 0.4585879),
        (math.inf, -math.inf, 0.0),
    ],
)
def test_lower_end_and_factor(order, end, factor):
    assert series.lower_end(order) == pytest.approx(end, abs=6e-8)
    assert series.lower_factor(order) == pytest.approx(factor, abs=6e-8)


def test_factor_of_order_two_is_the_papers():
    assert series.upper_factor() == (1 + math.sqrt(3)) / 2  # Eq. 20, exactly: it multiplies every temperature
    assert series.lower_factor() == pytest.approx((math.sqrt(3) - 1) / 2, rel=1e-15)
    assert series.upper_factor() - series.lower_factor() == pytest.approx(1.0, rel=1e-15)


def test_upper_ends_fall_to_log_2():
    ends = [series.upper_end(order) for order in (*range(1, 15), math.inf)]
    assert all(a > b for a, b in itertools.pairwise(ends))
    assert ends[-2] - math.log(2) < 1e-10


def test_even_and_odd_orders_have_lower_ends_of_two_kinds():
    for order in range(1, 13):
        value = series.exp_taylor(series.lower_end(order), order)
        assert value == pytest.approx(0.0 if order % 2 else 2.0, abs=1e-9)
    # Within each kind the interval grows with the order.
    for first in (1, 2):
        ends = [series.lower_end(order) for order in range(first, 14, 2)]
        assert all(a > b for a, b in itertools.pairwise(ends))


@pytest.mark.parametrize("order", [order for order in ORDERS if order != math.inf])
def test_band_is_left_at_both_ends_and_nowhere_between(order):
    low, high = series.lower_end(order), series.upper_end(order)
    inside = [series.exp_taylor(x, order) for x in np.linspace(low, high, 502)[1:-1]]
    assert all(0 < f < 2 for f in inside)
    assert not 0 < series.exp_taylor(low - 1e-9, order) < 2
    assert not 0 < series.exp_taylor(high + 1e-9, order) < 2


@pytest.mark.parametrize("order", ORDERS)
def test_composed_series_converges_inside(order):
    """log f_n by its series in u = f_n - 1, at points that fill the interval up to 5 % of its ends."""
    low, high = max(series.lower_end(order), -3.0), series.upper_end(order)
    for x in np.linspace(0.95 * low, 0.95 * high, 25):
        f = series.exp_taylor(x, order)
        assert series.log_series(f - 1, 2000) == pytest.approx(math.log(f), abs=1e-9)


@pytest.mark.parametrize("order", ORDERS)
def test_composed_series_diverges_outside(order):
    for x in (1.1 * series.upper_end(order), 1.1 * series.lower_end(order)):
        f = series.exp_taylor(x, order)
        if not math.isfinite(x) or f <= 0:
            continue  # there is no logarithm to miss
        errors = [abs(series.log_series(f - 1, terms) - math.log(f)) for terms in (50, 100, 200)]
        assert errors[0] < errors[1] < errors[2]
        assert errors[2] > 1


def test_composed_series_converges_at_the_upper_end_itself():
    # u = 1: the alternating harmonic series, log 2 to within one term.
    assert series.log_series(1.0, 10_000) == pytest.approx(math.log(2), abs=1e-4)


@given(st.floats(-5, 5), st.integers(1, 30))
def test_exp_taylor_is_the_sum_of_its_terms(x, order):
    terms = [x**i / math.factorial(i) for i in range(order + 1)]
    assert series.exp_taylor(x, order) == pytest.approx(math.fsum(terms), rel=1e-11, abs=1e-11)
    assert series.exp_taylor(x, math.inf) == math.exp(x)


@given(st.floats(-0.999, 1), st.integers(1, 40))
def test_log_series_is_within_its_remainder(u, terms):
    bound = abs(u) ** (terms + 1) / ((terms + 1) * min(1.0, 1 + u))
    assert abs(series.log_series(u, terms) - math.log1p(u)) <= bound + 1e-14


@given(st.integers(2, 200), st.integers(0, 2**32 - 1))
def test_samuelson_bounds_hold(classes, seed):
    random = np.random.RandomState(seed)
    v = random.standard_t(2, classes)
    assume(v.std() > 0)
    low, high = series.samuelson_bounds(classes)
    assert low - 1e-12 <= ((v - v.mean()) / v.std()).max() <= high + 1e-12


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000])
def test_samuelson_bounds_are_reached(classes):
    low, high = series.samuelson_bounds(classes)
    peak = np.eye(classes)[0]
    assert ((peak - peak.mean()) / peak.std()).max() == pytest.approx(high, rel=1e-12)
    assert ((peak.mean() - peak) / peak.std()).max() == pytest.approx(low, rel=1e-12)


def test_range_of_the_maximum_logit_temperature():
    assert series.upper_factor() * series.samuelson_bounds(10)[1] == pytest.approx(4.098, abs=5e-4)
    assert series.upper_factor() * series.samuelson_bounds(100)[1] == pytest.approx(13.59, abs=5e-3)


@pytest.mark.parametrize("order", [0, -1, 2.5, "2", None, -math.inf, math.nan])
def test_orders_that_do_not_exist(order):
    for function in (series.upper_end, series.lower_end, series.upper_factor, series.lower_factor):
        with pytest.raises(ValueError, match="order: expected an integer of at least 1"):
            function(order)
    with pytest.raises(ValueError, match="order"):
        series.exp_taylor(0.5, order)


def test_other_wrong_arguments():
    for terms in (0, -3, 1.5):
        with pytest.raises(ValueError, match="terms: expected an integer of at least 1"):
            series.log_series(0.5, terms)
    with pytest.raises(ValueError, match="num_classes: expected at least 2, got 1"):
        series.samuelson_bounds(1)
