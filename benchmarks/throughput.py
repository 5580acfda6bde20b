"""Training throughput beside the literature's loop, in turns on one machine: `python benchmarks/throughput.py`.

Prints a table and writes a record. On a shared machine only the ratios mean anything.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from literature import loader_of, train

from adakd import create_model, fit
from adakd.bench import synthetic_data
from adakd.methods import create_method
from adakd.training import Recipe, choose_precision, student_views, write_json
from adakd.training.cache import open_cache
from adakd.training.record import environment

CPU = torch.device("cpu")
BATCH = 64


def literature(student: str, teacher: str, data, images: int, workers: int) -> float:
    """Images a second."""
    model, teaching = (create_model(name, data.num_classes) for name in (student, teacher))
    start, last = [], 0.0
    loader = loader_of(data, BATCH, workers, images)
    for _ in train(model, teaching, loader, clock=lambda: start.append(now())):
        last = now()  # the end of the workers is not counted, nor was their start
    return images / (last - start[0])


def now() -> float:
    return time.perf_counter()


class Ours:
    """adakd's loop on the same number of images: an epoch of `fit`, with its checkpoint."""

    def __init__(
        self, student: str, teacher: str, data, images: int, precision: str, cached: bool, folder: Path
    ):
        self.student, self.data, self.folder = student, data, folder
        self.teacher = create_model(teacher, data.num_classes).eval().requires_grad_(False)
        self.recipe = Recipe("throughput", epochs=1, batch_size=BATCH, train_images=images, eval_every=10**9)
        size = sum(p.numel() for p in create_model(student, data.num_classes).parameters())
        self.precision = choose_precision(precision, CPU, size)
        self.answers = self.teacher
        if cached:
            views = student_views(data, self.recipe, seed=0)
            who = {"model": teacher, "sha256": precision}
            self.answers = open_cache(folder, data, who, self.precision, views.count)
            self.answers.fill(
                self.teacher.to(memory_format=torch.channels_last), views, views.visited(1), self.precision
            )

    def __call__(self) -> float:
        model = create_model(self.student, self.data.num_classes)
        checkpoint = self.folder / "checkpoint.pt"
        checkpoint.unlink(missing_ok=True)
        begin = now()
        fit(
            model,
            self.data,
            self.recipe,
            create_method("kd"),
            seed=0,
            checkpoint=checkpoint,
            config={},
            precision=self.precision,
            teacher=self.answers,
            progress=False,
        )
        return self.recipe.train_images / (now() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--pairs", nargs="+", default=["resnet32x4:resnet8x4", "resnet20:resnet8"], metavar="T:S"
    )
    parser.add_argument("--images", type=int, default=1280, help="in a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    data = synthetic_data(images=arguments.images, test_images=1)  # `fit` measures after an epoch: of one image
    rows = []
    for pair in arguments.pairs:
        teacher, student = pair.split(":")
        with tempfile.TemporaryDirectory() as folder:
            contenders = {
                "literature": lambda: literature(student, teacher, data, arguments.images, arguments.workers),  # noqa: B023
            }
            for cached in (False, True):
                for precision in ("fp32", "auto"):
                    name = f"{'cached' if cached else 'live'} {precision}"
                    contenders[name] = Ours(
                        student, teacher, data, arguments.images, precision, cached, Path(folder)
                    )
            speeds = {name: [] for name in contenders}
            for turn in range(arguments.rounds + 1):  # the first warms up
                for name, contender in contenders.items():
                    speed = contender()
                    if turn:
                        speeds[name].append(speed)
                    print(
                        f"\r{pair} {turn}/{arguments.rounds} {name:12} {speed:8.0f} images/s   ",
                        end="",
                        file=sys.stderr,
                    )
        print(file=sys.stderr)
        print(f"{teacher} → {student}")
        for name, values in speeds.items():
            ratios = [one / base for one, base in zip(values, speeds["literature"], strict=True)]
            rows.append(
                {
                    "teacher": teacher,
                    "student": student,
                    "loop": name,
                    "precision": contenders[name].precision.name if name != "literature" else "fp32",
                    "images_per_second": statistics.median(values),
                    "ratio": {
                        "median": statistics.median(ratios),
                        "lowest": min(ratios),
                        "highest": max(ratios),
                    },
                }
            )
            print(
                f"  {name:12} {rows[-1]['precision']:5} {statistics.median(ratios):6.2f} × "
                f"({min(ratios):.2f} to {max(ratios):.2f}), {statistics.median(values):.0f} images/s"
            )
    if arguments.json:
        record = {
            "schema": 1,
            "kind": "bench-throughput",
            "status": "complete",
            "config": vars(arguments) | {"batch_size": BATCH},
        }
        record["config"].pop("json")
        write_json(Path(arguments.json), record | environment(CPU) | {"rows": rows})


if __name__ == "__main__":
    main()
