"""Hypothesis strategies for logits, shared by the property tests."""

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

# Hundredths, not arbitrary floats: ties, constant rows and extreme peaks occur, and a spread of 1e-12, where only
# rounding would be measured, does not.
_hundredths = st.integers(-3000, 3000)


def rows(batch: int, classes: int):
    return arrays(np.int64, (batch, classes), elements=_hundredths).map(lambda x: torch.tensor(x / 100))


@st.composite
def batches(draw, min_classes=2, max_classes=9, spread=False):
    """(student, teacher, target) in float64; with `spread`, no row of either is constant."""
    batch, classes = draw(st.integers(1, 4)), draw(st.integers(min_classes, max_classes))
    logits = rows(batch, classes)
    if spread:
        logits = logits.filter(lambda x: bool((x.amax(1) > x.amin(1)).all()))
    target = draw(arrays(np.int64, batch, elements=st.integers(0, classes - 1)))
    return draw(logits), draw(logits), torch.tensor(target)
