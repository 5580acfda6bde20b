"""`adakd table`: records as a table."""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .._check import near_names
from ..study import (
    PLAN,
    WAYS,
    StudyResults,
    compare_records,
    format_lines,
    read_records,
    read_study,
)
from ..study.tables import OF_NETWORK, by_method
from ..training.record import key_of
from .options import OptionError, new_command, path, word
from .output import say

__all__ = ["add_parser", "run", "weight_of"]

Group = dict[str, dict[int, Any]]  # by method, then by seed: a record


def add_parser(commands: Any) -> None:
    parser = new_command(
        commands,
        "table",
        run,
        help="show records as a table: means, intervals, paired differences",
        description="Of a study's folder, a table for each of its three questions; of other records, a table for each "
        "network, data set, recipe, precision and teacher. Test accuracy after the last epoch; ± is half of a 95 % interval "
        "(Student's, over seeds, from three seeds on); differences are paired by seed.",
    )
    parser.add_argument(
        "records", nargs="+", type=path, metavar="PATH", help="folders or files of records (.json, .jsonl)"
    )
    parser.add_argument(
        "--to",
        nargs="*",
        type=word,
        default=None,
        metavar="NAME",
        help="methods to compare all with, as the table names them (default: kd zkd)",
    )
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table")


def run(arguments: argparse.Namespace) -> None:
    to = ["kd", "zkd"] if arguments.to is None else arguments.to
    known: set[str] = set()
    folders = [place for place in arguments.records if Path(place, PLAN).is_file()]
    tables = []
    for folder in folders:
        study = read_study(folder)
        config = study.plan["config"]
        for way in WAYS:
            title = f"{config['model']} on {config['data']['name']} at {way} weights ({folder})"
            tables.append((title, study.table(way, to), failed(study, way)))
        known.update(study.methods)
    records = read_records(*(place for place in arguments.records if place not in folders), complete=True)
    for title, runs in groups_of(records):
        lines = compare_records(runs, [name for name in to if name in runs])
        known.update(runs)
        tables.append((title, sorted(lines, key=lambda line: line.rank), []))
    if not tables:
        raise ValueError(f"no records of runs in {', '.join(arguments.records)}")
    for name in arguments.to or ():  # the usual ones need not be there
        if name not in known:
            raise OptionError(f"--to: {near_names('method in these records:', name, known)}")
    mark, gap = ("**", "\n") if arguments.markdown else ("", "")
    say(
        "\n\n".join(
            "\n".join([f"{mark}{title}{mark}{gap}", format_lines(lines, arguments.markdown), *notes])
            for title, lines, notes in tables
        )
    )


def groups_of(records: Iterable[Any]) -> list[tuple[str, Group]]:
    """Groups of records that may be compared, by `adakd.study.summarize`'s rule, each with a title of its own.

    Raises:
        ValueError: if a method has a seed twice.
    """
    alike: dict[str, dict[str, list[Any]]] = {}  # by all that runs must share but the teacher, then by that
    for record in records:
        config = record["config"]
        shared, teacher = (
            json.dumps([config.get(name) for name in names], sort_keys=True)
            for names in (("model", *OF_NETWORK, "data", "recipe", "precision"), ("teacher",))
        )
        alike.setdefault(shared, {}).setdefault(teacher, []).append(record)
    found = []
    for by_teacher in alike.values():
        untaught = by_teacher.pop("[null]", [])  # no teacher could make these others: they stand beside each
        found += [[*taught, *untaught] for taught in by_teacher.values()] or [untaught]
    titles = [_title(group[0]) for group in found]
    groups = []
    for title, group in zip(titles, found, strict=True):
        named = [_facts(other[0]) for other, same in zip(found, titles, strict=True) if same == title]
        facts = _facts(group[0])
        # Of a recipe that an older version wrote, a setting may be missing.
        differing = [name for name in facts if any(other.get(name) != facts[name] for other in named)]
        groups.append((", ".join([title, *(f"{name} {facts[name]}" for name in differing)]), _by_seed(group)))
    return groups


def _title(record: Any) -> str:
    config, recipe = record["config"], record["config"]["recipe"]
    images = recipe["train_images"] or record["data"]["train_images"]
    what = "passages" if "window" in record["data"] else "images"
    return f"{config['model']} on {config['data']['name']}, {images} {what} × {recipe['epochs']} epochs"


def _facts(record: Any) -> dict[str, Any]:
    """What may differ between groups of one title, by the name that a title gives it."""
    config = record["config"]
    recipe = {"recipe" if name == "name" else name: value for name, value in config["recipe"].items()}
    of_data, network = config["data"], {name: config[name][:8] for name in OF_NETWORK if name in config}
    seen = {"views": key_of(of_data["views"])[:8]} if "views" in of_data else {}
    facts = {
        **recipe,
        "precision": config["precision"],
        "data": of_data.get("sha256", "")[:8],
        **seen,
        **network,
    }
    if config["teacher"] is None:
        return {**facts, "teacher": "none"}
    teacher = {"logits": "live", **config["teacher"]}
    named = {"teacher": teacher.pop("model", ""), "weights": teacher.pop("sha256", "")[:8]}
    return {**facts, **named, **teacher}


def _by_seed(records: Iterable[Any]) -> Group:
    runs: Group = {}
    for name, alike in by_method(records).items():
        seeds = runs.setdefault(name, {})
        for record in alike:
            if record["seed"] in seeds:
                raise ValueError(f"{_title(record)}: {name} has seed {record['seed']} twice; name fewer files")
            seeds[record["seed"]] = record
    return runs


def weight_of(failure: Mapping[str, Any]) -> str:
    """Weight of a run that failed; of a sum, which has several, a dash."""
    return "–" if failure["kd_weight"] is None else f"{failure['kd_weight']:g}"


def failed(study: StudyResults, way: str) -> list[str]:
    """A line for each method of which runs failed by that way: how often, and how."""
    found: dict[tuple[str, str], list[Any]] = {}
    for failure in study.failures:
        if failure["way"] == way:
            found.setdefault((failure["method"], weight_of(failure)), []).append(failure)
    return [
        f"failed: {method} at weight {weight}: {len(runs)} run{'s' * (len(runs) > 1)} "
        f"(seed {', '.join(str(run['seed']) for run in runs)}): {runs[0]['error']}"
        for (method, weight), runs in found.items()
    ]
