"""`adakd cache`: a teacher's logits of all views, beforehand."""

import argparse
from typing import Any

from ..api import cache_teacher
from .options import add_cache, add_teacher, add_training, new_command, teacher_arguments, training_arguments
from .output import say

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    parser = new_command(
        commands,
        "cache",
        run,
        help="compute a teacher's logits for all views beforehand",
        description="Fill the cache of a teacher's logits for the views that students of these seeds will see. "
        "`distill` and `compare` do it by themselves; this is for another time or machine.",
    )
    add_teacher(parser.add_argument_group("teacher"))
    add_training(parser, seeds=True)
    add_cache(parser, also_off=False)


def run(arguments: argparse.Namespace) -> None:
    cache = cache_teacher(
        dtype=arguments.cache,
        seeds=arguments.seeds,
        **teacher_arguments(arguments),
        **training_arguments(arguments),
    )
    say(f"{cache}\n  {cache.folder}")
