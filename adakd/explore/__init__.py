"""Figures: live ones that answer back (anywidget) and the style of the still ones. Extra `book`.

Nothing else in adakd imports this package.
"""

from .style import COLORS, log_axis, picture, use_style
from .temperature import TemperatureExplorer

__all__ = ["COLORS", "TemperatureExplorer", "log_axis", "picture", "use_style"]
