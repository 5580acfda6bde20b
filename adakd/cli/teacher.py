"""`adakd teacher`: a network trained on the labels alone."""

import argparse
from typing import Any

from ..api import train_teacher
from ..data import TokenData
from ..models import MODELS
from ..runs import resolve_device
from ..training import join_world
from .distill import show_run
from .options import add_capture, add_fresh, add_json, add_training, new_command, training_arguments, word
from .stop import StopRequests

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    parser = new_command(
        commands,
        "teacher",
        run,
        help="train a large network on the labels",
        description="Train a network on the labels alone, to teach others later. Several GPUs or machines "
        "train one network under torchrun.",
    )
    parser.add_argument(
        "--model",
        type=word,
        metavar="NAME",
        help=f"one of {', '.join(MODELS)} (default: resnet14 for gratings, wrn_16_2 for CIFAR, {TokenData.usual.teacher} for text)",
    )
    add_training(parser)
    add_fresh(parser)
    add_capture(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    with join_world(resolve_device(arguments.device)) as world:
        made = train_teacher(
            arguments.model,
            seed=arguments.seed,
            fresh=arguments.fresh,
            capture=arguments.capture,
            should_stop=StopRequests(),
            world=world,
            **training_arguments(arguments),
        )
    if world.leads:
        show_run(made, arguments.json)
