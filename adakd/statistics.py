r"""How far a few numbers carry: intervals, tests and power for comparing methods over seeds or over pairs of networks.

A thin layer over SciPy, so that every comparison of this library means the same thing by the same word. All tests are
two-sided. SciPy is loaded when a function is called, not when the module is.

What none of these functions can repair: values that are not independent. Two networks that share a teacher, or two
methods that were run once and share their luck, count for less than their number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "Interval",
    "bootstrap_interval",
    "detectable_difference",
    "holm",
    "mean_interval",
    "median_interval",
    "paired_interval",
    "pairs_needed",
    "power_of_sign_test",
    "sign_test",
    "signed_rank_test",
]


@dataclass(frozen=True)
class Interval:
    """A mean, or a median, with a confidence interval around it.

    ``f"{interval:+.2f}"`` formats its three numbers alike: ``+0.48 [+0.10, +0.85]``.
    """

    estimate: float
    low: float
    """NaN where one value alone gives no interval."""
    high: float
    n: int
    """How many values, or pairs."""
    level: float
    """The share of such intervals that hold the true value, e.g. 0.95."""

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __format__(self, spec: str) -> str:
        return f"{self.estimate:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


# ---- what may come in ----


def _stats() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise ImportError("adakd.statistics computes with SciPy: pip install scipy") from error
    return stats


def _values(name: str, values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name}: expected a sequence of at least one number, got shape {array.shape}")
    if not np.isfinite(array).all():
        where = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(
            f"{name}: number {where} is {array[where]}; leave out what was not measured, and say that it was"
        )
    return array


def _share(name: str, value: float, closed: bool = False) -> float:
    if not (0 <= value <= 1 if closed else 0 < value < 1):
        raise ValueError(f"{name}: expected a number between 0 and 1, got {value!r}")
    return value


def _count(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")
    return int(value)


def _positive(name: str, value: float) -> float:
    if not (0 < value < math.inf):
        raise ValueError(f"{name}: expected a positive number, got {value!r}")
    return float(value)


# ---- intervals ----


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    r"""The mean with Student's interval, :math:`\bar x \pm t_{n-1}\, s / \sqrt n`.

    s is the sample standard deviation (÷(n − 1)) and t the quantile of Student's distribution (Student, "The probable
    error of a mean", Biometrika 6, 1908). One value has a mean and no interval: its bounds are NaN.

    Args:
        values: independent measurements, such as accuracies over seeds.
        level: confidence, between 0 and 1.

    Raises:
        ValueError: if there are no values, one is not finite, or the level is not between 0 and 1.

    >>> f"{mean_interval([1.0, 2.0, 3.0]):.2f}"
    '2.00 [-0.48, 4.48]'
    """
    array, level = _values("values", values), _share("level", level)
    n, mean = len(array), float(array.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1, level)
    half = float(_stats().t.ppf((1 + level) / 2, n - 1) * array.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n, level)


def paired_interval(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of a − b with Student's interval over the pairs, see `mean_interval`.

    Right where a[i] and b[i] share what else varies: the seed, the teacher and the student. What they share drops out of
    the difference.

    Raises:
        ValueError: if the lengths differ, there are no values, or one is not finite.

    >>> f"{paired_interval([71.0, 75.0, 68.0], [70.0, 73.0, 68.0]):+.2f}"
    '+1.00 [-1.48, +3.48]'
    """
    first, second = _values("a", a), _values("b", b)
    if len(first) != len(second):
        raise ValueError(
            f"a and b: expected as many of each, got {len(first)} and {len(second)}; pair them first"
        )
    return mean_interval(first - second, level)


def bootstrap_interval(values: Sequence[float], level: float = 0.95, seed: int = 0) -> Interval:
    """The mean with a bootstrap interval: BCa, bias-corrected and accelerated, from 9999 resamples.

    It assumes no normal distribution, and follows a skewed sample (Efron, "Better bootstrap confidence intervals", JASA
    82, 1987). Below ten values or so it tends to be too narrow. Where the acceleration is undefined because all values
    are equal, the interval is that point. The same values and seed give the same interval.

    Args:
        values: independent measurements.
        level: confidence, between 0 and 1.
        seed: of the resampling.

    Raises:
        ValueError: if there are no values, one is not finite, or the level is not between 0 and 1.

    >>> f"{bootstrap_interval([2.0, 2.0, 2.0]):.1f}"
    '2.0 [2.0, 2.0]'
    """
    array, level = _values("values", values), _share("level", level)
    n, mean = len(array), float(array.mean())
    seed = _count("seed", seed, 0)
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1, level)
    if np.ptp(array) == 0:
        return Interval(mean, mean, mean, n, level)
    found = _stats().bootstrap(
        (array,), np.mean, confidence_level=level, method="BCa", rng=np.random.default_rng(seed)
    )
    return Interval(mean, float(found.confidence_interval.low), float(found.confidence_interval.high), n, level)


def median_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    r"""The median with the distribution-free interval :math:`[x_{(k)},\, x_{(n+1-k)}]` between two of the sorted values.

    k is the largest number with :math:`P(\mathrm{Bin}(n, 1/2) < k) \le (1 - \text{level}) / 2`, so at least a share
    `level` of such intervals holds the median, whatever the distribution (W. R. Thompson, "On confidence ranges for the
    median", Annals of Mathematical Statistics 7, 1936). For measurements with a few wild ones among them, such as times
    on a machine that others use too. Below six values there is no such interval at 95 %: its bounds are NaN.

    Args:
        values: independent measurements.
        level: confidence, between 0 and 1.

    Raises:
        ValueError: if there are no values, one is not finite, or the level is not between 0 and 1.

    >>> f"{median_interval([5.0, 1.0, 4.0, 2.0, 6.0, 300.0]):.0f}"
    '4 [1, 300]'
    """
    array, level = np.sort(_values("values", values)), _share("level", level)
    n, k, tail = len(array), 0, 1
    while 2 * tail / 2**n <= 1 - level:  # tail of 2^n cases have at most k values below the median
        k += 1
        tail += math.comb(n, k)
    low, high = (float(array[k - 1]), float(array[n - k])) if k else (math.nan, math.nan)
    return Interval(float(np.median(array)), low, high, n, level)


# ---- tests ----


def sign_test(wins: int, losses: int) -> float:
    r"""Two-sided p of so uneven a count if either side were as likely: :math:`\sum_{k\,:\,P(k) \le P(w)} \binom nk 2^{-n}`.

    The exact binomial test of a fair coin; the oldest of tests (Arbuthnott, 1710). Leave ties out of both counts, as
    Dixon and Mood do ("The statistical sign test", JASA 41, 1946). With ties alone there is nothing against a fair coin,
    and p is 1.

    Raises:
        ValueError: if a count is not an integer of at least 0.

    >>> round(sign_test(11, 3), 4)
    0.0574
    """
    wins, losses = _count("wins", wins, 0), _count("losses", losses, 0)
    if wins + losses > 2**53:
        raise ValueError(f"wins, losses: expected at most 2^53 in all, got {float(wins + losses):.3g}")
    if wins + losses == 0:
        return 1.0
    return float(_stats().binomtest(wins, wins + losses).pvalue)


def signed_rank_test(differences: Sequence[float]) -> float:
    r"""Two-sided p of Wilcoxon's signed-rank test, exact also with ties.

    Rank the absolute differences, equal ones sharing the mean of their ranks, and add up the ranks of the positive
    ones: W. If the differences lie symmetrically about zero, each rank has its sign by a fair coin, and the
    distribution of W is the product of the factors :math:`(1 + x^{r_i}) / 2` (Wilcoxon, Biometrics Bulletin 1, 1945; the
    conditional distribution with ties: Pratt and Gibbons, Concepts of Nonparametric Theory, 1981). SciPy's exact method
    is for untied ranks; accuracies in hundredths tie. Zeros are left out. Differences are compared to nine decimals, so
    that 0.3 − 0.2 and 0.2 − 0.1 tie.

    Raises:
        ValueError: if there are no differences, or one is not finite.

    >>> signed_rank_test([0.2, 0.5, 0.3, 0.9])  # 2 of the 16 sign patterns are as extreme
    0.125
    """
    array = np.round(_values("differences", differences), 9)
    array = array[array != 0]
    if len(array) == 0:
        return 1.0
    # Twice the ranks: shared ranks are halves, and these are whole.
    ranks = np.round(2 * _stats().rankdata(np.abs(array))).astype(int)
    chance = np.ones(1)
    for rank in ranks:
        still, with_it = np.pad(chance, (0, rank)), np.pad(chance, (rank, 0))
        chance = (still + with_it) / 2
    positive = int(ranks[array > 0].sum())
    tail = min(chance[: positive + 1].sum(), chance[positive:].sum())
    return float(min(1.0, 2 * tail))


def holm(p_values: Sequence[float]) -> list[float]:
    r"""Holm's adjusted p-values, in the order given: keep those below a level, and any error is rarer than that level.

    The i-th smallest of m becomes :math:`\max_{j \le i} \min(1, (m - j + 1)\, p_{(j)})` (Holm, "A simple sequentially
    rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979). It holds for dependent tests too,
    and never adjusts more than Bonferroni.

    Raises:
        ValueError: if there are no p-values, or one is not between 0 and 1.

    >>> [round(p, 3) for p in holm([0.04, 0.01, 0.03])]
    [0.06, 0.03, 0.06]
    """
    array = _values("p_values", p_values)
    for p in array:
        _share("p_values", p, closed=True)
    order = np.argsort(array, kind="stable")
    adjusted = np.empty_like(array)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(array[order] * np.arange(len(array), 0, -1)))
    return adjusted.tolist()


# ---- power: what a number of pairs can show ----


def power_of_sign_test(n: int, probability: float, level: float = 0.05) -> float:
    """How often n pairs without ties get p ≤ level in `sign_test`, if one side wins each with this probability.

    The sum of the binomial probabilities of the counts that reach the level. At probability 0.5 it is the test's true
    error rate, which is at most the level, and below it because counts are whole.

    Raises:
        ValueError: if n is not an integer of at least 1, or probability or level is out of range.

    >>> round(power_of_sign_test(14, 0.75), 2)  # it takes 12 of 14
    0.28
    """
    n, level = _count("n", n, 1), _share("level", level)
    probability = _share("probability", probability, closed=True)
    reached = [wins for wins in range(n + 1) if sign_test(wins, n - wins) <= level]
    return float(_stats().binom.pmf(reached, n, probability).sum())


def _power_of_t(noncentrality: float, n: int, level: float) -> float:
    """Power of the two-sided paired t test at noncentrality = difference · √n / spread."""
    nct, critical = _stats().nct, _stats().t.ppf(1 - level / 2, n - 1)
    # The lower tail by symmetry: far out, nct.cdf is NaN.
    return float(nct.sf(critical, n - 1, noncentrality) + nct.sf(critical, n - 1, -noncentrality))


def detectable_difference(spread: float, n: int, level: float = 0.05, power: float = 0.8) -> float:
    r"""The smallest mean difference that n pairs show with this power, in the units of the spread.

    The root δ of the power of the two-sided paired t test, :math:`P(|T| > t_{n-1})`, where T has Student's
    noncentral distribution with n − 1 degrees of freedom and noncentrality :math:`\delta \sqrt n / s` (Cohen, Statistical
    Power Analysis, 1988). One pair has no spread of its own and shows nothing: infinity.

    Args:
        spread: s, standard deviation of the differences. Of two independent runs with standard deviation σ each it is
            √2·σ.
        n: number of pairs.
        level: of the test.
        power: the chance of p ≤ level to be reached; above the level.

    Raises:
        ValueError: if the spread is not positive, n is below 1, or the power is not between the level and 1.

    >>> round(detectable_difference(spread=0.5, n=14), 2)
    0.41
    """
    spread, n = _positive("spread", spread), _count("n", n, 1)
    level, power = _share("level", level), _share("power", power)
    if power <= level:
        raise ValueError(f"power: expected more than the level {level}, got {power}")
    if n == 1:
        return math.inf
    from scipy.optimize import brentq

    high = 1.0
    while _power_of_t(high, n, level) < power:
        high *= 2
    root = brentq(lambda noncentrality: _power_of_t(noncentrality, n, level) - power, 0, high)
    return spread * root / math.sqrt(n)


def pairs_needed(difference: float, spread: float, level: float = 0.05, power: float = 0.8) -> int:
    """The fewest pairs, at least 2, that show this mean difference with this power; see `detectable_difference`.

    Raises:
        ValueError: if difference or spread is not positive, or the power is not between the level and 1.

    >>> pairs_needed(0.5, spread=0.5)
    10
    """
    difference, spread = _positive("difference", difference), _positive("spread", spread)

    def enough(n: int) -> bool:
        return detectable_difference(spread, n, level, power) <= difference

    high = 2
    while not enough(high):
        high *= 2
    low = high // 2  # not enough, or 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
