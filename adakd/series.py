r"""Taylor and logarithm series behind the maximum-logit temperature (arXiv 2503.09030, section 3).

The paper replaces e^x by its Taylor polynomial f_n and log(f_n) by the series of log(1 + u) in
u = f_n(x) - 1. That series converges for -1 < u <= 1, that is for 0 < f_n(x) <= 2, and so on an
interval [lower_end(n), upper_end(n)] of x = z / tau. Its ends turn into temperature factors:
:math:`\tau > c_n^+ \max z` keeps every positive logit inside, :math:`\tau > c_n^- |\min z|` every
negative one. The paper states the first condition only.

Two other radii belong to the same functions. Expanded in powers of x, log f_n converges up to the nearest
complex zero of f_n (`taylor_radius`). And the loss itself needs no f_n: log Z(s), Z(s) = sum_k e^(s z_k),
s = 1 / tau, converges in powers of s up to the nearest complex zero of Z (`partition_radius`).

Plain floats, no torch: these numbers are constants of the methods, not part of a graph.
"""

import cmath
import math
from collections.abc import Sequence
from functools import cache

import numpy as np

__all__ = [
    "exp_taylor",
    "log_series",
    "lower_end",
    "lower_factor",
    "partition_radius",
    "partition_zero",
    "samuelson_bounds",
    "single_peak_radius",
    "taylor_radius",
    "taylor_zeros",
    "upper_end",
    "upper_factor",
]


_MOST_TERMS = 170  # the last order whose factorial is a float; far beyond the order at which the polynomial is the exponential to the last digit


def _check_order(order: float) -> None:
    if order == math.inf:
        return
    if not isinstance(order, int) or isinstance(order, bool) or not 1 <= order <= _MOST_TERMS:
        raise ValueError(
            f"order: expected an integer of at least 1 (and at most {_MOST_TERMS}), or math.inf for the exponential "
            f"itself, got {order!r}"
        )


def exp_taylor(x: float, order: float) -> float:
    """Taylor polynomial of the exponential, f_n(x) = sum_{i=0..n} x^i / i!  (Eq. 3).

    Args:
        x: where to evaluate.
        order: n, an integer of at least 1; math.inf gives exp(x).

    Raises:
        ValueError: if the order is not a positive integer or math.inf.

    >>> exp_taylor(1.0, 2)
    2.5
    """
    _check_order(order)
    if order == math.inf:
        return math.exp(x)
    total = 0.0
    for i in range(order, 0, -1):  # Horner: 1 + x(1 + x/2(1 + x/3(...)))
        total = (1.0 + total) * x / i
    return 1.0 + total


def log_series(u: float, terms: int) -> float:
    """First terms of log(1 + u) = sum_{i=1..m} (-1)^(i+1) u^i / i  (Eq. 8); converges for -1 < u <= 1.

    Args:
        u: f_n(x) - 1 in the paper's composition.
        terms: m, the number of terms, at least 1.

    Raises:
        ValueError: if terms is not a positive integer.

    >>> round(log_series(0.5, 40), 12) == round(math.log(1.5), 12)
    True
    """
    if not isinstance(terms, int) or terms < 1:
        raise ValueError(f"terms: expected an integer of at least 1, got {terms!r}")
    return math.fsum((-1) ** (i + 1) * u**i / i for i in range(1, terms + 1))


def _bisect(function, low: float, high: float) -> float:
    """Root of `function` in [low, high], to the last float: halve until the interval has no inside."""
    rising = function(high) > 0
    while low < (middle := (low + high) / 2) < high:
        if (function(middle) > 0) == rising:
            high = middle
        else:
            low = middle
    return low if abs(function(low)) <= abs(function(high)) else high


@cache
def upper_end(order: float = 2) -> float:
    """Largest x with f_n(x) <= 2: the upper end x_n^+ of the interval of convergence.

    n = 1: 1;  n = 2: sqrt(3) - 1 (Eqs. 17-19);  n -> inf: ln 2. f_n rises on x >= 0, so the end is unique.

    Raises:
        ValueError: if the order is not a positive integer or math.inf.

    >>> upper_end(2) == math.sqrt(3) - 1
    True
    """
    _check_order(order)
    if order == math.inf:
        return math.log(2.0)
    if order == 1:
        return 1.0
    if order == 2:
        return math.sqrt(3.0) - 1.0
    return _bisect(lambda x: exp_taylor(x, order) - 2.0, 0.0, 1.5)


@cache
def lower_end(order: float = 2) -> float:
    """Lower end x_n^- < 0 of the interval of convergence, which the paper's Eq. 20 leaves out.

    Odd n: the real zero of f_n (where u = -1). Even n: f_n has no real zero and the end is f_n = 2 again
    (n = 2: -(1 + sqrt 3)). n -> inf: -inf, since e^x > 0 everywhere.

    Raises:
        ValueError: if the order is not a positive integer or math.inf.

    >>> lower_end(2) == -(1 + math.sqrt(3))
    True
    """
    _check_order(order)
    if order == math.inf:
        return -math.inf
    if order == 1:
        return -1.0
    if order == 2:
        return -(1.0 + math.sqrt(3.0))
    level = 2.0 if order % 2 == 0 else 0.0
    # Every f_n is inside the band at -1/2, and has left it at -(n + 2).
    return _bisect(lambda x: exp_taylor(x, order) - level, -(order + 2.0), -0.5)


def upper_factor(order: float = 2) -> float:
    r"""Temperature factor :math:`c_n^+ = 1 / x_n^+` of Eq. 20: :math:`\tau > c_n^+ \max z`; :math:`c_2^+ = (1 + \sqrt 3)/2`.

    Raises:
        ValueError: if the order is not a positive integer or math.inf.

    >>> round(upper_factor(2), 7)
    1.3660254
    """
    if order == 2:
        return (1.0 + math.sqrt(3.0)) / 2.0
    return 1.0 / upper_end(order)


def lower_factor(order: float = 2) -> float:
    r"""Temperature factor :math:`c_n^- = -1 / x_n^-` of the forgotten end: :math:`\tau > c_n^- |\min z|`.

    Raises:
        ValueError: if the order is not a positive integer or math.inf.

    >>> round(lower_factor(2), 7)
    0.3660254
    """
    return -1.0 / lower_end(order)


def samuelson_bounds(num_classes: int) -> tuple[float, float]:
    """Range of the largest of K standardized logits: 1/sqrt(K-1) <= max z <= sqrt(K-1) (population std).

    Multiplied by `upper_factor(2)` it is the range of the maximum-logit temperature: at most 4.098 for
    K = 10 and 13.59 for K = 100.

    Raises:
        ValueError: if there are fewer than 2 classes.

    >>> samuelson_bounds(10)
    (0.3333333333333333, 3.0)
    """
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    high = math.sqrt(num_classes - 1)
    return 1.0 / high, high


# ---- zeros in the complex plane: how far a series in powers of x, or of 1 / tau, can reach ----


def _taylor_newton_step(x: complex, order: int) -> complex:
    """f_n / f_n' near a zero of f_n, without cancellation: f_n = e^x - x^n/n! * sum_j x^j n!/(n+j)!, j >= 1."""
    power = cmath.exp(order * cmath.log(x) - math.lgamma(order + 1) - x)  # x^n / n!, times e^-x
    tail = term = x / (order + 1)
    j = 1
    while abs(term) > 1e-18 * abs(tail):
        j += 1
        term *= x / (order + j)
        tail += term
    value = 1 - power * tail  # f_n(x) e^-x
    return value / (value - power)  # f_n' = f_(n-1) = f_n - x^n / n!


@cache
def _taylor_zeros(order: int) -> tuple[complex, ...]:
    if order == 1:
        return (-1 + 0j,)
    if order == 2:
        return -1 + 1j, -1 - 1j
    # In x / n every zero is near the unit disc (Szegő), and the coefficients have like sizes.
    logs = np.array([i * math.log(order) - math.lgamma(i + 1) for i in range(order, -1, -1)])
    zeros = []
    for guess in np.roots(np.exp(logs - logs.max())):
        x = complex(guess) * order
        if x.imag < -1e-6:
            continue  # the mirror image of another
        for _ in range(60):
            step = _taylor_newton_step(x, order)
            x -= step
            if abs(step) < 1e-15 * abs(x):
                break
        zeros += [complex(x.real, 0.0)] if abs(x.imag) < 1e-6 else [x, x.conjugate()]
    return tuple(sorted(zeros, key=lambda x: (round(abs(x), 9), -x.imag)))


def taylor_zeros(order: int) -> list[complex]:
    """All complex zeros of the Taylor polynomial f_n, from the nearest to 0 to the farthest.

    There, and nowhere else, log f_n is singular. The zeros are simple and come in conjugate pairs; an odd order
    has one real zero besides, `lower_end(order)`. math.inf gives none: e^x is nowhere 0.

    Raises:
        ValueError: if the order is not a positive integer or math.inf, or is above 40, where floats no longer
            tell the zeros apart.

    >>> taylor_zeros(2)
    [(-1+1j), (-1-1j)]
    """
    _check_order(order)
    if order == math.inf:
        return []
    if order > 40:
        raise ValueError(f"order: zeros are found up to order 40, got {order}")
    return list(_taylor_zeros(order))


def taylor_radius(order: float = 2) -> float:
    """Radius of convergence R_n of log f_n in powers of x: the modulus of the nearest zero of f_n.

    n = 1: 1;  n = 2: sqrt 2;  n -> inf: inf, since log e^x = x. Same function as in the paper's composition,
    same terms in another order, another range: neither of the two contains the other.

    Raises:
        ValueError: as `taylor_zeros`.

    >>> round(taylor_radius(2), 7)
    1.4142136
    """
    zeros = taylor_zeros(order)
    return abs(zeros[0]) if zeros else math.inf


def single_peak_radius(peak: float, num_classes: int) -> float:
    r"""Radius of convergence of log Z(s) for the row (m, -m/(K-1), ..., -m/(K-1)): one peak, mean 0.

    The zeros of Z are :math:`s = (K-1)(\ln(K-1) \pm (2j+1)\pi i) / (K m)`, so the expansion in powers of
    s = 1 / tau converges for :math:`\tau > K |m| / ((K-1) \sqrt{\ln^2(K-1) + \pi^2})`. m < 0 is one class ruled out.

    Args:
        peak: m, in the units of tau.
        num_classes: K, at least 2.

    Returns:
        The radius in s, in the units of 1 / tau; math.inf if the peak is 0.

    Raises:
        ValueError: if there are fewer than 2 classes, or the peak is not finite.

    >>> round(single_peak_radius(7.0, 100), 3)
    0.787
    """
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    if not math.isfinite(peak):
        raise ValueError(f"peak: expected a finite logit, got {peak}")
    if peak == 0:
        return math.inf
    return (num_classes - 1) * math.hypot(math.log(num_classes - 1), math.pi) / (num_classes * abs(peak))


class _Partition:
    """Z(s) = sum_j n_j e^(s a_j) of a row of mean 0 and range 1, as counts n_j of distinct values a_j."""

    def __init__(self, row: np.ndarray):
        self.values, self.counts = np.unique(row, return_counts=True)

    def terms(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Z, Z' and a bound on |Z'|, each (len(s),) and divided by one positive number per s against overflow."""
        real = s.real[:, None] * self.values
        size = self.counts * np.exp(real - real.max(1, keepdims=True))
        phase = size * np.exp(1j * s.imag[:, None] * self.values)
        return phase.sum(1), phase @ self.values, size @ np.abs(self.values)

    def zeros_inside(self, radius: float) -> tuple[int | None, np.ndarray]:
        """Number of zeros with |s| < radius, by the argument principle, and the points that it took.

        Points on the upper half circle (the lower one mirrors it) get closer until from each of them, half way to
        the next, |Z - Z(s)| < |Z(s)|: then no turn of Z is missed. None if that takes too many points, because Z is
        numerically 0 somewhere on the circle.
        """
        reach = np.abs(self.values).max()
        angle = np.linspace(0.0, math.pi, 33)
        points = radius * np.exp(1j * angle)
        z, _, slope = self.terms(points)
        while True:
            half = radius * np.diff(angle) / 2
            safe = [half * slope[i] * np.exp(half * reach) < np.abs(z[i]) for i in (slice(1, None), slice(-1))]
            (open_,) = np.nonzero(~(safe[0] & safe[1]))
            if not len(open_):
                break
            if len(points) > 10_000:
                return None, points
            middle = (angle[open_] + angle[open_ + 1]) / 2
            new = radius * np.exp(1j * middle)
            columns = zip((angle, points, z, slope), (middle, new, *self.terms(new)[::2]), strict=True)
            angle, points, z, slope = (np.insert(old, open_ + 1, more) for old, more in columns)
        turns = np.angle(z[1:] / z[:-1]).sum() / (2 * math.pi)
        return 2 * round(turns), points

    def polish(self, s: np.ndarray) -> np.ndarray:
        """The ends of Newton's method from the points s that are zeros."""
        for _ in range(50):
            z, derivative, _ = self.terms(s)
            with np.errstate(all="ignore"):
                step = z / derivative
            s = s[np.isfinite(step)] - step[np.isfinite(step)]
            s = s[np.abs(s) < 1e6]
        z, _, slope = self.terms(s)
        return s[np.abs(z) < 1e-12 * slope]

    def nearest_zero(self) -> complex:
        low = high = math.pi * (1 - 1e-9)  # for |s| < pi all terms point into one half plane: no zero
        count = 0
        while count == 0:  # a zero must come, since the row is not constant
            low, high = high, 1.3 * high
            count, points = self.zeros_inside(high)
        while high / low > 1 + 1e-9:  # no zero inside low, one inside high or (count None) on it
            z, derivative, _ = self.terms(points)
            found = self.polish(points[np.argsort(np.abs(z) / (np.abs(derivative) + 1e-300))[:8]])
            if len(found):
                best = complex(found[np.abs(found).argmin()])
                for margin in (1e-6, 1e-4, 1e-2):  # a multiple zero is known to fewer digits
                    count, inside = self.zeros_inside(abs(best) * (1 - margin))
                    if count == 0:
                        return best
                    if count and abs(best) < high:
                        high, points = abs(best), inside
                        break
            middle = math.sqrt(low * high)
            count, inside = self.zeros_inside(middle)
            if count == 0:
                low = middle
            else:
                high, points = middle, inside
        if not len(found):
            raise ArithmeticError("logits: no zero of Z could be told apart from its neighbours in floats")
        return best


def _partition(logits: Sequence[float]) -> tuple[_Partition, float]:
    row = np.asarray(logits, dtype=float)
    if row.ndim != 1 or len(row) < 2:
        raise ValueError(f"logits: expected one row of at least 2 numbers, got shape {tuple(row.shape)}")
    if not np.isfinite(row).all():
        raise ValueError("logits: expected finite numbers")
    spread = float(row.max()) - float(row.min())
    if spread == 0:
        return _Partition(row), spread
    row = (row - row.min()) / spread
    return _Partition(row - row.mean()), spread


def partition_zero(logits: Sequence[float]) -> complex:
    """The nearest complex zero of Z(s) = sum_k e^(s z_k), the softmax's partition function at s = 1 / tau.

    Zeros come in conjugate pairs and never on the real axis; this is the one above it. Physicists call them
    Fisher zeros. None is nearer than pi / (max z - min z).

    Args:
        logits: the row z, in the units of tau; any K of at least 2, not necessarily standardized.

    Returns:
        The zero, in the units of 1 / tau. Newton's method finds it; by the argument principle no other is nearer by
        more than 1e-6 of its modulus. A multiple zero has fewer digits.

    Raises:
        ValueError: for anything but one row of at least 2 finite numbers, or if they are all equal (Z has no zero).

    >>> round(partition_zero([4.0, 1.0]).imag * 3 / math.pi, 12)  # e^(3 s) = -1
    1.0
    """
    partition, spread = _partition(logits)
    if spread == 0:
        raise ValueError("logits: expected two different numbers; for a constant row Z has no zero")
    zero = partition.nearest_zero()
    return complex(zero.real, abs(zero.imag)) / spread


def partition_radius(logits: Sequence[float]) -> float:
    """Radius of convergence of log Z(s), Z(s) = sum_k e^(s z_k), in powers of s = 1 / tau: |`partition_zero`|.

    The expansion of log Z converges for tau > 1 / radius; that of the divergence of two rows, for tau above the
    larger 1 / radius of the two. Scaling the row by c divides the radius by |c|; a shift changes nothing.

    Args:
        logits: the row z, in the units of tau; any K of at least 2, not necessarily standardized.

    Returns:
        The radius in s, in the units of 1 / tau, at least pi / (max z - min z); math.inf for a constant row.

    Raises:
        ValueError: for anything but one row of at least 2 finite numbers.

    >>> round(partition_radius([7.0] + 99 * [-7.0 / 99]), 3)  # = single_peak_radius(7.0, 100)
    0.787
    """
    return math.inf if _partition(logits)[1] == 0 else abs(partition_zero(logits))
