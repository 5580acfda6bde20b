"""The systems of the papers' tables as data: a method is a row, not a class.

``METHODS`` holds the published rows with their published weights. A name that is not a row is read as
``<row>+<rule>``: the row's divergence, standardization and weights with another temperature rule, so every
combination works, also the untried ones.
"""

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._check import near_names
from .divergence import DIVERGENCES
from .objective import LogitObjective
from .temperature import RULES

__all__ = ["METHODS", "RULE_NAMES", "Method", "create_method", "get_method"]


@dataclass(frozen=True)
class Method:
    """One row: which parts, with which options, at which weights, and where they are from."""

    name: str
    paper: str
    formula: str
    divergence: str | None = None
    divergence_options: Mapping[str, Any] = field(default_factory=dict)
    rule: str | None = None
    rule_options: Mapping[str, Any] = field(default_factory=dict)
    standardize: bool | str = False
    ce_weight: float = 1.0
    kd_weight: float = 1.0
    warmup_epochs: int = 0
    note: str = ""
    """Where the paper, the released code and this row differ; empty where they agree."""


HINTON = "Hinton et al. 2015"
SUN = "Sun et al. 2024"
ZHAO = "Zhao et al. 2022"
MATSUYAMA = "Matsuyama et al. 2025 (arXiv 2503.09030)"

# Suffixes of the form "+mlt": rule, options, formula of the temperature.
RULE_NAMES: dict[str, tuple[str, dict[str, Any], str]] = {
    "mlt": ("maxlogit", {}, "c₂·max(max z_t, max z_s)"),
    "mlt-abs": ("maxlogit", {"magnitude": "absolute"}, "c₂·max(max|z_t|, max|z_s|)"),
    "mlt-teacher": ("maxlogit", {"reference": "teacher"}, "c₂·max z_t"),
    "mlt-two-sided": (
        "maxlogit",
        {"magnitude": "two-sided"},
        "max(c₂⁺·max z, c₂⁻·|min z|)",
    ),
}


def _with_rule(row: Method, suffix: str, **changes: Any) -> Method:
    rule, options, formula = RULE_NAMES[suffix]
    base = row.formula.split(", τ =")[0]
    return dataclasses.replace(
        row,
        name=f"{row.name}+{suffix}",
        rule=rule,
        rule_options=options,
        formula=f"{base}, τ = {formula}",
        **changes,
    )


_CE = Method("ce", "–", "CE(s, y)", note="No teacher: the baseline that distillation must beat.")
_KD = Method(
    "kd",
    HINTON,
    "τ²·KL(p_t ‖ p_s), τ = 4",
    "kl",
    rule="fixed",
    rule_options={"tau": 4.0},
    ce_weight=0.1,
    kd_weight=0.9,
)
_ZKD = dataclasses.replace(
    _KD,
    name="zkd",
    paper=SUN,
    formula="τ²·KL on standardized logits, τ = 2",
    rule_options={"tau": 2.0},
    standardize="sample",
    kd_weight=9.0,
    note="The paper prints the population deviation; its code, and this row, use the sample deviation.",
)
_DKD = Method(
    "dkd",
    ZHAO,
    "τ²·(α·TCKD + β·NCKD), τ = 4",
    "dkd",
    {"alpha": 1.0, "beta": 8.0},
    "fixed",
    {"tau": 4.0},
    warmup_epochs=20,
    note="The released mask of -1000 gives NaN gradients; here the other classes are gathered. "
    "β is 2 or 6 for some pairs.",
)
_ZDKD = dataclasses.replace(
    _DKD,
    name="zdkd",
    paper=SUN,
    formula="τ²·(α·TCKD + β·NCKD) on standardized logits, τ = 2",
    rule_options={"tau": 2.0},
    standardize="sample",
    kd_weight=9.0,
    note="Table 3 of 2503.09030 ran it at τ = 4 and weight 1.",
)
_PAPER_MLT = {
    "paper": MATSUYAMA,
    "standardize": "population",
    "note": "Algorithms 1-3 as printed: signed maximum, population deviation.",
}
_CODE_MLT = {
    "paper": MATSUYAMA,
    "note": "As the authors' released code: absolute maximum, sample deviation.",
}
_ABSTRACT_MLT = {
    "paper": MATSUYAMA,
    "standardize": "population",
    "note": "As the abstract says: the teacher's maximum only.",
}

METHODS: dict[str, Method] = {
    row.name: row
    for row in (
        _CE,
        _KD,
        _ZKD,
        _DKD,
        _ZDKD,
        *(
            _with_rule(row, suffix, **changes)
            for row in (_ZKD, _ZDKD)
            for suffix, changes in (
                ("mlt", _PAPER_MLT),
                ("mlt-abs", _CODE_MLT),
                ("mlt-teacher", _ABSTRACT_MLT),
            )
        ),
    )
}


def get_method(name: str) -> Method:
    """The row of that name, or the combination ``<row>+<rule>`` that it spells.

    Raises:
        ValueError: for an unknown name, with the nearest known ones.
    """
    if name in METHODS:
        return METHODS[name]
    row_name, plus, suffix = name.partition("+")
    row = METHODS.get(row_name)
    if plus and row is not None and row.divergence is not None and suffix in RULE_NAMES:
        return _with_rule(row, suffix, note="A combination; weights of the row it starts from.")
    combinations = (
        f"{row.name}+{suffix}"
        for row in METHODS.values()
        if row.divergence is not None and "+" not in row.name
        for suffix in RULE_NAMES
    )
    raise ValueError(near_names("method", name, {*METHODS, *combinations}))


def _options_of(component: type | None) -> set[str]:
    if component is None:
        return set()
    parameters = inspect.signature(component).parameters.values()
    return {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}


def create_method(name: str, **overrides: Any) -> LogitObjective:
    """Build the loss of a method.

    Args:
        name: a row of ``METHODS`` (``"zkd+mlt"``) or ``<row>+<rule>`` (``"dkd+mlt-abs"``).
        overrides: other values for anything the row sets: ``ce_weight``, ``kd_weight``, ``warmup_epochs``,
            ``standardize``, an option of its divergence (``alpha``, ``beta``) or of its rule (``tau``,
            ``reference``, ``magnitude``, ``order``).

    Returns:
        A `LogitObjective`.

    Raises:
        ValueError: for an unknown name or an override the method has no use for.

    >>> create_method("zkd+mlt", kd_weight=18.0).kd_weight
    18.0
    """
    row = get_method(name)
    divergence = DIVERGENCES[row.divergence] if row.divergence else None
    rule = RULES[row.rule] if row.rule else None
    objective_options = {
        "standardize": row.standardize,
        "ce_weight": row.ce_weight,
        "kd_weight": row.kd_weight,
        "warmup_epochs": row.warmup_epochs,
    }
    divergence_options, rule_options = dict(row.divergence_options), dict(row.rule_options)
    for key, value in overrides.items():
        if key in objective_options:
            objective_options[key] = value
        elif key in _options_of(divergence):
            divergence_options[key] = value
        elif key in _options_of(rule):
            rule_options[key] = value
        else:
            known = {*objective_options, *_options_of(divergence), *_options_of(rule)}
            raise ValueError(near_names(f"option of {name}:", key, known))
    return LogitObjective(
        divergence(**divergence_options) if divergence else None,
        rule(**rule_options) if rule else None,
        **objective_options,
    )
