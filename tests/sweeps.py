"""A sweep of tiny runs for the tests, with every engine; and as a command of its own that can be killed, and whose workers
die: `python -c "import sweeps; sweeps.main()" FOLDER ENGINE`, with this folder on the path.
"""

import contextlib
import dataclasses
import importlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import kills
import torch

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


def use_tiny_data(patch=setattr):
    """60 training and 40 test gratings in the place of the data set; workers get it from the process that gives out."""
    data = dataclasses.replace(load_gratings(train_images=60, test_images=40), padding=1, flip=True)
    for name in ("resolve_data", "load_data"):
        patch(importlib.import_module("adakd.sweep.run"), name, lambda *_, **__: data)


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


@contextlib.contextmanager
def dying_at_the_first_checkpoint(marker, dies=True):
    """A process that kills itself, unless a file says that another one has done so already."""
    loop = importlib.import_module("adakd.training.loop")
    save = loop.Runner.save

    def save_and_die(runner):
        save(runner)
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    if dies and not marker.exists():
        loop.Runner.save = save_and_die
    try:
        yield
    finally:
        loop.Runner.save = save


def dying(context, order, cell, run):
    """As the sweep's own task, in a process that dies in a distillation that is new."""
    with dying_at_the_first_checkpoint(Path(order.out, f"died-{cell.method}-{cell.seed}"), cell.method == "kd"):
        return importlib.import_module("adakd.sweep.run")._carry_out(context, order, cell, run)


def dying_comparison(context, work):
    """As the comparison's own task, in a process that dies once."""
    with dying_at_the_first_checkpoint(Path(work.resources.out, "died")):
        return importlib.import_module("adakd.api")._carry_out(context, work)


def main():
    use_tiny_data()
    out, engine = sys.argv[1:]
    task = importlib.import_module("adakd.sweep.run")
    task.Task = lambda name, function, arguments: importlib.import_module("adakd.engine").Task(
        name, dying if function is task._carry_out else function, arguments
    )
    results = sweep(out, engine)
    print(json.dumps({"done": len(results.accuracy), "errors": [str(e) for e in results.errors.values()]}))


def killed():
    """A sweep killed with SIGKILL at random moments and started again each time, and a new one when it is done, and so on.

    Prints as JSON how many kills there were, how many sweeps ended, and the folders of those that differ from the first,
    undisturbed one.
    """
    folder, moments = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    importlib.import_module("adakd.training.loop").SECONDS_BETWEEN_CHECKPOINTS = 0.0
    importlib.import_module("adakd.training.cache")._SECONDS_BETWEEN_COMMITS = 0.0
    use_tiny_data()
    sweep(folder / "whole")
    started = time.monotonic()
    kills.fate(kills.fork(sweep, folder / "timed", None), None)
    seconds, whole = time.monotonic() - started, records_of(folder / "whole")
    draw, count, ended, different = random.Random(moments), 0, 0, []
    while count < moments or (folder / f"{ended}").exists():
        out = folder / f"{ended}"
        after = draw.random() ** 2 * seconds if count < moments else None
        if kills.fate(kills.fork(sweep, out, None), after):
            count += 1
            continue
        left = [path.name for path in out.rglob("*") if path.name in ("checkpoint.pt", "sessions.json")]
        if records_of(out) != whole or left:
            different.append(str(out))
        ended += 1
    print(json.dumps({"kills": count, "sweeps": ended, "different": different}))
