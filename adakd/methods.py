"""The systems of the papers' tables as data: a method is a row, not a class.

``METHODS`` holds the published rows with their published weights. A name that is not a row is read as
``<row>+<rule>``: the row's divergence, standardization and weights with another temperature rule, so every
combination works, also the untried ones.
"""

import dataclasses
import inspect
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, get_args

from ._check import brief, near_names
from .divergence import DIVERGENCES
from .objective import LogitObjective
from .temperature import RULES
from .weight import WEIGHTS

__all__ = ["METHODS", "RULE_NAMES", "Method", "RuleName", "create_method", "get_method", "options_of"]


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
    weight: str | None = None
    """Name of the sample weight in `adakd.weight.WEIGHTS`."""
    ce_weight: float = 1.0
    kd_weight: float = 1.0
    warmup_epochs: int = 0
    note: str = ""
    """Where the paper, the released code and this row differ; empty where they agree."""
    table3: Mapping[str, Any] | None = None
    """Overrides that give the row as 2503.09030 ran it (its Table 3); None where that table has no such row."""

    @property
    def reads_batch(self) -> bool:
        """Whether a sample's loss depends on the other samples of its batch.

        Such a method is another one at another batch size, and gradient accumulation does not make it up.

        >>> [name for name, row in METHODS.items() if row.reads_batch]
        ['dist', 'mlkd', 'zmlkd', 'cswt', 'adakd']
        """
        divergence, rule = _components(self)
        # The number of classes, which some rules must know, decides nothing here.
        told = {"num_classes": 3} if "num_classes" in _parameters(rule) else {}
        parts = (
            divergence and divergence(**self.divergence_options),
            rule and rule(**{**told, **self.rule_options}),
        )
        return any(part is not None and part.reads_batch for part in parts)


HINTON = "Hinton et al. 2015"
SUN = "Sun et al. 2024"
ZHAO = "Zhao et al. 2022"
MATSUYAMA = "Matsuyama et al. 2025 (arXiv 2503.09030)"
LI = "Li et al. 2023"
WEI = "Wei & Bai 2024"
ISLAM = "Islam et al. 2025"
ZHENG = "Zheng & Yang 2024"
HUANG = "Huang et al. 2022"
JIN = "Jin et al. 2023"


@dataclass(frozen=True)
class RuleName:
    """A suffix of the form "+mlt": a rule with options, for any row that has a divergence."""

    rule: str
    formula: str
    paper: str
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    standardize: str | None = None
    """How the rule's source standardizes; a row that standardizes then does it so."""


RULE_NAMES: dict[str, RuleName] = {
    "mlt": RuleName(
        "maxlogit",
        "c₂·max(max z_t, max z_s)",
        MATSUYAMA,
        note="Algorithms 1-3 as printed: signed maximum, population deviation.",
        standardize="population",
    ),
    "mlt-abs": RuleName(
        "maxlogit",
        "c₂·max(max|z_t|, max|z_s|)",
        MATSUYAMA,
        {"magnitude": "absolute"},
        "As the authors' released code: absolute maximum, sample deviation.",
        "sample",
    ),
    "mlt-teacher": RuleName(
        "maxlogit",
        "c₂·max z_t",
        MATSUYAMA,
        {"reference": "teacher"},
        "As the abstract says: the teacher's maximum only.",
        "population",
    ),
    "mlt-two-sided": RuleName(
        "maxlogit",
        "max(c₂⁺·max z, c₂⁻·|min z|)",
        "this book",
        {"magnitude": "two-sided"},
        "Both ends of the interval of convergence; the paper states the upper one.",
        "population",
    ),
    "ctkd": RuleName(
        "ctkd",
        "1 + 20·σ(θ), θ learned against the student",
        LI,
        note="θ is trained by the student's optimizer, weight decay included, as in the released code.",
    ),
    "ctkd-instance": RuleName(
        "ctkd",
        "1 + 20·σ(MLP(t, s)), learned against the student",
        LI,
        {"instance": True},
        "In the paper and not in its code; width and start are ours. Needs num_classes in your own loop.",
    ),
    "dtkd": RuleName(
        "dtkd",
        "2τ₀·(m_s, m_t)/(m_s + m_t), m = logsumexp",
        WEI,
        note="The paper's logsumexp; the released code takes the maximum (+dtkd-max). m is kept above a floor.",
    ),
    "dtkd-max": RuleName(
        "dtkd",
        "2τ₀·(m_s, m_t)/(m_s + m_t), m = max",
        WEI,
        {"magnitude": "max"},
        "As the released code, except that m is kept above a floor: published temperatures can be negative.",
    ),
    "dts": RuleName(
        "dts",
        "running mean of clip(4·cosine(epoch)·boost(CE_t − CE_s), 2, 4)",
        ISLAM,
        note="The update rule of the author's earlier public code. On standardized logits the gap is theirs.",
    ),
    "cswt": RuleName(
        "cosine",
        "τ_min + (τ_max − τ_min)·(c_max − c)/(c_max − c_min), c = cos(p_t, p_s)",
        "arXiv 2311.14307",
        note="As a public implementation has it: similarity of probabilities, scaled by the batch's extremes. "
        "The range 2 to 6 is ours.",
    ),
    "cswt-unit": RuleName(
        "cosine",
        "τ_min + (τ_max − τ_min)·(1 − cos(p_t, p_s))",
        "this book",
        {"span": "unit"},
        "The same without the batch's extremes: a sample's temperature depends on nothing but the sample.",
    ),
    "adakd": RuleName(
        "difficulty",
        "τ₀·exp(-c·tanh(log(score/median)))",
        "arXiv 2510.11615",
        note="The token rule of that method for language models, on samples.",
    ),
    "meta": RuleName(
        "meta",
        "learned by the gradient of a look-ahead cross entropy",
        "arXiv 2202.07940",
        note="The paper looks ahead through the student's weights, this rule through its logits.",
    ),
    "itkd": RuleName(
        "policy",
        "drawn per sample by a learned policy",
        "arXiv 2407.00115",
        note="Reward: fall of the student's cross entropy against its running mean (the code: change of the batch's "
        "accuracy); no critic, no LSTM.",
    ),
}


def _with_rule(row: Method, suffix: str, **changes: Any) -> Method:
    """A row with another temperature rule; everything else stays, unless changed."""
    rule = RULE_NAMES[suffix]
    settings = {
        "name": f"{row.name}+{suffix}",
        "paper": rule.paper,
        "rule": rule.rule,
        "rule_options": rule.options,
        "formula": f"{row.formula.split(', τ =')[0]}, τ = {rule.formula}",
        "note": rule.note,
        "standardize": row.standardize and (rule.standardize or row.standardize),
        "table3": None,
    }
    return dataclasses.replace(row, **{**settings, **changes})


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
    table3={"ce_weight": 0.1, "kd_weight": 9.0, "tau": 2.0},
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
    note="The released mask of -1000 gives NaN once the temperature is learned; here the other classes are gathered. "
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
    table3={"ce_weight": 1.0, "kd_weight": 1.0, "tau": 4.0},
)
_TTM = Method(
    "ttm",
    ZHENG,
    "KL(softmax(t/τ) ‖ softmax(s)), τ = 10",
    "ttm",
    rule="fixed",
    rule_options={"tau": 10.0},
    kd_weight=45.0,
    note="γ = 1/τ = 0.1 and weight 45 are of the authors' example.",
    table3={"ce_weight": 1.0, "kd_weight": 1.0, "tau": 5.0},
)
_WTTM = dataclasses.replace(
    _TTM,
    name="wttm",
    formula="U·KL(softmax(t/τ) ‖ softmax(s)), U = Σ p_t^(1/τ), τ = 5",
    weight="power_sum",
    rule_options={"tau": 5.0},
    kd_weight=1.0,
    note="γ = 1/τ = 0.2.",
)
_DTKD = Method(
    "dtkd",
    WEI,
    "α·τ_s·τ_t·KL + β·KD at 4, τ = 2·4·(m_s, m_t)/(m_s + m_t), m = logsumexp",
    "anchored",
    {"alpha": 3.0, "beta": 1.0, "anchor": 4.0},
    "dtkd",
    warmup_epochs=20,
    note="The paper's logsumexp; the released code takes the maximum (dtkd-max). α, β differ for some pairs.",
)
_DIST = Method(
    "dist",
    HUANG,
    "τ²·[β(1 − ρ of rows) + γ(1 − ρ of columns)] of probabilities, τ = 4",
    "dist",
    rule="fixed",
    rule_options={"tau": 4.0},
    kd_weight=2.0,
    note="The paper has no τ²; its code, and this row, have.",
)
_MLKD = Method(
    "mlkd",
    JIN,
    "Σ over five τ of KL + batch and class Gram distances, τ = 4",
    "mlkd",
    rule="fixed",
    rule_options={"tau": 4.0},
    ce_weight=0.1,
    kd_weight=0.9,
    note="On one view. With weak and strong views stacked: views=2, and twice the weight on the labels.",
)
_CORRELATION = Method(
    "correlation",
    "this book",
    "1 − ρ(t, s)",
    "correlation",
    rule="fixed",
    ce_weight=0.1,
    kd_weight=9.0,
    note="The limit of zkd at τ → ∞, and what the paper's Eq. 12 should say.",
)
_TAYLOR = dataclasses.replace(
    _ZKD,
    name="ztaylor",
    paper="this book",
    formula="τ²·KL of Taylor softmaxes of order n on standardized logits, τ = 2",
    divergence="taylor",
    divergence_options={"order": 2},
    standardize="population",
    note="The approximation that 2503.09030 reasons with (Eqs. 4-7), to train with.",
    table3=None,
)
METHODS: dict[str, Method] = {
    row.name: row
    for row in (
        _CE,
        _KD,
        _ZKD,
        _DKD,
        _ZDKD,
        _with_rule(_ZKD, "mlt", table3={"ce_weight": 0.1, "kd_weight": 9.0}),
        _with_rule(_ZKD, "mlt-abs"),
        _with_rule(_ZKD, "mlt-teacher"),
        _with_rule(_ZDKD, "mlt", table3={"ce_weight": 1.0, "kd_weight": 9.0}),
        _with_rule(_ZDKD, "mlt-abs"),
        _with_rule(_ZDKD, "mlt-teacher"),
        _with_rule(_KD, "ctkd", name="ctkd"),
        _with_rule(
            _ZKD,
            "ctkd",
            name="zctkd",
            paper=f"{LI}; {SUN}",
            rule_options={"start": 2.0},
            formula="τ²·KL on standardized logits, τ = 2 + 20·σ(θ), θ learned against the student",
            note="In all 14 published logs τ sits on its lower bound, 2.00 to 2.03, from epoch 10 on: zkd at τ = 2 in "
            "practice. The published script has the bound at 1, and Table 3 of 2503.09030 names 4 as its τ.",
            table3={"ce_weight": 0.1, "kd_weight": 9.0},
        ),
        _with_rule(_DKD, "ctkd", note="With the released mask this gives NaN; here it trains."),
        _TTM,
        _WTTM,
        _DTKD,
        dataclasses.replace(
            _DTKD,
            name="dtkd-max",
            rule_options={"magnitude": "max"},
            formula="α·τ_s·τ_t·KL + β·KD at 4, τ = 2·4·(m_s, m_t)/(m_s + m_t), m = max",
            note=RULE_NAMES["dtkd-max"].note,
        ),
        _with_rule(_KD, "dts", name="dts"),
        _with_rule(_ZKD, "dts"),
        _DIST,
        _MLKD,
        dataclasses.replace(
            _MLKD,
            name="zmlkd",
            paper=SUN,
            formula="mlkd with standardized logits in its KL, τ = 2",
            divergence_options={"kl_standardize": "sample"},
            rule_options={"tau": 2.0},
            kd_weight=9.0,
        ),
        _CORRELATION,
        _TAYLOR,
        _with_rule(_KD, "cswt", name="cswt"),
        _with_rule(_KD, "adakd", name="adakd"),
        _with_rule(_KD, "meta", name="meta"),
        _with_rule(_KD, "itkd", name="itkd"),
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
        return _with_rule(row, suffix, note=f"A combination, at the weights of {row_name}.")
    combinations = (
        f"{row.name}+{suffix}"
        for row in METHODS.values()
        if row.divergence is not None and "+" not in row.name
        for suffix in RULE_NAMES
    )
    raise ValueError(near_names("method", name, {*METHODS, *combinations}, shown=METHODS))


def _parameters(component: type | None) -> dict[str, Any]:
    """The options of a part by name, each with its annotation."""
    if component is None:
        return {}
    parameters = inspect.signature(component).parameters.values()
    return {p.name: p.annotation for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}


# Beyond, a temperature's square leaves float32; and no count of epochs, neurons or samples is meant to be larger.
_LARGEST, _MOST = 1e15, 100_000
_KINDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a word",
    NoneType: "nothing (None)",
}


def _check_option(method: str, name: str, value: Any, annotation: Any) -> None:
    """Raise ValueError unless an option's value is of the kind that its part is written for.

    Python itself would take `"false"` for true, true for 1, and fail deep inside at a word in the place of a number.
    """
    kinds = get_args(annotation) or (annotation,)
    if value == "inf" and float in kinds:  # as a record writes it
        return
    if isinstance(value, bool | str | NoneType):
        fits = type(value) in kinds
    elif isinstance(value, numbers.Integral):
        fits = int in kinds or float in kinds
    elif isinstance(value, numbers.Real):
        fits = float in kinds
    else:
        fits = not isinstance(value, list | tuple | dict | set | bytes | complex)
    if not fits:
        expected = " or ".join(text for kind, text in _KINDS.items() if kind in kinds)
        raise ValueError(f"{method}: {name}: expected {expected}, got {brief(value)}")
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        # Infinity and NaN are left to the part itself, which knows whether it has a use for them.
        largest = _LARGEST if float in kinds else 2**63 - 1 if name == "seed" else _MOST
        if largest < abs(value) < math.inf:
            raise ValueError(f"{method}: {name}: expected at most {largest:g} in size, got {brief(value)}")


_OBJECTIVE_OPTIONS = {
    name: annotation
    for name, annotation in _parameters(LogitObjective).items()
    if name not in ("divergence", "temperature")
}


# Of the objective, and of no published row. The objective itself looks at class weights, which are many numbers.
_ROW_OPTIONS = {"label_smoothing": float, "chunk": int | None, "pad_vocab": str | None}


def _components(row: Method) -> tuple[type | None, type | None]:
    divergence = DIVERGENCES[row.divergence] if row.divergence else None
    return divergence, RULES[row.rule] if row.rule else None


def options_of(name: str) -> set[str]:
    """Names of the overrides that `create_method` takes for a method.

    Raises:
        ValueError: for an unknown name.
    """
    return {*_OBJECTIVE_OPTIONS, *_ROW_OPTIONS, "class_weights"}.union(
        *map(_parameters, _components(get_method(name)))
    )


def create_method(name: str, /, **overrides: Any) -> LogitObjective:
    """Build the loss of a method.

    Args:
        name: a row of ``METHODS`` (``"zkd+mlt"``) or ``<row>+<rule>`` (``"dkd+mlt-abs"``).
        overrides: other values for anything the row sets: ``ce_weight``, ``kd_weight``, ``warmup_epochs``,
            ``standardize``, an option of its divergence (``alpha``, ``beta``) or of its rule (``tau``,
            ``reference``, ``magnitude``, ``order``).

    Returns:
        A `LogitObjective`.

    Raises:
        ValueError: for an unknown name, an override the method has no use for, or a value of another kind or size.

    >>> create_method("zkd+mlt", kd_weight=18.0).kd_weight
    18.0
    """
    row = get_method(name)
    divergence, rule = _components(row)
    divergence_options, rule_options = dict(row.divergence_options), dict(row.rule_options)
    objective_options = {key: getattr(row, key) for key in _OBJECTIVE_OPTIONS}
    for key, value in overrides.items():
        if key not in options_of(name):
            raise ValueError(near_names(f"option of {name}:", key, options_of(name)))
        for part in (_OBJECTIVE_OPTIONS, _ROW_OPTIONS, _parameters(divergence), _parameters(rule)):
            if key in part:
                _check_option(name, key, value, part[key])
        # An option that two parts share, such as the order of a Taylor polynomial, is set in both.
        if key in objective_options or key in _ROW_OPTIONS or key == "class_weights":
            objective_options[key] = value
        if key in _parameters(divergence):
            divergence_options[key] = value
        if key in _parameters(rule):
            rule_options[key] = value
    try:
        return LogitObjective(
            divergence(**divergence_options) if divergence else None,
            rule(**rule_options) if rule else None,
            weight=WEIGHTS[row.weight]() if row.weight else None,
            **objective_options,
        )
    except TypeError as error:  # a kind of value that the annotations do not tell from others
        raise ValueError(f"{name} cannot be built with {overrides}: {error}") from error
