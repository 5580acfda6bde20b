"""Methods by name: looked up, combined, built with other options, and registered from outside.

A name is a row of ``METHODS`` (``"dkd"``); or ``<row>+<rule>``: the row's divergence, standardization and weights with
another temperature rule, so every combination works, also the untried ones; or ``<term>+<method>``: rows that are terms,
then one on logits, each at its own weight.
"""

import math
import numbers
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from inspect import Parameter
from types import NoneType
from typing import Any, get_args

from .._check import brief, check_kind, check_method_name, near_names
from ..divergence import DIVERGENCES, Divergence
from ..expression import LiveRule
from ..objective import LogitObjective, Objective
from ..refine import REFINEMENTS, Refinement
from ..temperature import RULES, TemperatureRule
from ..terms import TERMS, LogitTerm, Term
from ..weight import WEIGHTS, SampleWeight
from .base import PARTS, Method, RuleName, parameters_of, sum_of, with_rule
from .rows import METHODS, RULE_NAMES

__all__ = [
    "create_method",
    "fill_options",
    "get_method",
    "is_built_in",
    "load_entry_points",
    "options_of",
    "register_divergence",
    "register_method",
    "register_refinement",
    "register_rule",
    "register_term",
    "register_weight",
]


def get_method(name: str) -> Method:
    """The row of that name, or the combination that it spells: ``<row>+<rule>``, ``<term>+<method>``.

    Raises:
        TypeError: for anything but a name.
        ValueError: for an unknown name, with the nearest known ones; for a sum of rows that are none.
    """
    if not isinstance(name, str):
        raise TypeError(f"method: expected a name of adakd.METHODS, such as 'zkd+mlt', got {brief(name)}")
    if name in METHODS:
        return METHODS[name]
    row_name, plus, rest = name.partition("+")
    row = METHODS.get(row_name)
    if plus and row is not None and row.divergence is not None and rest in RULE_NAMES:
        return with_rule(RULE_NAMES, row, rest, note=f"A combination, at the weights of {row_name}.")
    if plus and row is not None and row.term is not None and rest:
        return _checked_sum(name, row, get_method(rest))
    if load_entry_points():  # what is installed may have registered it
        return get_method(name)
    combinations = (
        f"{row.name}+{suffix}"
        for row in METHODS.values()
        if row.divergence is not None and "+" not in row.name
        for suffix in RULE_NAMES
    )
    if row is not None and row.needs_teacher and rest in METHODS and METHODS[rest].term is not None:
        raise ValueError(f"unknown method {brief(name)}: terms come first; write '{rest}+{row_name}'")
    parts = name.split("+")
    for i in range(1, len(parts)):
        one, other = "+".join(parts[:i]), "+".join(parts[i:])
        if _on_logits(one) and _on_logits(other):
            raise ValueError(
                f"unknown method {brief(name)}: {one!r} and {other!r} are both on logits, and a sum has one such term, after "
                "those on features ('crd+kd'); choose one of the two"
            )
    names = {*METHODS, *combinations}
    raise ValueError(near_names("method", name, names, shown=METHODS, listed_by="`adakd methods`"))


def _on_logits(name: str) -> bool:
    """Whether a name is that of a method on logits with a teacher: a row, or one with another rule."""
    row_name, _, suffix = name.partition("+")
    row = METHODS.get(name) or (METHODS.get(row_name) if suffix in RULE_NAMES else None)
    return row is not None and row.divergence is not None


def _checked_sum(name: str, term: Method, method: Method) -> Method:
    if not method.needs_teacher:
        raise ValueError(f"method {name!r}: {method.name!r} has no term to add; leave it out")
    row = sum_of(term, method)
    names = [summand.name for summand in row.summands]
    if len(set(names)) != len(names):
        raise ValueError(f"method {name!r}: expected every term once; give it another weight instead")
    return row


# ---- options ----

# Beyond, a temperature's square leaves float32; and no count of epochs, neurons or samples is meant to be larger.
_LARGEST, _MOST = 1e15, 100_000
_KINDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a word",
    NoneType: "nothing (None)",
}


def _option(method: str, name: str, value: Any, annotation: Any) -> Any:
    """The value of an option; ValueError unless it is of the kind that its part is written for.

    Python itself would take `"false"` for true, true for 1, and fail deep inside at a word in the place of a number.
    """
    kinds = get_args(annotation) or (annotation,)
    untold = annotation is Any or annotation is Parameter.empty or isinstance(annotation, str)
    if isinstance(value, str) and value == "inf" and (untold or float in kinds):
        return math.inf  # a record, which has no infinity, writes it as a text
    if untold:
        return value
    if isinstance(value, bool | str | NoneType):
        fits = type(value) in kinds
    elif isinstance(value, numbers.Integral):
        fits = int in kinds or float in kinds
    elif isinstance(value, numbers.Real):
        fits = float in kinds
    else:
        several = math.prod(getattr(value, "shape", ())) != 1  # a tensor or an array
        fits = not (isinstance(value, list | tuple | dict | set | bytes | complex) or several)
    if not fits:
        expected = " or ".join(text for kind, text in _KINDS.items() if kind in kinds)
        raise ValueError(f"{method}: {name}: expected {expected}, got {brief(value)}")
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        size: Any = abs(value)
        # Infinity and NaN are left to the part itself, which knows whether it has a use for them.
        largest: float = _LARGEST if float in kinds else 2**63 - 1 if name == "seed" else _MOST
        if largest < size < math.inf:
            raise ValueError(f"{method}: {name}: expected at most {largest:g} in size, got {brief(value)}")
    return value


# Of the whole loss; the first is of a published row too. The objective itself looks at class weights, which are many.
_OF_LOSS = {
    "ce_weight": float,
    "label_smoothing": float,
    "chunk": int | None,
    "pad_vocab": str | None,
    "class_weights": Any,
}
_OF_TERM = {"kd_weight": float, "warmup_epochs": int}
_OF_LOGIT_TERM = {**_OF_TERM, "standardize": bool | str}


def _options_of_row(row: Method) -> dict[str, list[Any]]:
    """Options of the term of one row, each with the annotations of those that take it."""
    found = {name: [annotation] for name, annotation in (_OF_LOGIT_TERM if row.on_logits else _OF_TERM).items()}
    for part in row.parts.values():
        for name, annotation in parameters_of(part).items():
            found.setdefault(name, []).append(annotation)
    return found


def _takers(row: Method) -> dict[str, list[str]]:
    """Of a sum, the names of the summands that take an option."""
    takers: dict[str, list[str]] = {}
    for summand in row.summands:
        for option in _options_of_row(summand):
            takers.setdefault(option, []).append(summand.name)
    return takers


def options_of(name: str) -> set[str]:
    """Names of the overrides that `create_method` takes for a method.

    Of a sum, an option that one summand takes has its bare name, and every option the dotted one: ``"crd.kd_weight"``.

    Raises:
        ValueError: for an unknown name.
    """
    row = get_method(name)
    if not row.summands:
        return {*_OF_LOSS, *_options_of_row(row)}
    takers = _takers(row)
    bare = {option for option, names in takers.items() if len(names) == 1}
    return {*_OF_LOSS, *bare, *(f"{name}.{option}" for option, names in takers.items() for name in names)}


def fill_options(name: str, options: Mapping[str, Any], **known: Any) -> dict[str, Any]:
    """Options of a method, filled up with what a run knows of itself where the method takes it and nobody gave it.

    Args:
        name: of the method.
        options: as given; they come first.
        known: such as ``epochs``, ``num_classes``, ``seed``.

    >>> fill_options("kd+ctkd-instance", {"kd_weight": 2.0}, num_classes=10, steps=60)
    {'num_classes': 10, 'kd_weight': 2.0}
    """
    check_kind(Mapping, "a dict of options by their names", options=options)
    row, takers, takes = get_method(name), _takers(get_method(name)), options_of(name)
    filled = {}
    for option, value in known.items():
        keys = [f"{taker}.{option}" for taker in takers.get(option, ())] if row.summands else [option]
        filled.update({key: value for key in keys if key in takes and option not in options})
    return {**filled, **options}


def _check_known(row: Method, overrides: Mapping[str, Any]) -> None:
    """Raise ValueError for an option that the method does not take, that several parts do, or that is given twice."""
    known, takers = options_of(row.name), _takers(row)
    for key in overrides:
        names = takers.get(key, [])
        if len(names) > 1:
            forms = " or ".join(f"{name}.{key}" for name in names)
            raise ValueError(f"{row.name}: {key}: several terms have it; say which, {forms}")
        if key not in known:
            raise ValueError(near_names(f"option of {row.name}:", key, known))
        if names and f"{names[0]}.{key}" in overrides:
            raise ValueError(f"{row.name}: {key} and {names[0]}.{key} are one option, given twice")


def create_method(name: str, /, **overrides: Any) -> Any:
    """Build the loss of a method.

    Args:
        name: a row of ``METHODS`` (``"zkd+mlt"``); ``<row>+<rule>`` (``"dkd+mlt-abs"``); or a sum, rows that are terms and
            then a method on logits (``"crd+kd"``), each at the weight of its row. Of a sum the cross entropy weighs what
            it does in the first row, unless ``ce_weight`` is given.
        overrides: other values for anything the row sets: ``ce_weight``, ``kd_weight``, ``warmup_epochs``,
            ``standardize``, an option of its divergence (``alpha``, ``beta``), of its rule (``tau``, ``reference``,
            ``magnitude``, ``order``), or of another part. What several terms of a sum take is given to one of them:
            ``create_method("crd+kd", **{"crd.kd_weight": 0.5})``.

    Returns:
        A `LogitObjective`; of a row that is a term, or of a sum, an `Objective` whose terms have the names of the rows.

    Raises:
        ValueError: for an unknown name, an override the method has no use for or that several terms have, or a value of
            another kind or size.

    >>> create_method("zkd+mlt", kd_weight=18.0).kd_weight
    18.0
    """
    row = get_method(name)
    _check_known(row, overrides)
    of_loss: dict[str, Any] = {"ce_weight": row.ce_weight}
    for key, annotation in _OF_LOSS.items():
        if key in overrides:
            of_loss[key] = _option(name, key, overrides[key], annotation)
    try:
        if row.on_logits:
            parts, settings = _made(row, overrides)
            return LogitObjective(
                parts.pop("divergence", None), parts.pop("rule", None), **parts, **settings, **of_loss
            )
        terms: dict[str, Term] = {}
        weights, warmups = {}, {}
        for summand in row.summands or (row,):
            parts, settings = _made(summand, _for_summand(row, summand, overrides))
            weights[summand.name], warmups[summand.name] = (
                settings.pop("kd_weight"),
                settings.pop("warmup_epochs"),
            )
            if summand.on_logits:
                terms[summand.name] = LogitTerm(parts.pop("divergence"), parts.pop("rule"), **parts, **settings)
            else:
                terms[summand.name] = parts["term"]
        return Objective(terms, weights, warmup_epochs=warmups, **of_loss)
    except TypeError as error:  # a kind of value that the annotations do not tell from others
        raise ValueError(f"{name} cannot be built with {overrides}: {error}") from error


def _for_summand(row: Method, summand: Method, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides of one summand, by their bare names."""
    if not row.summands:
        return {key: value for key, value in overrides.items() if key not in _OF_LOSS}
    options = _options_of_row(summand)
    bare = {key: value for key, value in overrides.items() if key in options}
    start = f"{summand.name}."
    return {
        **bare,
        **{key.removeprefix(start): value for key, value in overrides.items() if key.startswith(start)},
    }


def _made(row: Method, overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parts of one row, built, by kind; and the settings of its term."""
    names = _OF_LOGIT_TERM if row.on_logits else _OF_TERM
    settings: dict[str, Any] = {key: getattr(row, key) for key in names}
    options = {kind: row.options(kind) for kind in row.parts}
    annotations = _options_of_row(row)
    for key, value in overrides.items():
        for annotation in annotations.get(key, ()):
            value = _option(row.name, key, value, annotation)
        if key in settings:
            settings[key] = value
        # An option that two parts share, such as the order of a Taylor polynomial, is set in both.
        for kind, part in row.parts.items():
            if key in parameters_of(part):
                options[kind][key] = value
    parts = dict(row.parts)
    # The sample weight of a row was an option of its divergence once; it is not to count twice.
    if "weight" in parts and not options["divergence"].pop("weighted", True):
        del parts["weight"]
    return {kind: part(**options[kind]) for kind, part in parts.items()}, settings


# ---- parts from outside ----

_BUILT_IN = dict(METHODS), dict(RULE_NAMES)
_FAMILIES = {
    "refinement": Refinement,
    "rule": TemperatureRule,
    "divergence": Divergence,
    "weight": SampleWeight,
    "term": Term,
}
_looked: list[bool] = []  # whether the entry points were looked at in this process


def is_built_in(name: str) -> bool:
    """Whether a method's name says all of it: a row of ours, with a rule of ours, and nothing was put in their place."""
    row = get_method(name)
    ours = all(part.__module__.startswith("adakd.") for part in row.parts.values())
    rows, rules = _BUILT_IN
    row_name, plus, suffix = name.partition("+")
    if name in rows:
        return ours and METHODS[name] is rows[name]
    if row.summands:
        return all(is_built_in(summand.name) for summand in row.summands)
    known = (
        row_name in rows and METHODS[row_name] is rows[row_name] and RULE_NAMES.get(suffix) is rules.get(suffix)
    )
    return ours and bool(plus) and suffix in rules and known


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
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    paper: str = "registered",
    formula: str = "",
    live: LiveRule | None = None,
) -> Callable[[type], type]:
    """Register a temperature rule: a decorator of its class. ``<row>+<name>`` is a method then, for every row.

    Args:
        name: of letters, digits, "-" and "_".
        options: of its constructor, where they are not its defaults.
        paper, formula: what tables say of it.
        live: how the book's pages compute it; they do without it where this is left out.

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
        RULE_NAMES[name] = RuleName(name, formula or part.__name__, paper, dict(options or {}), live=live)
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


def _part_of_rows(kind: str, name: str, known: dict[str, Any]) -> Callable[[type], type]:
    """A decorator that registers a class under its name, which rows then give; it makes no row by itself."""

    def register(part: type) -> type:
        _checked(kind, name, part, known)
        known[name] = part
        return part

    return register


def register_refinement(name: str) -> Callable[[type], type]:
    """Register a refinement of the logits: a decorator of its class. A row names it as its ``refine``.

    Args:
        name: of letters, digits, "-" and "_".

    Raises:
        TypeError: for a class that is no `Refinement`.
        ValueError: for a name that is none, or taken.
    """
    return _part_of_rows("refinement", name, REFINEMENTS)


def register_weight(name: str) -> Callable[[type], type]:
    """Register a sample weight: a decorator of its class. A row names it as its ``weight``.

    Args:
        name: of letters, digits, "-" and "_".

    Raises:
        TypeError: for a class that is no `SampleWeight`.
        ValueError: for a name that is none, or taken.

    >>> from dataclasses import replace
    >>> @register_weight("sure")
    ... class Sure(SampleWeight):  # by the teacher's highest probability
    ...     def forward(self, student, teacher, target, temperatures):
    ...         return teacher.softmax(dim=-1).amax(dim=-1)
    >>> row = replace(METHODS["kd"], name="kd-sure", weight="sure")
    >>> create_method(register_method(row).name).terms["kd"].weight
    Sure()
    >>> del METHODS["kd-sure"], WEIGHTS["sure"]
    """
    return _part_of_rows("weight", name, WEIGHTS)


def register_method(row: Method) -> Method:
    """Register a row of the table: parts and weights under a name of its own.

    Raises:
        ValueError: for a name that is none or taken, or parts that there are none of.
    """
    check_kind(Method, "an adakd.methods.Method, a row of the table", row=row)
    for summand in row.summands or (row,):
        for kind, known in PARTS.items():
            name = getattr(summand, kind)
            if name is not None and name not in known:
                raise ValueError(near_names("part", name, known))
    _register_row(row)
    return row


def _register_row(row: Method) -> None:
    check_method_name(row.name)  # runs lie in folders of this name
    if row.name in METHODS and METHODS[row.name] != row:
        raise ValueError(f"method {row.name!r}: there is one of that name; choose another name")
    METHODS[row.name] = row


_REGISTER: dict[str, Any] = {
    "refinements": register_refinement,
    "rules": register_rule,
    "divergences": register_divergence,
    "weights": register_weight,
    "terms": register_term,
}


def load_entry_points() -> bool:
    """Register what installed packages offer in the groups ``adakd.refinements``, ``.rules``, ``.divergences``,
    ``.weights``, ``.terms`` and ``.methods``; whether there was anything new. Done once in a process, when a name is
    unknown. What cannot be imported or registered is left out, with a warning that names it."""
    if _looked:
        return False
    _looked.append(True)
    found = False
    for group in (*_REGISTER, "methods"):
        for point in entry_points(group=f"adakd.{group}"):
            try:
                _load_entry_point(group, point)
            except (
                Exception
            ) as error:  # of somebody else's package, which need not have to do with the name sought
                offers = getattr(getattr(point, "dist", None), "name", None) or "an installed package"
                warnings.warn(
                    f"the entry point {point.name!r} (adakd.{group}) of {offers} is left out: {type(error).__name__}: {error}; "
                    "mend that package, or uninstall it",
                    stacklevel=3,
                )
            else:
                found = True
    return found


def _load_entry_point(group: str, point: Any) -> None:
    part = point.load()
    if group == "methods":
        register_method(part)
    elif not any(part in known.values() for known in PARTS.values()):  # its own decorator may have done it
        _REGISTER[group](point.name)(part)
