"""A run that is killed, again and again, and then left to finish: `python tests/worker.py FOLDER KILLS`.

One process imports torch once and forks; the children train with one thread and one of them at a time is killed
with SIGKILL, which nothing can catch, at a moment drawn at random. Prints as JSON how far each child had come.
"""

import contextlib
import faulthandler
import importlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import adakd
from adakd.data import load_gratings

SETTINGS = {
    "device": "cpu",
    "precision": "fp32",
    "progress": False,
    "epochs": 8,
    "batch_size": 20,
    "eval_every": 2,
}


def train(out: Path) -> None:
    # A checkpoint after every step: more moments to be killed at, and more files half written.
    importlib.import_module("adakd.training.loop").SECONDS_BETWEEN_CHECKPOINTS = 0.0
    data = load_gratings(train_images=60, test_images=40)
    teacher = adakd.train_teacher("resnet8x0.5", data, out=out, **SETTINGS)
    adakd.distill(teacher, "resnet8x0.5", "zkd+mlt", data, out=out, train_images=50, **SETTINGS)


def fork(out: Path) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            faulthandler.dump_traceback_later(300, exit=True)  # what it waits for, if it does
            train(out)
            status = 0
        finally:
            os._exit(status)
    return child


def checkpoints(out: Path) -> list[list[int]]:
    """Epoch and step of every checkpoint: it can be read, whenever its writer died."""
    saved = [torch.load(path, weights_only=True) for path in sorted(out.rglob("checkpoint.pt"))]
    return [[part["epoch"], part["step"]] for part in saved]


def main(folder: Path, kills: int) -> None:
    torch.set_num_threads(1)
    train(folder / "whole")  # and what torch imports at the first step, once for all children
    started = time.perf_counter()
    os.waitpid(fork(folder / "timed"), 0)
    seconds = time.perf_counter() - started
    states = []
    for _ in range(kills):
        child = fork(folder / "killed")
        time.sleep(random.uniform(0.03, 0.3) * seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break
        states.append(checkpoints(folder / "killed"))
    _, status = os.waitpid(fork(folder / "killed"), 0)
    print(json.dumps({"states": states, "status": status, "seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
