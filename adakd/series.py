"""The functions of `adakd.theory`, by the name that the chapters use.

Series behind the maximum-logit temperature (arXiv 2503.09030, section 3), and the zeros of the partition function.
"""

from . import theory
from .theory import *  # noqa: F403

__all__ = theory.__all__
