"""Sample weights: how much a row counts. One file each, one signature (`base.SampleWeight`).

``WEIGHTS`` has each by the name of its file.
"""

from .._parts import find_parts
from .base import SampleWeight
from .confidence import Confidence
from .entropy import Entropy
from .power_sum import PowerSum
from .teacher_scale import TeacherScale

__all__ = [
    "WEIGHTS",
    "Confidence",
    "Entropy",
    "PowerSum",
    "SampleWeight",
    "TeacherScale",
]

WEIGHTS = find_parts(__name__, __path__, SampleWeight)
