"""Measuring the temperatures of the maximum logit on real networks, split by split, as a record without a single image."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from ._check import check_finite, check_kind, check_labels, check_logits
from ._progress import progress_bar
from .data import ImageData, eval_batches, name_of, resolve_images, usual
from .divergence import KL
from .logits import peak, quantiles, six_digits, standardize
from .models._layout import channels_last
from .plan import check_arguments, resources_of
from .runs import PlaceOptions, Run, open_run, refuse_other_data
from .signals import logits_of_output
from .teachers import load_network, locate_teacher
from .teachers.source import fp32_of
from .temperature import MaxLogit, Temperatures
from .theory import lower_factor, samuelson_bounds, upper_factor
from .training.precision import plain_torch
from .training.record import environment, now
from .training.trainer import evaluating

__all__ = ["logits_of", "measure_temperatures", "summarize_temperatures"]


RULES = {  # name in the record: options of MaxLogit
    "teacher": {"reference": "teacher"},  # the abstract of 2503.09030
    "teacher-absolute": {"reference": "teacher", "magnitude": "absolute"},
    "teacher-two-sided": {"reference": "teacher", "magnitude": "two-sided"},
    "both": {},  # its Algorithms 1-3
    "both-absolute": {"magnitude": "absolute"},  # its released code
    "both-two-sided": {"magnitude": "two-sided"},  # the condition with both ends
}
PERCENT = (0, 1, 5, 25, 50, 75, 95, 99, 100)
CLAIM = (6.0, 10.0)  # "T = 6 to 10": of a summary of the paper, not of the paper
WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of a histogram's bins: the finest with at most MOST_BINS
MOST_BINS = 100
# Fixed temperatures to compare with.
FIXED = (*(n / 2 for n in range(2, 17)), 10.0, 12.0, 16.0)
# Rows whose gradients are held at a time.
ROWS = 5000
_IGNORED = -100  # the label of rows without one, as everywhere


def _share(yes: Tensor) -> float:
    return six_digits(yes.double().mean())


def _mean(x: Tensor) -> float | None:
    """None where there is nothing to average: NaN is not JSON."""
    return six_digits(x.mean()) if len(x) else None


def _distribution(x: Tensor) -> dict[str, float]:
    """Mean, population standard deviation, and the quantiles q0 (the smallest) to q100 (the largest)."""
    mean, std = six_digits(x.mean()), six_digits(x.std(correction=0))
    return {"mean": mean, "std": std, **quantiles(x, PERCENT)}


def _histogram(x: Tensor, highest: float) -> dict[str, Any]:
    """Counts in bins [start + i·width, start + (i + 1)·width), the width one for all values up to `highest`."""
    width = next((width for width in WIDTHS if highest <= MOST_BINS * width), highest / MOST_BINS)
    # The little more keeps 0.3, which is just below three tenths, in the bin that begins there.
    bins = (x / width + 1e-9).floor().long()
    first = int(bins.min())
    return {"start": six_digits(first * width), "width": width, "counts": (bins - first).bincount().tolist()}


def _entropy(logits: Tensor, tau: Tensor | float) -> Tensor:
    log_p = torch.log_softmax(logits / tau, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def _temperatures(z_teacher: Tensor, z_student: Tensor | None, order: float) -> dict[str, Any]:
    """The temperature under each definition, and how often it leaves a logit outside the interval."""
    seen = z_teacher if z_student is None else torch.cat([z_teacher, z_student], dim=1)
    # Rounding must not put a logit outside that lies on the end itself.
    for_highest = upper_factor(order) * seen.amax(1) * (1 - 1e-9)
    for_lowest = -lower_factor(order) * seen.amin(1) * (1 - 1e-9)
    found: dict[str, Any] = {}
    signed: dict[str, Tensor] = {}
    most = upper_factor(order) * samuelson_bounds(z_teacher.shape[1])[1]
    for name, options in RULES.items():
        if name.startswith("both") and z_student is None:
            continue
        student = z_teacher if z_student is None else z_student
        tau = MaxLogit(**options, order=order)(student, z_teacher).teacher.squeeze(1)
        signed.setdefault(options.get("reference", "both"), tau)  # the first of each reference in RULES
        found[name] = {
            **_distribution(tau),
            "in_6_to_10": _share((tau >= CLAIM[0]) & (tau <= CLAIM[1])),
            "above": _share(tau < for_highest),
            "below": _share(tau < for_lowest),
            "raised": _share(tau > signed[options.get("reference", "both")]),
            "histogram": _histogram(tau, most),
        }
    return found


def _loss(student: Tensor, teacher: Tensor, tau: Tensor) -> Tensor:
    return KL()(student, teacher, None, Temperatures(tau, tau))


def _pull(student: Tensor, z_teacher: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Gradient of a loss by the student's raw logits: what its network feels."""
    student = student.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(standardize(student), z_teacher).sum(), student)
    return gradient


def _gradients(student: Tensor, z_teacher: Tensor, order: float) -> dict[str, Any]:
    """The gradient of the maximum-logit loss, all samples in one vector, beside that of other losses."""
    c = upper_factor(order)

    def mlt(s: Tensor, t: Tensor) -> Tensor:
        return _loss(s, t, MaxLogit(order=order)(s, t).teacher)

    def through_tau(s: Tensor, t: Tensor) -> Tensor:
        return _loss(s, t, (c * torch.maximum(peak(s), peak(t))).clamp(min=1e-3))

    def limit(s: Tensor, t: Tensor) -> Tensor:
        return 1 - (s * t).mean(dim=1)

    def fixed(tau: float) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda s, t: _loss(s, t, s.new_full((1, 1), tau))

    others: dict[str | float, Callable[[Tensor, Tensor], Tensor]]
    others = {"limit": limit, "through_tau": through_tau, **{tau: fixed(tau) for tau in FIXED}}
    sums = {name: torch.zeros(3, dtype=student.dtype) for name in others}
    for s, t in zip(student.split(ROWS), z_teacher.split(ROWS), strict=True):
        ours = _pull(s, t, mlt)
        for name, loss in others.items():
            theirs = _pull(s, t, loss)
            sums[name] += torch.stack([(ours * theirs).sum(), (ours**2).sum(), (theirs**2).sum()]).cpu()

    def compare(both: Tensor, ours: Tensor, theirs: Tensor) -> dict[str, float]:
        tiny = torch.finfo(both.dtype).tiny  # a student that is its own teacher has no gradient at all
        return {
            "cosine": six_digits(both / (ours * theirs).sqrt().clamp(min=tiny)),
            "length": six_digits((theirs / ours.clamp(min=tiny)).sqrt()),
            "gap": six_digits(((ours - 2 * both + theirs).clamp(min=0) / ours.clamp(min=tiny)).sqrt()),
        }

    table: list[dict[str, float]] = [{"tau": tau, **compare(*sums[tau])} for tau in FIXED]
    return {
        "fixed": table,
        "closest": min(table, key=lambda row: row["gap"]),
        "limit": compare(*sums["limit"]),
        "through_tau": compare(*sums["through_tau"]),
    }


def summarize_temperatures(
    teacher: Tensor, labels: Tensor, student: Tensor | None = None, *, order: float = 2
) -> dict[str, Any]:
    r"""Temperatures of these logits under each definition of the maximum logit, as distributions.

    Args:
        teacher: raw logits (N, K), as the network gives them.
        labels: (N,), int64; rows with the label -100 are left out.
        student: raw logits (N, K) of the same images; without them, only the rules of the teacher alone.
        order: n of the Taylor polynomial; see `adakd.MaxLogit`.

    Returns:
        A dictionary for JSON, numbers to six digits. A distribution is mean, std (population) and quantiles q0 to
        q100.

        * ``images``; ``accuracy``, percent, of ``teacher`` and ``student``
        * ``mean_tau`` by the teacher's rule, of the images that it gets ``right`` and ``wrong`` (None without any)
        * of the teacher, distributions: ``max_z``, ``min_z``, ``second_gap`` (first minus second logit) and
          ``asymmetry`` (:math:`|\min z| / \max z`) of the standardized logits, ``std`` (:math:`\sigma`) of the raw ones,
          ``raw_tau`` (the teacher's rule in units of the raw logits, :math:`\sigma \tau`), and ``entropy`` in nats: of
          the raw logits at τ = 1 (``raw_1``) and 4 (``raw_4``, as in plain KD), of the standardized ones at τ = 2
          (``z_2``, as in zKD) and at the maximum logit (``mlt``)
        * ``tau``, for each rule: its distribution, a histogram, the share of samples between 6 and 10, the shares with a
          logit ``above`` the upper or ``below`` the lower end of the interval of convergence, of any network measured,
          and the share ``raised`` above the signed rule of the same reference. Rules: ``teacher`` (the abstract of
          2503.09030), ``both`` (its Algorithms 1-3), ``both-absolute`` (its released code), ``both-two-sided`` (both
          ends), and the teacher alone under the other two magnitudes
        * with a student: ``student_decides``, the share of samples whose highest logit is the student's; distributions
          of ``loss`` (:math:`\tau^2` KL by rule ``both``) and ``one_minus_rho``; and ``gradient``: how that loss's
          gradient by the student's raw logits, all samples in one vector, compares with the gradient at each fixed
          temperature (``closest``: the one of smallest gap), in the ``limit`` :math:`1 - \rho`, and with τ in the graph
          (``through_tau``): cosine, length as a ratio to it, and ``gap``, the length of the difference as a ratio to it

    Raises:
        ValueError: for shapes that do not belong together, no row, labels out of range, logits that are not finite, or
            another order.
    """
    if student is None:
        check_logits(teacher, None, labels, "teacher")
    else:
        check_logits(student, teacher, labels)
    counted = labels != _IGNORED
    check_labels(labels.masked_fill(~counted, 0).cpu(), teacher.shape[1], _IGNORED, name="labels")
    if not counted.all():
        if not counted.any():
            raise ValueError(
                f"labels: every row has the label {_IGNORED}, which is left out; give some a label"
            )
        teacher, labels = teacher[counted], labels[counted]
        student = None if student is None else student[counted]
    check_finite(teacher=teacher, student=student)
    order = math.inf if order == "inf" else order
    teacher = teacher.detach().double()
    z = standardize(teacher)
    high, low, two = z.amax(1), z.amin(1), z.topk(2, dim=1).values
    tau = MaxLogit(reference="teacher", order=order)(z, z).teacher
    right = teacher.argmax(1) == labels
    sigma = teacher.std(dim=1, correction=0)
    summary: dict[str, Any] = {
        "images": len(labels),
        "mean_tau": {"right": _mean(tau[right]), "wrong": _mean(tau[~right])},
        "accuracy": {"teacher": six_digits(100 * right.double().mean())},
        "max_z": _distribution(high),
        "min_z": _distribution(low),
        "second_gap": _distribution(two[:, 0] - two[:, 1]),
        "asymmetry": _distribution(torch.where(high > 0, -low / high, 1.0)),
        "std": _distribution(sigma),
        "raw_tau": _distribution(tau.squeeze(1) * sigma),
        "entropy": {
            "raw_1": _distribution(_entropy(teacher, 1.0)),
            "raw_4": _distribution(_entropy(teacher, 4.0)),
            "z_2": _distribution(_entropy(z, 2.0)),
            "mlt": _distribution(_entropy(z, tau)),
        },
    }
    if student is None:
        return {**summary, "tau": _temperatures(z, None, order)}
    student = student.detach().double()
    z_student = standardize(student)
    summary["accuracy"]["student"] = six_digits(100 * (student.argmax(1) == labels).double().mean())
    loss = _loss(z_student, z, MaxLogit(order=order)(z_student, z).teacher)
    return {
        **summary,
        "tau": _temperatures(z, z_student, order),
        "student_decides": _share(z_student.amax(1) > high),
        "loss": _distribution(loss),
        "one_minus_rho": _distribution(1 - (z_student * z).mean(dim=1)),
        "gradient": _gradients(student, z, order),
    }


@torch.inference_mode()
def logits_of(
    model: nn.Module, data: ImageData, split: str = "test", *, label: str = "logits", progress: bool = False
) -> Tensor:
    """Logits (N, K) of a network for all images of a split, in order, unaugmented, in fp32 and evaluation mode.

    Args:
        model: on the device of `data`; of a half or double one a copy in fp32 is used.
        data: an image set.
        split: "train" or "test".
        label: what the progress display says.
        progress: whether to show it.

    Raises:
        ValueError: for another split.
    """
    check_kind(nn.Module, "a module", model=model)
    check_kind(ImageData, "an adakd.ImageData", data=data)
    if split not in ("train", "test"):
        raise ValueError(f"split: expected 'train' or 'test', got {split!r}")
    images, model = getattr(data, split), fp32_of(model)
    parts = []
    with (
        evaluating(model),
        progress_bar(progress, len(images), desc=label, unit="image", dynamic_ncols=True) as bar,
    ):
        for batch, _ in eval_batches(replace(data, test=images)):
            parts.append(logits_of_output(model(batch)).float())
            bar.update(len(batch))
    return torch.cat(parts)


def _fields(run: Run) -> dict[str, Any]:
    """What the record says of a network that a run trained."""
    config = run.record["config"]
    return {
        "model": config["model"],
        "sha256": run.record["weights_sha256"],
        "method": config["method"],
        "method_options": config["method_options"],
        "recipe": config["recipe"]["name"],
        "train_images": config["recipe"]["train_images"],
        "seed": run.record["seed"],
        "accuracy": run.accuracy,
    }


@plain_torch()
def measure_temperatures(
    teacher: str | os.PathLike[str] | Run | None = None,
    student: str | os.PathLike[str] | Run | None = None,
    data: str | ImageData = "gratings",
    *,
    teacher_weights: str | os.PathLike[str] | None = None,
    order: float = 2,
    **options: Unpack[PlaceOptions],
) -> dict[str, Any]:
    """Measure the temperatures of a trained network's logits by the maximum logit, on all training and all test images.

    Images are seen as in evaluation: no crop, no flip, fp32. Nothing is random, and nothing of a single image is
    kept.

    Args:
        teacher: a `Run`, the folder of one, or a model's name: then its finished run under `out` is used. The data
            set's usual teacher when left out.
        student: a `Run` or the folder of one. Algorithms 1-3 of 2503.09030 read its logits too; without it, only the
            rules of the teacher alone are measured.
        data: "gratings", "cifar10", "cifar100", or an `ImageData`.
        teacher_weights: file of published weights (.safetensors, .pth, .pt, .tar) for the model named by `teacher`.
        order: n of the Taylor polynomial; see `adakd.MaxLogit`.
        options: as for `adakd.distill`: ``out``, the folder under which runs lie; ``device``; ``root`` and ``official`` of
            the data; ``progress``.

    Returns:
        The record, with environment, what was measured on what, the range that Samuelson's inequality leaves to the
        highest logit and to the temperature (``bounds``), and a `summarize_temperatures` of each split (``result``).

    Raises:
        ValueError: for unknown names, another order, or a network of other data.
        TeacherError: if the teacher is not trained yet, or there are several.
        FileNotFoundError: if a folder holds no finished run.
        WeightsError: if weights are missing, damaged or of another network.
        DataError: if the data cannot be had.
    """
    check_arguments(data=data)
    resources = resources_of(options, PlaceOptions.__optional_keys__)
    started, clock = now(), time.perf_counter()
    name = name_of(data)
    order = math.inf if order == "inf" else order
    c = upper_factor(order)  # refuses what is no order
    device = resources.device
    teacher = teacher or usual(data).teacher
    # Before data are downloaded for nothing.
    taught = None if student is None else student if isinstance(student, Run) else open_run(student)
    found = locate_teacher(teacher, teacher_weights, name, resources.out)
    data = resolve_images(data, resources.root, resources.official, "measuring temperatures").to(device)

    loaded = load_network(teacher, found, data)
    networks, fields = {"teacher": loaded.model}, dict[str, Any](student=None)
    of_file = {"file": found.name} if isinstance(found, Path) else {}
    fields["teacher"] = _fields(found) if isinstance(found, Run) else {**loaded.identity, **of_file}
    if taught is not None:
        refuse_other_data(taught, data, "student")
        networks["student"], fields["student"] = taught.model(), _fields(taught)

    result = {}
    for split in ("train", "test"):
        logits = {
            role: logits_of(
                channels_last(model, device),
                data,
                split,
                label=f"{fields[role]['model']}, {split} images",
                progress=resources.shows,
            )
            for role, model in networks.items()
        }
        labels = getattr(data, split).labels
        result[split] = summarize_temperatures(logits["teacher"], labels, logits.get("student"), order=order)
    identity = {
        role: what and {name: what[name] for name in ("model", "sha256", "settings") if name in what}
        for role, what in fields.items()
    }
    bounds = samuelson_bounds(data.num_classes)
    return {
        "schema": 1,
        "kind": "temperatures",
        "status": "complete",
        "config": {
            "data": {"name": data.name, "sha256": data.checksum},
            **identity,
            "order": "inf" if order == math.inf else order,
            "precision": "fp32",
        },
        "data": data.describe(),
        **fields,
        **environment(device),
        "started": started,
        "finished": now(),
        "seconds": time.perf_counter() - clock,
        "bounds": {"max_z": [six_digits(x) for x in bounds], "tau": [six_digits(c * x) for x in bounds]},
        "result": result,
    }
