"""`adakd methods`: a short list; `adakd methods NAME`: everything about one."""

import argparse
import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

from .._check import near_names
from ..methods import METHODS, RULE_NAMES, Method, RuleName, get_method
from ..methods.base import parameters_of
from ..temperature import RULES
from .options import add_json, new_command, word
from .output import write_result

__all__ = ["add_parser", "run"]

WIDTH = 100


def add_parser(commands: Any) -> None:
    parser = new_command(
        commands,
        "methods",
        run,
        help="list the methods, or tell all about one",
        description="The published methods with their weights. Any of them takes another temperature rule: "
        "<method>+<rule>. With a name: its paper, formula, settings, and where paper and code differ.",
    )
    parser.add_argument(
        "name", nargs="?", type=word, metavar="NAME", help="a method, a combination, or a rule (+mlt)"
    )
    add_json(parser, "the list, or the method,")


def run(arguments: argparse.Namespace) -> None:
    if arguments.name is None:
        everything = {
            "methods": [about_method(row) for row in METHODS.values()],
            "rules": [about_rule(suffix, rule) for suffix, rule in RULE_NAMES.items()],
        }
        write_result(arguments.json, everything, "\n".join(short_list()))
        return
    if arguments.name.startswith("+"):
        suffix = arguments.name[1:]
        if suffix not in RULE_NAMES:
            raise ValueError(near_names("rule", suffix, RULE_NAMES))
        about = about_rule(suffix, RULE_NAMES[suffix])
    else:
        about = about_method(get_method(arguments.name))
    write_result(arguments.json, about, "\n".join(paragraphs(about)))


def _defaults(component: type) -> dict[str, Any]:
    """Options of a part that have a default."""
    parameters = inspect.signature(component).parameters
    return {
        name: parameters[name].default
        for name in parameters_of(component)
        if parameters[name].default is not inspect.Parameter.empty
    }


def about_method(row: Method) -> dict[str, Any]:
    """A row and every setting of it, its own and those its parts come with."""
    about = {"name": row.name, "paper": row.paper, "formula": row.formula, "ce_weight": row.ce_weight}
    if row.summands:  # spelled as `--set` takes them
        about["settings"] = {
            f"{summand.name}.{key}": value
            for summand in row.summands
            for key, value in {"kd_weight": summand.kd_weight, **_settings(summand)}.items()
        }
    elif row.needs_teacher:
        about["kd_weight"] = row.kd_weight
        about["settings"] = _settings(row)
    if row.table3:
        about["table3"] = dict(row.table3)
    return {**about, "note": row.note} if row.note else about


def _settings(row: Method) -> dict[str, Any]:
    """Settings of the term of one row, its own and those its parts come with."""
    settings = {
        **({"standardize": row.standardize} if row.on_logits else {}),
        "warmup_epochs": row.warmup_epochs,
        **({"refine": row.refine} if row.refine else {}),
        **({"weight": row.weight} if row.weight else {}),
    }
    for kind, part in row.parts.items():
        settings |= {**_defaults(part), **row.options(kind)}
    if row.weight:
        settings.pop("weighted", None)  # the option that this weight was
    return settings


def about_rule(suffix: str, rule: RuleName) -> dict[str, Any]:
    about = {
        "name": f"+{suffix}",
        "paper": rule.paper,
        "formula": f"τ = {rule.formula}",
        "settings": {**_defaults(RULES[rule.rule]), **rule.options},
    }
    return {**about, "note": rule.note} if rule.note else about


def short_list() -> list[str]:
    """One line a method, one line a rule."""
    width = max(map(len, METHODS))
    return [
        f"{'method':{width}} {'λ_CE':>5} {'λ_KD':>5}  formula",
        *(
            _cut(f"{row.name:{width}} {row.ce_weight:>5g} {_weight(row):>5}  {row.formula}")
            for row in METHODS.values()
        ),
        "",
        "Any method on logits takes another temperature rule, <method>+<rule>:",
        *(_cut(f"  +{suffix:14} τ = {rule.formula}") for suffix, rule in RULE_NAMES.items()),
        "",
        "`adakd methods NAME` tells all about one: its paper, its settings, and where paper and code differ.",
    ]


def _weight(row: Method) -> str:
    return f"{row.kd_weight:g}" if row.needs_teacher and row.kd_weight is not None else "–"


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"


_TITLES = {
    "paper": "paper",
    "formula": "formula",
    "ce_weight": "λ_CE",
    "kd_weight": "λ_KD",
    "settings": "settings",
    "table3": "in Table 3 of 2503.09030",
    "note": "note",
}


def paragraphs(about: Mapping[str, Any]) -> list[str]:
    """Name, then each thing that is known of it, in lines that fit."""
    lines = [about["name"]]
    for key, title in _TITLES.items():
        if key in about:
            value = about[key]
            text = _assignments(value) if isinstance(value, Mapping) else f"{value}"
            lines += textwrap.wrap(f"{title}: {text}", WIDTH - 2, initial_indent="  ", subsequent_indent="    ")
    return lines


def _assignments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())
