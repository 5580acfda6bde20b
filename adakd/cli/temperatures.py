"""`adakd temperatures`: the rules' temperatures of a trained network's logits."""

import argparse
from typing import Any

from ..temperatures import measure_temperatures
from .options import add_data, add_json, add_out, add_quiet, new_command, order, path, teacher_arguments, word
from .output import write_result

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    parser = new_command(
        commands,
        "temperatures",
        run,
        help="measure the temperatures that the rules give a teacher's logits",
        description="The maximum logit as temperature on all training and test images, under each definition, "
        "as distributions.",
    )
    networks = parser.add_argument_group("networks")
    networks.add_argument(
        "--teacher",
        type=word,
        metavar="NAME|FOLDER",
        help="a model trained by `adakd teacher`, or the folder of its run (default: the data set's usual one)",
    )
    networks.add_argument(
        "--teacher-weights",
        type=path,
        metavar="FILE",
        help="published weights (.safetensors, .pth, .pt, .tar) for the model named by --teacher",
    )
    networks.add_argument(
        "--student",
        type=path,
        metavar="FOLDER",
        help="folder of a student's run, for the definitions that read the student too",
    )
    add_out(networks, help="where runs lie (default: runs)")
    add_data(parser)
    how = parser.add_argument_group("run")
    how.add_argument(
        "--order",
        type=order,
        default=2,
        metavar="N",
        help="of the Taylor polynomial, at least 1, or inf (default: 2)",
    )
    how.add_argument(
        "--device", type=word, default="auto", metavar="NAME", help="cuda, cpu or auto (default: auto)"
    )
    add_json(how)
    add_quiet(how)


def run(arguments: argparse.Namespace) -> None:
    record = measure_temperatures(
        student=arguments.student,
        data=arguments.data,
        out=arguments.out,
        order=arguments.order,
        device=arguments.device,
        root=arguments.root,
        official=not arguments.unofficial_archive,
        progress=not arguments.quiet,
        **teacher_arguments(arguments),
    )
    write_result(arguments.json, record, "\n".join(lines_of(record)))


def lines_of(record: dict[str, Any]) -> list[str]:
    """Quantiles of the temperature by split and definition."""
    student = f" and {record['student']['model']}" if record["student"] else ""
    low, high = record["bounds"]["tau"]
    titles = "".join(f"{title:>9}" for title in ("5 %", "median", "95 %"))
    lines = [
        f"{record['teacher']['model']}{student} on {record['data']['name']}",
        f"with {record['data']['classes']} classes, τ = c · max z is between {low:.3f} and {high:.3f}",
        f"{'images':7}{'rule':19}{titles}",
    ]
    for split, found in record["result"].items():
        for rule, tau in found["tau"].items():
            quantiles = "".join(f"{tau[name]:>9.2f}" for name in ("q5", "q50", "q95"))
            lines.append(f"{split:7}{rule:19}{quantiles}")
    return lines
