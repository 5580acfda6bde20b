"""Shared by the tests of the rules: the golden trajectories."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def golden():
    """.scalars: the JSON; .arrays: name -> float64 array."""
    scalars = json.loads((GOLDEN / "golden_dev.json").read_text())
    with np.load(GOLDEN / "golden_dev.npz") as arrays:
        return SimpleNamespace(scalars=scalars, arrays=dict(arrays))
