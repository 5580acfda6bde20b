r"""The softmax's partition function, whose zeros end the expansion of the loss in powers of 1 / tau.

The loss itself needs no Taylor polynomial: log Z(s), Z(s) = sum_k e^(s z_k), s = 1 / tau, converges in powers of s up to
the nearest complex zero of Z (`partition_radius`).

Plain floats, no torch: these numbers are about a row of logits, not part of a graph.
"""

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["partition_radius", "partition_zero", "single_peak_radius"]


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
        ends: np.ndarray = s[np.abs(z) < 1e-12 * slope]
        return ends

    def nearest_zero(self) -> complex:
        low = high = math.pi * (1 - 1e-9)  # for |s| < pi all terms point into one half plane: no zero
        count: int | None = 0
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
            raise ArithmeticError("logits: no zero of Z could be separated from its neighbours in floats")
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
