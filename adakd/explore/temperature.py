"""The live figure of chapter 1: two softmaxes, one temperature, and what it does to their divergence."""

import math

import torch
import traitlets

from ..divergence import KL
from ..logits import pearson, standardize
from ..methods import RULE_NAMES
from ..series import lower_factor, upper_factor
from ..temperature import Fixed, MaxLogit
from .live import LiveFigure, style_sheet
from .module import built_module
from .rules import rules_for_page
from .style import COLORS, Picture, log_axis, picture, use_style

__all__ = ["TemperatureExplorer", "student_logits", "teacher_logits"]

_SHOWN = {"teacher": "mlt-teacher", "both": "mlt", "absolute": "mlt-abs"}  # rows of RULE_NAMES
_RULES = {name: MaxLogit(**RULE_NAMES[row].options) for name, row in _SHOWN.items()}


def teacher_logits(peak: float, second: float, ruled_out: float, classes: int) -> torch.Tensor:
    """Logits (1, K) of a made-up teacher, before standardization.

    Class 0 is the peak, class 1 the second peak, class 2 an ordinary class at 0, the last class is ruled out,
    and the K - 4 others lie on a ramp with a spread of about 1.
    """
    others = classes - 4
    ramp = 1 - (2 * torch.arange(others, dtype=torch.float64) + 1) / others
    named = torch.tensor([peak, second, 0.0, ruled_out], dtype=torch.float64)
    return torch.cat([named[:3], math.sqrt(3) * ramp, named[3:]])[None]


def student_logits(z_teacher: torch.Tensor, agreement: float) -> torch.Tensor:
    """Standardized logits (1, K) that correlate with standardized teacher logits (1, K) by `agreement` exactly.

    The student is the teacher turned towards an error of its own: scattered, with a slip towards class 2.
    """
    index = torch.arange(1, z_teacher.shape[1] + 1, dtype=torch.float64)
    slip = math.sqrt(12) * (index * 0.6180339887498949 % 1 - 0.5)
    slip[2] = 4.0
    slip = (slip - slip.mean())[None]
    error = standardize(slip - (slip * z_teacher).mean() * z_teacher)
    return agreement * z_teacher + math.sqrt(1 - agreement**2) * error


class MadeUpPair(LiveFigure):
    """A live figure about a made-up teacher and a student: what describes the two."""

    peak = traitlets.Float(8.0, min=0.0, max=20.0).tag(sync=True)
    second = traitlets.Float(4.0, min=0.0, max=20.0).tag(sync=True)
    ruled_out = traitlets.Float(-3.0, min=-20.0, max=0.0).tag(sync=True)
    agreement = traitlets.Float(0.8, min=0.0, max=1.0).tag(sync=True)
    classes = traitlets.Int(10, min=6, max=1000).tag(sync=True)


class TemperatureExplorer(MadeUpPair):
    """Softmax bars of a teacher and a student at τ, and τ²·KL against its limit 1 − ρ.

    Args:
        peak: the teacher's logit of its first class, 0 to 20, in spreads of the ordinary classes.
        second: the same of its second class, 0 to 20.
        ruled_out: the same of its last class, -20 to 0.
        agreement: correlation ρ of the student's logits with the teacher's, 0 to 1.
        classes: K, 6 to 1000.
        tau: the temperature while it is set by hand, 0.1 to 100.
        rule: who sets it: ``"hand"``, or one of the three definitions of the maximum logit as temperature,
            ``"teacher"`` (abstract), ``"both"`` (Algorithms 1-3), ``"absolute"`` (released code).

    Raises:
        traitlets.TraitError: for a value out of its range.
    """

    controls = ("peak", "second", "ruled_out", "agreement", "classes", "tau", "rule")
    _esm = built_module("temperature.js", RULES=rules_for_page(_SHOWN.values()))
    _css = style_sheet("kit.css", "temperature.css")

    tau = traitlets.Float(1.0, min=0.1, max=100.0).tag(sync=True)
    rule = traitlets.Enum(["hand", *_RULES], default_value="both").tag(sync=True)

    def logits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Standardized logits of student and teacher, each (1, K), float64."""
        teacher = standardize(teacher_logits(self.peak, self.second, self.ruled_out, self.classes))
        return student_logits(teacher, self.agreement), teacher

    def values(self) -> dict[str, float]:
        """Every number the figure shows, computed by adakd; the page computes the same in JavaScript.

        Keys: tau (in use), tau_teacher, tau_both, tau_absolute (the three definitions), upper, lower (where the
        two ends of the interval put the smallest τ), required (the larger of them), max_teacher, max_student,
        min_teacher, min_student, entropy (of the teacher, in nats), rho, loss (τ²·KL), limit (1 − ρ).
        """
        student, teacher = self.logits()
        result = {f"tau_{name}": rule(student, teacher).teacher.item() for name, rule in _RULES.items()}
        both = torch.cat([student, teacher])
        result["upper"] = upper_factor(2) * both.max().item()
        result["lower"] = lower_factor(2) * -both.min().item()
        result["required"] = max(result["upper"], result["lower"])
        result["tau"] = self.tau if self.rule == "hand" else result[f"tau_{self.rule}"]
        temperatures = Fixed(result["tau"])(student, teacher)
        log_p = torch.log_softmax(teacher / temperatures.teacher, dim=-1)
        rho = pearson(student, teacher).item()
        return result | {
            "max_teacher": teacher.max().item(),
            "max_student": student.max().item(),
            "min_teacher": teacher.min().item(),
            "min_student": student.min().item(),
            "entropy": -(log_p.exp() * log_p).sum().item(),
            "rho": rho,
            "loss": KL()(student, teacher, None, temperatures).item(),
            "limit": 1 - rho,
        }

    def describe(self) -> str:
        v = self.values()
        met = "inside" if v["tau"] >= v["required"] * (1 - 1e-9) else "not all inside"
        return (
            f"At τ = {v['tau']:.2f} the teacher's entropy is {v['entropy']:.2f} of {math.log(self.classes):.2f} nats. "
            f"τ²·KL = {v['loss']:.3f}, its limit 1 − ρ = {v['limit']:.3f}. "
            f"The logits are {met} the interval of convergence (τ ≥ {v['required']:.2f})."
        )

    def still(self) -> Picture:
        import matplotlib.pyplot as plt

        use_style()
        (student, teacher), v = self.logits(), self.values()
        figure, (bars, curve) = plt.subplots(1, 2, figsize=(7.2, 3.0))
        for logits, sign, who in ((teacher, 1, "teacher"), (student, -1, "student")):
            p = torch.softmax(logits[0] / v["tau"], dim=0)
            bars.bar(range(self.classes), (sign * p).tolist(), width=0.85, color=COLORS[who])
            place = {"va": "top"} if sign > 0 else {"va": "bottom"}
            bars.text(
                *(0.99, 0.5 + 0.47 * sign, who),
                transform=bars.transAxes,
                ha="right",
                color=COLORS[who],
                weight="bold",
                **place,
            )
        bars.axhline(0, color=COLORS["ink"], linewidth=0.8)
        bars.yaxis.set_major_formatter(lambda y, _: f"{abs(y):g}")
        bars.set(title=f"Softmax at τ = {v['tau']:.2f}", xlabel="class", xticks=[])

        taus = torch.logspace(-1, 2, 121, dtype=torch.float64)
        rules = [Fixed(tau)(student, teacher) for tau in taus.tolist()]
        losses = [KL()(student, teacher, None, temperatures).item() for temperatures in rules]
        curve.plot(taus.tolist(), losses, color=COLORS["mark"])
        curve.axhline(v["limit"], color=COLORS["ink"], linestyle="--", linewidth=1)
        curve.axvspan(0.1, v["required"], color=COLORS["ink"], alpha=0.15, linewidth=0)
        curve.plot(v["tau"], v["loss"], "o", color=COLORS["mark"])
        below = {"xytext": (0, -14), "textcoords": "offset points", "ha": "right"}
        curve.annotate(f"1 − ρ = {v['limit']:.2f}", (100, v["limit"]), **below)
        log_axis(curve, "temperature τ", 0.1, 1, 10, 100)
        curve.set(title="τ²·KL", ylim=(0, None))
        return picture(figure, self.describe())
