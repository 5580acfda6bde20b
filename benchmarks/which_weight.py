"""The runs that tell temperature, standardization and weight apart, beside the study of chapter 11.

    python benchmarks/which_weight.py standardization book/records/evidence
    python benchmarks/which_weight.py labels book/records/evidence
    python benchmarks/which_weight.py constants book/records/evidence
    python benchmarks/which_weight.py direction book/records/evidence
    python benchmarks/which_weight.py features book/records/evidence

Same data, networks and recipe as that study. Its number format is bf16, in which a CPU without instructions for it takes
ten times (the student) to thirty times (the teacher) as long, so that all experiments but `features` are in fp32: what is
compared has one format. Each experiment has a file of records, a run a line, and a plan beside it that says how every
setting was computed. Whatever stands there, or in the study's folder in the same format, is not repeated: stop the script,
start it again, or start it twice.

standardization: {raw, standardized} × the same temperature in units of the teacher's spread × seeds, each weighted by
    the length of its gradient at the start (as the study's matched weights are).
labels: methods whose published weight of the labels is 1, at 1 and at 0.1, at published and matched λ_KD.
constants: schedules and learned rules beside the constants that they pass through.
direction: KL, reverse KL and the Jensen-Shannon divergence × τ, each weighted by the length of its gradient at the start:
    does temperature help KL and only rescale its reverse (arXiv 2606.00306)?
features: the methods on features at their published weights, three seeds, with the two releases as they are. Their
    teacher runs along, one for all methods of a seed.

They need CIFAR-100 (ADAKD_DATA). A run takes one core of a CPU a few minutes.
"""

import argparse
import itertools
import logging
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout

from adakd import compare, create_method, distill, get_method, get_recipe
from adakd.data import load_data
from adakd.models import create_model, seeded_model
from adakd.study import append_record, push, read_records
from adakd.training import load_weights, student_views, write_json
from adakd.training.record import environment, key_of

log = logging.getLogger("which_weight")

SEEDS = (0, 1, 2, 3, 4)
STUDY = Path("book/records/study")
TEACHER = Path("book/records/teachers/wrn_16_2-cifar100-quick-seed0.safetensors")
RECIPE = {"recipe": "quick", "train_images": 3000, "validation_images": 5000, "eval_every": 20}
BATCHES = 8  # of the first epoch, by which weights are matched, as in the study
SPREADS = (
    1.2,
    2.0,
    3.3,
    5.0,
    8.0,
    30.0,
)  # temperatures in units of the spread; 30 is the limit to a few percent
DIRECTIONS = ("kd", "rkl", "jsd")
LABELS = ("dkd", "dtkd", "zdkd", "ttm", "wttm", "dist")
FEATURES = (
    *("fitnet", "at", "rkd", "sp", "pkt", "nst", "crd"),
    *("reviewkd", "reviewkd-released", "simkd", "catkd", "catkd-released"),
)
REFERENCE = "zkd"


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

    @cached_property
    def data(self):
        return load_data("cifar100", official=False)

    @cached_property
    def start(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of the untrained student of seed 0 and of the teacher on its first batches, and the labels."""
        teacher = load_weights(create_model("wrn_16_2", self.data.num_classes), TEACHER).eval()
        student = seeded_model("resnet8", self.data.num_classes, 0).train()
        recipe = get_recipe("quick", "student", **{k: v for k, v in RECIPE.items() if k != "recipe"})
        views = student_views(self.data, recipe, 0)
        batches = itertools.islice(views.batches(1, recipe.batch_size), BATCHES)
        with torch.no_grad():
            rows = [(student(images), teacher(images), labels) for images, labels in batches]
        return tuple(map(torch.cat, zip(*rows, strict=True)))

    @cached_property
    def spread(self) -> float:
        """Mean standard deviation of the teacher's rows of logits."""
        return self.start[1].double().std(dim=1, correction=0).mean().item()

    @cached_property
    def pull(self) -> float:
        """Length of the reference's gradient at its published weight."""
        return push(create_method(REFERENCE), *self.start) * get_method(REFERENCE).kd_weight

    def matched(self, method: str, **options: float) -> float:
        return three_digits(self.pull / push(create_method(method, **options), *self.start))

    # ---- experiments: each says the runs that it wants, and its plan ----

    def standardization(self) -> tuple[list[Wanted], dict[str, Any]]:
        rows, settings = [], []
        for c in SPREADS:
            for method, tau in (("kd", three_digits(c * self.spread)), ("zkd", c)):
                weight = self.matched(method, tau=tau)
                row = {"method": method, "spreads": c, "tau": tau, "kd_weight": weight}
                settings.append(row)
        for seed in SEEDS:
            rows += [
                self.wanted(row["method"], seed, tau=row["tau"], kd_weight=row["kd_weight"]) for row in settings
            ]
        return rows, {"spread": self.spread, "settings": settings}

    def labels(self) -> tuple[list[Wanted], dict[str, Any]]:
        settings = []
        for method in LABELS:
            for weighting, weight in (
                ("published", get_method(method).kd_weight),
                ("matched", self.matched(method)),
            ):
                for ce_weight in (1.0, 0.1):
                    settings.append(
                        {"method": method, "weighting": weighting, "kd_weight": weight, "ce_weight": ce_weight}
                    )
        names = ("kd_weight", "ce_weight")
        rows = [
            self.wanted(row["method"], seed, **{name: row[name] for name in names})
            for seed in SEEDS
            for row in settings
        ]
        return rows, {"settings": settings}

    def constants(self) -> tuple[list[Wanted], dict[str, Any]]:
        """DTS runs from 4 down to 2; CTKD ends at 3.3 (published weight) or on its upper bound (matched)."""
        settings = []
        for tau in (2.0, 2.5, 3.0, 3.3, 4.0, 21.0):
            for weighting in ("published", "matched"):
                weight = get_method("kd").kd_weight if weighting == "published" else self.matched("kd", tau=tau)
                settings.append({"method": "kd", "tau": tau, "weighting": weighting, "kd_weight": weight})
        rows = [
            self.wanted("kd", seed, tau=row["tau"], kd_weight=row["kd_weight"])
            for seed in SEEDS
            for row in settings
        ]
        return rows, {"settings": settings}

    def direction(self) -> tuple[list[Wanted], dict[str, Any]]:
        """At matched length, what is left of the temperature is the direction of the gradient."""
        settings = [
            {"method": method, "tau": tau, "kd_weight": self.matched(method, tau=tau)}
            for tau in (1.0, 2.0, 4.0, 8.0)
            for method in DIRECTIONS
        ]
        rows = [
            self.wanted(row["method"], seed, tau=row["tau"], kd_weight=row["kd_weight"])
            for seed in SEEDS
            for row in settings
        ]
        return rows, {"settings": settings}

    def features(self) -> tuple[list[Wanted], dict[str, Any]]:
        settings = [{"method": name, "kd_weight": get_method(name).kd_weight} for name in FEATURES]
        return [self.wanted(name, seed) for seed in SEEDS[:3] for name in FEATURES], {"settings": settings}

    def wanted(self, method: str, seed: int, **options: float) -> Wanted:
        """As the study writes it: what is the row's own is left out, and warm-ups are in proportion to the run."""
        row = get_method(method)
        if row.warmup_epochs:
            options["warmup_epochs"] = max(1, round(row.warmup_epochs * 40 / 240))
        own = {name: getattr(row, name, row.rule_options.get(name)) for name in options}
        return Wanted(method, seed, {name: value for name, value in options.items() if own[name] != value})

    # ---- carrying them out ----

    def done(self, precision: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
        for record in read_records(*(path for path in (self.records, STUDY) if path.is_dir())):
            config = record["config"]
            if config["precision"] == precision:
                yield config["method"], config["seed"], config["method_options"]

    def run(self, experiment: str) -> None:
        rows, plan = getattr(self, experiment)()
        precision = "bf16" if experiment == "features" else "fp32"
        about = {
            "experiment": experiment,
            "seeds": list(SEEDS),
            "precision": precision,
            "pull": self.pull,
            **plan,
        }
        head = {"schema": 1, "kind": "plan", "status": "complete", "config": about}
        if not (self.records / f"{experiment}.json").is_file():
            write_json(self.records / f"{experiment}.json", {**head, **environment(torch.device("cpu"))})
        if experiment == "features":
            self.in_lockstep(experiment, rows, precision)
            return
        for row in rows:
            if tuple(row) in self.done(precision):
                continue
            claim = FileLock(self.out / f"{key_of(row._asdict())[:16]}.lock")
            try:
                with claim.acquire(timeout=0):
                    self.carry_out(experiment, row, precision)
            except Timeout:
                continue  # another process is at it

    def in_lockstep(self, experiment: str, rows: list[Wanted], precision: str) -> None:
        """What reads the teacher's features, a seed at a time: all its methods share one forward of the teacher a step."""
        for seed in dict.fromkeys(row.seed for row in rows):
            done = list(self.done(precision))
            left = [row for row in rows if row.seed == seed and tuple(row) not in done]
            claim = FileLock(self.out / f"{experiment}-{seed}.lock")
            try:
                with claim.acquire(timeout=0):
                    methods = [(row.method, row.options) for row in left]
                    for run in compare(methods, (seed,), precision=precision, **self.settings) if left else ():
                        append_record(self.records / f"{experiment}.jsonl", run.record)
                        name = run.record["config"]["method"]
                        log.info("%s: %s, seed %d: %.2f", experiment, name, seed, run.accuracy)
            except Timeout:
                continue

    @property
    def settings(self) -> dict[str, Any]:
        """Of every run, beside its method and seed."""
        networks = {"teacher": "wrn_16_2", "teacher_weights": TEACHER, "student": "resnet8"}
        return {
            **networks,
            "data": self.data,
            "out": self.out,
            "progress": False,
            **RECIPE,
        }

    def carry_out(self, experiment: str, row: Wanted, precision: str) -> None:
        options = {"method_options": row.options, "precision": precision}
        run = distill(method=row.method, seed=row.seed, **options, **self.settings)
        append_record(self.records / f"{experiment}.jsonl", run.record)
        log.info("%s: %s, seed %d, %s: %.2f", experiment, *row, run.accuracy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "experiment", choices=("standardization", "labels", "constants", "direction", "features")
    )
    parser.add_argument("records", type=Path, help="folder of the records")
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"), help="folder of the runs themselves")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    log.setLevel(logging.INFO)
    arguments.records.mkdir(parents=True, exist_ok=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    Evidence(arguments.records, arguments.out).run(arguments.experiment)


if __name__ == "__main__":
    main()
