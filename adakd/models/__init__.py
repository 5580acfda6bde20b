"""The networks of the distillation tables, with the parameter names of the published teachers."""

import torch
from torch import nn

from .._check import near_names
from .resnet import RESNETS, ResNet
from .vgg import VGG, VGGS
from .wrn import WRNS, WideResNet

__all__ = ["MODELS", "VGG", "ResNet", "WideResNet", "create_model", "seeded_model"]

MODELS = {**RESNETS, **WRNS, **VGGS}


def create_model(name: str, num_classes: int, in_channels: int = 3) -> nn.Module:
    """Build a network by name, with fresh weights from torch's current random state.

    Args:
        name: a key of ``MODELS``.
        num_classes: K, at least 2.
        in_channels: 3 for colour images.

    Returns:
        A module from images (B, in_channels, H, W) to logits (B, num_classes).

    Raises:
        ValueError: for an unknown name, with the nearest known ones, or fewer than 2 classes.

    >>> sum(p.numel() for p in create_model("resnet8", num_classes=100).parameters())
    83892
    """
    if name not in MODELS:
        raise ValueError(near_names("model", name, MODELS))
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    return MODELS[name](num_classes, in_channels)


def seeded_model(name: str, num_classes: int, seed: int) -> nn.Module:
    """A network with fresh weights that depend on the seed alone; the caller's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_model(name, num_classes)
