"""What the scripts share that make records: experiments with a plan each, whose runs several processes may carry out at once."""

import argparse
import itertools
import json
import logging
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout

from adakd.data import Dataset
from adakd.models import create_model, seeded_model
from adakd.study.protocol import three_digits
from adakd.training import Recipe, load_weights, student_views, write_json
from adakd.training.record import environment, key_of

__all__ = ["SEEDS", "Evidence", "Wanted", "log", "run_from_command_line", "three_digits"]

log = logging.getLogger("evidence")

SEEDS = (0, 1, 2, 3, 4)


class Wanted(NamedTuple):
    """One run, by what differs from the method's published row."""

    method: str
    seed: int
    options: dict[str, float]


class Evidence:
    """Experiments on one data set: a method by the name of each gives the runs that it wants, and its plan.

    Whatever stands in the folder of records is not repeated.
    """

    teacher_name: str
    student_name: str
    weights: Path
    """Of the teacher."""
    batches: int
    """Of the first epoch, by which weights are matched."""
    data: Dataset
    recipe: Recipe

    def __init__(self, records: Path, out: Path):
        self.records, self.out = records, out

    @cached_property
    def start(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (N, K) of the untrained student of seed 0 and of the teacher on its first batches, and the labels (N,)."""
        teacher = load_weights(create_model(self.teacher_name, self.data.num_classes), self.weights).eval()
        student = seeded_model(self.student_name, self.data.num_classes, 0).train()
        views = student_views(self.data, self.recipe, 0)
        batches = itertools.islice(views.batches(1, self.recipe.batch_size), self.batches)
        with torch.no_grad():
            rows = [(student(inputs), teacher(inputs), labels) for inputs, labels in batches]
        student, teacher, labels = map(torch.cat, zip(*rows, strict=True))
        return student.flatten(0, -2), teacher.flatten(0, -2), labels.flatten()

    def about(self, experiment: str, plan: dict[str, Any]) -> dict[str, Any]:
        """What the plan says beside its settings."""
        raise NotImplementedError

    def done(self, experiment: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Method, seed and options of every run that there is a record of."""
        raise NotImplementedError

    def carry_out(self, experiment: str, row: Wanted) -> None:
        raise NotImplementedError

    def teacher(self) -> None:
        """Trains the teacher and keeps its record and weights, where it has an experiment of its own."""
        raise NotImplementedError

    def planned(self, experiment: str) -> list[Wanted]:
        """The runs that it wants; its plan is written where there is none, and kept where it names other settings."""
        rows, plan = getattr(self, experiment)()
        about = {"experiment": experiment, "seeds": list(SEEDS), **self.about(experiment, plan), **plan}
        head = {"schema": 1, "kind": "plan", "status": "complete", "config": about}
        path = self.records / f"{experiment}.json"
        if not path.is_file():
            write_json(path, {**head, **environment(torch.device("cpu"))})
        elif json.loads(path.read_text())["config"].get("settings") != plan["settings"]:
            log.warning(
                "%s: the plan in %s names other settings; delete it to have it written anew", experiment, path
            )
        return rows

    def run(self, experiment: str) -> None:
        if experiment == "teacher":
            self.teacher()
            return

        def unless_done(row: Wanted) -> None:
            if tuple(row) not in self.done(experiment):
                self.carry_out(experiment, row)

        for row in self.planned(experiment):
            if tuple(row) in self.done(experiment):
                continue
            lock = self.out / f"{key_of(row._asdict())[:16]}.lock"
            # Once more when it is claimed: another process may just have ended it.
            unless_claimed(lock, partial(unless_done, row))


def unless_claimed(lock: Path, work: Callable[[], None]) -> None:
    """Do it, unless another process is at it."""
    try:
        with FileLock(lock).acquire(timeout=0):
            work()
    except Timeout:
        pass


def run_from_command_line(kind: type[Evidence], about: str, experiments: tuple[str, ...], out: str) -> None:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=experiments)
    parser.add_argument("records", type=Path, help="folder of the records")
    parser.add_argument("--out", type=Path, default=Path(out), help="folder of the runs themselves")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    log.setLevel(logging.INFO)
    arguments.records.mkdir(parents=True, exist_ok=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    kind(arguments.records, arguments.out).run(arguments.experiment)
