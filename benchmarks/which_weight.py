"""The runs that tell temperature, standardization and weight apart, beside the study of chapter 11.

    python benchmarks/which_weight.py standardization book/records/evidence
    python benchmarks/which_weight.py labels book/records/evidence
    python benchmarks/which_weight.py more_labels book/records/evidence
    python benchmarks/which_weight.py grid book/records/evidence
    python benchmarks/which_weight.py chosen book/records/evidence
    python benchmarks/which_weight.py constants book/records/evidence
    python benchmarks/which_weight.py direction book/records/evidence
    python benchmarks/which_weight.py twin book/records/evidence
    python benchmarks/which_weight.py features book/records/evidence

Same data, networks and recipe as that study. Its number format is bf16, in which a CPU without instructions for it takes
ten times (the student) to thirty times (the teacher) as long, so that `standardization` and `constants`, made on several
machines, are in fp32: what is compared has one format. Each experiment has a file of records, a run a line, and a plan
beside it that says how every setting was computed. Whatever stands there, or in the study's folder in the same format, is
not repeated: stop the script, start it again, or start it twice.

standardization: {raw, standardized} × the same temperature in units of the teacher's spread × seeds, each weighted by
    the length of its gradient at the start (as the study's matched weights are).
labels: methods whose published weight of the labels is 1, at 1 and at 0.1, at published and matched λ_KD.
more_labels: the same for four whose published weight of the labels is 0.1; added after the first had been seen.
grid: five multiples of the matched λ_KD, three seeds each, for eight methods.
chosen: of each method the weight that is best by the mean of those seeds on validation images, on five seeds more. It waits
    for `grid` to be whole.
constants: schedules and learned rules beside the constants that they pass through.
direction: KL, reverse KL and the Jensen-Shannon divergence × τ, each weighted by the length of its gradient at the start:
    does temperature help KL and only rescale its reverse (arXiv 2606.00306)?
twin: the maximum logit's own level as a constant: standardized distillation at the mean temperature of the study's runs of
    `zkd+mlt`, at the published λ_KD and at that of equal gradient norm, each beside labels of 0.1 and of 1. The rule at these
    weights is of the study and of `more_labels`.
features: the methods on features at their published weights, three seeds, with the two releases as they are. Their
    teacher runs along, one for all methods of a seed.

They need CIFAR-100 (ADAKD_DATA). A run takes one core of a CPU a few minutes.
"""

from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import evidence
from evidence import SEEDS, Wanted, log, three_digits

from adakd import compare, create_method, distill, get_method, get_recipe, train_teacher
from adakd.data import load_data
from adakd.study import append_record, gradient_norm, read_records
from adakd.training import Run, save_weights, write_json
from adakd.training.record import key_of

STUDY = Path("book/records/study")
TEACHER = Path("book/records/teachers/wrn_16_2-cifar100-quick-seed0.safetensors")
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
MORE_LABELS = ("kd", "kd+mlt", "zkd", "zkd+mlt")
GRID_OF = ("kd", "kd+mlt", "zkd", "zkd+mlt", "zkd+mlt-teacher", "dist", "ttm", "correlation")
MULTIPLES = (0.5, 1, 2, 4, 8)
CHOOSING, TESTING = (0, 1, 2), (3, 4, 5, 6, 7)  # seeds
FEATURES = (
    *("fitnet", "at", "rkd", "sp", "pkt", "nst", "crd"),
    *("reviewkd", "reviewkd-released", "simkd", "catkd", "catkd-released"),
)
REFERENCE = "zkd"


class Evidence(evidence.Evidence):
    """On CIFAR-100, with the study's teacher and student."""

    teacher_name, student_name, weights = "wrn_16_2", "resnet8", TEACHER
    batches = 8  # as in the study
    recipe_changes: ClassVar[dict[str, Any]] = {
        "train_images": 3000,
        "validation_images": 5000,
        "eval_every": 20,
    }

    @cached_property
    def data(self):
        return load_data("cifar100", official=False)

    @cached_property
    def recipe(self):
        return get_recipe("quick", "student", **self.recipe_changes)

    @cached_property
    def spread(self) -> float:
        """Mean standard deviation of the teacher's rows of logits."""
        return self.start[1].double().std(dim=1, correction=0).mean().item()

    @cached_property
    def pull(self) -> float:
        """Length of the reference's gradient at its published weight."""
        return gradient_norm(create_method(REFERENCE), *self.start) * get_method(REFERENCE).kd_weight

    def matched(self, method: str, **options: float) -> float:
        return three_digits(self.pull / gradient_norm(create_method(method, **options), *self.start))

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

    def labels(self, methods: tuple[str, ...] = LABELS) -> tuple[list[Wanted], dict[str, Any]]:
        settings = [
            {"method": method, "weighting": weighting, "kd_weight": weight, "ce_weight": ce_weight}
            for method in methods
            for weighting, weight in (
                ("published", get_method(method).kd_weight),
                ("matched", self.matched(method)),
            )
            for ce_weight in (1.0, 0.1)
        ]
        return [self.at(row, seed) for seed in SEEDS for row in settings], {"settings": settings}

    def more_labels(self) -> tuple[list[Wanted], dict[str, Any]]:
        return self.labels(MORE_LABELS)

    def grid(self) -> tuple[list[Wanted], dict[str, Any]]:
        settings = [
            {
                "method": method,
                "multiple": multiple,
                "kd_weight": three_digits(multiple * self.matched(method)),
                "ce_weight": get_method(REFERENCE).ce_weight,
            }
            for method in GRID_OF
            for multiple in MULTIPLES
        ]
        rows = [self.at(row, seed) for seed in CHOOSING for row in settings]
        return rows, {"seeds": list(CHOOSING), "settings": settings}

    def at(self, row: dict[str, Any], seed: int) -> Wanted:
        return self.wanted(row["method"], seed, ce_weight=row["ce_weight"], kd_weight=row["kd_weight"])

    def chosen(self) -> tuple[list[Wanted], dict[str, Any]]:
        validation = {
            (config["method"], config["seed"], key_of(config["method_options"])): record["result"]["validation"]
            for record in self.known("chosen")
            for config in [record["config"]]
        }
        best: dict[str, dict[str, Any]] = {}
        for row in self.grid()[1]["settings"]:
            runs = [self.at(row, seed) for seed in CHOOSING]
            values = [validation.get((run.method, run.seed, key_of(run.options))) for run in runs]
            if None in values:
                raise SystemExit(f"grid: {row} is not whole; run that first")
            mean = fmean(values)
            if row["method"] not in best or mean > best[row["method"]]["validation"]:
                best[row["method"]] = {**row, "validation": mean}
        settings = list(best.values())
        rows = [self.at(row, seed) for seed in TESTING for row in settings]
        return rows, {"seeds": list(TESTING), "settings": settings}

    def constants(self) -> tuple[list[Wanted], dict[str, Any]]:
        """DTS runs from 4 down to 2; CTKD ends at 3.3 (published weight) or on its upper bound (matched). Both run along."""
        schedules = [("dts", {}), ("ctkd", {})]
        constants = [("kd", {"tau": tau}) for tau in (2.0, 2.5, 3.0, 3.3, 4.0, 21.0)]
        settings = [
            {"method": method, **options, "weighting": weighting, "kd_weight": weight}
            for method, options in constants + schedules
            for weighting, weight in (
                ("published", get_method(method).kd_weight),
                ("matched", self.matched(method, **options)),
            )
        ]
        rows = [
            self.wanted(
                row["method"], seed, **{name: row[name] for name in ("tau", "kd_weight") if name in row}
            )
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

    def twin(self) -> tuple[list[Wanted], dict[str, Any]]:
        """What the rule's level does, without its choosing by the image."""
        rule = "zkd+mlt"
        levels = [
            row["temperature"]
            for record in self.known("twin")
            if record["config"]["method"] == rule and record["config"]["method_options"] == {}
            for row in record["history"]
        ]
        tau = three_digits(fmean(levels))
        settings = [
            {"method": "zkd", "tau": tau, "weighting": weighting, "kd_weight": weight, "ce_weight": labels}
            for weighting, weight in (
                ("published", get_method(rule).kd_weight),
                ("matched", self.matched("zkd", tau=tau)),
            )
            for labels in (0.1, 1.0)
        ]
        names = ("tau", "kd_weight", "ce_weight")
        rows = [
            self.wanted("zkd", seed, **{name: row[name] for name in names})
            for seed in SEEDS
            for row in settings
        ]
        return rows, {"tau": tau, "settings": settings}

    def features(self) -> tuple[list[Wanted], dict[str, Any]]:
        settings = [{"method": name, "kd_weight": get_method(name).kd_weight} for name in FEATURES]
        rows = [self.wanted(name, seed) for seed in SEEDS[:3] for name in FEATURES]
        return rows, {"seeds": list(SEEDS[:3]), "settings": settings}

    def wanted(self, method: str, seed: int, **options: float) -> Wanted:
        """As the study writes it: what is the row's own is left out, and warm-ups are in proportion to the run."""
        row = get_method(method)
        if row.warmup_epochs:
            options["warmup_epochs"] = max(1, round(row.warmup_epochs * 40 / 240))
        own = {name: getattr(row, name, row.rule_options.get(name)) for name in options}
        return Wanted(method, seed, {name: value for name, value in options.items() if own[name] != value})

    # ---- carrying them out ----

    def train_teacher(self, **recipe_changes: Any) -> Run:
        """Trained on all images; its record is kept among the others, and its weights, as fp16, where students look for them."""
        run = train_teacher(
            self.teacher_name,
            self.data,
            "quick",
            out=self.out,
            precision=self.precision("teacher"),
            progress=False,
            **recipe_changes,
        )
        log.info("teacher: %s", run.record["result"])
        write_json(self.teacher_record, run.record)
        save_weights(run.model().half(), self.weights)
        return run

    @property
    def teacher_record(self) -> Path:
        return self.records / f"{self.teacher_name}-teacher-seed0.json"

    def precision(self, experiment: str) -> str:
        return "fp32" if experiment in ("standardization", "constants") else "bf16"

    def known(self, experiment: str) -> Iterator[dict[str, Any]]:
        """Records of this student on these data in its number format."""
        same = {"model": self.student_name, "precision": self.precision(experiment)}
        for record in read_records(*(path for path in (self.records, STUDY) if path.is_dir())):
            same_data = record["kind"] == "student" and record["data"]["sha256"] == self.data.checksum
            if same_data and {name: record["config"][name] for name in same} == same:
                yield record

    def done(self, experiment: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
        for record in self.known(experiment):
            config = record["config"]
            yield config["method"], config["seed"], config["method_options"]

    def about(self, experiment: str, plan: dict[str, Any]) -> dict[str, Any]:
        return {"precision": self.precision(experiment), "pull": self.pull}

    def run(self, experiment: str) -> None:
        if experiment == "features":
            self.in_lockstep(experiment)
        else:
            super().run(experiment)

    def in_lockstep(self, experiment: str) -> None:
        """What reads the teacher's features, a seed at a time: all its methods share one forward of the teacher a step."""
        rows = self.planned(experiment)
        for seed in dict.fromkeys(row.seed for row in rows):
            wanted = [row for row in rows if row.seed == seed]
            lock = self.out / f"{experiment}-{seed}.lock"
            evidence.unless_claimed(lock, partial(self.of_seed, experiment, seed, wanted))

    def of_seed(self, experiment: str, seed: int, wanted: list[Wanted]) -> None:
        done = list(self.done(experiment))
        rows = [row for row in wanted if tuple(row) not in done]
        if not rows:
            return
        methods, precision = [(row.method, row.options) for row in rows], self.precision(experiment)
        for run in compare(methods, (seed,), precision=precision, **self.settings):
            append_record(self.records / f"{experiment}.jsonl", run.record)
            log.info("%s: %s, seed %d: %.2f", experiment, run.record["config"]["method"], seed, run.accuracy)

    @property
    def settings(self) -> dict[str, Any]:
        """Of every run, beside its method and seed."""
        return {
            "teacher": self.teacher_name,
            "teacher_weights": self.weights,
            "student": self.student_name,
            "data": self.data,
            "out": self.out,
            "progress": False,
            "recipe": "quick",
            **self.recipe_changes,
        }

    def carry_out(self, experiment: str, row: Wanted) -> None:
        options = {"method_options": row.options, "precision": self.precision(experiment)}
        run = distill(method=row.method, seed=row.seed, **options, **self.settings)
        append_record(self.records / f"{experiment}.jsonl", run.record)
        log.info("%s: %s, seed %d, %s: %.2f", experiment, *row, run.accuracy)


if __name__ == "__main__":
    experiments = (
        "standardization",
        "labels",
        "more_labels",
        "grid",
        "chosen",
        "constants",
        "direction",
        "twin",
        "features",
    )
    evidence.run_from_command_line(Evidence, __doc__, experiments, "runs/evidence")
