"""DIST: correlation of probabilities, between classes and within classes (Huang et al. 2022)."""

from collections.abc import Callable

import torch
from torch import Tensor

from .. import _check
from .._check import check_finite_options, read
from ..logits import softened
from ..temperature import Temperatures
from .base import Divergence

__all__ = ["DIST"]

EPS = 1e-8  # of the released code; without it the correlation of constant rows would be 0/0


def _is_constant(p: Tensor, dim: int) -> Tensor:
    """Rows or columns of probabilities whose spread is within rounding."""
    p = p.detach()
    high = p.amax(dim=dim)
    return high - p.amin(dim=dim) <= 4 * torch.finfo(p.dtype).eps * high


def surely_vary(norms: Tensor, means: Tensor, count: int) -> bool:
    """Whether what is left of all rows (or columns) of `count` numbers is far more than the rounding of their mean.

    Of both tensors at once, from the products of their norms and of their means: a norm is at most `count` means, so each
    of the two is then at least its part. False also where no value may be read.
    """
    smallest = read((norms / means).amin())
    return smallest is not None and smallest > 100 * count**1.5 * torch.finfo(norms.dtype).eps


def centered(x: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Deviations from the mean along an axis, the mean, and the norm of the deviations."""
    mean = x.mean(dim=dim, keepdim=True)
    x = x - mean
    return x, mean, torch.linalg.vector_norm(x, dim=dim, keepdim=True)


def _correlation(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Pearson's correlation along an axis. What is constant has correlation 0 with everything, and no gradient."""
    if torch.compiler.is_compiling():
        return _in_graph(a, b, dim)
    if _check.may_read(a):
        correlation, vary = _plainly(a, b, dim)
        if vary():
            return correlation
    constant = _is_constant(a, dim) | _is_constant(b, dim)
    # Taken out before the norms: of rounding noise they would make a gradient of 1 / EPS.
    a, b = (x.masked_fill(constant.unsqueeze(dim), 0.0) for x in (a, b))
    return _plainly(a, b, dim)[0]


def _in_graph(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """The same where no value can be read: the norms, which are computed anyway, tell what is constant."""
    (a, squares_a, flat_a), (b, squares_b, flat_b) = _apart(a, dim), _apart(b, dim)
    # Infinite where one is constant: that divides the correlation to 0, and the gradient, without a mask to keep for it.
    # And at least the smallest number: products of small squares may be 0, where the slope of the root is infinite.
    squares = squares_a * squares_b + torch.finfo(a.dtype).tiny + torch.where(flat_a | flat_b, torch.inf, 0.0)
    return (a * b).sum(dim=dim) / (squares.sqrt() + EPS)


def _apart(x: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Deviations from the mean along an axis, the sum of their squares, and whether they are within rounding.

    The mean of a row of probabilities is 1 / K, to the rounding that a computed one has as well, and the gradient is the same
    as through a computed one: the other row's deviations add up to 0. Equal probabilities of a softmax are 1 / K exactly.
    """
    count, step = x.shape[dim], 4 * torch.finfo(x.dtype).eps
    if dim == 1:
        x = x - 1 / count
        squares = (x * x).sum(dim=dim)
        return x, squares, squares.detach() <= step**2 / count
    mean = x.mean(dim=dim, keepdim=True)
    x = x - mean
    squares = (x * x).sum(dim=dim)
    # Of equal numbers the deviations are the rounding of their mean, all the same: what these have in common comes off.
    varied = squares.detach() - x.detach().sum(dim=dim) ** 2 / count
    return x, squares, varied <= count * (step * mean.detach().squeeze(dim)) ** 2


def _plainly(a: Tensor, b: Tensor, dim: int) -> tuple[Tensor, Callable[[], bool]]:
    """Correlation along an axis, and the question whether none of its rows (or columns) can be constant."""
    (a, mean_a, norm_a), (b, mean_b, norm_b) = centered(a, dim), centered(b, dim)
    norms = norm_a * norm_b
    correlation = (a * b).sum(dim=dim) / (norms.squeeze(dim) + EPS)
    return correlation, lambda: surely_vary(norms.detach(), mean_a.detach() * mean_b.detach(), a.shape[dim])


class DIST(Divergence):
    r"""One minus the Pearson correlation of probabilities, over the rows and over the columns of a batch.

    .. math:: \ell_i = \tau^s_i\tau^t_i\left[\beta\,(1 - \rho_k(p_{ik}, q_{ik}))
              + \gamma\,\Big(1 - \frac1K \sum_k \rho_i(p_{ik}, q_{ik})\Big)\right]

    The first term compares the classes of a sample, the second the samples of a class; the second needs a batch
    and is left out where B = 1. What is constant has correlation 0 and sends no gradient. The paper has no
    :math:`\tau^2`, its code has.
    On logits instead of probabilities the first term is `Correlation`, the high-temperature limit of KL.

    Args:
        beta: weight of the rows ("inter-class").
        gamma: weight of the columns ("intra-class").

    Shapes: student, teacher (B, K); temperatures (B, 1) or (1, 1). Returns (B,).

    Raises:
        ValueError: if a weight is not finite.
    """

    def __init__(self, beta: float = 1.0, gamma: float = 1.0):
        super().__init__()
        check_finite_options(beta=beta, gamma=gamma)
        self.beta = float(beta)
        self.gamma = float(gamma)
        self.reads_batch = self.gamma != 0
        self.least_classes = 3 if self.gamma == 0 else 2  # two probabilities of a row correlate with 1 or -1

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Tensor:
        q = softened(student, temperatures.student)  # (B, K)
        p = softened(teacher, temperatures.teacher)
        several = q.shape[0] > 1
        most = self.beta + self.gamma if several else self.beta
        value = most - self.beta * _correlation(q, p, dim=1)  # (B,)
        if several:
            value = value - self.gamma * _correlation(q, p, dim=0).mean()
        return value * (temperatures.student * temperatures.teacher).squeeze(-1)

    def extra_repr(self) -> str:
        return f"beta={self.beta:g}, gamma={self.gamma:g}"
