"""A labelled image set as tensors: what every loader returns and every training loop reads."""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._check import brief, check_name
from .base import WHOLE, Share, TwoSplits, Usual, array_of, is_sha256, written
from .views import Views, balanced_subset, held_out, normalization

__all__ = ["ImageData", "Split", "checksum_of"]

USUAL_VIEWS: dict[tuple[str, int | None], dict[str, Any]] = {}
"""`ImageData.describe_views` of the sets that the package loads, by name and number of classes; None: which its name ends in."""


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, C) as uint8 and labels (N,) as int64, on one device.

    Raises:
        TypeError: for anything but tensors.
        ValueError: for another type, layout or length; the message says how to convert.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        for name, value in (("images", self.images), ("labels", self.labels)):
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"{name}: expected a tensor, got {type(value).__name__}; convert it with torch.as_tensor()"
                )
        _check_images(self.images)
        _check_labels(self.labels, self.images)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


def _check_images(images: Tensor) -> None:
    shape, wanted = tuple(images.shape), "images: expected uint8 of shape (N, H, W, C), channels last"
    planar = len(shape) == 4 and shape[1] != shape[2] and shape[1] in (1, 3, 4) and shape[3] not in (1, 3, 4)
    channels_last = "; it looks like (N, C, H, W): images.permute(0, 2, 3, 1)" if planar else ""
    if images.dtype != torch.uint8:
        remedy = (
            "pixels are bytes from 0 to 255, and mean and std normalize them later: from floats in [0, 1], "
            "(images * 255).round().to(torch.uint8)"
            if images.dtype.is_floating_point
            else "if they are pixels from 0 to 255, images.to(torch.uint8)"
        )
        raise ValueError(f"{wanted}, got {images.dtype} of shape {shape}; {remedy}{channels_last}")
    if len(shape) == 3 or (len(shape) == 4 and (shape[3] == 1 or (planar and shape[1] == 1))):
        view = "[..., None]" if len(shape) == 3 else ".permute(0, 2, 3, 1)" if planar else ""
        raise ValueError(
            f"{wanted}, got shape {shape}, which is gray; the networks take three channels: "
            f"images{view}.expand(-1, -1, -1, 3)"
        )
    if len(shape) != 4 or planar:
        raise ValueError(f"{wanted}, got shape {shape}{channels_last}")
    if 0 in shape:
        raise ValueError(f"{wanted}, got shape {shape}, in which there is nothing")
    if shape[1] != shape[2]:
        raise ValueError(f"{wanted}, got shape {shape}: images must be as high as wide; crop or pad them")


def _check_labels(labels: Tensor, images: Tensor) -> None:
    shape, wanted = tuple(labels.shape), f"labels: expected int64 of shape ({len(images)},), one for each image"
    if labels.dtype != torch.int64:
        remedy = ""
        if labels.ndim == 2:
            remedy = "; if they are one-hot, labels.argmax(1)"
        elif not labels.dtype.is_floating_point and labels.dtype != torch.bool:
            remedy = "; labels.long()"
        raise ValueError(f"{wanted}, got {labels.dtype} of shape {shape}{remedy}")
    if shape != (len(images),):
        raise ValueError(f"{wanted}, got shape {shape}")
    if labels.device != images.device:
        raise ValueError(f"labels: expected them on {images.device}, where the images are, got {labels.device}")
    if labels.min() < 0:
        place = int((labels < 0).nonzero()[0])
        raise ValueError(
            f"labels: expected them from 0 on, got {int(labels[place])} at place {place}; "
            "leave out images without a label"
        )


@dataclass(frozen=True)
class ImageData(TwoSplits):
    """A training and a test split with what is needed to read them.

    Channels come last, as they lie in the archives: a pixel's colours are neighbours, so one gather moves them
    together and the batch is already in the channels_last layout that convolutions prefer.

    Your own images need a name, two splits and the statistics of their channels:

    >>> images = torch.randint(256, (20, 8, 8, 3), dtype=torch.uint8)  # (N, H, W, C)
    >>> split = Split(images, torch.arange(20) % 2)
    >>> data = ImageData("mine", split, split, classes=("cat", "dog"), mean=(0.5,) * 3, std=(0.25,) * 3)
    >>> data.num_classes, len(data.checksum)
    (2, 64)

    Raises:
        TypeError: for splits that are none.
        ValueError: for a name that cannot name a folder, labels without a class, statistics of other channels.
    """

    reads: ClassVar[str] = "images"
    usual: ClassVar[Usual] = Usual("wrn_16_2", "resnet8", "quick")  # fits two CPU cores; the paper's teacher

    name: str
    """Letters, digits and ``._+-``: results lie in a folder of this name."""
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """Per channel, of pixels scaled to [0, 1]."""
    std: tuple[float, ...]
    padding: int = 0
    """Zero pixels added on each side before a random crop of the original size; 0 for no crop."""
    flip: bool = False
    """Whether a mirrored image keeps its label."""
    official: bool = True
    """Whether the files matched their publisher's checksums (for a generated set: the recorded one)."""
    checksum: str = ""
    """SHA-256 of pixels and labels of both splits, in order; computed when left out, and where the one given is a SHA-256
    of other pixels or labels, as `dataclasses.replace` hands it on. Any other text stays."""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        for field, split in (("train", self.train), ("test", self.test)):
            if not isinstance(split, Split):
                raise TypeError(f"{field}: expected an adakd.data.Split, got {type(split).__name__}")
        self._check_channels()
        self._check_classes()
        if isinstance(self.padding, bool) or not isinstance(self.padding, int) or self.padding < 0:
            raise ValueError(f"padding: expected an integer of at least 0, got {brief(self.padding)}")
        for field in ("flip", "official"):
            if not isinstance(getattr(self, field), bool):
                raise ValueError(f"{field}: expected True or False, got {brief(getattr(self, field))}")
        if not self.checksum or is_sha256(self.checksum):
            object.__setattr__(self, "checksum", checksum_of(self.train, self.test))
        object.__setattr__(self, "_summed_up", self._written())

    def _written(self) -> list[Any]:
        return written(self.train.images, self.train.labels, self.test.images, self.test.labels)

    def _check_channels(self) -> None:
        shape, other = self.train.images.shape[1:], self.test.images.shape[1:]
        if shape != other:
            raise ValueError(f"test: expected images {tuple(shape)} as in train, got {tuple(other)}")
        for field in ("mean", "std"):
            values = _plain_tuple(field, getattr(self, field))
            numbers = [isinstance(value, Real) and math.isfinite(value) for value in values]
            if len(values) != shape[2] or not all(numbers):
                raise ValueError(
                    f"{field}: expected {shape[2]} finite numbers, one for each channel, got {brief(values)}"
                )
            object.__setattr__(self, field, tuple(map(float, values)))
        if min(self.std) <= 0:
            raise ValueError(
                f"std: expected numbers above 0, got {brief(self.std)}; a constant channel has none: 1"
            )

    def _check_classes(self) -> None:
        classes = _plain_tuple("classes", self.classes)
        if len(classes) < 2 or not all(isinstance(name, str) for name in classes):
            raise ValueError(f"classes: expected the names of at least 2 classes, got {brief(classes)}")
        for field, split in (("train", self.train), ("test", self.test)):
            if split.labels.max() >= len(classes):
                place = int((split.labels >= len(classes)).nonzero()[0])
                raise ValueError(
                    f"{field}: expected labels from 0 to {len(classes) - 1}, for there are {len(classes)} classes, "
                    f"got {int(split.labels[place])} at place {place}"
                )
        object.__setattr__(self, "classes", classes)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def channels(self) -> int:
        """C: 3 for colour images."""
        return self.train.images.shape[3]

    @property
    def described_by_its_name(self) -> bool:
        """Whether name and checksum say all: of a set that the package loads, in its usual views."""
        family, ending, rest = self.name.rpartition(f"-{self.num_classes}")
        known = (family, None) if ending and not rest else (self.name, self.num_classes)
        return USUAL_VIEWS.get(known) == self.describe_views()

    @property
    def device(self) -> torch.device:
        return self.train.images.device

    @property
    def logits_shape(self) -> tuple[int, ...]:
        """(K,): a row of logits an image."""
        return (self.num_classes,)

    @property
    def views_of_each(self) -> int:
        """How many views an image has: 162 of CIFAR's."""
        return (2 * self.padding + 1) ** 2 * (2 if self.flip else 1)

    @property
    def guessing(self) -> tuple[float, int]:
        """1 / K, and the number of test images."""
        return 1 / self.num_classes, len(self.test)

    def describe(self) -> dict[str, Any]:
        """What a record says of the data."""
        return {
            **super().describe(),
            "classes": self.num_classes,
            **({} if self.channels == 3 else {"channels": self.channels}),
        }

    def describe_views(self) -> dict[str, Any]:
        """What normalization, crop and flip make of the images: a cache of logits says it, and the config of a run."""
        return {
            "padding": self.padding,
            "flip": self.flip,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def subset(self, size: int | None, seed: int, without: Tensor | None = None) -> Tensor:
        """Indices of `size` training images, as `balanced_subset`."""
        return balanced_subset(self.train.labels, size, seed, without)

    def held_out(self, size: int) -> Tensor:
        """Indices of `size` training images for validation, as `adakd.data.held_out`."""
        return held_out(self.train.labels, size)

    def tested_on(self, index: Tensor) -> "ImageData":
        """The same set with these training images in the place of the test split; its checksum stays that of the whole."""
        return self._with(test=Split(self.train.images[index], self.train.labels[index]))

    def views(self, seed: int, subset: Tensor | None = None, limit: int | None = None) -> Views:
        """The training images, or those of a subset, in the views and the order of a seed."""
        return Views(self, seed, subset, limit)

    def test_batches(
        self, batch_size: int = 500, *, first: int = 0, every: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalized test images (B, C, H, W), unaugmented, and labels (B,), in order: of batches, those from `first` on, one in `every`."""
        scale, shift = normalization(self)
        for images, labels in zip(
            self.test.images.split(batch_size)[first::every],
            self.test.labels.split(batch_size)[first::every],
            strict=True,
        ):
            yield (images.float() * scale + shift).permute(0, 3, 1, 2), labels

    def measure(self, network: Callable[[Tensor], Tensor], share: Share = WHOLE) -> dict[str, float]:
        """Top-1 accuracy on the test split, in percent.

        Raises:
            ValueError: unless the network gives a row for each image.
        """
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for images, labels in self.test_batches(first=share.rank, every=share.size):
            logits = network(images)
            if logits.ndim != 2:
                raise ValueError(
                    f"network: expected logits (batch, {self.num_classes}), got shape {tuple(logits.shape)}; return a row for "
                    "each image, as after a mean over its places"
                )
            correct += (logits.argmax(dim=1) == labels).sum()
        share.add([correct])
        return {"accuracy": 100.0 * correct.item() / len(self.test)}


def checksum_of(train: Split, test: Split) -> str:
    """SHA-256 over the bytes of train images, train labels, test images, test labels."""
    digest = hashlib.sha256()
    for split in (train, test):
        digest.update(array_of(split.images).data)
        digest.update(array_of(split.labels).data)
    return digest.hexdigest()


def _plain_tuple(field: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise ValueError(f"{field}: expected a tuple, got {brief(values)}")
    return tuple(value.item() if isinstance(value, Tensor) and not value.ndim else value for value in values)
