"""Refinements: what is done to the rows of logits before anything else. One file each, one signature."""

from .base import Refinement

__all__ = ["Refinement"]
