"""What 20 seeds of every setting of the playground's gallery come to: `python tests/explore/gallery.py` writes it again.

It takes minutes, so the tests hold the texts to the file, and train a few of the seeds anew to hold the file to the code
(ADAKD_EVERY_SEED=1: all of them).
"""

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from adakd.explore import Playground
from adakd.explore.plane import Lesson
from adakd.explore.playground import LENGTH

__all__ = ["FILE", "SEEDS", "SETTINGS", "key", "train"]

FILE = Path(__file__).with_suffix(".json")
SEEDS = range(20)
# Questions, and to each its state as a reader may change it.
SETTINGS = (
    ("40 points", {}),
    ("40 points", {"transfer": 1000}),
    ("two peaks", {}),
    ("three classes", {}),
    ("τ to infinity", {}),
    ("τ to infinity", {"tau_a": 1.0}),
    ("a learned τ", {}),
    ("a learned τ", {"transfer": 1000}),
    ("a learned τ", {"b": "zctkd"}),
    ("λ: 0.9 or 9", {}),
)
_OF_THE_ROW = ("accuracy_a", "accuracy_b", "kl_a", "distance_a", "tau_b")


def key(name, changes):
    return ", ".join([name, *(f"{option}={value}" for option, value in changes.items())])


def train(name, changes, seed):
    """What a lesson comes to after 600 steps, as far as the texts speak of it."""
    lesson = Lesson(Playground.ask(name, seed=seed, **changes).setting)
    row = lesson.train(LENGTH, every=LENGTH)[-1]
    found = {name: row[name] for name in _OF_THE_ROW if row.get(name) is not None}
    if name == "two peaks":
        tau = lesson.watched_temperatures("b").student.flatten()
        paired = lesson.labels[: len(tau)] < 2
        found["lower"] = (tau[~paired].mean() - tau[paired].mean()).item()
    if name == "three classes":
        for who in "ab":
            found[f"highest_{who}"] = lesson.watched_temperatures(who).student.max().item()
    return {name: round(float(value), 6) for name, value in found.items()}


def main():
    with ProcessPoolExecutor() as pool:
        runs = {
            key(name, changes): [pool.submit(train, name, changes, seed) for seed in SEEDS]
            for name, changes in SETTINGS
        }
        rows = {setting: [run.result() for run in found] for setting, found in runs.items()}
    FILE.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
