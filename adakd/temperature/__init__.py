"""Temperature rules: how soft to make a sample. One file a rule, one signature (`base.TemperatureRule`).

``RULES`` has each by the name of its file.
"""

from .._parts import find_parts
from .adaptive_ttm import AdaptiveTTM
from .base import TemperatureRule, Temperatures
from .cist import CIST
from .cosine import Cosine
from .ctkd import CTKD
from .difficulty import Difficulty
from .dtkd import DTKD
from .dts import DTS
from .energy import Energy
from .fixed import Fixed
from .maxlogit import MaxLogit
from .meta import MetaTemperature
from .normkd import NormKD
from .policy import Policy

__all__ = [
    "CIST",
    "CTKD",
    "DTKD",
    "DTS",
    "RULES",
    "AdaptiveTTM",
    "Cosine",
    "Difficulty",
    "Energy",
    "Fixed",
    "MaxLogit",
    "MetaTemperature",
    "NormKD",
    "Policy",
    "TemperatureRule",
    "Temperatures",
]

RULES = find_parts(__name__, __path__, TemperatureRule)
