"""Adaptive temperature on text: the runs of chapter 17, on a language whose truth is known.

    python benchmarks/beyond_one_peak.py teacher book/records/language
    python benchmarks/beyond_one_peak.py methods book/records/language
    python benchmarks/beyond_one_peak.py gentle book/records/language
    python benchmarks/beyond_one_peak.py direction book/records/language

The data are `sentences`, generated; teacher and student are their usual ones, and so is the recipe: the teacher reads all
of the text, the student few passages of it. Each experiment has a file of records, a run a line, and a plan beside it that
says how every setting was computed. Whatever stands there is not repeated: stop the script, start it again, or start it
twice. In a record, `result` has held-out `nats` a token, `kl_to_truth`, and the accuracy of the next token (`last`).

teacher: its record, with the truth's distance after every few epochs, and its weights.
methods: METHODS and two constants, at the mean temperature that maximum logit chooses at the start, raw and standardized;
    at published and at matched weights. Matched: 0.1 on the labels, and on the teacher so much that the gradient by the
    student's logits is at the start as long as that of `zkd` as published; as in the study of chapter 11.
gentle: the same methods, matched to `kd` as published instead. At the start a student's logits are all but equal, so what
    standardizes them has a long gradient, and weights that are matched to it leave next to nothing to the labels.
direction: KL and its reverse × τ, at matched weights too.

A run takes a few seconds of one core.
"""

import argparse
import itertools
import logging
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout

from adakd import create_method, distill, get_method, get_recipe, train_teacher
from adakd.data import load_data
from adakd.methods import fill_options
from adakd.models import create_model, seeded_model
from adakd.runs.folder import WEIGHTS
from adakd.study import append_record, push, read_records
from adakd.training import load_weights, student_views, write_json
from adakd.training.record import environment, key_of

log = logging.getLogger("beyond_one_peak")

SEEDS = (0, 1, 2, 3, 4)
DATA = "sentences"
BATCHES = 4  # of the first epoch, by which weights are matched
METHODS = ("ce", "kd", "kd+mlt", "zkd", "zkd+mlt", "kd+dts", "kd+adakd", "ttm", "cist")
DIRECTIONS = ("kd", "rkl")
REFERENCE = "zkd"
CE_WEIGHT = 0.1  # at matched weights, the same for all


class Wanted(NamedTuple):
    """One run, by what differs from the method's published row."""

    method: str
    seed: int
    options: dict[str, float]


def three_digits(x: float) -> float:
    return float(f"{x:.3g}")


class Evidence:
    """What the experiments share: data, the two networks at the start, and the weights that follow."""

    def __init__(self, records: Path, out: Path):
        self.records, self.out = records, out
        self.weights = records / f"{self.data.usual.teacher}-{DATA}-{self.data.usual.recipe}-seed0.safetensors"

    @cached_property
    def data(self):
        return load_data(DATA)

    @cached_property
    def recipe(self):
        return get_recipe(self.data.usual.recipe, "student")

    @cached_property
    def start(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (N, V) of the untrained student of seed 0 and of the teacher on its first batches, and the next tokens."""
        usual, classes = self.data.usual, self.data.num_classes
        teacher = load_weights(create_model(usual.teacher, classes), self.weights).eval()
        student = seeded_model(usual.student, classes, 0).train()
        views = student_views(self.data, self.recipe, 0)
        batches = itertools.islice(views.batches(1, self.recipe.batch_size), BATCHES)
        with torch.no_grad():
            rows = [(student(tokens), teacher(tokens), labels) for tokens, labels in batches]
        student, teacher, labels = map(torch.cat, zip(*rows, strict=True))
        return student.flatten(0, 1), teacher.flatten(0, 1), labels.flatten()

    def criterion(self, method: str, **options: float):
        known = {"num_classes": self.data.num_classes, "epochs": self.recipe.epochs, "seed": 0}
        return create_method(method, **fill_options(method, options, **known))

    def pull(self, reference: str = REFERENCE) -> float:
        """Length of the reference's gradient at its published weight."""
        return push(self.criterion(reference), *self.start) * get_method(reference).kd_weight

    def matched(self, method: str, to: str = REFERENCE, **options: float) -> dict[str, float]:
        weight = three_digits(self.pull(to) / push(self.criterion(method, **options), *self.start))
        return {"ce_weight": CE_WEIGHT, "kd_weight": weight}

    def mean_temperature(self, method: str) -> float:
        """Of the teacher's side, over the rows at the start."""
        return three_digits(self.criterion(method)(*self.start, epoch=1).temperature.teacher.mean().item())

    @cached_property
    def means(self) -> dict[str, float]:
        return {name: self.mean_temperature(name) for name in ("kd+mlt", "zkd+mlt")}

    @property
    def chosen(self) -> list[tuple[str, dict[str, float]]]:
        """The methods, and the constants at the means."""
        constants = [(name.removesuffix("+mlt"), {"tau": tau}) for name, tau in self.means.items()]
        return [*((name, {}) for name in METHODS), *constants]

    # ---- experiments: each says the runs that it wants, and its plan ----

    def methods(self) -> tuple[list[Wanted], dict[str, Any]]:
        settings = []
        for method, options in self.chosen:
            row = get_method(method)
            published = {"ce_weight": row.ce_weight, "kd_weight": row.kd_weight}
            settings.append({"method": method, **options, "weighting": "published", **published})
            if row.needs_teacher:
                settings.append(
                    {"method": method, **options, "weighting": "matched", **self.matched(method, **options)}
                )
        return self.rows(settings), {"mean_temperatures": self.means, "settings": settings}

    def gentle(self) -> tuple[list[Wanted], dict[str, Any]]:
        settings = [
            {"method": method, **options, "weighting": "gentle", **self.matched(method, "kd", **options)}
            for method, options in self.chosen
            if get_method(method).needs_teacher
        ]
        return self.rows(settings), {"reference": "kd", "mean_temperatures": self.means, "settings": settings}

    def direction(self) -> tuple[list[Wanted], dict[str, Any]]:
        """At matched length, what is left of the temperature is the direction of the gradient."""
        settings = [
            {"method": method, "tau": tau, "weighting": "matched", **self.matched(method, tau=tau)}
            for tau in (1.0, 2.0, 4.0, 8.0)
            for method in DIRECTIONS
        ]
        return self.rows(settings), {"settings": settings}

    def rows(self, settings: list[dict[str, Any]]) -> list[Wanted]:
        """Seed by seed, so that what is stopped is a smaller experiment; what is the row's own is left out."""
        rows = []
        for seed, setting in itertools.product(SEEDS, settings):
            row, method = get_method(setting["method"]), setting["method"]
            options = {name: setting[name] for name in ("tau", "ce_weight", "kd_weight") if name in setting}
            own = {name: getattr(row, name, row.rule_options.get(name)) for name in options}
            rows.append(
                Wanted(method, seed, {name: value for name, value in options.items() if own[name] != value})
            )
        return rows

    # ---- carrying them out ----

    def teacher(self) -> None:
        target = self.records / "teacher.json"
        if target.is_file() and self.weights.is_file():
            return
        run = train_teacher(data=DATA, out=self.out, progress=False)
        shutil.copy(run.folder / WEIGHTS, self.weights)
        write_json(target, run.record)
        log.info("teacher: %s", run.record["result"])

    def done(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        for record in read_records(self.records):
            config = record["config"]
            if record["kind"] == "student" and config["data"]["sha256"] == self.data.checksum:
                yield config["method"], config["seed"], config["method_options"]

    def run(self, experiment: str) -> None:
        if experiment == "teacher":
            self.teacher()
            return
        rows, plan = getattr(self, experiment)()
        about = {
            "experiment": experiment,
            "seeds": list(SEEDS),
            "pull": self.pull(plan.get("reference", REFERENCE)),
            **plan,
        }
        head = {"schema": 1, "kind": "plan", "status": "complete", "config": about}
        if not (self.records / f"{experiment}.json").is_file():
            write_json(self.records / f"{experiment}.json", {**head, **environment(torch.device("cpu"))})
        for row in rows:
            if tuple(row) in self.done():
                continue
            claim = FileLock(self.out / f"{key_of(row._asdict())[:16]}.lock")
            try:
                with claim.acquire(timeout=0):
                    self.carry_out(experiment, row)
            except Timeout:
                continue  # another process is at it

    def carry_out(self, experiment: str, row: Wanted) -> None:
        run = distill(
            teacher=self.data.usual.teacher,
            teacher_weights=self.weights,
            method=row.method,
            seed=row.seed,
            method_options=row.options,
            data=self.data,
            out=self.out,
            progress=False,
        )
        append_record(self.records / f"{experiment}.jsonl", run.record)
        result = run.record["result"]
        log.info(
            "%s: %s, seed %d, %s: %.4f nats, %.4f to the truth",
            experiment,
            *row,
            result["nats"],
            result["kl_to_truth"],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=("teacher", "methods", "gentle", "direction"))
    parser.add_argument("records", type=Path, help="folder of the records")
    parser.add_argument("--out", type=Path, default=Path("runs/language"), help="folder of the runs themselves")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    log.setLevel(logging.INFO)
    arguments.records.mkdir(parents=True, exist_ok=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    Evidence(arguments.records, arguments.out).run(arguments.experiment)


if __name__ == "__main__":
    main()
