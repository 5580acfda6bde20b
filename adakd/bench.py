"""Measuring: what a loss costs beside plain KD, and what a training step is made of.

The parts take turns, round by round, so that whatever else the machine does meets all of them; what is reported are
medians over the rounds, as ratios within a round, and as times for those who have the machine to themselves. Where a
difference is smaller than what a round may stray, two steps alternate one by one, in pairs.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from .data import ImageData, Split, Views
from .methods import METHODS, create_method
from .models import create_model
from .objective import LogitObjective
from .statistics import median_interval
from .temperature import Fixed
from .training import Precision, choose_precision, get_recipe
from .training.capture import Captured, choose_capture
from .training.record import environment

__all__ = ["Ceiling", "alternate", "bench_losses", "bench_step", "ceiling", "roofline_seconds", "turns"]

SHAPES = ((64, 100), (256, 1000))
PAIRS = 300
_FEWEST_PAIRS = 6  # below, no two of them enclose the median in 95 of 100 cases
_WARM_UP_PAIRS = 5
_REFERENCE = "kd"


# ---- timing ----


def _seconds(step: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Time of `repeats` steps; on a GPU by events, after everything before has ended."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(repeats):
            step()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000
    begin = time.perf_counter()
    for _ in range(repeats):
        step()
    return time.perf_counter() - begin


@contextmanager
def _no_collector() -> Iterator[None]:
    """Python's collector of cycles runs when it likes, in whoever's turn it is: not while the clock does."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def turns(
    steps: Mapping[str, Callable[[], Any]],
    device: torch.device,
    *,
    reference: str,
    rounds: int,
    least: float,
    label: str = "",
    progress: bool = True,
) -> dict[str, list[float]]:
    """Seconds a step, for each of `steps` and each round in which every one of them had its turn.

    Args:
        steps: by name; each is called three times beforehand.
        device: where they run.
        reference: a turn has so many steps that this one takes `least` seconds: long against the clock, short against
            a disturbance.
        rounds: how many.
        least: seconds.
    """
    for step in tqdm(steps.values(), desc=f"warm-up {label}", disable=not progress):
        for _ in range(3):
            step()
    repeats = max(1, round(least / (_seconds(steps[reference], device, 5) / 5)))
    spent: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps.items())
    with _no_collector():
        for _ in tqdm(range(rounds), desc=label, disable=not progress):
            for name, step in order:
                spent[name].append(_seconds(step, device, repeats) / repeats)
            order.reverse()  # whom one comes after costs something too: caches, clocks
    return spent


def alternate(
    first: Callable[[], Any],
    second: Callable[[], Any],
    device: torch.device,
    *,
    pairs: int,
    label: str = "pairs",
    progress: bool = True,
) -> dict[str, Any]:
    """What `first` costs in units of `second`, for differences smaller than a machine's moods.

    The two alternate step by step, in the order first, second, second, first. Such a four is a pair: its ratio is the
    time of the two first over that of the two second. A steady drift cancels in it, and so does what it costs to come
    after oneself or after the other; a disturbance meets one pair among many, and medians do not mind it.

    Args:
        first, second: each does a step.
        device: where they run.
        pairs: how many, at least 6; a few more beforehand are not counted.
        label: what the progress display says.
        progress: show it.

    Returns:
        The median of the pairs' ratios with its distribution-free 95 % interval (``low``, ``high``; see
        `adakd.statistics.median_interval`), the lowest and highest ratio, the number of pairs, and the ratio of the
        median times of a single step (``of_medians``).

    Raises:
        ValueError: for fewer pairs, which have no such interval.
    """
    _refuse_few(pairs)
    ratios: list[float] = []
    singles: dict[Callable[[], Any], list[float]] = {first: [], second: []}
    with _no_collector():
        for number in tqdm(range(-_WARM_UP_PAIRS, pairs), desc=label, disable=not progress):
            spent = [(step, _seconds(step, device, 1)) for step in (first, second, second, first)]
            if number < 0:
                continue
            (_, a), (_, b), (_, c), (_, d) = spent
            ratios.append((a + d) / (b + c))
            for step, seconds in spent:
                singles[step].append(seconds)
    found = median_interval(ratios)
    return {
        **_spread(ratios),
        "low": found.low,
        "high": found.high,
        "confidence": found.level,
        "pairs": pairs,
        "of_medians": statistics.median(singles[first]) / statistics.median(singles[second]),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def _refuse_few(pairs: int) -> None:
    if pairs < _FEWEST_PAIRS:
        raise ValueError(f"pairs: expected at least {_FEWEST_PAIRS} (fewer have no 95 % interval), got {pairs}")


# ---- losses ----


def _loss_step(method: str, batch: int, classes: int, device: torch.device, compiled: bool):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(batch, classes, generator=generator).to(device).requires_grad_()
    teacher = torch.randn(batch, classes, generator=generator).to(device)
    target = torch.randint(classes, (batch,), generator=generator).to(device)
    criterion = create_method(method).to(device)
    if compiled:
        # In one graph or not at all: with a break in it, or beyond the limit, this would time something else.
        criterion.compile(fullgraph=True, dynamic=False)

    def step() -> None:
        criterion(student, teacher, target, epoch=1).total.backward()
        student.grad = None

    return step


def _ratios(
    names: list[str], device: torch.device, compiled: bool, rounds: int, progress: bool
) -> dict[str, dict[str, dict[str, float]]]:
    measured: dict[str, dict[str, dict[str, float]]] = {name: {} for name in names}
    for batch, classes in SHAPES:
        shape = f"{batch}x{classes}"
        steps = {name: _loss_step(name, batch, classes, device, compiled) for name in names}
        spent = turns(
            steps, device, reference=_REFERENCE, rounds=rounds, least=0.005, label=shape, progress=progress
        )
        for name in names:
            measured[name][shape] = _spread(
                [one / kd for one, kd in zip(spent[name], spent[_REFERENCE], strict=True)]
            )
    return measured


def bench_losses(
    methods: Sequence[str] | None = None,
    *,
    device: torch.device | str = "cpu",
    compiled: bool = False,
    rounds: int = 15,
    progress: bool = True,
) -> dict[str, Any]:
    """Time forward and backward of each method's loss as a ratio to plain KD.

    Args:
        methods: names; all rows of `adakd.METHODS` on logits alone when left out.
        device: "cpu" or "cuda".
        compiled: through torch.compile.
        rounds: how often each method has its turn.
        progress: show a progress bar.

    Returns:
        A record with environment, settings, and rows of method and ratio, by batch and classes ("64x100"), each with its
        median, lowest and highest over the rounds.

    Raises:
        ValueError: for an unknown method.
    """
    device = torch.device(device)
    on_logits = [name for name, row in METHODS.items() if row.on_logits]
    names = list(dict.fromkeys([_REFERENCE, *(methods or on_logits)]))
    # All methods are calls of one function, LogitObjective.forward, of which dynamo keeps 8 versions by default.
    limit = torch._dynamo.config.patch(recompile_limit=4 * len(names)) if compiled else nullcontext()
    with limit:
        measured = _ratios(names, device, compiled, rounds, progress)
    return {
        "schema": 1,
        "kind": "bench-losses",
        "status": "complete",
        "config": {"reference": _REFERENCE, "compiled": compiled, "rounds": rounds},
        **environment(device),
        "rows": [{"method": name, "ratio": ratio} for name, ratio in measured.items()],
    }


# ---- how fast it could be ----


@dataclass(frozen=True)
class Ceiling:
    """What a device can do at most."""

    flops: float
    """Floating-point operations a second, in the format that is trained in."""
    bandwidth: float
    """Bytes a second to and from its memory."""
    source: str
    """"vendor" or "measured"."""


# Dense bf16 (fp16 before Ampere) with fp32 sums, and memory bandwidth, from the vendor's data sheets.
_VENDOR = {
    "T4": (65e12, 0.32e12),
    "V100": (125e12, 0.90e12),
    "A100": (312e12, 1.555e12),  # 40 GB; the 80 GB model has 2.0 TB/s
    "A10G": (70e12, 0.60e12),
    "L4": (121e12, 0.30e12),
    "H100": (989e12, 3.35e12),
    "H200": (989e12, 4.80e12),
}


def ceiling(device: torch.device, precision: Precision) -> Ceiling:
    """From the vendor's table where the device's name is in it, else measured: a large product, a large copy.

    In fp32 always measured, and the product also as a 1 x 1 convolution, of which the faster counts: by default a GPU's
    convolutions round their factors to TF32, and its matrix products do not.
    """
    if device.type == "cuda" and precision.name != "fp32":
        words = torch.cuda.get_device_name(device).replace("-", " ").split()
        if "PCIe" in words or "PCIE" in words:
            words = []  # another clock and other memory than the table's
        for name, (flops, bandwidth) in _VENDOR.items():
            if name in words:
                return Ceiling(flops, bandwidth, "vendor")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision.name]
    side = 2048
    matrix = torch.randn(side, side, device=device).to(dtype)
    ways = [lambda: matrix @ matrix]
    if precision.name == "fp32":
        # The same numbers as pixels (1, side, side / 32, 32) and as filters (side, side, 1, 1).
        pixels = matrix.view(1, side // 32, 32, side).permute(0, 3, 1, 2)  # channels_last
        filters = matrix.view(side, side, 1, 1)
        ways.append(lambda: conv2d(pixels, filters))
    block = torch.empty(2**26, dtype=torch.float32, device=device).fill_(1.0)
    target = torch.empty_like(block)
    product = min(_seconds(way, device, 1) for way in ways for _ in range(7))
    copied = min(_seconds(lambda: target.copy_(block), device, 1) for _ in range(7))
    return Ceiling(2 * side**3 / product, 2 * block.nbytes / copied, "measured")


def roofline_seconds(
    model: nn.Module, images: Tensor, limit: Ceiling, *, training: bool, bytes_each: int = 2
) -> float:
    r"""Least time for one batch through a network, layer by layer.

    .. math:: t = \sum_\text{layers} \max\!\left(\frac{\text{operations}}{\text{peak}},
              \frac{\text{bytes}}{\text{bandwidth}}\right)

    A convolution or linear layer reads its input and weights and writes its output; what lies between two of them
    (batch norm, ReLU, addition) counts as one kernel that reads and writes the output. Backward, a layer does twice
    its operations and moves twice its bytes, and the kernel between reads two tensors and writes one.

    Args:
        model: the network.
        images: (B, C, H, W), for the shapes.
        limit: what the device can do.
        training: forward and backward; forward alone otherwise.
        bytes_each: of an activation or weight.
    """
    seconds = 0.0
    multiplies = 3 if training else 1

    def visit(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal seconds
        moved = bytes_each * (inputs[0].numel() + layer.weight.numel() + output.numel())
        operations = 2 * output.numel() * layer.weight[0].numel()
        seconds += multiplies * max(operations / limit.flops, moved / limit.bandwidth)
        between = output.numel() * bytes_each * (2 + 3 * training)
        seconds += between / limit.bandwidth

    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(visit) for layer in layers]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(images)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return seconds


def _flops(model: nn.Module, images: Tensor) -> float:
    """Floating-point operations of one forward pass, a multiplication and an addition counting as two."""
    was_training = model.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(images)
    model.train(was_training)
    return float(counter.get_total_flops())


# ---- a step ----


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
    _refuse_few(pairs)  # and not after minutes of timing
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
    flops = {"student": 3 * _flops(model, images), "teacher": _flops(teaching, images)}
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
        "seconds": {name: _spread(values) for name, values in spent.items()},
        "share": {
            name: _spread([one / all_ for one, all_ in zip(values, spent["live"], strict=True)])
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
