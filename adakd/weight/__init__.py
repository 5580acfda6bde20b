"""Sample weights: how much a row counts. One file each, one signature (`base.SampleWeight`).

``WEIGHTS`` has each by the name of its file.
"""

from .._parts import find_parts
from .base import SampleWeight
from .power_sum import PowerSum

__all__ = ["WEIGHTS", "PowerSum", "SampleWeight"]

WEIGHTS = find_parts(__name__, __path__, SampleWeight)
