"""Refined logit distillation (RLD, Sun et al. 2025): of a teacher that may be wrong, what the label leaves standing."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .._check import check_finite_options
from ..temperature import Temperatures
from .base import Divergence
from .kl import kl_of_rows

__all__ = ["RLD"]


def _binary(logits: Tensor, column: Tensor) -> Tensor:
    """Log-probabilities of one class and of all others together, (B, 2)."""
    others = logits.scatter(1, column, -torch.inf).logsumexp(dim=1, keepdim=True)
    return F.log_softmax(torch.cat([logits.gather(1, column), others], dim=1), dim=1)


class RLD(Divergence):
    r"""How sure to be of the label, and how the classes below it compare.

    .. math:: \ell_i = \tau^s_i \tau^t_i \big[\alpha\,\mathrm{KL}\big((p_{\hat k}, 1 - p_{\hat k}) \,\|\, (q_y, 1 - q_y)\big)
              + \beta\,\mathrm{KL}(\tilde p_i \,\|\, \tilde q_i)\big], \qquad \hat k = \arg\max_k t_{ik}

    with p and q the softened probabilities of teacher and student, and :math:`\tilde p, \tilde q` the softmax
    over the classes whose logit by the *teacher* is below the label's. So the student is to be as sure of the label
    as its teacher is of whatever it takes for the label, and nothing is learned of the classes that the teacher puts above
    it, or level with it. Where the teacher is right, this is `DKD` with the same weights, but for ties. Where fewer than two
    classes are below the label, the second term is 0.

    The released code masks classes with -10⁹; here those that are left are summed in log space: the same numbers, and a
    finite gradient with a learned temperature. Its first term has a temperature of its own; here both have the rule's.

    Args:
        alpha: weight of the first term, 1 in the paper.
        beta: weight of the second, 8 in the paper.

    Shapes: student, teacher (B, K); target (B,); temperatures (B, 1) or (1, 1). Returns (B,).

    Raises:
        ValueError: if a weight is not finite.

    Source: arXiv 2408.07703 (ICCV 2025); code: zju-SWJ/RLD.
    """

    reads_target = True

    def __init__(self, alpha: float = 1.0, beta: float = 8.0):
        super().__init__()
        check_finite_options(alpha=alpha, beta=beta)
        self.alpha, self.beta = float(alpha), float(beta)

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Tensor:
        s, t = student / temperatures.student, teacher / temperatures.teacher
        label, highest = target.unsqueeze(1), teacher.argmax(dim=-1, keepdim=True)  # (B, 1)
        sure = kl_of_rows(_binary(s, label), _binary(t, highest))  # (B,)
        below = teacher < teacher.gather(1, label)  # (B, K)
        # A row without any class keeps them all, and its term is left out: a logsumexp of nothing has no gradient.
        some = below.any(dim=-1, keepdim=True)
        kept = below | ~some
        log_q, log_p = (
            torch.where(kept, x - torch.where(kept, x, -torch.inf).logsumexp(dim=-1, keepdim=True), 0.0)
            for x in (s, t)
        )
        p = torch.where(below, log_p.exp(), 0.0)
        ranked = (p * (log_p - log_q)).sum(dim=-1)
        scale = (temperatures.student * temperatures.teacher).squeeze(-1)
        return (self.alpha * sure + self.beta * ranked) * scale

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}, beta={self.beta:g}"
