"""The live figure of chapters 9 and 10: runs as they train, an epoch a point, or finished ones to look back at."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import traitlets

from .live import LiveFigure, style_sheet
from .module import built_module
from .style import COLORS, Picture, picture, use_style

__all__ = ["TrainingProgress"]

# Column of a run here: field of a row of its history.
_COLUMNS = {
    "loss": "loss",
    "ce": "ce",
    "kd": "kd",
    "train": "train_accuracy",
    "test": "test_accuracy",
    "rho": "correlation",
    "tau": "temperature",
}
_TAUGHT = ("kd", "rho", "tau")  # what only a run with a teacher has; its history has 0 without one
_READ = ("loss", "train", "test", "rho", "tau")
_PARTS = {"loss": "Loss", "kd": "Distillation loss", "ce": "Cross entropy"}
_HUES = ("student", "teacher", "mark", "second", "ink")
_DASHES = ("-", (0, (4, 1.6)), (0, (1.2, 1.4)), (0, (5, 1.5, 1.2, 1.5)), "-")


def _cell(value: float | None) -> float | None:
    """Five digits; None, which JSON has, for what was not measured or is not finite."""
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


class TrainingProgress(LiveFigure):
    """Loss, accuracy, correlation of the logits and temperature of several runs, epoch by epoch.

    Shown by ``with``, it follows runs while their cell trains; once saved it is a figure like any other, and its
    page reads out any epoch::

        figure = TrainingProgress()
        with figure:
            run = adakd.distill(method="kd", on_epoch=figure.follow("kd"))
            figure.add_run("kd", run.history)  # also where the run was finished before, and only opened

    Runs whose names agree up to the first comma ("kd, seed 0", "kd, seed 1") share a colour.

    Args:
        epoch: which epoch is read out; 0 for the last one that there is.
        part: the loss that is drawn: ``"loss"`` (all of it), ``"kd"`` (distillation), ``"ce"`` (labels).
        hidden: names of runs that are not drawn.
        runs: the state; `add_run` and `follow` write it.

    Raises:
        traitlets.TraitError: for a value out of its range.
    """

    controls = ("runs", "epoch", "part", "hidden")
    _esm = built_module("progress.js")
    _css = style_sheet("kit.css", "progress.css")

    runs: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    epoch = traitlets.Int(0, min=0).tag(sync=True)
    part = traitlets.Enum(list(_PARTS), default_value="loss").tag(sync=True)
    hidden = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, **state: Any):
        super().__init__(**state)
        self._followed: dict[str, Callable[[Mapping[str, Any]], None]] = {}

    # ---- runs ----

    def add_run(self, name: str, history: Sequence[Mapping[str, Any]], epochs: int | None = None) -> None:
        """Show a run from all rows of its history at once, in the place of an earlier one of that name.

        Args:
            name: what the figure calls it.
            history: as in `adakd.Run.history`.
            epochs: how many there will be; as many as there are rows when left out.

        Raises:
            ValueError: for rows that are not of a history.
        """
        run: dict[str, Any] = {
            "name": str(name),
            "epochs": int(epochs or 0),
            "epoch": [],
            **{key: [] for key in _COLUMNS},
        }
        for row in history:
            missing = [field for field in ("epoch", *_COLUMNS.values()) if field not in row]
            if set(missing) - {"test_accuracy"}:
                raise ValueError(f"expected rows of a run's history, got one without {', '.join(missing)}")
            taught = row["temperature"] > 0
            run["epoch"].append(int(row["epoch"]))
            for key, field in _COLUMNS.items():
                run[key].append(_cell(row.get(field)) if taught or key not in _TAUGHT else None)
        others = [other["name"] for other in self.runs]
        place = others.index(run["name"]) if run["name"] in others else len(others)
        self.runs = [*self.runs[:place], run, *self.runs[place + 1 :]]

    def follow(self, name: str, epochs: int | None = None) -> Callable[[Mapping[str, Any]], None]:
        """A callback for a run that is about to train: give it each row of the history, and it is drawn.

        Args:
            name: what the figure calls the run; an earlier one of that name is forgotten.
            epochs: how many there will be, for the width of the axis.
        """
        rows: list[Mapping[str, Any]] = []
        self.add_run(name, rows, epochs)

        def on_epoch(row: Mapping[str, Any]) -> None:
            rows.append(row)
            self.add_run(name, rows, epochs)

        return on_epoch

    def follow_all(self, run: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        """A callback for `adakd.compare`: follows each of its runs under a name of method, options and seed."""
        options = "".join(f" {key}={value}" for key, value in run["method_options"].items())
        name = f"{run['method']}{options}, seed {run['seed']}"
        if name not in self._followed or row["epoch"] == 1:
            self._followed[name] = self.follow(name)
        self._followed[name](row)

    def __enter__(self) -> "TrainingProgress":
        from IPython.display import display

        self._shown = display(self, display_id=True)
        return self

    def __exit__(self, *error: object) -> None:
        # What was shown at first held no curve yet; print, GitHub and readers without JavaScript see this.
        if self._shown is not None:
            self._shown.update(self)

    # ---- state ----

    def _drawn(self) -> list[dict[str, Any]]:
        return [run for run in self.runs if run["name"] not in self.hidden and run["epoch"]]

    def _group(self, run: Mapping[str, Any]) -> int:
        groups = list(dict.fromkeys(other["name"].split(",")[0] for other in self.runs))
        return groups.index(run["name"].split(",")[0])

    def values(self) -> dict[str, Any]:
        """What the figure reads out; the page finds the same in JavaScript.

        Keys: epoch (read out), last (the last that any run has), total (the end of the axis), and shown: for the name of
        each run drawn its loss, training accuracy, latest test accuracy up to that epoch, ρ and τ, or None.
        """
        last = max((epoch for run in self.runs for epoch in run["epoch"]), default=0)
        at = min(self.epoch, last) if self.epoch else last
        shown = {}
        for run in self._drawn():
            known = [i for i, epoch in enumerate(run["epoch"]) if epoch <= at]
            if not known:
                continue
            row = {key: run[key][known[-1]] for key in _READ}
            row["test"] = next((run["test"][i] for i in reversed(known) if run["test"][i] is not None), None)
            shown[run["name"]] = [row[key] for key in _READ]
        total = max(last, 1, *(run["epochs"] for run in self.runs))
        return {"epoch": at, "last": last, "total": total, "shown": shown}

    def describe(self) -> str:
        v = self.values()
        if not v["shown"]:
            return "No run yet: as runs train, each draws a point an epoch in four panels, loss, accuracy, ρ and τ."
        words = [f"Epoch {v['epoch']} of {v['total']}."]
        for name, (_, train, test, rho, tau) in v["shown"].items():
            parts = [f"test {test:.1f} %"] if test is not None else []
            parts += [f"training {train:.1f} %"]
            parts += [f"ρ = {rho:.3f}", f"τ = {tau:.2f}"] if tau is not None else []
            words.append(f"{name}: {', '.join(parts)}.")
        return " ".join(words)

    def __repr__(self) -> str:
        names = [run["name"] for run in self.runs]
        state = f"runs={names!r}, epoch={self.epoch}, part={self.part!r}, hidden={list(self.hidden)!r}"
        return f"{type(self).__name__}({state})"

    def still(self) -> Picture:
        import matplotlib.pyplot as plt
        from matplotlib.ticker import LogLocator, MaxNLocator

        use_style()
        runs = self._drawn()
        panels = {
            self.part: f"{_PARTS[self.part]}, logarithmic",
            "test": "Accuracy, %: test, and training (thin)",
            "rho": "Correlation of the logits, ρ",
            "tau": "Temperature τ",
        }
        if runs and all(tau is None for run in runs for tau in run["tau"]):
            del panels["rho"], panels["tau"]
        rows = len(panels) // 2
        figure, grid = plt.subplots(rows, 2, figsize=(7.2, 0.4 + 2.2 * rows))
        lines = {}
        for ax, (key, title) in zip(grid.flat, panels.items(), strict=True):
            for run in runs:
                group = min(self._group(run), len(_HUES) - 1)
                look = {"color": COLORS[_HUES[group]], "linestyle": _DASHES[group]}
                if key == "test":
                    ax.plot(*_points(run, "train"), linewidth=0.8, **look)
                x, y = _points(run, key)
                marked = key == "test" and len(x) <= 30
                (line,) = ax.plot(x, y, linewidth=1.6, marker="o" if marked else None, markersize=3.5, **look)
                lines[run["name"].split(",")[0]] = line
            end = max(self.values()["total"], 2)
            ax.set(title=title, xlim=(1 - 0.015 * end, 1.015 * end))
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            if not runs:
                ax.set_yticks([])
        if runs:
            loss = grid.flat[0]
            loss.set(yscale="log")
            low, high = loss.get_ylim()
            loss.yaxis.set_major_locator(LogLocator(subs=(1,) if high / low > 300 else (1, 2, 5)))
            loss.yaxis.set_major_formatter("{x:g}")
            loss.minorticks_off()
            figure.legend(lines.values(), lines.keys(), loc="outside upper left", ncols=min(len(lines), 5))
        if "tau" in panels:
            grid.flat[-1].set_ylim(0, None)
        for ax in grid[-1] if rows > 1 else grid:
            ax.set_xlabel("epoch")
        return picture(figure, self.describe())


def _points(run: Mapping[str, Any], key: str) -> tuple[list[int], list[float]]:
    found = [(x, y) for x, y in zip(run["epoch"], run[key], strict=True) if y is not None]
    return [x for x, _ in found], [y for _, y in found]
