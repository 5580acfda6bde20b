"""A sweep of tiny runs, as a command of its own that can be killed: `python tests/sweeps.py FOLDER ENGINE`.

Its grid, its data, and what of a record is no part of the occasion are here for the tests too.
"""

import dataclasses
import importlib
import json
import sys
from pathlib import Path

from adakd.data import load_gratings
from adakd.engine import Processes, Ray, Sequential
from adakd.sweep import read_grid, run_sweep
from adakd.training.record import key_of

SETTINGS = {"epochs": 3, "batch_size": 20, "eval_every": 3}
TINY = {
    "teachers": ["resnet8"],
    "students": ["resnet8x0.5"],
    "methods": ["ce", "kd"],
    "seeds": [0, 1],
    "precision": "fp32",
    "settings": {**SETTINGS, "train_images": 40},
    "teacher": SETTINGS,
}
ENGINES = {
    "sequential": lambda: Sequential(),
    "processes": lambda: Processes(2),
    "ray": lambda: Ray(workers=2),
}
OF_THE_OCCASION = {"seconds", "started", "finished", "sessions", "commit"}


def use_tiny_data(folder=None, patch=setattr):
    """60 training and 40 test gratings in the place of the data set; workers get it from the process that gives out."""
    data = dataclasses.replace(load_gratings(train_images=60, test_images=40), padding=1, flip=True)
    patch(importlib.import_module("adakd.sweep.run"), "resolve_data", lambda *_: data)


def records_of(out):
    """The records of a sweep by key, without what belongs to the occasion; each is there once."""
    lines = [
        json.loads(line) for line in (Path(out) / "sweeps" / "tiny" / "sweep.jsonl").read_text().splitlines()
    ]
    found = {
        key_of(record["config"]): {name: part for name, part in record.items() if name not in OF_THE_OCCASION}
        for record in lines
    }
    assert len(found) == len(lines), "a record is there twice"
    return found


def sweep(out, engine="sequential"):
    return run_sweep(read_grid(TINY, "tiny"), out=out, engine=ENGINES[engine](), device="cpu", progress=False)


if __name__ == "__main__":
    use_tiny_data()
    sys.exit(bool(sweep(*sys.argv[1:3]).errors))
