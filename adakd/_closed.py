r"""Divergences with their gradient for the student's logits in closed form, without a record of the operations.

With :math:`p, q` the softened probabilities of teacher and student, of each row:

=========  ======================================================================================================
KL         :math:`\tau^t (q - p)`
Anchored   :math:`\alpha\tau^t (q - p) + \beta\tau_0 (q_0 - p_0)`
TTM        :math:`q - p`, with the student's temperature 1
DKD        :math:`\tau^t\,[\alpha (q_y - p_y)(e_y - \tilde q) + \beta (\tilde q - \tilde p)]`, with :math:`\tilde q` the
           softmax over the classes other than y, and 0 there
DIST       :math:`J^\top h / \tau^s`, with J the Jacobian of the softmax and h the gradient of the correlations for q,
           :math:`(\tilde p/|\tilde p| - \rho\,\tilde q/|\tilde q|)/|\tilde q|` of deviations from the mean
=========  ======================================================================================================

and of KL, where they have a gradient, for the temperatures, with :math:`D` the value of KL without its factor:

.. math:: \tau^t \Big(D - \sum_k (q_k - p_k) \frac{s_k}{\tau^s}\Big), \qquad
          \tau^s \Big(D - \sum_k p_k \Big(\log\frac{p_k}{q_k} - D\Big) \frac{t_k}{\tau^t}\Big)
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import _check
from .divergence import DIST, DKD, KL, TTM, Anchored, Divergence
from .divergence.dist import EPS, centered, surely_vary
from .temperature import Temperatures

__all__ = ["COMPARED", "Compared", "is_bare"]


def is_bare(module: nn.Module) -> bool:
    """Whether to call it is to call the forward of its class."""
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )


class Compared(NamedTuple):
    """A divergence and its gradients."""

    value: Tensor
    """Summands, (N, ·): what a row of them adds up to is its value, but for `scale`."""
    gradient: Tensor
    """For the student's logits, (N, K), but for `factor`; its rows add up to 0."""
    scale: float = 1.0
    factor: float = 1.0
    of_tau: tuple[Tensor, ...] = ()
    """For the temperatures of student and teacher, (N, 1), where they are wanted."""


def _minus(p: Tensor, log_q: Tensor) -> Tensor:
    """p - q; may overwrite log q."""
    if torch.compiler.is_compiling():
        return p - log_q.exp()
    # The backward pass of the log-softmax, p - q times what a row of p adds up to: one operation.
    return torch._log_softmax_backward_data(p, log_q, 1, log_q.dtype, out=log_q)


def _apart(log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Summands of KL, and both probabilities; overwrites what it gets."""
    p = log_p.exp()
    return log_p.sub_(log_q).mul_(p), log_q.exp_(), p


def _kl(divergence: KL, s: Tensor, t: Tensor, target: Tensor, tau: Temperatures, learns: bool) -> Compared:
    a, b = s / tau.student, t / tau.teacher
    log_q, log_p = torch.log_softmax(a, dim=1), torch.log_softmax(b, dim=1)
    p = log_p.exp()
    summands = log_p.sub_(log_q).mul_(p)
    minus = _minus(p, log_q)
    if learns:
        rows, along = summands.sum(dim=1, keepdim=True), p.mul_(b).sum(dim=1, keepdim=True)
        of_student = tau.teacher * (rows + a.mul_(minus).sum(dim=1, keepdim=True))
        of_teacher = tau.student * (rows + rows * along - summands.mul_(b).sum(dim=1, keepdim=True))
        value = rows * (tau.student * tau.teacher)
        return Compared(value, minus.mul_(tau.teacher), factor=-1.0, of_tau=(of_student, of_teacher))
    if tau.teacher.numel() == tau.student.numel() == 1 and _check.may_read(s):
        ours, theirs = tau.student.item(), tau.teacher.item()
        return Compared(summands, minus, ours * theirs, -theirs)
    return Compared(summands.mul_(tau.student * tau.teacher), minus.mul_(tau.teacher), factor=-1.0)


def _anchored(
    divergence: Anchored, s: Tensor, t: Tensor, target: Tensor, tau: Temperatures, learns: bool
) -> Compared | None:
    if type(divergence.kl) is not KL or not is_bare(divergence.kl):
        return None
    alpha, beta, anchor = divergence.alpha, divergence.beta, s.new_full((1, 1), divergence.anchor)
    adaptive = _kl(divergence.kl, s, t, target, tau, learns)
    fixed = _kl(divergence.kl, s, t, target, Temperatures(anchor, anchor), False)
    value = fixed.value.sum(dim=1, keepdim=True).mul_(beta * fixed.scale)
    return Compared(
        value.add_(adaptive.value.sum(dim=1, keepdim=True), alpha=alpha * adaptive.scale),
        adaptive.gradient.mul_(alpha * adaptive.factor).add_(fixed.gradient, alpha=beta * fixed.factor),
        of_tau=tuple(alpha * x for x in adaptive.of_tau),
    )


def _ttm(
    divergence: TTM, s: Tensor, t: Tensor, target: Tensor, tau: Temperatures, learns: bool
) -> Compared | None:
    if divergence.weight is not None:
        return None
    log_q, log_p = torch.log_softmax(s, dim=1), torch.log_softmax(t / tau.teacher, dim=1)
    p = log_p.exp()
    return Compared(log_p.sub_(log_q).mul_(p), _minus(p, log_q), factor=-1.0)


def _dkd(divergence: DKD, s: Tensor, t: Tensor, target: Tensor, tau: Temperatures, learns: bool) -> Compared:
    alpha, beta = divergence.alpha, divergence.beta
    binary_q, rest_q = DKD.split(s / tau.student, target)
    binary_p, rest_p = DKD.split(t / tau.teacher, target)
    tckd, q, p = _apart(binary_q, binary_p)
    nckd, rest_q, rest_p = _apart(rest_q, rest_p)
    value = torch.add(alpha * tckd.sum(dim=1), nckd.sum(dim=1), alpha=beta).unsqueeze(1) * (
        tau.student * tau.teacher
    )
    of_target = alpha * (q - p)[:, :1]
    gradient = rest_q.mul_(beta - of_target).sub_(rest_p, alpha=beta)
    return Compared(value, gradient.scatter_(1, target.unsqueeze(1), of_target).mul_(tau.teacher))


def _correlated(q: Tensor, p: Tensor, dim: int) -> tuple[Tensor, Tensor] | None:
    """Correlation along an axis and its gradient for q; None where something may be constant."""
    a, mean_a, norm_a, b, mean_b, norm_b = (x for y in (q, p) for x in centered(y, dim))
    norms = norm_a * norm_b
    if not surely_vary(norms, mean_a * mean_b, q.shape[dim]):
        return None
    norms = norms + EPS
    value = (a * b).sum(dim=dim, keepdim=True) / norms
    return value, b.sub_(a.mul_(value * norm_b / norm_a)).div_(norms)


def _dist(
    divergence: DIST, s: Tensor, t: Tensor, target: Tensor, tau: Temperatures, learns: bool
) -> Compared | None:
    if not math.isfinite((s.sum() + t.sum()).item()):  # a softmax hides minus infinity
        return None
    q, p = torch.softmax(s / tau.student, dim=1), torch.softmax(t / tau.teacher, dim=1)
    rows, columns = _correlated(q, p, 1), _correlated(q, p, 0)
    if rows is None or columns is None or len(q) == 1:
        return None
    beta, gamma = divergence.beta, divergence.gamma
    scale = (tau.student * tau.teacher).expand(len(q), 1)
    value = scale * (beta - beta * rows[0] + gamma - gamma * columns[0].mean())
    g = rows[1].mul_(scale * -beta).addcmul_(columns[1], scale.sum() * (-gamma / q.shape[1]))
    return Compared(value, g.sub_((g * q).sum(dim=1, keepdim=True)).mul_(q).div_(tau.student))


COMPARED: dict[type[Divergence], Callable[..., Compared | None]] = {
    KL: _kl,
    Anchored: _anchored,
    TTM: _ttm,
    DKD: _dkd,
    DIST: _dist,
}
"""``(divergence, student, teacher, target, temperatures, learns)`` -> `Compared`, or None where the form does not hold.

By exact type: a subclass may compare otherwise. With `learns` the gradients for the temperatures are computed too.
"""
