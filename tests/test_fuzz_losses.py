"""Random calls of every loss: what comes back is finite, with a finite gradient, or an error that says why.

A call is a pure function of its number. ``python tests/test_fuzz_losses.py 6000`` counts outcomes over that many calls
and prints those that are neither; ``python tests/test_fuzz_losses.py 0 17`` repeats number 17 alone.
"""

import math
import random
import re
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from adakd import METHODS, LogitObjective, create_method
from adakd.divergence import DIVERGENCES
from adakd.methods import RULE_NAMES, options_of
from adakd.temperature import RULES

FAST, WHOLE = 600, 7900
NAMES = [
    *(name for name, row in METHODS.items() if row.on_logits),
    *(
        f"{row.name}+{rule}"
        for row in METHODS.values()
        if row.divergence and "+" not in row.name
        for rule in RULE_NAMES
    ),
]
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass
class Call:
    """One call of a loss, and whether it is one that a loss must answer with numbers."""

    text: str
    build: Any
    student: Any
    teacher: Any
    target: Any
    epoch: Any


# ---- a loss ----


def _objective(rng: random.Random, classes: int) -> tuple[str, Any]:
    """Its text, and what builds it."""
    weights = {"ce_weight": rng.choice([0.0, 0.1, 1.0]), "kd_weight": rng.choice([0.9, 9.0, 1e3])}
    if rng.random() < 0.7:
        name = rng.choice(NAMES)
        options = weights if rng.random() < 0.5 else {}
        if "num_classes" in options_of(name):
            options = {**options, "num_classes": classes}
        if rng.random() < 0.3:
            options = {**options, "standardize": rng.choice([False, "population", "sample"])}
        return f"{name} {options}", lambda: create_method(name, **options)
    divergence, rule = rng.choice([*DIVERGENCES]), rng.choice([*RULES])
    standardize = rng.choice([False, "population", "sample"])
    instance = rule == "ctkd" and rng.random() < 0.5
    rule_options = {"instance": True, "num_classes": classes} if instance else {}

    def build() -> LogitObjective:
        parts = DIVERGENCES[divergence](), RULES[rule](**rule_options)
        return LogitObjective(*parts, standardize=standardize, **weights)

    return f"{divergence} x {rule}{rule_options} standardize={standardize} {weights}", build


# ---- logits ----


def _values(rng: random.Random, generator: torch.Generator, batch: int, classes: int) -> tuple[str, Tensor]:
    noise = torch.randn(batch, classes, generator=generator, dtype=torch.float64)
    scale = 10.0 ** rng.choice([-18, -12, -9, -6, -3, 0, 0, 0, 0, 1, 2, 3, 4, 6, 9, 12, 18])
    kind = rng.choice(
        ["gaussian"] * 3
        + [
            "constant",
            "one-row",
            "same-rows",
            "one-hot",
            "zeros",
            "signed-zeros",
            "offset",
            "subnormal",
            "negative",
        ]
        + ["log-probabilities", "masked", "two-values", "columns"]
    )
    if kind == "constant":
        noise = noise[:, :1].expand(batch, classes)
    elif kind == "one-row" and batch:
        noise[0] = noise[0, :1]
    elif kind == "same-rows":
        noise = noise[:1].expand(batch, classes) if batch else noise
    elif kind == "one-hot":
        noise = (noise == noise.amax(dim=1, keepdim=True)).double() if classes else noise
    elif kind == "zeros":
        noise = torch.zeros_like(noise)
    elif kind == "signed-zeros":
        noise = torch.where(noise > 0, 0.0, -0.0).double()
    elif kind == "offset":
        noise = noise + 10.0 ** rng.choice([3, 6, 9])
    elif kind == "subnormal":
        noise = noise * 1e-40
        scale = 1.0
    elif kind == "negative":
        noise = -noise.abs() - 1
    elif kind == "log-probabilities":
        noise, scale = (3 * noise).log_softmax(dim=1), 1.0
    elif kind == "masked" and classes:
        noise[:, 0], scale = -(10.0 ** rng.choice([2, 4, 9])), 1.0
    elif kind == "two-values":
        noise = noise.sign()
    elif kind == "columns":
        noise = noise[:1] + 1e-9 * noise if batch else noise
    return f"{kind}*{scale:g}", noise * scale


def _layout(rng: random.Random, x: Tensor) -> Tensor:
    """The same values at other strides."""
    kind = rng.choice(["plain", "plain", "transposed", "sliced", "wide"])
    if kind == "transposed":
        return x.t().contiguous().t()
    if kind == "sliced":
        return torch.stack([x, torch.full_like(x, math.nan)], dim=-1)[..., 0]
    if kind == "wide":
        return torch.cat([x, x], dim=1)[:, : x.shape[1]]
    if x.numel() and (x == x[:1]).all():
        return x[:1].expand(x.shape)  # stride 0
    return x


def _spoiled(rng: random.Random, x: Tensor) -> tuple[str, Any]:
    """Something that no loss can take, or that takes care."""
    kind = rng.choice(
        ["nan", "inf", "-inf", "integer", "bool", "complex", "numpy", "list", "none", "sparse", "float8"]
        + ["flat", "cube", "fewer-rows", "fewer-classes"]
        + ["inference", "leaf"] * 4
    )
    if kind in ("nan", "inf", "-inf") and x.numel():
        x = x.clone()
        x[rng.randrange(x.shape[0]), rng.randrange(x.shape[1])] = float(kind)
    elif kind == "inference":
        with torch.inference_mode():
            x = x.clone()
    made = {
        "integer": lambda: x.nan_to_num().clamp(-1e3, 1e3).long(),
        "bool": lambda: x > 0,
        "complex": lambda: x.to(torch.complex64),
        "numpy": lambda: x.float().numpy(),
        "list": lambda: [x, x],
        "none": lambda: None,
        "sparse": lambda: x.to_sparse(),
        "float8": lambda: x.float().to(torch.float8_e4m3fn),
        "flat": lambda: x.flatten(),
        "cube": lambda: x[None],
        "fewer-rows": lambda: x[1:],
        "fewer-classes": lambda: x[:, 1:],
        "leaf": lambda: x.detach().clone().requires_grad_(),
    }
    return kind, made[kind]() if kind in made else x


def _labels(
    rng: random.Random, generator: torch.Generator, batch: int, classes: int, spoil: bool
) -> tuple[str, Any]:
    target = torch.randint(max(classes, 1), (batch,), generator=generator)
    kind = "labels"
    if spoil:
        kinds = "beyond below -100 all--100 float one-hot short none int32 numpy list inference inference expanded expanded"
        kind = rng.choice(kinds.split())
    if kind in ("beyond", "below", "-100") and batch:
        target[rng.randrange(batch)] = {"beyond": classes, "below": -1, "-100": -100}[kind]
    with torch.inference_mode(kind == "inference"):
        made = {
            "all--100": lambda: torch.full_like(target, -100),
            "float": target.float,
            "one-hot": lambda: torch.nn.functional.one_hot(target, max(classes, 1)),
            "short": lambda: target[1:],
            "none": lambda: None,
            "int32": target.int,
            "numpy": target.numpy,
            "list": target.tolist,
            "inference": target.clone,
            "expanded": lambda: target[:1].expand(batch) if batch else target,
        }
        return kind, made[kind]() if kind in made else target


def call(number: int) -> Call:
    """The call of that number."""
    rng, generator = random.Random(number), torch.Generator().manual_seed(number)
    batch = rng.choice([0] + [1, 2, 3, 5, 8, 17, 64] * 4)
    classes = rng.choice([0, 1] + [2, 3, 4, 7, 10, 33, 100, 1000] * 4)
    text, build = _objective(rng, max(classes, 1))
    (s_kind, student), (t_kind, teacher) = (_values(rng, generator, batch, classes) for _ in range(2))
    if rng.random() < 0.15:
        t_kind, teacher = "equal", student
    s_type = rng.choice(DTYPES)
    t_type = s_type if rng.random() < 0.5 else rng.choice(DTYPES)
    student, teacher = _layout(rng, student.to(s_type)), _layout(rng, teacher.to(t_type))
    spoilt = rng.choice(["", "", "", "", "student", "teacher", "both", "target", "epoch"])
    s_how, student = _spoiled(rng, student) if spoilt in ("student", "both") else ("", student)
    t_how, teacher = _spoiled(rng, teacher) if spoilt in ("teacher", "both") else ("", teacher)
    y_kind, target = _labels(rng, generator, batch, classes, spoilt == "target")
    epoch = rng.choice([0, -3, math.nan, "3"] if spoilt == "epoch" else [None, 1, 7, 300])
    text = (
        f"#{number} {text} | ({batch}, {classes}) student {s_kind} {s_type} {s_how}, teacher {t_kind} {t_type} {t_how}, "
        f"{y_kind}, epoch {epoch}"
    )
    return Call(text, build, student, teacher, target, epoch)


# ---- what comes back ----

# The argument that is meant, or the loss where no single one is; then what came, and what to do.
NAMED = re.compile(
    r"student.logits|teacher.logits|teacher and student|target|epoch|temperature|num_classes|views|^the loss is"
)
SAYS = re.compile(r"expected|got|hold NaN|finite|disagree|empty|would never|counted from")


def outcome(number: int) -> tuple[str, str]:
    """("finite", "refused" or "FAULT", why)."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        kind, why = _outcome(call(number))
    foreign = [
        w
        for w in said
        if w.category is not UserWarning
        or not re.search(
            "teaches nothing|at its floor|is its floor|every row of this batch is ignored", str(w.message)
        )
    ]
    return ("FAULT", f"warns: {foreign[0].message}") if foreign else (kind, why)


def _outcome(made: Call) -> tuple[str, str]:
    try:
        criterion = made.build()
        if (
            isinstance(made.student, Tensor)
            and made.student.is_floating_point()
            and not made.student.is_inference()
        ):
            made.student = made.student.detach().requires_grad_()
        terms = criterion(made.student, made.teacher, made.target, made.epoch)
    except (ValueError, TypeError) as error:
        text = str(error)
        if NAMED.search(text) and SAYS.search(text):
            return "refused", text
        return "FAULT", f"unclear {type(error).__name__}: {text}"
    except Exception as error:
        return "FAULT", f"{type(error).__name__}: {str(error)[:300]}"
    if not torch.isfinite(terms.total):
        return "FAULT", f"the loss is {terms.total.item()}"
    if not terms.total.requires_grad:
        return "finite", "no gradient"
    try:
        terms.total.backward()
    except Exception as error:
        return "FAULT", f"backward: {type(error).__name__}: {str(error)[:300]}"
    for name, parameter in criterion.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return "FAULT", f"gradient of {name} is not finite"
    for name, buffer in criterion.named_buffers():
        if not buffer.isfinite().all():
            return "FAULT", f"state {name} is not finite"
    gradient = made.student.grad
    if gradient is None:
        return "finite", "no gradient for the student"
    # In fp16 a gradient beyond 65504 is infinite: the scaler of training is for that.
    good = ~gradient.isnan() if gradient.dtype == torch.float16 else gradient.isfinite()
    return ("finite", "") if good.all() else ("FAULT", "the student's gradient is not finite")


def run(numbers) -> tuple[Counter, list[str]]:
    """Counts by outcome, and the faults."""
    counts, faults = Counter(), []
    for number in numbers:
        kind, why = outcome(number)
        counts[kind] += 1
        if kind == "FAULT":
            faults.append(f"{call(number).text}\n    {why}")
    return counts, faults


def test_a_bounded_part_of_the_calls():
    counts, faults = run(range(FAST))
    assert not faults, "\n".join(faults[:5])
    assert counts["finite"] > FAST / 4
    assert counts["refused"] > FAST / 4


@pytest.mark.slow
def test_all_calls():
    counts, faults = run(range(FAST, FAST + WHOLE))
    assert not faults, "\n".join(faults[:5])
    assert counts["finite"] > WHOLE / 4


@pytest.mark.slow
def test_every_loss_is_among_the_calls():
    texts = " ".join(call(number).text for number in range(FAST + WHOLE))
    assert [name for name in NAMES if f" {name} " not in texts] == []
    assert [(d, r) for d in DIVERGENCES for r in RULES if f" {d} x {r}" not in texts] == []


if __name__ == "__main__":
    if len(sys.argv) > 2:
        for number in map(int, sys.argv[2:]):
            print(call(number).text, *outcome(number), sep="\n    ")
    else:
        counts, faults = run(range(int(sys.argv[1])))
        print(*faults, dict(counts), sep="\n")
