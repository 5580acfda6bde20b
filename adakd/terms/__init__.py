"""Terms of a distillation loss: what a student learns from a teacher. One file each, one signature (`base.Term`)."""

from .base import Term
from .logit import LogitTerm

__all__ = ["TERMS", "LogitTerm", "Term"]

# By name; the logit term is composed of named parts instead.
TERMS: dict[str, type[Term]] = {}
