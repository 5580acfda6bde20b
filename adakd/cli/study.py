"""`adakd study`: methods at published, matched and chosen weights, over seeds."""

import argparse
from typing import Any

from ..study import WAYS, Study, read_study, run_study
from .options import (
    add_cache,
    add_capture,
    add_engine,
    add_student,
    add_teacher,
    add_training,
    engine_of,
    new_command,
    out_folder,
    positive,
    teacher_arguments,
    training_arguments,
    word,
)
from .output import complain, say
from .stop import StopRequests
from .table import weight_of

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    parser = new_command(
        commands,
        "study",
        run,
        help="compare methods at published, matched and chosen weights, over seeds",
        description="Each method over the same seeds three times: at its published weights; at weights at which all have "
        "the same gradient norm at the start; at the best of a few weights by validation images that no run trains on. Records go "
        "into a folder, and what stands there is not repeated: stop it, repeat the command, or start it several times "
        "at once. A run that diverges is noted there, and the others go on. `adakd table FOLDER` shows what is there.",
    )
    parser.add_argument("records", type=out_folder("FOLDER"), metavar="FOLDER", help="of the study's records")
    models = parser.add_argument_group("models and methods")
    models.add_argument(
        "--methods",
        nargs="+",
        type=word,
        required=True,
        metavar="NAME",
        help="see `adakd methods`, e.g. ce kd zkd zkd+mlt",
    )
    models.add_argument(
        "--ways",
        nargs="+",
        choices=WAYS,
        default=list(WAYS),
        metavar="WAY",
        help=f"which weights: {', '.join(WAYS)} (default: all three)",
    )
    models.add_argument(
        "--reference",
        type=word,
        default=Study.reference,
        metavar="NAME",
        help=f"the method whose published force the matched weights have (default: {Study.reference})",
    )
    models.add_argument(
        "--grid",
        nargs="+",
        type=positive("grid"),
        default=list(Study.grid),
        metavar="X",
        help="multiples of the matched weight that validation chooses from "
        f"(default: {' '.join(map(str, Study.grid))})",
    )
    add_teacher(models)
    add_student(models)
    add_training(parser, seeds=True, default_seeds=list(Study.seeds))
    add_cache(parser)
    add_capture(parser)
    add_engine(parser)
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="try runs again that failed before (default: they are left out)",
    )


def run(arguments: argparse.Namespace) -> int:
    wanted = Study(
        arguments.methods,
        arguments.seeds,
        reference=arguments.reference,
        grid=arguments.grid,
        ways=arguments.ways,
    )
    records = run_study(
        wanted,
        arguments.records,
        student=arguments.student,
        cache=None if arguments.cache == "off" else arguments.cache,
        capture=arguments.capture,
        engine=engine_of(arguments),
        retry_failed=arguments.retry_failed,
        **teacher_arguments(arguments),
        should_stop=StopRequests(),
        **training_arguments(arguments),
    )
    say(f"{len(records)} runs in {arguments.records}; `adakd table {arguments.records}` shows them")
    failures = [
        failure
        for failure in read_study(arguments.records).failures
        if failure["method"] in wanted.methods and failure["seed"] in wanted.seeds
    ]
    if not failures:
        return 0
    complain(f"adakd: {len(failures)} runs failed and are left out; --retry-failed tries them again:")
    for failure in failures:
        weight = weight_of(failure)
        complain(
            f"  {failure['method']} at {failure['way']} weights ({weight}), seed {failure['seed']}: "
            f"{failure['error']}"
        )
    return 1
