"""The systems of the papers' tables as data: a method is a row, not a class.

``METHODS`` holds the published rows with their published weights. A name that is not a row is read as
``<row>+<rule>``: the row's divergence, standardization and weights with another temperature rule, so every
combination works, also the untried ones.
"""

import dataclasses
import inspect
import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from types import NoneType
from typing import Any, get_args

from ._check import brief, near_names
from .divergence import DIVERGENCES, Divergence
from .objective import LogitObjective, Objective
from .temperature import RULES, TemperatureRule
from .terms import TERMS, Term
from .weight import WEIGHTS

__all__ = [
    "METHODS",
    "RULE_NAMES",
    "Method",
    "RuleName",
    "create_method",
    "get_method",
    "is_built_in",
    "options_of",
    "register_divergence",
    "register_method",
    "register_rule",
    "register_term",
]


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
    term: str | None = None
    """Name of the term in `adakd.terms.TERMS`, of a method that is one term and no composition by logits."""
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
    def needs_teacher(self) -> bool:
        """Whether there is anything beside the cross entropy."""
        return self.divergence is not None or self.term is not None

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
        parts: tuple[Any, ...] = (
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
    if load_entry_points():  # what is installed may have registered it
        return get_method(name)
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
        size: Any = abs(value)
        # Infinity and NaN are left to the part itself, which knows whether it has a use for them.
        largest: float = _LARGEST if float in kinds else 2**63 - 1 if name == "seed" else _MOST
        if largest < size < math.inf:
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
    row = get_method(name)
    if row.term is not None:
        return {
            "ce_weight",
            "kd_weight",
            "warmup_epochs",
            *_ROW_OPTIONS,
            "class_weights",
            *_parameters(TERMS[row.term]),
        }
    return {*_OBJECTIVE_OPTIONS, *_ROW_OPTIONS, "class_weights"}.union(*map(_parameters, _components(row)))


def create_method(name: str, /, **overrides: Any) -> Any:
    """Build the loss of a method.

    Args:
        name: a row of ``METHODS`` (``"zkd+mlt"``) or ``<row>+<rule>`` (``"dkd+mlt-abs"``).
        overrides: other values for anything the row sets: ``ce_weight``, ``kd_weight``, ``warmup_epochs``,
            ``standardize``, an option of its divergence (``alpha``, ``beta``) or of its rule (``tau``,
            ``reference``, ``magnitude``, ``order``).

    Returns:
        A `LogitObjective`; of a registered term an `Objective`.

    Raises:
        ValueError: for an unknown name, an override the method has no use for, or a value of another kind or size.

    >>> create_method("zkd+mlt", kd_weight=18.0).kd_weight
    18.0
    """
    row = get_method(name)
    if row.term is not None:
        return _of_one_term(row, overrides)
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
    # The sample weight of a row was an option of its divergence once; it is not to count twice.
    weight = row.weight if row.weight is None or divergence_options.pop("weighted", True) else None
    try:
        return LogitObjective(
            divergence(**divergence_options) if divergence else None,
            rule(**rule_options) if rule else None,
            weight=WEIGHTS[weight]() if weight else None,
            **objective_options,
        )
    except TypeError as error:  # a kind of value that the annotations do not tell from others
        raise ValueError(f"{name} cannot be built with {overrides}: {error}") from error


def _of_one_term(row: Method, overrides: Mapping[str, Any]) -> Objective:
    known = options_of(row.name)
    for key in overrides:
        if key not in known:
            raise ValueError(near_names(f"option of {row.name}:", key, known))
    assert row.term is not None
    term = TERMS[row.term]
    of_term = {key: value for key, value in overrides.items() if key in _parameters(term)}
    weight = overrides.get("kd_weight", row.kd_weight)
    options = {key: overrides[key] for key in (*_ROW_OPTIONS, "class_weights") if key in overrides}
    return Objective(
        {row.name: term(**of_term)},
        {row.name: weight},
        overrides.get("ce_weight", row.ce_weight),
        warmup_epochs=overrides.get("warmup_epochs", row.warmup_epochs),
        **options,
    )


# ---- parts from outside ----

_BUILT_IN = dict(METHODS), dict(RULE_NAMES)
_FAMILIES = {"rule": TemperatureRule, "divergence": Divergence, "term": Term}
_asked: list[bool] = []  # whether the entry points were looked at in this process


def is_built_in(name: str) -> bool:
    """Whether a method's name says all of it: a row of ours, with a rule of ours, and nothing was put in their place."""
    row, parts = get_method(name), _components(get_method(name))
    ours = all(part is None or part.__module__.startswith("adakd.") for part in parts)
    rows, rules = _BUILT_IN
    row_name, plus, suffix = name.partition("+")
    if name in rows:
        return ours and METHODS[name] is rows[name]
    known = (
        row_name in rows and METHODS[row_name] is rows[row_name] and RULE_NAMES.get(suffix) is rules.get(suffix)
    )
    return ours and row.term is None and bool(plus) and suffix in rules and known


def _checked(kind: str, name: str, part: Any, known: Mapping[str, Any]) -> None:
    family = _FAMILIES[kind]
    if not isinstance(name, str) or not name or not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"{kind}: expected a name of letters, digits, '-' and '_', got {brief(name)}")
    if not isinstance(part, type) or not issubclass(part, family):
        raise TypeError(f"{kind} {name!r}: expected a subclass of {family.__name__}, got {brief(part)}")
    if name in known and known[name].__qualname__ != part.__qualname__:  # a notebook's cell may be run again
        raise ValueError(
            f"{kind} {name!r}: there is one of that name, {known[name].__qualname__}; choose another name"
        )


def register_rule(
    name: str, *, options: Mapping[str, Any] | None = None, paper: str = "registered", formula: str = ""
) -> Callable[[type], type]:
    """Register a temperature rule: a decorator of its class. ``<row>+<name>`` is a method then, for every row.

    Args:
        name: of letters, digits, "-" and "_".
        options: of its constructor, where they are not its defaults.
        paper, formula: what tables say of it.

    Raises:
        TypeError: for a class that is no `TemperatureRule`.
        ValueError: for a name that is none, or taken.

    >>> from adakd import Fixed
    >>> @register_rule("warm", options={"tau": 8.0})
    ... class Warm(Fixed):
    ...     pass
    >>> create_method("zkd+warm").temperature
    Warm(tau=8)
    >>> del RULES["warm"], RULE_NAMES["warm"]
    """

    def register(part: type) -> type:
        _checked("rule", name, part, RULES)
        RULES[name] = part
        RULE_NAMES[name] = RuleName(name, formula or part.__name__, paper, dict(options or {}))
        return part

    return register


def register_divergence(
    name: str,
    *,
    ce_weight: float = 1.0,
    kd_weight: float = 1.0,
    paper: str = "registered",
    formula: str = "",
) -> Callable[[type], type]:
    """Register a divergence: a decorator of its class. ``<name>`` is a method then, at temperature 4, and
    ``<name>+<rule>`` with any rule.

    Args:
        name: of letters, digits, "-" and "_".
        ce_weight, kd_weight: of the method.
        paper, formula: what tables say of it.

    Raises:
        TypeError: for a class that is no `Divergence`.
        ValueError: for a name that is none, or taken.
    """

    def register(part: type) -> type:
        _checked("divergence", name, part, DIVERGENCES)
        row = Method(
            name,
            paper,
            formula or part.__name__,
            name,
            rule="fixed",
            rule_options={"tau": 4.0},
            ce_weight=ce_weight,
            kd_weight=kd_weight,
        )
        _register_row(row)
        DIVERGENCES[name] = part
        return part

    return register


def register_term(
    name: str,
    *,
    ce_weight: float = 1.0,
    kd_weight: float = 1.0,
    paper: str = "registered",
    formula: str = "",
) -> Callable[[type], type]:
    """Register a term of the loss: a decorator of its class. ``<name>`` is a method then: cross entropy and this term.

    Args:
        name: of letters, digits, "-" and "_".
        ce_weight: of the cross entropy.
        kd_weight: of the term.
        paper, formula: what tables say of it.

    Raises:
        TypeError: for a class that is no `Term`.
        ValueError: for a name that is none, or taken.
    """

    def register(part: type) -> type:
        _checked("term", name, part, TERMS)
        row = Method(name, paper, formula or part.__name__, term=name, ce_weight=ce_weight, kd_weight=kd_weight)
        _register_row(row)
        TERMS[name] = part
        return part

    return register


def register_method(row: Method) -> Method:
    """Register a row of the table: parts and weights under a name of its own.

    Raises:
        ValueError: for a name that is taken, or parts that there are none of.
    """
    for name, known in (
        (row.divergence, DIVERGENCES),
        (row.rule, RULES),
        (row.term, TERMS),
        (row.weight, WEIGHTS),
    ):
        if name is not None and name not in known:
            raise ValueError(near_names("part", name, known))
    _register_row(row)
    return row


def _register_row(row: Method) -> None:
    if row.name in METHODS and METHODS[row.name] != row:
        raise ValueError(f"method {row.name!r}: there is one of that name; choose another name")
    METHODS[row.name] = row


_REGISTER: dict[str, Any] = {"rules": register_rule, "divergences": register_divergence, "terms": register_term}


def load_entry_points() -> bool:
    """Register what installed packages offer in the groups ``adakd.rules``, ``.divergences``, ``.terms`` and
    ``.methods``; whether there was anything new. Done once in a process, when a name is unknown."""
    if _asked:
        return False
    _asked.append(True)
    found = False
    for group in (*_REGISTER, "methods"):
        for point in entry_points(group=f"adakd.{group}"):
            part = point.load()
            if group == "methods":
                register_method(part)
            elif part not in ({**RULES, **DIVERGENCES, **TERMS}).values():  # its own decorator may have done it
                _REGISTER[group](point.name)(part)
            found = True
    return found
