"""Alpha-beta divergence (ABKD, Wang et al. 2025): a plane of divergences that has both directions of KL on it."""

import math

import torch
from torch import Tensor

from .._check import check_finite_options
from ..logits import log_softened
from ..temperature import Temperatures
from .base import Divergence

__all__ = ["AB", "power_excess"]

_TERMS = 11  # of the series below, whose first neglected term is 4e-20 of the first at the edge
_NEAR = 0.1


def _power(c: float, d: Tensor) -> Tensor:
    """(e^(c d) - 1) / c, and d itself at c = 0."""
    return torch.expm1(c * d) / c if c else d


def power_excess(alpha: float, beta: float, d: Tensor) -> Tensor:
    r"""Divided difference of :math:`\varphi_c(d) = (e^{cd} - 1)/c` by c, elementwise.

    .. math:: \psi = \frac{\varphi_{\alpha + \beta}(d) - \varphi_\beta(d)}{\alpha}
              = \frac{e^{\beta d}\varphi_\alpha(d) - \varphi_\beta(d)}{\alpha + \beta}
              = \frac{e^{\beta d}\varphi_\alpha(d) - \varphi_{\alpha + \beta}(d)}{\beta}

    Three forms of one number, of which the one with the largest denominator is computed: so it has no singular line at
    :math:`\alpha = 0`, :math:`\beta = 0` or :math:`\alpha + \beta = 0`. Where d is small it is the sum
    :math:`\sum_n d^n/n! \sum_j (\alpha + \beta)^j \beta^{n-2-j}`, whose first term is :math:`d^2/2`, the value at
    :math:`\alpha = \beta = 0`.
    """
    total = alpha + beta
    largest = max(abs(alpha), abs(beta), abs(total))
    if largest == 0:
        return d * d / 2
    # Sums over j by their recursion, in units of the largest exponent: so no power of a large logarithm occurs.
    sums = [1.0]
    for n in range(1, _TERMS):
        sums.append(total / largest * sums[-1] + (beta / largest) ** n)
    near = d.clamp(-_NEAR / largest, _NEAR / largest)
    series = torch.zeros_like(d)
    for n in range(_TERMS - 1, -1, -1):
        series = series * (near * largest) + sums[n] / float(math.factorial(n + 2))
    series = series * near * near
    if largest == abs(alpha):
        far = (_power(total, d) - _power(beta, d)) / alpha
    elif largest == abs(total):
        far = (torch.exp(beta * d) * _power(alpha, d) - _power(beta, d)) / total
    else:
        far = (torch.exp(beta * d) * _power(alpha, d) - _power(total, d)) / beta
    return torch.where(d.abs() * largest < _NEAR, series, far)


class AB(Divergence):
    r"""Alpha-beta divergence of the softened probabilities.

    .. math:: \ell_i = -\frac{\tau^s_i \tau^t_i}{\alpha\beta} \sum_k \Big[ p_{ik}^\alpha q_{ik}^\beta
              - \frac{\alpha}{\alpha + \beta} p_{ik}^{\alpha + \beta}
              - \frac{\beta}{\alpha + \beta} q_{ik}^{\alpha + \beta} \Big]

    with :math:`p_i = \mathrm{softmax}(t_i / \tau^t_i)` and :math:`q_i = \mathrm{softmax}(s_i / \tau^s_i)`. Points of it,
    without the factor: (1, 0) is `KL`, (0, 1) `ReverseKL`, (½, ½) four times the squared Hellinger distance, (1, 1) half
    the squared distance, (0, 0) half the squared distance of the logarithms. Where a denominator is 0 it is its limit. A
    large :math:`\beta` weights classes by the student's probability as a large :math:`\alpha` does by the teacher's,
    and a large sum those that are likely. Exchanging :math:`\alpha` and :math:`\beta` exchanges student and teacher.

    With :math:`d = \log q - \log p` a summand is :math:`p^{\alpha+\beta}\,\psi_{\alpha\beta}(d)`, or
    :math:`q^{\alpha+\beta}\,\psi_{\beta\alpha}(-d)`, with :math:`\psi` the function of `power_excess`. The first is
    computed where p is the larger and the second where q is: no exponential of a positive number occurs unless an
    exponent is negative, where the divergence itself has no bound.

    Args:
        alpha: :math:`\alpha`.
        beta: :math:`\beta`.

    Shapes: student, teacher (B, K); temperatures (B, 1) or (1, 1). Returns (B,).

    Raises:
        ValueError: if an exponent is not a finite number.

    Source: arXiv 2505.04560; code: ghwang-s/abkd. Differs from the code: there is no factor of the temperatures in it, and
    on the three lines it divides by the other exponent where the limit has its square.
    """

    def __init__(self, alpha: float = 0.8, beta: float = 0.3):
        super().__init__()
        check_finite_options(alpha=alpha, beta=beta)
        self.alpha, self.beta = float(alpha), float(beta)

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Tensor:
        log_q = log_softened(student, temperatures.student)  # (B, K)
        log_p = log_softened(teacher, temperatures.teacher)
        d, total = log_q - log_p, self.alpha + self.beta
        by_p = torch.exp(total * log_p) * power_excess(self.alpha, self.beta, d.clamp(max=0))
        by_q = torch.exp(total * log_q) * power_excess(self.beta, self.alpha, (-d).clamp(max=0))
        scale = (temperatures.student * temperatures.teacher).squeeze(-1)
        return (by_p + by_q).sum(dim=-1) * scale

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}, beta={self.beta:g}"
