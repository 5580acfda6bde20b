"""The embedded set: noisy gratings of 10 orientations, generated, so that everything runs without a download.

The classes lie on a ring: orientation k and k + 1 look alike, k and k + 5 are perpendicular. What a teacher knows
beyond the label can therefore be read off its soft probabilities: they fall with the distance on the ring.
"""

import math

import numpy as np
import torch

from .images import USUAL_VIEWS, ImageData, Split

__all__ = ["load_gratings", "ring_distance"]

NUM_CLASSES = 10
SIZE = 16
_ANGLE_SPREAD = 0.25  # standard deviation of the orientation around its class, in classes
_NOISE = 1.25  # standard deviation of the pixel noise, in amplitudes of the grating
_GREY_LEVELS = (
    22.0  # of one amplitude: with the noise above, 3.8 standard deviations at a crest fit into 8 bits
)

# The deviation of the whole generated distribution, as its mean of a half by construction and not measured.
_SPREAD = _GREY_LEVELS * math.sqrt(0.5 + _NOISE**2) / 255
for _known in (("gratings", NUM_CLASSES), ("gratings", None)):
    USUAL_VIEWS[_known] = {"padding": 0, "flip": False, "mean": [0.5] * 3, "std": [_SPREAD] * 3}


def _generate(images: int, seed: int, classes: int) -> Split:
    # RandomState's streams are frozen for good, those of default_rng are not.
    random = np.random.RandomState(seed)
    labels = np.arange(images) % classes
    angle = (labels + _ANGLE_SPREAD * random.randn(images)) * math.pi / classes
    frequency = 2 * math.pi * random.uniform(2.0, 3.0, images) / SIZE  # 2 to 3 waves across
    phase = random.uniform(0, 2 * math.pi, images)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    across = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y  # distance along the wave
    wave = np.sin(frequency[:, None, None] * across + phase[:, None, None])
    pixels = 127.5 + _GREY_LEVELS * (wave + _NOISE * random.randn(images, SIZE, SIZE))
    grey = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return Split(
        torch.tensor(grey[..., None].repeat(3, axis=-1)),  # three equal channels: any model fits
        torch.tensor(labels.astype(np.int64)),
    )


def ring_distance(a: torch.Tensor, b: torch.Tensor, classes: int = NUM_CLASSES) -> torch.Tensor:
    """Distance of two classes on the ring of orientations: 0 to 5 of the ten, 0 to half of any other number."""
    apart = (a - b).abs() % classes
    return torch.minimum(apart, classes - apart)


def load_gratings(
    train_images: int = 4000, test_images: int = 2000, *, classes: int = NUM_CLASSES
) -> ImageData:
    """Generate the embedded set: 16 × 16 gratings of 10 orientations in noise, the same on every machine.

    No crop and no flip: a mirrored grating belongs to another class. Takes well under a second.

    Args:
        train_images, test_images: how many to draw; the classes take turns.
        classes: number of orientations between 0° and 180°. The orientation strays by a quarter of a class whatever
            their number, and the pixel noise is the same: more classes are harder. With another number than ten the
            set's name ends in it ("gratings-4"); `adakd.load_data` does not know that name, so pass the set itself.

    Raises:
        ValueError: for fewer than 2 classes.
    """
    if classes < 2:
        raise ValueError(f"classes: expected at least 2 orientations, got {classes}")
    train = _generate(train_images, seed=1, classes=classes)
    test = _generate(test_images, seed=2, classes=classes)
    return ImageData(
        name="gratings" if classes == NUM_CLASSES else f"gratings-{classes}",
        train=train,
        test=test,
        classes=tuple(f"{180 * k / classes:.4g}°" for k in range(classes)),
        mean=(0.5,) * 3,
        std=(_SPREAD,) * 3,
        padding=0,
        flip=False,
        official=True,
    )
