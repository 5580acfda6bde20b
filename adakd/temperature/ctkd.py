"""Curriculum temperature (Li et al. 2023): learned by gradient reversal, so that it makes the loss harder."""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from .._check import check_whole
from ._options import check_positive
from .base import TemperatureRule, Temperatures

__all__ = ["CTKD", "curriculum", "scale_gradient"]

_LARGEST = (
    1e5  # of a logit that the instance-wise network reads: its weights' gradient is in proportion to both
)


def curriculum(epoch: int | None, loops: int) -> float:
    r"""Factor on the temperature's gradient, :math:`\lambda_e = \frac12 (\cos(\pi \min(e, E_0) / E_0) - 1)`.

    It falls from 0 (the temperature rests) to -1 (fully reversed) over :math:`E_0` = `loops` epochs counted
    from 1, and stays there. None means that the schedule is over.

    >>> [round(curriculum(epoch, loops=10), 6) for epoch in (1, 5, 10, 11, None)]
    [-0.024472, -0.5, -1.0, -1.0, -1.0]
    """
    if epoch is None:
        return -1.0
    return (math.cos(math.pi * min(epoch, loops) / loops) - 1.0) / 2.0


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """`x` itself, whose gradient is multiplied by `factor` on the way back; a negative one reverses it."""
    return x.detach() + factor * (x - x.detach())


def _multilayer(inputs: int, hidden: int, seed: int) -> nn.Sequential:
    """(B, inputs) -> (B, 1), which starts as the constant 1: every sample at the temperature of the global rule."""
    # skip_init and a generator of its own: the caller's random numbers stay as they were.
    first, last = skip_init(nn.Linear, inputs, hidden), skip_init(nn.Linear, hidden, 1)
    nn.init.normal_(first.weight, std=inputs**-0.5, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(first.bias)
    nn.init.zeros_(last.weight)
    nn.init.ones_(last.bias)
    return nn.Sequential(first, nn.ReLU(), last)


class CTKD(TemperatureRule):
    r"""A learned temperature that climbs the loss the student descends, more and more steeply.

    .. math:: \tau = \tau_{start} + \tau_{end}\,\sigma(\theta), \qquad
              \frac{\partial \mathcal L}{\partial \theta} \leftarrow
              \lambda_e \frac{\partial \mathcal L}{\partial \theta}, \qquad
              \lambda_e = \tfrac12\left(\cos(\pi \min(e, E_0) / E_0) - 1\right)

    The temperature is in the graph. Its parameter is one of the criterion's, so the student's optimizer moves it:
    by SGD with momentum *and weight decay*, as the released code does, which alone would pull
    :math:`\theta` to 0 and the temperature to :math:`\tau_{start} + \tau_{end}/2`. :math:`\theta_0 = 1` gives
    15.6212. One temperature serves teacher and student.

    With ``instance=True``, :math:`\theta_i` comes from a small network, one hidden layer with ReLU, that reads the
    teacher's and the student's logits, *detached*: the temperature's gradient trains the network and does not
    reach the student through it. Logits beyond 10⁵ are read as 10⁵. The released script knows the global form only, so width, activation, the
    detachment and the initialization (it starts as the global rule) are ours.

    In all 17 runs of the 14 published logs of CTKD on standardized logits the temperature rests on its lower bound, 2
    there, from epoch 10 on (``book/data/published_logs.csv``). Their first epochs stand above 22, which 2 + 20 does
    not reach: the range of the logs is not that of the released script. The released mask of DKD gives NaN with a learned temperature; `DKD` here does not.

    Args:
        start: :math:`\tau_{start}`, the lower bound, > 0.
        end: :math:`\tau_{end}`, the width of the range: the upper bound is start + end.
        loops: :math:`E_0`, epochs until the reversal is complete.
        instance: one temperature a sample instead of one for all.
        num_classes: K, needed by the instance-wise form.
        hidden: width of its network.
        seed: of its initial weights; the caller's random state is not touched.

    Shapes: logits (B, K). Returns (1, 1), or (B, 1) with ``instance=True``.

    Raises:
        ValueError: if a bound is not above 0, loops is below 1, num_classes is missing or disagrees with the logits.

    Source: arXiv 2211.16231; code: zhengli97/CTKD.
    """

    reads_epoch = True

    def __init__(
        self,
        start: float = 1.0,
        end: float = 20.0,
        loops: int = 10,
        instance: bool = False,
        num_classes: int | None = None,
        hidden: int = 32,
        seed: int = 0,
    ):
        super().__init__()
        check_positive(start=start, end=end, loops=loops, hidden=hidden)
        check_whole(seed=seed)
        if num_classes is not None:
            check_whole(2, num_classes=num_classes)
        if instance and num_classes is None:
            raise ValueError(
                "num_classes: the instance-wise temperature is a network that reads the logits; "
                "say how many classes they have, e.g. num_classes=100"
            )
        self.start, self.end = float(start), float(end)
        self.loops = loops
        self.num_classes = num_classes
        if instance and num_classes is not None:
            self.network = _multilayer(2 * num_classes, hidden, seed)
        else:
            self.theta = nn.Parameter(torch.ones(1, 1))
        self.instance = instance

    def _theta(self, student: Tensor, teacher: Tensor) -> Tensor:
        if not self.instance:
            return self.theta
        if student.shape[-1] != self.num_classes:
            raise ValueError(
                f"num_classes: this rule was made for {self.num_classes} classes, the logits have {student.shape[-1]}"
            )
        logits = torch.cat([teacher.detach(), student.detach()], dim=-1).clamp(-_LARGEST, _LARGEST)  # (B, 2K)
        return self.network(logits.to(next(self.network.parameters()).dtype))

    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None = None, epoch: int | None = None
    ) -> Temperatures:
        theta = scale_gradient(self._theta(student, teacher), curriculum(epoch, self.loops))
        tau = (self.start + self.end * theta.sigmoid()).to(student.dtype)
        return Temperatures(tau, tau)

    def extra_repr(self) -> str:
        return f"start={self.start:g}, end={self.end:g}, loops={self.loops}, instance={self.instance}"
