"""Kullback-Leibler divergence of softened probabilities (Hinton et al. 2015)."""

import torch.nn.functional as F
from torch import Tensor

from ..temperature import Temperatures
from .base import Divergence

__all__ = ["KL"]


class KL(Divergence):
    r"""KL divergence from the student's to the teacher's softened probabilities.

    .. math:: \ell_i = \tau^s_i \tau^t_i \sum_k p_{ik} \log\frac{p_{ik}}{q_{ik}}, \qquad
              p_i = \mathrm{softmax}(t_i / \tau^t_i),\quad q_i = \mathrm{softmax}(s_i / \tau^s_i)

    The factor :math:`\tau^2` keeps the gradient's size: :math:`\partial \ell_i/\partial s_i = \tau (q_i - p_i)`
    tends to :math:`(s_i - t_i)/K` as :math:`\tau \to \infty`. Computed in log space: saturated probabilities
    give 0, never NaN.

    Shapes: student, teacher (B, K); temperatures (B, 1) or (1, 1). Returns (B,), in nats times temperature².
    """

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Tensor:
        log_q = F.log_softmax(student / temperatures.student, dim=-1)  # (B, K)
        log_p = F.log_softmax(teacher / temperatures.teacher, dim=-1)
        kl = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1)  # (B,)
        return kl * (temperatures.student * temperatures.teacher).squeeze(-1)
