"""What the terms that read features share: a feature by its name, and errors that say what is missing."""

import torch
from torch import Tensor, nn

from ..signals import Batch, Signals

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
    if isinstance(found, (tuple, list)):
        found = next((each for each in found if isinstance(each, Tensor)), found)
    if not isinstance(found, Tensor):
        raise TypeError(
            f"{network} features: expected a tensor by the name {name!r}, got {type(found).__name__}; name a submodule that "
            "returns one"
        )
    return found.float() if found.dtype in (torch.float16, torch.bfloat16) else found


def refuse_unbuilt(term: nn.Module, part: str) -> None:
    """Raise RuntimeError unless `build` has made this part."""
    if not hasattr(term, part):
        raise RuntimeError(
            f"{type(term).__name__} has no {part} yet: call build(student, teacher, train_images) of the objective "
            "once, before the optimizer is made, as Distiller.build and distill do"
        )


def position(batch: Batch, term: nn.Module) -> Tensor:
    """Positions (B,) of the images in the training set.

    Raises:
        ValueError: if the batch has none.
    """
    if batch.index is None:
        raise ValueError(
            f"index: {type(term).__name__} needs the positions (B,) of the images in the training set and got None; "
            "pass index= beside the labels, as distill does"
        )
    return batch.index
