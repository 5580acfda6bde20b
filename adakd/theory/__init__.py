"""What the book derives, in plain floats: series behind the maximum-logit temperature, zeros of the partition function."""

from .partition import partition_radius, partition_zero, single_peak_radius
from .series import (
    exp_taylor,
    log_series,
    lower_end,
    lower_factor,
    samuelson_bounds,
    taylor_radius,
    taylor_zeros,
    upper_end,
    upper_factor,
)

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
