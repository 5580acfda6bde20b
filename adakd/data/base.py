"""What a run needs of its data, whatever they are: examples in views to train on, a test split, and how to measure on it."""

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from .views import ExampleViews

__all__ = ["WHOLE", "Dataset", "Share", "TwoSplits", "Usual", "array_of", "identity_of", "is_sha256", "written"]


class Usual(NamedTuple):
    """What trains on a data set when nobody says otherwise, by name."""

    teacher: str
    student: str
    recipe: str
    at_once: bool = False
    """Whether a teacher that is not there yet is trained without a command of its own: a matter of seconds, or of few minutes."""


class Share(Protocol):
    """Which part of the test split this process measures: of several, each takes some of the batches, and sums are added."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Put the sum over processes in the place of each tensor."""


class _Whole:
    rank, size = 0, 1

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Nobody has another part."""


WHOLE: Share = _Whole()


class Dataset(Protocol):
    """A training and a test split of examples. `ImageData` is one, of images; `TokenData` is one, of passages of text.

    An example is seen through *views* (`ExampleViews`): crops and flips of an image, windows of a passage. A network goes
    from views to logits with a row a label: (B, K) of images, (B, T, K) of windows of T tokens. Another kind of data is
    another class with these members; nothing else of the package depends on which it is. Recipes and records count examples
    as ``train_images`` and ``test_images``, whatever they are.
    """

    @property
    def name(self) -> str:
        """Results lie in a folder of this name."""

    @property
    def official(self) -> bool:
        """Whether the files are those of their publisher."""

    @property
    def checksum(self) -> str:
        """SHA-256 of both splits: by it a run knows its data."""

    @property
    def reads(self) -> str:
        """What a network reads: "images" or "tokens"."""

    @property
    def train(self) -> Sized: ...

    @property
    def test(self) -> Sized: ...

    @property
    def num_classes(self) -> int:
        """K, of the logits."""

    @property
    def channels(self) -> int:
        """Numbers at one place of an input: 3 of a pixel in colours, 1 of a token."""

    @property
    def logits_shape(self) -> tuple[int, ...]:
        """Of the logits for one view: (K,) or (T, K)."""

    @property
    def views_of_each(self) -> int:
        """How many views an example has."""

    @property
    def guessing(self) -> tuple[float, int]:
        """Share of the test labels that the most frequent one guesses right, and how many labels there are."""

    @property
    def usual(self) -> Usual:
        """What trains on data of this kind."""

    @property
    def device(self) -> torch.device: ...

    def to(self, device: torch.device | str) -> Self:
        """The same set on another device."""

    def describe(self) -> dict[str, Any]:
        """What a record says of the data: ``name``, ``official``, ``sha256``, ``train_images``, ``test_images``, ``classes``."""

    def describe_views(self) -> dict[str, Any]:
        """What a cache of logits says of the views that they are of."""

    def subset(self, size: int | None, seed: int, without: Tensor | None = None) -> Tensor:
        """Positions of `size` training examples, chosen by the seed; all for None."""

    def held_out(self, size: int) -> Tensor:
        """Positions of `size` training examples for validation, the same for every seed."""

    def tested_on(self, index: Tensor) -> Self:
        """The same set with these training examples in the place of the test split."""

    def views(self, seed: int, subset: Tensor | None = None, limit: int | None = None) -> ExampleViews:
        """The training examples, or those of a subset, in the views and the order of a seed."""

    def test_batches(
        self, batch_size: int = 500, *, first: int = 0, every: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels of the test split, each example in one view, in order: of batches, those from `first` on, one in `every`."""

    def measure(self, network: Callable[[Tensor], Tensor], share: Share = WHOLE) -> dict[str, float]:
        """What is measured of a network on the test split: ``accuracy`` in percent, and more where the data allow it."""


class TwoSplits:
    """What frozen data sets of either kind do alike: they know what their tensors were when the checksum was made."""

    name: str
    official: bool
    checksum: str
    train: Any
    test: Any

    def __post_init__(self) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not check what it is given")

    def _written(self) -> list[Any]:
        """`written` of the tensors that the checksum is of."""
        raise NotImplementedError(f"{type(self).__name__} does not say which tensors its checksum is of")

    def to(self, device: torch.device | str) -> Self:
        """The same set on another device; its checksum is that of what it holds now, should somebody have written to it."""
        if self._written() != vars(self)["_summed_up"]:
            self.__post_init__()
        return self._with(train=self.train.to(device), test=self.test.to(device))

    def _with(self, **splits: Any) -> Self:
        """With other splits, and what they are made of as it was: nothing is checked or summed up again."""
        other = copy.copy(self)
        for name, split in splits.items():
            object.__setattr__(other, name, split)
        object.__setattr__(other, "_summed_up", other._written())
        return other

    def describe(self) -> dict[str, Any]:
        """What a record says of the data."""
        return {
            "name": self.name,
            "official": self.official,
            "sha256": self.checksum,
            "train_images": len(self.train),
            "test_images": len(self.test),
        }


def array_of(tensor: Tensor) -> np.ndarray:
    """Its numbers, to be read; `Tensor.numpy` would mark its memory as one that NumPy writes to (see `written`)."""
    return np.from_dlpack(tensor.cpu().contiguous())


def written(*tensors: Tensor) -> list[Any]:
    """How often each tensor was written to since it was made: equal to what it was then where none was.

    Nobody knows it of memory that torch shares with NumPy or another process, nor in inference mode: equal to nothing.
    """
    unknown = [each.is_inference() or not each.untyped_storage().resizable() for each in tensors]
    return [object() if each else tensor._version for each, tensor in zip(unknown, tensors, strict=True)]


def identity_of(data: Dataset) -> dict[str, Any]:
    """What a run's config says of its data: name and checksum; and of sets that are not as a loader of ours makes them, views, sizes and classes.

    A checksum is of what lies in the splits, and neither of how it is seen nor, of images, of how many classes a network
    tells apart. The name of one of our sets says both, and records are known by name and checksum alone.
    """
    found = {"name": data.name, "sha256": data.checksum}
    if getattr(data, "described_by_its_name", False):
        return found
    sizes = {"train": len(data.train), "test": len(data.test), "classes": data.num_classes}
    return {**found, "views": data.describe_views(), **sizes}


def is_sha256(text: str) -> bool:
    """Whether a text is a SHA-256 in hexadecimal digits."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None
