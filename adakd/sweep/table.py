"""A sweep's table, as it fills: runs done, running and left, and means of the accuracy."""

import logging
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._progress import progress_bar
from ..statistics import mean_interval
from ..study.tables import plus_minus
from .grid import Cell

__all__ = ["LiveTable", "format_cells"]

log = logging.getLogger("adakd")

_MOST_LINES = 12


def format_cells(cells: Iterable[Cell], accuracy: Mapping[Cell, float], failed: Iterable[Cell] = ()) -> str:
    """A line for each pair and method: how many seeds are done, and their mean; ± is half of a 95 % interval."""
    groups = _groups(cells)
    wrong = set(failed)
    rows = [("teacher → student", "method", "done", "accuracy, %", "failed")]
    for (pair, label), members in groups.items():
        found = [accuracy[cell] for cell in members if cell in accuracy]
        failures = sum(cell in wrong for cell in members)
        mean = plus_minus(mean_interval(found)) if found else "–"
        rows.append((pair, label, f"{len(found)}/{len(members)}", mean, str(failures) if failures else ""))
    if not wrong:
        rows = [row[:-1] for row in rows]  # type: ignore[misc]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if i < 2 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _groups(cells: Iterable[Cell]) -> dict[tuple[str, str], list[Cell]]:
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.pair, cell.label), []).append(cell)
    return groups


class LiveTable:
    """What a terminal shows while a sweep is under way; elsewhere, a line of the log for each run that ends.

    Args:
        cells: of the grid.
        shows: whether to show anything.
    """

    def __init__(self, cells: Sequence[Cell], shows: bool = True):
        self.cells = cells
        self.groups = _groups(cells)
        self.accuracy: dict[Cell, float] = {}
        self.failed: set[Cell] = set()
        self.running: dict[str, str] = {}  # what each task that is under way is at
        self.drawn_at = 0.0
        live = shows and sys.stderr.isatty()
        self.bar = progress_bar(live, len(cells), desc="sweep", unit="run", dynamic_ncols=True, smoothing=0)
        height = shutil.get_terminal_size().lines - 4
        count = max(0, min(_MOST_LINES, len(self.groups), height)) if live else 0
        self.lines = [
            progress_bar(True, bar_format="{desc}", position=i + 1, leave=False) for i in range(count)
        ]

    def begin(self, done: Mapping[Cell, float]) -> None:
        """What was there already."""
        self.accuracy.update(done)
        self.bar.update(len(done))
        self.bar.initial = len(done)  # the time that is left is reckoned from the others
        self.draw()

    def end(self, cell: Cell, accuracy: float | None, error: BaseException | None = None) -> None:
        """A run has ended: finished, or failed."""
        if accuracy is not None:
            self.accuracy[cell] = accuracy
        else:
            self.failed.add(cell)
        self.bar.update()
        count = f"{len(self.accuracy)} of {len(self.cells)} done"
        if accuracy is None:
            log.warning("%s failed (%s); the others go on", cell.name, error)
        else:
            log.info("%s: %.2f %% (%s)", cell.name, accuracy, count)
        self.draw()

    def at(self, task: str, what: str) -> None:
        """What a task is at; drawn at most twice a second."""
        self.running[task] = what
        if time.monotonic() - self.drawn_at > 0.5:
            self.draw()

    def under_way(self, tasks: Mapping[str, str]) -> None:
        """Which tasks are under way, and what is known of each."""
        self.running = {name: self.running.get(name, what) for name, what in tasks.items()}
        self.draw()

    def draw(self) -> None:
        """The terminal's lines anew: what is running first, then what has the most runs done."""
        self.drawn_at = time.monotonic()
        self.bar.set_postfix({"running": len(self.running), "failed": len(self.failed)}, refresh=True)
        if not self.lines:
            return
        texts = [f"  … {what}" for what in self.running.values()]
        for (pair, label), members in self.groups.items():
            found = [self.accuracy[cell] for cell in members if cell in self.accuracy]
            if found and len(texts) < len(self.lines):
                mean = plus_minus(mean_interval(found))
                texts.append(f"  {pair:28} {label:24} {len(found)}/{len(members)}  {mean}")
        for line, text in zip(self.lines, [*texts, *[""] * len(self.lines)], strict=False):
            line.set_description_str(text, refresh=True)

    def close(self) -> None:
        for line in reversed(self.lines):
            line.close()
        self.bar.close()

    def __enter__(self) -> "LiveTable":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
