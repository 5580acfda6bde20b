"""The live figure of chapter 11: methods ranked by a study, at three kinds of weights, and any two of them paired."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import traitlets

from ..methods import get_method
from ..statistics import Interval, mean_interval, paired_interval
from .live import LiveFigure, style_sheet
from .module import built_module
from .style import COLORS, Picture, picture, use_style

__all__ = ["RankingExplorer"]

_WAYS = ("published", "matched", "chosen")
_GROUPS = {  # hue and marker
    "maximum logit": ("mark", "D"),
    "standardized": ("second", "s"),
    "others": ("teacher", "o"),
    "labels only": ("ink", "X"),
}


class _Study(Protocol):
    """What is read of an `adakd.study.StudyResults`, which lies on a higher floor."""

    @property
    def methods(self) -> list[str]: ...
    def weights(self, way: str, method: str) -> tuple[float, float | None] | None: ...
    def by_weights(
        self, method: str
    ) -> Mapping[tuple[float, float | None], Mapping[int, Mapping[str, Any]]]: ...


def _group(method: str) -> str:
    row = get_method(method)
    if not row.needs_teacher:
        return "labels only"
    if row.rule == "maxlogit":
        return "maximum logit"
    return "standardized" if row.standardize or row.divergence == "correlation" else "others"


def _student_quantiles(count: int, level: float) -> float:
    """Half of the interval of `mean_interval`, in standard errors of the mean of so many values."""
    found = mean_interval([1.0, *[0.0] * (count - 1)], level)
    return (found.high - found.low) * count / 2  # 1/n is that mean's standard error


class RankingExplorer(LiveFigure):
    """Test accuracies of a study's methods with 95 % intervals, sorted, at weights of three kinds or at another λ.

    Args:
        study: from `adakd.study.read_study`; its runs become ``data``.
        way: the weights of all methods, ``"published"``, ``"matched"`` or ``"chosen"``.
        group: which methods are shown, ``"all"`` or one of the groups.
        first: a method; its paired difference to the second one is shown.
        second: another method.
        method: whose λ can be moved; it was run with several.
        place: which of its weights it has, counted from the smallest; -1 for those of ``way``.
        data: the state; ``study`` writes it.

    Raises:
        traitlets.TraitError: for a value out of its range.
        ValueError: for a method that the study does not have.
    """

    controls = ("data", "way", "group", "first", "second", "method", "place")
    _esm = built_module("ranking.js")
    _css = style_sheet("kit.css", "ranking.css")

    data = traitlets.Dict().tag(sync=True)
    way = traitlets.Enum(list(_WAYS), default_value="published").tag(sync=True)
    group = traitlets.Enum(["all", *_GROUPS], default_value="all").tag(sync=True)
    first = traitlets.Unicode("zkd").tag(sync=True)
    second = traitlets.Unicode("zkd+mlt").tag(sync=True)
    method = traitlets.Unicode("zkd+mlt").tag(sync=True)
    place = traitlets.Int(-1, min=-1).tag(sync=True)

    def __init__(self, study: _Study | None = None, **state: Any):
        if study is not None:
            state["data"] = _collected(study)
        super().__init__(**state)
        names = [row["name"] for row in self._rows()]
        several = [row["name"] for row in self._rows() if len(row["runs"]) > 1]
        for trait, known in (("first", names), ("second", names), ("method", several)):
            if getattr(self, trait) not in known:
                more = "" if known is names else " that was run with several weights"
                raise ValueError(
                    f"{trait}: expected a method of the study{more}, {known}, got {getattr(self, trait)!r}"
                )

    def _rows(self) -> list[dict[str, Any]]:
        return self.data.get("methods", [])

    def _run(self, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Weights and accuracies that a method has now; None where that way was not run."""
        if row["name"] == self.method and 0 <= self.place < len(row["runs"]):
            return row["runs"][self.place]
        at = row["ways"][self.way]
        return None if at is None else row["runs"][at]

    def _accuracies(self, name: str) -> list[float | None]:
        row = next(row for row in self._rows() if row["name"] == name)
        run = self._run(row)
        return [None] * len(self.data["seeds"]) if run is None else run["accuracies"]

    def _pair(self, level: float = 0.95) -> Interval | None:
        ours, theirs = (self._accuracies(name) for name in (self.first, self.second))
        pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
        return paired_interval([a for a, _ in pairs], [b for _, b in pairs], level) if pairs else None

    def _intervals(self) -> list[Interval | None]:
        found = []
        for row in self._rows():
            known = [x for x in self._accuracies(row["name"]) if x is not None]
            found.append(mean_interval(known) if known else None)
        return found

    def values(self) -> dict[str, Any]:
        """Every number the figure shows, computed by `adakd.statistics`; the page computes the same in JavaScript.

        Keys: estimates, lows, highs, ranks (of the methods in the order of ``data``; the best shown one has rank 1, and a
        method that is not shown 0), difference, low, high (of the two chosen methods, over the seeds that both have),
        all_low, all_high (the same interval for all pairs of methods at once, by Bonferroni), pairs (of seeds).
        """
        intervals = self._intervals()
        shown = [
            i
            for i, (row, found) in enumerate(zip(self._rows(), intervals, strict=True))
            if found is not None and self.group in ("all", row["group"])
        ]
        order = sorted(shown, key=lambda i: -round(intervals[i].estimate, 9))  # type: ignore[union-attr]
        pair, wide = self._pair(), self._pair(1 - 0.05 / math.comb(max(2, len(intervals)), 2))
        missing = Interval(math.nan, math.nan, math.nan, 0, 0.95)

        def cells(field: str) -> list[float | None]:
            return [_cell(getattr(found or missing, field)) for found in intervals]

        return {
            "estimates": cells("estimate"),
            "lows": cells("low"),
            "highs": cells("high"),
            "ranks": [order.index(i) + 1 if i in order else 0 for i in range(len(intervals))],
            "difference": _cell((pair or missing).estimate),
            "low": _cell((pair or missing).low),
            "high": _cell((pair or missing).high),
            "all_low": _cell((wide or missing).low),
            "all_high": _cell((wide or missing).high),
            "pairs": (pair or missing).n,
        }

    def describe(self) -> str:
        v, names = self.values(), [row["name"] for row in self._rows()]
        order = sorted((rank, name) for rank, name in zip(v["ranks"], names, strict=True) if rank)
        words = [
            f"Test accuracy at {self.way} weights, the best first: {', '.join(name for _, name in order)}."
        ]
        if v["low"] is not None:
            words.append(
                f"{self.first} minus {self.second}: {v['difference']:+.2f} [{v['low']:+.2f}, {v['high']:+.2f}] points "
                f"over {v['pairs']} seeds; with all pairs of methods at once [{v['all_low']:+.2f}, {v['all_high']:+.2f}]."
            )
        return " ".join(words)

    def __repr__(self) -> str:
        state = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.controls[1:])
        return f"{type(self).__name__}(data={[row['name'] for row in self._rows()]!r}, {state})"

    def still(self) -> Picture:
        import matplotlib.pyplot as plt

        use_style()
        ways = {}
        for way in _WAYS:
            at_way = RankingExplorer(
                data=self.data, **{name: getattr(self, name) for name in self.controls[2:]}, way=way
            )
            ways[way] = at_way.values()
        figure, panels = plt.subplots(1, 3, sharex=True, figsize=(7.2, 4.4))
        for ax, (way, v) in zip(panels, ways.items(), strict=True):
            labels = {}
            for row, *cells, rank in zip(
                self._rows(), v["estimates"], v["lows"], v["highs"], v["ranks"], strict=True
            ):
                if not rank:
                    continue
                hue, marker = _GROUPS[row["group"]]
                if cells[1] is not None:
                    ax.plot(cells[1:], [rank, rank], color=COLORS[hue], linewidth=1.5)
                ax.plot(cells[0], rank, marker, color=COLORS[hue], markersize=4.5)
                labels[rank] = row["name"]
            ax.set_yticks(list(labels), list(labels.values()), fontsize=8)
            ax.set(title=way.capitalize(), ylim=(max(labels, default=1) + 0.7, 0.3))
            ax.grid(False)
        panels[1].set_xlabel("test accuracy, %")
        return picture(figure, self.describe())


def _cell(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _collected(study: _Study) -> dict[str, Any]:
    """What the page needs of a study: of each method all weights it was run with, and its accuracies by seed."""
    found = {name: study.by_weights(name) for name in study.methods}
    seeds = sorted({seed for runs in found.values() for by_seed in runs.values() for seed in by_seed})
    methods = []
    for name, by_weights in found.items():
        weights = sorted(by_weights, key=lambda pair: (pair[1] or 0.0, pair[0]))
        methods.append(
            {
                "name": name,
                "group": _group(name),
                "runs": [
                    {"ce": ce, "kd": kd, "accuracies": _by_seed(by_weights[ce, kd], seeds)}
                    for ce, kd in weights
                ],
                "ways": {
                    way: None if pair is None or pair not in by_weights else weights.index(pair)
                    for way, pair in ((way, study.weights(way, name)) for way in _WAYS)
                },
            }
        )
    pairs = math.comb(max(2, len(methods)), 2)
    counts = range(2, len(seeds) + 1)
    return {
        "seeds": seeds,
        "methods": methods,
        "t": {str(n): [_student_quantiles(n, 0.95), _student_quantiles(n, 1 - 0.05 / pairs)] for n in counts},
    }


def _by_seed(records: Mapping[int, Mapping[str, Any]], seeds: Sequence[int]) -> list[float | None]:
    return [records[seed]["result"]["last"] if seed in records else None for seed in seeds]
