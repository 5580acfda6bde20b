"""What a training step is made of, and what adapting the temperature costs in it."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data import ImageData, Split, Views
from ..methods import create_method
from ..models import create_model
from ..models._layout import channels_last
from ..objective import LogitObjective
from ..temperature import Fixed
from ..training import choose_precision, get_recipe
from ..training.capture import Captured, choose_capture
from ..training.record import environment
from .roofline import ceiling, flops_of, roofline_seconds
from .timing import PAIRS, alternate, refuse_few, spread_of, turns

__all__ = ["StepBench", "bench_step", "synthetic_data"]


def synthetic_data(images: int = 2000, classes: int = 100, test_images: int = 500) -> ImageData:
    """Random pixels in CIFAR's shape: how long a step takes does not depend on what is seen."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 32, 32, 3), generator=generator, dtype=torch.uint8)
    split = Split(pixels, torch.randint(classes, (images,), generator=generator))
    return ImageData(
        name="synthetic",
        train=split,
        test=Split(pixels[:test_images], split.labels[:test_images]),
        classes=tuple(map(str, range(classes))),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        padding=4,
        flip=True,
        official=True,
        checksum="",
    )


@dataclass(frozen=True)
class StepBench:
    """What `bench_step` measures, and for how long."""

    teacher: str = "resnet32x4"
    """A model's name."""
    student: str = "resnet8x4"
    method: str = "zkd+mlt"
    """A method on logits: a name of `adakd.METHODS` or ``<row>+<rule>``."""
    batch_size: int = 64
    precision: str = "auto"
    """"auto", "fp32", "bf16" or "fp16"."""
    capture: bool | None = None
    """Whether to compile forward and loss; None: on a GPU only."""
    rounds: int = 10
    """How often each part has its turn."""
    least: float = 0.5
    """Seconds of the whole step in a turn."""
    pairs: int = PAIRS
    """How often a cached step and the same at one fixed temperature are held against each other."""


class _Step:
    """A training step on synthetic data, whole and in parts; each is called without arguments."""

    def __init__(self, settings: StepBench, device: torch.device):
        data = synthetic_data(max(2000, settings.batch_size)).to(device)
        generator = torch.Generator().manual_seed(0)
        model, teaching = (
            channels_last(create_model(name, data.num_classes), device)
            for name in (settings.student, settings.teacher)
        )
        self.device, self.model = device, model.train()
        self.teaching = teaching.eval().requires_grad_(False)
        criterion = create_method(settings.method).to(device)
        if not isinstance(criterion, LogitObjective):
            raise ValueError(
                f"method: expected one on logits alone, got {settings.method!r}; `adakd bench methods` times a step of "
                "others"
            )
        if not criterion.needs_teacher:
            raise ValueError(f"method: expected one that distills by logits, got {settings.method!r}")
        fixed = _at_fixed_temperature(criterion).to(device)
        size = sum(p.numel() for p in self.model.parameters())
        self.precision = choose_precision(settings.precision, device, size)
        # The weights stand still: else the last of many steps on one batch would compute with numbers that no run has.
        recipe = get_recipe("paper", "student", batch_size=settings.batch_size, lr=0.0)
        self.optimizer = recipe.optimizer([*self.model.parameters(), *criterion.parameters()])
        # On its own, the optimizer steps a copy: the gradients of a captured network live in the graph's memory.
        twin = create_model(settings.student, data.num_classes).to(device)
        for parameter in twin.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.alone = recipe.optimizer(twin.parameters())
        self.scaler = self.precision.scaler(device)
        self.views = Views(data, seed=0)
        kept = torch.randn(len(self.views), data.num_classes, generator=generator).half().to(device)
        self.captured, self.reason = choose_capture(settings.capture, device)
        functions: list[Callable[..., Any]] = [self.model, criterion, fixed]
        if self.captured:
            names = ("the network", "the loss", "the loss")
            functions = [Captured(one, device, what) for one, what in zip(functions, names, strict=True)]
        self.forward, self.loss, self.loss_fixed = functions
        self.positions = torch.arange(settings.batch_size, device=device)
        self.images = self.render()
        self.labels = data.train.labels[: settings.batch_size]
        self.kept = kept[: settings.batch_size]
        logits = torch.randn(settings.batch_size, data.num_classes, generator=generator)
        self.logits = logits.to(device).requires_grad_()

    @property
    def parts(self) -> dict[str, Callable[[], Any]]:
        """Whole steps and parts, by the names that the record has for them."""
        return {
            "live": self.whole(self.live, self.loss),
            "cached": self.whole(lambda images: self.kept, self.loss),
            "fixed": self.whole(lambda images: self.kept, self.loss_fixed),
            "data": self.render,
            "teacher": self.teach,
            "student": self.learn,
            "loss": self.judge,
            "optimizer": self.alone.step,
        }

    def whole(self, taught: Callable[[Tensor], Tensor], judged: Callable[..., Any]) -> Callable[[], None]:
        """A whole step, the teacher's logits and the loss from there."""

        def step() -> None:
            images = self.render()
            with self.precision.autocast(self.device):
                teacher_logits = taught(images)
                logits = self.forward(images)
            terms = judged(logits, teacher_logits, self.labels, epoch=1)
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(terms.total).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()

        return step

    @torch.no_grad()
    def live(self, images: Tensor) -> Tensor:
        logits: Tensor = self.teaching(images)
        return logits

    def render(self) -> Tensor:
        return self.views.render(self.positions, self.views.choose(1, self.positions))

    def teach(self) -> Tensor:
        with self.precision.autocast(self.device):
            return self.live(self.images)

    def learn(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision.autocast(self.device):
            logits = self.forward(self.images)
        logits.float().mean().backward()

    def judge(self) -> None:
        self.loss(self.logits, self.kept, self.labels, epoch=1).total.backward()
        self.logits.grad = None


def bench_step(
    settings: StepBench | None = None, *, device: torch.device | str = "cpu", progress: bool = True
) -> dict[str, Any]:
    """Time a training step and its parts, on random pixels in CIFAR's shape (32 x 32, 100 classes).

    Args:
        settings: what to measure; the usual pair, by the usual method, when left out.
        device: "cpu" or "cuda".
        progress: show a progress bar.

    Returns:
        A record with environment, settings, and for each part its seconds and its share of the step with a live teacher.
        Parts are data (choose and render the views), teacher (forward), student (forward and backward), loss (forward and
        backward), optimizer; live and cached (a whole step each), fixed (a cached step at one fixed temperature).
        What adapting costs, cached against fixed, step by step (``adaptive_to_fixed``, see `alternate`).
        Also images a second, operations a step, and the fraction of peak and of the per-layer roofline.

    Raises:
        ValueError: for unknown names, a method without a teacher or with other terms than on logits, or fewer than
            6 pairs.
    """
    settings = settings or StepBench()
    refuse_few(settings.pairs)  # and not after minutes of timing
    device = torch.device(device)
    step = _Step(settings, device)
    parts, label = step.parts, f"{settings.teacher} → {settings.student}"
    how: dict[str, Any] = {"rounds": settings.rounds, "least": settings.least, "progress": progress}
    spent = turns(parts, device, reference="live", label=label, **how)
    how = {"pairs": settings.pairs, "label": "adaptive and fixed", "progress": progress}
    adapting = alternate(parts["cached"], parts["fixed"], device, **how)
    limit = ceiling(device, step.precision)
    size = 4 if step.precision.name == "fp32" else 2
    flops = {"student": 3 * flops_of(step.model, step.images), "teacher": flops_of(step.teaching, step.images)}
    floors = {
        "student": roofline_seconds(step.model, step.images, limit, training=True, bytes_each=size),
        "teacher": roofline_seconds(step.teaching, step.images, limit, training=False, bytes_each=size),
    }
    whole_steps = {"live": ("student", "teacher"), "cached": ("student",)}
    medians = {name: statistics.median(values) for name, values in spent.items()}
    return {
        "schema": 1,
        "kind": "bench-step",
        "status": "complete",
        "config": {
            "teacher": settings.teacher,
            "student": settings.student,
            "method": settings.method,
            "batch_size": settings.batch_size,
            "precision": step.precision.name,
            "precision_reason": step.precision.reason,
            "captured": step.captured,
            "captured_reason": step.reason,
            "rounds": settings.rounds,
            "pairs": settings.pairs,
        },
        **environment(device),
        "ceiling": {"flops": limit.flops, "bandwidth": limit.bandwidth, "source": limit.source},
        "seconds": {name: spread_of(values) for name, values in spent.items()},
        "share": {
            name: spread_of([one / all_ for one, all_ in zip(values, spent["live"], strict=True)])
            for name, values in spent.items()
        },
        "adaptive_to_fixed": adapting,
        "images_per_second": {name: settings.batch_size / medians[name] for name in whole_steps},
        "operations": flops,
        "fraction_of_peak": {
            name: sum(flops[part] for part in named) / medians[name] / limit.flops
            for name, named in whole_steps.items()
        },
        "fraction_of_roofline": {
            name: sum(floors[part] for part in named) / medians[name] for name, named in whole_steps.items()
        },
    }


def _at_fixed_temperature(criterion: LogitObjective) -> LogitObjective:
    """The same loss with one fixed temperature: what adapting it costs is the difference."""
    return LogitObjective(
        criterion.divergence,
        Fixed(),
        criterion.standardize,
        criterion.ce_weight,
        criterion.kd_weight,
        criterion.warmup_epochs,
    )
