"""Figures: live ones, with controls (anywidget), and the style of the still ones. Extra `book`.

Nothing else in adakd imports this package: the still figures' style, which `adakd.advise` draws in too, is `adakd._style`.
"""

from .gradient import GradientExplorer
from .limit import LimitExplorer
from .playground import Playground
from .progress import TrainingProgress
from .ranking import RankingExplorer
from .sentence import SentenceExplorer
from .session import Session, minutes, start_session
from .style import COLORS, log_axis, picture, use_style
from .taylor import TaylorExplorer
from .temperature import TemperatureExplorer
from .zoo import ZooExplorer

__all__ = [
    "COLORS",
    "GradientExplorer",
    "LimitExplorer",
    "Playground",
    "RankingExplorer",
    "SentenceExplorer",
    "Session",
    "TaylorExplorer",
    "TemperatureExplorer",
    "TrainingProgress",
    "ZooExplorer",
    "log_axis",
    "minutes",
    "picture",
    "start_session",
    "use_style",
]
