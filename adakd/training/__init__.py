"""Training: recipes, the resumable loop, and runs that leave weights and a record."""

from .cache import CacheError, ViewCache
from .compare import compare
from .files import WeightsError, load_weights, save_weights, write_json
from .fit import CheckpointError, Interrupted, evaluate_model, fit
from .precision import Precision, choose_precision
from .recipe import RECIPES, Recipe, get_recipe
from .record import REQUIRED_FIELDS
from .run import (
    BusyError,
    Run,
    TeacherError,
    cache_teacher,
    distill,
    evaluate,
    evaluate_weights,
    find_teacher,
    open_run,
    resolve_device,
    train_teacher,
)

__all__ = [
    "RECIPES",
    "REQUIRED_FIELDS",
    "BusyError",
    "CacheError",
    "CheckpointError",
    "Interrupted",
    "Precision",
    "Recipe",
    "Run",
    "TeacherError",
    "ViewCache",
    "WeightsError",
    "cache_teacher",
    "choose_precision",
    "compare",
    "distill",
    "evaluate",
    "evaluate_model",
    "evaluate_weights",
    "find_teacher",
    "fit",
    "get_recipe",
    "load_weights",
    "open_run",
    "resolve_device",
    "save_weights",
    "train_teacher",
    "write_json",
]
