"""Cosine-similarity-weighted temperature (Ham et al. 2023): softer where student and teacher disagree."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ._options import check_bounds
from .base import TemperatureRule, Temperatures

__all__ = ["Cosine"]


class Cosine(TemperatureRule):
    r"""A temperature a sample that falls linearly with the cosine similarity of teacher and student.

    .. math:: \tau_i = \tau_{min} + (\tau_{max} - \tau_{min})\,
              \frac{c_{high} - c_i}{c_{high} - c_{low}}, \qquad
              c_i = \frac{\langle p_i, q_i\rangle}{\lVert p_i \rVert\, \lVert q_i \rVert}

    with :math:`p_i, q_i` the two softmax outputs at temperature 1. It serves teacher and student and carries no
    gradient.

    Decided: the abstract has a lower temperature where the similarity is high and a higher one where it is low.
    ``span="batch"`` is how a public implementation fills that in: the similarity is that of probabilities, not of
    logits, and :math:`c_{low}, c_{high}` are the extremes *of the batch*, so that every batch uses the whole
    range, however alike its samples are, and a sample's temperature depends on its company. Where all similarities are
    equal (a batch of one) that code divides 0 by 0; here the temperature is then the middle of the range, also
    where they are equal to within rounding.
    ``span="unit"`` is ours: the extremes are 0 and 1, and each sample stands for itself. The paper uses the rule in
    its own cosine loss, beside one at a fixed temperature; that is a divergence, not part of the rule.

    Args:
        minimum: :math:`\tau_{min}` > 0. The paper's values are not known to us; 2 and 6 are ours.
        maximum: :math:`\tau_{max}`.
        span: ``"batch"`` or ``"unit"``.

    Shapes: logits (B, K). Returns (B, 1), in [minimum, maximum].

    Raises:
        ValueError: for bounds that are not ordered or not above 0, or another span.

    Source: arXiv 2311.14307 (CSWT).
    """

    def __init__(self, minimum: float = 2.0, maximum: float = 6.0, span: str = "batch"):
        super().__init__()
        check_bounds(minimum, maximum)
        if span not in ("batch", "unit"):
            raise ValueError(f"span: expected 'batch' or 'unit', got {span!r}")
        self.minimum, self.maximum = float(minimum), float(maximum)
        self.span = span
        self.reads_batch = span == "batch"

    def _distance(self, similarity: Tensor) -> Tensor:
        """Similarity (B, 1) -> how far from the most similar, from 0 to 1."""
        if self.span == "unit":
            return (1 - similarity).clamp(0, 1)  # rounding may exceed 1
        low, high = similarity.aminmax()
        # Once student and teacher agree everywhere, only rounding would be left to spread over the range.
        some = high - low > 64 * torch.finfo(similarity.dtype).eps
        return torch.where(some, (high - similarity) / (high - low), 0.5)

    @torch.no_grad()
    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None = None, epoch: int | None = None
    ) -> Temperatures:
        similarity = F.cosine_similarity(student.softmax(dim=-1), teacher.softmax(dim=-1), dim=-1)
        tau = torch.lerp(  # exact at both ends
            student.new_full((), self.minimum),
            student.new_full((), self.maximum),
            self._distance(similarity.unsqueeze(-1)),
        )
        return Temperatures(tau, tau)

    def extra_repr(self) -> str:
        return f"minimum={self.minimum:g}, maximum={self.maximum:g}, span={self.span!r}"
