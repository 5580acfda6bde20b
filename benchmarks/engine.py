"""What an engine costs a run: `python benchmarks/engine.py --json FILE`. This process, a process of its own, and Ray.

Sweeps of short trainings on the embedded data take turns among the engines. Of every run the time from the one before to its
own end is divided by the seconds that it says it trained, which are in the same stretch of the clock: so another process on
the machine disturbs both alike. On a shared machine only these ratios mean anything.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from adakd.bench.timing import spread_of
from adakd.engine import Processes, Ray, Sequential
from adakd.runs import resolve_device
from adakd.sweep import read_grid, run_sweep
from adakd.sweep.table import LiveTable
from adakd.training import write_json
from adakd.training.record import environment

ENGINES = {"sequential": Sequential(), "local process": Processes(1), "Ray": Ray(workers=1)}


class Clock:
    """When each run of a sweep ended."""

    def __init__(self):
        self.ends = {}
        self.end = LiveTable.end

    def __enter__(self):
        def end(table, cell, *rest):
            self.ends[cell.seed, cell.method] = time.perf_counter()
            self.end(table, cell, *rest)

        self.begin = time.perf_counter()
        LiveTable.end = end
        return self

    def __exit__(self, *error):
        LiveTable.end = self.end


def overheads(engine, grid, folder):
    """Of a sweep: of each run but the first, time in units of its training; and of the first, what it took to begin."""
    with Clock() as clock:
        results = run_sweep(grid, out=folder, engine=engine, device="cpu", progress=False)
    seconds = {(r["seed"], r["config"]["method"]): r["seconds"] for r in results.records}
    found, before = [], None
    for run, end in clock.ends.items():
        if before is not None:
            found.append((end - before) / seconds[run])
        before = end
    first = next(iter(clock.ends))
    start = (clock.ends[first] - clock.begin - seconds[first]) / statistics.median(seconds.values())
    return found, start, list(seconds.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of a sweep; the first is not counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30, help="of the demonstration's recipe")
    parser.add_argument("--note", default="", help="on the state of the machine, for the record")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    settings = {"epochs": arguments.epochs, "eval_every": arguments.epochs}
    grid = read_grid(
        {"methods": ["ce"], "seeds": list(range(arguments.runs)), "precision": "fp32", "settings": settings},
        "engine",
    )
    spent = {name: [] for name in ENGINES}
    starts = {name: [] for name in ENGINES}
    trained = []
    for _ in range(arguments.rounds):
        for name, engine in ENGINES.items():
            folder = Path(tempfile.mkdtemp())
            found, start, seconds = overheads(engine, grid, folder)
            shutil.rmtree(folder)
            spent[name] += found
            starts[name].append(start)
            trained += seconds
            print(f"{name:14} {statistics.median(found):.3f} a run, {start:.1f} to begin", flush=True)
    base = statistics.median(spent["sequential"])
    rows = [
        {
            "engine": name,
            "run_to_training": spread_of(values),
            "to_sequential": statistics.median(values) / base,
            "start_in_runs": spread_of(starts[name]),
        }
        for name, values in spent.items()
    ]
    for row in rows:
        print(
            f"{row['engine']:14} {row['run_to_training']['median']:.3f} of the training, {row['to_sequential']:.3f} of "
            f"sequential, {row['start_in_runs']['median']:.1f} runs to begin"
        )
    if arguments.json:
        record = {
            "schema": 1,
            "kind": "bench-engine",
            "status": "complete",
            "config": {"runs": arguments.runs, "rounds": arguments.rounds, **settings, "method": "ce"},
            "training_seconds": spread_of(trained),
            "note": arguments.note,
        }
        write_json(Path(arguments.json), record | environment(resolve_device("cpu")) | {"rows": rows})


if __name__ == "__main__":
    main()
