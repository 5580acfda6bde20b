"""The runs of chapter 14, "When it helps": `python benchmarks/when_it_helps.py --out runs/when book/records/when`.

Small students of the embedded gratings, on a transfer set of 100 images that is small enough to tell methods apart.
Each question has a file of records, a run a line; two more files hold what is measured on trained networks, and one
the usual teacher's weights. Whatever stands there already is not repeated, so the script can be stopped at any moment and
started again.
"""

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from adakd import KL, MaxLogit, distill, get_recipe, pearson, standardize, train_teacher
from adakd.data.gratings import load_gratings
from adakd.study import append_record, read_records
from adakd.temperatures import logits_of, summarize_temperatures
from adakd.training import Run, save_weights, write_json
from adakd.training.files import sha256_of
from adakd.training.record import environment

log = logging.getLogger("when_it_helps")

SEEDS = (0, 1, 2)
MORE_SEEDS = (0, 1, 2, 3, 4)  # where differences are small
STUDENT = {
    "recipe": "demo",
    "train_images": 100,
    "epochs": 60,
    "batch_size": 20,
    "eval_every": 60,
    "validation_images": 1000,  # weights are chosen on these, accuracies are read off the test images
}
TABLE_4 = (0.9, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0)  # the weights of 2503.09030
WEIGHTS = {
    "zkd+mlt": (*TABLE_4, 54.0, 162.0, 486.0),
    "zkd": (9.0, 18.0, 54.0, 162.0),
    "kd": (0.3, 0.9, 3.0, 9.0),
}
# What the other questions are asked at: weights on the plateau that the validation images show. Of standardized
# methods the last of Table 4, one weight for both, so that they differ in nothing but the temperature.
PLATEAU = {"zkd+mlt": 18.0, "zkd": 18.0, "kd": 0.9}
CLASSES = (4, 30)
SCALES = (0.25, 4.0)  # powers of 2 are exact in floating point
SMOOTHING = (0.1, 0.4)
EPOCHS = (2, 32)  # of teachers; the usual one has 8
BINS = 15
GROUPS = 4


@dataclass(frozen=True)
class Teacher:
    """A network to learn from, by how it came about."""

    name: str
    classes: int
    how: dict
    weights: Path
    run: Run | None = None
    """None where the weights were changed by hand."""

    @property
    def source(self) -> dict:
        """What `distill` is told."""
        if self.run is not None:
            return {"teacher": self.run}
        return {"teacher": "resnet14", "teacher_weights": self.weights}


class Questions:
    """All runs, by question."""

    def __init__(self, records: Path, out: Path):
        self.records, self.out = records, out

    # ---- data and teachers ----

    @staticmethod
    @cache
    def data(classes: int = 10):
        if classes == 10:
            return load_gratings()
        return load_gratings(400 * classes, 200 * classes, classes=classes)

    @cached_property
    def usual(self) -> Teacher:
        return self.trained("8 epochs", 8)

    def trained(self, name: str, epochs: int, classes: int = 10) -> Teacher:
        run = train_teacher(
            "resnet14",
            self.data(classes),
            "demo",
            out=self.out,
            epochs=epochs,
            eval_every=epochs,
            progress=False,
        )
        self.keep("teachers", run)
        return Teacher(name, classes, {"epochs": epochs}, run.folder / "weights.safetensors", run)

    def changed(self, name: str, how: dict, change: Callable[[Tensor], Tensor]) -> Teacher:
        """The usual teacher with another last layer."""
        model = self.usual.run.model()
        with torch.no_grad():
            for parameter in model.fc.parameters():
                parameter.copy_(change(parameter))
        path = self.out / f"{name.replace(' ', '-')}.safetensors"
        save_weights(model, path)
        return Teacher(name, 10, how, path)

    def scaled(self, by: float) -> Teacher:
        return self.changed(f"times {by:g}", {"logits_times": by}, lambda weight: weight * by)

    def smoothed(self, epsilon: float) -> Teacher:
        """Trained on smoothed labels, which is distillation at τ = 1 from a teacher who knows nothing."""
        nothing = self.changed("nothing", {}, torch.zeros_like)
        run = distill(
            student="resnet14",
            method="kd",
            data=self.data(),
            recipe=get_recipe("demo", "teacher", eval_every=8),
            method_options={"tau": 1.0, "ce_weight": 1 - epsilon, "kd_weight": epsilon},
            out=self.out,
            progress=False,
            **nothing.source,
        )
        self.keep("teachers", run)
        how = {"epochs": 8, "label_smoothing": epsilon}
        return Teacher(f"smoothing {epsilon:g}", 10, how, run.folder / "weights.safetensors", run)

    @cached_property
    def teachers(self) -> list[Teacher]:
        return [
            *(self.trained(f"{epochs} epochs", epochs) for epochs in EPOCHS),
            self.usual,
            *map(self.smoothed, SMOOTHING),
            *map(self.scaled, SCALES),
            *(self.trained(f"{classes} classes", 8, classes) for classes in CLASSES),
        ]

    # ---- runs ----

    def keep(self, question: str, run: Run) -> None:
        """Once, though several questions may ask for it."""
        known = read_records(self.records) if self.records.is_dir() else []
        if run.record["config"] not in [record["config"] for record in known]:
            append_record(self.records / f"{question}.jsonl", run.record)

    def student(self, question: str, teacher: Teacher, method: str, seed: int, **options: float) -> Run:
        data = self.data(teacher.classes)
        images = max(100, 10 * teacher.classes)
        settings = {**STUDENT, "train_images": images, "method_options": options}
        run = distill(
            student="resnet8x0.5",
            method=method,
            data=data,
            seed=seed,
            out=self.out,
            progress=False,
            **settings,
            **teacher.source,
        )
        self.keep(question, run)
        log.info(
            "%s: %s from %s, seed %d, %s: %.2f", question, method, teacher.name, seed, options, run.accuracy
        )
        return run

    def weights(self) -> None:
        """λ of three methods, and of two weights of the labels; and the labels alone."""
        for seed in SEEDS:
            self.student("weights", self.usual, "ce", seed)
            for method, weights in WEIGHTS.items():
                for weight in weights:
                    self.student("weights", self.usual, method, seed, kd_weight=weight)
            for weight in (9.0, 18.0):
                self.student("weights", self.usual, "zkd+mlt", seed, kd_weight=weight, ce_weight=1.0)
        for method in WEIGHTS:
            for seed in MORE_SEEDS:
                self.student("weights", self.usual, method, seed, kd_weight=PLATEAU[method])

    def peak(self) -> None:
        """Teachers of other heights: the same row of logits, multiplied."""
        standardized, raw = PLATEAU["zkd+mlt"], PLATEAU["kd"]
        for scale in SCALES:
            teacher = self.scaled(scale)
            self.student("peak", teacher, "zkd+mlt", 0, kd_weight=standardized)
            for seed in SEEDS:
                self.student("peak", teacher, "kd", seed, kd_weight=raw)
                # The usual teacher's soft labels; then also its loss, for a student as much higher as the teacher.
                self.student("peak", teacher, "kd", seed, kd_weight=raw, tau=4.0 * scale)
                self.student("peak", teacher, "kd", seed, kd_weight=raw / scale**2, tau=4.0 * scale)

    def classes(self) -> None:
        """The adaptive temperature beside one constant, its own mean, for several numbers of classes."""
        for classes in (10, *CLASSES):
            teacher = self.usual if classes == 10 else self.trained(f"{classes} classes", 8, classes)
            # The gradient of 1 - ρ falls like 1/√K, see chapter 8.
            weight = round(PLATEAU["zkd+mlt"] * (classes / 10) ** 0.5, 1)
            students = [
                self.student("classes", teacher, "zkd+mlt", seed, kd_weight=weight) for seed in MORE_SEEDS
            ]
            mean = round(fmean(row["temperature"] for row in students[0].history), 2)
            for seed in MORE_SEEDS:
                self.student("classes", teacher, "zkd", seed, kd_weight=weight, tau=mean)

    def calibration(self) -> None:
        """Teachers trained for more and fewer epochs, and on smoothed labels."""
        for teacher in self.teachers:
            if "logits_times" not in teacher.how and teacher.classes == 10:
                for method, weight in PLATEAU.items():
                    for seed in SEEDS:
                        self.student("calibration", teacher, method, seed, kd_weight=weight)
        for weight in (18.0, 54.0):  # where one of two temperatures might lose, not for want of weight
            for method in ("zkd", "zkd+mlt"):
                for seed in MORE_SEEDS:
                    self.student("calibration", self.smoothed(0.1), method, seed, kd_weight=weight)

    # ---- what is measured on trained networks ----

    def describe_spread(self) -> None:
        """How large a student's logits have become under each weight: what its pull is divided by."""
        rows = []
        for method, weights in WEIGHTS.items():
            for weight in weights:
                for seed in SEEDS:
                    run = self.student("weights", self.usual, method, seed, kd_weight=weight)
                    student = logits_of(run.model(), self.data()).double()
                    rows.append(
                        {
                            "method": method,
                            "kd_weight": weight,
                            "seed": seed,
                            "weights_sha256": run.record["weights_sha256"],
                            "std": student.std(dim=1, correction=0).median().item(),
                            "rho": pearson(student, self.logits(self.usual).double()).mean().item(),
                        }
                    )
        self.write("spread", {"seeds": list(SEEDS)}, {"students": rows})

    def logits(self, teacher: Teacher) -> Tensor:
        """Of the test images, (N, K)."""
        model = (teacher.run or self.usual.run).model()
        if teacher.run is None:
            factor = teacher.how["logits_times"]
            return factor * logits_of(model, self.data(teacher.classes))
        return logits_of(model, self.data(teacher.classes))

    def describe_teachers(self) -> None:
        rows = []
        usual = self.logits(self.usual)
        for teacher in self.teachers:
            data = self.data(teacher.classes)
            logits = self.logits(teacher).double()
            summary = summarize_temperatures(logits, data.test.labels)
            kept = ("accuracy", "max_z", "min_z", "second_gap", "std", "entropy")
            rows.append(
                {
                    "name": teacher.name,
                    "how": teacher.how,
                    "sha256": sha256_of(teacher.weights),
                    "data": data.describe(),
                    **calibration(logits, data.test.labels),
                    **{name: summary[name] for name in kept},
                    "tau": summary["tau"]["teacher"],
                    "rho_to_usual": pearson(logits, usual.double()).mean().item()
                    if teacher.classes == 10
                    else None,
                }
            )
        self.write("teachers", {"bins": BINS}, {"teachers": rows})

    def describe_ties(self) -> None:
        """Students by how near the teacher's two highest logits are: quarter by quarter of the test images."""
        data, teacher = self.data(), self.logits(self.usual).double()
        z = standardize(teacher)
        two = z.topk(2, dim=1)
        gap = two.values[:, 0] - two.values[:, 1]
        groups = gap.argsort(stable=True).chunk(GROUPS)
        rows = []
        for method in WEIGHTS:
            for seed in MORE_SEEDS:
                run = self.student("weights", self.usual, method, seed, kd_weight=PLATEAU[method])
                student = logits_of(run.model(), data).double()
                z_s = standardize(student)
                loss = KL()(z_s, z, None, MaxLogit()(z_s, z))
                ratio = loss / (1 - pearson(student, teacher))
                answers = student.argmax(1)
                for number, group in enumerate(groups):
                    rows.append(
                        {
                            "method": method,
                            "seed": seed,
                            "weights_sha256": run.record["weights_sha256"],
                            "group": number,
                            "gap": gap[group].mean().item(),
                            "accuracy": share(answers[group] == data.test.labels[group]),
                            "teacher": share(two.indices[group, 0] == data.test.labels[group]),
                            "same": share(answers[group] == two.indices[group, 0]),
                            "one_of_two": share((answers[group, None] == two.indices[group]).any(1)),
                            "rho": pearson(student, teacher)[group].mean().item(),
                            "ratio": {"mean": ratio[group].mean().item(), "most": ratio[group].max().item()},
                        }
                    )
        self.write("ties", {"groups": GROUPS, "seeds": list(MORE_SEEDS)}, {"groups": rows})

    def keep_teacher(self) -> None:
        """The usual teacher's weights, so that a reader can ask it without training it."""
        path = self.records / "resnet14-gratings-demo-seed0.safetensors"
        if not path.is_file():
            save_weights(self.usual.run.model(), path, torch.float16)

    def write(self, kind: str, config: dict, result: dict) -> None:
        head = {"schema": 1, "kind": kind, "status": "complete", "config": config}
        write_json(self.records / f"{kind}.json", {**head, **environment(torch.device("cpu")), **result})


def share(of: Tensor) -> float:
    """In percent."""
    return 100 * of.double().mean().item()


def calibration(logits: Tensor, labels: Tensor) -> dict:
    """Expected calibration error (Guo et al. 2017) in percent with its bins, and the cross entropy in nats."""
    confidence, answers = logits.softmax(1).max(1)
    right = (answers == labels).double()
    which = (confidence * BINS).long().clamp(max=BINS - 1)
    bins = []
    for number in which.unique().tolist():
        inside = which == number
        bins.append(
            {
                "images": int(inside.sum()),
                "confidence": confidence[inside].mean().item(),
                "right": right[inside].mean().item(),
            }
        )
    gaps = (row["images"] * abs(row["confidence"] - row["right"]) for row in bins)
    return {
        "ece": 100 * sum(gaps) / len(labels),
        "cross_entropy": torch.nn.functional.cross_entropy(logits, labels).item(),
        "bins": bins,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path, help="folder of the records")
    parser.add_argument("--out", type=Path, default=Path("runs/when"), help="folder of the runs themselves")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    questions = Questions(arguments.records, arguments.out)
    steps: list[Callable[[], None]] = [
        questions.weights,
        questions.classes,
        questions.peak,
        questions.calibration,
        questions.keep_teacher,
        questions.describe_teachers,
        questions.describe_ties,
        questions.describe_spread,
    ]
    for step in steps:
        step()


if __name__ == "__main__":
    main()
