"""Numbers and properties of the series behind the maximum-logit temperature (section 3 of the paper)."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adakd import series, theory
from adakd.theory import partition

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


# ---- zeros in the complex plane ----


def log_coefficients(moments):
    """Taylor coefficients of the logarithm of a series m_0 + m_1 s + ..., m_0 = 1: k a_k from s Z' = Z (s A')."""
    scaled = np.zeros(len(moments))  # k a_k
    for k in range(1, len(moments)):
        scaled[k] = k * moments[k] - scaled[1:k] @ moments[1:k][::-1]
    return scaled / np.maximum(1, np.arange(len(moments)))


def row_coefficients(row, radius, terms):
    """Of log Z(s) / K, with s in units of `radius`, so that none overflows."""
    powers = np.arange(1, terms) / (np.asarray(row, dtype=float)[:, None] * radius)
    return log_coefficients(np.concatenate([[1.0], np.cumprod(1 / powers, axis=1).mean(0)]))


def brute_force_radius(row, reach):
    """Newton's method on Z from every point of a grid over the upper half disc |s| < reach."""
    row = np.asarray(row, dtype=float)
    row = row - row.mean()
    side = np.linspace(-reach, reach, 121)
    s = (side[:, None] + 1j * side[None, 60:]).ravel()
    for _ in range(40):
        e = np.exp(s[:, None] * row)
        with np.errstate(all="ignore"):
            s = s - e.sum(1) / (e @ row)
        s = s[np.isfinite(s) & (np.abs(s) < 3 * reach)]
    e = np.exp(s[:, None] * row)
    return np.abs(s[np.abs(e.sum(1)) < 1e-10 * np.abs(e).sum(1)]).min()


def random_row(seed, classes):
    return np.random.RandomState(seed).standard_t(3, classes)


@pytest.mark.parametrize(("order", "radius"), [(1, 1.0), (2, 2**0.5), (3, 1.5960716), (4, 1.9445444)])
def test_taylor_radius(order, radius):
    assert series.taylor_radius(order) == pytest.approx(radius, abs=6e-8)
    assert series.taylor_radius() == math.sqrt(2)


@pytest.mark.parametrize("order", [*range(1, 13), 25, 40])
def test_taylor_zeros_are_those_of_the_polynomial(order):
    zeros = series.taylor_zeros(order)
    assert len(zeros) == order
    # f_n = prod (1 - x / zero): the sum of the zeros is -n, their product (-1)^n n!, and so on.
    assert sum(zeros) == pytest.approx(-order, abs=1e-12 * order)
    assert math.fsum(math.log(abs(x)) for x in zeros) == pytest.approx(
        math.lgamma(order + 1), abs=1e-12 * order
    )
    for x in (0.7, -0.4 + 1.1j, 2.3j):
        value = sum(x**i / math.factorial(i) for i in range(order + 1))
        assert np.prod([1 - x / zero for zero in zeros]) == pytest.approx(value, rel=1e-12)
    assert len({(round(x.real, 6), round(x.imag, 6)) for x in zeros}) == order
    assert {x.conjugate() for x in zeros} == set(zeros)
    moduli = [abs(x) for x in zeros]
    assert moduli == pytest.approx(sorted(moduli), rel=1e-9)
    assert series.taylor_radius(order) == moduli[0]


@pytest.mark.parametrize("order", range(1, 13))
def test_real_taylor_zero_is_the_lower_end(order):
    real = [x.real for x in series.taylor_zeros(order) if x.imag == 0]
    assert real == ([pytest.approx(series.lower_end(order), rel=1e-14)] if order % 2 else [])


@pytest.mark.parametrize("order", range(1, 9))
def test_taylor_radius_by_the_root_test(order):
    """Coefficients of log f_n: k |a_k| R^k -> |2 cos(k phi)| for a pair of zeros, 1 for one real zero."""
    radius = series.taylor_radius(order)
    moments = [radius**i / math.factorial(i) if i <= order else 0.0 for i in range(401)]
    size = np.abs(log_coefficients(np.array(moments)) * np.arange(401))[200:]
    assert size.max() == pytest.approx(1 if order % 2 else 2, rel=0.02)


def test_exponential_has_no_zeros():
    assert series.taylor_zeros(math.inf) == []
    assert series.taylor_radius(math.inf) == math.inf
    radii = [series.taylor_radius(order) for order in range(1, 41)]
    assert all(a < b for a, b in itertools.pairwise(radii))


@pytest.mark.parametrize(
    ("classes", "limit"),  # tau / m, rounded as the book prints them
    [(10, 0.2898), (100, 0.1815), (1000, 0.1319)],
)
def test_single_peak_radius(classes, limit):
    assert 1 / series.single_peak_radius(1.0, classes) == pytest.approx(limit, abs=6e-5)
    for peak in (0.3, 7.0, -7.0):
        row = [peak] + (classes - 1) * [-peak / (classes - 1)]
        closed = series.single_peak_radius(peak, classes)
        assert series.partition_radius(row) == pytest.approx(closed, rel=1e-12)
        assert closed == pytest.approx(1 / (limit * abs(peak)), rel=5e-4)


def test_known_single_peak():
    assert series.single_peak_radius(7.0, 100) == pytest.approx(0.787, abs=5e-4)
    zero = series.partition_zero([7.0] + 99 * [-7.0 / 99])
    assert zero == pytest.approx(complex(math.log(99), math.pi) * 99 / 700, rel=1e-12)
    # Where the real part ends, the peak has as much weight as all others together.
    assert math.exp(7.0 * zero.real) == pytest.approx(99 * math.exp(-7.0 / 99 * zero.real), rel=1e-12)


@pytest.mark.parametrize("low_count", [1, 2, 7, 40])
def test_two_valued_rows_have_a_closed_form(low_count):
    row = 10 * [2.5] + low_count * [-1.0]
    expected = complex(math.log(low_count / 10), math.pi) / 3.5  # e^(3.5 s) = -low / 10
    assert series.partition_zero(row) == pytest.approx(expected, rel=1e-12)


def test_two_classes():
    assert series.partition_zero([4.0, 1.0]) == pytest.approx(1j * math.pi / 3, rel=1e-12)
    assert series.single_peak_radius(1.5, 2) == pytest.approx(math.pi / 3, rel=1e-15)


@pytest.mark.parametrize("values", [[0, 1, 1, 2], [0, 1, 1, 1, 2, 2, 2, 3], 2 * [0, 1, 1, 2]])
def test_multiple_zeros(values):
    # (1 + e^s)^2 and ^3: every zero is multiple, and known to fewer digits.
    assert series.partition_radius(values) == pytest.approx(math.pi, rel=1e-4)


@pytest.mark.parametrize("classes", [3, 4, 5, 7, 10, 12, 30])
@pytest.mark.parametrize("seed", range(6))
def test_random_rows_against_brute_force(classes, seed):
    row = random_row(seed, classes)
    radius = series.partition_radius(row)
    assert brute_force_radius(row, 1.3 * radius) == pytest.approx(radius, rel=1e-9)


@pytest.mark.parametrize("classes", [4, 10, 100, 1000])
def test_root_test_on_the_series_of_log_z(classes):
    """k |a_k| R^k is a sum over zeros of (R / zero)^k: at most 2 from the nearest pair, and little from the others."""
    row = random_row(3, classes)
    row -= row.mean()
    zero = series.partition_zero(row)
    size = (row_coefficients(row, abs(zero), 400) * np.arange(400))[250:]
    nearest = [2 * math.cos(k * np.angle(zero)) for k in range(250, 400)]
    assert np.abs(size).max() == pytest.approx(2, rel=0.01)
    assert np.abs(size + nearest).max() < 0.02  # the sign of log(1 - s / zero)


@pytest.mark.parametrize("low_count", [1, 9])
@pytest.mark.parametrize("radius", [3.0, 3.9, 9.7, 40.0, 159.0])
def test_zeros_in_a_disc_are_counted(low_count, radius):
    """e^s = -low_count has its zeros at ln(low_count) + (2j + 1) i pi."""
    row = np.array([1.0] + low_count * [0.0])
    count, _ = partition._Partition(row - row.mean()).zeros_inside(radius)
    assert count == 2 * sum(math.hypot(math.log(low_count), (2 * j + 1) * math.pi) < radius for j in range(100))


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.floats(0.01, 100), st.floats(-50, 50))
@settings(max_examples=40, deadline=None)
def test_partition_radius_of_scaled_shifted_and_permuted_rows(seed, classes, scale, shift):
    row = random_row(seed, classes)
    radius = series.partition_radius(row)
    assert series.partition_radius(scale * row) == pytest.approx(radius / scale, rel=1e-6)
    assert series.partition_radius(-row) == pytest.approx(radius, rel=1e-6)  # Z(-s)
    assert series.partition_radius(row + shift) == pytest.approx(radius, rel=1e-6)
    assert series.partition_radius(row[::-1].tolist()) == pytest.approx(radius, rel=1e-6)
    assert radius >= math.pi / np.ptp(row) * (1 - 1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_partition_zero_is_one_of_a_conjugate_pair(seed):
    row = random_row(seed, 10)
    zero = series.partition_zero(row)
    assert zero.imag > 0
    for s in (zero, zero.conjugate()):
        assert abs(np.exp(s * row).sum()) < 1e-10 * np.abs(np.exp(s * row)).sum()
    assert series.partition_radius(row) == abs(zero)


def test_two_sided_temperature_can_lie_below_the_expansion_of_log_z():
    """15 classes up and 4 down: every x = z / tau is inside the paper's interval, and tau outside the radius."""
    row = np.array(15 * [4.0] + 4 * [-15.0]) / math.sqrt(60)
    two_sided = max(series.upper_factor() * row.max(), -series.lower_factor() * row.min())
    assert 1.01 * two_sided < 1 / series.partition_radius(row)
    # The absolute rule cannot: there the range of x is at most 2 (sqrt 3 - 1) < pi.
    assert series.upper_factor() * np.abs(row).max() > 2 / series.partition_radius(row)


def test_constant_rows_have_no_zeros():
    assert series.partition_radius([1.5, 1.5, 1.5]) == math.inf
    assert series.single_peak_radius(0.0, 10) == math.inf
    with pytest.raises(ValueError, match="expected two different numbers"):
        series.partition_zero([1.5, 1.5, 1.5])


def test_wrong_rows_and_peaks():
    for row, message in (
        ([], "at least 2 numbers, got shape"),
        ([1.0], "at least 2 numbers, got shape"),
        ([[1.0, 2.0]], r"got shape \(1, 2\)"),
        ([1.0, math.nan], "expected finite numbers"),
        ([1.0, -math.inf], "expected finite numbers"),
    ):
        for function in (series.partition_radius, series.partition_zero):
            with pytest.raises(ValueError, match=message):
                function(row)
    with pytest.raises(ValueError, match="num_classes: expected at least 2, got 1"):
        series.single_peak_radius(3.0, 1)
    with pytest.raises(ValueError, match="peak: expected a finite logit"):
        series.single_peak_radius(math.inf, 10)
    for function in (series.taylor_zeros, series.taylor_radius):
        for order in (0, -1, 2.5, "2", None, -math.inf, math.nan):
            with pytest.raises(ValueError, match="order: expected an integer of at least 1"):
                function(order)
        with pytest.raises(ValueError, match="up to order 40"):
            function(41)


def test_the_chapters_name_is_the_same_functions():
    assert series.__all__ == theory.__all__
    assert all(getattr(series, name) is getattr(theory, name) for name in theory.__all__)
    assert sorted(theory.__all__) == sorted([*theory.series.__all__, *partition.__all__])
