"""What a row is: a method as data, and a rule by its suffix."""

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..divergence import DIVERGENCES
from ..expression import LiveRule
from ..refine import REFINEMENTS
from ..temperature import RULES
from ..terms import TERMS
from ..weight import WEIGHTS

__all__ = ["PARTS", "Method", "RuleName", "parameters_of", "sum_of", "with_rule"]

PARTS: dict[str, Mapping[str, type]] = {
    "refine": REFINEMENTS,
    "divergence": DIVERGENCES,
    "rule": RULES,
    "weight": WEIGHTS,
    "term": TERMS,
}
"""By the field of a row that names a part: all parts of that kind by name."""


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
    refine: str | None = None
    """Name of the refinement in `adakd.refine.REFINEMENTS`: what is done to the rows of logits first."""
    refine_options: Mapping[str, Any] = field(default_factory=dict)
    weight: str | None = None
    """Name of the sample weight in `adakd.weight.WEIGHTS`."""
    weight_options: Mapping[str, Any] = field(default_factory=dict)
    term: str | None = None
    """Name of the term in `adakd.terms.TERMS`, of a method that is one term and no composition by logits."""
    term_options: Mapping[str, Any] = field(default_factory=dict)
    ce_weight: float = 1.0
    kd_weight: float | None = 1.0
    """Weight of the term; None of a sum, each summand of which has its own."""
    warmup_epochs: int = 0
    note: str = ""
    """Where the paper, the released code and this row differ; empty where they agree."""
    table3: Mapping[str, Any] | None = None
    """Overrides that give the row as 2503.09030 ran it (its Table 3); None where that table has no such row."""
    summands: tuple["Method", ...] = ()
    """Rows whose terms are added up, of a sum such as "crd+kd", which has no parts of its own."""

    @property
    def needs_teacher(self) -> bool:
        """Whether there is anything beside the cross entropy."""
        return self.divergence is not None or self.term is not None or bool(self.summands)

    @property
    def on_logits(self) -> bool:
        """Whether the loss reads no more than logits, composed of the parts of the sentence."""
        return self.term is None and not self.summands

    @property
    def parts(self) -> dict[str, type]:
        """The classes of its parts, by the field that names them."""
        named = {kind: getattr(self, kind) for kind in PARTS}
        return {kind: PARTS[kind][name] for kind, name in named.items() if name is not None}

    def options(self, kind: str) -> dict[str, Any]:
        """Options of one of its parts."""
        return dict(getattr(self, f"{kind}_options"))

    @property
    def reads_batch(self) -> bool:
        """Whether a sample's loss depends on the other samples of its batch.

        Such a method is another one at another batch size, and gradient accumulation does not make it up.

        >>> from adakd import METHODS
        >>> METHODS["kd"].reads_batch, METHODS["dist"].reads_batch
        (False, True)
        """
        if self.summands:
            return any(row.reads_batch for row in self.summands)
        for kind, part in self.parts.items():
            # The number of classes, which some parts must know, decides nothing here.
            needed = {"num_classes": 3} if "num_classes" in parameters_of(part) else {}
            made: Any = part(**{**needed, **self.options(kind)})
            if made.reads_batch:
                return True
        return False


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
    live: LiveRule | None = None
    """How pages compute it, as data; None where a formula does not do, and figures say so."""


def parameters_of(part: type) -> dict[str, Any]:
    """The options of a part by name, each with its annotation."""
    parameters = inspect.signature(part).parameters.values()
    return {p.name: p.annotation for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def with_rule(rules: Mapping[str, RuleName], row: Method, suffix: str, **changes: Any) -> Method:
    """A row with another temperature rule; everything else stays, unless changed."""
    rule = rules[suffix]
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


def sum_of(*rows: Method) -> Method:
    """The sum of rows, each term at its own weight; the cross entropy weighs what it does in the first."""
    summands = tuple(part for row in rows for part in (row.summands or (row,)))
    return Method(
        "+".join(row.name for row in summands),
        "; ".join(dict.fromkeys(row.paper for row in summands)),
        " + ".join(f"{row.kd_weight:g}·[{row.formula}]" for row in summands),
        ce_weight=summands[0].ce_weight,
        kd_weight=None,
        note=f"A sum, each term at the weight of its row; the cross entropy at that of {summands[0].name}.",
        summands=summands,
    )
