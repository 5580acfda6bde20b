"""Relational distillation: distances and angles between the images of a batch (Park et al. 2019)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .._check import check_numbers
from ..signals import Batch, Signals
from ._layers import check_positive, pairs_of, taps_of, unit
from .base import Term

__all__ = ["RKD"]


class RKD(Term):
    r"""Distance of the relations that two networks see between the images of a batch.

    .. math:: \ell_i = \frac{\lambda_d}{N} \sum_j H\big(\psi^s_{ij},\ \psi^t_{ij}\big)
              + \frac{\lambda_a}{N^2} \sum_{j,k} H\big(\cos\angle^s_{jik},\ \cos\angle^t_{jik}\big), \qquad
              \psi_{ij} = \frac{\|f_i - f_j\|}{\mu}

    with H the smooth L1 distance (½x² up to 1, |x| − ½ beyond), μ the mean distance between two different images of the
    batch, and the angle that at image i between j and k. Neither scale nor orientation of the features matters.

    Args:
        student_layers, teacher_layers: the submodule whose output is meant, of a network of your own; ``pooled`` when
            left out. It is flattened.
        distance_weight, angle_weight: :math:`\lambda_d`, :math:`\lambda_a`.
        squared: whether distances are left squared.

    Shapes: features (N, …). Returns (N,), and each row's value depends on the whole batch. 0 for a batch of one.

    Raises:
        ValueError: for a negative weight, several layers of a network.

    Source: Park et al. 2019 (arXiv 1904.05068); layer, weights 25 and 50, and the means over all N² pairs and N³ triples,
    those of an image with itself among them, are those of the CRD repository, with which mdistiller agrees.

    Differs from the paper:
        - Sums over pairs and triples of different images there, means here.
        - Where two images of a batch have one feature, their direction and its gradient are 0; the released codes multiply
          the gradient by 1e12 there.
    """

    reads_batch = True

    def __init__(
        self,
        student_layers: str | None = None,
        teacher_layers: str | None = None,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        squared: bool = False,
    ):
        super().__init__()
        check_numbers("a number of at least 0", distance_weight=distance_weight, angle_weight=angle_weight)
        for name, value in (("distance_weight", distance_weight), ("angle_weight", angle_weight)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name}: expected a number of at least 0, got {value!r}")
        check_positive(**{"distance_weight + angle_weight": distance_weight + angle_weight})
        self.taps = taps_of(("pooled",), student_layers, teacher_layers)
        if len(self.taps.student) > 1:
            raise ValueError(f"student_layers: expected one layer, got {len(self.taps.student)}")
        self.distance_weight, self.angle_weight, self.squared = distance_weight, angle_weight, squared

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        ((s, t),) = pairs_of(self.taps, student, teacher)
        s, t = s.flatten(1), t.flatten(1)
        value = s.new_zeros(len(s))
        if self.distance_weight > 0:
            apart = F.smooth_l1_loss(distances(s, self.squared), distances(t, self.squared), reduction="none")
            value = value + self.distance_weight * apart.mean(dim=1)
        if self.angle_weight > 0:
            apart = F.smooth_l1_loss(angles(s), angles(t), reduction="none")
            value = value + self.angle_weight * apart.mean(dim=(1, 2))
        return value

    def extra_repr(self) -> str:
        return f"distance_weight={self.distance_weight:g}, angle_weight={self.angle_weight:g}, squared={self.squared}"


def distances(x: Tensor, squared: bool = False) -> Tensor:
    """Distances (N, N) of vectors (N, C), over the mean of those between different ones."""
    squares = x.square().sum(dim=1)
    # Kept above 1e-12, where the root has a gradient: of one vector twice it is then 0.
    found = (squares[:, None] + squares[None, :] - 2 * x @ x.T).clamp(min=1e-12)
    if not squared:
        found = found.sqrt()
    found = found * (1 - torch.eye(len(x), dtype=x.dtype, device=x.device))
    pairs = len(x) * (len(x) - 1)
    return found / (found.sum() / pairs) if pairs else found


def angles(x: Tensor) -> Tensor:
    """Cosines (N, N, N) of the angles at vector i of (N, C) between the directions to j and k."""
    directions = unit(x[None, :, :] - x[:, None, :], dim=2)
    return directions @ directions.mT
