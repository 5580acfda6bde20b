"""The maximum logit as temperature (arXiv 2503.09030, Algorithms 1-3)."""

import math

import torch
from torch import Tensor

from .._check import read
from ..logits import Ends, ends_of, peak
from ..theory import lower_factor, upper_factor
from ..theory.series import check_order
from .base import TemperatureRule, Temperatures

__all__ = ["MaxLogit"]

# A row of constant logits standardizes to zeros and would have temperature 0. The smallest peak a
# standardized row of K classes can have is 1 / sqrt(K - 1), so this floor is out of reach of every other row
# up to K = 10^6.
_FLOOR = 1e-3


class MaxLogit(TemperatureRule):
    r"""One temperature per sample from the height of its peak.

    .. math:: \tau_i = c_n \max\left(\max_k z^t_{ik},\; \max_k z^s_{ik}\right),
              \qquad c_2 = \tfrac{1 + \sqrt 3}{2} = 1.3660

    The smallest temperature for which the composed series of the paper converges at every positive logit
    (Eq. 20). It serves teacher and student alike and carries no gradient. Meant for standardized logits; on
    others it works, and is neither shift-invariant nor bounded. It is at least 0.001: a row of equal logits, which
    standardizes to zeros, would have 0. A raw row whose logits are all negative, such as log-probabilities, would have
    less than 0 and gets that floor too, where its divergence all but vanishes: of that a warning is given, once
    and on a CPU.

    Three definitions are in circulation, and the paper and its code disagree:

    ==================  ===================  ==============
    source              reference            magnitude
    ==================  ===================  ==============
    Algorithms 1-3      ``"both"``           ``"signed"``
    released code       ``"both"``           ``"absolute"``
    abstract            ``"teacher"``        ``"signed"``
    ==================  ===================  ==============

    ``magnitude="two-sided"`` is the condition that the derivation needs and the paper leaves out: the
    larger of :math:`c_n^+ \max z` and :math:`c_n^- |\min z|`, so that every logit is inside the interval.

    Args:
        reference: whose peak counts, ``"both"`` or ``"teacher"``.
        magnitude: ``"signed"``, ``"absolute"`` or ``"two-sided"``.
        order: n of the Taylor polynomial, an integer of at least 1 or ``math.inf`` (also as the text
            "inf"); see `adakd.series`.

    Raises:
        ValueError: for another reference, magnitude or order.
    """

    def __init__(self, reference: str = "both", magnitude: str = "signed", order: float = 2):
        super().__init__()
        order = (
            math.inf if isinstance(order, str) and order == "inf" else order
        )  # JSON, and so a record, has no infinity
        if reference not in ("both", "teacher"):
            raise ValueError(f"reference: expected 'both' or 'teacher', got {reference!r}")
        if magnitude not in ("signed", "absolute", "two-sided"):
            raise ValueError(f"magnitude: expected 'signed', 'absolute' or 'two-sided', got {magnitude!r}")
        check_order(order)
        self.reference = reference
        self.magnitude = magnitude
        self.order = order
        self.upper = upper_factor(order)
        self.lower = lower_factor(order)

    def _lowest(self, logits: Tensor, ends: Ends | None) -> Tensor:
        if ends is None and self.magnitude == "signed":
            return self.upper * peak(logits)
        low, high = ends_of(logits) if ends is None else ends
        if self.magnitude == "signed":
            return self.upper * high
        if self.magnitude == "two-sided":
            return torch.maximum(self.upper * high, -self.lower * low)
        return self.upper * torch.maximum(high, -low)

    @torch.no_grad()
    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        target: Tensor | None = None,
        epoch: int | None = None,
        *,
        ends: tuple[Ends | None, Ends | None] = (None, None),
    ) -> Temperatures:
        tau = self._lowest(teacher, ends[1])  # (B, 1)
        if self.reference == "both":
            tau = torch.maximum(tau, self._lowest(student, ends[0]))
        tau = tau.clamp(min=_FLOOR)
        return Temperatures(tau, tau)

    def complaint(self, student: Tensor, teacher: Tensor, temperatures: Temperatures) -> str | None:
        low = temperatures.teacher <= _FLOOR  # in the tensor's format: as a float32 the floor is above itself
        if not read(low.any()):
            return None
        flat = (teacher == teacher[:, :1]).all(dim=1, keepdim=True)
        rows = int((low & ~flat).sum())
        if not rows:
            return None
        return (
            f"the maximum logit of {rows} of {len(teacher)} rows is not above 0, so their temperature is its floor, "
            f"{_FLOOR:g}, and their divergence all but vanishes: standardize the logits, or take magnitude='absolute'; "
            "log-probabilities are no logits to take a maximum of"
        )

    def extra_repr(self) -> str:
        return f"reference={self.reference!r}, magnitude={self.magnitude!r}, order={self.order}"
