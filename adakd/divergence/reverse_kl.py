"""Reverse Kullback-Leibler divergence: from the teacher's to the student's softened probabilities."""

from torch import Tensor

from ..logits import log_softened
from ..temperature import Temperatures
from .base import Divergence
from .kl import kl_of_rows

__all__ = ["ReverseKL"]


class ReverseKL(Divergence):
    r"""KL divergence with student and teacher exchanged.

    .. math:: \ell_i = \tau^s_i \tau^t_i \sum_k q_{ik} \log\frac{q_{ik}}{p_{ik}}, \qquad
              p_i = \mathrm{softmax}(t_i / \tau^t_i),\quad q_i = \mathrm{softmax}(s_i / \tau^s_i)

    Its gradient, :math:`\partial \ell_i/\partial s_{ik} = \tau^t_i\, q_{ik}\,(d_{ik} - \mathbb E_q d_i)` with
    :math:`d = \log q - \log p`, passes over what the student holds for impossible, where that of `KL` does not. As
    :math:`\tau \to \infty` both tend to :math:`(s - t)/K`, centred: there is no direction at high temperature.

    In fp32 and at high temperatures the value is off as that of `KL` is.

    Shapes: student, teacher (B, K); temperatures (B, 1) or (1, 1). Returns (B,), in nats times temperature².

    Source: Gu et al. 2024 (arXiv 2306.08543, MiniLLM), there of whole sequences.
    """

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Tensor:
        log_q = log_softened(student, temperatures.student)  # (B, K)
        log_p = log_softened(teacher, temperatures.teacher)
        return kl_of_rows(log_p, log_q) * (temperatures.student * temperatures.teacher).squeeze(-1)
