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

import itertools
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import evidence
from evidence import SEEDS, Wanted, log, three_digits

from adakd import create_method, distill, get_method, get_recipe, train_teacher
from adakd.data import load_data
from adakd.methods import fill_options
from adakd.runs.folder import WEIGHTS
from adakd.study import append_record, gradient_norm, read_records
from adakd.training import write_json

DATA = "sentences"
METHODS = ("ce", "kd", "kd+mlt", "zkd", "zkd+mlt", "kd+dts", "kd+adakd", "ttm", "cist")
DIRECTIONS = ("kd", "rkl")
REFERENCE = "zkd"
CE_WEIGHT = 0.1  # at matched weights, the same for all


class Evidence(evidence.Evidence):
    """On generated text."""

    batches = 4

    def __init__(self, records: Path, out: Path):
        super().__init__(records, out)
        usual = self.data.usual
        self.teacher_name, self.student_name = usual.teacher, usual.student
        self.weights = records / f"{usual.teacher}-{DATA}-{usual.recipe}-seed0.safetensors"

    @cached_property
    def data(self):
        return load_data(DATA)

    @cached_property
    def recipe(self):
        return get_recipe(self.data.usual.recipe, "student")

    def criterion(self, method: str, **options: float):
        known = {"num_classes": self.data.num_classes, "epochs": self.recipe.epochs, "seed": 0}
        return create_method(method, **fill_options(method, options, **known))

    def pull(self, reference: str = REFERENCE) -> float:
        """Length of the reference's gradient at its published weight."""
        return gradient_norm(self.criterion(reference), *self.start) * get_method(reference).kd_weight

    def matched(self, method: str, to: str = REFERENCE, **options: float) -> dict[str, float]:
        weight = three_digits(self.pull(to) / gradient_norm(self.criterion(method, **options), *self.start))
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

    def done(self, experiment: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
        for record in read_records(self.records):
            config = record["config"]
            if record["kind"] == "student" and config["data"]["sha256"] == self.data.checksum:
                yield config["method"], config["seed"], config["method_options"]

    def about(self, experiment: str, plan: dict[str, Any]) -> dict[str, Any]:
        return {"pull": self.pull(plan.get("reference", REFERENCE))}

    def carry_out(self, experiment: str, row: Wanted) -> None:
        run = distill(
            teacher=self.teacher_name,
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


if __name__ == "__main__":
    evidence.run_from_command_line(
        Evidence, __doc__, ("teacher", "methods", "gentle", "direction"), "runs/language"
    )
