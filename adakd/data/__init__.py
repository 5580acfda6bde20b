"""Image sets as uint8 tensors that live on the device, and the views of them."""

import os

from .._check import near_names
from .cifar import CIFAR_NAMES, DataError, data_root, load_cifar
from .gratings import load_gratings, ring_distance
from .images import ImageData, Split, checksum_of
from .views import Views, balanced_subset, epoch_order, eval_batches, held_out

__all__ = [
    "DATASETS",
    "DataError",
    "ImageData",
    "Split",
    "Views",
    "balanced_subset",
    "checksum_of",
    "data_root",
    "epoch_order",
    "eval_batches",
    "held_out",
    "load_data",
    "ring_distance",
]

DATASETS = (*CIFAR_NAMES, "gratings")


def load_data(
    name: str,
    root: str | os.PathLike | None = None,
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
    if name not in DATASETS:
        raise ValueError(near_names("data set", name, DATASETS))
    if name == "gratings":
        return load_gratings()
    return load_cifar(name, root, download=download, official=official, progress=progress)
