"""adakd: adaptive temperature in knowledge distillation.

A method is cross entropy and a weighted sum of terms; a term on logits is refine? -> standardize? -> temperature ->
divergence -> sample weight?, and the package is laid out by that sentence. ``adakd.create_method("zkd+mlt")`` is a loss
for your own loop; ``adakd.distill(...)`` trains a student end to end.

``import adakd`` itself imports next to nothing, torch neither: each name below is fetched when it is first used.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:  # what type checkers and editors read; _ROOMS below says the same to the interpreter
    # A name as itself is public to checkers, without a place in __all__.
    from . import bench as bench
    from . import cli as cli
    from . import conformance as conformance
    from . import engine as engine
    from . import exercises, functional, series
    from . import explore as explore
    from . import expression as expression
    from . import measure as measure
    from . import plan as plan
    from . import statistics as statistics
    from . import study as study
    from . import sweep as sweep
    from . import temperatures as temperatures
    from . import theory as theory
    from .advice import Advice, advise
    from .api import cache_teacher, compare, distill, evaluate, evaluate_weights, fit, train_teacher
    from .data import DATASETS, DataError, ImageData, TokenData, load_data
    from .distiller import Distiller, TrainerDistiller
    from .divergence import (
        AB,
        DIST,
        DKD,
        JSD,
        KL,
        MLKD,
        RLD,
        TTM,
        Anchored,
        Correlation,
        Divergence,
        LogitDistance,
        ReverseKL,
        SkewedKL,
        TaylorKL,
    )
    from .export import Exported, ExportError, export_network
    from .logits import peak, pearson, standardize
    from .methods import (
        METHODS,
        Method,
        create_method,
        get_method,
        register_divergence,
        register_method,
        register_refinement,
        register_rule,
        register_term,
        register_weight,
    )
    from .models import MODELS, create_model
    from .objective import LogitObjective, Objective, Terms
    from .refine import (
        TAID,
        Asymmetric,
        Refinement,
        Swap,
    )
    from .runs import Resources, Run, RunConfig, open_run
    from .signals import Batch, Signals, Tapped, Taps
    from .stages import stages_of
    from .teachers import (
        CachedTeacher,
        Ensemble,
        LiveTeacher,
        Recorded,
        TeacherError,
        find_teacher,
        record_logits,
    )
    from .temperature import (
        CIST,
        CTKD,
        DTKD,
        DTS,
        AdaptiveTTM,
        Cosine,
        Difficulty,
        Energy,
        Fixed,
        MaxLogit,
        MetaTemperature,
        NormKD,
        Policy,
        TemperatureRule,
        Temperatures,
    )
    from .terms import LogitTerm, Term
    from .training import (
        RECIPES,
        CacheError,
        CheckpointError,
        Interrupted,
        Precision,
        Recipe,
        Trainer,
        ViewCache,
        WeightsError,
        choose_precision,
        get_recipe,
        load_weights,
        lockstep,
    )
    from .weight import (
        Confidence,
        Entropy,
        PowerSum,
        SampleWeight,
        TeacherScale,
    )

__all__ = [
    "AB",
    "CIST",
    "CTKD",
    "DATASETS",
    "DIST",
    "DKD",
    "DTKD",
    "DTS",
    "JSD",
    "KL",
    "METHODS",
    "MLKD",
    "MODELS",
    "RECIPES",
    "RLD",
    "TAID",
    "TTM",
    "AdaptiveTTM",
    "Advice",
    "Anchored",
    "Asymmetric",
    "Batch",
    "CacheError",
    "CachedTeacher",
    "CheckpointError",
    "Confidence",
    "Correlation",
    "Cosine",
    "DataError",
    "Difficulty",
    "Distiller",
    "Divergence",
    "Energy",
    "Ensemble",
    "Entropy",
    "ExportError",
    "Exported",
    "Fixed",
    "ImageData",
    "Interrupted",
    "LiveTeacher",
    "LogitDistance",
    "LogitObjective",
    "LogitTerm",
    "MaxLogit",
    "MetaTemperature",
    "Method",
    "NormKD",
    "Objective",
    "Policy",
    "PowerSum",
    "Precision",
    "Recipe",
    "Recorded",
    "Refinement",
    "Resources",
    "ReverseKL",
    "Run",
    "RunConfig",
    "SampleWeight",
    "Signals",
    "SkewedKL",
    "Swap",
    "Tapped",
    "Taps",
    "TaylorKL",
    "TeacherError",
    "TeacherScale",
    "TemperatureRule",
    "Temperatures",
    "Term",
    "Terms",
    "TokenData",
    "Trainer",
    "TrainerDistiller",
    "ViewCache",
    "WeightsError",
    "__version__",
    "advise",
    "cache_teacher",
    "choose_precision",
    "compare",
    "create_method",
    "create_model",
    "distill",
    "evaluate",
    "evaluate_weights",
    "exercises",
    "export_network",
    "find_teacher",
    "fit",
    "functional",
    "get_method",
    "get_recipe",
    "load_data",
    "load_weights",
    "lockstep",
    "open_run",
    "peak",
    "pearson",
    "record_logits",
    "register_divergence",
    "register_method",
    "register_refinement",
    "register_rule",
    "register_term",
    "register_weight",
    "series",
    "stages_of",
    "standardize",
    "train_teacher",
]

# Where each public name lives.
_ROOMS = {
    "advice": ("Advice", "advise"),
    "api": ("cache_teacher", "compare", "distill", "evaluate", "evaluate_weights", "fit", "train_teacher"),
    "data": ("DATASETS", "DataError", "ImageData", "TokenData", "load_data"),
    "distiller": ("Distiller", "TrainerDistiller"),
    "divergence": (
        "AB",
        "DIST",
        "DKD",
        "JSD",
        "KL",
        "MLKD",
        "RLD",
        "TTM",
        "Anchored",
        "Correlation",
        "Divergence",
        "LogitDistance",
        "ReverseKL",
        "SkewedKL",
        "TaylorKL",
    ),
    "export": ("ExportError", "Exported", "export_network"),
    "logits": ("peak", "pearson", "standardize"),
    "methods": (
        "METHODS",
        "Method",
        "create_method",
        "get_method",
        "register_divergence",
        "register_method",
        "register_refinement",
        "register_rule",
        "register_term",
        "register_weight",
    ),
    "models": ("MODELS", "create_model"),
    "objective": ("LogitObjective", "Objective", "Terms"),
    "refine": (
        "TAID",
        "Asymmetric",
        "Refinement",
        "Swap",
    ),
    "runs": ("Resources", "Run", "RunConfig", "open_run"),
    "signals": ("Batch", "Signals", "Tapped", "Taps"),
    "stages": ("stages_of",),
    "temperature": (
        "CIST",
        "CTKD",
        "DTKD",
        "DTS",
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
    ),
    "teachers": (
        "CachedTeacher",
        "Ensemble",
        "LiveTeacher",
        "Recorded",
        "TeacherError",
        "find_teacher",
        "record_logits",
    ),
    "terms": ("LogitTerm", "Term"),
    "training": (
        "RECIPES",
        "CacheError",
        "CheckpointError",
        "Interrupted",
        "Precision",
        "Recipe",
        "Trainer",
        "ViewCache",
        "WeightsError",
        "choose_precision",
        "get_recipe",
        "load_weights",
        "lockstep",
    ),
    "weight": (
        "Confidence",
        "Entropy",
        "PowerSum",
        "SampleWeight",
        "TeacherScale",
    ),
    "exercises": (),
    "functional": (),
    "series": (),
    # Not in __all__: a star brings none of these along.
    "bench": (),
    "cli": (),
    "conformance": (),
    "engine": (),
    "explore": (),
    "expression": (),
    "measure": (),
    "plan": (),
    "statistics": (),
    "study": (),
    "sweep": (),
    "temperatures": (),
    "theory": (),
}

_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


if not TYPE_CHECKING:  # a checker would take every misspelt name for one that exists

    def __getattr__(name: str) -> Any:
        if name in _ROOM_OF:
            value = getattr(import_module(f".{_ROOM_OF[name]}", __name__), name)
        elif name in _ROOMS:
            return import_module(f".{name}", __name__)
        else:
            raise AttributeError(
                f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__]
            )
        globals()[name] = value  # so that this runs once
        return value


def __dir__() -> list[str]:
    # The figures need an extra: without it whoever fetches all that is listed, as help() does, would end there.
    return sorted({*globals(), *__all__, *(_ROOMS.keys() - {"explore"})})
