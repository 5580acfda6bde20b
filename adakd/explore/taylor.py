"""The live figure of chapters 2 and 3: the Taylor softmax, the interval of its logarithm, and its complex plane."""

import functools
import math

import torch
import traitlets

from .. import series
from ..logits import standardize
from ..temperature import MaxLogit
from .live import LiveFigure, style_sheet
from .module import built_module
from .style import COLORS, Picture, picture, use_style
from .temperature import teacher_logits

__all__ = ["TaylorExplorer"]

_ROWS = {  # peak, second peak and ruled-out class of `teacher_logits`: the four teachers of chapter 1
    "one peak": (8.0, 0.0, 0.0),
    "two peaks": (8.0, 7.0, 0.0),
    "one class ruled out": (1.0, 1.0, -16.0),
    "undecided": (1.0, 1.0, -1.0),
}


def _taylor(x: torch.Tensor, order: int) -> torch.Tensor:
    """f_n(x) elementwise, of complex x too."""
    total = torch.ones_like(x)
    for i in range(order, 0, -1):  # Horner, as `adakd.series.exp_taylor`
        total = 1 + total * x / i
    return total


def _inside(weights: torch.Tensor) -> torch.Tensor:
    """Where 0 < f_n <= 2, to rounding: a logit that τ puts on an end f_n = 2 is inside, on a zero of f_n outside."""
    return (weights > 1e-12) & (weights < 2 + 1e-9)


def _subscript(n: int) -> str:
    return str(n).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


@functools.cache
def _exact_tau(row: str, classes: int) -> float:
    return 1 / series.partition_radius(standardize(teacher_logits(*_ROWS[row], classes))[0].tolist())


class TaylorExplorer(LiveFigure):
    """A row of logits at z/τ, the Taylor polynomial f_n, and where log f_n may be expanded: on the line, in the plane.

    Args:
        order: n of the Taylor polynomial, 1 to 10.
        tau: the temperature, 0.1 to 20.
        row: which made-up row of standardized logits: ``"one peak"``, ``"two peaks"``, ``"one class ruled out"`` or
            ``"undecided"``.
        classes: K, 6 to 1000.

    Raises:
        traitlets.TraitError: for a value out of its range.
    """

    controls = ("order", "tau", "row", "classes")
    _esm = built_module("taylor.js", ROWS=_ROWS)
    _css = style_sheet("kit.css", "taylor.css")

    order = traitlets.Int(2, min=1, max=10).tag(sync=True)
    tau = traitlets.Float(2.0, min=0.1, max=20.0).tag(sync=True)
    row = traitlets.Enum([*_ROWS], default_value="one peak").tag(sync=True)
    classes = traitlets.Int(10, min=6, max=1000).tag(sync=True)

    def logits(self) -> torch.Tensor:
        """The standardized row z (1, K), float64."""
        return standardize(teacher_logits(*_ROWS[self.row], self.classes))

    def softmaxes(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The Taylor softmax f_n(z/τ) / Σ f_n(z/τ) and the softmax, each (1, K). The first may be below 0."""
        x = self.logits() / self.tau
        weights = _taylor(x, self.order)
        return weights / weights.sum(), torch.softmax(x, dim=-1)

    def values(self) -> dict:
        """Every number the figure shows, computed by adakd; the page computes the same in JavaScript.

        Keys: lower_end, upper_end (of the interval of x), lower_factor, upper_factor (c_n of each end), radius (R_n,
        of log f_n in powers of x), zeros (of f_n: pairs [re, im], by modulus); highest, lowest (of z); tau_upper
        (Algorithm 1 at this order), tau_lower, required (the larger of them), tau_disc (max |z| / R_n), tau_exact
        (log Z in powers of 1/τ); outside, outside_disc (how many logits are), negative (how many have f_n < 0),
        total (mean of f_n over the classes), error (total variation between Taylor softmax and softmax),
        taylor_highest, exact_highest, taylor_lowest, exact_lowest (probabilities of the extreme logits).
        """
        z, n = self.logits(), self.order
        x, weights = z / self.tau, _taylor(z / self.tau, n)
        taylor, exact = self.softmaxes()
        top, bottom = z.argmax(), z.argmin()
        result = {
            "lower_end": series.lower_end(n),
            "upper_end": series.upper_end(n),
            "lower_factor": series.lower_factor(n),
            "upper_factor": series.upper_factor(n),
            "radius": series.taylor_radius(n),
            "zeros": [[zero.real, zero.imag] for zero in series.taylor_zeros(n)],
            "highest": z.max().item(),
            "lowest": z.min().item(),
            "tau_upper": MaxLogit(order=n)(z, z).teacher.item(),
            "tau_lower": series.lower_factor(n) * -z.min().item(),
            "required": MaxLogit(order=n, magnitude="two-sided")(z, z).teacher.item(),
            "tau_disc": z.abs().max().item() / series.taylor_radius(n),
            "tau_exact": _exact_tau(self.row, self.classes),
        }
        return result | {
            "outside": (~_inside(weights)).sum().item(),
            "outside_disc": (x.abs() >= result["radius"]).sum().item(),
            "negative": (weights < 0).sum().item(),
            "total": weights.mean().item(),
            "error": (taylor - exact).abs().sum().item() / 2,
            "taylor_highest": taylor[0, top].item(),
            "exact_highest": exact[0, top].item(),
            "taylor_lowest": taylor[0, bottom].item(),
            "exact_lowest": exact[0, bottom].item(),
        }

    def describe(self) -> str:
        v, n = self.values(), _subscript(self.order)
        outside = f"{v['outside']} of {self.classes} logits outside" if v["outside"] else "all logits inside"
        negative = f" f{n} is negative for {v['negative']}." if v["negative"] else ""
        return (
            f"Order {self.order}, τ = {self.tau:.2f}, {self.row}: {outside} the interval from {v['lower_end']:.2f} "
            f"to {v['upper_end']:.3f}, which takes τ = {v['required']:.2f} to hold them all. "
            f"The disc |x| < {v['radius']:.2f}, up to the nearest zero of f{n}, takes τ > {v['tau_disc']:.2f}; "
            f"the exact log Z has a series in 1/τ for τ > {v['tau_exact']:.2f}.{negative} "
            f"Total variation between Taylor softmax and softmax: {100 * v['error']:.3g} %."
        )

    def still(self) -> Picture:
        import matplotlib.pyplot as plt

        use_style()
        v, n, x = self.values(), self.order, (self.logits() / self.tau)[0]
        name, inside = f"f{_subscript(n)}", _inside(_taylor(x, n))
        violet, green, bold = {"color": COLORS["mark"]}, {"color": COLORS["second"]}, {"weight": "bold"}
        figure, (curve, plane) = plt.subplots(1, 2, figsize=(7.2, 3.5))

        line = torch.linspace(-5.8, 4.2, 161, dtype=torch.float64)
        curve.axhspan(0, 2, alpha=0.08, linewidth=0, **violet)
        curve.fill_between([v["lower_end"], v["upper_end"]], 0, 2, alpha=0.2, linewidth=0, **violet)
        curve.plot(line.tolist(), line.exp().clamp(max=9).tolist(), "--", color=COLORS["ink"], linewidth=1.3)
        curve.plot(line.tolist(), _taylor(line, n).clamp(-9, 9).tolist(), **violet)
        curve.text(1.1, 3.6, "eˣ", ha="right", **bold)
        curve.text(2.5 if n == 1 else 1.6, 3.1, name, **violet, **bold)
        curve.text(4.1, 1.0, f"0 < {name} ≤ 2", ha="right", va="center", **violet)
        curve.set(title=f"{name} for eˣ, and the logits at z/τ", xlabel="x = z/τ", ylim=(-1.9, 4.2))

        rise = torch.linspace(-4.3, 4.3, 129, dtype=torch.float64)
        grid = torch.complex(*torch.meshgrid(line, rise, indexing="xy"))
        height = (_taylor(grid, n) - 1).abs()
        fill = {"levels": [0.0, 1.0], "colors": [COLORS["mark"]], "alpha": 0.25}
        plane.contourf(line.numpy(), rise.numpy(), height.numpy(), **fill)
        turn = torch.linspace(0, 2 * math.pi, 73, dtype=torch.float64)
        circle = (v["radius"] * turn.cos()).tolist(), (v["radius"] * turn.sin()).tolist()
        plane.plot(*circle, "--", linewidth=1.3, **green)
        plane.plot(*zip(*v["zeros"], strict=True), "D", color=COLORS["student"], markersize=5)
        corner = v["radius"] / 2 + 0.1, -0.87 * v["radius"] - 0.1
        plane.text(*corner, f"R{_subscript(n)} = {v['radius']:.2f}", va="top", **green, **bold)
        plane.set(title=f"|{name} − 1| < 1, and the zeros of {name}", xlabel="Re x", ylabel="Im x")
        plane.set(ylim=(-4.3, 4.3), aspect="equal")

        for ax, level in ((curve, -1.5), (plane, 0.0)):
            ax.set(xlim=(-5.8, 4.2), xticks=(-4, -2, 0, 2, 4))
            ax.plot([v["lower_end"], v["upper_end"]], [level] * 2, linewidth=4, alpha=0.5, **violet)
            for chosen, marker in ((inside, "."), (~inside, "x")):
                some = x[chosen][:: max(1, self.classes // 50)]  # enough to see where they are
                ax.plot(some.tolist(), [level] * len(some), marker, color=COLORS["teacher"], markersize=5)
        return picture(figure, self.describe())
