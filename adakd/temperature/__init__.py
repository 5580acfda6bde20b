"""Temperature rules: how soft to make a sample. One file a rule, one signature (`base.TemperatureRule`)."""

from .base import TemperatureRule, Temperatures
from .cosine import Cosine
from .ctkd import CTKD
from .difficulty import Difficulty
from .dtkd import DTKD
from .dts import DTS
from .fixed import Fixed
from .maxlogit import MaxLogit
from .meta import MetaTemperature
from .policy import Policy

__all__ = [
    "CTKD",
    "DTKD",
    "DTS",
    "RULES",
    "Cosine",
    "Difficulty",
    "Fixed",
    "MaxLogit",
    "MetaTemperature",
    "Policy",
    "TemperatureRule",
    "Temperatures",
]

RULES: dict[str, type[TemperatureRule]] = {
    "fixed": Fixed,
    "maxlogit": MaxLogit,
    "ctkd": CTKD,
    "dtkd": DTKD,
    "dts": DTS,
    "cosine": Cosine,
    "difficulty": Difficulty,
    "meta": MetaTemperature,
    "policy": Policy,
}
