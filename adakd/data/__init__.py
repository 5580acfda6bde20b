"""Image sets as uint8 tensors that live on the device, and the views of them."""

import os
from typing import NamedTuple

from .._check import near_names
from .cifar import CIFAR_NAMES, DataError, data_root, load_cifar
from .gratings import load_gratings, ring_distance
from .images import ImageData, Split, checksum_of
from .views import Shown, Views, balanced_subset, epoch_order, eval_batches, held_out

__all__ = [
    "DATASETS",
    "DataError",
    "ImageData",
    "Shown",
    "Split",
    "Usual",
    "Views",
    "balanced_subset",
    "checksum_of",
    "data_root",
    "epoch_order",
    "eval_batches",
    "held_out",
    "load_data",
    "name_of",
    "resolve_data",
    "ring_distance",
    "usual",
]


class Usual(NamedTuple):
    """What trains on a data set when nobody says otherwise, by name."""

    teacher: str
    student: str
    recipe: str


_CIFAR = Usual("wrn_16_2", "resnet8", "quick")  # fits two CPU cores; the teacher is the paper's own
DATASETS: dict[str, Usual] = {
    **dict.fromkeys(CIFAR_NAMES, _CIFAR),
    "gratings": Usual("resnet14", "resnet8x0.5", "demo"),
}


def usual(data: str) -> Usual:
    """The usual teacher, student and recipe of a data set by its name; of one's own data those of CIFAR."""
    return DATASETS.get(data, _CIFAR)


def name_of(data: str | ImageData) -> str:
    """Name of a data set, known or not yet loaded.

    Raises:
        ValueError: for an unknown name, with the nearest known ones.
    """
    if isinstance(data, ImageData):
        return data.name
    if data not in DATASETS:
        raise ValueError(near_names("data set", data, DATASETS))
    return data


def resolve_data(
    data: str | ImageData, root: str | os.PathLike[str] | None, official: bool = True, shows: bool = True
) -> ImageData:
    """The data set itself, loaded where it is given by name.

    Args:
        data, root, official: as for `load_data`.
        shows: whether a download may show its progress.

    Raises:
        ValueError, DataError: as `load_data`.
    """
    return (
        data
        if isinstance(data, ImageData)
        else load_data(data, root, official=official, progress=None if shows else False)
    )


def load_data(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    official: bool = True,
    progress: bool | None = None,
) -> ImageData:
    """Load an image set by name.

    Args:
        name: "cifar10", "cifar100", or "gratings" (embedded: generated in under a second, no download).
        root: folder for downloads; else the environment variable ADAKD_DATA, else ~/.cache/adakd.
        download: fetch CIFAR when it is missing.
        official: verify CIFAR's files against the published checksums.
        progress: show a bar while downloading; by default where standard error is a terminal.

    Raises:
        ValueError: for an unknown name, with the nearest known ones.
        DataError: if CIFAR is offline, damaged or altered.
    """
    name_of(name)
    if name == "gratings":
        return load_gratings()
    return load_cifar(name, root, download=download, official=official, progress=progress)
