"""What several runs show together: means over seeds, and differences paired by seed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._check import brief, check_kind
from ..methods import get_method
from ..runs import Run
from ..statistics import Interval, mean_interval, paired_interval
from .measures import ACCURACY, Measure, check_run_record, measures_of

__all__ = [
    "Line",
    "compare_records",
    "describe_method",
    "format_lines",
    "plus_minus",
    "summarize",
    "tidy",
    "weights_of",
]


def describe_method(run: Run | Mapping[str, Any]) -> str:
    """The method of a run or record and what was set otherwise, e.g. ``kd (kd_weight=9)``."""
    record = run.record if isinstance(run, Run) else run
    check_run_record(record, "config")
    config = record["config"]
    settings = ", ".join(f"{key}={value}" for key, value in config["method_options"].items())
    return f"{config['method']} ({settings})" if settings else config["method"]


OF_NETWORK = ("architecture", "initial", "settings", "tied", "frozen", "resting")
"""Fields of a config that say of a student what its name does not."""


def by_method(records: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Records by `describe_method`, in the order in which they come.

    Losses of one class that are not one loss have the beginning of their digest behind it.
    """
    records = list(records)
    losses: dict[str, set[str | None]] = {}
    for record in records:
        losses.setdefault(describe_method(record), set()).add(record["config"].get("objective"))
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        name, loss = describe_method(record), record["config"].get("objective")
        if loss is not None and len(losses[name]) > 1:
            name = f"{name} [{loss[:8]}]"
        found.setdefault(name, []).append(record)
    return found


def summarize(runs: Iterable[Run]) -> list["Line"]:
    """A line for each method, in the order in which they come; differences are to the first.

    Runs of one seed begin alike and see the same images (see `adakd.compare`), so their difference is of the methods
    alone, and its spread over seeds is smaller than that of the accuracies.

    Raises:
        ValueError: if the runs differ in model, data, recipe, precision or teacher, or a method has a seed twice.
    """
    check_kind(Iterable, "a sequence of runs", runs=runs)
    groups: dict[str, dict[int, Mapping[str, Any]]] = {}
    settings: dict[str, Any] = {}
    records: list[Mapping[str, Any]] = []
    for run in runs:
        if not hasattr(run, "record"):
            raise TypeError(
                f"runs: expected a sequence of runs, as adakd.compare returns, got {brief(run)} in it"
            )
        records.append(run.record)
    for record in records:
        config = record["config"]
        for name in ("model", *OF_NETWORK, "data", "recipe", "precision", "teacher"):
            if name == "teacher" and config[name] is None:  # trained on labels alone
                continue
            if settings.setdefault(name, config.get(name)) != config.get(name):
                raise ValueError(f"the runs differ in {name}: {settings[name]} and {config.get(name)}")
    for name, alike in by_method(records).items():
        seeds = groups.setdefault(name, {})
        for record in alike:
            seed = record["config"]["seed"]
            if seed in seeds:
                raise ValueError(f"{name} has seed {seed} twice")
            seeds[seed] = record
    return compare_records(groups, list(groups)[:1])


def weights_of(record: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Weights on the labels and on the teacher that a run was trained with; the latter is None without a teacher, and of a
    sum, whose terms have a weight each. Of a loss that has no row here, one of somebody's own or of a package that is not
    loaded, what its options say, or None."""
    check_run_record(record, "config")
    config = record["config"]
    options = config["method_options"]
    try:
        row = get_method(config["method"])
    except ValueError:
        return options.get("ce_weight"), options.get("kd_weight")
    on_teacher = options.get("kd_weight", row.kd_weight) if row.needs_teacher else None
    return options.get("ce_weight", row.ce_weight), on_teacher


def tidy(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One flat row a run, for a data frame: ``pandas.DataFrame(tidy(records))``.

    Columns: data, teacher, model, method, settings (as text), ce_weight, kd_weight (None where no row says it), recipe, train_images, epochs, seed,
    accuracy (test, last epoch, percent), best, best_epoch, validation (None where no images were held out), precision,
    hardware, commit; of text nats and kl_to_truth too.
    """
    rows = []
    check_kind(Iterable, "a sequence of records", records=records)
    for record in records:
        check_run_record(record, "config", "result", "hardware")
        config, result = record["config"], record["result"]
        recipe, hardware = config["recipe"], record["hardware"]
        ce_weight, kd_weight = weights_of(record)
        settings = [f"{key}={value}" for key, value in config["method_options"].items()]
        if "objective" in config:  # which its name does not tell from others
            settings.append(f"objective={config['objective'][:8]}")
        rows.append(
            {
                "data": config["data"]["name"],
                "teacher": config["teacher"] and config["teacher"]["model"],
                "model": config["model"],
                "method": config["method"],
                "settings": ", ".join(settings),
                "ce_weight": ce_weight,
                "kd_weight": kd_weight,
                "recipe": recipe["name"],
                "train_images": recipe["train_images"] or record["data"]["train_images"],
                "epochs": recipe["epochs"],
                "seed": record["seed"],
                "accuracy": result["last"],
                "best": result["best"],
                "best_epoch": result["best_epoch"],
                "validation": result.get("validation"),
                "precision": config["precision"],
                "hardware": hardware.get("gpu", hardware["cpu"]),
                "commit": record["commit"],
                **{each.field: each.of(record) for each in measures_of(record) if each != ACCURACY},
            }
        )
    return rows


@dataclass(frozen=True)
class Line:
    """A group of runs that differ in their seed: what is measured, and what they are ahead of other groups, seed by seed."""

    name: str
    seeds: tuple[int, ...]
    accuracy: Interval
    """Of the mean over seeds: percent of the test images, last epoch."""
    ahead: Mapping[str, Interval | None]
    """By name of another group: the mean of the differences over shared seeds; None for itself and without any. Of
    accuracies, in percent; of text, of nats a token, and positive where there are fewer."""
    further: Mapping[Measure, Interval] = field(default_factory=dict)
    """What else is measured, of text: nats a token, by which lines are compared then, and the KL to the truth."""

    @property
    def measure(self) -> Measure:
        """What lines are compared by."""
        return next(iter(self.further), ACCURACY)

    @property
    def rank(self) -> float:
        """The smaller, the better."""
        of = self.further.get(self.measure, self.accuracy)
        return -self.measure.sign * of.estimate


def compare_records(
    groups: Mapping[str, Mapping[int, Mapping[str, Any]]], to: Sequence[str] = (), level: float = 0.95
) -> list[Line]:
    """A line for each group of records, with Student's intervals.

    Args:
        groups: by name, then by seed: one record.
        to: names of groups to compare all with.
        level: of the intervals.

    Raises:
        ValueError: if a name in `to` is no group.
    """
    check_kind(Mapping, "records by name, and of each by seed", groups=groups)
    if unknown := [name for name in to if name not in groups]:
        raise ValueError(f"to: {', '.join(unknown)} is not among {', '.join(groups)}")
    ordered = {name: dict(sorted(runs.items())) for name, runs in groups.items()}
    lines = []
    for name, runs in ordered.items():
        measures = measures_of(next(iter(runs.values())))
        ahead: dict[str, Interval | None] = {}
        for other in to:
            shared = [seed for seed in runs if seed in ordered[other]]
            # Of what is the better the less, the other's minus ours.
            mine, theirs = (
                [measures[0].sign * measures[0].of(of[seed]) for seed in shared]
                for of in (runs, ordered[other])
            )
            ahead[other] = paired_interval(mine, theirs, level) if shared and other != name else None
        means = {each: mean_interval([each.of(run) for run in runs.values()], level) for each in measures}
        lines.append(Line(name, tuple(runs), means.pop(ACCURACY), ahead, means))
    return lines


_FEWEST = 3  # two values have an interval of 12.7 times their distance: true, and of no use to anybody


def plus_minus(interval: Interval | None, sign: str = "", digits: int = 2) -> str:
    """A mean ± half the width of its interval; of two values that there are two instead; one alone; a dash for None.

    >>> plus_minus(mean_interval([60.0, 61.0, 62.0]))
    '61.00 ± 2.48'
    >>> plus_minus(mean_interval([60.0, 61.0]), "+")
    '+60.50 (n = 2)'
    """
    if interval is None:
        return "–"
    if interval.n == 1:
        return f"{interval.estimate:{sign}.{digits}f}"
    if interval.n < _FEWEST:
        return f"{interval.estimate:{sign}.{digits}f} (n = {interval.n})"
    return f"{interval.estimate:{sign}.{digits}f} ± {(interval.high - interval.low) / 2:.{digits}f}"


def format_lines(lines: Sequence[Line], markdown: bool = False) -> str:
    """The lines as a table, each number as `plus_minus` has it; in columns, or in Markdown."""
    if not lines:
        return "no runs"
    measures = [*lines[0].further, ACCURACY]
    titles = [
        "method",
        "seeds",
        *(each.title for each in measures),
        *(f"ahead of {name}" for name in lines[0].ahead),
    ]
    cells = [
        [
            line.name,
            str(len(line.seeds)),
            *(
                plus_minus({**line.further, ACCURACY: line.accuracy}[each], "", each.digits)
                for each in measures
            ),
            *(plus_minus(interval, "+", measures[0].digits) for interval in line.ahead.values()),
        ]
        for line in lines
    ]
    if markdown:
        rule = ["---", *("---:" for _ in titles[1:])]
        return "\n".join(f"| {' | '.join(row)} |" for row in (titles, rule, *cells))
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (titles, *cells)
    )
