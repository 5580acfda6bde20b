"""The book's exercises that check themselves: the right answer is computed by the library, and a wrong one gets a hint.

In a notebook ``adakd.exercises.check("08.3", 4.3)`` answers; on a page the same exercise is a field with a button. No
answer shows the solution unless it is asked to.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from numbers import Real
from typing import Any

import torch

from . import series
from ._check import check_kind, near_names
from ._seed import seeded
from .divergence import KL
from .logits import standardize
from .signals import Signals
from .statistics import mean_interval, sign_test
from .temperature import MaxLogit, Temperatures
from .terms.fitnet import FitNet

__all__ = ["EXERCISES", "Exercise", "Verdict", "check"]


@dataclass(frozen=True)
class Verdict:
    """What is said of an answer; true where it is right. Its ``repr`` is the text, for the last line of a cell."""

    right: bool
    text: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Exercise:
    """A question with one answer: a number, a whole number, or one of several texts."""

    name: str
    """Chapter and number, ``"08.3"``."""
    prompt: str
    """What is to be given."""
    truth: Callable[[], Any]
    """Computes the right answer."""
    hint: str
    """For a wrong answer of no known kind."""
    mistakes: tuple[tuple[Callable[[], float], str], ...] = ()
    """What a likely mistake leads to, and the hint for it."""
    tolerance: float = 0.01
    """Largest difference, relative to the right answer; 0 for whole numbers."""
    choices: tuple[str, ...] = ()

    @cached_property
    def solution(self) -> Any:
        """The right answer."""
        return self.truth()

    @property
    def kind(self) -> str:
        """What an answer looks like, in words."""
        if self.choices:
            return f"one of {', '.join(map(repr, self.choices))}"
        return f"a number, to {100 * self.tolerance:g} %" if self.tolerance else "a whole number"

    @property
    def margin(self) -> float:
        """Largest difference between a number and the right one."""
        return self.tolerance * abs(self.solution)

    def read(self, answer: Any) -> Any:
        """The answer as a float or as one of the choices.

        Raises:
            TypeError: for anything but a real number (also of NumPy, SymPy or a tensor of one), or a text for a choice.
            ValueError: for a number that is not finite, or a text that is none of the choices.
        """
        if self.choices:
            if not isinstance(answer, str):
                raise TypeError(f"answer: expected {self.kind}, got {answer!r}")
            if answer not in self.choices:
                raise ValueError(f"answer: expected {self.kind}, got {answer!r}")
            return answer
        number = None if isinstance(answer, (bool, str, bytes, complex)) else _float(answer)
        if number is None:
            raise TypeError(f"answer: expected {self.kind}, got {answer!r}")
        if not math.isfinite(number):
            raise ValueError(f"answer: expected {self.kind}, got {number}")
        return number

    def judge(self, answer: Any) -> Verdict:
        """The verdict on an answer that `read` has taken."""
        if answer == self.solution if self.choices else abs(answer - self.solution) <= self.margin:
            return Verdict(True, "Right.")
        for wrong, hint in self.mistakes:
            if abs(answer - wrong()) <= max(self.margin, 1e-9):
                return Verdict(False, f"Not yet. {hint}")
        return Verdict(False, f"Not yet. {self.hint}")


def _float(answer: Any) -> float | None:
    if isinstance(answer, Real):
        return float(answer)
    try:
        return float(answer)  # a tensor or an array of one element, an expression of SymPy
    except (TypeError, ValueError, RuntimeError):
        return None


def check(name: str, answer: Any = ..., reveal: bool = False) -> Verdict:
    """The verdict on an answer to an exercise of the book.

    Args:
        name: chapter and number, such as ``"08.3"``; the keys of `EXERCISES`.
        answer: a number, or a text where one of several is to be chosen; three dots ask what is to be given.
        reveal: whether the text ends with the right answer.

    Raises:
        ValueError: for an exercise that there is not, and for an answer that none can be.
        TypeError: for an answer that is neither a number nor, where one is to be chosen, a text.

    >>> check("08.3", 2.08)
    08.3: Not yet. This is one class against an even share; κ compares the highest class with the lowest.
    >>> bool(check("08.3", 4.32))
    True
    """
    check_kind(str, "chapter and number of an exercise, such as '08.3'", name=name)
    if name not in EXERCISES:
        raise ValueError(f"name: {near_names('exercise', name, EXERCISES)}")
    exercise = EXERCISES[name]
    if answer is ...:
        verdict = Verdict(False, f"{exercise.prompt} ({exercise.kind}). Put it in the place of the three dots.")
    else:
        verdict = exercise.judge(exercise.read(answer))
    solution = exercise.solution if exercise.choices else f"{exercise.solution:.6g}"
    shown = f" The answer is {solution}." if reveal else ""
    return Verdict(verdict.right, f"{name}: {verdict.text}{shown}")


# ---- what the exercises compute ----


def _one_peak(classes: int) -> torch.Tensor:
    """A standardized row (1, K) of one high class, the others equal, in float64."""
    return standardize(torch.eye(classes, dtype=torch.float64)[:1])


def _split(high: int, classes: int) -> list[float]:
    """A standardized row of so many equal high classes, the others equal."""
    row = torch.zeros(1, classes, dtype=torch.float64)
    row[0, :high] = 1.0
    return standardize(row)[0].tolist()


def _highest(classes: int) -> float:
    """The highest maximum of a standardized row: √(K − 1)."""
    return series.samuelson_bounds(classes)[1]


def _surest_probability() -> float:
    z = _one_peak(10)
    return (z / MaxLogit()(z, z).teacher).softmax(1)[0, 0].item()


def _first_safe_order(classes: int) -> int:
    return next(n for n in range(2, 200, 2) if series.lower_end(n - 1) <= -_highest(classes))


def _classes_beyond_the_signed_rule() -> int:
    ratio = series.upper_factor(2) / series.lower_factor(2)
    bounds = ((k, series.samuelson_bounds(k)) for k in range(2, 50))
    # The ruled-out row has the lowest maximum and the lowest minimum at once.
    return next(k for k, (low, high) in bounds if high / low > ratio + 1e-9)


def _two_temperatures(student: float, teacher: float) -> float:
    z = _one_peak(10)
    taus = Temperatures(*(torch.full((1, 1), tau, dtype=torch.float64) for tau in (student, teacher)))
    return KL()(z, z, None, taus).item()


def _terms_of_the_means() -> int:
    sums = [math.fsum((-1) ** (i + 1) / i for i in range(1, m + 1)) for m in range(1, 40)]
    off = [abs((one + other) / 2 / math.log(2) - 1) for one, other in pairwise(sums)]
    last = max(i for i, value in enumerate(off) if value > 0.01)
    return last + 3  # the next mean, number last + 1 from 0, is of so many terms and of one less


def _worse_end() -> str:
    def remainder(x: float) -> float:  # after one term, at an end or just inside of it
        return abs(x - math.log(max(series.exp_taylor(x, 3), 1e-300)))

    return "lower" if remainder(series.lower_end(3) + 1e-9) > remainder(series.upper_end(3)) else "upper"


def _missing_entropy() -> float:
    top = series.upper_end(2)
    share = torch.linspace(0.001, 0.999, 9981, dtype=torch.float64)
    shares = torch.stack([share, 1 - share])
    levels = torch.stack([torch.full_like(share, top), -share * top / (1 - share)])
    p = shares * levels.exp()
    p = p / p.sum(0)
    return (p * (p / shares).log()).sum(0).max().item()


def _condition(sides: int) -> float:
    """e to so many times 1/c₂⁺: how far apart two classes are on each side of the mean at most."""
    return math.exp(sides / series.upper_factor(2))


_GAINS = (0.9, 0.1, 0.5)


def _half_width(level: float = 0.95) -> float:
    found = mean_interval(_GAINS, level)
    return (found.high - found.low) / 2


def _wins_needed(columns: int = 14) -> int:
    return next(w for w in range(columns // 2, columns + 1) if sign_test(w, columns - w) <= 0.05)


def _wins_needed_one_sided(columns: int = 14) -> int:
    return next(w for w in range(columns // 2, columns + 1) if sign_test(w, columns - w) / 2 <= 0.05)


def _smoothed_height(epsilon: float = 0.1, classes: int = 10) -> float:
    label = (1 - epsilon) * torch.eye(classes, dtype=torch.float64)[0] + epsilon / classes
    logits = label.log()  # of the row at which the smoothed cross entropy is smallest: its softmax is the label
    return (logits[0] - logits[1]).item()


def _connector_parameters(student: int = 16, teacher: int = 32) -> int:
    term = FitNet()
    (tap,) = term.taps.student
    narrow, wide = (Signals(torch.zeros(1, 10), {tap: torch.zeros(1, n, 4, 4)}) for n in (student, teacher))
    with seeded(0):  # only their number is read, and the reader's own random numbers stay as they were
        term.build(narrow, wide, 1)
    return sum(parameter.numel() for parameter in term.parameters())


EXERCISES = {
    exercise.name: exercise
    for exercise in (
        Exercise(
            "00.2",
            "The ceiling of A's temperature for K = 4",
            lambda: MaxLogit().upper * _highest(4),
            "What is the highest logit of a row of four that is standardized, and what does the rule multiply it by?",
            (
                (lambda: _highest(4), "This is the highest logit; τ is a multiple of it."),
                (lambda: MaxLogit().upper * 2, "Under the root is K − 1, not K."),
                (
                    lambda: MaxLogit().upper * 1.5,
                    "A standardizes with the population's deviation, ÷K; this is the sample's, ÷(K − 1).",
                ),
            ),
        ),
        Exercise(
            "01.2",
            "The probability of its peak from the surest possible teacher of ten classes",
            _surest_probability,
            "Standardize a row with one high class, divide by τ = 1.366 max z, and take the softmax.",
            (
                (lambda: 100 * _surest_probability(), "As a probability between 0 and 1, not in per cent."),
                (lambda: _one_peak(10).softmax(1)[0, 0].item(), "This is the softmax without a temperature."),
                (
                    lambda: _one_peak(10).mul(1 / _highest(10)).softmax(1)[0, 0].item(),
                    "This is at τ = max z; the rule has a factor before it.",
                ),
            ),
        ),
        Exercise(
            "01.3",
            "The smallest number of classes with which the signed rule can leave the interval",
            _classes_beyond_the_signed_rule,
            "For the row with one class ruled out, |min z| / max z depends on K alone.",
            ((lambda: 4, "|min z| / max z of the ruled-out row is K − 1, not K."),),
            tolerance=0.0,
        ),
        Exercise(
            "02.4",
            "The first such even order for K = 100",
            lambda: _first_safe_order(100),
            "The lowest logit of a standardized row is −√(K − 1); the minimum of fₙ is the real zero of the order before.",
            (
                (lambda: _first_safe_order(10), "This is the order for K = 10."),
                (
                    lambda: _first_safe_order(100) - 1,
                    "This is the order whose zero is to be passed; the even order comes after it.",
                ),
            ),
            tolerance=0.0,
        ),
        Exercise(
            "03.3",
            "The lowest of these limits of τ for K = 100, over all g",
            lambda: min(1 / series.partition_radius(_split(g, 100)) for g in range(1, 51)),
            "The zero nearest to 0 is where e to the gap of the two levels, times s, is −(K − g)/g.",
            (
                (
                    lambda: series.partition_radius(_split(50, 100)),
                    "This is the radius in 1/τ; τ is its reciprocal.",
                ),
                (lambda: series.upper_factor(2), "This is Eq. 20's value for that row."),
                (lambda: 1 / series.partition_radius(_split(1, 100)), "This is the limit for g = 1."),
            ),
        ),
        Exercise(
            "04.1",
            "The limit of the loss for r = 2 and equal rows, ρ = 1",
            lambda: _two_temperatures(2e5, 1e5),
            "Half the mean square of z_t/τ_t − z_s/τ_s, times the weight.",
            (
                (lambda: 1 + _two_temperatures(2e5, 1e5), "From this ρ has still to be subtracted."),
                (lambda: 0.0, "Equal rows at two temperatures are not equal distributions."),
                (lambda: _two_temperatures(2e5, 1e5) / 2, "The weight is τ_s τ_t, not τ_t²."),
                (lambda: _two_temperatures(2e5, 1e5) * 2, "The weight is τ_s τ_t, not τ_s²."),
            ),
        ),
        Exercise(
            "05.1",
            "The number of terms",
            _terms_of_the_means,
            "From which mean on do all of them lie within 1 % of log 2?",
            (
                (lambda: _terms_of_the_means() - 1, "A mean of two neighbours needs the longer one's terms."),
                (lambda: 72, "This is the number without the means."),
            ),
            tolerance=0.0,
        ),
        Exercise(
            "05.2",
            "The worse end for n = 3",
            _worse_end,
            "Where is f₃ zero, and what is its logarithm there?",
            choices=("lower", "upper"),
        ),
        Exercise(
            "06.1",
            "How far below log K, in nats",
            _missing_entropy,
            "The entropy falls short by Σ p log(p / share of the level); try all shares f.",
            (
                (lambda: _missing_entropy() / math.log(2), "This is in bits; nats take the natural logarithm."),
                (lambda: _missing_entropy() / math.log(10), "This is with the decimal logarithm."),
                (lambda: series.upper_end(2), "This is the cap."),
            ),
        ),
        Exercise(
            "07.1",
            "The constant at which the highest logits of 4.9 and 7.0 make it divide by zero",
            lambda: -(4.9 + 7.0) / 2,
            "The denominator is the sum of the two shifted maxima.",
            (
                (lambda: -4.9, "Here the student's temperature is zero; the pole is elsewhere."),
                (lambda: -(4.9 + 7.0), "The constant is added to both rows."),
                (lambda: (4.9 + 7.0) / 2, "Mind the sign."),
            ),
            tolerance=0.002,
        ),
        Exercise(
            "08.3",
            "The largest κ",
            lambda: _condition(2),
            "All |z| are at most max |z|; how far apart can two classes be, divided by τ?",
            (
                (
                    lambda: _condition(1),
                    "This is one class against an even share; κ compares the highest class with the lowest.",
                ),
                (lambda: math.log(_condition(2)), "This is the exponent."),
            ),
        ),
        Exercise(
            "11.4",
            "Half the width of the 95 % interval, in points",
            _half_width,
            "The quantile of Student's t with n − 1 degrees, times s / √n.",
            (
                (lambda: 2 * _half_width(), "This is the whole width."),
                (
                    lambda: _half_width() * math.sqrt(2 / 3),
                    "This has the variance with n below; s takes n − 1.",
                ),
                (
                    lambda: _half_width() * math.sqrt(3),
                    "This is for one seed; the mean of n has a spread of s / √n.",
                ),
                (
                    lambda: 1.96 * 0.4 / math.sqrt(3),
                    "This has the normal quantile, which three values are too few for.",
                ),
                (lambda: 0.4 / math.sqrt(3), "This is the standard error, without a quantile."),
            ),
        ),
        Exercise(
            "13.2",
            "Of 14 columns, how many must be won",
            _wins_needed,
            "Twice the chance that a fair coin shows so many heads of 14, or more.",
            (
                (
                    _wins_needed_one_sided,
                    "This would do for a one-sided test; the sign test of the chapter is two-sided.",
                ),
            ),
            tolerance=0.0,
        ),
        Exercise(
            "14.2",
            "The height of the label for K = 10 and ε = 0.1",
            _smoothed_height,
            "At the minimum the softmax is the smoothed label itself.",
            (
                (lambda: math.log(90), "The label's own class gets its share ε/K as well."),
                (lambda: _smoothed_height() / math.log(10), "This is with the decimal logarithm."),
                (lambda: _smoothed_height() / math.log(2), "This is with the logarithm to base 2."),
                (
                    lambda: math.exp(_smoothed_height()),
                    "This is the ratio of the probabilities; logits are its logarithm.",
                ),
            ),
            tolerance=0.001,
        ),
        Exercise(
            "16.2",
            "The number of parameters from resnet8x0.5 to resnet14",
            _connector_parameters,
            "A 1 × 1 convolution with bias, and a batch norm with a scale and a shift for each channel.",
            (
                (lambda: 16 * 32, "These are the weights of the convolution alone."),
                (lambda: 16 * 32 + 32, "The batch norm has parameters too."),
                (lambda: 16 * 32 + 64, "The convolution has a bias."),
                (lambda: _connector_parameters(32), "These are the parameters for a resnet8."),
            ),
            tolerance=0.0,
        ),
    )
}
