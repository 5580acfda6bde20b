r"""Taylor and logarithm series behind the maximum-logit temperature (arXiv 2503.09030, section 3).

The paper replaces e^x by its Taylor polynomial f_n and log(f_n) by the series of log(1 + u) in
u = f_n(x) - 1. That series converges for -1 < u <= 1, that is for 0 < f_n(x) <= 2, and so on an
interval [lower_end(n), upper_end(n)] of x = z / tau. Its ends turn into temperature factors:
:math:`\tau > c_n^+ \max z` keeps every positive logit inside, :math:`\tau > c_n^- |\min z|` every
negative one. The paper states the first condition only.

Another radius belongs to the same functions. Expanded in powers of x, log f_n converges up to the nearest
complex zero of f_n (`taylor_radius`). And the loss itself needs no f_n: see `adakd.theory.partition`.

Plain floats, no torch: these numbers are constants of the methods, not part of a graph.
"""

import cmath
import math
from collections.abc import Callable
from functools import cache

import numpy as np

__all__ = [
    "exp_taylor",
    "log_series",
    "lower_end",
    "lower_factor",
    "samuelson_bounds",
    "taylor_radius",
    "taylor_zeros",
    "upper_end",
    "upper_factor",
]


_MOST_TERMS = 170  # the last order whose factorial is a float; far beyond the order at which the polynomial is the exponential to the last digit


def check_order(order: float) -> None:
    """Raise ValueError unless it is a number of terms, or math.inf for the exponential itself."""
    if isinstance(order, float) and order == math.inf:
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
    check_order(order)
    if order == math.inf:
        return math.exp(x)
    total = 0.0
    for i in range(int(order), 0, -1):  # Horner: 1 + x(1 + x/2(1 + x/3(...)))
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


def _bisect(function: Callable[[float], float], low: float, high: float) -> float:
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
    check_order(order)
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
    check_order(order)
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
    check_order(order)
    return 1.0 / upper_end(order)


def lower_factor(order: float = 2) -> float:
    r"""Temperature factor :math:`c_n^- = -1 / x_n^-` of the forgotten end: :math:`\tau > c_n^- |\min z|`.

    Raises:
        ValueError: if the order is not a positive integer or math.inf.

    >>> round(lower_factor(2), 7)
    0.3660254
    """
    check_order(order)  # what has no hash cannot be looked up
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
    if isinstance(num_classes, bool) or not isinstance(num_classes, int | np.integer):
        raise ValueError(f"num_classes: expected a whole number of at least 2, got {num_classes!r}")
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    high = math.sqrt(num_classes - 1)
    return 1.0 / high, high


# ---- zeros in the complex plane: how far a series in powers of x can reach ----


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


def taylor_zeros(order: float) -> list[complex]:
    """All complex zeros of the Taylor polynomial f_n, from the nearest to 0 to the farthest.

    There, and nowhere else, log f_n is singular. The zeros are simple and come in conjugate pairs; an odd order
    has one real zero besides, `lower_end(order)`. math.inf gives none: e^x is nowhere 0.

    Raises:
        ValueError: if the order is not a positive integer or math.inf, or is above 40, where floats no longer
            tell the zeros apart.

    >>> taylor_zeros(2)
    [(-1+1j), (-1-1j)]
    """
    check_order(order)
    if order == math.inf:
        return []
    if order > 40:
        raise ValueError(f"order: zeros are found up to order 40, got {order}")
    return list(_taylor_zeros(int(order)))


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
