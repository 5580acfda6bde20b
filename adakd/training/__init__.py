"""Training: recipes, a trainer that is the whole state of a run, and the loop that drives one or several."""

from importlib import import_module
from typing import Any

from .cache import CacheError, ViewCache
from .files import WeightsError, load_weights, save_weights, write_json
from .loop import Callback, Interrupted, Runner, TeacherSource, lockstep
from .precision import Precision, choose_precision
from .recipe import RECIPES, Recipe, get_recipe, steps_of, student_views
from .record import REQUIRED_FIELDS
from .resume import Checkpoint, CheckpointError
from .trainer import Trainer, evaluate_model, measure_model
from .world import PeerError, World, join_world

__all__ = [
    "RECIPES",
    "REQUIRED_FIELDS",
    "CacheError",
    "Callback",
    "Checkpoint",
    "CheckpointError",
    "Interrupted",
    "PeerError",
    "Precision",
    "Recipe",
    "Runner",
    "TeacherSource",
    "Trainer",
    "ViewCache",
    "WeightsError",
    "World",
    "choose_precision",
    "evaluate_model",
    "get_recipe",
    "join_world",
    "load_weights",
    "lockstep",
    "measure_model",
    "save_weights",
    "steps_of",
    "student_views",
    "write_json",
]

# Where public names of this package have moved to; they are still found here.
_MOVED = {
    "adakd.api": (
        "cache_teacher",
        "compare",
        "distill",
        "evaluate",
        "evaluate_weights",
        "fit",
        "train_teacher",
    ),
    "adakd.runs": ("BusyError", "Run", "open_run", "resolve_device"),
    "adakd.teachers": ("TeacherError", "find_teacher"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MOVED.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
