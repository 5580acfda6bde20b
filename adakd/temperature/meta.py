"""Meta-learned temperature (Liu et al. 2022): moved by the derivative of a loss after the step it causes."""

import torch
from torch import Tensor

from ._options import check_bounds, check_positive, check_target, finite_or
from .base import TemperatureRule, Temperatures

__all__ = ["MetaTemperature", "look_ahead"]


def look_ahead(student: Tensor, teacher: Tensor, tau: Tensor, step: float) -> Tensor:
    r"""The student's logits after one step against the distillation loss, taken on the logits themselves.

    .. math:: s' = s - \eta\,\frac{\partial}{\partial s}\big[\tau^s \tau^t\,\mathrm{KL}(p \,\|\, q)\big]
              = s - \eta\,\tau^t (q - p), \qquad
              p = \mathrm{softmax}(t / \tau^t),\quad q = \mathrm{softmax}(s / \tau^s)

    Args:
        student: (B, K).
        teacher: (B, K).
        tau: (2,), the temperatures of student and teacher.
        step: :math:`\eta`.

    Returns:
        (B, K).
    """
    tau_s, tau_t = tau.unbind()
    return student - step * tau_t * ((student / tau_s).softmax(dim=-1) - (teacher / tau_t).softmax(dim=-1))


def meta_gradient(student: Tensor, teacher: Tensor, target: Tensor, tau: Tensor, step: float) -> Tensor:
    r"""Derivative of the meta-loss :math:`\mathrm{CE}(s', y)`, mean over the batch, by the two temperatures.

    .. math:: \frac{\partial s'}{\partial \tau^s} = \eta\,\frac{\tau^t}{(\tau^s)^2}\, q \circ (s - \langle s \rangle_q),
              \qquad
              \frac{\partial s'}{\partial \tau^t} = -\eta\,\Big[(q - p)
              + \frac{1}{\tau^t}\, p \circ (t - \langle t \rangle_p)\Big]

    In closed form, so that a rule can use it inside a compiled step, where another backward pass cannot run.

    Returns:
        (2,): by the student's temperature and by the teacher's.
    """
    tau_s, tau_t = tau.unbind()
    q, p = (student / tau_s).softmax(dim=-1), (teacher / tau_t).softmax(dim=-1)
    spread_s = q * (student - (q * student).sum(dim=-1, keepdim=True))
    spread_t = p * (teacher - (p * teacher).sum(dim=-1, keepdim=True))
    by_student = step * tau_t / tau_s.square() * spread_s
    by_teacher = -step * ((q - p) + spread_t / tau_t)
    error = look_ahead(student, teacher, tau, step).softmax(dim=-1)
    error = error.scatter_add(1, target.unsqueeze(1), error.new_full((len(error), 1), -1.0))  # d CE / d s'
    return torch.stack([(error * by_student).sum(dim=-1).mean(), (error * by_teacher).sum(dim=-1).mean()])


class MetaTemperature(TemperatureRule):
    r"""One temperature, moved towards where a distillation step would have lowered the cross entropy more.

    .. math:: \tau \leftarrow \mathrm{clip}\Big(\tau - \alpha\,\frac{\partial}{\partial \tau}
              \mathrm{CE}(s', y),\ \tau_{min},\ \tau_{max}\Big), \qquad s' = s - \eta\,\tau (q - p)

    Each training step returns the temperature as it stands and then moves it by its batch's meta-gradient
    (`meta_gradient`), in training mode only: what a batch's labels teach is used from the next batch on.

    Decided: the paper takes the student's *weights* one step ahead and differentiates a validation loss through that
    step. A rule sees logits, not weights, so the step is taken on the logits, with the KL divergence whatever the
    objective's own divergence is, and the loss is that of the same training batch. This keeps the idea (find the
    temperature that makes the next step useful) and costs five softmaxes, but it ignores what the samples
    share through the weights, and it has no held-out data to overfit less on. The temperature is a buffer, not
    a parameter: no optimizer of the student can move it. It takes plain gradient steps, projected onto
    [minimum, maximum]. Where logits are standardized, so are those that the step and the loss see.

    Args:
        initial: the first temperature.
        minimum: :math:`\tau_{min}` > 0.
        maximum: :math:`\tau_{max}`.
        meta_lr: :math:`\alpha` > 0, in units of temperature² per nat.
        lookahead: :math:`\eta` > 0, the length of the step on the logits.
        shared: True for one temperature; False for one of the student and one of the teacher, as the paper has it.

    Shapes: logits (B, K), target (B,). Returns (1, 1).

    Raises:
        ValueError: for bounds or rates that are not above 0, an initial temperature outside, or no target in training.

    Source: arXiv 2202.07940; no code of it is known to us.
    """

    keeps_state = True
    tau: Tensor
    reads_target = True

    def __init__(
        self,
        initial: float = 4.0,
        minimum: float = 1.0,
        maximum: float = 20.0,
        meta_lr: float = 0.1,
        lookahead: float = 1.0,
        shared: bool = True,
    ):
        super().__init__()
        check_bounds(minimum, maximum, initial=initial)
        check_positive(meta_lr=meta_lr, lookahead=lookahead)
        self.minimum, self.maximum = float(minimum), float(maximum)
        self.meta_lr = float(meta_lr)
        self.lookahead = float(lookahead)
        self.shared = shared
        self.register_buffer("tau", torch.full((2,), float(initial)))  # of student and teacher

    def _move(self, student: Tensor, teacher: Tensor, target: Tensor) -> None:
        gradient = meta_gradient(student, teacher, target, self.tau.to(student.dtype), self.lookahead)
        if self.shared:
            gradient = gradient.sum().expand(2)  # the chain rule for one number in both places
        tau = self.tau - self.meta_lr * gradient.to(self.tau.dtype)
        self.tau.copy_(finite_or(tau.clamp(self.minimum, self.maximum), self.tau))

    @torch.no_grad()
    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None = None, epoch: int | None = None
    ) -> Temperatures:
        tau = self.tau.to(student.dtype, copy=True).view(2, 1, 1)  # a copy: the update below is in place
        if self.training:
            target = check_target(self, target)
            self._move(student, teacher, target)
        return Temperatures(tau[0], tau[1])

    def extra_repr(self) -> str:
        return (
            f"minimum={self.minimum:g}, maximum={self.maximum:g}, meta_lr={self.meta_lr:g}, "
            f"lookahead={self.lookahead:g}, shared={self.shared}"
        )
