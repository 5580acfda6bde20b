"""Divergences: how a student's softened logits are compared with a teacher's. One file each.

``DIVERGENCES`` has each by the name of its file.
"""

from .._parts import find_parts
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

DIVERGENCES = find_parts(__name__, __path__, Divergence)
