"""Ten classes: what chapter 11 asks on CIFAR-100, asked on CIFAR-10 with the same networks and recipe.

    python benchmarks/ten_classes.py teacher book/records/cifar10
    python benchmarks/ten_classes.py students book/records/cifar10

With K classes no standardized logit exceeds √(K − 1), which is 3 here, so that no temperature of the maximum logit exceeds
4.098. Whatever stands in the folder is not repeated: stop the script, start it again, or start it twice.

teacher: its record and its temperatures on all images, and its weights as fp16 beside those of the study's teacher.
students: five methods at published and at matched weights, five seeds, and at matched ones `zkd` at the mean temperature of the
    maximum logit on the teacher's training images. Matched: the gradient at the start is as long as that of `zkd` as
    published, and the labels' weight is that of `zkd`, as in the study.

They need CIFAR-10 (ADAKD_DATA). The number format is bf16, as that of the study.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import evidence
import which_weight
from evidence import SEEDS, Wanted, three_digits

from adakd import get_method
from adakd.data import load_data
from adakd.temperatures import measure_temperatures
from adakd.training import write_json

METHODS = ("ce", "kd", "kd+mlt", "zkd", "zkd+mlt")
TEMPERATURES = Path("book/records/temperatures/cifar10-wrn_16_2.json")


class Evidence(which_weight.Evidence):
    """On CIFAR-10, with the study's networks."""

    weights = Path("book/records/teachers/wrn_16_2-cifar10-quick-seed0.safetensors")

    @cached_property
    def data(self):
        return load_data("cifar10", official=False)

    def precision(self, experiment: str) -> str:
        return "bf16"

    def teacher(self) -> None:
        """Trains it, where one of the three files is missing; a run that is done is only opened."""
        if not all(path.is_file() for path in (self.teacher_record, TEMPERATURES, self.weights)):
            run = self.train_teacher()
            write_json(TEMPERATURES, measure_temperatures(run, data=self.data, progress=False))

    @property
    def mean_temperature(self) -> float:
        tau = json.loads(TEMPERATURES.read_text())["result"]["train"]["tau"]["teacher"]["mean"]
        return three_digits(tau)

    def students(self) -> tuple[list[Wanted], dict[str, Any]]:
        labels = get_method(which_weight.REFERENCE).ce_weight
        settings: list[dict[str, Any]] = []
        for method, options in (*((name, {}) for name in METHODS), ("zkd", {"tau": self.mean_temperature})):
            row = get_method(method)
            published = {"weighting": "published", "ce_weight": row.ce_weight, "kd_weight": row.kd_weight}
            if not options:
                settings.append({"method": method, **published})
            if row.needs_teacher:
                weight = self.matched(method, **options)
                matched = {"weighting": "matched", "ce_weight": labels, "kd_weight": weight}
                settings.append({"method": method, **options, **matched})
        names = ("tau", "ce_weight", "kd_weight")
        rows = [
            self.wanted(row["method"], seed, **{name: row[name] for name in names if name in row})
            for seed in SEEDS
            for row in settings
        ]
        return list({str(row): row for row in rows}.values()), {"settings": settings}  # zkd is the reference


if __name__ == "__main__":
    evidence.run_from_command_line(Evidence, __doc__, ("teacher", "students"), "runs/cifar10")
