"""`adakd methods`: a line a method, in groups; `adakd methods NAME`: everything about one."""

import argparse
import inspect
import os
import shutil
import sys
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

WIDTH = 80  # of any terminal, for what is wrapped and not cut


def add_parser(commands: Any) -> None:
    parser = new_command(
        commands,
        "methods",
        run,
        help="list the methods, or describe one in full",
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
    """One line a method, one line a rule, each group under its title; cut where a terminal's lines end."""
    width, most = max(map(len, METHODS)), _columns()
    groups: dict[str, list[str]] = {}
    for row in METHODS.values():
        line = f"  {row.name:{width}} {row.ce_weight:>4g} {_weight(row):>5}  {row.formula}"
        groups.setdefault(_group(row), []).append(_cut(line, most))
    groups["Rules of temperature, for any method on logits: <method>+<rule>"] = [
        _cut(f"  +{suffix:14} τ = {rule.formula}", most) for suffix, rule in RULE_NAMES.items()
    ]
    lines = [f"  {'method':{width}} λ_CE  λ_KD  formula"]
    for title, members in groups.items():
        lines += ["", title, *members]
    return [*lines, "", "`adakd methods NAME` describes one in full."]


def _group(row: Method) -> str:
    if not row.needs_teacher:
        return "Labels alone"
    if not row.on_logits:
        return "Terms on features, or with a network of their own; they add up: crd+kd"
    return "On logits, one temperature" if row.rule == "fixed" else "On logits, a temperature by rule"


def _weight(row: Method) -> str:
    return f"{row.kd_weight:g}" if row.needs_teacher and row.kd_weight is not None else "–"


def _columns() -> int | None:
    """How long a line may be: as COLUMNS says, else as the terminal is wide; None for a file or a pipe, which has no end."""
    columns = os.environ.get("COLUMNS", "")
    if (columns.isdecimal() and int(columns)) or sys.stdout.isatty():
        return max(40, shutil.get_terminal_size().columns)
    return None


def _cut(line: str, most: int | None) -> str:
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"


_WRAPPED = textwrap.TextWrapper(
    WIDTH - 2, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
)
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
            lines += _WRAPPED.wrap(f"{title}: {text}")
    return lines


def _assignments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())
