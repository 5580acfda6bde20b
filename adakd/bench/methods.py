"""What a training step by each method costs beside one by plain KD."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ..data import ImageData, Views
from ..methods import METHODS, create_method, fill_options
from ..models import seeded_model
from ..runs.deployed import build_terms
from ..signals import Batch
from ..teachers import LiveTeacher
from ..training import Precision, Recipe, Trainer, choose_precision, get_recipe
from ..training.record import environment
from .step import synthetic_data
from .timing import spread_of, turns

__all__ = ["bench_methods"]

_REFERENCE = "kd"


LEAST = 0.5  # seconds of the step by KD in a turn


def bench_methods(
    methods: Sequence[str] | None = None,
    teacher: str = "resnet32x4",
    student: str = "resnet8x4",
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    precision: str = "auto",
    rounds: int = 10,
    progress: bool = True,
) -> dict[str, Any]:
    """Time a training step of each method as a ratio to plain KD, on random pixels in CIFAR's shape.

    A step renders the views, computes a live teacher's logits and the features that the method reads, and updates the
    student and the method's connectors; one operation at a time. All methods take turns in one run. The memory of CRD is
    that of the training set's 50 000 images.

    Args:
        methods: names; the rows of `adakd.METHODS` that are terms when left out.
        teacher, student: models' names.
        batch_size: images a step.
        device: "cpu" or "cuda".
        precision: "auto", "fp32", "bf16" or "fp16".
        rounds: how often each method has its turn.
        progress: show a progress bar.

    Returns:
        A record with environment, settings, seconds of a step by KD, and rows of method and ratio (median, lowest and
        highest over the rounds) and the number of parameters that the method trains beside the student's.

    Raises:
        ValueError: for unknown names, or a method without a teacher.
    """
    device = torch.device(device)
    terms = [name for name, row in METHODS.items() if row.term is not None]
    names = list(dict.fromkeys([_REFERENCE, *(methods or terms)]))
    data = synthetic_data(max(2000, batch_size)).to(device)
    teaching = seeded_model(teacher, data.num_classes, 1).eval().requires_grad_(False)
    parameters = sum(p.numel() for p in seeded_model(student, data.num_classes, 0).parameters())
    chosen = choose_precision(precision, device, parameters)
    # The weights stand still: else the last of many steps on one batch would compute with numbers that no run has.
    recipe = get_recipe("paper", "student", batch_size=batch_size, lr=0.0)
    trainers = {name: _trainer(name, student, teaching, data, recipe, chosen) for name in names}
    steps = {name: _step(trainer, teaching, data) for name, trainer in trainers.items()}
    spent = turns(
        steps,
        device,
        reference=_REFERENCE,
        rounds=rounds,
        least=LEAST,
        label=f"{teacher} → {student}",
        progress=progress,
    )
    return {
        "schema": 1,
        "kind": "bench-methods",
        "status": "complete",
        "config": {
            "teacher": teacher,
            "student": student,
            "reference": _REFERENCE,
            "batch_size": batch_size,
            "precision": chosen.name,
            "rounds": rounds,
        },
        **environment(device),
        "seconds": spread_of(spent[_REFERENCE]),
        "rows": [
            {
                "method": name,
                "parameters": sum(p.numel() for p in trainers[name].learned),
                "ratio": spread_of([one / kd for one, kd in zip(spent[name], spent[_REFERENCE], strict=True)]),
            }
            for name in names
        ],
    }


def _trainer(
    method: str, student: str, teaching: nn.Module, data: ImageData, recipe: Recipe, precision: Precision
) -> Trainer:
    known = {"epochs": recipe.epochs, "num_classes": data.num_classes, "seed": 0}
    objective = create_method(method, **fill_options(method, {}, **known))
    if not objective.needs_teacher:
        raise ValueError(f"methods: expected those that distill, got {method!r}")
    model = seeded_model(student, data.num_classes, 0).to(data.device)
    if objective.builds:
        images = Views(data, seed=0).render(*_first(2, data))
        build_terms(objective, model, teaching, images, train_images=50_000, seed=0)
    return Trainer(model, objective, recipe, data, precision, teacher=teaching if objective.deploys else None)


def _first(count: int, data: ImageData) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of the first images, and their views in the first epoch."""
    positions = torch.arange(count, device=data.device)
    return positions, Views(data, seed=0).choose(1, positions)


def _step(trainer: Trainer, teaching: nn.Module, data: ImageData) -> Callable[[], Any]:
    source = LiveTeacher(teaching, trainer.precision, data.device, trainer.taps)
    views, (positions, choice) = Views(data, seed=0), _first(trainer.recipe.batch_size, data)
    batch = Batch(data.train.labels[positions], positions, 1)

    def step() -> None:
        images = views.render(positions, choice)
        trainer.step(images, source.signals(images, positions), batch)

    return step
