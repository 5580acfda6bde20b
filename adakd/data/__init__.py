"""Image sets and texts as tensors that live on the device, and the views of them."""

import os
import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from .._check import brief, check_path, check_whole, near_names
from .base import Dataset, Share, Usual, identity_of
from .cifar import CIFAR_NAMES, DataError, data_root, load_cifar
from .gratings import load_gratings, ring_distance
from .images import ImageData, Split, checksum_of
from .language import Language, load_sentences
from .text import load_pydoc, load_text, text_data
from .tokens import TokenData, Tokens, Windows
from .views import ExampleViews, Shown, Views, balanced_subset, epoch_order, held_out

__all__ = [
    "DATASETS",
    "DataError",
    "Dataset",
    "ExampleViews",
    "ImageData",
    "Language",
    "Share",
    "Shown",
    "Split",
    "TokenData",
    "Tokens",
    "Usual",
    "Views",
    "Windows",
    "balanced_subset",
    "checksum_of",
    "data_root",
    "epoch_order",
    "eval_batches",
    "held_out",
    "identity_of",
    "load_data",
    "load_pydoc",
    "load_sentences",
    "load_text",
    "name_of",
    "resolve_data",
    "ring_distance",
    "text_data",
    "typed_name",
    "usual",
]

DATASETS: dict[str, Usual] = {
    **dict.fromkeys(CIFAR_NAMES, ImageData.usual),
    "gratings": Usual("resnet14", "resnet8x0.5", "demo", at_once=True),
    "sentences": TokenData.usual._replace(at_once=True),
    "pydoc": TokenData.usual,
}

_TEXT = "text:"
_typed: dict[str, str] = {}  # the texts read here: their name in a record, and how they were named in the call
_SENTENCES = re.compile(r"sentences-([1-9]\d{0,3})")


def usual(data: str | Dataset) -> Usual:
    """The usual teacher, student and recipe of a data set; of one's own those of its kind.

    Raises:
        ValueError: for an unknown name, with the nearest known ones.
    """
    if not isinstance(data, str):
        return DATASETS[family_of(data.name)] if is_named(data.name) else data.usual
    if data.startswith(_TEXT):
        return TokenData.usual
    return DATASETS[family_of(data)]


def family_of(name: str) -> str:
    """The name of `DATASETS` under which a name is known: itself, or as "sentences" of "sentences-4".

    Raises:
        ValueError: for an unknown name, with the nearest known ones.
    """
    if _SENTENCES.fullmatch(name):
        return "sentences"
    if name not in DATASETS:
        raise ValueError(near_names("data set", name, DATASETS))
    return name


def is_named(name: str) -> bool:
    """Whether `load_data` makes a data set of this name again."""
    return name in DATASETS or _SENTENCES.fullmatch(name) is not None


def typed_name(name: str) -> str | None:
    """What `load_data` and the command line know a data set of this name by; None for anybody's own."""
    return name if is_named(name) else _typed.get(name)


def _text(typed: str) -> TokenData:
    data = load_text(typed.removeprefix(_TEXT))
    _typed[data.name] = typed
    return data


def name_of(data: str | Dataset) -> str:
    """Name of a data set, known or not yet loaded.

    Raises:
        ValueError: for an unknown name, with the nearest known ones; for a text as `load_text`.
    """
    if not isinstance(data, str):
        return data.name
    if data.startswith(_TEXT):
        return _text(data).name
    family_of(data)
    return data


def resolve_data(
    data: str | Dataset, root: str | os.PathLike[str] | None, official: bool = True, shows: bool = True
) -> Dataset:
    """The data set itself, loaded where it is given by name.

    Args:
        data, root, official: as for `load_data`.
        shows: whether a download may show its progress.

    Raises:
        ValueError, DataError: as `load_data`.
    """
    if not isinstance(data, str):
        return data
    loaded: Dataset = load_data(data, root, official=official, progress=None if shows else False)
    return loaded


def resolve_images(
    data: str | Dataset, root: str | os.PathLike[str] | None, official: bool = True, what: str = "this"
) -> ImageData:
    """As `resolve_data`, for what is done with images alone.

    Raises:
        ValueError: for text.
    """
    found = resolve_data(data, root, official)
    if not isinstance(found, ImageData):
        raise ValueError(f"{what} is for images, and {found.name} holds {found.reads}")
    return found


def load_data(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    official: bool = True,
    progress: bool | None = None,
) -> Any:
    """Load a data set by name: an `ImageData`, or of the texts a `TokenData`.

    Args:
        name: "cifar10", "cifar100", or "gratings" (embedded: generated in under a second, no download); of texts
            "sentences" (embedded too: a language whose truth is known; "sentences-4" with four plausible continuations
            everywhere), "pydoc" (which every Python ships), or "text:PATH", any file.
        root: folder for downloads; else the environment variable ADAKD_DATA, else ~/.cache/adakd.
        download: fetch CIFAR when it is missing.
        official: verify CIFAR's files against the published checksums.
        progress: show a bar while downloading; by default where standard error is a terminal.

    Raises:
        ValueError: for an unknown name, with the nearest known ones; for a file that is no text, or too short.
        FileNotFoundError: if there is no such file.
        DataError: if CIFAR is offline, damaged or altered.
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected the name of a data set (as 'gratings'), got {brief(name)}")
    if root is not None:
        check_path("a folder", root=root)
    if name.startswith(_TEXT):
        return _text(name)
    if family_of(name) == "sentences":
        found = _SENTENCES.fullmatch(name)
        return load_sentences(int(found[1])) if found else load_sentences()
    if name == "gratings":
        return load_gratings()
    if name == "pydoc":
        return load_pydoc()
    return load_cifar(name, root, download=download, official=official, progress=progress)


def eval_batches(
    data: Dataset, batch_size: int = 500, *, first: int = 0, every: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and labels of the test split, in order: of images normalized (B, C, H, W), unaugmented, and (B,).

    Those of the batches from `first` on, one in `every`.
    """
    check_whole(1, batch_size=batch_size, every=every)
    if not hasattr(data, "test_batches"):
        raise TypeError(f"data: expected an ImageData or a TokenData, got {brief(data)}")
    return data.test_batches(batch_size, first=first, every=every)
