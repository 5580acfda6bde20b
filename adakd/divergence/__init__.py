"""Divergences: how a student's softened logits are compared with a teacher's. One file each."""

from .anchored import Anchored
from .base import Divergence
from .correlation import Correlation
from .dist import DIST
from .dkd import DKD
from .kl import KL
from .mlkd import MLKD
from .taylor import TaylorKL
from .ttm import TTM

__all__ = [
    "DIST",
    "DIVERGENCES",
    "DKD",
    "KL",
    "MLKD",
    "TTM",
    "Anchored",
    "Correlation",
    "Divergence",
    "TaylorKL",
]

DIVERGENCES: dict[str, type[Divergence]] = {
    "anchored": Anchored,
    "correlation": Correlation,
    "dist": DIST,
    "dkd": DKD,
    "kl": KL,
    "mlkd": MLKD,
    "taylor": TaylorKL,
    "ttm": TTM,
}
