"""Which features a term reads, and what several terms do with them: maps of one size, vectors of norm 1."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .._check import brief, check_numbers
from ..signals import Signals, Taps
from ._features import feature

__all__ = ["STAGES", "check_positive", "map_pairs", "pairs_of", "taps_of", "unit"]

STAGES = ("stage1", "stage2", "stage3", "stage4?")
"""All stages that both networks have: three of a ResNet, four of a VGG."""


def taps_of(default: tuple[str, ...], student_layers: str | None, teacher_layers: str | None) -> Taps:
    """Names of the features of both networks, the first of one beside the first of the other.

    Args:
        default: portable names; "?" marks those that are read where both networks have them.
        student_layers, teacher_layers: other names, separated by commas, for a network whose stages have no names; None
            for the default's, as many as the other network's.

    Raises:
        ValueError: for another number of one than of the other, or an empty name.
    """
    given = {"student_layers": student_layers, "teacher_layers": teacher_layers}
    named = {key: _names(key, text) for key, text in given.items() if text is not None}
    if not named:
        return Taps(default, default)
    numbers = {len(names) for names in named.values()}
    count = max(numbers)
    if len(numbers) > 1 or (len(named) == 1 and count > len(default)):
        other = f"{min(numbers)}" if len(numbers) > 1 else f"{len(default)} ({', '.join(default)})"
        raise ValueError(
            f"{', '.join(named)}: expected as many layers of one network as of the other, got {count} and {other}; "
            "name those of both"
        )
    usual = tuple(name.removesuffix("?") for name in default[:count])
    return Taps(*(named.get(key, usual) for key in given))


def _names(key: str, text: str) -> tuple[str, ...]:
    if not isinstance(text, str):
        raise TypeError(f"{key}: expected names of submodules separated by commas, got {brief(text)}")
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(f"{key}: expected names of submodules separated by commas, each once, got {text!r}")
    return names


def pairs_of(taps: Taps, student: Signals, teacher: Signals) -> Iterator[tuple[Tensor, Tensor]]:
    """Features of both networks, name beside name; the teacher's without gradient.

    Raises:
        ValueError: if one is missing.
    """
    for ours, theirs in zip(taps.student, taps.teacher, strict=True):
        if ours.endswith("?") and not (ours[:-1] in student.features and theirs[:-1] in teacher.features):
            continue
        s = feature(student, ours.removesuffix("?"), "student")
        t = feature(teacher, theirs.removesuffix("?"), "teacher")
        yield s, t.detach().to(s.dtype)


def map_pairs(taps: Taps, student: Signals, teacher: Signals) -> Iterator[tuple[Tensor, Tensor]]:
    """As `pairs_of`, of maps (N, C, H, W), the larger ones averaged over fields to the smaller ones' size.

    Raises:
        ValueError: for features that are no maps.
    """
    for s, t in pairs_of(taps, student, teacher):
        for x, network in ((s, "student"), (t, "teacher")):
            if x.ndim != 4:
                raise ValueError(f"{network} features: expected maps (N, C, H, W), got {tuple(x.shape)}")
        size = (min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3]))
        yield _averaged(s, size), _averaged(t, size)


def _averaged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if maps.shape[2:] == size else F.adaptive_avg_pool2d(maps, size)


def unit(x: Tensor, dim: int = 1) -> Tensor:
    """x over its norm along an axis; a zero vector stays zero, and gets a gradient of 0.

    `torch.nn.functional.normalize` multiplies the gradient of a zero vector, as of a channel that is dead, by 1e12.
    """
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    alive = norm > 1e-12
    return torch.where(alive, x / norm.where(alive, 1.0), 0.0)


def check_positive(**options: float) -> None:
    """Raise ValueError unless every option is a number above 0, and TypeError for one that is no number."""
    check_numbers("a number above 0", **options)
    for name, value in options.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name}: expected a number above 0, got {value!r}")
