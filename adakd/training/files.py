"""Files of a run: written whole or not at all, and read with an error that says what is wrong."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

__all__ = [
    "WeightsError",
    "first_sentence",
    "load_weights",
    "read_checkpoint",
    "read_json",
    "save_weights",
    "sha256_of",
    "write_checkpoint",
    "write_json",
]


class WeightsError(RuntimeError):
    """A file of weights is missing, damaged, or belongs to another network."""


def first_sentence(error: Exception) -> str:
    """What an error is, in one line: torch adds a page, and there recommends to run untrusted files."""
    return f"{type(error).__name__}: {str(error).partition('. ')[0].partition(chr(10))[0].rstrip('.')}"


def _write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write beside the target, flush to disk, then rename: a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide results from other users
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    # allow_nan=False: NaN is not JSON, and other readers would stop there.
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    _write_atomically(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_checkpoint(path: Path, value: dict) -> None:
    _write_atomically(path, lambda file: torch.save(value, file))


def read_checkpoint(path: Path, device: torch.device) -> dict:
    return torch.load(path, map_location=device, weights_only=True)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_weights(model: nn.Module, path: Path, dtype: torch.dtype | None = None) -> None:
    """Save parameters and buffers as safetensors; floating ones in `dtype` where given."""
    state = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        state[name] = tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor
    _write_atomically(path, lambda file: file.write(save(state)))


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    # Published teachers wrap the state: {"model": …} or {"state_dict": …}, and prefix names with "module.".
    for key in ("model", "state_dict", "net"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Load weights saved by `save_weights`, or a published checkpoint of the same network (.pth, .pt, .tar).

    Raises:
        WeightsError: if the file is missing or damaged, or its tensors do not fit the network.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights at {path}")
    try:
        state = _read_state(path)
    except Exception as error:  # each reader has its own exceptions for damaged files
        raise WeightsError(
            f"{path} cannot be read as weights ({first_sentence(error)}); "
            "it may be truncated, or hold objects other than tensors, which are refused"
        ) from error
    wanted = model.state_dict()
    problems = [f"missing {name}" for name in wanted if name not in state]
    problems += [f"unexpected {name}" for name in state if name not in wanted]
    problems += [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(
            f"{path} does not fit this network: {'; '.join(problems[:3])}{more}. "
            "Check the model's name and the number of classes."
        )
    model.load_state_dict(state)
    return model
