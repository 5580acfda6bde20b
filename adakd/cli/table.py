"""`adakd table`: what records say together."""

import argparse
from pathlib import Path
from typing import Any

from ..study import (
    PLAN,
    WAYS,
    StudyResults,
    compare_records,
    describe_method,
    format_lines,
    read_records,
    read_study,
)
from .options import new_command, path, word
from .output import say

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    parser = new_command(
        commands,
        "table",
        run,
        help="show what records say: means, intervals, paired differences",
        description="Of a study's folder, a table for each of its three questions; of other records, a table for each "
        "network, data set and recipe. Test accuracy after the last epoch; ± is half of a 95 % interval (Student's, "
        "over seeds, from three seeds on); differences are paired by seed.",
    )
    parser.add_argument(
        "records", nargs="+", type=path, metavar="PATH", help="folders or files of records (.json, .jsonl)"
    )
    parser.add_argument(
        "--to",
        nargs="*",
        type=word,
        default=["kd", "zkd"],
        metavar="NAME",
        help="methods to compare all with, as the table names them (default: kd zkd)",
    )
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table")


def run(arguments: argparse.Namespace) -> None:
    folders = [place for place in arguments.records if Path(place, PLAN).is_file()]
    tables = []
    for folder in folders:
        study = read_study(folder)
        config = study.plan["config"]
        for way in WAYS:
            title = f"{config['model']} on {config['data']['name']} at {way} weights ({folder})"
            tables.append((title, study.table(way, arguments.to), failed(study, way)))
    groups: dict[str, dict[str, dict[int, Any]]] = {}
    for record in read_records(*(place for place in arguments.records if place not in folders), complete=True):
        config, recipe = record["config"], record["config"]["recipe"]
        images = recipe["train_images"] or record["data"]["train_images"]
        what = "passages" if "window" in record["data"] else "images"
        title = f"{config['model']} on {config['data']['name']}, {images} {what} × {recipe['epochs']} epochs"
        seeds = groups.setdefault(title, {}).setdefault(describe_method(record), {})
        if record["seed"] in seeds:
            raise ValueError(
                f"{title}: {describe_method(record)} has seed {record['seed']} twice; name fewer files"
            )
        seeds[record["seed"]] = record
    for title, runs in groups.items():
        lines = compare_records(runs, [name for name in arguments.to if name in runs])
        tables.append((title, sorted(lines, key=lambda line: line.rank), []))
    if not tables:
        raise ValueError(f"no records of runs in {', '.join(arguments.records)}")
    mark, gap = ("**", "\n") if arguments.markdown else ("", "")
    say(
        "\n\n".join(
            "\n".join([f"{mark}{title}{mark}{gap}", format_lines(lines, arguments.markdown), *notes])
            for title, lines, notes in tables
        )
    )


def failed(study: StudyResults, way: str) -> list[str]:
    """A line for each method of which runs failed by that way: how often, and how."""
    found: dict[tuple[str, float], list[Any]] = {}
    for failure in study.failures:
        if failure["way"] == way:
            found.setdefault((failure["method"], failure["kd_weight"]), []).append(failure)
    return [
        f"failed: {method} at weight {weight:g}: {len(runs)} run{'s' * (len(runs) > 1)} "
        f"(seed {', '.join(str(run['seed']) for run in runs)}): {runs[0]['error']}"
        for (method, weight), runs in found.items()
    ]
