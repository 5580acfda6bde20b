"""Similarity-preserving distillation: which images of a batch a network finds alike (Tung & Mori 2019)."""

from torch import Tensor

from ..signals import Batch, Signals
from ._layers import pairs_of, taps_of, unit
from .base import Term

__all__ = ["SP"]


class SP(Term):
    r"""Square distance of the similarities between the images of a batch.

    .. math:: G = F F^\top, \qquad
              \ell_i = \frac1N \sum_{\text{layers}} \sum_j \Big( \frac{G^s_{ij}}{\|G^s_i\|} - \frac{G^t_{ij}}{\|G^t_i\|} \Big)^2

    with F (N, C·H·W) the flattened features of the batch and :math:`G_i` a row of the Gram matrix.

    Args:
        student_layers, teacher_layers: the submodules whose outputs are meant, separated by commas, of a network of your
            own; ``last`` when left out.

    Shapes: features (N, …), of any size. Returns (N,), and each row's value depends on the whole batch.

    Raises:
        ValueError: for another number of layers of one network than of the other.

    Source: Tung & Mori 2019 (arXiv 1907.09682); the layer and weight 3000 are those of the CRD repository, which calls
    its code verified by the author; mdistiller agrees.

    Differs from the paper:
        - Not in the formula. Where a head stands behind the last stage (MobileNetV2, ShuffleNetV2), ``last`` is the head's
          map; the released codes read the last stage (``student_layers="stage4"`` or ``"stage3"``).
        - A row of zeros stays zero, with a gradient of 0, which the released codes multiply by 1e12.
    """

    reads_batch = True

    def __init__(self, student_layers: str | None = None, teacher_layers: str | None = None):
        super().__init__()
        self.taps = taps_of(("last",), student_layers, teacher_layers)

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        total = student.logits.new_zeros(())
        for s, t in pairs_of(self.taps, student, teacher):
            total = total + (similarities(s) - similarities(t)).square().mean(dim=1)
        return total

    def extra_repr(self) -> str:
        return f"taps={tuple(self.taps)}"


def similarities(x: Tensor) -> Tensor:
    """Inner products (N, N) of features (N, …), each row of norm 1."""
    x = x.flatten(1)
    return unit(x @ x.T)
