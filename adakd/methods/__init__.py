"""The systems of the papers' tables as data: a method is a row, not a class.

``METHODS`` holds the published rows with their published weights (`adakd.methods.rows`); `create_method` builds the loss
of a row, or of a combination that a name spells (`adakd.methods.registry`).
"""

from .base import Method, RuleName
from .registry import (
    create_method,
    fill_options,
    get_method,
    is_built_in,
    options_of,
    register_divergence,
    register_method,
    register_refinement,
    register_rule,
    register_term,
    register_weight,
)
from .rows import METHODS, RULE_NAMES

__all__ = [
    "METHODS",
    "RULE_NAMES",
    "Method",
    "RuleName",
    "create_method",
    "fill_options",
    "get_method",
    "is_built_in",
    "options_of",
    "register_divergence",
    "register_method",
    "register_refinement",
    "register_rule",
    "register_term",
    "register_weight",
]
