"""What identifies a run, and where and how it is carried out: two things that never mix."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch

from .._check import check_method_name, check_name
from .._progress import Bar
from ..data import Dataset, identity_of
from ..models import Network
from ..training.loop import never
from ..training.precision import Precision
from ..training.recipe import Recipe
from ..training.record import key_of
from ..training.world import ALONE, World

__all__ = ["PlaceOptions", "ResourceOptions", "Resources", "RunConfig", "resolve_device"]


@dataclass(frozen=True)
class RunConfig:
    """What identifies a run: of two runs with one of these, the second opens what the first has made.

    The number of processes is no part of it, as the device is none: the global batch is the recipe's, and the loss and all
    batch statistics are those of the whole batch, so that results differ by rounding alone.
    """

    student: Network
    method: str
    options: Mapping[str, Any]
    """Settings of the method that differ from its row, in JSON's own types."""
    data: Dataset
    recipe: Recipe
    seed: int
    precision: Precision
    teacher: Mapping[str, Any] | None = None
    """Name and hash of the teacher's weights, and the format of its logits where they are cached; None without one."""
    further: Mapping[str, str] = field(default_factory=dict)
    """What else identifies it, of a network or a method whose name does not say all."""

    def describe(self) -> dict[str, Any]:
        """The same as plain data: the ``config`` of the run's record."""
        return {
            "model": self.student.name,
            "method": self.method,
            "method_options": dict(self.options),
            "data": identity_of(self.data),
            "recipe": self.recipe.describe(),
            "seed": self.seed,
            "precision": self.precision.name,
            "teacher": None if self.teacher is None else dict(self.teacher),
            **self.further,
        }

    @property
    def key(self) -> str:
        """What two runs have in common if and only if they are the same."""
        return key_of(self.describe())

    def folder(self, out: str | os.PathLike[str]) -> Path:
        """``<out>/<data>/<student>/<method>-<recipe>-seed<seed>-<digest of everything>``."""
        for kind, name in (
            ("data set", self.data.name),
            ("model", self.student.folder),
            ("recipe", self.recipe.name),
        ):
            check_name(kind, name)  # none of them leads out of `out`
        check_method_name(self.method)
        leaf = f"{self.method}-{self.recipe.name}-seed{self.seed}-{self.key[:8]}"
        return Path(out) / self.data.name / self.student.folder / leaf


@dataclass(frozen=True)
class Resources:
    """Where and how runs are carried out.

    Of all this only `cache` changes what comes of them, by the rounding of its format, which a run's identity names.
    """

    out: str | os.PathLike[str] = "runs"
    """Folder under which each run gets its own."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    root: str | os.PathLike[str] | None = None
    """Folder of the downloaded data."""
    official: bool = True
    """Whether CIFAR is verified against the published checksums."""
    cache: str | None = "fp16"
    """Format in which a teacher's logits are kept; None for a teacher that runs along."""
    capture: bool | None = None
    """Whether to compile the step; None: on a GPU only."""
    progress: bool | Bar = True
    """Whether to show a bar; or the bar to share."""
    fresh: bool = False
    """Whether to forget an earlier run of the same settings."""
    should_stop: Callable[[], bool] = never
    """Called after every step; see `adakd.training.loop.fit`."""
    world: World = ALONE
    """The processes that train a run together."""

    @property
    def shows(self) -> bool:
        """Whether progress is shown at all: by the first process."""
        if not self.world.leads:
            return False
        return self.progress if isinstance(self.progress, bool) else not self.progress.disable


class PlaceOptions(TypedDict, total=False):
    """Keywords that say where data and runs are: the fields of `Resources` of these names, a device by its name."""

    out: str | os.PathLike[str]
    """Folder under which each run gets its own."""
    device: str | torch.device | None
    """Its name, "cuda" or "cpu"; with "auto" and None a CUDA GPU where there is one."""
    root: str | os.PathLike[str] | None
    """Folder of the downloaded data."""
    official: bool
    """Whether CIFAR is verified against the published checksums."""
    progress: bool
    """Whether progress is shown."""


class ResourceOptions(PlaceOptions, total=False):
    """Keywords of `PlaceOptions`, and those that say how runs are carried out."""

    capture: bool | None
    """Whether to compile the step; None: on a GPU only."""
    should_stop: Callable[[], bool]
    """Called after every step; when it returns True, the run is saved and `Interrupted` raised."""


def resolve_device(device: str | torch.device | None) -> torch.device:
    """The device given, else a CUDA GPU where there is one, else the CPU.

    Raises:
        ValueError: for CUDA where there is none, or a name torch does not know.
    """
    if device in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device: expected 'cuda', 'cpu' or 'auto', got {device!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected 'cuda', 'cpu' or 'auto', got {str(device)!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: 'cuda' was given, but torch finds no CUDA GPU; use 'cpu'")
    return device
