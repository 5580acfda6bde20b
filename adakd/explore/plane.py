"""Distillation in the plane: points, small networks, and two students who learn side by side. The playground's PyTorch.

Everything is a pure function of a `Setting`: points, first weights and the order of the batches come from hashes and
not from a generator, so the page's JavaScript repeats the same training, number by number.
"""

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from .._hash import hashed
from ..divergence import KL
from ..logits import pearson, standardize
from ..methods import create_method, get_method, options_of
from ..objective import LogitObjective
from ..temperature import Temperatures
from .rules import takes_tau

__all__ = ["DATA", "Lesson", "Setting", "StudentSetting", "batch_indices", "make_points", "train_teacher"]

DATA = ("ring", "pair", "sunflower", "spirals")
TAUGHT = 1000  # points that the teacher learns from; the transfer set is the first ones of them
HELD_OUT = 1000  # points that nobody learns from
WATCHED = 200  # points of the transfer set on which losses, correlations and temperatures are measured, at most
BATCH = 32

_TEACHER_WIDTH, _TEACHER_STEPS, _TEACHER_BATCH, _TEACHER_LR = 24, 500, 64, 0.1
_MOMENTUM, _WEIGHT_DECAY = 0.9, 5e-4
_TEACHER, _STUDENT = 0, 1
# Streams of `hashed`; the weights take one a layer, from theirs on.
_POINTS, _RADII, _ORDER, _WEIGHTS = 16, 17, 18, 20


@contextmanager
def _one_thread() -> Iterator[None]:
    """In networks as small as these a second thread waits longer than it works, and beside a busy process much longer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _uniform(stream: int, seed: int, part: int, index: Tensor) -> Tensor:
    """Float64 numbers in (0, 1), ends excluded, a pure function of all four."""
    return (hashed(stream, seed, part, index).double() + 0.5) / 2**32


def _normal(stream: int, seed: int, part: int, index: Tensor) -> Tensor:
    """Standard normal float64 numbers (Box and Muller)."""
    radius = (-2 * _uniform(stream, seed, 2 * part, index).log()).sqrt()
    return radius * (2 * math.pi * _uniform(stream, seed, 2 * part + 1, index)).cos()


def _around(angle: Tensor, radius: Tensor | float) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)


def centres(data: str, classes: int) -> Tensor:
    """(K, 2): where the classes are; of spirals, where the middle of each arm is."""
    k = torch.arange(classes, dtype=torch.float64)
    if data == "ring":
        return _around(2 * math.pi * k / classes, 0.8)
    if data == "pair":  # classes 0 and 1 share a place of the ring, a quarter of a place apart
        place = torch.where(k < 2, (k - 0.5) / 4, k - 1)
        return _around(2 * math.pi * place / (classes - 1), 0.8)
    if data == "sunflower":
        return _around(k * math.pi * (3 - math.sqrt(5)), 0.95 * ((k + 0.5) / classes).sqrt())
    return _spiral(k, torch.full_like(k, 0.5), classes)


def _spiral(arm: Tensor, along: Tensor, classes: int) -> Tensor:
    return _around(2 * math.pi * (arm / classes + 2.25 * along / classes), 0.12 + 0.88 * along)


def make_points(data: str, classes: int, noise: float, seed: int, index: Tensor) -> tuple[Tensor, Tensor]:
    r"""Points of a data set, each a pure function of its index.

    .. math:: x_i = c_{y_i} + \sigma\,\epsilon_i, \qquad y_i = i \bmod K, \qquad \epsilon_i \sim \mathcal N(0, I_2)

    Args:
        data: ``"ring"`` (centres around a circle), ``"pair"`` (the same, two of them close together), ``"sunflower"``
            (centres over a disc) or ``"spirals"`` (K arms, uniform along each).
        classes: K.
        noise: :math:`\sigma`.
        seed: of the noise.
        index: (N,) integers.

    Returns:
        (N, 2) float64 and (N,) labels.
    """
    y = index % classes
    if data == "spirals":
        place = _spiral(y.double(), _uniform(_RADII, seed, 0, index), classes)
    else:
        place = centres(data, classes)[y]
    noises = [_normal(_POINTS, seed, part, index) for part in (0, 1)]
    return place + noise * torch.stack(noises, dim=-1), y


def _network(classes: int, width: int, seed: int, who: int) -> nn.Sequential:
    """2 → width → width → K with tanh, float64; weights of variance 1 / inputs, biases 0."""
    sizes = [2, width, width, classes]
    layers: list[nn.Module] = []
    for depth, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=torch.float64)
        drawn = _normal(_WEIGHTS + depth, seed, who, torch.arange(inputs * outputs))
        with torch.no_grad():
            layer.weight.copy_(drawn.view(outputs, inputs) / math.sqrt(inputs))
            layer.bias.zero_()
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, points: int) -> Tensor:
    return hashed(_ORDER, seed, epoch, torch.arange(points)).argsort(stable=True)


def batch_indices(seed: int, step: int, points: int, size: int) -> Tensor:
    """Indices (size,) of a step's batch: each epoch has an order of its own, whose rest is left out."""
    epoch, place = divmod(step, points // size)
    return _order(seed, epoch, points)[place * size : (place + 1) * size]


@lru_cache(maxsize=64)
@_one_thread()
def train_teacher(data: str, classes: int, noise: float, seed: int) -> nn.Sequential:
    """A wider network, trained on the labels of 1000 points: 500 steps of SGD whose learning rate falls to 0."""
    x, y = make_points(data, classes, noise, seed, torch.arange(TAUGHT))
    network = _network(classes, _TEACHER_WIDTH, seed, _TEACHER)
    objective = create_method("ce")
    optimizer = torch.optim.SGD(
        network.parameters(), lr=_TEACHER_LR, momentum=_MOMENTUM, weight_decay=_WEIGHT_DECAY
    )
    for step in range(_TEACHER_STEPS):
        batch = batch_indices(seed, step, TAUGHT, _TEACHER_BATCH)
        optimizer.param_groups[0]["lr"] = _TEACHER_LR * (1 - step / _TEACHER_STEPS)
        optimizer.zero_grad()
        objective(network(x[batch]), None, y[batch]).total.backward()
        optimizer.step()
    return network.requires_grad_(False)


@dataclass(frozen=True)
class StudentSetting:
    """How one student is taught. None and "published" stand for what `adakd.METHODS` has."""

    method: str = "kd"
    tau: float | None = None
    weight: float | None = None
    standardize: str = "published"

    def objective(self) -> LogitObjective:
        """The loss, in float64. A method that does not read a temperature or a weight does without."""
        wanted = {"tau": self.tau, "kd_weight": self.weight}
        known = options_of(self.method)
        if not takes_tau(get_method(self.method)):
            known = known - {"tau"}
        options: dict[str, Any] = {
            key: value for key, value in wanted.items() if value is not None and key in known
        }
        if self.standardize != "published":
            options["standardize"] = False if self.standardize == "off" else self.standardize
        return create_method(self.method, **options).double()


@dataclass(frozen=True)
class Setting:
    """All that a lesson depends on."""

    data: str = "ring"
    classes: int = 10
    noise: float = 0.15
    transfer: int = 40
    width: int = 6
    lr: float = 0.05
    seed: int = 0
    a: StudentSetting = field(default_factory=lambda: StudentSetting("ce"))
    b: StudentSetting = field(default_factory=StudentSetting)


class Lesson:
    """A teacher and two students: same points, same batches, same first weights; each student has a method of its own.

    SGD with momentum 0.9 and weight decay 5e-4, batches of 32, a constant learning rate; an epoch is a pass over
    the transfer set, and what a method schedules by epochs follows it.

    Args:
        setting: see `Setting`.
    """

    def __init__(self, setting: Setting):
        self.setting = s = setting
        self.points, self.labels = make_points(
            s.data, s.classes, s.noise, s.seed, torch.arange(TAUGHT + HELD_OUT)
        )
        self.teacher = train_teacher(s.data, s.classes, s.noise, s.seed)
        with torch.no_grad():
            self.taught = self.teacher(self.points[: s.transfer])  # (transfer, K)
        self.networks = {who: _network(s.classes, s.width, s.seed, _STUDENT) for who in "ab"}
        self.objectives = {"a": s.a.objective(), "b": s.b.objective()}
        self.optimizers = {
            who: torch.optim.SGD(
                [*self.networks[who].parameters(), *self.objectives[who].parameters()],
                lr=s.lr,
                momentum=_MOMENTUM,
                weight_decay=_WEIGHT_DECAY,
            )
            for who in "ab"
        }
        self.steps = 0

    @property
    def epoch(self) -> int:
        """The epoch of the next step, counted from 1."""
        size = min(BATCH, self.setting.transfer)
        return 1 + self.steps // (self.setting.transfer // size)

    @_one_thread()
    def step(self) -> dict[str, float]:
        """Train both students on one batch; returns its loss for each."""
        n = self.setting.transfer
        batch = batch_indices(self.setting.seed, self.steps, n, min(BATCH, n))
        losses = {}
        for who in "ab":
            student = self.networks[who](self.points[batch])
            terms = self.objectives[who](student, self.taught[batch], self.labels[batch], self.epoch)
            self.optimizers[who].zero_grad()
            terms.total.backward()
            self.optimizers[who].step()
            losses[who] = terms.total.item()
        self.steps += 1
        return losses

    def temperatures(self, who: str, student: Tensor, teacher: Tensor) -> Temperatures | None:
        """The temperatures at which a student's method compares these logits (B, K); None where it has no teacher."""
        objective = self.objectives[who]
        if objective.term is None:
            return None
        term = objective.term
        z_s, z_t = (term.standardized(logits) for logits in (student, teacher))
        return term.temperature(z_s, z_t, None, self.epoch)

    @torch.no_grad()
    def soft_labels(self, who: str, points: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What a student's method compares at points (N, 2): softened probabilities of student and teacher, (N, K) each.

        The third is the student's temperature, (N, 1) or (1, 1). Where the method has no teacher it is None, and the
        probabilities are those at temperature 1; so they are for ``"teacher"``, with student B for the student.
        """
        student, teacher = self.networks["a" if who == "a" else "b"](points), self.teacher(points)
        tau = None if who == "teacher" else self.temperatures(who, student, teacher)
        if tau is None:
            return student.softmax(-1), teacher.softmax(-1), None
        term = self.objectives[who].term
        assert term is not None  # it has a temperature
        z_s, z_t = (term.standardized(logits) for logits in (student, teacher))
        return (z_s / tau.student).softmax(-1), (z_t / tau.teacher).softmax(-1), tau.student

    @torch.no_grad()
    def held_out(self) -> dict[str, Tensor]:
        """Which held-out points each of the three names correctly: (1000,) booleans."""
        x, y = self.points[TAUGHT:], self.labels[TAUGHT:]
        named = {"teacher": self.teacher, **self.networks}
        return {who: network(x).argmax(-1) == y for who, network in named.items()}

    def watched_temperatures(self, who: str) -> Temperatures | None:
        """The temperatures of the watched points of the transfer set, each (N, 1) or (1, 1)."""
        n = min(self.setting.transfer, WATCHED)
        with torch.no_grad():
            return self.temperatures(who, self.networks[who](self.points[:n]), self.taught[:n])

    @_one_thread()
    @torch.no_grad()
    def measure(self) -> dict[str, float | int | None]:
        """A row of history: for each student loss, held-out accuracy in %, 1 - ρ, τ²·KL and mean τ.

        Loss, 1 - ρ (of the logits), τ²·KL (of standardized logits, at the method's own temperatures) and τ (of the student)
        are means over the first 200 points of the transfer set at most. Without a teacher τ and τ²·KL are None.
        """
        n = min(self.setting.transfer, WATCHED)
        teacher, right = self.taught[:n], self.held_out()
        row: dict[str, float | int | None] = {"step": self.steps}
        for who in "ab":
            student = self.networks[who](self.points[:n])
            terms = self.objectives[who](student, teacher, self.labels[:n], self.epoch)
            tau, kl = terms.temperature, None
            if tau is not None:
                kl = KL()(standardize(student), standardize(teacher), self.labels[:n], tau).mean().item()
            row |= {
                f"loss_{who}": terms.total.item(),
                f"accuracy_{who}": 100 * right[who].double().mean().item(),
                f"distance_{who}": 1 - pearson(student, teacher).mean().item(),
                f"kl_{who}": kl,
                f"tau_{who}": None if tau is None else tau.student.mean().item(),
            }
        return row

    @_one_thread()
    def train(self, steps: int, every: int = 10) -> list[dict[str, float | int | None]]:
        """Train, and measure at multiples of `every` steps and at the end; returns the rows."""
        rows = [self.measure()] if self.steps % every == 0 else []
        for _ in range(steps):
            self.step()
            if self.steps % every == 0:
                rows.append(self.measure())
        return rows if rows and rows[-1]["step"] == self.steps else [*rows, self.measure()]

    def weights(self, who: str) -> list[float]:
        """All weights of ``"teacher"``, ``"a"`` or ``"b"`` in one list, in the order of ``parameters()``."""
        network = self.teacher if who == "teacher" else self.networks[who]
        return torch.nn.utils.parameters_to_vector(network.parameters()).tolist()
