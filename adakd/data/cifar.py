"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), through torchvision's loader and its checksums."""

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from ._torchvision import torchvision_datasets
from .images import ImageData, Split, checksum_of

__all__ = ["CIFAR_NAMES", "DataError", "data_root", "load_cifar"]


class DataError(RuntimeError):
    """The data could not be had, or are not what they should be. The message says what to do."""


# Channel statistics that the distillation literature normalizes with. CIFAR-100's are the usual rounded ones.
_STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
_TORCHVISION_NAME = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}
_LABELS = {"cifar10": 10, "cifar100": 100}
CIFAR_NAMES = tuple(_STATISTICS)


def data_root(root: str | os.PathLike | None = None) -> Path:
    """Where data lie: `root`, else the folder named by ADAKD_DATA, else ~/.cache/adakd."""
    return Path(root or os.environ.get("ADAKD_DATA") or "~/.cache/adakd").expanduser()


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _files(dataset: type) -> list[tuple[str, str]]:
    meta = (dataset.meta["filename"], dataset.meta["md5"])
    return [*map(tuple, dataset.train_list), *map(tuple, dataset.test_list), meta]


def _without_checksums(dataset: type) -> type:
    """The same torchvision class for an archive whose files are not the published ones."""
    return type(
        f"Unofficial{dataset.__name__}",
        (dataset,),
        {
            "train_list": [[name, None] for name, _ in dataset.train_list],
            "test_list": [[name, None] for name, _ in dataset.test_list],
            "meta": {**dataset.meta, "md5": None},
        },
    )


def _refuse_altered_files(dataset: type, name: str, folder: Path) -> None:
    """Before anything is unpickled: every file that is there must be the published one."""
    altered = [
        file for file, md5 in _files(dataset) if (folder / file).is_file() and _md5(folder / file) != md5
    ]
    if altered:
        raise DataError(
            f"{name}: {', '.join(altered)} in {folder} do not match the official checksums. If they were damaged, "
            f"delete {folder} and run again to download them. If you know that they are another archive of the "
            "same data, say so: official=False in Python, --unofficial-archive on the command line "
            "(the record will carry it; files of unknown origin can run code when read)."
        )


def _download(dataset: type, name: str, root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    archive = root / dataset.filename
    try:
        dataset(str(root), train=True, download=True)
    except (OSError, RuntimeError, EOFError) as error:
        damaged = archive.is_file() and _md5(archive) != dataset.tgz_md5
        reason = str(error).rstrip(".")
        state = f"an incomplete or damaged {archive.name} is in {root} (delete it); " if damaged else ""
        raise DataError(
            f"{name} is not in {root} and could not be downloaded: {state}{type(error).__name__}: {reason}. "
            f"With a connection, run again. Without one, put {archive.name} (MD5 {dataset.tgz_md5}) into {root}, "
            "or name a folder that has it in ADAKD_DATA; or use the embedded set, data='gratings'."
        ) from error


def _split(dataset: Any, num_classes: int, name: str) -> Split:
    images = torch.from_numpy(dataset.data)  # (N, 32, 32, 3)
    labels = torch.tensor(dataset.targets, dtype=torch.int64)
    if len(images) != len(labels):
        raise DataError(f"{name}: {len(images)} images but {len(labels)} labels; the archive is damaged")
    if not len(labels) or labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"{name}: expected labels from 0 to {num_classes - 1}, got "
            f"{sorted(labels.unique().tolist())[:3]} … ; the archive is not {name}"
        )
    return Split(images, labels)


def load_cifar(
    name: str,
    root: str | os.PathLike | None = None,
    *,
    download: bool = True,
    official: bool = True,
) -> ImageData:
    """Read CIFAR-10 or CIFAR-100 as uint8 tensors, downloading and verifying it if need be.

    Args:
        name: "cifar10" or "cifar100".
        root: folder that holds (or will hold) the archive; see `data_root`.
        download: fetch the archive when it is missing.
        official: verify every file against the published checksums. False accepts another archive of the same
            layout; the result says so, and carries the checksum of what was read.

    Raises:
        DataError: offline, damaged, altered or not that data set.
    """
    dataset = getattr(torchvision_datasets(), _TORCHVISION_NAME[name])
    root = data_root(root)
    folder = root / dataset.base_folder
    if not official:
        dataset = _without_checksums(dataset)
        missing = [file for file, _ in _files(dataset) if not (folder / file).is_file()]
        if missing:
            raise DataError(
                f"{name}: an unofficial archive is expected in {folder}; missing there: {', '.join(missing)}"
            )
    else:
        _refuse_altered_files(dataset, name, folder)
        if not all((folder / file).is_file() for file, _ in _files(dataset)):
            if not download:
                raise DataError(f"{name} is not in {root} and download=False")
            _download(dataset, name, root)
    try:
        train, test = (dataset(str(root), train=part) for part in (True, False))
        splits = [_split(part, _LABELS[name], name) for part in (train, test)]
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{name}: a file in {folder} is truncated or not of that layout "
            f"({type(error).__name__}: {error}); delete the folder and fetch it again"
        ) from error
    if len(train.classes) != _LABELS[name]:
        raise DataError(
            f"{name}: expected {_LABELS[name]} class names, got {len(train.classes)}; the archive is not {name}"
        )
    mean, std = _STATISTICS[name]
    return ImageData(
        name=name,
        train=splits[0],
        test=splits[1],
        classes=tuple(train.classes),
        mean=mean,
        std=std,
        padding=4,
        flip=True,
        official=official,
        checksum=checksum_of(*splits),
    )
