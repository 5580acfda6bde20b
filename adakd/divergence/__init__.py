"""Divergences: how a student's softened logits are compared with a teacher's. One file each.

``DIVERGENCES`` has each by the name of its file.
"""

from .._parts import find_parts
from .ab import AB
from .anchored import Anchored
from .base import Divergence
from .correlation import Correlation
from .dist import DIST
from .dkd import DKD
from .jsd import JSD
from .kl import KL
from .logits import LogitDistance
from .mlkd import MLKD
from .reverse_kl import ReverseKL
from .rld import RLD
from .skewed_kl import SkewedKL
from .taylor import TaylorKL
from .ttm import TTM

__all__ = [
    "AB",
    "DIST",
    "DIVERGENCES",
    "DKD",
    "JSD",
    "KL",
    "MLKD",
    "RLD",
    "TTM",
    "Anchored",
    "Correlation",
    "Divergence",
    "LogitDistance",
    "ReverseKL",
    "SkewedKL",
    "TaylorKL",
]

DIVERGENCES = find_parts(__name__, __path__, Divergence)
