"""What a training step is made of, and what adapting the temperature costs in it."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..data import ImageData, Split, Views
from ..methods import create_method
from ..models import create_model
from ..objective import LogitObjective
from ..temperature import Fixed
from ..training import choose_precision, get_recipe
from ..training.capture import Captured, choose_capture
from ..training.record import environment
from .roofline import ceiling, flops_of, roofline_seconds
from .timing import PAIRS, alternate, refuse_few, spread_of, turns

__all__ = ["bench_step", "synthetic_data"]


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


def bench_step(
    teacher: str = "resnet32x4",
    student: str = "resnet8x4",
    method: str = "zkd+mlt",
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    precision: str = "auto",
    capture: bool | None = None,
    rounds: int = 10,
    least: float = 0.5,
    pairs: int = PAIRS,
    progress: bool = True,
) -> dict[str, Any]:
    """Time a training step and its parts, on random pixels in CIFAR's shape (32 x 32, 100 classes).

    Args:
        teacher: a model's name.
        student: a model's name.
        method: a name of `adakd.METHODS` or ``<row>+<rule>``.
        batch_size: images a step.
        device: "cpu" or "cuda".
        precision: "auto", "fp32", "bf16" or "fp16".
        capture: compile forward and loss; on a GPU only when left out.
        rounds: how often each part has its turn.
        least: seconds of the whole step in a turn.
        pairs: how often a cached step and the same at one fixed temperature are held against each other.
        progress: show a progress bar.

    Returns:
        A record with environment, settings, and for each part its seconds and its share of the step with a live teacher.
        Parts are data (choose and render the views), teacher (forward), student (forward and backward), loss (forward and
        backward), optimizer; live and cached (a whole step each), fixed (a cached step at one fixed temperature).
        What adapting costs, cached against fixed, step by step (``adaptive_to_fixed``, see `alternate`).
        Also images a second, operations a step, and the fraction of peak and of the per-layer roofline.

    Raises:
        ValueError: for unknown names, a method without a teacher, or fewer than 6 pairs.
    """
    refuse_few(pairs)  # and not after minutes of timing
    device = torch.device(device)
    data = synthetic_data(max(2000, batch_size)).to(device)
    generator = torch.Generator().manual_seed(0)
    model, teaching = (create_model(name, data.num_classes).to(device) for name in (student, teacher))
    model, teaching = (net.to(memory_format=torch.channels_last) for net in (model.train(), teaching.eval()))
    teaching.requires_grad_(False)
    criterion = create_method(method).to(device)
    if not criterion.needs_teacher:
        raise ValueError(f"method: expected one that distills, got {method!r}")
    fixed = _at_fixed_temperature(criterion).to(device)
    chosen = choose_precision(precision, device, sum(p.numel() for p in model.parameters()))
    # The weights stand still: else the last of many steps on one batch would compute with numbers that no run has.
    recipe = get_recipe("paper", "student", batch_size=batch_size, lr=0.0)
    optimizer = recipe.optimizer([*model.parameters(), *criterion.parameters()])
    # On its own, the optimizer steps a copy: the gradients of a captured network live in the graph's memory.
    twin = create_model(student, data.num_classes).to(device)
    for parameter in twin.parameters():
        parameter.grad = torch.zeros_like(parameter)
    alone = recipe.optimizer(twin.parameters())
    scaler = chosen.scaler(device)
    views = Views(data, seed=0)
    answers = torch.randn(len(views), data.num_classes, generator=generator).half().to(device)
    captured, reason = choose_capture(capture, device)
    forward, loss, loss_fixed = model, criterion, fixed
    if captured:
        forward = Captured(model, device, "the network")
        loss, loss_fixed = (Captured(one, device, "the loss") for one in (criterion, fixed))
    positions = torch.arange(batch_size, device=device)
    images = views.render(positions, views.choose(1, positions))
    labels = data.train.labels[:batch_size]
    said = answers[:batch_size]
    logits = torch.randn(batch_size, data.num_classes, generator=generator).to(device).requires_grad_()

    def render() -> Tensor:
        return views.render(positions, views.choose(1, positions))

    def ask() -> Tensor:
        with torch.no_grad(), chosen.autocast(device):
            return teaching(images)

    def learn() -> None:
        optimizer.zero_grad(set_to_none=True)
        with chosen.autocast(device):
            out = forward(images)
        out.float().mean().backward()

    def judge() -> None:
        loss(logits, said, labels, epoch=1).total.backward()
        logits.grad = None

    def whole(taught: Callable[[Tensor], Tensor], judged: Callable[..., Any]) -> Callable[[], None]:
        def step() -> None:
            seen = render()
            with chosen.autocast(device):
                taught_logits = taught(seen)
                out = forward(seen)
            terms = judged(out, taught_logits, labels, epoch=1)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(terms.total).backward()
            scaler.step(optimizer)
            scaler.update()

        return step

    def live(seen: Tensor) -> Tensor:
        with torch.no_grad():
            return teaching(seen)

    steps = {
        "live": whole(live, loss),
        "cached": whole(lambda seen: said, loss),
        "fixed": whole(lambda seen: said, loss_fixed),
        "data": render,
        "teacher": ask,
        "student": learn,
        "loss": judge,
        "optimizer": alone.step,
    }
    spent = turns(
        steps,
        device,
        reference="live",
        rounds=rounds,
        least=least,
        label=f"{teacher} → {student}",
        progress=progress,
    )
    adapting = alternate(
        steps["cached"],
        steps["fixed"],
        device,
        pairs=pairs,
        label="adaptive and fixed",
        progress=progress,
    )
    limit = ceiling(device, chosen)
    size = 4 if chosen.name == "fp32" else 2
    flops = {"student": 3 * flops_of(model, images), "teacher": flops_of(teaching, images)}
    floors = {
        "student": roofline_seconds(model, images, limit, training=True, bytes_each=size),
        "teacher": roofline_seconds(teaching, images, limit, training=False, bytes_each=size),
    }
    whole_steps = {"live": ("student", "teacher"), "cached": ("student",)}
    medians = {name: statistics.median(values) for name, values in spent.items()}
    return {
        "schema": 1,
        "kind": "bench-step",
        "status": "complete",
        "config": {
            "teacher": teacher,
            "student": student,
            "method": method,
            "batch_size": batch_size,
            "precision": chosen.name,
            "precision_reason": chosen.reason,
            "captured": captured,
            "captured_reason": reason,
            "rounds": rounds,
            "pairs": pairs,
        },
        **environment(device),
        "ceiling": {"flops": limit.flops, "bandwidth": limit.bandwidth, "source": limit.source},
        "seconds": {name: spread_of(values) for name, values in spent.items()},
        "share": {
            name: spread_of([one / all_ for one, all_ in zip(values, spent["live"], strict=True)])
            for name, values in spent.items()
        },
        "adaptive_to_fixed": adapting,
        "images_per_second": {name: batch_size / medians[name] for name in whole_steps},
        "operations": flops,
        "fraction_of_peak": {
            name: sum(flops[part] for part in parts) / medians[name] / limit.flops
            for name, parts in whole_steps.items()
        },
        "fraction_of_roofline": {
            name: sum(floors[part] for part in parts) / medians[name] for name, parts in whole_steps.items()
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
