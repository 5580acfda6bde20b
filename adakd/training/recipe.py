"""How long and how to train: frozen settings with names, so that a record says all of it in one word."""

import math
import operator
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR

from .._check import brief, check_name, near_names
from ..data import Dataset, ExampleViews

__all__ = [
    "MOST_EPOCHS",
    "RECIPES",
    "SETTINGS",
    "Recipe",
    "check_settings",
    "get_recipe",
    "steps_of",
    "student_views",
    "validation_split",
]

# A record holds a row an epoch, so this is a record of some 30 MB; the longest recipe in the literature that is known to
# us has 4000. Beyond it a number is a slip of the hand, and the run would never end.
MOST_EPOCHS = 100_000
_MOST = 2**31 - 1  # of everything else that is counted: what every reader of a record can hold
# Lowest and highest value: generous, and finite.
_RANGES = {"lr": (0, 1e6), "momentum": (0, 1), "weight_decay": (0, 1e6), "gamma": (0, 1e6)}


def _integer(name: str, value: Any, low: int, high: int) -> int:
    """A plain integer; a bool is none, although Python counts with it."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ValueError(f"{name}: expected an integer, got {brief(value)}")
    if number < low:
        raise ValueError(f"{name}: must be at least {low}, got {brief(number)}")
    if number > high:
        raise ValueError(f"{name}: must be at most {high}, got {brief(number)}")
    return number


def _number(name: str, value: Any, low: float, high: float) -> float:
    """A plain finite float."""
    try:
        number = math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not low <= number <= high:
        raise ValueError(f"{name}: expected a number from {low:g} to {high:g}, got {brief(value)}")
    return number


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run, by SGD with momentum and weight decay on every parameter, or by AdamW.

    ``schedule="multistep"`` multiplies the rate by ``gamma`` after each epoch in ``milestones``;
    ``"onecycle"`` warms up to ``lr`` and anneals to zero, step by step.
    """

    name: str
    epochs: int
    batch_size: int = 64
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "multistep"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    train_images: int | None = None
    """Size of the class-balanced transfer set, chosen by the run's seed; None for all training images."""
    eval_every: int = 1
    """Epochs between measurements on the test set; the last epoch is always measured."""
    views: int | None = None
    """In how many different crops and flips each image is shown; None for all there are."""
    validation_images: int | None = None
    """Training images that no seed trains on, to choose settings by (see `adakd.data.held_out`); None for none."""
    algorithm: str = "sgd"
    """``"sgd"``, or ``"adamw"``: then ``momentum`` is the first of its two betas, the second 0.99."""

    def __post_init__(self) -> None:
        check_name("recipe", self.name)
        # Numbers of NumPy's types would make a checkpoint that torch refuses to read.
        for name in ("epochs", "batch_size", "eval_every"):
            most = MOST_EPOCHS if name == "epochs" else _MOST
            object.__setattr__(self, name, _integer(name, getattr(self, name), 1, most))
        for name in ("train_images", "views", "validation_images"):
            if getattr(self, name) is not None:  # how many there are, only the data know
                object.__setattr__(self, name, _integer(name, getattr(self, name), -_MOST, _MOST))
        for name, (low, high) in _RANGES.items():
            object.__setattr__(self, name, _number(name, getattr(self, name), low, high))
        if self.momentum == 1 or self.gamma == 0:  # steps would add up for ever, or the rate become 0 for good
            raise ValueError(
                f"recipe: expected momentum below 1 and gamma above 0, got {self.momentum} and {self.gamma}"
            )
        if isinstance(self.milestones, str | bytes) or not isinstance(self.milestones, Iterable):
            raise ValueError(
                f"milestones: expected a sequence of epochs, such as (150, 180, 210), got {brief(self.milestones)}"
            )
        milestones = tuple(_integer("milestones", at, 1, self.epochs) for at in self.milestones)
        if list(milestones) != sorted(milestones):
            raise ValueError(f"milestones: expected ascending epochs, got {milestones}")
        object.__setattr__(self, "milestones", milestones)
        for name, known in (("schedule", ("multistep", "onecycle")), ("algorithm", ("sgd", "adamw"))):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name}: expected {' or '.join(map(repr, known))}, got {value!r}")

    def describe(self) -> dict[str, Any]:
        """The settings as plain data, for a record."""
        settings = {**asdict(self), "milestones": list(self.milestones)}
        for name in ("views", "validation_images"):
            if settings[name] is None:
                del settings[name]  # so that a run from before this setting is still found
        if self.algorithm == "sgd":
            del settings["algorithm"]
        return settings

    def shown(self, images: int) -> int:
        """How many of a training set of so many images an epoch shows."""
        return self.train_images or images - (self.validation_images or 0)

    def steps(self, images: int) -> int:
        """The number of steps of a run on a training set of so many images."""
        return self.epochs * math.ceil(self.shown(images) / self.batch_size)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        # Fused: all parameters in one kernel, and in fp16 the scaler's decision to skip stays on the device.
        if self.algorithm == "adamw":
            betas = (
                self.momentum,
                0.99,
            )  # the second of a run of hundreds of steps, and not of hundred thousands
            return torch.optim.AdamW(
                parameters, lr=self.lr, betas=betas, weight_decay=self.weight_decay, fused=True
            )
        return torch.optim.SGD(
            parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True
        )

    def scheduler(self, optimizer: Optimizer, steps_per_epoch: int) -> LRScheduler:
        """A schedule to be stepped after every optimizer step."""
        if self.schedule == "onecycle":
            steps, warm_up = self.epochs * steps_per_epoch, 0.2
            if warm_up * steps == 1:
                # The warm-up would have no length, by which torch divides. Just below, the first step has the full rate,
                # as with fewer steps; no other length of a run is touched.
                warm_up *= 1 - 1e-9
            return OneCycleLR(
                optimizer,
                max_lr=self.lr,
                total_steps=steps,
                pct_start=warm_up,
                cycle_momentum=False,
            )
        return MultiStepLR(optimizer, [m * steps_per_epoch for m in self.milestones], self.gamma)


_ADAMW: dict[str, Any] = {"weight_decay": 0.01, "schedule": "onecycle", "algorithm": "adamw"}

# Each name holds a setting for teachers and one for students.
RECIPES: dict[str, dict[str, Recipe]] = {
    # The protocol that the distillation literature shares for CIFAR-100 (and 2503.09030, section 4).
    "paper": {
        role: Recipe("paper", epochs=240, lr=0.05, milestones=(150, 180, 210))
        for role in ("teacher", "student")
    },
    # For two CPU cores: the teacher sees everything briefly, the student a small transfer set often. Short
    # training on all images would show nothing: distillation has not begun to pay then.
    "quick": {
        "teacher": Recipe("quick", epochs=15, lr=0.2, batch_size=128, schedule="onecycle"),
        "student": Recipe("quick", epochs=40, lr=0.1, schedule="onecycle", train_images=4000, eval_every=10),
    },
    # For the embedded gratings: seconds.
    "demo": {
        "teacher": Recipe("demo", epochs=8, lr=0.1, schedule="onecycle", eval_every=2),
        "student": Recipe("demo", epochs=60, lr=0.1, schedule="onecycle", train_images=250, eval_every=20),
    },
    # For text, of which passages are what images are elsewhere: minutes. The teacher reads all of them, the student few,
    # and no more often than one without a teacher still gains by.
    "language": {
        "teacher": Recipe("language", epochs=10, lr=0.004, **_ADAMW, eval_every=2),
        "student": Recipe(
            "language", epochs=30, batch_size=32, lr=0.01, **_ADAMW, train_images=256, eval_every=10
        ),
    },
}

# Networks that a recipe trains with other settings, in either role: in the literature's tables those of depthwise
# convolutions begin with a fifth of the rate.
SETTINGS_OF: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {network: {"lr": 0.01} for network in ("MobileNetV2", "ShuffleV1", "ShuffleV2")}
}


# What a call may change of a recipe; its name says which recipe it is.
SETTINGS = tuple(setting for setting in Recipe.__dataclass_fields__ if setting != "name")


def check_settings(names: Iterable[str]) -> None:
    """Raise ValueError for the first name that no setting of a recipe has, with the nearest that one has."""
    for name in names:
        if name not in SETTINGS:
            raise ValueError(near_names("recipe setting", name, SETTINGS))


def get_recipe(
    name: str | Recipe, role: str = "student", *, network: str | None = None, **changes: Any
) -> Recipe:
    """A named recipe, with other values for any of its settings.

    Args:
        name: "paper", "quick", "demo", "language", or a `Recipe` of your own.
        role: "teacher" or "student".
        network: the name of the network that is trained: "paper" trains MobileNetV2 and the ShuffleNets with
            ``lr=0.01``, as the literature does. A `Recipe` of your own is as it is.
        changes: e.g. ``epochs=10``, ``lr=0.01``; None values are ignored. ``train_images="all"`` takes the whole
            training set where the recipe takes a part. With another number of epochs the milestones move in
            proportion.

    Raises:
        ValueError: for an unknown name, role or setting.
    """
    if role not in ("teacher", "student"):
        raise ValueError(f"role: expected 'teacher' or 'student', got {role!r}")
    if isinstance(name, Recipe):
        recipe = name
    elif isinstance(name, str) and name in RECIPES:
        recipe = replace(RECIPES[name][role], **SETTINGS_OF.get(name, {}).get(network or "", {}))
    else:
        raise ValueError(near_names("recipe", name, RECIPES))
    changes = {key: value for key, value in changes.items() if value is not None}
    check_settings(changes)
    if changes.get("train_images") == "all":
        changes["train_images"] = None
    if "epochs" in changes and "milestones" not in changes:
        # A shorter run of the same shape: the rate must fall in it at the same places.
        scale = _integer("epochs", changes["epochs"], 1, MOST_EPOCHS) / recipe.epochs
        changes["milestones"] = tuple(max(1, round(milestone * scale)) for milestone in recipe.milestones)
    return replace(recipe, **changes)


def student_views(data: Dataset, recipe: Recipe, seed: int) -> ExampleViews:
    """The views that a run of this recipe and seed sees.

    Raises:
        ValueError: for a recipe that does not fit the data.
    """
    without = data.held_out(recipe.validation_images) if recipe.validation_images is not None else None
    return data.views(seed, data.subset(recipe.train_images, seed, without), recipe.views)


def validation_split(data: Dataset, recipe: Recipe) -> Dataset | None:
    """The examples that the recipe holds out, in the place of the test split; None where it holds none out."""
    if recipe.validation_images is None:
        return None
    return data.tested_on(data.held_out(recipe.validation_images))


def steps_of(data: Dataset, recipe: Recipe) -> int:
    """The number of steps of a run of this recipe."""
    return recipe.steps(len(data.train))
