"""What a checkpoint must hold for a run to go on from it: everything is looked at before anything is loaded."""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._check import brief, printable
from ..objective import rename_old_parameters
from ._dialects import tensor_problem
from ._json import NUMBER, field_problem
from .files import first_sentence, read_checkpoint, write_checkpoint
from .record import ROW_FIELDS
from .trainer import Trainer

__all__ = ["Checkpoint", "CheckpointError"]

_REMEDY = "delete it to start again"
_FIELDS = {
    "config": dict,
    "model": dict,
    "criterion": dict,
    "optimizer": {"state": dict, "param_groups": [dict]},
    "scheduler": {"last_epoch": int},
    "scaler": dict,
    "epoch": int,
    "step": int,
    "seconds": NUMBER,
    "history": [{**ROW_FIELDS, "loss": NUMBER}],
}


class CheckpointError(RuntimeError):
    """A checkpoint is of another run, or cannot be read."""


def _network(name: str, found: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> Iterator[str | None]:
    yield from (f"{name}.{key!s:.60} is not of this network" for key in found if key not in wanted)
    for key, tensor in wanted.items():
        if key not in found:
            yield f"{name}.{key} is missing"
        else:
            yield tensor_problem(f"{name}.{key}", found[key], tensor, exact=True)


def _present_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """As the objective will read it: parameters have had other names."""
    renamed = dict(state)
    rename_old_parameters(renamed)
    return renamed


def _like(name: str, found: Any, wanted: Any) -> Iterator[str | None]:
    """Of plain settings: whether each is of the type that this one has now; what is no longer there is no matter."""
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            yield f"{name} is a {type(found).__name__}, expected a dict"
            return
        for key in wanted.keys() & found.keys():
            yield from _like(f"{name}.{key}", found[key], wanted[key])
    elif isinstance(wanted, Tensor):
        yield tensor_problem(name, found, wanted)
    elif type(wanted) in (int, float):
        number = type(found) in (int, float) and abs(found) < 2**63  # which neither NaN nor infinity is
        yield None if number else f"{name} is {found!r:.40}, expected a number"
    elif wanted is None and type(found) not in (type(None), bool):
        yield f"{name} is a {type(found).__name__}, expected nothing"
    elif isinstance(wanted, bool | str | list | tuple) and type(found) is not type(wanted):
        yield f"{name} is a {type(found).__name__}, expected a {type(wanted).__name__}"


def _optimizer(found: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> Iterator[str | None]:
    wanted = optimizer.state_dict()
    if len(found["param_groups"]) != len(wanted["param_groups"]):
        yield f"optimizer.param_groups has {len(found['param_groups'])} entries"
        return
    for i, (theirs, ours) in enumerate(zip(found["param_groups"], wanted["param_groups"], strict=True)):
        name = f"optimizer.param_groups[{i}]"
        yield from (f"{name}.{key} is missing" for key in ("lr", "params") if key not in theirs)
        if theirs.get("params") != ours["params"]:
            yield f"{name}.params are not those of this network"
        yield from _like(name, theirs, ours)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, state in found["state"].items():
        name = f"optimizer.state[{key!s:.20}]"
        if type(key) is not int or not 0 <= key < len(parameters) or not isinstance(state, dict):
            yield f"{name} is of no parameter"
            continue
        for kind, value in state.items():
            if isinstance(value, Tensor) and value.ndim == 0:
                continue  # a count of steps
            if value is not None or optimizer.defaults.get("momentum"):
                yield tensor_problem(f"{name}.{kind!s:.40}", value, parameters[key], exact=True)


def _position(saved: Mapping[str, Any], epochs: int, steps: int) -> Iterator[str | None]:
    epoch, step = saved["epoch"], saved["step"]
    if not 1 <= epoch <= epochs + 1:
        yield f"epoch is {epoch}, expected 1 to {epochs + 1}"
    elif not 0 <= step < (steps if epoch <= epochs else 1):
        yield f"step is {step}, expected 0 to {steps - 1 if epoch <= epochs else 0}"
    elif [row["epoch"] for row in saved["history"]] != list(range(1, epoch)):
        yield f"history has {len(saved['history'])} rows, expected one for each of {epoch - 1} epochs"
    elif saved["scheduler"]["last_epoch"] != (epoch - 1) * steps + step:
        yield f"scheduler.last_epoch is {saved['scheduler']['last_epoch']}, expected {(epoch - 1) * steps + step}"
    if not 0 <= saved["seconds"] < 2**63:
        yield f"seconds is {saved['seconds']}, expected a finite number from 0 on"


def _different(theirs: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    changed = sorted(key for key in {*map(str, theirs), *config} if theirs.get(key) != config.get(key))
    return printable("; ".join(f"{key} was {theirs.get(key)!r}, is {config.get(key)!r}" for key in changed))


def _comes_back(value: Any) -> bool:
    """Whether a value is the same when it is read as checkpoints are; NaN is not the same as itself."""
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
        buffer.seek(0)
        return bool(torch.load(buffer, weights_only=True) == value)
    except Exception:  # each class has its own way to refuse
        return False


@dataclass(frozen=True)
class Checkpoint:
    """A file from which a run goes on, and what identifies the run.

    Raises:
        TypeError: naming the first entry of the config that a file does not give back: the run could not be continued.
    """

    path: Path
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, value in self.config.items():
            if type(key) is not str or not _comes_back(value):
                raise TypeError(
                    f"config: expected numbers, texts, lists and dicts of Python itself, by names, got {brief(value)} "
                    f"under {brief(key)}, with which no checkpoint could be continued; write it as one of these, as "
                    "float(x) or str(path)"
                )

    def resume(self, trainer: Trainer) -> bool:
        """Put a trainer where the file says that it stood; whether there is one.

        Raises:
            CheckpointError: as `read_state`; the trainer is as it was then.
        """
        state = trainer.world.lead(
            lambda: read_state(self.path, self.config, trainer) if self.path.is_file() else None
        )
        if state is not None:
            trainer.load_state_dict(state)
        return state is not None

    def save(self, trainer: Trainer) -> None:
        """Write where the trainer stands: the same file, however many processes train."""
        trainer.world.lead(
            lambda: write_checkpoint(self.path, {**trainer.state_dict(), "config": dict(self.config)})
        )


def read_state(path: Path, config: Mapping[str, Any], trainer: Trainer) -> dict[str, Any]:
    """A checkpoint that fits the run in every part.

    Args:
        path: of the checkpoint.
        config: of the run that wants to go on.
        trainer: as it is before the first step.

    Raises:
        CheckpointError: naming the field, if it is of another run, damaged, or holds what no run writes.
    """
    try:
        # What goes to other processes goes through the CPU.
        saved = read_checkpoint(path, trainer.device if trainer.world.size == 1 else torch.device("cpu"))
    except Exception as error:  # torch raises different things for different damage
        raise CheckpointError(f"{path} cannot be read ({first_sentence(error)}); {_REMEDY}") from error
    if problem := field_problem(saved, {"config": dict}):
        raise CheckpointError(f"{path} cannot be read ({problem}); {_REMEDY}")
    if different := _different(saved["config"], config):
        raise CheckpointError(
            f"{path} is of another run: {different}. Choose another folder, restore the setting, or delete it."
        )
    wanted, epochs = trainer.state_dict(), trainer.recipe.epochs
    parts: list[Callable[[], Iterator[str | None]]] = [
        lambda: iter([field_problem(saved, _FIELDS)]),
        lambda: _position(saved, epochs, trainer.steps),
        lambda: _network("model", saved["model"], wanted["model"]),
        lambda: _network("criterion", _present_names(saved["criterion"]), wanted["criterion"]),
        lambda: _optimizer(saved["optimizer"], trainer.optimizer),
        lambda: _like("scheduler", saved["scheduler"], wanted["scheduler"]),
        lambda: _like("scaler", saved["scaler"], wanted["scaler"]),
        lambda: iter([tensor_problem("meter", saved.get("meter"), wanted["meter"], exact=True)]),
    ]
    for part in parts:
        if problem := next(filter(None, part()), None):
            raise CheckpointError(f"{path} cannot be read ({printable(problem)}); {_REMEDY}")
    # Loading puts every entry in place of an attribute of that name: only those that are of this schedule.
    known = wanted["scheduler"]
    saved["scheduler"] = {key: value for key, value in saved["scheduler"].items() if key in known}
    return saved
