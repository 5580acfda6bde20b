"""Dynamic temperature scheduler (Islam et al. 2025): a cosine from soft to sharp, corrected by the loss gap."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .._check import check_finite_options, check_numbers
from ._options import check_bounds, check_positive, check_target, finite_or
from .base import TemperatureRule, Temperatures

__all__ = ["DTS", "boost", "next_temperature"]


def boost(gap: Tensor) -> Tensor:
    r"""How much hotter than its schedule the temperature aims, given :math:`d = \mathrm{CE}_t - \mathrm{CE}_s`.

    .. math:: a = \frac{d}{d + 1}, \qquad
              \text{boost} = \begin{cases} 1.35 & a > 2 \\ a & 1 < a \le 2 \\ 1 & \text{otherwise} \end{cases}

    In words: 1 until the student's cross entropy exceeds the teacher's by 1 nat; 1.35 for an excess of 1 to 2; then
    2, falling back towards 1 as the excess grows. So it jumps twice and is not monotonic. At an excess of exactly
    1 nat, where a is a division by zero, the boost is 1.

    >>> boost(torch.tensor([0.5, -1.0, -1.5, -2.0, -4.0]))
    tensor([1.0000, 1.0000, 1.3500, 2.0000, 1.3333])
    """
    beyond = gap + 1
    a = gap / torch.where(beyond == 0, 1.0, beyond)
    return torch.where(a > 2, 1.35, a.clamp(min=1.0))


def next_temperature(tau: Tensor, aim: Tensor, minimum: float, maximum: float, momentum: float) -> Tensor:
    r"""One update, :math:`\tau \leftarrow \mu \tau + (1 - \mu)\,\mathrm{clip}(\text{aim}, \tau_{min}, \tau_{max})`."""
    return momentum * tau + (1 - momentum) * aim.clamp(minimum, maximum)


class DTS(TemperatureRule):
    r"""One temperature that follows a falling cosine, and is pushed up while the student lags behind.

    .. math:: \tau \leftarrow \mu \tau + (1 - \mu)\,
              \mathrm{clip}\big(\tau_0\, c_e\, \mathrm{boost}(d),\ \tau_{min},\ \tau_{max}\big), \qquad
              c_e = \tfrac12\left(1 + \cos(\pi\, \kappa\, e / E)\right), \qquad
              d = \mathrm{CE}(t, y) - \mathrm{CE}(s, y)

    The boost is in `boost`. Each training step returns the temperature as it stands and then updates it from its
    batch, in training mode only; no gradient. With the defaults the cosine is below
    :math:`\tau_{min}` for the second half of the training, and :math:`\tau_0 = \tau_{max}` leaves the boost nothing
    to raise at first.

    The update is that of an earlier public code of the author's (Sibgat-Ul/DATS_enhanced), reproduced to rounding; the
    paper says in words that the schedule goes from soft to sharp and follows the gap of the cross entropies. Both
    cross entropies are those of the logits that the rule sees; the code takes the raw ones, which differ
    where logits are standardized.

    Args:
        initial: :math:`\tau_0`, the first temperature and the scale of the cosine.
        minimum: :math:`\tau_{min}` > 0.
        maximum: :math:`\tau_{max}`.
        epochs: E, the length of the training; epochs count from 1, and None as epoch means the last.
        curve: :math:`\kappa`, how much of the half cosine is used.
        adjust: False for the cosine alone, which needs no labels.
        momentum: :math:`\mu`, in [0, 1).

    Shapes: logits (B, K), target (B,). Returns (1, 1).

    Raises:
        ValueError: for bounds that are not ordered or not above 0, a momentum outside [0, 1), or no target in training.

    Source: arXiv 2511.13767; code: Sibgat-Ul/DATS_enhanced, its predecessor.
    """

    reads_epoch = True
    keeps_state = True
    tau: Tensor

    def __init__(
        self,
        initial: float = 4.0,
        minimum: float = 2.0,
        maximum: float = 4.0,
        epochs: int = 240,
        curve: float = 1.0,
        adjust: bool = True,
        momentum: float = 0.9,
    ):
        super().__init__()
        check_bounds(minimum, maximum)
        check_positive(initial=initial, epochs=epochs)
        check_finite_options(curve=curve)
        check_numbers("a number in [0, 1)", momentum=momentum)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1), got {momentum!r}")
        self.initial = float(initial)
        self.minimum, self.maximum = float(minimum), float(maximum)
        self.epochs = epochs
        self.curve = float(curve)
        self.adjust = adjust
        self.reads_target = adjust
        self.momentum = float(momentum)
        self.register_buffer("tau", torch.full((1, 1), self.initial))

    def _cosine(self, epoch: int | None) -> float:
        progress = 1.0 if epoch is None else min(epoch, self.epochs) / self.epochs
        return (1.0 + math.cos(math.pi * self.curve * progress)) / 2.0

    def _boost(self, student: Tensor, teacher: Tensor, target: Tensor | None) -> Tensor:
        if not self.adjust:
            return torch.ones_like(self.tau)
        target = check_target(self, target)
        gap = F.cross_entropy(teacher, target) - F.cross_entropy(student, target)
        return boost(gap.to(self.tau.dtype))

    @torch.no_grad()
    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None = None, epoch: int | None = None
    ) -> Temperatures:
        tau = self.tau.to(student.dtype, copy=True)  # a copy: the update below is in place
        if self.training:
            aim = self.initial * self._cosine(epoch) * self._boost(student, teacher, target)
            moved = next_temperature(self.tau, aim, self.minimum, self.maximum, self.momentum)
            self.tau.copy_(finite_or(moved, self.tau))
        return Temperatures(tau, tau)

    def extra_repr(self) -> str:
        return (
            f"initial={self.initial:g}, minimum={self.minimum:g}, maximum={self.maximum:g}, epochs={self.epochs}, "
            f"curve={self.curve:g}, adjust={self.adjust}, momentum={self.momentum:g}"
        )
