"""Attention transfer: where the energy of a network's maps is (Zagoruyko & Komodakis 2017)."""

import torch
from torch import Tensor

from ..signals import Batch, Signals
from ._layers import STAGES, check_positive, map_pairs, taps_of, unit
from .base import Term

__all__ = ["Attention"]

DISTANCES = ("mean-square", "norm")


class Attention(Term):
    r"""Distance of attention maps, summed over stages.

    .. math:: Q_i = \operatorname{vec}\Big(\tfrac1C \sum_c |f_{i,c}|^p\Big), \qquad
              \ell_i = \sum_{\text{stages}} \tfrac{1}{H W}\,
              \Big\| \frac{Q^s_i}{\|Q^s_i\|} - \frac{Q^t_i}{\|Q^t_i\|} \Big\|^2

    The larger maps are averaged over fields to the size of the smaller ones; their channels may differ.

    Args:
        student_layers, teacher_layers: the submodules whose maps are meant, separated by commas, of a network of your
            own; all stages that both networks have when left out.
        p: the exponent.
        distance: ``"mean-square"`` as above, as all released codes have it; ``"norm"`` for the paper's Eq. 2, which sums
            the norms themselves, neither squared nor divided by the number of fields.

    Shapes: features (N, C, H, W), a pair a stage. Returns (N,).

    Raises:
        ValueError: for p of 0 or less, another distance; for features that are no maps.

    Source: Zagoruyko & Komodakis 2017 (arXiv 1612.03928) and their released code; weight 1000 is that of the CRD
    repository, with which mdistiller agrees.

    Differs from the paper:
        - The mean square distance of the authors' code, not Eq. 2; ``distance="norm"`` gives that one (then at β/2).
        - The paper pairs groups of residual blocks of one size; unequal sizes are averaged, as the CRD repository does.
        - A wide ResNet's stages end here after the norm and ReLU that follow them, in the CRD repository before
          (``"block1, block2, block3"``).
    """

    def __init__(
        self,
        student_layers: str | None = None,
        teacher_layers: str | None = None,
        p: float = 2.0,
        distance: str = "mean-square",
    ):
        super().__init__()
        check_positive(p=p)
        if distance not in DISTANCES:
            raise ValueError(f"distance: expected {' or '.join(map(repr, DISTANCES))}, got {distance!r}")
        self.taps = taps_of(STAGES, student_layers, teacher_layers)
        self.p, self.distance = p, distance

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        total = student.logits.new_zeros(())
        for s, t in map_pairs(self.taps, student, teacher):
            apart = attention(s, self.p) - attention(t, self.p)
            if self.distance == "norm":
                total = total + torch.linalg.vector_norm(apart, dim=1)
            else:
                total = total + apart.square().mean(dim=1)
        return total

    def extra_repr(self) -> str:
        return f"p={self.p:g}, distance={self.distance!r}, taps={tuple(self.taps)}"


def attention(maps: Tensor, p: float) -> Tensor:
    """Attention (N, H·W) of maps (N, C, H, W), each of norm 1."""
    energy = maps.square() if p == 2 else maps.abs().pow(p)
    return unit(energy.mean(dim=1).flatten(1))
