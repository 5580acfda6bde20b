"""A labelled image set as tensors: what every loader returns and every training loop reads."""

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["ImageData", "Split"]


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, C) as uint8 and labels (N,) as int64, on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class ImageData:
    """A training and a test split with what is needed to read them.

    Channels come last, as they lie in the archives: a pixel's colours are neighbours, so one gather moves them
    together and the batch is already in the channels_last layout that convolutions prefer.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """Per channel, of pixels scaled to [0, 1]."""
    std: tuple[float, ...]
    padding: int
    """Zero pixels added on each side before a random crop of the original size; 0 for no crop."""
    flip: bool
    """Whether a mirrored image keeps its label."""
    official: bool
    """Whether the files matched their publisher's checksums (for a generated set: the recorded one)."""
    checksum: str
    """SHA-256 of pixels and labels of both splits, in order."""

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def device(self) -> torch.device:
        return self.train.images.device

    def to(self, device: torch.device | str) -> "ImageData":
        """The same set on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))

    def describe(self) -> dict:
        """What a record says of the data."""
        return {
            "name": self.name,
            "official": self.official,
            "sha256": self.checksum,
            "train_images": len(self.train),
            "test_images": len(self.test),
            "classes": self.num_classes,
        }


def checksum_of(train: Split, test: Split) -> str:
    """SHA-256 over the bytes of train images, train labels, test images, test labels."""
    digest = hashlib.sha256()
    for split in (train, test):
        digest.update(split.images.contiguous().numpy().data)
        digest.update(split.labels.contiguous().numpy().data)
    return digest.hexdigest()
