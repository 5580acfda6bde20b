"""Warm-up before distillation: answers of the student that the teacher rejects are corrected first (after Sun et al. 2025)."""

import torch.nn.functional as F
from torch import Tensor

from .._check import check_finite_options, check_numbers, check_whole
from ..divergence.kl import kl_of_rows
from ..signals import Batch, Signals
from .base import Term

__all__ = ["WarmupDistill"]


class WarmupDistill(Term):
    r"""Distillation after a warm-up in which the student learns to prefer the teacher's answer to its own.

    In the first `align_epochs` epochs the student's answer :math:`a_i = \arg\max_k s_{ik}` is checked by the teacher: where
    its probability :math:`p_{i a_i}` is below `threshold`, the teacher's answer :math:`b_i = \arg\max_k t_{ik}` is to be
    preferred; afterwards the teacher's distribution is learned:

    .. math:: \ell_i = [p_{i a_i} < \theta,\ a_i \ne b_i]\,\big({-\log}\,\sigma\big(\beta(s_{i b_i} - s_{i a_i})\big)\big)
              \quad (e \le e_0), \qquad \ell_i = \tau^2\,\mathrm{KL}(p_i \,\|\, q_i) \quad (e > e_0)

    with p and q at temperature :math:`\tau` in the second, and p at temperature 1 in the first. (The preference is that
    of DPO with the untrained student, which prefers nothing, as the reference:
    :math:`\log q_b - \log q_a = s_b - s_a`.)

    Args:
        align_epochs: :math:`e_0`; 0 for distillation alone.
        threshold: :math:`\theta`.
        beta: :math:`\beta`.
        tau: temperature :math:`\tau` of the distillation.

    Shapes: logits (N, K). Returns (N,), in nats.

    Raises:
        ValueError: for an option out of range.

    Source: Sun et al. 2025 (arXiv 2502.11766), from the abstract.

    Differs from the paper:
        - There a language model generates text, tokens that the teacher finds improbable are replaced, and the result
          is what a separate first training learns from. Here the answer is a class, and both trainings are one run.
        - The preference, threshold ½, β = 1 and the number of epochs are ours.
        - The paper's student is pretrained. One that starts untrained has no knowledge to correct.
    """

    reads_epoch = True

    def __init__(self, align_epochs: int = 10, threshold: float = 0.5, beta: float = 1.0, tau: float = 4.0):
        super().__init__()
        check_whole(0, align_epochs=align_epochs)
        check_finite_options(beta=beta, tau=tau)
        check_numbers("a probability", threshold=threshold)
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold: expected a probability, got {threshold!r}")
        if not (beta > 0 and tau > 0):
            raise ValueError(f"beta, tau: expected positive numbers, got {beta!r}, {tau!r}")
        self.align_epochs, self.threshold, self.beta, self.tau = align_epochs, threshold, beta, tau

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        s, t = student.logits, teacher.logits.detach()
        if batch.epoch is not None and batch.epoch <= self.align_epochs:
            return self.preference(s, t)
        log_p, log_q = F.log_softmax(t / self.tau, dim=1), F.log_softmax(s / self.tau, dim=1)
        return self.tau**2 * kl_of_rows(log_q, log_p)

    def preference(self, s: Tensor, t: Tensor) -> Tensor:
        """Value of each row (N,) in the warm-up: 0 where the teacher lets the student's answer stand."""
        own, corrected = s.argmax(dim=1, keepdim=True), t.argmax(dim=1, keepdim=True)
        rejected = t.softmax(dim=1).gather(1, own) < self.threshold
        preferred = s.gather(1, corrected) - s.gather(1, own)
        value = -F.logsigmoid(self.beta * preferred) * rejected * (own != corrected)
        return value.squeeze(1)

    def extra_repr(self) -> str:
        return f"align_epochs={self.align_epochs}, threshold={self.threshold:g}, beta={self.beta:g}, tau={self.tau:g}"
