"""The style of the book's still figures, which is that of all: `adakd._style`, and what the chapters need beside it."""

from typing import Any

from .._style import COLORS, Picture, picture, use_style

__all__ = ["COLORS", "Picture", "log_axis", "picture", "use_style"]


def log_axis(ax: Any, label: str, *ticks: float) -> None:
    """Make x logarithmic from the first tick to the last, with plain numbers at the ticks and nowhere else."""
    ax.set(xscale="log", xlim=(ticks[0], ticks[-1]), xlabel=label)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
