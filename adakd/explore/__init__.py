"""Figures: live ones that answer back (anywidget) and the style of the still ones. Extra `book`.

Nothing else in adakd imports this package.
"""

from .gradient import GradientExplorer
from .style import COLORS, log_axis, picture, use_style
from .taylor import TaylorExplorer
from .temperature import TemperatureExplorer
from .zoo import ZooExplorer

__all__ = [
    "COLORS",
    "GradientExplorer",
    "TaylorExplorer",
    "TemperatureExplorer",
    "ZooExplorer",
    "log_axis",
    "picture",
    "use_style",
]
