"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): the published archives by their checksums, others only with ``official=False``."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._check import brief, check_path
from ._fetch import Archive, DataError, fetch, md5_of
from ._pickle import PickledArray, read_pickle, shown
from .images import USUAL_VIEWS, ImageData, Split

__all__ = ["CIFAR_NAMES", "DataError", "data_root", "load_cifar"]

_MIB = 1 << 20


@dataclass(frozen=True)
class _Cifar:
    """One of the two sets: its archive, and what its files hold."""

    archive: Archive
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    labels_key: str
    names_key: str
    num_classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# The channel statistics are those that the distillation literature normalizes with; CIFAR-100's are the usual rounded
# ones. `largest` leaves room for files that Python 3 wrote in an old format: half as long again.
_SETS = {
    "cifar10": _Cifar(
        Archive(
            url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            size=170498071,
            sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            folder="cifar-10-batches-py",
            files={
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "test_batch": "40351d587109b95175f43aff81a1287e",
                "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
            },
            largest=64 * _MIB,
        ),
        train=tuple(f"data_batch_{i}" for i in range(1, 6)),
        test=("test_batch",),
        meta="batches.meta",
        labels_key="labels",
        names_key="label_names",
        num_classes=10,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
    "cifar100": _Cifar(
        Archive(
            url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            size=169001437,
            sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
            folder="cifar-100-python",
            files={
                "train": "16019d7e3df5f24257cddd939b257f8d",
                "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
                "meta": "7973b15100ade9c7d40fb424638fde48",
            },
            largest=320 * _MIB,
        ),
        train=("train",),
        test=("test",),
        meta="meta",
        labels_key="fine_labels",
        names_key="fine_label_names",
        num_classes=100,
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
    ),
}
CIFAR_NAMES = tuple(_SETS)
_PADDING, _FLIP = 4, True
for _name, _set in _SETS.items():
    USUAL_VIEWS[_name, _set.num_classes] = {
        "padding": _PADDING,
        "flip": _FLIP,
        "mean": list(_set.mean),
        "std": list(_set.std),
    }


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Where data lie: `root`, else the folder named by ADAKD_DATA, else ~/.cache/adakd."""
    if root is not None:
        check_path("a folder", root=root)
    return Path(root or os.environ.get("ADAKD_DATA") or "~/.cache/adakd").expanduser()


def load_cifar(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    official: bool = True,
    progress: bool | None = None,
) -> ImageData:
    """Read CIFAR-10 or CIFAR-100 as uint8 tensors, downloading and verifying it if need be.

    The files are pickles, and are read without being unpickled: whatever they say, no code is run.

    Args:
        name: "cifar10" or "cifar100".
        root: folder that holds (or will hold) the archive; see `data_root`.
        download: fetch the archive when it is missing.
        official: verify every file against the published checksums. False accepts another archive of the same
            layout; the result says so, and carries the checksum of what was read.
        progress: show a bar while downloading; by default where standard error is a terminal.

    Raises:
        DataError: offline, damaged, altered or not that data set.
    """
    if not isinstance(name, str) or name not in _SETS:
        raise ValueError(f"name: expected {' or '.join(map(repr, _SETS))}, got {brief(name)}")
    of, root = _SETS[name], data_root(root)
    archive, folder = of.archive, root / of.archive.folder
    missing = [file for file in archive.files if not (folder / file).is_file()]
    if missing and not official:
        raise DataError(
            f"{name}: an unofficial archive is expected in {folder}; missing there: {', '.join(missing)}"
        )
    contents = {file: _content(name, folder / file, archive) for file in archive.files if file not in missing}
    if official:
        _refuse_altered_files(name, folder, contents, archive)
        if missing:
            if not download:
                part = f": missing there: {', '.join(missing)}" if contents else ""
                raise DataError(f"{name} is not in {root} and download=False{part}")
            fetch(name, archive, root, progress)
            contents = {file: _content(name, folder / file, archive) for file in archive.files}
            _refuse_altered_files(name, folder, contents, archive)
    # Each content is dropped as it is read: a training file alone takes 155 MB.
    train, test = (
        _split([_part(of, name, folder / file, contents.pop(file)) for file in files])
        for files in (of.train, of.test)
    )
    return ImageData(
        name=name,
        train=train,
        test=test,
        classes=_class_names(of, name, folder / of.meta, contents.pop(of.meta)),
        mean=of.mean,
        std=of.std,
        padding=_PADDING,
        flip=_FLIP,
        official=official,
    )


def _content(name: str, path: Path, archive: Archive) -> bytes:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > archive.largest:
                raise DataError(
                    f"{name}: expected {path} to be a file of at most {archive.largest // _MIB} MiB, got "
                    f"{found.st_size} bytes; it is not of {archive.name}: delete {path.parent}, and run again to download it"
                )
            return file.read(found.st_size)
    except OSError as error:
        raise DataError(
            f"{name}: {path} cannot be read: {error.strerror or error}; mend the permissions or the disk, or name another "
            "folder (--root, ADAKD_DATA)"
        ) from error


def _refuse_altered_files(name: str, folder: Path, contents: dict[str, bytes], archive: Archive) -> None:
    """Before anything is read: every file that is there must be the published one."""
    altered = [file for file, content in contents.items() if md5_of(content) != archive.files[file]]
    if altered:
        raise DataError(
            f"{name}: {', '.join(altered)} in {folder} do not match the official checksums. If they were damaged, "
            f"delete {folder} and run again to download them. If you know that they are another archive of the "
            "same data, say so: official=False in Python, --unofficial-archive on the command line "
            "(the record will carry it)."
        )


def _refused(name: str, path: Path, reason: str) -> DataError:
    return DataError(
        f"{name}: {path} is truncated or not of that layout: {reason}. Delete the folder {path.parent} and run again to "
        "download it, or write your archive again as the published one is: dicts of lists and NumPy arrays, pickled"
    )


def _fields(name: str, path: Path, content: bytes, *keys: str) -> list[Any]:
    """These fields of the dict that a file holds."""
    try:
        fields = read_pickle(content)
    except ValueError as error:
        raise _refused(name, path, str(error)) from error
    if not isinstance(fields, dict):
        raise _refused(name, path, f"expected a dict, got {shown(fields)}")
    for key in keys:
        if key not in fields:
            there = ", ".join(map(shown, list(fields)[:8])) or "nothing"
            raise _refused(name, path, f"field {key!r} is missing; there: {there}")
    return [fields[key] for key in keys]


def _array(value: Any) -> np.ndarray | None:
    return value.array() if isinstance(value, PickledArray) else None


def _part(of: _Cifar, name: str, path: Path, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 3072) as uint8 and labels (N,) as int64 of one file."""
    data, labels = _fields(name, path, content, "data", of.labels_key)
    try:
        pixels, numbers = _array(data), _array(labels)
    except ValueError as error:
        raise _refused(name, path, str(error)) from error
    if pixels is None or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072:
        got = shown(data) if pixels is None else f"{pixels.dtype} of shape {pixels.shape}"
        raise _refused(name, path, f"field 'data': expected pixels as uint8 of shape (N, 3072), got {got}")
    if not len(pixels):
        raise _refused(name, path, "field 'data': expected at least one image, got none")

    field, top = f"field {of.labels_key!r}", of.num_classes - 1
    if numbers is not None:
        if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
            raise _refused(
                name, path, f"{field}: expected integers, got {numbers.dtype} of shape {numbers.shape}"
            )
        labels = numbers.tolist()
    if type(labels) is not list:
        raise _refused(name, path, f"{field}: expected a list of integers, got {shown(labels)}")
    if len(labels) != len(pixels):
        raise _refused(name, path, f"{len(pixels)} images but {len(labels)} labels")
    for place, label in enumerate(labels):
        if type(label) is not int:  # True is not a label
            raise _refused(name, path, f"{field}: expected integers, got {shown(label)} at place {place}")
        if not 0 <= label <= top:
            raise _refused(
                name, path, f"{field}: expected labels from 0 to {top}, got {shown(label)} at place {place}"
            )
    return pixels, np.array(labels, dtype=np.int64)


def _split(parts: list[tuple[np.ndarray, np.ndarray]]) -> Split:
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    # Rows hold all reds, then all greens, then all blues; the view shows channels last and moves nothing.
    images = torch.tensor(pixels).reshape(-1, 3, 32, 32).permute(0, 2, 3, 1)
    return Split(images, torch.tensor(labels))


def _class_names(of: _Cifar, name: str, path: Path, content: bytes) -> tuple[str, ...]:
    (names,) = _fields(name, path, content, of.names_key)
    field = f"field {of.names_key!r}"
    if type(names) is not list:
        raise _refused(name, path, f"{field}: expected a list of texts, got {shown(names)}")
    if len(names) != of.num_classes:
        raise _refused(name, path, f"{field}: expected {of.num_classes} class names, got {len(names)}")
    for text in names:
        if not isinstance(text, str) or not text.strip() or not text.isprintable():
            raise _refused(name, path, f"{field}: expected texts, got {shown(text)}")
    if len(set(names)) != len(names):
        raise _refused(name, path, f"{field}: expected {of.num_classes} different names, got some twice")
    return tuple(names)
