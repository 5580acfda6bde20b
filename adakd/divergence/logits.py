"""Mean square of the difference of centred logits: where KL goes at high temperature (Kim et al. 2021)."""

from torch import Tensor

from ..temperature import Temperatures
from .base import Divergence

__all__ = ["LogitDistance"]


class LogitDistance(Divergence):
    r"""Half the mean square of what is left of the logits' difference without its mean.

    .. math:: \ell_i = \frac{1}{2K} \sum_k \big((s_{ik} - \bar s_i) - (t_{ik} - \bar t_i)\big)^2
              = \lim_{\tau \to \infty} \tau^2\,\mathrm{KL}_i(\tau)

    On standardized logits it is :math:`1 - \rho`, the `Correlation`. No temperature is read. Its gradient is
    :math:`(s - t)/K`, centred.

    Shapes: student, teacher (B, K). Returns (B,).

    Source: Ba & Caruana 2014 match logits; Kim et al. 2021 (arXiv 2105.08919) derive the limit. Differs from both: what
    they train on is not centred, which the limit of KL is.
    """

    reads_temperature = False

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Tensor:
        apart = student - teacher
        return (apart - apart.mean(dim=-1, keepdim=True)).square().mean(dim=-1) / 2
