"""The style of still figures, one for the book's chapters and for the library's own. No figure library is imported before
one is drawn.

Middle tones only: every hue has a contrast near 4:1 on white and on the dark theme's near-black, so one
transparent SVG reads in both. No reader can tell the four hues apart by their lightness, so no figure relies on colour
alone: lines are labelled where they end, and differ in dash or marker.
"""

import io
import re
from typing import Any

__all__ = ["COLORS", "Picture", "picture", "style", "use_style"]

COLORS = {
    "ink": "#747a82",
    "teacher": "#2a7fcb",  # blue
    "student": "#cf6314",  # orange
    "mark": "#9a63cc",  # violet: whatever the figure is about
    "second": "#1f8a6d",  # green
}

_STYLE = {
    "figure.figsize": (7.2, 3.2),
    "figure.constrained_layout.use": True,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same layout on every machine
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "grid.linewidth": 0.6,
    "grid.alpha": 0.3,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: selectable, searchable, small
    "svg.hashsalt": "adakd",
    "savefig.transparent": True,
}

# The reader's own sans serif; DejaVu, by which matplotlib measured, is the widest of them, so nothing overlaps.
_FONTS = "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', Arial, sans-serif"


def style() -> dict[Any, Any]:
    """The style as settings of matplotlib, for a `matplotlib.rc_context`."""
    from cycler import cycler

    ink, hues = COLORS["ink"], [COLORS[name] for name in ("teacher", "student", "mark", "second")]
    keys = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
    return {**_STYLE, **dict.fromkeys(keys, ink), "axes.prop_cycle": cycler(color=hues)}


def use_style() -> None:
    """Set matplotlib's defaults to the style, and its backend to the one that opens no window: for a notebook of figures."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams.update(style())


class Picture:
    """A finished figure: an SVG with a text alternative, the same bytes on every run."""

    def __init__(self, svg: str, alt: str):
        self.svg = svg
        self.alt = alt

    def __repr__(self) -> str:
        return self.alt

    def _repr_svg_(self) -> str:
        return self.svg


def _round(attribute: re.Match[str]) -> str:
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", attribute[0])


def picture(figure: Any, alt: str) -> Picture:
    """Close a matplotlib figure and return it as a `Picture`, to be the last line of a cell.

    Args:
        figure: a ``matplotlib.figure.Figure``.
        alt: what the figure shows, in one or two sentences, for readers who do not see it.

    Raises:
        ValueError: if the text alternative is empty.
    """
    import matplotlib.pyplot as plt

    if not alt.strip():
        raise ValueError("alt: expected a sentence that says what the figure shows, got an empty text")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace("'DejaVu Sans'", _FONTS)
    # Hundredths of a point: smaller files, and the same bytes where a CPU rounds the last digit otherwise.
    svg = re.sub(r'(?<= )(?:d|x|y|points|transform)="[^"]*"', _round, svg)
    title = alt.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    svg = re.sub(r"<svg[^>]*>", lambda tag: f"{tag[0]}\n <title>{title}</title>", svg, count=1)
    return Picture(svg, alt)
