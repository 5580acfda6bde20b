"""Jobs that are killed at their system calls, and started again until they finish: `python tests/kills.py FOLDER KILLS`.

In turns, until there were so many kills, and every job had one; a job that is started again may be through before it comes
to the call it was to be killed at, and at what moment it is killed is a matter of the machine's speed.

One process imports torch and does every job undisturbed. Then it forks children that do a job and, before or after one of
the calls by which a file comes to be, kill themselves with SIGKILL, which nothing can catch; or are killed at some moment.
Whatever is left is held against the undisturbed: weights and caches bit for bit, records without what belongs to the
occasion, and the names of all files. Prints what was done, and each difference, as JSON.
"""

import dataclasses
import faulthandler
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

import adakd
from adakd.data import ImageData, load_gratings
from adakd.study import Study, keep_records, read_records, run_study

SETTINGS = {"device": "cpu", "precision": "fp32", "progress": False, "epochs": 2, "batch_size": 20}
SHORT = {**SETTINGS, "train_images": 40, "cache": "fp32"}
NAME = "resnet8x0.5"
OF_THE_OCCASION = {"seconds", "started", "finished", "sessions", "commit"}
WAITS = 300  # seconds after which a child says what it waits for, and ends
CALLS = ("fsync", "replace", "open", "unlink", "pwrite", "chmod", "ftruncate", "mkdir")


def jobs(teacher: str, records: Path, data: ImageData) -> dict[str, Callable[[Path], object]]:
    """What is done to each folder, by name."""
    study = Study(("kd", "zkd"), (0,), reference="kd", ways=("published", "matched"))
    return {
        "teacher": lambda out: adakd.train_teacher(NAME, data, out=out, **SETTINGS),
        "distill": lambda out: adakd.distill(teacher, NAME, "zkd+mlt", data, out=out, **SHORT),
        "distill live": lambda out: adakd.distill(
            teacher, NAME, "dkd+ctkd", data, out=out, **{**SHORT, "cache": None}
        ),
        "compare": lambda out: adakd.compare(("ce", "kd"), (0,), teacher, NAME, data, out=out, **SHORT),
        "compare live": lambda out: adakd.compare(
            ("kd", "zkd"), (0,), teacher, NAME, data, out=out, **{**SHORT, "cache": None}
        ),
        "study": lambda out: run_study(study, out / "study", teacher, NAME, data, out=out / "runs", **SHORT),
        "cache": lambda out: adakd.cache_teacher(
            teacher, data, seeds=(0, 1), out=out, dtype="fp32", **SETTINGS, train_images=40
        ),
        "records": lambda out: keep_records(out / "kept.jsonl", read_records(records)),
    }


def settled(value: object) -> object:
    """Without what belongs to the occasion."""
    if isinstance(value, dict):
        return {name: part for name, part in value.items() if name not in OF_THE_OCCASION}
    return value


def state(out: Path) -> dict[str, object]:
    """All that is left in a folder, by the file's name; locks hold nothing."""
    found: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        if path.is_dir() or path.name.endswith(".lock"):
            continue
        content = path.read_bytes()
        if path.suffix == ".json":
            content = settled(json.loads(content))
        elif path.suffix == ".jsonl":
            content = [settled(json.loads(line)) for line in content.splitlines()]
        found[str(path.relative_to(out))] = content
    return found


def watch(called: Counter, at: tuple[str, int, str] | None) -> None:
    """Count this process's calls; or kill it before or after the n-th of a kind."""

    def wrapped(name: str, call: Callable) -> Callable:
        def watched(*arguments, **options):
            called[name] += 1
            fatal = at is not None and at[:2] == (name, called[name])
            if fatal and at[2] == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*arguments, **options)
            if fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return watched

    for name in CALLS:
        setattr(os, name, wrapped(name, getattr(os, name)))


def fork(
    job: Callable[[Path], object], out: Path, at: tuple[str, int, str] | None, report: Path | None = None
) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            faulthandler.dump_traceback_later(WAITS, exit=True)
            called: Counter = Counter()
            watch(called, at)
            job(out)
            if report:
                report.write_text(json.dumps(called))
            status = 0
        finally:
            os._exit(status)
    return child


def fate(child: int, after: float | None) -> int | None:
    """The signal that ended a child, None where it finished."""
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)  # it is not waited for yet, so its number is still its own
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    if os.WEXITSTATUS(status):
        raise RuntimeError(f"a child failed with {os.WEXITSTATUS(status)}")
    return None


def main(folder: Path, wanted: int, moments: bool) -> None:
    """`moments`: kill at times too, and not at calls alone; the outcome must not, but the moment may, differ each time."""
    torch.set_num_threads(1)
    importlib.import_module("adakd.training.loop").SECONDS_BETWEEN_CHECKPOINTS = 0.0
    cache = importlib.import_module("adakd.training.cache")
    cache._SECONDS_BETWEEN_COMMITS, cache.FILL_BATCH = 0.0, 16
    data = dataclasses.replace(load_gratings(train_images=60, test_images=40), padding=1, flip=True)
    made = adakd.train_teacher(NAME, data, out=folder / "first", **SETTINGS)
    done = jobs(str(made.folder), folder / "whole" / "study" / "study", data)
    whole, calls, seconds = {}, {}, {}
    for name, job in done.items():
        out = folder / "whole" / name
        out.mkdir(parents=True)
        job(out)
        whole[name] = state(out)
        (folder / "counted" / name).mkdir(parents=True)
        started, report = time.monotonic(), folder / f"{name}.calls"
        fate(fork(job, folder / "counted" / name, None, report), None)
        calls[name], seconds[name] = json.loads(report.read_text()), time.monotonic() - started
    draw = random.Random(wanted)
    kills, different = Counter(), []
    trials = 0
    while kills.total() < wanted or len(kills) < len(done):
        trial, trials = trials, trials + 1
        if trials > 10 * wanted:
            raise RuntimeError(f"only {kills} after {trial} trials")
        name = list(done)[trial % len(done)]
        out = folder / "killed" / f"{trial}"
        out.mkdir(parents=True)
        where = []
        for _ in range(draw.choice((1, 1, 2, 3))):
            kind = draw.choice(sorted(calls[name]))
            at = (kind, draw.randint(1, calls[name][kind]), draw.choice(("before", "after")))
            after = draw.random() * seconds[name] if moments and draw.random() < 0.25 else None
            if fate(fork(done[name], out, None if after else at), after):
                where.append(f"after {after:.3f} s" if after else " ".join(map(str, at)))
                kills[name] += 1
        if fate(fork(done[name], out, None), None):
            raise RuntimeError("a child was killed by somebody else")
        left = state(out)
        changed = sorted(
            path for path in left.keys() | whole[name].keys() if left.get(path) != whole[name].get(path)
        )
        if changed:
            different.append({"job": name, "killed": where, "files": changed})
        else:
            shutil.rmtree(out)
    print(json.dumps({"kills": kills, "trials": trials, "different": different}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), "moments" in sys.argv[3:])
