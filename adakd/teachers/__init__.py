"""Teachers: found, loaded, and where a training loop gets their outputs from."""

from .ensemble import Ensemble
from .find import (
    MissingTeacherError,
    Teacher,
    TeacherError,
    find_teacher,
    load_network,
    load_teacher,
    locate_teacher,
)
from .recorded import Recorded, record_logits
from .source import CachedTeacher, LiveTeacher

__all__ = [
    "CachedTeacher",
    "Ensemble",
    "LiveTeacher",
    "MissingTeacherError",
    "Recorded",
    "Teacher",
    "TeacherError",
    "find_teacher",
    "load_network",
    "load_teacher",
    "locate_teacher",
    "record_logits",
]
