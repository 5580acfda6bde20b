"""The temperature rules that pages compute: the formulas of `adakd.methods`, in the form in which JavaScript gets them."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from ..divergence import DIVERGENCES
from ..expression import LiveRule, Tree, names, numbers, parse
from ..methods import RULE_NAMES, Method
from ..temperature import RULES

__all__ = [
    "FIXED",
    "TAU_RANGE",
    "live_rule",
    "live_rule_of",
    "method_for_page",
    "options_of_rule",
    "plays",
    "rules_for_page",
    "takes_tau",
    "trains",
]

FIXED = "fixed"
TAU_RANGE = (0.5, 50.0)  # of the playground's slider
_FIXED = LiveRule("tau")
# The divergences of static/divergences.js. It has DIST of a single row only, which is for another figure.
_DIVERGENCES = ("kl", "dkd", "anchored", "ttm", "correlation")


def live_rule_of(row: Method) -> str | None:
    """Name under which the page has the rule of a row: of `RULE_NAMES`, or ``"fixed"``; None where it has none."""
    if row.rule == FIXED:
        return FIXED

    def kinds(options: Any) -> dict[str, Any]:  # words and switches make another formula, numbers do not
        return {key: value for key, value in options.items() if isinstance(value, (str, bool))}

    for name, rule in RULE_NAMES.items():
        if rule.live and rule.rule == row.rule and kinds(rule.options) == kinds(row.rule_options):
            return name
    return None


def live_rule(name: str) -> LiveRule | None:
    """The formulas of a name from `live_rule_of`."""
    return _FIXED if name == FIXED else RULE_NAMES[name].live


def options_of_rule(name: str) -> dict[str, float]:
    """The numbers that the formulas of a name may use."""
    row = RULE_NAMES.get(name)
    return numbers(RULES[row.rule], row.options) if row else numbers(RULES[FIXED], {})


def plays(name: str) -> bool:
    """Whether the playground can train with a rule: it keeps no state and reads no label, which a place has none of."""
    rule, live = RULES[RULE_NAMES[name].rule] if name in RULE_NAMES else RULES[FIXED], live_rule(name)
    if live is None or rule.keeps_state:
        return False
    return not {"label", "others"} & set().union(*map(names, live.trees))


def trains(row: Method) -> bool:
    """Whether a page has all parts of a row: it knows no refinement, and of the sample weights WTTM's."""
    if not row.needs_teacher:
        return True
    if row.divergence not in _DIVERGENCES or row.refine is not None or row.weight not in (None, "power_sum"):
        return False
    rule = live_rule_of(row)
    return rule is not None and plays(rule)


def takes_tau(row: Method) -> bool:
    """Whether a row's temperature may be set to any value of the playground's slider."""
    if row.rule is None or "tau" not in numbers(RULES[row.rule], row.rule_options):
        return False
    try:
        for tau in TAU_RANGE:
            RULES[row.rule](**{**row.rule_options, "tau": tau})
    except ValueError:  # another option bounds it
        return False
    return True


def rules_for_page(chosen: Iterable[str], *, zoo: bool = True) -> dict[str, dict[str, Any]]:
    """The table RULES of static/rules.js: formulas as trees, and the numbers that they use.

    Args:
        chosen: names from `live_rule_of`.
        zoo: with what the zoo shows besides: the printed formula and the reach.
    """
    table: dict[str, dict[str, Any]] = {}
    for name in chosen:
        live = live_rule(name)
        assert live is not None, name
        student, teacher = live.trees
        trees: dict[str, Tree] = {"student": student}
        if teacher != student:
            trees["teacher"] = teacher
        if zoo and live.printed:
            trees["printedStudent"], trees["printedTeacher"] = (
                parse(text, live.parts) for text in live.printed
            )
        if zoo and live.reach:
            trees["low"], trees["high"] = (parse(text, live.parts) for text in live.reach)
        used = set().union(*map(names, trees.values()))
        parts, trees = _with_parts(trees)
        options = {key: value for key, value in options_of_rule(name).items() if key in used}
        table[name] = {**trees, "options": options}
        if parts:
            table[name]["parts"] = parts
        if live.learned:
            table[name]["learned"] = dict(live.learned)
        if live.in_graph:
            table[name]["inGraph"] = True
    return table


def _with_parts(trees: dict[str, Tree]) -> tuple[dict[str, Tree], dict[str, Tree]]:
    """Subtrees that stand in several places, by a name each, and the trees with those names in their place."""
    counts: Counter[str] = Counter()

    def count(tree: Tree) -> None:
        if isinstance(tree, list):
            key = json.dumps(tree)
            counts[key] += 1
            if counts[key] == 1:
                for inner in tree[1:]:
                    count(inner)

    parts: dict[str, Tree] = {}
    known: dict[str, str] = {}

    def replace(tree: Tree) -> Tree:
        if not isinstance(tree, list):
            return tree
        key = json.dumps(tree)
        if key in known:
            return known[key]
        shorter: Tree = [tree[0], *map(replace, tree[1:])]
        if counts[key] == 1 or len(key) < 20:
            return shorter
        known[key] = f"_{len(parts)}"
        parts[known[key]] = shorter
        return known[key]

    for tree in trees.values():
        count(tree)
    short = {key: replace(tree) for key, tree in trees.items()}
    return parts, short


def method_for_page(row: Method) -> dict[str, Any]:
    """An entry of the table METHODS of static/objective.js: what is nothing, 0 or False is left out."""
    entry: dict[str, Any] = {
        "formula": row.formula.removesuffix(f", τ = {row.rule_options.get('tau', 0):g}"),
        "ceWeight": row.ce_weight,
    }
    if row.divergence is None:
        return entry
    divergence, rule = DIVERGENCES[row.divergence], live_rule_of(row)
    assert rule is not None, row.name
    options = numbers(divergence, row.divergence_options)
    if row.weight == "power_sum":  # in the page it is an option of the divergence
        options["weighted"] = True
    known = options_of_rule(rule)
    own = {key: value for key, value in row.rule_options.items() if key in known and known[key] != value}
    entry |= {
        "divergence": row.divergence,
        "divergenceOptions": options,
        "rule": rule,
        "ruleOptions": own,
        "takesTau": takes_tau(row),
        "readsTau": takes_tau(row) and divergence.reads_temperature,
        "standardize": row.standardize,
        "kdWeight": row.kd_weight,
        "warmupEpochs": row.warmup_epochs,
    }
    return {key: value for key, value in entry.items() if value or key in ("ceWeight", "kdWeight")}
