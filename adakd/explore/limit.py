"""The live figure of chapter 4: τ²·KL between its bounds, on its way to 1 − ρ."""

import math

import torch
import traitlets

from ..divergence import KL
from ..logits import pearson, standardize
from ..methods import RULE_NAMES
from ..temperature import Fixed, MaxLogit
from .live import LiveFigure, style_sheet
from .module import built_module
from .rules import rules_for_page
from .style import COLORS, Picture, log_axis, picture, use_style
from .temperature import teacher_logits

__all__ = ["LimitExplorer", "erring_student"]

_SHOWN = {"teacher": "mlt-teacher", "both": "mlt", "absolute": "mlt-abs"}  # rows of RULE_NAMES
_RULES = {name: MaxLogit(**RULE_NAMES[row].options) for name, row in _SHOWN.items()}
_TEACHER = (12.0, 10.0, -8.0)  # peak, second peak and ruled-out class of `teacher_logits`
_ERRORS = {
    "everywhere": "errs a little everywhere",
    "top": "exchanges the two highest classes",
    "bottom": "has not seen the last class ruled out",
}
_FLOOR, _ROOF = 1e-4, 10.0  # of the picture


def erring_student(z_teacher: torch.Tensor, error: str, agreement: float) -> torch.Tensor:
    """Standardized logits (1, K) that correlate by `agreement` exactly, and err where `error` puts it.

    The student is the teacher's standardized row (1, K), turned towards an error at a right angle to it: ``"top"``
    (class 1 for class 0), ``"bottom"`` (the last class too high), ``"everywhere"`` (scattered over all other classes).
    """
    row = torch.zeros_like(z_teacher)
    if error == "everywhere":
        index = torch.arange(1, z_teacher.shape[1] + 1, dtype=z_teacher.dtype)
        row[0] = index * 0.6180339887498949 % 1 - 0.5
        row[0, [0, 1, -1]] = 0.0
    elif error == "top":
        row[0, 0], row[0, 1] = -1.0, 1.0
    else:
        row[0, -1] = 1.0
    row = row - row.mean()
    side = standardize(row - (row * z_teacher).mean() * z_teacher)
    return agreement * z_teacher + math.sqrt(1 - agreement**2) * side


class LimitExplorer(LiveFigure):
    """τ²·KL of two standardized rows against τ: its two bounds, its limit 1 − ρ, and the softened rows.

    The teacher has two strong classes and one that is ruled out; the student correlates with it by ρ, whatever its
    error is.

    Args:
        error: where the student errs: ``"everywhere"``, ``"top"`` (it takes the second class for the first) or
            ``"bottom"`` (it has not learned that the last class is ruled out).
        classes: K, 10 or 100.
        agreement: correlation ρ of the two rows, 0 to 0.99.
        tau: the temperature, 0.1 to 1000.

    Raises:
        traitlets.TraitError: for a value out of its range.
    """

    controls = ("error", "classes", "agreement", "tau")
    _esm = built_module("limit.js", RULES=rules_for_page(_SHOWN.values(), zoo=False), TEACHER=_TEACHER)
    _css = style_sheet("kit.css", "limit.css")

    error = traitlets.Enum([*_ERRORS], default_value="top").tag(sync=True)
    classes = traitlets.Enum([10, 100], default_value=100).tag(sync=True)
    agreement = traitlets.Float(0.9, min=0.0, max=0.99).tag(sync=True)
    tau = traitlets.Float(1.0, min=0.1, max=1000.0).tag(sync=True)

    def logits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Standardized logits of student and teacher, each (1, K), float64."""
        teacher = standardize(teacher_logits(*_TEACHER, self.classes))
        return erring_student(teacher, self.error, self.agreement), teacher

    def values(self) -> dict[str, float]:
        """Every number the figure shows, computed by adakd; the page computes the same in JavaScript.

        Keys: rho, limit (1 − ρ), loss (τ²·KL), ratio (loss / limit), lower, upper (its bounds
        e^(−(M + L)/τ)·(1 − ρ) and e^(M/τ)·(1 − ρ)), highest, lowest (M and −L, of both rows), tau_teacher, tau_both,
        tau_absolute (the three definitions of the maximum logit), loss_teacher, loss_both, loss_absolute (the loss
        there), near (the τ from which on the upper bound is within 10 % of the limit), teacher_peak, student_peak,
        teacher_last, student_last (probabilities of the first and the last class).
        """
        student, teacher = self.logits()
        both = torch.cat([student, teacher])
        highest, lowest = both.max().item(), both.min().item()
        limit, loss = 1 - pearson(student, teacher).item(), _loss(student, teacher, self.tau)
        taus = {name: rule(student, teacher).teacher.item() for name, rule in _RULES.items()}
        p, q = (torch.softmax(row[0] / self.tau, dim=0) for row in (teacher, student))
        return {
            "rho": 1 - limit,
            "limit": limit,
            "loss": loss,
            "ratio": loss / limit,
            "lower": math.exp((lowest - highest) / self.tau) * limit,
            "upper": math.exp(highest / self.tau) * limit,
            "highest": highest,
            "lowest": lowest,
            **{f"tau_{name}": tau for name, tau in taus.items()},
            **{f"loss_{name}": _loss(student, teacher, tau) for name, tau in taus.items()},
            "near": highest / math.log(1.1),
            "teacher_peak": p[0].item(),
            "student_peak": q[0].item(),
            "teacher_last": p[-1].item(),
            "student_last": q[-1].item(),
        }

    def describe(self) -> str:
        v = self.values()
        return (
            f"The student {_ERRORS[self.error]}, K = {self.classes}, ρ = {v['rho']:.2f}. At τ = {self.tau:.4g}, "
            f"τ²·KL = {v['loss']:.3g} is {v['ratio']:.3g} times its limit 1 − ρ = {v['limit']:.3g}, between its "
            f"bounds {v['lower']:.3g} and {v['upper']:.3g}. The maximum logit of both rows takes τ = "
            f"{v['tau_both']:.2f}, where the loss is {v['loss_both']:.3g}."
        )

    def still(self) -> Picture:
        import matplotlib.pyplot as plt

        use_style()
        (student, teacher), v = self.logits(), self.values()
        violet, ink = COLORS["mark"], COLORS["ink"]
        figure, (curve, bars) = plt.subplots(1, 2, figsize=(7.2, 3.2))
        taus = torch.logspace(-1, 3, 161, dtype=torch.float64)
        lower, upper = (
            (end / taus).exp().clamp(1e-9, 1e9) * v["limit"]
            for end in (v["lowest"] - v["highest"], v["highest"])
        )
        curve.fill_between(taus.tolist(), lower.tolist(), upper.tolist(), color=violet, alpha=0.15, linewidth=0)
        for error in _ERRORS:
            row = erring_student(teacher, error, self.agreement)
            losses = [max(_loss(row, teacher, tau), 1e-9) for tau in taus.tolist()]
            chosen = error == self.error
            curve.plot(taus.tolist(), losses, color=violet if chosen else ink, linewidth=2 if chosen else 0.8)
        curve.axhline(v["limit"], color=ink, linestyle="--", linewidth=1)
        above = {"xytext": (0, 4), "textcoords": "offset points", "ha": "right"}
        curve.annotate(f"1 − ρ = {v['limit']:.2f}", (1000, v["limit"]), **above)
        for name in _RULES:
            curve.plot(v[f"tau_{name}"], v[f"loss_{name}"], "D", color=COLORS["second"], markersize=4)
        curve.plot(self.tau, max(v["loss"], _FLOOR), "o", color=violet)
        log_axis(curve, "temperature τ", 0.1, 1, 10, 100, 1000)
        curve.set(title="τ²·KL between its bounds", yscale="log", ylim=(_FLOOR, _ROOF))
        curve.set_yticks([1e-4, 1e-2, 1], ["10⁻⁴", "0.01", "1"])
        curve.minorticks_off()

        for logits, sign, who in ((teacher, 1, "teacher"), (student, -1, "student")):
            p = torch.softmax(logits[0] / self.tau, dim=0)
            bars.bar(range(self.classes), (sign * p).tolist(), width=0.85, color=COLORS[who])
            bars.text(
                *(0.99, 0.5 + 0.47 * sign, who),
                transform=bars.transAxes,
                ha="right",
                va="top" if sign > 0 else "bottom",
                color=COLORS[who],
                weight="bold",
            )
        bars.axhline(0, color=ink, linewidth=0.8)
        bars.yaxis.set_major_formatter(lambda y, _: f"{abs(y):g}")
        bars.set(title=f"Softmax at τ = {self.tau:.4g}", xlabel="class", xticks=[])
        return picture(figure, self.describe())


def _loss(student: torch.Tensor, teacher: torch.Tensor, tau: float) -> float:
    """τ²·KL of one pair."""
    return KL()(student, teacher, None, Fixed(tau)(student, teacher)).item()
