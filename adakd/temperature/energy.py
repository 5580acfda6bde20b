"""Energy-based temperature (Energy KD, Kim et al. 2023): hotter where the teacher is sure, colder where it is not."""

import torch
from torch import Tensor

from .._check import check_numbers
from ._options import check_positive
from .base import TemperatureRule, Temperatures

__all__ = ["Energy"]


class Energy(TemperatureRule):
    r"""A higher temperature for the samples of low energy and a lower one for those of high energy.

    .. math:: \tau_i = \tau + \delta\,\big([E_i \le E_{(k)}] - [E_i \ge E_{(B+1-k)}]\big), \qquad
              E_i = -\log \sum_j e^{t_{ij}}, \qquad k = \lfloor \rho B \rfloor

    with :math:`E_{(1)} \le E_{(2)} \le \dots` the teacher's energies of the batch in order. Energy is low where
    the teacher is sure. It serves teacher and student and carries no gradient. Energies that are equal to within rounding
    are one; if they are both, low and high, their temperature is :math:`\tau`, as in a batch of one.

    A reading of the abstract: two categories of samples by their energy, the low ones hotter and the high ones colder.
    The abstract sorts a *data set*, by a teacher that is fixed; a rule sees a batch, so the order is that of the batch.
    Where the categories part, and by how much their temperatures differ, is ours. Its augmentation of
    samples of high energy is no part of a rule.

    A number added to all logits changes no temperature.

    Args:
        tau: between the two categories, > 0.
        spread: :math:`\delta`, from 0 to below tau; 2 is ours.
        share: :math:`\rho`, part of the batch in each category, above 0 and at most 0.5.

    Shapes: logits (B, K). Returns (B, 1), one of tau - spread, tau, tau + spread.

    Raises:
        ValueError: for a tau that is not above 0, a spread outside [0, tau), or a share outside (0, 0.5].

    Source: arXiv 2311.14334 (abstract); no code of it is known to us.
    """

    reads_batch = True

    def __init__(self, tau: float = 4.0, spread: float = 2.0, share: float = 0.5):
        super().__init__()
        check_positive(tau=tau)
        check_numbers("a number", spread=spread, share=share)
        if not 0 <= spread < tau:
            raise ValueError(f"spread: expected a number from 0 to below tau ({tau:g}), got {spread!r}")
        if not 0 < share <= 0.5:
            raise ValueError(f"share: expected a number above 0 and at most 0.5, got {share!r}")
        self.tau, self.spread, self.share = float(tau), float(spread), float(share)

    @torch.no_grad()
    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None = None, epoch: int | None = None
    ) -> Temperatures:
        energy = -teacher.logsumexp(dim=-1, keepdim=True)  # (B, 1)
        count = int(self.share * len(energy))
        if count == 0:
            tau = torch.full_like(energy, self.tau)
            return Temperatures(tau, tau)
        ordered = energy.flatten().sort().values
        rounding = 64 * torch.finfo(energy.dtype).eps * teacher.abs().amax()
        low = energy <= ordered[count - 1] + rounding
        high = energy >= ordered[-count] - rounding
        tau = self.tau + self.spread * (low.to(energy.dtype) - high.to(energy.dtype))
        return Temperatures(tau, tau)

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, spread={self.spread:g}, share={self.share:g}"
