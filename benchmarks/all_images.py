"""All images: does the order that chapter 11 finds on few images hold where the students are good?

    OMP_NUM_THREADS=2 python benchmarks/all_images.py teacher book/records/all_images
    python benchmarks/all_images.py students book/records/all_images

CIFAR-100, a wrn_16_2 of 60 epochs, and of it resnet20 students on all 50 000 images for 30 epochs, by five methods with three
seeds: the labels alone, `kd`, `zkd` and `zkd+mlt` at weights of equal gradient norm, and `dist` as published, the best of
chapter 11. Whatever stands in the folder is not repeated: stop the script, start it again, or start it twice.

They need CIFAR-100 (ADAKD_DATA), and are long: three million images for the teacher and one and a half for each student, of
which a core of a CPU with AMX sees some 500 and 800 a second.
"""

from pathlib import Path
from typing import Any, ClassVar

import evidence
import which_weight
from evidence import Wanted

from adakd import get_method

MATCHED, PUBLISHED = ("kd", "zkd", "zkd+mlt"), ("ce", "dist")
SEEDS = (0, 1, 2)
EPOCHS = 60  # of the teacher


class Evidence(which_weight.Evidence):
    """On all images of CIFAR-100, with a better teacher and a larger student."""

    student_name = "resnet20"
    weights = Path("book/records/teachers/wrn_16_2-cifar100-quick60-seed0.safetensors")
    recipe_changes: ClassVar[dict[str, Any]] = {"epochs": 30, "train_images": "all", "eval_every": 5}

    def precision(self, experiment: str) -> str:
        return "bf16"

    def teacher(self) -> None:
        if not (self.teacher_record.is_file() and self.weights.is_file()):
            self.train_teacher(epochs=EPOCHS)

    def students(self) -> tuple[list[Wanted], dict[str, Any]]:
        labels = get_method(which_weight.REFERENCE).ce_weight
        settings: list[dict[str, Any]] = []
        for method in PUBLISHED:
            row = get_method(method)
            settings.append({"method": method, "ce_weight": row.ce_weight, "kd_weight": row.kd_weight})
        for method in MATCHED:
            weight = self.matched(method)
            settings.append({"method": method, "ce_weight": labels, "kd_weight": weight})
        rows = [self.at(row, seed) for seed in SEEDS for row in settings]
        return rows, {"seeds": list(SEEDS), "settings": settings}


if __name__ == "__main__":
    evidence.run_from_command_line(Evidence, __doc__, ("teacher", "students"), "runs/all_images")
