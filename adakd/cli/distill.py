"""`adakd distill`: a student from a teacher."""

import argparse
from collections.abc import Mapping
from typing import Any

from ..api import distill
from ..runs import Run, resolve_device
from ..training import join_world
from .options import (
    add_cache,
    add_capture,
    add_fresh,
    add_json,
    add_student,
    add_teacher,
    add_training,
    new_command,
    once,
    setting,
    teacher_arguments,
    training_arguments,
    word,
)
from .output import write_result
from .stop import StopRequests

__all__ = ["add_parser", "of_text", "run", "show_run"]


def add_parser(commands: Any) -> None:
    parser = new_command(
        commands,
        "distill",
        run,
        help="train a small network from a teacher",
        description="Train a student from a teacher. On the embedded set the teacher is trained first "
        "where there is none. Several GPUs or machines train one student under torchrun.",
    )
    models = parser.add_argument_group("models and method")
    add_teacher(models)
    add_student(models)
    models.add_argument(
        "--method",
        type=word,
        default="zkd+mlt",
        metavar="NAME",
        help="see `adakd methods` (default: zkd+mlt)",
    )
    models.add_argument(
        "--set",
        action="append",
        type=setting,
        default=[],
        metavar="NAME=VALUE",
        help="another value for a setting of the method, e.g. --set kd_weight=18 (repeatable; numbers, true, false, "
        "none, or a word)",
    )
    add_training(parser)
    add_fresh(parser)
    add_cache(parser)
    add_capture(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    with join_world(resolve_device(arguments.device)) as world:
        made = distill(
            student=arguments.student,
            method=arguments.method,
            method_options=once(arguments.set),
            seed=arguments.seed,
            fresh=arguments.fresh,
            cache=None if arguments.cache == "off" else arguments.cache,
            capture=arguments.capture,
            **teacher_arguments(arguments),
            should_stop=StopRequests(),
            world=world,
            **training_arguments(arguments),
        )
    if world.leads:
        show_run(made, arguments.json)


def of_text(found: Mapping[str, float], data: Mapping[str, Any]) -> list[str]:
    """What is measured of a network on text besides its accuracy, as a line; none on images."""
    if "nats" not in found:
        return []
    entropy = f" (the source's entropy: {data['entropy']:.4f})" if "entropy" in data else ""
    truth = f", {found['kl_to_truth']:.4f} from the truth" if "kl_to_truth" in found else ""
    return [f"  {found['nats']:.4f} nats a token{entropy}{truth}"]


def show_run(run: Run, json: str | None) -> None:
    """What became of a run, and where it lies."""
    result, config, teacher = run.record["result"], run.record["config"], run.record["teacher"]
    taught = f" from {config['teacher']['model']}" if config["teacher"] else ""
    lines = [
        f"{config['model']}{taught} by {config['method']} on {config['data']['name']}",
        f"  test accuracy {result['last']:.2f} % after the last epoch "
        f"(best {result['best']:.2f} % after epoch {result['best_epoch']}); {run.record['seconds']:.0f} s",
        *of_text(result, run.record["data"]),
    ]
    if teacher and "accuracy" in teacher:
        lines.append(f"  its teacher's: {teacher['accuracy']:.2f} %")
    write_result(json, run.record, "\n".join([*lines, f"  {run.folder}"]))
