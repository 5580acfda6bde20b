"""Finding and loading a trained teacher. Nothing here trains one."""

import copy
import logging
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from .._check import brief, check_path, near_names
from .._described import sha256_of_state
from .._frozen import frozen
from .._progress import Bar, shown_before
from ..data import Dataset, identity_of, typed_name
from ..models import MODELS, Network, network_of
from ..models._layout import channels_last
from ..models.network import is_model, settings_of
from ..runs.config import Resources, RunConfig
from ..runs.folder import RECORD, WEIGHTS
from ..runs.run import Run, loaded_model, open_run, refuse_other_data
from ..signals import Taps
from ..training.cache import ViewCache, fits, open_cache
from ..training.files import WeightsError, sha256_of
from ..training.loop import TeacherSource
from ..training.precision import Precision, choose_precision
from ..training.recipe import RECIPES, Recipe, get_recipe, student_views
from ..training.record import key_of
from ..training.trainer import evaluate_model
from .ensemble import Ensemble
from .recorded import Recorded
from .source import CachedTeacher, LiveTeacher, fp32_of

__all__ = [
    "MissingTeacherError",
    "Teacher",
    "TeacherError",
    "find_teacher",
    "load_network",
    "load_teacher",
    "locate_teacher",
]

log = logging.getLogger("adakd")

_MOST_ASKED = 10_000  # training images of which a teacher's accuracy is measured: to half a percent


class TeacherError(RuntimeError):
    """The teacher named is not trained yet, or there are several of that name."""


class MissingTeacherError(TeacherError):
    """The model named has no finished run yet."""


@dataclass(frozen=True)
class Teacher:
    """A trained teacher: its network, and what a config and a record say of it."""

    model: nn.Module
    identity: dict[str, Any]
    """In a run's config: its name and the hash of its weights, and the format of its logits where they are cached."""
    fields: dict[str, Any]
    """In a run's record: the same, and its accuracy where a record of its own says it."""
    cache: tuple[str, Precision] | None = None
    """Format of the cached logits, and number format in which they are computed; None for a live teacher."""

    @property
    def cached(self) -> bool:
        """Whether the logits come from a cache."""
        return self.cache is not None

    def with_cache(self, data: Dataset, recipe: Recipe, dtype: str, precision: str) -> "Teacher":
        """The same teacher, whose logits come from the view cache; itself where there is no room for one."""
        count = student_views(data, recipe, 0).count
        if not fits(data, count, dtype):
            log.info(
                "the teacher stays live, at the student's side: its logits for %d views are too much to keep",
                len(data.train) * count,
            )
            return self
        # By the teacher's size and not by a student's: students of all sizes share the logits.
        size = sum(p.numel() for p in self.model.parameters())
        chosen = choose_precision(precision, data.device, size, data.reads)
        kept = {"logits": f"{dtype} of {chosen.name}"}
        return Teacher(self.model, {**self.identity, **kept}, {**self.fields, **kept}, (dtype, chosen))

    def source(self, config: RunConfig, resources: Resources, taps: Taps) -> TeacherSource:
        """Where a run's steps get the outputs from; a cache is filled first."""
        if not self.cached:
            return LiveTeacher(self.model, config.precision, config.data.device, taps)
        return CachedTeacher(self.filled_cache(config.data, config.recipe, [config.seed], resources))

    def filled_cache(
        self, data: Dataset, recipe: Recipe, seeds: Sequence[int], resources: Resources
    ) -> ViewCache:
        """The cache with the logits of every view that runs of this recipe and these seeds show."""
        assert self.cache is not None  # `cached`
        dtype, precision = self.cache
        world = resources.world
        model = frozen(channels_last(self.model, data.device))
        count = student_views(data, recipe, seeds[0]).count
        opened = partial(open_cache, resources.out, data, self.identity, precision, count, dtype)
        cache = world.together(opened)
        for seed in seeds:
            views = student_views(data, recipe, seed)
            slots = views.visited(recipe.epochs)
            filled = cache.fill(model, views, slots, precision, resources.shows, world)
            world.lead(partial(cache.verify, model, views, slots, precision))
            level = logging.INFO if filled else logging.DEBUG
            kept = len(slots) - filled
            log.log(level, "  the teacher has answered for %d views (%d of them before)", len(slots), kept)
            log.debug("  its logits are in %s", cache.folder)
        return cache if world.size == 1 else opened()  # as the files of other machines are now

    def describe(self, config: RunConfig, progress: bool | Bar) -> dict[str, Any]:
        """What the record says of the teacher, logged too: nobody else has measured how good published weights are.

        Not a part of its identity: by what was known of its teacher, a run is no other run.
        """
        data, fields, measured = config.data, dict(self.fields), ""
        if "accuracy" not in fields:  # no run of ours, whose record has it
            index = student_views(data, config.recipe, config.seed).index[:_MOST_ASKED]
            fields["accuracy"] = self._accuracy(data, None)
            fields["transfer_accuracy"] = self._accuracy(data, tuple(index.tolist()))
            measured = f", {fields['transfer_accuracy']:.2f} % of those it teaches with"
        # Of runs that share a display, the first says it for all.
        if not shown_before(progress, ("teacher", self._who, key_of(identity_of(data)))):
            accuracy, (chance, labels) = fields["accuracy"], data.guessing
            log.info("  teacher %s: %.2f %% of the test %s%s", fields["model"], accuracy, data.reads, measured)
            if accuracy / 100 <= chance + 4 * math.sqrt(chance * (1 - chance) / labels):
                log.warning(
                    "teacher %s knows %.2f %% of the test %s of %s, no more than by guessing (%.2f %%): are its "
                    "classes in another order, or its inputs coded otherwise?",
                    *(fields["model"], accuracy, data.reads, data.name, 100 * chance),
                )
        return fields

    @property
    def _who(self) -> str:
        """What tells it from other teachers, however its logits are kept."""
        return key_of({name: value for name, value in self.identity.items() if name != "logits"})

    def _accuracy(self, data: Dataset, index: tuple[int, ...] | None) -> float:
        """Of these training images, or of the test split, in percent; each measured once in a process."""
        key = (self._who, key_of(identity_of(data)), index)
        if key not in _measured:
            of = data if index is None else data.tested_on(torch.tensor(index, device=data.device))
            fp32 = choose_precision("fp32", data.device, 0)
            model = channels_last(self.model, data.device)
            _measured[key] = evaluate_model(model, of, fp32)
        return _measured[key]


_measured: dict[tuple[str, str, tuple[int, ...] | None], float] = {}


def find_teacher(model: str, data: str, out: str | os.PathLike[str] = "runs") -> Run | None:
    """The finished run of a teacher of that model on all labels of that data set under `out`; None if there is none.

    A student that was trained on all labels alone teaches by its folder.

    Raises:
        TeacherError: if there are several; name the folder of one.
    """
    for name, given in (("model", model), ("data", data)):
        if not isinstance(given, str):
            raise TypeError(f"{name}: expected a name, as of the run's folder, got {brief(given)}")
    check_path("a folder", out=out)
    records = sorted(Path(out, data, model.replace("/", "-")).glob(f"ce-*/{RECORD}"))
    runs = [open_run(path.parent) for path in records]
    # A baseline trained on a small transfer set is no teacher.
    runs = [run for run in runs if run.record["config"]["recipe"]["train_images"] is None]
    runs = [run for run in runs if run.record["kind"] == "teacher"] or list(filter(_is_as_a_teachers, runs))
    if len(runs) > 1:
        listed = "; ".join(f"{run.folder} ({run.accuracy:.2f} %)" for run in runs)
        raise TeacherError(f"several teachers {model} on {data}: {listed}. Name the folder of one.")
    return runs[0] if runs else None


def _is_as_a_teachers(run: Run) -> bool:
    """Whether a student's run is the very one that training a teacher would make, and so opens in its place."""
    config = run.record["config"]
    recipe = config["recipe"]
    name = recipe["name"]
    return name in RECIPES and recipe == get_recipe(name, "teacher", network=config["model"]).describe()


def locate_teacher(
    teacher: Any,
    weights: str | os.PathLike[str] | None,
    data: str,
    out: str | os.PathLike[str],
) -> Run | Path | nn.Module | Recorded:
    """The teacher's finished run, the file of its weights or of its logits, or the network itself: what can be known
    before data are downloaded.

    Raises:
        TeacherError: if there is none, with what to do.
        WeightsError: if the file is not there.
        ValueError: for an unknown model.
        TypeError: for what is none of all that.
    """
    if not (isinstance(teacher, str | os.PathLike | Run | Recorded) or callable(teacher) or is_model(teacher)):
        several = isinstance(teacher, Sequence)
        raise TypeError(
            "teacher: expected a Run, the folder of one, a model's name, a module, an adakd.Ensemble or adakd.Recorded logits, "
            + (
                f"got a {type(teacher).__name__}; of several networks adakd.Ensemble(teachers) makes one"
                if several
                else f"got {brief(teacher)}"
            )
        )
    if weights is not None:
        network_of(teacher if callable(teacher) else str(teacher))
        if not Path(weights).is_file():
            raise WeightsError(f"no weights at {weights}")
        return Path(weights)
    if isinstance(teacher, (Run, nn.Module, Recorded)):
        return teacher
    if callable(teacher):
        raise TeacherError(
            "teacher: a function that makes a network makes an untrained one; give the trained module, or its weights "
            "beside it (teacher_weights=)"
        )
    if is_model(teacher):
        if found := find_teacher(str(teacher), data, out):
            return found
        raise MissingTeacherError(
            f"no trained {teacher} for {data} under {Path(out).resolve()}. Train it first: "
            f"{_training_of(str(teacher), data)}; or name the folder of a finished run."
        )
    if Path(teacher).is_dir():
        return open_run(teacher)
    if Path(teacher).is_file():
        try:
            return Recorded(teacher)
        except ValueError as error:
            raise TeacherError(
                f"{teacher} is a file; name the folder of a finished run. Weights from elsewhere: "
                "pass teacher_weights (--teacher-weights) beside the model's name. "
                f"Nor are these recorded logits: {error}"
            ) from None
    raise TeacherError(
        f"teacher: {near_names('model', str(teacher), MODELS)}; nor is it a folder of a finished run"
    )


def _training_of(model: str, data: str) -> str:
    """What trains this teacher: the command, where the command line knows the data."""
    typed = typed_name(data)
    if typed is None:
        return f"adakd.train_teacher({model!r}, data)"
    return f"adakd teacher --model {model} --data {shlex.quote(typed)}"


def load_teacher(teacher: Any, found: Run | Path | nn.Module | Recorded, data: Dataset) -> Any:
    """The teacher itself, from what `locate_teacher` has found.

    Raises:
        ValueError: for a run of other data.
        TeacherError: for a run whose record has no hash of its weights.
        WeightsError: if the weights are missing, damaged, or of another network.
    """
    if isinstance(found, Recorded):
        return found.for_data(data)
    if isinstance(found, nn.Module):
        identity = {
            "model": named_module(found),
            "sha256": sha256_of_state(found),
            "settings": settings_of(found),
        }
        frozen = _frozen_copy(found, key_of(identity), data.reads == "images")
        return Teacher(frozen, identity, identity)
    if isinstance(found, Path):
        # The bytes that are loaded are held against this hash: a file that changes meanwhile is refused.
        network = network_of(teacher if callable(teacher) else str(teacher))
        shape = data.num_classes, data.channels
        identity = {"model": network.name, "sha256": sha256_of(found), **_settings(network.identity(*shape))}
        model = _checked_model(network, shape, found, identity["sha256"], identity.get("settings"))
        return Teacher(model, identity, identity)
    refuse_other_data(found, data, "teacher")
    hashed, path = found.record.get("weights_sha256"), found.folder / WEIGHTS
    if hashed is None:
        raise TeacherError(f"{found.folder / RECORD} has no weights_sha256: train this teacher again")
    config = found.record["config"]
    identity = {"model": config["model"], "sha256": hashed, **_settings(config)}
    shape = data.num_classes, data.channels
    model = _checked_model(found.known_network(), shape, path, hashed, identity.get("settings"))
    about = {
        "accuracy": found.accuracy,
        "recipe": found.record["config"]["recipe"]["name"],
        "seed": found.record["seed"],
    }
    return Teacher(model, identity, {**identity, **about})


def load_network(teacher: Any, found: Run | Path | nn.Module | Recorded, data: Dataset) -> Teacher:
    """The teacher as `load_teacher` gives it, for what needs the network itself.

    Raises:
        ValueError: for recorded logits.
        ValueError, TeacherError, WeightsError: as `load_teacher`.
    """
    if isinstance(found, Recorded):
        raise ValueError(
            "teacher: expected a network, got recorded logits, which exist for the training examples alone; give the "
            "network that they are of, or the folder of its run"
        )
    loaded: Teacher = load_teacher(teacher, found, data)
    return loaded


def named_module(network: nn.Module) -> str:
    """What a config calls a teacher that was given as a module."""
    return network.name if isinstance(network, Ensemble) else type(network).__name__


def _settings(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a network whose name does not say all, as its identity has them: tensors do not tell them."""
    return {name: identity[name] for name in ("settings",) if name in identity}


def _frozen_copy(network: nn.Module, identity: str, in_fp32: bool) -> nn.Module:
    """One copy for all runs of a comparison, in the format that images have; the caller's own stays as it is."""
    key, known = (identity, in_fp32), _copies.get(network)
    if known is None or known[0] != key:
        with torch.no_grad():  # a copy of TorchScript would keep the way back to its original
            copied = frozen(copy.deepcopy(network))
        known = _copies[network] = (key, fp32_of(copied) if in_fp32 else copied)
    return known[1]


_copies: WeakKeyDictionary[nn.Module, tuple[tuple[str, bool], nn.Module]] = WeakKeyDictionary()


def _checked_model(
    network: Network, shape: tuple[int, int], weights: Path, sha256: str, settings: str | None
) -> nn.Module:
    """The one object, of a file that is looked at each time."""
    if not weights.is_file() or sha256_of(weights) != sha256:
        _teacher_model.cache_clear()  # so that it is read again, and the error comes from who reads it
    return _teacher_model(network, shape, weights, sha256, settings)


@lru_cache(maxsize=1)
def _teacher_model(
    network: Network, shape: tuple[int, int], weights: Path, sha256: str, settings: str | None
) -> nn.Module:
    """One object for all runs of a comparison; nothing changes a frozen teacher."""
    # The settings are here for lru_cache alone: by them it tells networks of one name apart.
    return loaded_model(network, *shape, weights, sha256).eval().requires_grad_(False)
