"""Inverse difficulty temperature (AdaKD, Xie et al. 2025), brought from tokens to samples."""

import math

import torch
from torch import Tensor

from .._check import check_numbers
from ..logits import median
from ._options import check_positive
from .base import TemperatureRule, Temperatures

__all__ = ["Difficulty", "hellinger"]


def hellinger(a: Tensor, b: Tensor) -> Tensor:
    r"""Hellinger distance of two softmax outputs, :math:`\sqrt{\frac12 \sum_k (\sqrt{p_k} - \sqrt{q_k})^2}`.

    Args:
        a: (B, K) logits.
        b: (B, K) logits.

    Returns:
        (B, 1), between 0 (equal) and 1 (no common class).
    """
    root_p, root_q = (x.log_softmax(dim=-1).div(2).exp() for x in (a, b))
    # By differences, not by 1 - sum(sqrt(p q)), which is rounding noise for nearly equal distributions.
    return ((root_p - root_q).square().sum(dim=-1, keepdim=True) / 2).sqrt()


class Difficulty(TemperatureRule):
    r"""A lower temperature for the samples that are hard for the student, a higher one for the easy ones.

    .. math:: \tau_i = \tau_0 \exp\left(-c \tanh \log \frac{h_i}{\mathrm{median}(h)}\right)
              = \tau_0 \exp\left(-c\, \frac{h_i^2 - \mathrm{median}(h)^2}{h_i^2 + \mathrm{median}(h)^2}\right)

    with :math:`h_i` the Hellinger distance of teacher and student. The second form is the same number and takes
    :math:`h_i = 0`; where the median is 0 too, to within rounding, the temperature is :math:`\tau_0`. It serves
    teacher and student and carries no gradient.

    Decided: the paper is of language models and takes the score and the median over the tokens of a batch; here a
    sample is a token. The score is taken of the softmax outputs at temperature 1, the middle of an even batch is
    the mean of its two middle scores, and the paper's other half, training on the hardest tokens only, is left out.
    A batch of one has temperature :math:`\tau_0`. The method is called AdaKD and has nothing to do with this package.

    Args:
        tau: :math:`\tau_0` > 0; the paper's 1 is for tokens, 4 is the usual value for CIFAR.
        strength: c >= 0; 0.5 in the authors' scripts. 0 is a fixed temperature.

    Shapes: logits (B, K). Returns (B, 1), in [tau * exp(-c), tau * exp(c)].

    Raises:
        ValueError: if tau is not above 0, or strength is negative or not finite.

    Source: arXiv 2510.11615 (IDTS); code: SassyRong/AdaKD.
    """

    reads_batch = True

    def __init__(self, tau: float = 4.0, strength: float = 0.5):
        super().__init__()
        check_positive(tau=tau)
        check_numbers("a finite number of at least 0", strength=strength)
        if not 0 <= strength < math.inf:
            raise ValueError(f"strength: expected a finite number of at least 0, got {strength!r}")
        self.tau = float(tau)
        self.strength = float(strength)

    @torch.no_grad()
    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None = None, epoch: int | None = None
    ) -> Temperatures:
        score = hellinger(student, teacher)  # (B, 1)
        hard, usual = score.square(), median(score).square()
        # tanh(log(score / median)); what is added lets scores that are rounding noise count as 0.
        relative = (hard - usual) / (hard + usual + (16 * torch.finfo(score.dtype).eps) ** 2)
        tau = self.tau * torch.exp(-self.strength * relative)
        return Temperatures(tau, tau)

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, strength={self.strength:g}"
