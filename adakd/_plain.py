r"""The usual loss in one step: cross entropy and one divergence of logits, with the gradient in closed form.

`Objective` states the loss as a composition of parts, of which autograd keeps a record of some twenty operations. For the
usual parts the gradient for the student's logits is known beforehand, and comes with the value:

.. math:: \frac{\partial\mathcal L}{\partial s_i} = \frac{\lambda_{CE}}{N}\big(\mathrm{softmax}(s_i) - e_{y_i}\big)
          + \frac{\lambda_{KD}\,w_e}{N}\,J_i^\top \frac{\partial \ell_i}{\partial z^s_i}

with :math:`J_i` the Jacobian of the standardization (`adakd.logits.Standardized`; the identity without) and the gradient of
the divergence by `adakd._closed`. Only the gradient of the total is kept. One through the two reported parts, or one that is
differentiated itself, is that of the composition, computed when it is asked for. Everything that is not known to be usual
takes the composition from the start, and so does what has to be refused: it knows what to say.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _check
from ._check import transformed
from ._closed import COMPARED, is_bare
from .divergence import KL, Anchored
from .logits import STANDARDIZATIONS, standardized_usual
from .temperature import DTKD, Fixed, MaxLogit, Temperatures
from .terms import LogitTerm

__all__ = ["plain_terms"]

_RULES = (Fixed, MaxLogit, DTKD)
"""By exact type. Temperatures of the first two have no gradient."""
_NO_LABEL = -(2**62)


class _Known(torch.autograd.Function):
    """Three values; of the first the gradients are known, for the student's logits and maybe for the temperatures."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        tau_s: Tensor,
        tau_t: Tensor,
        known: Any,
        values: Any,
        composed: Any,
        others: Any,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(student, tau_s, tau_t, *others, *known)
        ctx.composed, ctx.known = composed, len(known)
        return values

    @staticmethod
    def backward(ctx: Any, *g: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, none = ctx.saved_tensors, (None,) * 7
        again = torch.is_grad_enabled()
        if not again and g[0] is not None and g[1] is g[2] is None:
            of_tau = (None, None) if ctx.known == 1 else (g[0] * saved[6], g[0] * saved[7])
            return g[0] * saved[5], *of_tau, None, None, None, None
        if g[0] is g[1] is g[2] is None:
            return none
        with torch.enable_grad(), torch.autocast(saved[0].device.type, enabled=False):
            # Views, so that what is computed depends on the logits not through the temperatures.
            x = [x.view_as(x) if again else x.detach().requires_grad_(x.requires_grad) for x in saved[:3]]
            wanted = [i for i in range(3) if g[i] is not None]
            values = ctx.composed(*x, *saved[3:5])
            found = torch.autograd.grad(
                [values[i] for i in wanted],
                x[: ctx.known],
                [g[i] for i in wanted],
                create_graph=again,
                allow_unused=True,
            )
            return *found, *none[ctx.known :]


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
    ((name, term),) = objective.terms.items()
    divergence, rule, kind = term.divergence, term.temperature, term.standardize
    compare = COMPARED.get(type(divergence))
    if (
        compare is None
        or type(rule) not in _RULES
        or (type(rule) is DTKD and (kind is not False or type(divergence) not in (KL, Anchored)))
        or type(term) is not LogitTerm
        or term.refine is not None
        or term.weight is not None
        or not objective.cross_entropy.plain
        or not (is_bare(term) and is_bare(divergence))
    ):
        return None
    if torch.is_autocast_enabled(student.device.type):
        with torch.autocast(student.device.type, enabled=False):
            return plain_terms(objective, student, teacher, target, epoch, ignore_index)
    if student.dtype in (torch.float16, torch.bfloat16):
        student = student.float()
    count, grad = student.shape[0], torch.is_grad_enabled()
    ce_weight, weight = objective.ce_weight, objective.weights[name] * objective._warmup(name, epoch)
    with torch.no_grad():
        s, t = student, teacher
        if t.requires_grad or t.dtype is not s.dtype:
            t = t.detach().to(s.dtype)
        log_q = torch.log_softmax(s, dim=1)
        try:
            ce = F.nll_loss(log_q, target, ignore_index=_NO_LABEL)
        except IndexError:  # a label out of range
            return None
        z_s, z_t, rows = s, t, None
        if kind is not False:
            rows, of_teacher = (standardized_usual(x, **STANDARDIZATIONS[kind]) for x in (s, t))
            if rows is None or of_teacher is None or s.shape[1] < 3:
                return None
            z_s, z_t = rows.z, of_teacher.z
        if type(rule) is DTKD:
            with torch.set_grad_enabled(grad):
                tau = rule(student, t, target, epoch)
        else:
            tau = rule(z_s, z_t, target, epoch)
        found = compare(divergence, z_s, z_t, target, tau)
        if found is None:
            return None
        kd = found.value.mul_(1 / count)
        total = torch.add(ce if ce_weight == 1 else ce * ce_weight, kd, alpha=weight)
        if not math.isfinite(total.item()):
            return None
        if term._looks():
            term._warn(s, t, (z_s, z_t), tau)
        if not (grad and student.requires_grad):
            return total, ce, kd, tau
        g = found.gradient if rows is None else rows.pull(found.gradient)
        gradient = log_q.exp_().scatter_(1, target.unsqueeze(1), -1.0, reduce="add")
        gradient.mul_(ce_weight / count).add_(g, alpha=weight / count)
        known = (gradient, *(x * (weight / count) for x in found.of_tau))

    def composed(s: Tensor, tau_s: Tensor, tau_t: Tensor, t: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        ce = F.cross_entropy(s, target)
        tau = Temperatures(tau_s, tau_t)
        kd = divergence(term.standardized(s), term.standardized(t), target, tau).mean()
        return ce_weight * ce + weight * kd, ce, kd

    return *_Known.apply(student, *tau, known, (total, ce, kd), composed, (t, target)), tau
