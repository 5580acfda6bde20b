"""`adakd evaluate`: the test accuracy of a finished run, or of a published file of weights."""

import argparse
from typing import Any

from ..api import evaluate_weights, measurements
from ..runs import open_run
from .distill import of_text
from .options import (
    add_device,
    add_json,
    add_run_or_weights,
    check_run_or_weights,
    new_command,
    refuse_beside_folder,
)
from .output import write_result

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    parser = new_command(
        commands,
        "evaluate",
        run,
        help="measure a finished run, or published weights",
        description="Test accuracy of a finished run's network, beside what its record says; or of a file of weights: "
        "--weights FILE --model NAME --data NAME.",
    )
    add_run_or_weights(parser)
    add_device(parser, precision="the run's own; for weights, what the hardware does fastest")
    add_json(parser, "the accuracy")


def run(arguments: argparse.Namespace) -> None:
    check_run_or_weights(arguments)
    if arguments.run_folder is not None:
        refuse_beside_folder(arguments, "model", "unofficial-archive")
        if not (arguments.data or "").startswith("text:"):  # of a text the record has no path
            refuse_beside_folder(arguments, "data")
        found = open_run(arguments.run_folder)
        measured = measurements(
            found,
            data=arguments.data,
            device=arguments.device,
            precision=arguments.precision,
            root=arguments.root,
        )
        result = {"run": arguments.run_folder, **measured, "recorded": found.accuracy}
        text = f"test accuracy {measured['accuracy']:.2f} % (record: {found.accuracy:.2f} %)"
        write_result(arguments.json, result, "\n".join([text, *of_text(measured, found.record["data"])]))
        return
    data = arguments.data or "gratings"
    accuracy = evaluate_weights(
        arguments.weights,
        arguments.model,
        data,
        device=arguments.device,
        precision=arguments.precision or "auto",
        root=arguments.root,
        official=not arguments.unofficial_archive,
    )
    result = {"weights": arguments.weights, "model": arguments.model, "data": data}
    text = f"{arguments.model} on {data}: test accuracy {accuracy:.2f} %"
    write_result(arguments.json, {**result, "accuracy": accuracy}, text)
