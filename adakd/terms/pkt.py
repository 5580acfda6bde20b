"""Probabilistic knowledge transfer: how likely a network finds one image beside another (Passalis & Tefas 2018)."""

import torch
from torch import Tensor

from ..signals import Batch, Signals
from ._layers import pairs_of, taps_of
from .base import Term

__all__ = ["PKT"]

_EPS = 1e-7  # of the released code, in the norms and in the logarithm


class PKT(Term):
    r"""Divergence of the probabilities that two networks give to the other images of a batch.

    .. math:: p_{ij} = \frac{\tfrac12 (\cos(f_i, f_j) + 1)}{\sum_k \tfrac12 (\cos(f_i, f_k) + 1)}, \qquad
              \ell_i = \frac1N \sum_j p^t_{ij} \log\frac{p^t_{ij} + \epsilon}{p^s_{ij} + \epsilon}

    with ε = 1e-7. In nats.

    Args:
        student_layers, teacher_layers: the submodules whose outputs are meant, separated by commas, of a network of your
            own; ``pooled`` when left out. They are flattened.

    Shapes: features (N, …), of any size. Returns (N,), and each row's value depends on the whole batch.

    Raises:
        ValueError: for another number of layers of one network than of the other.

    Source: Passalis & Tefas 2018 (arXiv 1803.10837) and their released code; weight 30 000 from the CRD repository.
    mdistiller and torchdistill agree in the formula.

    Differs from the paper:
        - The released code's mean over all N² pairs, an image with itself among them; the paper sums over different ones.
        - A feature of zeros has cosine 0 with all others and a gradient of 0; the released codes give NaN there.
    """

    reads_batch = True

    def __init__(self, student_layers: str | None = None, teacher_layers: str | None = None):
        super().__init__()
        self.taps = taps_of(("pooled",), student_layers, teacher_layers)

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        total = student.logits.new_zeros(())
        for s, t in pairs_of(self.taps, student, teacher):
            p_s, p_t = affinities(s), affinities(t)
            total = total + (p_t * ((p_t + _EPS) / (p_s + _EPS)).log()).mean(dim=1)
        return total

    def extra_repr(self) -> str:
        return f"taps={tuple(self.taps)}"


def affinities(x: Tensor) -> Tensor:
    """Probabilities (N, N) of features (N, …) beside each other, from their cosines."""
    x = x.flatten(1)
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    x = torch.where(norm > 0, x / (norm + _EPS), 0.0)
    likeness = (x @ x.T + 1) / 2
    return likeness / likeness.sum(dim=1, keepdim=True)
