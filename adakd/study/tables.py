"""What several runs say together: means over seeds, and differences paired by seed."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from ..training import Run

__all__ = ["Row", "describe_method", "format_table", "summarize"]


@dataclass(frozen=True)
class Row:
    """One method over its seeds, in percent of test accuracy after the last epoch."""

    method: str
    seeds: int
    mean: float
    error: float
    """Standard error of the mean; NaN for one seed."""
    difference: float
    """Mean of the differences to the first method, seed by seed; NaN where they share no seed."""
    difference_error: float
    """Standard error of that mean; NaN below two shared seeds."""


def describe_method(run: Run) -> str:
    """The method and what was set otherwise, e.g. ``kd (kd_weight=9)``."""
    config = run.record["config"]
    settings = ", ".join(f"{key}={value}" for key, value in config["method_options"].items())
    return f"{config['method']} ({settings})" if settings else config["method"]


def _mean(values: list[float]) -> tuple[float, float]:
    if not values:
        return math.nan, math.nan
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def summarize(runs: Iterable[Run]) -> list[Row]:
    """A row for each method, in the order in which they come; differences are to the first.

    Runs of one seed begin alike and see the same images (see `adakd.compare`), so their difference is of the methods
    alone, and its spread over seeds is smaller than that of the accuracies.

    Raises:
        ValueError: if the runs differ in model, data, recipe, precision or teacher, or a method has a seed twice.
    """
    accuracy: dict[str, dict[int, float]] = {}
    settings = {}
    for run in runs:
        config = run.record["config"]
        for name in ("model", "data", "recipe", "precision", "teacher"):
            if name == "teacher" and config[name] is None:  # trained on labels alone
                continue
            if settings.setdefault(name, config[name]) != config[name]:
                raise ValueError(f"the runs differ in {name}: {settings[name]} and {config[name]}")
        seeds = accuracy.setdefault(describe_method(run), {})
        if config["seed"] in seeds:
            raise ValueError(f"{describe_method(run)} has seed {config['seed']} twice")
        seeds[config["seed"]] = run.accuracy
    rows = []
    first = next(iter(accuracy.values()), {})
    for method, seeds in accuracy.items():
        differences = [] if seeds is first else [seeds[seed] - first[seed] for seed in seeds if seed in first]
        rows.append(Row(method, len(seeds), *_mean(list(seeds.values())), *_mean(differences)))
    return rows


def _with_error(mean: float, error: float, sign: str = "") -> str:
    if math.isnan(mean):
        return "–"
    return f"{mean:{sign}.2f}" if math.isnan(error) else f"{mean:{sign}.2f} ± {error:.2f}"


def format_table(rows: list[Row]) -> str:
    """The rows as text, in columns."""
    if not rows:
        return "no runs"
    width = max(len("method"), *(len(row.method) for row in rows))
    lines = [f"{'method':{width}}  seeds  {'accuracy %':>14}  {'to ' + rows[0].method:>16}"]
    for row in rows:
        accuracy = _with_error(row.mean, row.error)
        difference = _with_error(row.difference, row.difference_error, sign="+")
        lines.append(f"{row.method:{width}}  {row.seeds:5}  {accuracy:>14}  {difference:>16}")
    return "\n".join(lines)
