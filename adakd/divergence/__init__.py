"""Divergences: how a student's softened logits are compared with a teacher's. One file each."""

from .base import Divergence
from .dkd import DKD
from .kl import KL

__all__ = ["DIVERGENCES", "DKD", "KL", "Divergence"]

DIVERGENCES: dict[str, type[Divergence]] = {"kl": KL, "dkd": DKD}
