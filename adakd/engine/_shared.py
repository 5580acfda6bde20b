"""A data set as plain arrays and their description: to lie in memory once, for all processes of a machine."""

import mmap
import os
import tempfile
import warnings
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import Dataset

__all__ = ["MappedData", "joined", "taken_apart"]

Arrays = tuple[np.ndarray, ...]
_SPLITS = ("train", "test")
_ALIGNED = 64


def taken_apart(data: Any) -> tuple[dict[str, Any], Arrays]:
    """What a set says of itself and of its splits, and the tensors of both splits."""
    about: dict[str, Any] = {"": type(data)}
    arrays: list[np.ndarray] = []
    for each in fields(data):
        value = getattr(data, each.name)
        if each.name in _SPLITS:
            split = value.to("cpu")
            inside = {part.name: getattr(split, part.name) for part in fields(split)}
            tensors = [name for name, part in inside.items() if isinstance(part, Tensor)]
            arrays += [inside.pop(name).contiguous().numpy() for name in tensors]
            value = type(split), tensors, inside
        about[each.name] = value
    return about, tuple(arrays)


def joined(about: dict[str, Any], arrays: Arrays) -> Any:
    """The set itself, on the CPU; its tensors are the arrays, and nothing is copied."""
    given, left = dict(about), iter(arrays)
    data = given.pop("")
    for name in _SPLITS:
        split, tensors, inside = given[name]
        given[name] = split(**inside, **{tensor: _tensor(next(left)) for tensor in tensors})
    return data(**given)


def _tensor(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():  # an array in Ray's store may not be written, and nobody does
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


class MappedData:
    """A set in a file without a name, which processes map; it is gone with the last of them, however they end."""

    def __init__(self, data: Dataset):
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
    def opened(file: int, about: dict[str, Any], layout: list[tuple[int, str, tuple[int, ...]]]) -> Dataset:
        """The set in a process that has inherited the file; pages that nobody writes are everybody's."""
        memory = mmap.mmap(file, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        arrays = (
            np.frombuffer(memory, dtype, count=int(np.prod(shape)), offset=offset).reshape(shape)
            for offset, dtype, shape in layout
        )
        data: Dataset = joined(about, tuple(arrays))
        return data
