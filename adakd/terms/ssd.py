"""Stochastic self-distillation: the teacher's features under dropout, weighted by the student's (Aslam et al. 2025)."""

import torch
from torch import Tensor, nn

from .._check import check_finite_options, check_numbers, check_whole
from .._hash import hashed
from ..signals import Batch, Signals, Taps
from ._features import feature, position, refuse_unbuilt
from .base import Term

__all__ = ["SSD"]

_DROP = 8  # a stream of `hashed` of its own


class SSD(Term):
    r"""Square distance to a mean of the teacher's features under dropout, of those that are nearest the student's.

    Of M passes of dropout on the teacher's pooled features, :math:`r_{im}`, those count whose attention is at or above a
    quantile among the image's M:

    .. math:: a_{im} = \operatorname{softmax}_m \frac{f^s_i \cdot r_{im}}{\tau}, \qquad
              w_{im} \propto a_{im}\, [a_{im} \ge \mathrm{quantile}_m(a_i)], \qquad
              \ell_i = \tfrac1C \Big\| f^s_i - \sum_m w_{im} r_{im} \Big\|^2

    The attention follows the student and is differentiated too. What is dropped is a pure function of seed, epoch,
    image, pass and channel, so that a resumed run goes on exactly.

    Args:
        passes: M.
        rate: share of the features that a pass drops; the others are divided by 1 - rate.
        tau: temperature of the attention.
        quantile: from 0 (all passes count) to 1 (the best alone).

    Shapes: features ``pooled`` (N, C). Returns (N,).

    Raises:
        ValueError: for an option out of range, or a batch without positions.

    Source: Aslam et al. 2025 (arXiv 2504.14307) and their released code.

    Differs from the paper:
        - Teacher and student are one architecture there; here the student's features go through a linear embedding where
          their number is another one.
        - Dropout acts on the pooled features, since the networks for CIFAR have no dropout layers. Rate ½ is ours; 30
          passes, τ = 5, the quantile 0.9 and the weight ½ are of the released code.
    """

    taps = Taps(("pooled",), ("pooled",))
    reads_epoch = True

    embed: nn.Module
    seed: Tensor

    def __init__(self, passes: int = 30, rate: float = 0.5, tau: float = 5.0, quantile: float = 0.9):
        super().__init__()
        check_whole(1, passes=passes)
        check_finite_options(tau=tau)
        check_numbers("a number", rate=rate, quantile=quantile)
        if not 0 <= rate < 1:
            raise ValueError(f"rate: expected a number in [0, 1), got {rate!r}")
        if not tau > 0:
            raise ValueError(f"tau: expected a positive number, got {tau!r}")
        if not 0 <= quantile <= 1:
            raise ValueError(f"quantile: expected a number in [0, 1], got {quantile!r}")
        self.passes, self.rate, self.tau, self.quantile = passes, rate, tau, quantile

    def build(self, student: Signals, teacher: Signals, train_images: int) -> None:
        inner = feature(student, "pooled", "student").flatten(1).shape[1]
        outer = feature(teacher, "pooled", "teacher").flatten(1).shape[1]
        self.embed = nn.Identity() if inner == outer else nn.Linear(inner, outer)
        self.register_buffer("seed", torch.randint(2**31, ()))

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        refuse_unbuilt(self, "embed")
        s = self.embed(feature(student, "pooled", "student").flatten(1))  # (N, C)
        t = feature(teacher, "pooled", "teacher").flatten(1).detach()
        passes = t.unsqueeze(1) * self.kept(position(batch, self, len(t)), batch.epoch, t.shape[1])  # (N, M, C)
        weight = self.attention(s, passes)
        target = torch.einsum("nm,nmc->nc", weight, passes)
        return (s - target).square().mean(dim=1)

    def kept(self, index: Tensor, epoch: int | None, channels: int) -> Tensor:
        """What each pass multiplies each feature by, (N, M, C): 0 or 1 / (1 - rate)."""
        row = hashed(_DROP, 0, self.seed, hashed(_DROP, 0, epoch or 0, index))[:, None, None]
        place = torch.arange(self.passes * channels, device=index.device).view(1, self.passes, channels)
        bits = hashed(_DROP, 0, row, place.expand(len(index), -1, -1))
        return (bits >= int(self.rate * 2**32)) / (1 - self.rate)

    def attention(self, student: Tensor, passes: Tensor) -> Tensor:
        """Weight of each pass (N, M); those below the quantile are 0, the others sum to 1."""
        attention = (torch.einsum("nc,nmc->nm", student, passes) / self.tau).softmax(dim=1)
        bound = attention.detach().quantile(self.quantile, dim=1, keepdim=True)
        attention = torch.where(attention >= bound, attention, 0.0)
        return attention / attention.sum(dim=1, keepdim=True)

    def extra_repr(self) -> str:
        return f"passes={self.passes}, rate={self.rate:g}, tau={self.tau:g}, quantile={self.quantile:g}"
