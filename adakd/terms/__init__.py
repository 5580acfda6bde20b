"""Terms of a distillation loss: what a student learns from a teacher. One file each, one signature (`base.Term`).

``TERMS`` has each by the name of its file, but for the logit term, which is composed of named parts instead.
"""

from .._parts import find_parts
from .base import Term
from .logit import LogitTerm

__all__ = ["TERMS", "LogitTerm", "Term"]

TERMS = find_parts(__name__, __path__, Term)  # type: ignore[type-abstract]  # a family, of which none is made
del TERMS["logit"]
