"""`adakd compare`: several methods and seeds from one teacher, and a table."""

import argparse
from typing import Any

from ..api import compare
from ..study import format_lines, keep_records, summarize
from .options import (
    add_cache,
    add_capture,
    add_engine,
    add_json,
    add_student,
    add_teacher,
    add_training,
    engine_of,
    lines_file,
    method,
    new_command,
    teacher_arguments,
    training_arguments,
)
from .output import complain, write_result
from .stop import StopRequests

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    parser = new_command(
        commands,
        "compare",
        run,
        help="distill by several methods and seeds, and show a table",
        description="Several methods and seeds from one teacher: the same initial weights, images and views within a "
        "seed, and one forward of the teacher for all. Differences in the table are to the first method, paired by "
        "seed. A run that fails does not stop the others.",
    )
    models = parser.add_argument_group("models and methods")
    models.add_argument(
        "--methods",
        nargs="+",
        type=method,
        required=True,
        metavar="NAME[:SETTING=VALUE,…]",
        help="see `adakd methods`, e.g. ce kd kd:kd_weight=9 zkd+mlt",
    )
    add_teacher(models)
    add_student(models)
    parser.add_argument(
        "--records",
        type=lines_file,
        metavar="FILE",
        help="also add the records to this file, one a line (.jsonl); see `adakd table`",
    )
    add_training(parser, seeds=True)
    add_cache(parser)
    add_capture(parser)
    add_engine(parser)
    add_json(parser, "all records")


def run(arguments: argparse.Namespace) -> int:
    failed: list[tuple[dict[str, Any], Exception]] = []
    runs = compare(
        arguments.methods,
        arguments.seeds,
        student=arguments.student,
        cache=None if arguments.cache == "off" else arguments.cache,
        capture=arguments.capture,
        engine=engine_of(arguments),
        on_failure=lambda which, error: failed.append((which, error)),
        **teacher_arguments(arguments),
        should_stop=StopRequests(),
        **training_arguments(arguments),
    )
    records = [run.record for run in runs]
    if arguments.records:
        keep_records(arguments.records, records)
    if runs:
        config = records[0]["config"]
        title = (
            f"{config['model']} on {config['data']['name']}, last epoch; ± is half of a 95 % interval (Student's, over "
            "seeds), from three seeds on"
        )
        write_result(arguments.json, records, f"{title}\n{format_lines(summarize(runs))}")
    if not failed:
        return 0
    complain(f"adakd: {len(failed)} of {len(failed) + len(runs)} runs failed:")
    for which, error in failed:
        settings = "".join(f", {name}={value}" for name, value in which["method_options"].items())
        complain(f"  {which['method']}{settings}, seed {which['seed']}: {error}")
    return 1
