"""Compare adakd with golden vectors: values that the peers' own code gave, in float64.

    python tests/golden.py FILE.npz FILE.json

Exits with 0 if every covered case agrees in its loss, its gradient with respect to the student's logits or features and
(where the file holds one) its temperature, and with 1 otherwise. A new method is one line in ``BUILDERS``, or in
``FEATURES``.
"""

import json
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from adakd import (
    CTKD,
    DIST,
    DKD,
    DTKD,
    DTS,
    KL,
    MLKD,
    TTM,
    Batch,
    Divergence,
    Fixed,
    LogitObjective,
    MaxLogit,
    Signals,
    TemperatureRule,
    Temperatures,
    Term,
    create_method,
)
from adakd.temperature.ctkd import curriculum
from adakd.terms.attention import Attention
from adakd.terms.catkd import CATKD, map_distance
from adakd.terms.crd import CRD
from adakd.terms.fitnet import FitNet
from adakd.terms.nst import NST
from adakd.terms.pkt import PKT
from adakd.terms.reviewkd import ReviewKD, pyramid_distance
from adakd.terms.rkd import RKD
from adakd.terms.sp import SP

RTOL, ATOL = 1e-9, 1e-11


@dataclass(frozen=True)
class Case:
    """One golden case: `inputs` are its set's, `loss`, `grad` and `tau` are what the peer gave."""

    group: str
    name: str
    doc: str
    params: dict[str, Any]
    inputs: dict[str, Tensor]
    loss: float
    grad: Tensor
    tau: Tensor | None

    @property
    def label(self) -> str:
        return f"{self.group}/{self.name}"

    @property
    def on_features(self) -> bool:
        """Whether its gradient is by a feature, and not by logits."""
        return self.group == "features"

    def batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Student logits to differentiate by, and the student, teacher and target that the loss sees."""
        leaf = self.inputs["student"].clone().requires_grad_()
        teacher, target = self.inputs["teacher"], self.inputs["target"]
        if "mlkd" not in self.name:
            return leaf, leaf, teacher, target
        # Weak views above strong ones; the peer's gradient is by the weak ones alone.
        student = torch.cat([leaf, self.inputs["student_strong"]])
        return leaf, student, torch.cat([teacher, self.inputs["teacher_strong"]]), torch.cat([target, target])


class Given(TemperatureRule):
    """Temperatures that the golden file states, one a sample."""

    def __init__(self, tau: Tensor):
        super().__init__()
        self.tau = tau.unsqueeze(1)

    def forward(self, student, teacher, target=None, epoch=None) -> Temperatures:
        return Temperatures(self.tau, self.tau)


class Level(Divergence):
    """One of the three levels of MLKD."""

    def __init__(self, mlkd: MLKD, level: str):
        super().__init__()
        self.mlkd, self.level = mlkd, level

    def forward(self, student, teacher, target, temperatures) -> Tensor:
        return getattr(self.mlkd.levels(student, teacher, target, temperatures), self.level)


def _bare(divergence, rule, standardize=False, **options) -> LogitObjective:
    """The divergence alone, at weight 1, without cross entropy."""
    return LogitObjective(divergence, rule, standardize, **{"ce_weight": 0.0, "kd_weight": 1.0, **options})


def _dkd(p: dict[str, Any]) -> DKD:
    return DKD(p["alpha"], p["beta"])


def _published(name: str, p: dict[str, Any], **fixed: Any) -> LogitObjective:
    """A row of METHODS, with the case's own values for what the case states."""
    option = {
        "T": "anchor" if name.startswith("dtkd") else "tau",
        "warmup": "warmup_epochs",
        "lambda_kd": "kd_weight",
    }
    overrides = {option.get(key, key): value for key, value in p.items() if key not in ("epoch", "tau")}
    return create_method(name, **{**overrides, **fixed})


_LEVELS = {"kd": "instance", "bc": "batch", "cc": "classes"}


def _mlkd(c: "Case", p: dict[str, Any]) -> LogitObjective:
    """MLKD as released: both views' cross entropies are summed (here averaged: twice the weight)."""
    mlkd = MLKD(views=2, kl_standardize="sample" if c.name.startswith("z") else False)
    part = c.name.rpartition("_")[2]
    weights = {"ce_weight": 2 * p["ce_weight"], "kd_weight": p["kd_weight"]}
    if part == "ce":
        weights["kd_weight"] = 0.0
    elif part in _LEVELS:
        mlkd, weights["ce_weight"] = Level(mlkd, _LEVELS[part]), 0.0
    return LogitObjective(mlkd, Fixed(p["T"]), **weights)


# A case is built by the first pattern that matches all of its name; c is the case, p its params.
BUILDERS: tuple[tuple[str, Callable[[Case, dict[str, Any]], LogitObjective]], ...] = (
    (r"ce", lambda c, p: create_method("ce")),
    (r"kd_T[\d.]+|kd_repdistiller_T[\d.]+|ctkd_T[\d.]+", lambda c, p: _bare(KL(), Fixed(p["T"]))),
    (r"zkd_T[\d.]+|zctkd_T[\d.]+", lambda c, p: _bare(KL(), Fixed(p["T"]), "sample")),
    (r"kd_per_sample_T", lambda c, p: _bare(KL(), Given(c.inputs["per_sample_T"]))),
    (r"kd_total\w*", lambda c, p: _published("kd", p)),
    (r"zkd_total\w*", lambda c, p: _published("zkd", p)),
    (r"dkd_a.+_T[\d.]+", lambda c, p: _bare(_dkd(p), Fixed(p["T"]))),
    (r"zdkd_a.+_T[\d.]+", lambda c, p: _bare(_dkd(p), Fixed(p["T"]), "sample")),
    (r"dkd_total_epoch\d+", lambda c, p: _published("dkd", p)),
    (r"ttm_g[\d.]+", lambda c, p: _bare(TTM(), Fixed(1 / p["exponent"]))),
    (r"wttm_g[\d.]+", lambda c, p: _bare(TTM(weighted=True), Fixed(1 / p["exponent"]))),
    (r"dist_b.+", lambda c, p: _bare(DIST(p["beta"], p["gamma"]), Fixed(p["tau"]))),
    (r"dtkd_only", lambda c, p: _bare(KL(), DTKD(p["T"], magnitude="max"))),
    (r"dtkd_total_epoch\d+", lambda c, p: _published("dtkd-max", p)),
    (r"z?mlkd_(loss_\w+|total)", _mlkd),
    (r"mlt_mlkd_code", lambda c, p: _bare(MLKD(views=2), MaxLogit(magnitude="absolute"), "sample")),
    (r"mlt_code", lambda c, p: _bare(KL(), MaxLogit(magnitude="absolute"), "sample")),
    (r"mlt_code_total", lambda c, p: _published("zkd+mlt-abs", p)),
    (r"mlt_dkd_code_epoch\d+", lambda c, p: _published("zdkd+mlt-abs", p, ce_weight=0.0, kd_weight=1.0)),
    (r"mlt_paper_lambda\w+", lambda c, p: _published("zkd+mlt", p, ce_weight=0.0)),
)

# ---- cases on features ----


def _term(kind: type[Term], **fixed: Any) -> Callable[[Case, Tensor], Tensor]:
    """A term between one feature of each network, called "x"."""

    def value(case: Case, leaf: Tensor) -> Tensor:
        student, teacher = (
            Signals(leaf.new_zeros(len(leaf), 2), {"x": x}) for x in (leaf, case.inputs[case.params["teacher"]])
        )
        options = {key: each for key, each in case.params.items() if key not in ("student", "teacher")}
        term = kind(student_layers="x", teacher_layers="x", **options, **fixed)
        term.build(student, teacher, len(leaf))
        return term(student, teacher, Batch(None))

    return value


def _maps(case: Case, leaf: Tensor) -> Tensor:
    size = case.params["cam_resolution"]
    pooled = [F.adaptive_avg_pool2d(x, size) for x in (leaf, case.inputs[case.params["teacher"]])]
    return map_distance(*pooled, case.params["normalize"])


def _crd(case: Case, leaf: Tensor) -> Tensor:
    """Embeddings, memories and drawn negatives are the case's own; the first call sets the constants."""
    term = CRD(width=leaf.shape[1], negatives=case.params["nce_k"])
    term.memory_student, term.memory_teacher = (case.inputs[f"crd_memory_v{i}"].clone() for i in (1, 2))
    term.partition = leaf.new_zeros(2)
    drawn = case.inputs["crd_contrast_index"][:, 1:]
    return term.contrast(leaf, case.inputs["crd_emb_t"], case.inputs["crd_index"], term.counts(drawn))[0]


# The term, and the value of each row by the feature to differentiate by; the first pattern that matches all of the name.
FEATURES: tuple[tuple[str, type[Term], Callable[[Case, Tensor], Tensor]], ...] = (
    (r"at_\w+", Attention, _term(Attention)),
    (r"rkd\w*", RKD, _term(RKD)),
    (r"cat_res\d_norm\d", CATKD, _maps),
    (r"hcl", ReviewKD, lambda c, leaf: pyramid_distance(leaf, c.inputs[c.params["teacher"]])),
    (r"fitnet_mse", FitNet, _term(FitNet, regressor=False)),
    (r"sp", SP, _term(SP)),
    (r"pkt", PKT, _term(PKT)),
    (r"nst", NST, _term(NST)),
    (r"crd_core", CRD, _crd),
)


def feature_of(case: Case) -> tuple[type[Term], Callable[[Case, Tensor], Tensor]] | None:
    """What adakd has for a case on features; None where nothing matches."""
    return next((rest for pattern, *rest in FEATURES if re.fullmatch(pattern, case.name)), None)


def covered(case: Case) -> bool:
    """Whether adakd has something for this case."""
    return (feature_of(case) if case.on_features else build(case)) is not None


# Cases whose value here is another one on purpose: (set, case, reason).
DIFFERENT = (
    (r".*", r"kd_per_sample_T_itkd_broadcast_bug", "peer's bug: (B,)·(B, 1) broadcasts to (B, B)"),
    (
        r".*",
        r"ctkd_instance_readme",
        "the peer adds 1e-7 to the teacher's probabilities: they sum to more than 1",
    ),
)


def different(case: Case) -> str | None:
    """The reason why adakd's value is another one, for a case of that list."""
    for group, name, reason in DIFFERENT:
        if re.fullmatch(group, case.group) and re.fullmatch(name, case.name):
            return reason
    return None


def kept_positive(case: Case, criterion: LogitObjective) -> Tensor:
    """Rows (B,) where DTKD's sharpness is raised to its floor, because the peer's temperature has no sense there."""
    rule = criterion.temperature
    if not isinstance(rule, DTKD):
        return torch.zeros(len(case.inputs["student"]), dtype=torch.bool)
    return torch.stack([case.inputs[who].amax(dim=1) <= rule.floor for who in ("student", "teacher")]).any(0)


def comparable(case: Case, criterion: LogitObjective) -> tuple[Tensor, str | None]:
    """Rows of the gradient that can be compared (B,), and the reason where it is not all of them."""
    student = case.inputs["student"]
    constant = (student == student[:, :1]).all(dim=1)
    finite = case.grad.isfinite().all(dim=1)
    raised = kept_positive(case, criterion)
    if raised.any():
        reason = "the peer's temperature is 0 or negative; here sharpness has a floor, and the other rows agree"
        return finite & ~raised & ~constant, reason
    if not finite.all():
        return finite & ~constant, "the peer's value is not a number; here it is, and the other rows agree"
    if constant.any() and criterion.standardize == "sample":
        reason = "the peer's gradient of a constant row is divided by 1e-7, here it is 0; all else agrees"
        return ~constant, reason
    if constant.any() and isinstance(criterion.temperature, DTKD):
        reason = "of equal maxima the peer differentiates the first, here all share it; all else agrees"
        return ~constant, reason
    if left_out(case, criterion):
        reason = "of one sample the peer's column term is a constant, here it is left out; all else agrees"
        return finite & ~constant, reason
    if isinstance(criterion.divergence, DIST) and criterion.divergence.beta and constant.any():
        reason = "the peer's gradient of a constant row is divided by 1e-8, here it is 0; all else agrees"
        return ~constant, reason
    return finite, None


def left_out(case: Case, criterion: LogitObjective) -> float:
    """What the peer adds to the loss of one sample that DIST here leaves out: the correlation of columns of one."""
    divergence = criterion.divergence
    if not isinstance(divergence, DIST) or len(case.inputs["student"]) > 1:
        return 0.0
    return criterion.kd_weight * divergence.gamma * criterion.temperature.tau**2


def build(case: Case) -> LogitObjective | None:
    """What adakd has for this case; None where nothing matches."""
    for pattern, builder in BUILDERS:
        if re.fullmatch(pattern, case.name):
            return builder(case, case.params)
    return None


def read(npz: Path, description: Path) -> Iterator[Case]:
    """All cases of a golden file; cases on features have params that name their inputs."""
    arrays = np.load(npz)
    tensor = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    for group, cases in json.loads(description.read_text())["cases"].items():
        prefix = f"{group}/inputs/"
        inputs = {name.removeprefix(prefix): x for name, x in tensor.items() if name.startswith(prefix)}
        for name, case in cases.items():
            params = {
                key: value.removeprefix(prefix) if isinstance(value, str) else value
                for key, value in case["params"].items()
            }
            tau = case.get("tau", params.get("tau"))
            yield Case(
                group,
                name,
                case["doc"],
                params,
                inputs,
                float(case["loss"]),  # the edge sets spell NaN as text
                tensor[case["grad"]],
                tensor[tau] if isinstance(tau, str) else None,
            )


def compare(case: Case) -> tuple[str, str]:
    """What became of a case, "agrees", "differs" (on purpose), "uncovered" or "WRONG", and why."""
    if case.on_features:
        return compare_features(case)
    reason, criterion = different(case), build(case)
    if reason:
        return "differs", reason
    if criterion is None:
        return "uncovered", ""
    leaf, student, teacher, target = case.batch()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* floor, ")  # the edge sets have such rows
        terms = criterion(student, teacher, target, epoch=case.params.get("epoch"))
    terms.total.backward()
    rows, reason = comparable(case, criterion)
    pairs = {"gradient": (leaf.grad[rows], case.grad[rows])}
    if math.isfinite(case.loss) and not kept_positive(case, criterion).any():
        pairs["loss"] = (
            terms.total.detach() + left_out(case, criterion),
            torch.tensor(case.loss, dtype=torch.float64),
        )
    if case.tau is not None:
        pairs["temperature"] = (terms.temperature.teacher.flatten()[rows], case.tau.flatten()[rows])
    problems = list(differences(pairs))
    if not (terms.total.isfinite() and leaf.grad.isfinite().all()):
        problems.append("loss or gradient is not finite")
    if problems:
        return "WRONG", "; ".join(problems)
    return ("differs", reason) if reason else ("agrees", "")


def compare_features(case: Case) -> tuple[str, str]:
    """The same of a case on features."""
    found = feature_of(case)
    if found is None:
        return "uncovered", ""
    _, value = found
    leaf = case.inputs[case.params.get("student", "crd_emb_s")].clone().requires_grad_()
    loss = value(case, leaf).mean()
    loss.backward()
    expected = torch.tensor(case.loss, dtype=torch.float64)
    problems = list(differences({"gradient": (leaf.grad, case.grad), "loss": (loss.detach(), expected)}))
    return ("WRONG", "; ".join(problems)) if problems else ("agrees", "")


def differences(pairs: dict[str, tuple[Tensor, Tensor]]) -> Iterator[str]:
    """What is to be said of pairs of our values and the peer's that differ."""
    for name, (ours, theirs) in pairs.items():
        if not torch.allclose(ours, theirs, rtol=RTOL, atol=ATOL):
            yield f"{name} differs by {float((ours - theirs).abs().max()):.3g}"


def _ctkd(arrays: dict[str, np.ndarray]) -> list[list[float]]:
    """SGD with momentum and weight decay on fixed logits, theta moving alone; columns as in the file."""
    student, teacher = (torch.from_numpy(arrays[f"A_B8_K100/inputs/{name}"]) for name in ("student", "teacher"))
    rule = CTKD().double()
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    rows = []
    for epoch, iteration in arrays["ctkd_trajectory"][:, :2]:
        theta = rule.theta.item()
        temperatures = rule(student, teacher, epoch=int(epoch))
        loss = 0.9 * KL()(student, teacher, None, temperatures).mean()
        optimizer.zero_grad()
        loss.backward()
        factor, tau = curriculum(int(epoch), rule.loops), temperatures.teacher.item()
        rows.append([epoch, iteration, factor, theta, tau, loss.item(), rule.theta.grad.item()])
        optimizer.step()
    return rows


def _dts(gaps: np.ndarray, p: dict[str, Any]) -> list[float]:
    """The temperature after each iteration, from logits whose cross entropies have the given gaps."""
    option = {"init": "initial", "mn": "minimum", "mx": "maximum"}
    steps = p["iterations_per_epoch"]
    rule = DTS(
        **{option.get(key, key): value for key, value in p.items() if key != "iterations_per_epoch"}
    ).double()

    def logits(ce: float) -> Tensor:  # two, with cross entropy `ce` for class 0
        return torch.tensor([[-math.log(math.expm1(ce)), 0.0]], dtype=torch.float64)

    held = []
    for iteration, gap in enumerate(gaps):
        rule(logits(5.0 - gap), logits(5.0), torch.tensor([0]), 1 + iteration // steps)
        held.append(rule.tau.item())
    return held


def trajectories(npz: Path, description: Path) -> Iterator[tuple[str, Any, Any]]:
    """Name, our values and the peers' of everything in the file that moves with time."""
    arrays, content = dict(np.load(npz)), json.loads(description.read_text())
    if "ctkd_curriculum" in content:
        peer = content["ctkd_curriculum"]
        yield "ctkd_curriculum", [curriculum(epoch, 10) for epoch in peer["epochs"]], peer["cosine"]
    if "ctkd_trajectory" in arrays:
        yield "ctkd_trajectory", _ctkd(arrays), arrays["ctkd_trajectory"]
    for name, case in content.get("dts", {}).items():
        if isinstance(case, dict):
            yield f"dts/{name}", _dts(arrays["dts/loss_divergence"], case["params"]), arrays[case["array"]]


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    found: dict[str, list[tuple[Case, str]]] = {"agrees": [], "differs": [], "uncovered": [], "WRONG": []}
    for case in read(*map(Path, arguments)):
        verdict, why = compare(case)
        found[verdict].append((case, why))
    print(f"{len(found['agrees'])} cases agree (rtol {RTOL:g}, atol {ATOL:g})")
    print(f"{len(found['differs'])} cases differ on purpose")
    for case, why in found["differs"]:
        print(f"  {case.label}: {why}")
    print(f"{len(found['uncovered'])} cases are not covered")
    groups: dict[str, list[str]] = {}
    for case, _ in found["uncovered"]:
        groups.setdefault(case.name, []).append(case.group)
    for name, where in groups.items():
        print(f"  {name} ({', '.join(where)})")
    wrong = [f"{case.label}: {why}\n    {case.doc}" for case, why in found["WRONG"]]
    for name, ours, theirs in trajectories(*map(Path, arguments)):
        agrees = np.allclose(ours, theirs, rtol=RTOL, atol=ATOL)
        print(f"trajectory {name}: {'agrees' if agrees else 'WRONG'}")
        if not agrees:
            wrong.append(f"{name}: differs by {np.abs(np.subtract(ours, theirs)).max():.3g}")
    print(f"{len(wrong)} cases disagree")
    for line in wrong:
        print(f"  {line}")
    return 1 if wrong or not found["agrees"] else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
