"""The live figure of chapter 8: what two losses do to each of a student's logits."""

import math
from typing import Any

import torch
import traitlets

from ..logits import pearson, standardize
from ..methods import METHODS, create_method
from .live import style_sheet
from .module import built_module
from .rules import live_rule_of, method_for_page, rules_for_page
from .style import COLORS, Picture, log_axis, picture, use_style
from .temperature import MadeUpPair, student_logits, teacher_logits

__all__ = ["GradientExplorer"]

# Name in adakd.methods: name in the figure, and its options; "tau" stands where it takes the figure's τ.
_METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "ce": ("CE", {}),
    "kd": ("KD", {"tau": None}),
    "dkd": ("DKD", {"tau": None}),
    "ttm": ("TTM", {"tau": None}),
    "dtkd": ("DTKD", {"tau": None, "anchor": None}),
    "dist": ("DIST", {"tau": None, "gamma": 0.0}),  # the columns need a batch
    "zkd": ("zKD", {"tau": None, "standardize": "population"}),
    "zdkd": ("zDKD", {"tau": None, "standardize": "population"}),
    "zkd+mlt": ("MLT", {}),
    "correlation": ("1 − ρ", {}),
}
_RAW = ("ce", "kd", "dkd", "ttm", "dtkd", "dist")
_MENU = {
    "on raw logits": {name: _METHODS[name][0] for name in _RAW},
    "on standardized logits": {name: label for name, (label, _) in _METHODS.items() if name not in _RAW},
}
_RULES = {rule for name in _METHODS if METHODS[name].divergence and (rule := live_rule_of(METHODS[name]))}
_LABELS = {"peak": 0, "second": 1, "slip": 2}
_ZERO = 1e-12  # a gradient shorter than this is rounding


def _for_page(name: str) -> dict[str, Any]:
    """A row of `METHODS` for the page, with the figure's options."""
    chosen = _METHODS[name][1]
    row = method_for_page(METHODS[name])
    if "standardize" in row:
        row["standardize"] = "population"
    if "divergenceOptions" in row:
        row["divergenceOptions"] |= {
            key: value for key, value in chosen.items() if key in row["divergenceOptions"]
        }
    row["readsTau"] = "tau" in chosen
    del row["formula"]
    return row


class GradientExplorer(MadeUpPair):
    """The gradients of two losses by the student's raw logits, class by class, and their strength against τ.

    The pair is that of the other figures: the teacher's logits are ``teacher_scale`` times standardized ones, the
    student's ``student_scale`` times standardized ones. Losses are taken as `adakd.methods` has them, each with
    weight 1, without cross entropy and warm-up, and with the population deviation where they standardize.

    Args:
        peak: the teacher's logit of its first class, 0 to 20, in spreads of the ordinary classes.
        second: the same of its second class, 0 to 20.
        ruled_out: the same of its last class, -20 to 0.
        agreement: correlation ρ of the student's logits with the teacher's, 0 to 1.
        classes: K, 6 to 1000.
        teacher_scale: standard deviation of the teacher's logits, 0.1 to 100.
        student_scale: the same of the student's.
        label: the labelled class, ``"peak"``, ``"second"`` or ``"slip"``.
        tau: the temperature, 0.1 to 100; CE, MLT and 1 - ρ do not read it.
        a: the first loss, a name of `adakd.methods`.
        b: the second one.
        bars: ``"as they are"``, or ``"matched"``: the second one times the weight that makes both equally strong.
        curve: against τ: ``"strength"`` (Euclidean norm), ``"peak"`` (share of the peak class in the sum of
            magnitudes) or ``"angle"`` (cosine with the gradient of 1 - ρ).

    Raises:
        traitlets.TraitError: for a value out of its range.
    """

    controls = (
        *("peak", "second", "ruled_out", "agreement", "classes", "teacher_scale", "student_scale", "label"),
        *("tau", "a", "b", "bars", "curve"),
    )
    _esm = built_module(
        "gradient.js",
        LOSSES=_MENU,
        METHODS={name: _for_page(name) for name in _METHODS},
        RULES=rules_for_page(sorted(_RULES)),
    )
    _css = style_sheet("kit.css", "gradient.css")

    teacher_scale = traitlets.Float(3.0, min=0.1, max=100.0).tag(sync=True)
    student_scale = traitlets.Float(2.5, min=0.1, max=100.0).tag(sync=True)
    label = traitlets.Enum([*_LABELS], default_value="peak").tag(sync=True)
    tau = traitlets.Float(2.0, min=0.1, max=100.0).tag(sync=True)
    a = traitlets.Enum([*_METHODS], default_value="kd").tag(sync=True)
    b = traitlets.Enum([*_METHODS], default_value="zkd").tag(sync=True)
    bars = traitlets.Enum(["as they are", "matched"], default_value="as they are").tag(sync=True)
    curve = traitlets.Enum(["strength", "peak", "angle"], default_value="strength").tag(sync=True)

    def logits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw logits of student and teacher, each (1, K), float64."""
        teacher = standardize(teacher_logits(self.peak, self.second, self.ruled_out, self.classes))
        return self.student_scale * student_logits(teacher, self.agreement), self.teacher_scale * teacher

    def gradient(self, name: str, tau: float | None = None) -> torch.Tensor:
        """Gradient (K,) of a loss by the student's raw logits, by autograd through adakd's objective.

        Args:
            name: one of the figure's losses, a name of `adakd.methods`.
            tau: temperature; the figure's own where it is left out.
        """
        options = {
            key: (tau or self.tau) if value is None else value for key, value in _METHODS[name][1].items()
        }
        student, teacher = self.logits()
        student.requires_grad_()
        terms = create_method(name, **options)(student, teacher, torch.tensor([_LABELS[self.label]]))
        return torch.autograd.grad(terms.ce if name == "ce" else terms.kd, student)[0][0]

    def values(self) -> dict[str, Any]:
        """Every number the figure shows, by autograd through adakd; the page has them from closed formulas.

        Keys: for a and b each: gradient (K numbers), norm, share (of the peak class in the sum of magnitudes), total
        (Σ g), radial (Σ g·s: above 0 where a step against g shrinks the logits), angle (cosine with the gradient of
        1 − ρ); and cosine (of the two), weight (of b that makes it as strong as a), limit (norm of the gradient of
        1 − ρ), rho. Where a gradient is 0, what would divide by it is 0.
        """
        student, teacher = self.logits()
        limit = self.gradient("correlation")
        result: dict[str, Any] = {}
        for who, name in (("a", self.a), ("b", self.b)):
            g = self.gradient(name)
            size = g.norm().item()
            result |= {
                f"gradient_{who}": g.tolist(),
                f"norm_{who}": size,
                f"share_{who}": (g[0].abs() / g.abs().sum()).item() if size > _ZERO else 0.0,
                f"total_{who}": g.sum().item(),
                f"radial_{who}": (g * student[0]).sum().item(),
                f"angle_{who}": _cosine(g, limit),
            }
        one, two = (self.gradient(name) for name in (self.a, self.b))
        return result | {
            "cosine": _cosine(one, two),
            "weight": result["norm_a"] / result["norm_b"] if result["norm_b"] > _ZERO else 0.0,
            "limit": limit.norm().item(),
            "rho": pearson(student, teacher).item(),
        }

    def describe(self) -> str:
        v, (a, b) = self.values(), (_METHODS[name][0] for name in (self.a, self.b))
        along = [
            round(v[name], 3) + 0.0 for name in ("radial_a", "radial_b")
        ]  # a sum of rounding errors has no sign
        return (
            f"At τ = {self.tau:.2f} the gradient of {a} has length {v['norm_a']:.3f}, that of {b} {v['norm_b']:.3f}; "
            f"{v['share_a']:.0%} and {v['share_b']:.0%} of them are on the peak class, and their cosine is "
            f"{v['cosine']:.2f}. Along the student's logits, Σ g·s is {along[0]:.3f} and {along[1]:.3f}."
        )

    def still(self) -> Picture:
        import matplotlib.pyplot as plt

        use_style()
        v = self.values()
        figure, (bars, curve) = plt.subplots(1, 2, figsize=(7.2, 3.2))
        weights = {"a": 1.0, "b": v["weight"] if self.bars == "matched" else 1.0}
        thin = 6 / (self.classes - 4)  # the classes without a name share six columns
        places = [0.5, 1.5, 2.5, *((3 + thin * (k + 0.5)) for k in range(self.classes - 4)), 9.5]
        widths = [0.9, 0.9, 0.9, *[0.9 * thin] * (self.classes - 4), 0.9]
        for who, color, side in (("a", "mark", -0.25), ("b", "second", 0.25)):
            pull = [-weights[who] * g for g in v[f"gradient_{who}"]]
            left = [place + side * width for place, width in zip(places, widths, strict=True)]
            bars.bar(left, pull, width=[width / 2 for width in widths], color=COLORS[color])
        bars.axhline(0, color=COLORS["ink"], linewidth=0.8)
        bars.set_xticks([0.5, 1.5, 2.5, 6, 9.5], ["peak", "2nd", "slip", "others", "ruled\nout"], fontsize=8)
        bars.set(title=f"Pull on each logit, −g, at τ = {self.tau:.2f}")

        limit = self.gradient("correlation")
        measure = {
            "strength": lambda g: g.norm().item(),
            "peak": lambda g: (g[0].abs() / g.abs().sum()).item() if g.norm() > _ZERO else math.nan,
            "angle": lambda g: _cosine(g, limit) or math.nan,
        }[self.curve]
        taus = torch.logspace(-1, 2, 61, dtype=torch.float64).tolist()
        lines = [
            (_METHODS[name][0], [measure(self.gradient(name, tau)) for tau in taus])
            for name in (self.a, self.b)
        ]
        lines.append(("1 − ρ", [measure(limit)] * len(taus)))
        for (_, line), color, style in zip(lines, ("mark", "second", "ink"), ("-", "--", ":"), strict=True):
            curve.plot(taus, line, style, color=COLORS[color], linewidth=1 if style == ":" else 2)
        curve.axvline(self.tau, color=COLORS["ink"], linewidth=0.8)
        log_axis(curve, "temperature τ", 0.1, 1, 10, 100)
        titles = {
            "strength": "Strength: length of g",
            "peak": "Share of the peak class",
            "angle": "Cosine with 1 − ρ",
        }
        curve.set(title=titles[self.curve])
        if self.curve == "strength":
            top = max(max(line) for _, line in lines) * 1.5 or 1.0
            curve.set(yscale="log", ylim=(top / 1e4, top))
            curve.minorticks_off()
        height, place = curve.transData, -1.0  # names where the lines end, 0.08 apart
        for (name, line), color in sorted(
            zip(lines, ("mark", "second", "ink"), strict=True), key=lambda pair: pair[0][1][-1]
        ):
            at = curve.transAxes.inverted().transform(height.transform((100, max(line[-1], 1e-12))))[1]
            place = max(at, place + 0.08, 0.0)
            key = {"transform": curve.transAxes, "va": "center", "weight": "bold", "color": COLORS[color]}
            curve.text(1.02, place, name, **key)
        return picture(figure, self.describe())


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    sizes = a.norm(), b.norm()
    return (a @ b / (sizes[0] * sizes[1])).item() if min(sizes) > _ZERO else 0.0
