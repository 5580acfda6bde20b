"""adakd: adaptive temperature in knowledge distillation.

A logit-based method is three independent choices, standardize? -> temperature rule -> divergence; the package is
laid out by that sentence. ``adakd.create_method("zkd+mlt")`` is a loss for your own loop;
``adakd.distill(...)`` trains a student end to end.
"""

# isort: off
from . import _process  # noqa: F401 - before torch

# isort: on
from . import series
from ._version import __version__
from .data import DATASETS, DataError, ImageData, load_data
from .distiller import Distiller, TrainerDistiller
from .divergence import DIST, DKD, KL, MLKD, TTM, Anchored, Correlation, Divergence, TaylorKL
from .logits import peak, pearson, standardize
from .methods import METHODS, Method, create_method, get_method
from .models import MODELS, create_model
from .objective import LogitObjective, Terms
from .temperature import (
    CTKD,
    DTKD,
    DTS,
    Cosine,
    Difficulty,
    Fixed,
    MaxLogit,
    MetaTemperature,
    Policy,
    TemperatureRule,
    Temperatures,
)
from .training import (
    RECIPES,
    CacheError,
    CheckpointError,
    Interrupted,
    Precision,
    Recipe,
    Run,
    TeacherError,
    ViewCache,
    WeightsError,
    cache_teacher,
    choose_precision,
    compare,
    distill,
    evaluate,
    find_teacher,
    fit,
    get_recipe,
    load_weights,
    open_run,
    train_teacher,
)

__all__ = [
    "CTKD",
    "DATASETS",
    "DIST",
    "DKD",
    "DTKD",
    "DTS",
    "KL",
    "METHODS",
    "MLKD",
    "MODELS",
    "RECIPES",
    "TTM",
    "Anchored",
    "CacheError",
    "CheckpointError",
    "Correlation",
    "Cosine",
    "DataError",
    "Difficulty",
    "Distiller",
    "Divergence",
    "Fixed",
    "ImageData",
    "Interrupted",
    "LogitObjective",
    "MaxLogit",
    "MetaTemperature",
    "Method",
    "Policy",
    "Precision",
    "Recipe",
    "Run",
    "TaylorKL",
    "TeacherError",
    "TemperatureRule",
    "Temperatures",
    "Terms",
    "TrainerDistiller",
    "ViewCache",
    "WeightsError",
    "__version__",
    "cache_teacher",
    "choose_precision",
    "compare",
    "create_method",
    "create_model",
    "distill",
    "evaluate",
    "find_teacher",
    "fit",
    "get_method",
    "get_recipe",
    "load_data",
    "load_weights",
    "open_run",
    "peak",
    "pearson",
    "series",
    "standardize",
    "train_teacher",
]
