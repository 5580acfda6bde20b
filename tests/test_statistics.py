"""Intervals, tests and power: against closed forms, against SciPy and enumeration, and against simulation."""

import itertools
import math
import statistics as standard

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from adakd.statistics import (
    Interval,
    bootstrap_interval,
    detectable_difference,
    holm,
    mean_interval,
    median_interval,
    paired_interval,
    pairs_needed,
    power_of_sign_test,
    sign_test,
    signed_rank_test,
)

numbers = st.floats(-100, 100, allow_nan=False).map(lambda x: round(x, 2))
several = st.lists(numbers, min_size=2, max_size=12)


def within(share, expected, draws, sigmas=3.5):
    """A share of draws within its binomial error; at fixed seeds, so it either always holds or never."""
    return abs(share - expected) < sigmas * math.sqrt(expected * (1 - expected) / draws)


# ---- intervals ----


@given(several)
def test_mean_interval_is_students(values):
    found = mean_interval(values, 0.9)
    assert found.estimate == pytest.approx(standard.fmean(values))
    assert (found.n, found.level) == (len(values), 0.9)
    half = stats.t.ppf(0.95, len(values) - 1) * standard.stdev(values) / math.sqrt(len(values))
    assert found.high - found.estimate == pytest.approx(half, abs=1e-9)
    assert found.estimate - found.low == pytest.approx(half, abs=1e-9)


def test_mean_interval_of_two_has_a_closed_form():
    """With one degree of freedom t is Cauchy: its 97.5 % quantile is tan(0.475 π)."""
    found = mean_interval([1.0, 3.0])
    assert found.high == pytest.approx(2 + math.tan(0.475 * math.pi))


@pytest.mark.parametrize("interval", [mean_interval, median_interval, bootstrap_interval])
def test_one_value_has_a_mean_and_no_interval(interval):
    found = interval([71.5])
    assert found.estimate == 71.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.n == 1
    assert 71.5 not in found


@pytest.mark.parametrize("interval", [mean_interval, median_interval, bootstrap_interval])
def test_equal_values_have_an_interval_without_width(interval):
    found = interval([2.5] * 6)
    assert (found.low, found.estimate, found.high) == (2.5, 2.5, 2.5)


@given(several, st.integers(0, 5))
def test_bootstrap_interval_is_deterministic_and_holds_the_mean(values, seed):
    found = bootstrap_interval(values, seed=seed)
    assert found == bootstrap_interval(np.array(values), seed=seed)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


@given(st.lists(numbers, min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_median_interval_is_scipys(values, level):
    """SciPy inverts the quantile test: the same order statistics, found another way."""
    # Of two values the whole range has exactly one half; SciPy's rounding decides there, ours is in the next test.
    assume(not (len(values) == 2 and level == 0.5))
    found = median_interval(values, level)
    expected = stats.quantile_test(values, p=0.5).confidence_interval(level)
    assert found.estimate == pytest.approx(standard.median(values))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), nan_ok=True)


def test_of_two_values_the_range_holds_the_median_half_of_the_time():
    found = median_interval([3.0, 1.0], 0.5)
    assert (found.low, found.high) == (1.0, 3.0)


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (9, 2), (10, 2), (100, 40), (300, 133), (2000, 956)])
def test_median_interval_lies_between_the_ranks_of_the_tables(n, rank):
    found = median_interval(list(range(n, 0, -1)))
    assert (found.low, found.high) == (rank, n + 1 - rank)


def test_median_interval_holds_the_median_of_a_distribution_without_a_mean():
    draws = np.random.default_rng(0).standard_cauchy((2000, 50)) + 3
    held = np.mean([3 in median_interval(row) for row in draws])
    least = 1 - 2 * stats.binom.cdf(17, 50, 0.5)  # k = 18
    assert least >= 0.95
    assert within(held, least, 2000)


def test_five_values_have_a_median_and_no_interval_at_95_percent():
    found = median_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.estimate == 3
    assert math.isnan(found.low)
    assert 3 not in found


def test_bootstrap_interval_is_scipys():
    values = np.random.default_rng(0).exponential(size=12)
    expected = stats.bootstrap((values,), np.mean, confidence_level=0.9, rng=np.random.default_rng(7))
    found = bootstrap_interval(values, 0.9, seed=7)
    assert (found.low, found.high) == tuple(expected.confidence_interval)
    assert found != bootstrap_interval(values, 0.9, seed=8)


def test_students_interval_covers_as_often_as_it_says():
    generator = np.random.default_rng(1)
    draws = 2000
    for n, level in ((2, 0.95), (5, 0.95), (5, 0.8)):
        samples = generator.normal(3.0, 2.0, (draws, n))
        assert within(np.mean([3.0 in mean_interval(sample, level) for sample in samples]), level, draws)


def test_bootstrap_covers_nearly_as_often_on_a_skewed_sample():
    generator = np.random.default_rng(2)
    samples = generator.exponential(size=(200, 30))
    covered = np.mean([1.0 in bootstrap_interval(sample) for sample in samples])
    assert 0.88 < covered < 0.985  # known to be a little short of 0.95 at this size


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=12))
def test_paired_interval_is_of_the_differences(pairs):
    a, b = zip(*pairs, strict=True)
    found = paired_interval(a, b)
    assert found == mean_interval(np.array(a) - np.array(b))
    other = paired_interval(b, a)
    assert (-other.high, -other.estimate, -other.low) == pytest.approx((found.low, found.estimate, found.high))


def test_pairing_removes_what_the_pairs_share():
    generator = np.random.default_rng(3)
    shared = generator.normal(0, 5, 10)
    a, b = shared + generator.normal(0.3, 0.1, 10), shared
    assert 0.3 in paired_interval(a, b)
    assert 0.0 not in paired_interval(a, b)
    assert 0.0 in mean_interval(a)


def test_an_interval_formats_its_three_numbers():
    found = Interval(0.476, 0.101, 0.852, 14, 0.95)
    assert f"{found:+.2f}" == "+0.48 [+0.10, +0.85]"
    assert 0.2 in found
    assert 0.0 not in found


# ---- tests ----


@given(st.integers(0, 40), st.integers(0, 40))
def test_sign_test_is_the_binomial_tail_doubled(wins, losses):
    n, fewer = wins + losses, min(wins, losses)
    tail = sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n
    assert sign_test(wins, losses) == pytest.approx(min(1.0, 2 * tail))
    assert sign_test(wins, losses) == sign_test(losses, wins)


def test_sign_test_of_ties_alone_says_nothing():
    assert sign_test(0, 0) == 1.0


def enumerated(differences):
    """The signed-rank test by all sign patterns."""
    kept = [round(d, 9) for d in differences if round(d, 9) != 0]
    ranks = stats.rankdata(np.abs(kept))
    sums = [
        sum(r for r, positive in zip(ranks, signs, strict=True) if positive)
        for signs in itertools.product((0, 1), repeat=len(kept))
    ]
    found = sum(r for r, d in zip(ranks, kept, strict=True) if d > 0)
    low, high = np.mean([s <= found for s in sums]), np.mean([s >= found for s in sums])
    return min(1.0, 2 * min(low, high))


@given(st.lists(st.integers(-6, 6).map(lambda k: k / 100), min_size=1, max_size=9))
def test_signed_rank_test_counts_sign_patterns_with_ties_and_zeros(differences):
    expected = enumerated(differences) if any(differences) else 1.0
    assert signed_rank_test(differences) == pytest.approx(expected)
    assert signed_rank_test([-d for d in differences]) == pytest.approx(expected)


def test_signed_rank_test_is_scipys_where_nothing_ties():
    differences = np.random.default_rng(4).normal(0.3, 1, 25)
    expected = stats.wilcoxon(differences, method="exact").pvalue
    assert signed_rank_test(differences) == pytest.approx(expected)


def test_signed_rank_test_ties_what_rounding_error_parts():
    assert 0.3 - 0.2 != 0.2 - 0.1
    exact = signed_rank_test([1, -1, 2, 3])
    assert signed_rank_test([0.3 - 0.2, -(0.2 - 0.1), 0.2, 0.3]) == exact


def test_signed_rank_test_stays_exact_for_many():
    """All of one sign: one pattern in 2^n on either side."""
    assert signed_rank_test(range(1, 101)) == pytest.approx(2.0**-99, rel=1e-9)


def test_tests_err_as_often_as_they_may():
    """Without an effect p ≤ 0.05 comes at most that often; the sign test at just its own rate."""
    generator = np.random.default_rng(5)
    draws = 2000
    samples = generator.normal(0, 1, (draws, 14))
    wins = (samples > 0).sum(1)
    signs = np.mean([sign_test(int(k), 14 - int(k)) <= 0.05 for k in wins])
    assert within(signs, power_of_sign_test(14, 0.5), draws)
    ranks = np.mean([signed_rank_test(sample) <= 0.05 for sample in samples])
    assert ranks < 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / draws)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_adjusts_step_by_step(p_values):
    found = holm(p_values)
    m = len(p_values)
    running = 0.0
    for step, index in enumerate(sorted(range(m), key=p_values.__getitem__)):
        running = max(running, min(1.0, (m - step) * p_values[index]))
        assert found[index] == pytest.approx(running)
    bonferroni = [min(1.0, m * p) for p in p_values]
    pairs = zip(p_values, found, bonferroni, strict=True)
    assert all(raw <= adjusted <= most + 1e-12 for raw, adjusted, most in pairs)


def test_holm_keeps_the_family_wise_error():
    generator = np.random.default_rng(6)
    draws = 2000
    families = generator.uniform(size=(draws, 8))  # eight true null hypotheses
    assert within(np.mean([min(holm(family)) <= 0.05 for family in families]), 1 - (1 - 0.05 / 8) ** 8, draws)


# ---- power ----


@pytest.mark.parametrize("probability", [0.5, 0.6, 0.75, 0.95])
def test_power_of_sign_test_by_simulation(probability):
    draws = 4000
    wins = np.random.default_rng(7).binomial(14, probability, draws)
    share = np.mean([sign_test(int(k), 14 - int(k)) <= 0.05 for k in wins])
    assert within(share, power_of_sign_test(14, probability), draws)


def test_power_of_sign_test_at_its_ends():
    assert power_of_sign_test(5, 1.0) == 0.0  # 5 of 5 has p = 1/16
    assert power_of_sign_test(6, 1.0) == 1.0
    assert power_of_sign_test(20, 0.5) <= 0.05


@pytest.mark.parametrize(("n", "power"), [(2, 0.5), (5, 0.8), (14, 0.8), (14, 0.95)])
def test_detectable_difference_by_simulation(n, power):
    draws = 20_000
    difference = detectable_difference(1.5, n, power=power)
    samples = np.random.default_rng(8).normal(difference, 1.5, (draws, n))
    p = stats.ttest_1samp(samples, 0, axis=1).pvalue
    assert within(np.mean(p <= 0.05), power, draws)


def test_detectable_difference_nears_the_normal_formula():
    n = 10_000
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert detectable_difference(2.0, n) == pytest.approx(2.0 * z / math.sqrt(n), rel=1e-3)


def test_one_pair_shows_nothing():
    assert detectable_difference(0.1, 1) == math.inf


@given(st.floats(0.05, 3), st.floats(0.05, 3))
def test_pairs_needed_is_the_fewest(difference, spread):
    n = pairs_needed(difference, spread)
    assert detectable_difference(spread, n) <= difference
    assert n == 2 or detectable_difference(spread, n - 1) > difference


def test_pairs_needed_has_the_textbook_values():
    """Cohen's medium and large effects, by any table of the paired t test."""
    assert [pairs_needed(effect, 1.0) for effect in (0.2, 0.5, 0.8)] == [199, 34, 15]


# ---- what is refused ----


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([]), "values: expected a sequence of at least one number"),
        (lambda: mean_interval([[1.0, 2.0]]), r"got shape \(1, 2\)"),
        (lambda: mean_interval([1.0, math.nan]), "number 1 is nan"),
        (lambda: mean_interval([1.0, 2.0], level=95), "level: expected a number between 0 and 1, got 95"),
        (lambda: bootstrap_interval([math.inf, 1.0]), "number 0 is inf"),
        (lambda: paired_interval([1.0, 2.0], [1.0]), "expected as many of each, got 2 and 1"),
        (lambda: signed_rank_test([]), "differences: expected"),
        (lambda: signed_rank_test([math.nan]), "number 0 is nan"),
        (lambda: sign_test(-1, 3), "wins: expected an integer of at least 0, got -1"),
        (lambda: sign_test(1, 2.5), "losses: expected an integer of at least 0, got 2.5"),
        (lambda: sign_test(True, 3), "wins: expected an integer of at least 0, got True"),
        (lambda: holm([0.5, 1.5]), "p_values: expected a number between 0 and 1, got"),
        (lambda: holm([]), "p_values: expected"),
        (lambda: power_of_sign_test(0, 0.5), "n: expected an integer of at least 1"),
        (lambda: power_of_sign_test(5, 1.2), "probability: expected a number between 0 and 1"),
        (lambda: detectable_difference(0.0, 5), "spread: expected a positive number, got 0.0"),
        (lambda: detectable_difference(1.0, 5, power=0.05), "power: expected more than the level 0.05"),
        (lambda: pairs_needed(math.nan, 1.0), "difference: expected a positive number, got nan"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_scipy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    with pytest.raises(ImportError, match="pip install scipy"):
        mean_interval([1.0, 2.0])
