"""Dynamic temperature (Wei & Bai 2024): the sharper of the two models gets the higher temperature."""

import torch
from torch import Tensor

from .. import _check
from .._check import read
from ..logits import peak
from ._options import check_positive
from .base import TemperatureRule, Temperatures

__all__ = ["DTKD"]

_LEAST = 1e-6  # of the two sharpnesses' ratio


class DTKD(TemperatureRule):
    r"""Two temperatures a sample that share the mean :math:`\tau` in proportion to the two models' sharpness.

    .. math:: \tau^s_i = \frac{2\, m^s_i}{m^s_i + m^t_i}\,\tau, \qquad
              \tau^t_i = \frac{2\, m^t_i}{m^s_i + m^t_i}\,\tau, \qquad
              m_i = \max\Big(\log \sum_k e^{v_{ik}},\ \text{floor}\Big)

    They add up to :math:`2\tau` and stay in the graph, so the student also learns through its own sharpness: the
    gradient of a loss at these temperatures does not sum to 0 over the classes. Neither shift- nor scale-invariant.

    The paper measures sharpness by logsumexp; the released code by the maximum, ``magnitude="max"``. Both can be 0
    or negative, for logits that a bias shifts down, and then a temperature is negative, the loss is negative or the
    quotient explodes: the published formula has no guard. Here m is at least ``floor`` and at least a millionth of
    the other model's; a row below has a constant temperature, and where the other model's is far above, one near 0, at
    which the divergence all but vanishes: where more than half of the rows are such, a warning is given, once and on a
    CPU. Standardized logits never get there by logsumexp, which is at least log K.

    Args:
        tau: the mean of the two temperatures, > 0; 4 in the paper.
        magnitude: ``"logsumexp"`` (paper) or ``"max"`` (released code).
        floor: smallest sharpness, > 0.

    Shapes: logits (B, K). Returns two different temperatures, each (B, 1).

    Raises:
        ValueError: for another magnitude, or a tau or floor that is not above 0.

    Source: arXiv 2404.12711; code: JinYu1998/DTKD.
    """

    def __init__(self, tau: float = 4.0, magnitude: str = "logsumexp", floor: float = 0.01):
        super().__init__()
        check_positive(tau=tau, floor=floor)
        if magnitude not in ("logsumexp", "max"):
            raise ValueError(f"magnitude: expected 'logsumexp' or 'max', got {magnitude!r}")
        self.tau = float(tau)
        self.magnitude = magnitude
        self.floor = float(floor)

    def _sharpness(self, logits: Tensor) -> Tensor:
        return self._unbounded(logits).clamp(min=self.floor)  # (B, 1)

    def _unbounded(self, logits: Tensor) -> Tensor:
        return peak(logits) if self.magnitude == "max" else logits.logsumexp(dim=-1, keepdim=True)

    def _bounded(self, m_s: Tensor, m_t: Tensor) -> tuple[Tensor, Tensor]:
        m_s, m_t = m_s.clamp(min=self.floor), m_t.clamp(min=self.floor)
        # Beyond this ratio the gradient of the lower temperature leaves the format.
        return torch.maximum(m_s, _LEAST * m_t), torch.maximum(m_t, _LEAST * m_s)

    def _is_free(self, m_s: Tensor, m_t: Tensor) -> bool:
        """Whether all are far from every bound; False also where no value may be read."""
        if not _check.may_read(m_s):
            return False
        low, high = map(read, torch.cat([m_s, m_t]).detach().aminmax())
        return low is not None and high is not None and low > self.floor and low > 2 * _LEAST * high

    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None = None, epoch: int | None = None
    ) -> Temperatures:
        m_s, m_t = self._bounded(self._unbounded(student), self._unbounded(teacher))
        share = 2 * self.tau / (m_s + m_t)
        return Temperatures(share * m_s, share * m_t)

    def with_slope(self, student: Tensor, teacher: Tensor, log_q: Tensor) -> tuple[Temperatures, Tensor]:
        r"""Temperatures, and how the student's moves with its sharpness; the teacher's moves by as much against it.

        .. math:: \frac{\partial\tau^s_i}{\partial m^s_i} = \frac{2\, m^t_i}{(m^s_i + m^t_i)^2}\,\tau

        and 0 where a bound holds one of the two; (B, 1). Takes the log-softmax of the student's logits as well.
        """
        if self.magnitude == "max":
            m_s, m_t = peak(student), peak(teacher)
        else:  # what a log-softmax takes off is logsumexp; at the highest class nothing of it is rounded away
            m_s, m_t = peak(student) - peak(log_q), peak(teacher) - peak(torch.log_softmax(teacher, dim=-1))
        free = self._is_free(m_s, m_t)
        if not free:
            m_s, m_t = self._bounded(m_s, m_t)
        both = m_s + m_t
        share = 2 * self.tau / both
        tau = Temperatures(share * m_s, share * m_t)
        slope = tau.teacher / both
        if not free:
            held = (m_s <= self.floor) | (torch.minimum(m_s, m_t) <= _LEAST * torch.maximum(m_s, m_t))
            slope = slope.masked_fill(held, 0.0)
        return tau, slope

    def toward(self, student: Tensor, q: Tensor) -> Tensor:
        """Gradient of the sharpness where no bound holds it, (B, K), from the softmax q of the logits."""
        if self.magnitude == "logsumexp":
            return q
        highest = student == student.amax(dim=-1, keepdim=True)
        return highest.to(q.dtype) / highest.sum(dim=-1, keepdim=True)

    def complaint(self, student: Tensor, teacher: Tensor, temperatures: Temperatures) -> str | None:
        lower = torch.minimum(*temperatures)
        if not read((lower < self.tau / 10).any()):
            return None
        at_floor = [self._sharpness(x) <= self.floor for x in (student, teacher)]
        flat = [(x == x[:, :1]).all(dim=1, keepdim=True) for x in (student, teacher)]
        rows = int(((at_floor[0] != at_floor[1]) & (lower < self.tau / 10) & ~(flat[0] | flat[1])).sum())
        if 2 * rows <= len(lower):  # single rows get there with the published rows of few classes too
            return None
        return (
            f"the sharpness ({self.magnitude}) of one of the two models is at its floor, {self.floor:g}, in {rows} of "
            f"{len(lower)} rows, so that its temperature is near 0 and the divergence all but vanishes: standardize the "
            "logits; log-probabilities are no logits to measure sharpness on"
        )

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, magnitude={self.magnitude!r}, floor={self.floor:g}"
