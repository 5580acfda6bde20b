"""Teachers: found, loaded, and where a training loop gets their outputs from."""

from .find import MissingTeacherError, Teacher, TeacherError, find_teacher, load_teacher, locate_teacher
from .source import CachedTeacher, LiveTeacher, TeacherSource

__all__ = [
    "CachedTeacher",
    "LiveTeacher",
    "MissingTeacherError",
    "Teacher",
    "TeacherError",
    "TeacherSource",
    "find_teacher",
    "load_teacher",
    "locate_teacher",
]
