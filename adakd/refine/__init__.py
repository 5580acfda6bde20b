"""Refinements: what is done to the rows of logits before anything else. One file each, one signature.

``REFINEMENTS`` has each by the name of its file.
"""

from .._parts import find_parts
from .base import Refinement

__all__ = ["REFINEMENTS", "Refinement"]

REFINEMENTS = find_parts(__name__, __path__, Refinement)
