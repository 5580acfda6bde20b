"""Temperature rules: how soft to make a sample. One file a rule, one signature (`base.TemperatureRule`)."""

from .base import TemperatureRule, Temperatures
from .fixed import Fixed
from .maxlogit import MaxLogit

__all__ = ["RULES", "Fixed", "MaxLogit", "TemperatureRule", "Temperatures"]

RULES: dict[str, type[TemperatureRule]] = {"fixed": Fixed, "maxlogit": MaxLogit}
