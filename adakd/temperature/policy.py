"""Instance temperature by reinforcement learning (ITKD, Zhang et al. 2024): an actor picks each sample's temperature."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .._check import check_numbers, check_whole
from .._hash import hashed
from ._options import check_bounds, check_positive, check_target, finite_or
from .base import TemperatureRule, Temperatures

__all__ = ["Policy", "describe", "gaussian_noise"]

FEATURES = 6
_NOISE = 4  # a stream of `hashed` that no view has


def describe(student: Tensor, teacher: Tensor) -> Tensor:
    """What the actor sees of a sample: of teacher and student, confidence, margin and entropy, each from 0 to 1.

    Args:
        student: (B, K) logits.
        teacher: (B, K) logits.

    Returns:
        (B, 6): the largest probability, its lead over the second, and entropy / log K, at temperature 1.
    """
    features = []
    for logits in (teacher, student):
        log_p = logits.log_softmax(dim=-1)
        first, second = log_p.exp().topk(2, dim=-1).values.unbind(dim=-1)
        # 0 log 0 = 0, where a difference of two logits is beyond the format.
        entropy = -(log_p.exp() * log_p).nan_to_num(0.0).sum(dim=-1) / math.log(logits.shape[-1])
        features += [first, first - second, entropy]
    return torch.stack(features, dim=-1)


def gaussian_noise(seed: int, step: Tensor, size: int) -> Tensor:
    """(size,) standard normal float32 numbers, a pure function of the seed and the step: resuming repeats them."""
    index = torch.arange(size, device=step.device)
    bits = hashed(_NOISE, seed, step, index) >> 9  # 23 bits, so that every step below is exact in float32
    uniform = (2 * bits + 1 - 2**23).float() / 2**23  # in (-1, 1), ends excluded
    return math.sqrt(2) * torch.erfinv(uniform)


def actor(weights: Tensor, features: Tensor) -> Tensor:
    """Mean action (N,), from -1 to 1, of a network with one hidden layer whose weights are one flat vector."""
    hidden = (weights.numel() - 1) // (FEATURES + 2)
    w1, b1, w2, b2 = weights.split([hidden * FEATURES, hidden, hidden, 1])
    return torch.tanh(torch.tanh(features @ w1.view(FEATURES, hidden) + b1) @ w2 + b2)


def clipped_objective(
    weights: Tensor,
    features: Tensor,
    action: Tensor,
    old_mean: Tensor,
    valid: Tensor,
    advantage: Tensor,
    sigma: float,
    clip: float,
) -> Tensor:
    r"""PPO's objective (Schulman et al. 2017), for a Gaussian policy of fixed width.

    .. math:: J = \mathrm{mean}_i \min\big(r_i A,\ \mathrm{clip}(r_i, 1 - \epsilon, 1 + \epsilon)\,A\big), \qquad
              \log r_i = \frac{(a_i - \mu^{old}_i)^2 - (a_i - \mu_i)^2}{2 \sigma^2}

    Args:
        weights: of the actor, flat.
        features: (N, 6).
        action: (N,).
        old_mean: (N,), the mean action when it was taken.
        valid: (N,), 1 for rows in use and 0 for the rest.
        advantage: scalar A.
        sigma: width of the policy.
        clip: :math:`\epsilon`.
    """
    mean = actor(weights, features)
    ratio = torch.exp(((action - old_mean).square() - (action - mean).square()) / (2 * sigma**2))
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return (gain * valid).sum() / valid.sum().clamp(min=1)


class Policy(TemperatureRule):
    r"""Each sample's temperature is the action of a small network that is rewarded when the student improves.

    .. math:: \tau_i = \tau_{min} + (\tau_{max} - \tau_{min})\,\frac{1 + a_i}{2}, \qquad
              a_i \sim \mathcal N(\mu_w(x_i), \sigma^2) \text{ clipped to } [-1, 1], \qquad
              A = \frac{\overline{\mathrm{CE}} - \mathrm{CE}}{\sqrt{\overline{(\overline{\mathrm{CE}} - \mathrm{CE})^2}}}

    with :math:`x_i` from `describe` and bars for running means. Each training step first learns from the last one: the
    reward of the last batch's actions is how far the student's cross entropy, now, is below its running mean,
    and the actor's weights take ``updates`` plain gradient steps up PPO's clipped objective (`clipped_objective`).
    Then it samples this batch's actions. So it must be called once a training step. In evaluation mode the
    action is the mean :math:`\mu_w(x_i)` and nothing changes. The temperature serves teacher and student and carries no
    gradient.

    Weights, memory, running means and the step counter are buffers: the student's optimizer cannot move them, and
    since the noise is a function of (seed, step), a resumed run continues exactly.

    Decided: as in the paper, the range [1, 10], one action a sample, PPO, a reward that a whole batch shares and that comes
    a step late. Against it: the reward is the fall of the cross entropy, where the code takes the change of the
    batch's accuracy times a schedule; running means stand where the paper has a critic and an LSTM that redistributes
    the reward over samples; six features instead of three, none of them from the labels; 16 hidden
    units instead of 2 · 256; a fixed :math:`\sigma`; the last batch as the only memory, learned from at every
    step; no first epochs at a fixed temperature, and no mixing of images (its exploration strategy), which a rule
    cannot do. What one step's temperatures do to the next batch's loss is small against what the change of batch
    does, so expect it to learn slowly.

    Args:
        initial: the temperature it starts around.
        minimum: :math:`\tau_{min}` > 0.
        maximum: :math:`\tau_{max}`.
        hidden: width of the actor.
        sigma: width of its exploration, in units of half the range, > 0.
        actor_lr: length of its gradient steps, > 0.
        clip: :math:`\epsilon` of the clipped objective, > 0.
        updates: gradient steps a batch.
        momentum: of the running means, in [0, 1).
        memory: samples of a batch that are remembered, the first ones; the others' actions are not learned from.
        seed: of its initial weights and its noise; the caller's random state is not touched.

    Shapes: logits (B, K), target (B,). Returns (B, 1), in [minimum, maximum].

    Raises:
        ValueError: for bounds or options that are not above 0, an initial temperature not strictly between the bounds, a
            momentum outside [0, 1), or no target in training.

    Source: arXiv 2407.00115; code: Zhengbo-Zhang/ITKD.
    """

    keeps_state = True
    reads_target = True
    weights: Tensor
    features: Tensor
    action: Tensor
    mean: Tensor
    valid: Tensor
    usual: Tensor
    scale: Tensor
    step: Tensor

    def __init__(
        self,
        initial: float = 4.0,
        minimum: float = 1.0,
        maximum: float = 10.0,
        hidden: int = 16,
        sigma: float = 0.2,
        actor_lr: float = 0.001,
        clip: float = 0.2,
        updates: int = 4,
        momentum: float = 0.9,
        memory: int = 256,
        seed: int = 0,
    ):
        super().__init__()
        check_bounds(minimum, maximum)
        check_numbers("a number", initial=initial, momentum=momentum)
        if not minimum < initial < maximum:
            raise ValueError(
                f"initial: expected a temperature strictly between {minimum:g} and {maximum:g}, got {initial!r}"
            )
        check_positive(sigma=sigma, actor_lr=actor_lr, clip=clip)
        check_whole(1, hidden=hidden, updates=updates, memory=memory)
        check_whole(seed=seed)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1), got {momentum!r}")
        self.minimum, self.maximum = float(minimum), float(maximum)
        self.sigma, self.clip = float(sigma), float(clip)
        self.actor_lr, self.updates = float(actor_lr), updates
        self.momentum = float(momentum)
        self.seed = seed

        start = math.atanh(2 * (initial - minimum) / (maximum - minimum) - 1)
        w1 = torch.randn(FEATURES * hidden, generator=torch.Generator().manual_seed(seed)) / math.sqrt(FEATURES)
        self.register_buffer("weights", torch.cat([w1, torch.zeros(2 * hidden), torch.tensor([start])]))
        # The last batch: what the actor saw, did and meant to do, and which rows are in use.
        self.register_buffer("features", torch.zeros(memory, FEATURES))
        self.register_buffer("action", torch.zeros(memory))
        self.register_buffer("mean", torch.zeros(memory))
        self.register_buffer("valid", torch.zeros(memory))
        # Running means of the cross entropy and of the squared reward, and the number of training steps.
        self.register_buffer("usual", torch.zeros(()))
        self.register_buffer("scale", torch.zeros(()))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def _advantage(self, ce: Tensor) -> Tensor:
        """How much better than usual the student is, in units of the usual deviation; updates what is usual."""
        ce = finite_or(ce, self.usual)
        usual = torch.where(self.step == 0, ce, self.usual)
        reward = usual - ce
        self.usual.copy_(torch.lerp(ce, usual, self.momentum))
        self.scale.copy_(finite_or(torch.lerp(reward.square(), self.scale, self.momentum), self.scale))
        return reward / (self.scale.sqrt() + 1e-8)

    def _learn(self, advantage: Tensor) -> None:
        ascend = torch.func.grad(clipped_objective)
        memory = (self.features, self.action, self.mean, self.valid)
        weights = self.weights.clone()
        for _ in range(self.updates):
            weights = weights + self.actor_lr * ascend(weights, *memory, advantage, self.sigma, self.clip)
        self.weights.copy_(finite_or(weights, self.weights))

    def _act(self, features: Tensor, mean: Tensor) -> Tensor:
        """Sample actions (B,) and remember them."""
        noise = gaussian_noise(self.seed, self.step, len(mean))
        action = mean + self.sigma * noise.to(mean.dtype)
        kept = min(len(mean), len(self.valid))
        self.valid.zero_()
        self.valid[:kept] = 1
        self.features[:kept] = features[:kept]
        self.action[:kept] = action[:kept]
        self.mean[:kept] = mean[:kept]
        self.step.add_(1)
        return action

    @torch.no_grad()
    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None = None, epoch: int | None = None
    ) -> Temperatures:
        features = describe(student, teacher).to(self.weights.dtype)
        if self.training:
            target = check_target(self, target)
            self._learn(self._advantage(F.cross_entropy(student, target).to(self.usual.dtype)))
            action = self._act(features, actor(self.weights, features))
        else:
            action = actor(self.weights, features)
        share = (1 + action.clamp(-1, 1).unsqueeze(-1)) / 2  # (B, 1)
        tau = (self.minimum + (self.maximum - self.minimum) * share).to(student.dtype)
        return Temperatures(tau, tau)

    def extra_repr(self) -> str:
        return (
            f"minimum={self.minimum:g}, maximum={self.maximum:g}, sigma={self.sigma:g}, actor_lr={self.actor_lr:g}, "
            f"clip={self.clip:g}, updates={self.updates}, momentum={self.momentum:g}, seed={self.seed}"
        )
