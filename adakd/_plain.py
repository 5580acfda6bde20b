r"""The usual loss in one step: cross entropy and one divergence of logits, with the gradient in closed form.

`Objective` states the loss as a composition of parts, of which autograd keeps a record of some twenty operations. For the
usual parts the gradient for the student's logits is known beforehand, and comes with the value:

.. math:: \frac{\partial\mathcal L}{\partial s_i} = \frac{\lambda_{CE}}{N}\big(\mathrm{softmax}(s_i) - e_{y_i}\big)
          + \frac{\lambda_{KD}\,w_e}{N}\,J_i^\top \frac{\partial \ell_i}{\partial z^s_i}

with :math:`J_i` the Jacobian of the standardization (`adakd.logits.Standardized`; the identity without) and the gradient of
the divergence by `adakd._closed`. Only the gradient of the total is kept. One through the two reported parts, or one that is
differentiated itself, is that of the composition, computed when it is needed. Everything that is not known to be usual
takes the composition from the start, and so does what has to be refused: the errors are there.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _check
from ._check import NO_LABEL, at_least_fp32, transformed
from ._closed import COMPARED, is_bare
from .divergence import KL, Anchored
from .logits import STANDARDIZATIONS, standardized_usual
from .temperature import DTKD, Fixed, MaxLogit, Temperatures
from .terms import LogitTerm

__all__ = ["plain_terms"]

_RULES = (Fixed, MaxLogit, DTKD)
"""By exact type. Temperatures of the first two have no gradient."""


class _Known(torch.autograd.Function):
    """Total, cross entropy, divergence, and temperatures that have a gradient; of the first it is known."""

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, gradient: Tensor, values: Any, composed: Any, others: Any
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(student, gradient, *others)
        ctx.composed = composed
        return values

    @staticmethod
    def backward(ctx: Any, *g: Tensor | None) -> tuple[Tensor | None, ...]:
        student, gradient, *others = ctx.saved_tensors
        again = torch.is_grad_enabled()
        wanted = [i for i, x in enumerate(g) if x is not None]
        if wanted == [0] and not again:
            return gradient * g[0], None, None, None, None
        if not wanted:
            return None, None, None, None, None
        with torch.enable_grad(), torch.autocast(student.device.type, enabled=False):
            x = student if again else student.detach().requires_grad_()
            values = ctx.composed(x, *others)
            found = torch.autograd.grad(
                [values[i] for i in wanted], x, [g[i] for i in wanted], create_graph=again
            )
        return found[0], None, None, None, None


def plain_terms(
    objective: Any,
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    epoch: int | None,
    ignore_index: int | None,
) -> tuple[Tensor, Tensor, Tensor, Temperatures] | None:
    """Total, cross entropy, divergence and temperatures of (N, K) logits and (N,) labels; None where anything is not usual.

    The objective has one term and puts the loss together as `Objective` does. Labels that are `ignore_index`, if that is
    below 0, are found here as labels out of range are: None.
    """
    if not _check.may_read(student) or transformed() or (ignore_index is not None and ignore_index >= 0):
        return None
    if student.shape[1] < 3:  # which not every part takes
        return None
    term = _usual_term(objective)
    if term is None:
        return None
    if torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return plain_terms(objective, student, teacher, target, epoch, ignore_index)
    student = at_least_fp32(student)
    parts: Any = term._modules
    divergence, rule, kind = parts["divergence"], parts["temperature"], term.standardize
    ce_weight, weight = objective.ce_weight, _weight(objective, epoch)
    # What has no gradient is recorded by no operation.
    s, t, count = student.detach(), teacher.detach(), student.shape[0]
    if t.dtype is not s.dtype:
        t = t.to(s.dtype)
    log_q = torch.log_softmax(s, dim=1)
    try:
        ce = F.nll_loss(log_q, target, ignore_index=NO_LABEL)
    except IndexError:  # a label out of range
        return None
    z_s, z_t, rows = s, t, None
    if kind is not False:
        rows, of_teacher = (standardized_usual(x, **STANDARDIZATIONS[kind]) for x in (s, t))
        if rows is None or of_teacher is None:
            return None
        z_s, z_t = rows.z, of_teacher.z
    learns = type(rule) is DTKD
    tau, slope = rule.with_slope(s, t, log_q) if learns else (rule(z_s, z_t, target, epoch), None)
    found = COMPARED[type(divergence)](divergence, z_s, z_t, target, tau, learns)
    if found is None:
        return None
    # As numbers: these are single values, and an operation costs the same for one as for a thousand.
    kd_sum = found.value.sum().item() * found.scale
    total_value = ce_weight * ce.item() + weight * kd_sum / count
    if not max(abs(total_value), abs(kd_sum)) <= torch.finfo(s.dtype).max:
        return None
    total, kd = ce.new_full((), total_value), ce.new_full((), kd_sum / count)
    if term._looks():
        term._warn(s, t, (z_s, z_t), tau)
    if not (student.requires_grad and torch.is_grad_enabled()):
        return total, ce, kd, tau
    g = found.gradient if rows is None else rows.pull(found.gradient)
    of_ce = torch.zeros_like(s).scatter_(1, target.unsqueeze(1), -ce_weight / count)
    gradient = torch._log_softmax_backward_data(of_ce, log_q, 1, log_q.dtype)
    gradient.add_(g, alpha=weight * found.factor / count)
    if slope is not None:
        along = (found.of_tau[0] - found.of_tau[1]) * slope
        gradient.addcmul_(rule.toward(s, log_q.exp_()), along, value=weight / count)

    def composed(s: Tensor, t: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        ce = F.cross_entropy(s, target)
        z = term.standardized(s), term.standardized(t)
        tau = rule(*z, target, epoch)
        kd = divergence(*z, target, tau).mean()
        return ce_weight * ce + weight * kd, ce, kd, *tau

    values = (total, ce, kd, *tau) if learns else (total, ce, kd)
    total, ce, kd, *known = _Known.apply(student, gradient, values, composed, (t, target))
    return total, ce, kd, Temperatures(*known) if learns else tau


def _usual_term(objective: Any) -> Any:
    """The one term, where it is a usual composition of usual parts that are called as their classes say; else None."""
    (term,) = objective._modules["terms"]._modules.values()
    if type(term) is not LogitTerm or term.refine is not None or term.weight is not None:
        return None
    parts: Any = term._modules
    divergence, rule = parts["divergence"], parts["temperature"]
    if (
        type(divergence) not in COMPARED
        or type(rule) not in _RULES
        or not objective._modules["cross_entropy"].plain
        or not (is_bare(term) and is_bare(divergence) and is_bare(rule))
    ):
        return None
    if type(rule) is DTKD and (term.standardize is not False or type(divergence) not in (KL, Anchored)):
        return None
    return term


def _weight(objective: Any, epoch: int | None) -> float:
    """Weight of the one term, with its warm-up."""
    ((name, weight),) = objective.weights.items()
    return weight * objective._warmup(name, epoch)
