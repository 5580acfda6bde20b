"""What the terms that read features share: a feature by its name, and errors that say what is missing."""

import torch
from torch import Tensor, nn

from .._check import at_least_fp32, label_ends, may_read
from ..signals import Batch, Signals, first_tensor

__all__ = ["feature", "position", "refuse_unbuilt"]


def feature(signals: Signals, name: str, network: str) -> Tensor:
    """The feature of that name, in at least fp32; of several tensors, as a GRU returns them, the first.

    Raises:
        ValueError: if the network's outputs hold none of that name.
        TypeError: if it is no tensor.
    """
    found = signals.features.get(name)
    if found is None:
        known = ", ".join(signals.features) or "none"
        raise ValueError(
            f"{network} features: expected {name!r}, got {known}; pass Signals(logits, features) with the features "
            "that the objective's taps name, as Distiller and distill do"
        )
    found = first_tensor(found)
    if not isinstance(found, Tensor):
        raise TypeError(
            f"{network} features: expected a tensor by the name {name!r}, got {type(found).__name__}; name a submodule that "
            "returns one"
        )
    return at_least_fp32(found)


def refuse_unbuilt(term: nn.Module, part: str) -> None:
    """Raise RuntimeError unless `build` has made this part."""
    if not hasattr(term, part):
        raise RuntimeError(
            f"{type(term).__name__} has no {part} yet: call build(student, teacher, train_images) of the objective "
            "once, before the optimizer is made, as Distiller.build and distill do"
        )


def position(batch: Batch, term: nn.Module, rows: int, images: int | None = None) -> Tensor:
    """Positions (B,) of the images in the training set.

    Args:
        rows: of the batch.
        images: size of the training set, for a term that looks them up.

    Raises:
        TypeError: for positions that are no tensor of int64.
        ValueError: if the batch has none, too many or too few, or one outside the training set, where values may be read.
    """
    name, index = type(term).__name__, batch.index
    if index is None:
        raise ValueError(
            f"index: {name} needs the positions (B,) of the images in the training set and got None; "
            "pass index= beside the labels, as distill does"
        )
    if not isinstance(index, Tensor) or index.dtype != torch.int64:
        got = str(index.dtype) if isinstance(index, Tensor) else type(index).__name__
        raise TypeError(
            f"index: {name} needs positions in the training set, torch.int64 of shape (B,), got {got}; "
            "call .long(), or torch.as_tensor() of numbers"
        )
    if index.shape != (rows,):
        raise ValueError(
            f"index: {name} needs the positions of the batch's {rows} images, shape ({rows},), got {tuple(index.shape)}"
        )
    if (
        images is not None
        and may_read(index)
        and (ends := label_ends(index))
        and not 0 <= ends[0] <= ends[1] < images
    ):
        bad = ends[0] if ends[0] < 0 else ends[1]
        raise ValueError(
            f"index: expected positions from 0 to {images - 1} in the training set of {images} images, got {bad}; "
            "build the objective for the whole training set (train_images), and count positions in it from 0"
        )
    return index
