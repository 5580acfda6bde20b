"""Sweeps: a grid of runs as a small file, carried out by an engine, and resumed from its records."""

from .estimate import Estimate, estimate
from .grid import Cell, Grid, read_grid
from .run import SweepResults, read_sweep_failures, run_sweep

__all__ = [
    "Cell",
    "Estimate",
    "Grid",
    "SweepResults",
    "estimate",
    "read_grid",
    "read_sweep_failures",
    "run_sweep",
]
