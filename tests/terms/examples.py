"""Outputs of two small networks for the tests of the terms on features, and a golden case of theirs."""

import json
from pathlib import Path

import numpy as np
import torch

from adakd import Batch, Signals

GOLDEN = Path(__file__).parents[1] / "golden" / "golden_dev"


def golden(name):
    """Loss, gradient and inputs (by their names) of a golden case on features."""
    case = json.loads(GOLDEN.with_suffix(".json").read_text())["cases"]["features"][name]
    with np.load(GOLDEN.with_suffix(".npz")) as arrays:
        arrays = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    named = {key: arrays[value] for key, value in case["params"].items() if isinstance(value, str)}
    return case, {**arrays, **named}


def signals(classes=5, rows=6, seed=0, **shapes):
    """Random outputs in float64: logits, and features of the shapes (without the rows) that are named."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    features = {
        name.replace("_", ":", 1) if name.startswith("classifier") else name: draw(rows, *shape)
        for name, shape in shapes.items()
    }
    return Signals(draw(rows, classes), features)


def batch(rows=6, classes=5, epoch=1, first=0):
    """Labels and positions of as many images."""
    return Batch(torch.arange(rows) % classes, torch.arange(first, first + rows), epoch)


def leaves(outputs):
    """The same outputs as leaves, to see what gradient reaches them."""
    return Signals(
        outputs.logits.detach().requires_grad_(),
        {name: x.detach().requires_grad_() for name, x in outputs.features.items()},
    )


def built(term, student, teacher, train_images=20, seed=0):
    """The term with its connectors, in float64 and in training mode."""
    torch.manual_seed(seed)
    term.build(student, teacher, train_images)
    return term.double().train()
