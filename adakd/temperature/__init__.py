"""Temperature rules: how soft to make a sample. One file a rule, one signature (`base.TemperatureRule`).

``RULES`` has each by the name of its file.
"""

from .._parts import find_parts
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

RULES = find_parts(__name__, __path__, TemperatureRule)
