"""Advice from recorded logits: how soft a teacher is, what every rule makes of it, and which weights the records support."""

import copy
import itertools
import json
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from ._check import check_float, check_label_shape, check_labels, check_tensor
from ._faults import LARGEST, SPREAD, constant_rows, faults_of, gone_classes, masked_classes
from .logits import STANDARDIZATIONS, peak, quantiles, six_digits, standardize
from .methods import METHODS, create_method, get_method
from .methods.registry import fill_options
from .methods.rows import RULE_NAMES
from .study import gradient_norm
from .temperature import RULES
from .training.precision import plain_torch

__all__ = ["Advice", "advise", "measured_settings"]

PERCENT = (5, 25, 50, 75, 95)
MOST_ROWS = 20_000  # whose temperatures are computed; more change no quantile that is shown
BATCH = 512  # rows of a gradient norm, as many as the study measured it on
FEW = 16  # rows that either has at least, where these numbers together would be more than so many:
MOST_NUMBERS = 2**26, 2**21
OF_PAIRS = "mlkd"  # a divergence that compares every class with every other
MOST_CLASSES = 4096  # of such a one: the square of them is held in memory
INSTEAD = "kd"  # the reference where no standardized method can be one
ROUNDING = 1e-6  # below it a gradient norm is none; of a standardized method in units of the student's spread
FIXED = ("kd", "zkd")  # the rows whose fixed temperatures are shown beside the rules


@dataclass(frozen=True)
class Advice:
    """What follows from logits for temperature and weight, and what the records of this project support; see `advise`.

    ``print(advice)`` shows it; ``to_dict()`` is the same for JSON.
    """

    rows: int
    classes: int
    accuracy: float | None
    """Of the teacher, in percent; None without labels."""
    warnings: Mapping[str, str]
    """By the fault's name: what is wrong and what to do."""
    spread: Mapping[str, float]
    """Mean and quantiles q5 to q95 of the rows' standard deviation σ."""
    student_spread: Mapping[str, float] | None
    """The same of the student's rows; None where its logits are not given."""
    max_z: Mapping[str, float]
    """Of the highest standardized logit."""
    entropy: Mapping[str, float]
    """Of softmax at τ = 1, in nats."""
    choices: Mapping[str, float]
    """Of the exponential of that entropy: among how many classes the teacher is undecided."""
    temperatures: Sequence[Mapping[str, Any]]
    """For each rule: its method, whether it reads standardized rows, and quantiles ``standardized`` (τ / σ) and ``raw`` (τ)."""
    reference: str
    assumed: str | None
    """What the student is taken to be where its logits are not given."""
    gradients: Sequence[Mapping[str, Any]]
    """For each method: gradient norm at λ = 1, published λ, and the λ that has the gradient norm of the reference."""
    supported: Sequence[Mapping[str, Any]]
    """Settings of the study that its records support, each with the λ that has the gradient norm here that it had in the study."""
    unlike: Sequence[str]
    """In what these logits differ from those of the study's teacher."""
    protocol: str
    """Of the study, with its limits."""

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = (
            textwrap.wrap(line, 112, subsequent_indent="    ") if len(line) > 112 else [line]
            for line in self._lines()
        )
        return "\n".join(itertools.chain.from_iterable(lines))

    def _lines(self) -> Iterator[str]:
        right = "" if self.accuracy is None else f", {self.accuracy:.1f} % right"
        yield f"teacher: {self.rows} rows of {self.classes} classes{right}"
        for name, text in self.warnings.items():
            yield f"warning: {name}: {text}"
        yield ""
        yield f"{'':26}{'5 %':>9}{'median':>9}{'95 %':>9}"
        of_student = () if self.student_spread is None else (("spread of the student's", self.student_spread),)
        for title, found in (
            ("spread of a row, σ", self.spread),
            *of_student,
            ("highest standardized logit", self.max_z),
            ("entropy at τ = 1, nats", self.entropy),
            ("its exponential, classes", self.choices),
        ):
            yield f"{title:26}{_three(found)}"
        yield ""
        yield f"temperature by rule       {'in units of σ':^27}   {'raw':^27}"
        yield f"{'':26}{'5 %':>9}{'median':>9}{'95 %':>9}   {'5 %':>9}{'median':>9}{'95 %':>9}"
        for row in self.temperatures:
            yield f"{row['method']:26}{_three(row['standardized'])}   {_three(row['raw'])}"
        yield ""
        if self.assumed:
            yield f"no student given: {self.assumed}"
        reference = get_method(self.reference)
        yield f"gradient norm at λ = 1, and the matched λ, with the gradient norm of {self.reference} at λ = {reference.kd_weight:g}"
        yield f"{'method':18}{'gradient norm':>14}{'published λ':>13}{'matched λ':>12}"
        for row in self.gradients:
            matched = "–" if row["matched"] is None else f"{row['matched']:.3g}"
            yield f"{row['method']:18}{row['norm']:>14.3g}{row['published']:>13.3g}{matched:>12}"
        yield ""
        yield from self._recommended()
        yield f"how sure: {self.protocol}."
        if self.unlike:
            yield (
                f"your logits differ from those of the study's teacher: {'; '.join(self.unlike)}. Take these settings as first "
                "candidates"
            )
        else:
            yield (
                "your logits are within the range of those of the study's teacher; networks, images and length may differ all "
                "the same"
            )

    def _recommended(self) -> Iterator[str]:
        yield (
            "what the study supports: its best settings, and those within their intervals; your λ has the gradient norm on your "
            "logits that the study's λ had on its own"
        )
        titles = (
            f"{'temperature':32}{'study λ':>8}{'your λ':>9}{'λ_CE':>6}{'study accuracy, %':>22}{'seeds':>6}"
        )
        for among in dict.fromkeys(row["among"] for row in self.supported):
            yield f"{f'best {among}':22}{titles}"
            for row in self.supported:
                if row["among"] != among:
                    continue
                yours = "–" if row["here"] is None else f"{row['here']:.3g}"
                accuracy = f"{row['accuracy']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
                yield (
                    f"  {row['method']:20}{row['temperature']:32}{row['kd_weight']:>8.3g} {yours:>8}{row['ce_weight']:>6g}"
                    f"{accuracy:>22}{row['seeds']:>6}"
                )

    def plot(self) -> Any:
        """The temperatures of all rules as one figure with a text alternative, a picture (``svg``, ``alt``).

        Raises:
            ImportError: without matplotlib, naming what to install.
        """
        try:
            from matplotlib import rc_context, ticker
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError('a figure needs matplotlib: pip install "adakd[book]"') from error
        from ._style import COLORS, picture, style

        shown = sorted(self.temperatures, key=lambda row: row["standardized"]["q50"])
        with rc_context(style()):
            # Of its own: pyplot's would open a window by the caller's backend.
            figure = Figure(figsize=(7.2, 0.3 * len(shown) + 1.2))
            ax = figure.subplots()
            for y, row in enumerate(shown):
                tau = row["standardized"]
                color = COLORS["mark" if row["reads"] == "standardized" else "teacher"]
                ax.plot([tau["q5"], tau["q95"]], [y, y], color=color, alpha=0.5)
                ax.plot(tau["q50"], y, "D" if row["reads"] == "standardized" else "o", color=color)
            ax.set(
                xscale="log", xlabel="temperature in units of the row's spread σ (5 %, median, 95 % of rows)"
            )
            ax.set_yticks(range(len(shown)), [row["method"] for row in shown])
            ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
            ax.minorticks_off()
            ax.set_title("Temperature by rule; diamonds read standardized rows")
            least, most = shown[0], shown[-1]
            alt = (
                f"Temperature of {len(shown)} rules in units of the spread of a row, a range each: the lowest median is "
                f"{least['standardized']['q50']:.3g} by {least['method']}, the highest {most['standardized']['q50']:.3g} by "
                f"{most['method']}."
            )
            return picture(figure, alt)


def _three(found: Mapping[str, float]) -> str:
    return "".join(f"{found[name]:>9.3g}" for name in ("q5", "q50", "q95"))


def _quantiles(x: Tensor) -> dict[str, float]:
    """Mean, and quantiles q5 to q95."""
    return {"mean": six_digits(x.mean()), **quantiles(x, PERCENT)}


def _spaced(tensor: Tensor, most: int) -> Tensor:
    """At most so many rows, evenly spaced: by whole numbers, which are the same on every processor, and in the book's page."""
    if len(tensor) <= most:
        return tensor
    return tensor[torch.arange(most) * (len(tensor) - 1) // (most - 1)]


# ---- temperatures and gradients ----


def _unchanging(part: Any) -> bool:
    """Whether a part is what it is without training: nothing learned, remembered, or scheduled."""
    return not any(True for _ in part.parameters()) and not any(
        getattr(module, name, False) for module in part.modules() for name in ("keeps_state", "reads_epoch")
    )


def _temperatures(teacher: Tensor, student: Tensor, labels: Tensor | None) -> list[dict[str, Any]]:
    """Quantiles of the teacher's temperature under every rule that needs no training, on the rows that it is made for."""
    sigma = teacher.std(dim=1, correction=0)
    found = []
    rules: list[tuple[str, Any, Any]] = []
    for name in FIXED:
        row = METHODS[name]
        assert row.rule is not None
        rules.append((name, RULES[row.rule](**row.rule_options), row.standardize))
    for suffix, named in RULE_NAMES.items():
        part: Any = RULES[named.rule]
        if named.options.get("instance"):  # a network, learned
            continue
        rules.append(
            (f"{'zkd' if named.standardize else 'kd'}+{suffix}", part(**named.options), named.standardize)
        )
    for name, rule, how in rules:
        if not _unchanging(rule) or (rule.reads_target and labels is None):
            continue
        s, t = (standardize(x, **STANDARDIZATIONS[how]) if how else x for x in (student, teacher))
        with torch.no_grad():
            tau = rule.eval()(s, t, labels).teacher.expand(len(t), 1).squeeze(1)
        z, raw = (tau, tau * sigma) if how else (tau / sigma, tau)
        found.append(
            {
                "method": name,
                "reads": "standardized" if how else "raw",
                "standardized": _quantiles(z),
                "raw": _quantiles(raw),
            }
        )
    return found


def _gradients(teacher: Tensor, student: Tensor, labels: Tensor | None, reference: str) -> list[dict[str, Any]]:
    """Gradient norm at λ = 1 of every method on logits that needs no training, and its λ beside the reference's."""
    target = teacher.argmax(dim=1) if labels is None else labels  # read by none of those that are left
    norms = {}
    # A standardized method's gradient is in inverse proportion to it.
    unit = student.std(dim=1, correction=0).mean().item()
    for name in dict.fromkeys((*METHODS, reference)):
        row = get_method(name)
        if not row.on_logits or row.divergence is None:
            continue
        criterion = create_method(name, **fill_options(name, {}, num_classes=teacher.shape[1]))
        reads_target = any(term.reads_target for term in criterion.terms.values())
        parts = [part for term in criterion.terms.values() for part in term.parts]  # a warm-up changes no part
        if row.divergence == OF_PAIRS and teacher.shape[1] > MOST_CLASSES:
            continue
        if teacher.shape[1] < max(term.least_classes for term in criterion.terms.values()):
            continue
        if all(map(_unchanging, parts)) and not (reads_target and labels is None):
            with warnings.catch_warnings():  # what a loss warns of is a fault with a name here
                warnings.simplefilter("ignore")
                norm = gradient_norm(criterion, student, teacher, target)
            norms[name] = norm if norm * (unit if row.standardize else 1) > ROUNDING else 0.0
    if reference not in norms:
        raise ValueError(
            f"reference: expected a method on logits that learns, remembers and schedules nothing"
            f"{' and reads no labels, or labels too' if labels is None else ''}, got {reference!r}; for example 'zkd'"
        )
    weight = get_method(reference).kd_weight
    assert weight is not None  # it has a divergence
    force = weight * norms[reference]
    return [
        {
            "method": name,
            "norm": six_digits(norm),
            "published": get_method(name).kd_weight,
            "matched": six_digits(force / norm) if force and norm else None,
        }
        for name, norm in norms.items()
    ]


# ---- what the records say ----


@cache
def measured_settings() -> Mapping[str, Any]:
    """What the study of this project measured, as the package ships it: made from its records by ``book/_tools/advice.py``."""
    return json.loads(files("adakd").joinpath("advice.json").read_text(encoding="utf-8"))


def _temperature_of(method: str, options: Mapping[str, Any]) -> str:
    row = get_method(method)
    of = "standardized" if row.standardize else "raw"
    if row.rule == "fixed":
        tau = {"tau": 1.0, **row.rule_options, **options}["tau"]
        return f"τ = {tau:g} of {of} logits"
    return f"{row.rule} of {of} logits"


def _supported(gradients: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The settings within the interval of the best, of all and of KL alone, with their λ at these gradient norms."""
    norms = {row["method"]: row["norm"] for row in gradients}
    found = []
    for among, title in (("best", "of all methods"), ("best_kl", "by KL")):
        for row in measured_settings()[among]:
            norm, there = norms.get(row["method"]), row["gradient_norm"]
            if row["method"] not in norms:  # as standardized methods of two classes
                continue
            here = six_digits(row["kd_weight"] * there / norm) if norm and there else None
            temperature = _temperature_of(row["method"], row["options"])
            found.append({"among": title, **copy.deepcopy(row), "temperature": temperature, "here": here})
    return found


def _unlike(classes: int, spread: Mapping[str, float], max_z: Mapping[str, float]) -> list[str]:
    there = measured_settings()["teacher"]
    found = []
    if classes != there["classes"]:
        found.append(f"{classes} classes (study: {there['classes']})")
    for title, ours, theirs in (
        ("median σ", spread, there["spread"]),
        ("median highest standardized logit", max_z, there["max_z"]),
    ):
        if not theirs["q5"] <= ours["q50"] <= theirs["q95"]:
            found.append(f"{title} {ours['q50']:.3g} (study: {theirs['q5']:.3g} to {theirs['q95']:.3g})")
    return found


def _protocol() -> str:
    study = measured_settings()["protocol"]
    return (
        f"measured on {study['data']} alone, {study['teacher']} teaching {study['student']} with {study['train_images']} images "
        f"for {study['epochs']} epochs, {study['settings']} settings; these are small networks, and other data may differ. "
        "That the same gradient norm at the start suits other data is an assumption, not a measurement"
    )


# ---- the face ----


def _flat(name: str, logits: Any) -> Tensor:
    """(N, K), double, on the CPU and its own; views (N, V, K) one after the other."""
    if not isinstance(logits, Tensor):
        check_tensor(name, logits, "a floating-point tensor (images, classes)", "use torch.as_tensor()")
    check_float(name, logits)
    if logits.ndim not in (2, 3) or 0 in logits.shape or logits.shape[-1] < 2:
        raise ValueError(
            f"{name}: expected shape (images, classes) or (images, views, classes), at least 1 image and 2 classes, "
            f"got {tuple(logits.shape)}"
        )
    return logits.detach().flatten(0, -2).to("cpu", torch.float64, copy=True)


def _check_numbers(name: str, logits: Tensor) -> None:
    """Refuse NaN, infinity, and what is too large for anything but a mask."""
    bad = ~logits.isfinite().all(dim=1)
    if bad.any():
        masks = not (logits.isnan() | logits.isposinf()).any()
        raise ValueError(
            f"{name}: {int(bad.sum())} of {len(bad)} rows hold NaN or infinity (first: row {int(bad.nonzero()[0])}); "
            + (
                "minus infinity masks a class: drop masked classes from student and teacher"
                if masks
                else "record in float32, as float16 ends at 65504, or look for the network or the step that produced them"
            )
        )
    if logits.abs().max() > LARGEST:
        raise ValueError(
            f"{name}: expected logits of at most {LARGEST:g} in size, got {logits.abs().max():.3g}; classes masked in some "
            "rows alone: take them out of logits and labels"
        )


def _labels(labels: Any, logits: Tensor) -> Tensor:
    """(N,), torch.int64, on the CPU: one for each row, of these logits (images, …, classes)."""
    check_tensor("labels", labels, "class labels, integers of shape (images,)", "use torch.as_tensor()")
    images, classes = len(logits), logits.shape[-1]
    if not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool):
        labels = labels.long()
    hint = None
    if labels.shape == logits.shape:
        hint = "one-hot or probabilities: labels.argmax(-1) gives the classes"
    elif labels.shape == (classes,) and classes != images:
        hint = "are the logits transposed? logits.T has a row for each image"
    elif logits.ndim == 3 and labels.shape == logits.shape[:2]:
        hint = "a label for each position: flatten both, logits.flatten(0, 1) and labels.flatten()"
    elif labels.shape == (images,) and labels.dtype != torch.int64:
        hint = "labels.long() makes them integers"
    if hint:
        raise ValueError(
            f"labels: expected {images} class labels, integers of shape ({images},), got {labels.dtype} of shape "
            f"{tuple(labels.shape)}; {hint}"
        )
    check_label_shape("labels", labels, (images,))
    check_labels(labels.cpu(), classes, name="labels")
    return labels.detach().cpu().repeat_interleave(logits[0, ..., 0].numel())


@plain_torch()
def advise(
    teacher_logits: Tensor,
    student_logits: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    reference: str = "zkd",
) -> Advice:
    r"""Advice on temperature and weight for recorded logits: what follows from them, and what measured records support.

    Computed are the spread of the rows, the highest standardized logit, the entropy at τ = 1, the teacher's temperature
    under every rule that needs no training, in units of the row's spread and raw (:math:`\tau_\text{raw} = \sigma \tau`),
    and the gradient norm of every such method at λ = 1 (`adakd.study.gradient_norm`, over 512 evenly spaced rows, fewer of more
    than 4096 classes, and there without what compares every class with every other, as `mlkd` does). From it follows
    the weight at which a method has the gradient norm of the reference,

    .. math:: \lambda_m = \lambda_\text{ref} \, \frac{\lVert D_\text{ref} \rVert}{\lVert D_m \rVert} .

    What is recommended is what the study of this project supports: the settings whose mean accuracy lies within the 95 %
    interval of the best (the best by validation), each at the λ that has the gradient norm here that it had in the study.

    Args:
        teacher_logits: (N, K) or, with V views of an image, (N, V, K), before softmax.
        student_logits: of the same shape, best before training, as the study had them. Without: rows of independent normal
            numbers with standard deviation 0.3; a standardized method's gradient norm is in inverse proportion to it.
        labels: (N,), integers, for the accuracy of both and for the methods that read labels.
        reference: the method whose published weight and gradient norm the others are matched to.

    Raises:
        TypeError: for anything but floating-point tensors of logits.
        ValueError: for labels that are no integers, shapes that do not belong together, NaN or infinity, labels out of range, an unknown reference.

    A class that is minus infinity in every row is left out, with a warning, and so are constant rows, with one where they are
    more than 1 %.

    >>> import torch, adakd
    >>> rows = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    >>> advice = adakd.advise(rows)
    >>> list(advice.warnings), advice.classes
    ([], 3)
    """
    standardized = get_method(reference).standardize
    teacher = _flat("teacher_logits", teacher_logits)
    student = None if student_logits is None else _flat("student_logits", student_logits)
    if labels is not None:
        labels = _labels(labels, teacher_logits)
    if student_logits is not None and student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student_logits: expected the teacher's shape {tuple(teacher_logits.shape)}, got "
            f"{tuple(student_logits.shape)}; record both for the same images and classes"
        )
    masked = masked_classes(teacher)
    gone = gone_classes(teacher)
    if (~gone).sum() < 2:
        raise ValueError("teacher_logits: expected at least 2 classes that are not minus infinity in every row")
    if labels is not None and gone[labels].any():
        row = int(gone[labels].nonzero()[0])
        raise ValueError(
            f"labels: row {row} has the class {int(labels[row])}, which the teacher has at minus infinity in every row"
        )
    named = masked.nonzero().flatten().tolist()
    if gone.any():
        teacher = teacher[:, ~gone]
        student = None if student is None else student[:, ~gone]
        labels = None if labels is None else ((~gone).cumsum(0) - 1)[labels]
    _check_numbers("teacher_logits", teacher)
    if student is not None:
        _check_numbers("student_logits", student)
    classes, count = teacher.shape[1], len(teacher)
    varied = ~constant_rows(teacher)
    faults = faults_of(teacher, student, labels, named, ~masked[~gone])
    accuracy = None if labels is None else 100 * (teacher.argmax(dim=1) == labels).double().mean().item()
    if not varied.any():
        raise ValueError(
            "teacher_logits: every row is constant: a collapsed teacher, or a file of something else; look at its training, or at "
            "how the logits were recorded"
        )
    teacher = teacher[varied]  # a row without spread has no temperature in units of it
    student = None if student is None else student[varied]
    labels = None if labels is None else labels[varied]
    most, batch = (
        max(FEW, min(rows, numbers // classes))
        for rows, numbers in zip((MOST_ROWS, BATCH), MOST_NUMBERS, strict=True)
    )
    assumed = None
    if student is None:
        generator = torch.Generator().manual_seed(0)
        kept = _spaced(torch.arange(len(teacher)), most)
        some = SPREAD * torch.randn(len(kept), classes, generator=generator, dtype=torch.float64)
        assumed = (
            f"its logits are taken to be independent and normal with standard deviation {SPREAD:g}, about that of an untrained "
            "resnet8; a method that compares the samples of a batch (dist) may have another gradient norm, and of a student with "
            f"standard deviation s, your λ of standardized methods is s / {SPREAD:g} times the one below: better give its logits"
        )
    else:
        some = _spaced(student, most)
    rows, few = _spaced(teacher, most), None if labels is None else _spaced(labels, most)
    log_p = rows.log_softmax(dim=1)
    entropy = -(log_p.exp() * log_p).sum(dim=1)
    student_spread = None if assumed else _quantiles(some.std(dim=1, correction=0))
    spread, max_z = _quantiles(rows.std(dim=1, correction=0)), _quantiles(peak(standardize(rows)).squeeze(1))
    if classes == 2 and standardized:
        reference = INSTEAD
    gradients = _gradients(
        _spaced(rows, batch), _spaced(some, batch), None if few is None else _spaced(few, batch), reference
    )
    return Advice(
        rows=count,
        classes=classes,
        accuracy=None if accuracy is None else six_digits(accuracy),
        warnings=faults,
        spread=spread,
        student_spread=student_spread,
        max_z=max_z,
        entropy=_quantiles(entropy),
        choices=_quantiles(entropy.exp()),
        temperatures=_temperatures(rows, some, few),
        reference=reference,
        assumed=assumed,
        gradients=gradients,
        supported=_supported(gradients),
        unlike=_unlike(classes, spread, max_z),
        protocol=_protocol(),
    )
