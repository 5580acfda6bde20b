"""A data set as plain arrays and what is said of them: to lie in memory once, for all processes of a machine."""

import mmap
import os
import tempfile
import warnings
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import ImageData, Split

__all__ = ["MappedData", "joined", "taken_apart"]

Arrays = tuple[np.ndarray, ...]
_SPLITS = ("train", "test")
_ALIGNED = 64


def taken_apart(data: ImageData) -> tuple[dict[str, Any], Arrays]:
    """What a set says of itself, and images and labels of both splits."""
    about = {each.name: getattr(data, each.name) for each in fields(data) if each.name not in _SPLITS}
    splits = [getattr(data, name).to("cpu") for name in _SPLITS]
    return about, tuple(
        tensor.contiguous().numpy() for split in splits for tensor in (split.images, split.labels)
    )


def joined(about: dict[str, Any], arrays: Arrays) -> ImageData:
    """The set itself, on the CPU; its tensors are the arrays, and nothing is copied."""
    images, labels, test_images, test_labels = map(_tensor, arrays)
    return ImageData(train=Split(images, labels), test=Split(test_images, test_labels), **about)


def _tensor(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():  # an array in Ray's store may not be written, and nobody does
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


class MappedData:
    """A set in a file without a name, which processes map; it is gone with the last of them, however they end."""

    def __init__(self, data: ImageData):
        self.about, arrays = taken_apart(data)
        self.layout: list[tuple[int, str, tuple[int, ...]]] = []
        with tempfile.TemporaryFile() as file:
            for array in arrays:
                file.seek(-(-file.tell() // _ALIGNED) * _ALIGNED)
                self.layout.append((file.tell(), array.dtype.str, array.shape))
                file.write(array.data)
            file.flush()
            self.file = os.dup(file.fileno())

    def close(self) -> None:
        """This process's hold of the file."""
        os.close(self.file)

    @staticmethod
    def opened(file: int, about: dict[str, Any], layout: list[tuple[int, str, tuple[int, ...]]]) -> ImageData:
        """The set in a process that has inherited the file; pages that nobody writes are everybody's."""
        memory = mmap.mmap(file, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        arrays = (
            np.frombuffer(memory, dtype, count=int(np.prod(shape)), offset=offset).reshape(shape)
            for offset, dtype, shape in layout
        )
        return joined(about, tuple(arrays))
