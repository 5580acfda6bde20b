"""Correlation of the logits: where KL goes at high temperature (arXiv 2503.09030, Eq. 12, corrected)."""

from torch import Tensor

from ..logits import pearson
from ..temperature import Temperatures
from .base import Divergence

__all__ = ["Correlation"]


class Correlation(Divergence):
    r"""One minus the correlation of the logits.

    .. math:: \ell_i = 1 - \rho(s_i, t_i) = \lim_{\tau \to \infty} \tau^2\,\mathrm{KL}_i(\tau)
              \quad\text{on standardized logits}

    The paper loses a square and a sign on the way, in Eq. 11; to minimize its Eq. 12 as printed would lower the
    correlation. No temperature is read. DIST compares probabilities in this way, not logits.

    Shapes: student, teacher (B, K). Returns (B,), between 0 and 2; 1 where a row is constant.
    """

    reads_temperature = False
    standardizes = True

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Tensor:
        return 1.0 - pearson(student, teacher)
