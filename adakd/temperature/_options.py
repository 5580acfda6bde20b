"""Checks that several rules share: options that must be positive or ordered, labels that must be there."""

import torch
from torch import Tensor

from .._check import check_numbers
from .base import TemperatureRule

__all__ = ["check_bounds", "check_positive", "check_target", "finite_or"]


def finite_or(new: Tensor, old: Tensor) -> Tensor:
    """New values, and the old ones where the new are not finite.

    A state outlives its batch: one whose loss overflows, which a gradient scaler would skip, must not stay in it.
    """
    return torch.where(new.isfinite(), new, old)


def check_positive(**options: float) -> None:
    """Raise ValueError naming the first option that is not a finite number above 0, and TypeError for one that is no number."""
    check_numbers("a finite number above 0", **options)
    for name, value in options.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name}: expected a finite number above 0, got {value!r}")


def check_bounds(minimum: float, maximum: float, **inside: float) -> None:
    """Raise ValueError unless 0 < minimum <= maximum, with every further option between them."""
    check_positive(minimum=minimum, maximum=maximum)
    check_numbers("a temperature between minimum and maximum", **inside)
    if minimum > maximum:
        raise ValueError(f"minimum, maximum: expected minimum <= maximum, got {minimum!r} and {maximum!r}")
    for name, value in inside.items():
        if not minimum <= value <= maximum:
            raise ValueError(
                f"{name}: expected a temperature between minimum and maximum ({minimum:g} to {maximum:g}), got {value!r}"
            )


def check_target(rule: TemperatureRule, target: Tensor | None) -> Tensor:
    """The labels; ValueError if a rule that learns from them got none."""
    if target is None:
        raise ValueError(
            f"target: {type(rule).__name__} learns from the labels while training and got None; "
            "pass the (B,) class labels, or call eval() of the rule, which gives the temperature as it stands (an objective "
            "needs the labels in either mode)"
        )
    return target
