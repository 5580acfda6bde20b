"""Sample weights: how much a row counts. One file each, one signature (`base.SampleWeight`)."""

from .base import SampleWeight
from .power_sum import PowerSum

__all__ = ["WEIGHTS", "PowerSum", "SampleWeight"]

WEIGHTS: dict[str, type[SampleWeight]] = {"power_sum": PowerSum}
