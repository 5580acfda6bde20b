"""Measuring: what a loss costs beside plain KD, and what a training step is made of.

The parts take turns, round by round, so that whatever else the machine does meets all of them; what is reported are
medians over the rounds, as ratios within a round, and as times for those who have the machine to themselves. Where a
difference is smaller than what a round may stray, two steps alternate one by one, in pairs.
"""

from .losses import SHAPES, bench_losses
from .methods import bench_methods
from .roofline import Ceiling, ceiling, roofline_seconds, vendor_ceiling
from .step import StepBench, bench_step, synthetic_data
from .timing import PAIRS, alternate, turns

__all__ = [
    "PAIRS",
    "SHAPES",
    "Ceiling",
    "StepBench",
    "alternate",
    "bench_losses",
    "bench_methods",
    "bench_step",
    "ceiling",
    "roofline_seconds",
    "synthetic_data",
    "turns",
    "vendor_ceiling",
]
