"""Files of a run: written whole or not at all, and read with an error that says what is wrong."""

import contextlib
import errno
import hashlib
import io
import json
import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors.torch import load, save
from torch import nn

from .._check import check_path, printable
from .._described import sha256_of
from ._dialects import first_names, fitted, refused_class, state_in
from ._json import check_checksum, check_fields, parse_json, read_json, with_checksum

__all__ = [
    "WeightsError",
    "check_checksum",
    "check_fields",
    "first_sentence",
    "load_weights",
    "parse_json",
    "read_checkpoint",
    "read_json",
    "read_record",
    "refuse_folders",
    "remove_leftovers",
    "save_weights",
    "sha256_of",
    "tensor_of_npy",
    "with_checksum",
    "with_remedy",
    "write_bytes",
    "write_checkpoint",
    "write_json",
    "write_record",
]


class WeightsError(RuntimeError):
    """A file of weights is missing, damaged, or belongs to another network."""


def first_sentence(error: Exception) -> str:
    """What an error is, in one line: torch adds a page, and there recommends to run untrusted files."""
    reason = str(error).partition(". ")[0].partition("\n")[0].rstrip(".")
    return printable(f"{type(error).__name__}: {reason:.300}")


def tensor_of_npy(content: bytes) -> torch.Tensor:
    """The tensor of a file .npy, of its shape (also of none), in this machine's order of bytes; pickled objects are not read.

    Raises:
        ValueError: for another kind of file, and for more than one array.
    """
    if not content.startswith(b"\x93NUMPY"):
        kinds = {b"PK": "an archive, as numpy.savez and torch.save write them", b"\x1f\x8b": "compressed"}
        kind = next((kind for start, kind in kinds.items() if content.startswith(start)), "something else")
        raise ValueError(f"expected a file that numpy.save writes, and it is {kind}")
    file = io.BytesIO(content)
    array = np.load(file, allow_pickle=False)
    if rest := len(content) - file.tell():
        raise ValueError(
            f"{rest} bytes follow its first array, {array.shape}: expected one array; join them by numpy.concatenate, and "
            "save that"
        )
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _umask() -> int:
    mask = os.umask(0o077)  # there is no way to read it without setting it
    os.umask(mask)
    return mask


def with_remedy(path: Path, error: OSError) -> OSError:
    """The same error with the file's name, and with what to do where the disk is full."""
    what = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what += "; what was written before stays: free some space, or choose another folder, and repeat"
    return OSError(error.errno or errno.EIO, what, str(path))


def _write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write beside the target, flush to disk, then rename: a kill leaves the old file or the new one.

    A link stays one, to the new file. What is there and no file, such as ``/dev/stdout``, is written to and never replaced.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as device:
            write(device)
        return
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's 0600 would hide results from other users
        os.replace(temporary, path)
    except BaseException as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise with_remedy(path, error) from error
        raise


def remove_leftovers(folder: Path, names: Iterable[str]) -> None:
    """Remove what killed processes left half written of these files; only for who holds the folder's lock."""
    for name in names:
        for path in folder.glob(f".{name}.????????"):  # mkstemp's
            path.unlink(missing_ok=True)


def refuse_folders(folder: Path, names: Iterable[str]) -> None:
    """Raises IsADirectoryError where a folder has the name of a file that will be written: better now than after it."""
    for name in names:
        if (folder / name).is_dir():
            raise IsADirectoryError(
                errno.EISDIR, "a folder stands where a file is to be written; move it away", str(folder / name)
            )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    _write_atomically(path, lambda file: file.write(content))


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    # allow_nan=False: NaN is not JSON, and other readers would stop there.
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    _write_atomically(path, lambda file: file.write(text.encode()))


def write_record(path: Path, value: dict[str, Any]) -> dict[str, Any]:
    """Write an object with the checksum of its fields; returns it as it was written."""
    value = with_checksum(value)
    write_json(path, value)
    return value


def read_record(path: Path, fields: Any, remedy: str) -> Any:
    """What `write_record` wrote, with these fields (see `check_fields`), and unchanged since.

    Raises:
        ValueError: naming the file, the field and the remedy.
    """
    value = read_json(path, remedy)
    check_fields(value, fields, path, remedy)
    if isinstance(value, dict):
        check_checksum(value, path, remedy)
    return value


# A checkpoint is an ordinary archive of torch.save, whose comment says what its bytes before the comment hash to.
_SEAL = b"adakd sha256 "
_SEALED = len(_SEAL) + 64
_END = b"PK\x05\x06"  # of an archive's last record: 22 bytes, of which the last two count those of the comment
_LARGEST_CONTENTS = (
    8 * 2**20
)  # bytes of the pickled part: without the tensors, a checkpoint of 240 epochs has 60 000


def _seal_of(content: bytes) -> bytes:
    return _SEAL + hashlib.sha256(content).hexdigest().encode()


def write_checkpoint(path: Path, value: Mapping[str, Any]) -> None:
    """Write plain values and tensors as torch.save does, with a hash of the bytes; whole or not at all."""
    buffer = io.BytesIO()  # torch's own writer does not say which error of the disk stopped it
    torch.save(value, buffer)
    content = buffer.getvalue()[:-2] + _SEALED.to_bytes(2, "little")
    _write_atomically(path, lambda file: file.write(content + _seal_of(content)))


def _refuse_changed(content: bytes) -> None:
    """Raises ValueError unless the archive is as it was written.

    Those from before the hash have a CRC for each part, which torch writes and does not check.
    """
    if content[-_SEALED:].startswith(_SEAL):
        if content[-_SEALED:] != _seal_of(content[:-_SEALED]):
            raise ValueError("its bytes are not those whose hash stands at its end")
    elif content[-22:-18] != _END or content[-2:] != b"\0\0":
        raise ValueError("its end is missing or was changed")
    _refuse_bad_archive(content)


def _refuse_bad_archive(content: bytes) -> None:
    """Raises ValueError for an archive of torch.save whose parts were changed, or are far larger than it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
            if sum(part.file_size for part in parts) > 2**20 + 2 * len(content):
                raise ValueError("its parts are far larger than the file")
            if any(part.filename.endswith("data.pkl") and part.file_size > _LARGEST_CONTENTS for part in parts):
                raise ValueError(f"its table of contents has more than {_LARGEST_CONTENTS} bytes")
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError) as error:
        raise ValueError(f"damaged archive: {first_sentence(error)}") from error
    if damaged:
        raise ValueError(f"damaged archive: {printable(damaged)} has another CRC than it had")


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """What `write_checkpoint` wrote, and unchanged since.

    Raises:
        Exception: whatever stands in the way, a ValueError or one of torch's.
    """
    content = Path(path).read_bytes()
    _refuse_changed(content)
    return torch.load(io.BytesIO(content), map_location=device, weights_only=True)


def save_weights(model: nn.Module, path: str | os.PathLike[str], dtype: torch.dtype | None = None) -> None:
    """Save parameters and buffers as safetensors; floating ones in `dtype` where given. Tied ones are saved each."""
    check_path("a file", path=path)
    state, memories = {}, set[int]()
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        tensor = tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor
        memory = tensor.untyped_storage().data_ptr()
        state[name] = tensor.clone() if memory in memories else tensor  # safetensors refuses shared memory
        memories.add(memory)
    _write_atomically(Path(path), lambda file: file.write(save(state)))


def _read_state(content: bytes, suffix: str) -> dict[str, Any]:
    """Tensors by name; from the bytes that were hashed, and not from a file that may have become another."""
    if suffix == ".safetensors":
        return load(content)
    if content.startswith(b"PK"):
        _refuse_bad_archive(content)
    return state_in(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))


def load_weights(
    model: nn.Module, path: str | os.PathLike[str], *, sha256: str | None = None, name: str = "this network"
) -> nn.Module:
    """Load weights saved by `save_weights`, or a published checkpoint of the same network (.pth, .pt, .tar).

    What others wrap the tensors in (``state_dict``, ``model``, …) and put before their names (``module.``,
    ``_orig_mod.``, ``student.``, …) is taken off. Other floating formats are converted.

    Args:
        model: whose weights they shall be.
        path: of the file.
        sha256: what the file's bytes must hash to; not checked when left out.
        name: what errors call the network.

    Raises:
        WeightsError: if the file is missing or damaged or another one than the hash says, or its tensors do not fit.
    """
    check_path("a file of weights", path=path)
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights at {path}")
    content = path.read_bytes()
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise WeightsError(
            f"{path} cannot be read as weights (it is not the file that it was: expected sha256 {sha256}, "
            f"got {found}); restore it from a copy, or repeat the run that made it (fresh=True, --fresh)"
        )
    try:
        state = _read_state(content, path.suffix)
    except Exception as error:  # each reader has its own exceptions for damaged files
        advice = refused_class(error) if isinstance(error, pickle.UnpicklingError) else None
        raise WeightsError(
            f"{path} cannot be read as weights ({first_sentence(error)}); "
            + (advice or "it may be truncated, or hold objects other than tensors, which are refused")
        ) from error
    tensors, problems = fitted(state, model.state_dict())
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        other_names = any(problem.startswith("missing") for problem in problems)
        raise WeightsError(
            f"{path} does not fit {name}: {'; '.join(problems[:3])}{more}. "
            + (first_names(state, model.state_dict()) if other_names else "")
            + "Check the model's name and the number of classes."
        )
    model.load_state_dict(tensors)
    return model
