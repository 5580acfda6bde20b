"""Refinements: what is done to the rows of logits before anything else. One file each, one signature.

``REFINEMENTS`` has each by the name of its file.
"""

from .._parts import find_parts
from .asymmetric import Asymmetric
from .base import Refinement
from .swap import Swap
from .taid import TAID

__all__ = ["REFINEMENTS", "TAID", "Asymmetric", "Refinement", "Swap"]

REFINEMENTS = find_parts(__name__, __path__, Refinement)
