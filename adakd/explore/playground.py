"""The playground: a teacher and two students in the plane, trained in the page while the reader watches."""

import copy
from typing import Any

import torch
import traitlets
from torch import nn
from torch.nn.utils import vector_to_parameters

from ..methods import METHODS, RULE_NAMES, get_method
from .gallery import GALLERY
from .live import LiveFigure, style_sheet
from .module import built_module
from .plane import DATA, WATCHED, Lesson, Setting, StudentSetting, centres, make_points
from .rules import TAU_RANGE, live_rule_of, method_for_page, plays, rules_for_page, trains
from .style import COLORS, Picture, log_axis, picture, use_style
from .tour import PARTS, TOUR

__all__ = ["Playground"]

# Menu of the methods: the rows of adakd.METHODS that were given a place and a name, by heading. What else the page can
# train stands under the last heading, by its formula.
_CALLED = {
    "labels": {"ce": "labels alone"},
    "soft labels": {
        "kd": "soft labels",
        "zkd": "standardized",
        "ctkd": "τ learned",
        "zctkd": "standardized, τ learned",
        "dtkd": "two τ, by sharpness",
        "dtkd-max": "two τ, by maximum",
    },
    "maximum logit as τ": {
        "zkd+mlt": "maximum logit",
        "zkd+mlt-abs": "as released",
        "zkd+mlt-teacher": "teacher's alone",
        "kd+mlt": "of raw logits",
        "zdkd+mlt": "with DKD",
    },
    "other divergences": {
        "correlation": "1 − ρ, no τ",
        "dkd": "decoupled",
        "zdkd": "decoupled, standardized",
        "ttm": "τ for the teacher only",
        "wttm": "the same, weighted",
    },
}
_REST = "other temperatures"


def _menu() -> dict[str, dict[str, str]]:
    """Heading: {method: what it is called}. Every rule that the page can train with is in it, at least as ``kd+<rule>``."""
    placed = {name for names in _CALLED.values() for name in names}
    used = {live_rule_of(get_method(name)) for name in placed}
    rest = {}
    for name, row in METHODS.items():
        if name not in placed and "+" not in name and trains(row):
            used.add(live_rule_of(row))
            rest[name] = row.formula.split("τ = ")[-1]
    for suffix, rule in RULE_NAMES.items():
        if suffix not in used and plays(suffix):
            rest[f"zkd+{suffix}" if rule.standardize else f"kd+{suffix}"] = rule.formula
    return {**_CALLED, **({_REST: rest} if rest else {})}


_MENU = _menu()
_METHODS = tuple(name for names in _MENU.values() for name in names)
# Ten classes: neighbours on a ring differ in hue and in lightness.
_CLASSES = (
    *("#4477aa", "#ee7733", "#228833", "#cc3311", "#66ccee"),
    *("#aa3377", "#ddaa33", "#5544aa", "#44bb99", "#bb7788"),
)
LENGTH = 600  # steps at which the page stops playing
_LIMIT = 1.25  # the plane that is shown, in each direction
_GRID = 48

_KINDS = ("published", "off", "population", "sample")
_DEFAULT = Setting()
_START = {  # the controls as they are at first
    **{
        name: getattr(_DEFAULT, name)
        for name in ("data", "classes", "noise", "transfer", "width", "lr", "seed")
    },
    **{"a": _DEFAULT.a.method, "tau_a": None, "weight_a": None, "standardize_a": "published"},
    **{"b": _DEFAULT.b.method, "tau_b": None, "weight_b": None, "standardize_b": "published"},
    **{"view": "b", "probe": [0.55, 0.4], "step": 0},
}
_STUDENT_RANGES = {"tau": TAU_RANGE, "weight": (0.01, 100.0), "standardize": _KINDS}
_RANGES = {  # lowest and highest value, or all values
    **{"data": DATA, "classes": (3, 10), "noise": (0.02, 0.4), "transfer": (10, 1000), "width": (2, 32)},
    **{"lr": (0.001, 0.5), "seed": (0, 19), "a": _METHODS, "b": _METHODS},
    **{f"{name}_{who}": values for who in "ab" for name, values in _STUDENT_RANGES.items()},
    **{"view": ("teacher", "a", "b", "tau"), "probe": (-_LIMIT, _LIMIT), "step": (0, 10 * LENGTH)},
}


def _trait(name: str) -> Any:
    start: Any = _START[name]
    values: Any = _RANGES[name]
    trait: Any
    if isinstance(values[0], str):
        trait = traitlets.Enum(values, start)
    elif isinstance(start, int):
        trait = traitlets.Int(start, min=values[0], max=values[1])
    elif start is None:
        trait = traitlets.Float(None, min=values[0], max=values[1], allow_none=True)
    else:
        trait = traitlets.Float(start, min=values[0], max=values[1])
    return trait.tag(sync=True)


def _constants() -> dict[str, Any]:
    """What the page's text gets from Python, so that it is written once: methods, rules, colours, questions."""
    rows = [get_method(name) for name in _METHODS]
    rules = [live_rule_of(row) for row in rows if row.divergence]
    return {
        "METHODS": {row.name: method_for_page(row) for row in rows},
        "RULES": rules_for_page(dict.fromkeys(rule for rule in rules if rule is not None), zoo=False),
        "MENU": _MENU,
        "CLASSES": _CLASSES,
        "LENGTH": LENGTH,
        "START": _START,
        "RANGES": {name: values for name, values in _RANGES.items() if name not in ("a", "b")},
        "WHOLE": ("classes", "transfer", "width", "seed"),
        "GALLERY": [question.as_json() for question in GALLERY],
        "PARTS": PARTS,
        "TOUR": [stop.as_json() for stop in TOUR],
    }


class Playground(LiveFigure):
    """Distillation that happens while you watch: points in the plane, a teacher, and two students side by side.

    The page trains by itself, without a kernel: both students see the same batches from the same start, each with a
    method of its own, so that what differs is what the methods do. Everything is a pure function of the traits;
    `train` repeats it in PyTorch. Where a kernel runs, `history` and `weights` follow the page.

    Args:
        data: ``"ring"``, ``"pair"``, ``"sunflower"`` or ``"spirals"``; see `make_points`.
        classes: K, 3 to 10.
        noise: standard deviation of the points around their place, 0.02 to 0.4.
        transfer: points that the students see, 10 to 1000; the teacher saw 1000.
        width: of the students' two hidden layers, 2 to 32; the teacher's is 24.
        lr: learning rate of the students, 0.001 to 0.5.
        seed: of points, first weights and batches, 0 to 19.
        a: method of student A, a name of `adakd.METHODS`.
        tau_a: its temperature, 0.5 to 50; None for the published one. Not every method reads it.
        weight_a: its λ_KD, 0.01 to 100; None for the published one.
        standardize_a: ``"published"``, ``"off"``, ``"population"`` or ``"sample"``.
        b: method of student B, and so on.
        view: how the teacher's plane is coloured: by ``"teacher"`` (its own probabilities), ``"a"`` or ``"b"`` (as that
            student's loss sees them, softened), or ``"tau"`` (the temperature of B at each place, or of A).
        probe: the point whose soft labels are shown, [x, y], each -1.25 to 1.25.
        step: how many steps both have been trained, 0 to 6000.

    Raises:
        traitlets.TraitError: for a value out of its range.
    """

    controls = tuple(_START)
    _esm = built_module("playground.js", **_constants())
    _css = style_sheet("kit.css", "playground.css")

    data = _trait("data")
    classes = _trait("classes")
    noise = _trait("noise")
    transfer = _trait("transfer")
    width = _trait("width")
    lr = _trait("lr")
    seed = _trait("seed")
    a = _trait("a")
    tau_a = _trait("tau_a")
    weight_a = _trait("weight_a")
    standardize_a = _trait("standardize_a")
    b = _trait("b")
    tau_b = _trait("tau_b")
    weight_b = _trait("weight_b")
    standardize_b = _trait("standardize_b")
    view = _trait("view")
    step = _trait("step")
    probe = traitlets.List(
        traitlets.Float(min=-_LIMIT, max=_LIMIT), default_value=_START["probe"], minlen=2, maxlen=2
    ).tag(sync=True)

    history: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    """Rows that the page has measured so far, as `Lesson.measure` has them; written by the page, not by the saved state."""
    weights = traitlets.Dict().tag(sync=True)
    """Weights of ``teacher``, ``a`` and ``b`` when the page last paused, each in the order of ``parameters()``."""

    @classmethod
    def ask(cls, name: str, **state: Any) -> "Playground":
        """The playground at one of its prepared questions, by its name or by its number from 1 to 6.

        Raises:
            ValueError: for another name.
        """
        for number, question in enumerate(GALLERY, start=1):
            if name in (question.name, number):
                return cls(**{**question.state, **state})
        names = ", ".join(repr(question.name) for question in GALLERY)
        raise ValueError(f"name: expected one of {names}, or their number, got {name!r}")

    @property
    def setting(self) -> Setting:
        """What the lesson depends on, without how far it went."""
        own: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("data", "classes", "noise", "transfer", "width", "lr", "seed")
        }
        a, b = (
            StudentSetting(
                getattr(self, who),
                *(getattr(self, f"{name}_{who}") for name in ("tau", "weight", "standardize")),
            )
            for who in "ab"
        )
        return Setting(**own, a=a, b=b)

    def train(self, steps: int | None = None, every: int = 10) -> list[dict[str, float | int | None]]:
        """The same training in PyTorch, through `adakd.create_method`; returns rows as the page's `history` has them.

        Args:
            steps: how many; as far as the page went, or 600 where it has not started, when left out.
            every: steps between measurements.
        """
        wanted = (self.step or LENGTH) if steps is None else steps
        return Lesson(self.setting).train(wanted, every)

    def compare(self, rows: list[dict[str, float | int | None]]) -> Picture:
        """Curves of `train` (lines) with those of the page (`history`, dots) laid over them."""
        import matplotlib.pyplot as plt

        use_style()
        figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.8))
        for ax, key, title in ((left, "accuracy", "Held-out accuracy, %"), (right, "loss", "Loss")):
            for who, color in (("a", "student"), ("b", "mark")):
                line = [row[f"{key}_{who}"] for row in rows]
                label = f"{who.upper()}: {getattr(self, who)}"
                ax.plot([row["step"] for row in rows], line, color=COLORS[color], label=label)
                dots = [row[f"{key}_{who}"] for row in self.history]
                ax.plot([row["step"] for row in self.history], dots, "o", color=COLORS[color], markersize=3)
            ax.set(title=title, xlabel="step")
        left.legend()
        shared = {row["step"]: row for row in rows}
        gaps = [
            abs(row[f"loss_{who}"] - shared[row["step"]][f"loss_{who}"])
            for row in self.history
            if row["step"] in shared
            for who in "ab"
        ]
        said = f"their losses differ by {max(gaps):.1e} at most" if gaps else "the page has not trained yet"
        return picture(
            figure, f"Accuracy and loss of both students in PyTorch, and in the page as dots: {said}."
        )

    def network(self, who: str) -> nn.Sequential:
        """The network of ``"teacher"``, ``"a"`` or ``"b"`` with the weights that the page had when it last paused, float64.

        Raises:
            ValueError: for another name, or before the page has sent weights.
        """
        if who not in ("teacher", "a", "b"):
            raise ValueError(f"who: expected 'teacher', 'a' or 'b', got {who!r}")
        if who not in self.weights:
            raise ValueError(
                "weights: the page has sent none yet; show the playground and press play, then pause"
            )
        lesson = Lesson(self.setting)
        network = copy.deepcopy(lesson.teacher if who == "teacher" else lesson.networks[who])
        vector_to_parameters(torch.tensor(self.weights[who], dtype=torch.float64), network.parameters())
        return network

    def _lesson(self) -> Lesson:
        lesson = Lesson(self.setting)
        for _ in range(self.step):
            lesson.step()
        return lesson

    @property
    def _heard(self) -> str:
        """Whose soft label is shown at the probe."""
        return "b" if self.view == "tau" else self.view

    def values(self) -> dict[str, Any]:
        """Every number the figure shows, by PyTorch; the page has them from its own engine.

        Keys: those of `Lesson.measure`, teacher (held-out accuracy, %), lead (accuracy of B less that of A, points), error
        (its standard error, by the points on which the two differ), and for the probe student and told, what the method
        of `view` compares (of B for ``"tau"``), (K,) each, and told_tau, at which temperature.
        """
        return self._values(self._lesson())

    def _values(self, lesson: Lesson) -> dict[str, Any]:
        right = lesson.held_out()
        differ = right["b"].double() - right["a"].double()
        student, told, tau = lesson.soft_labels(self._heard, torch.tensor([self.probe], dtype=torch.float64))
        return lesson.measure() | {
            "teacher": 100 * right["teacher"].double().mean().item(),
            "lead": 100 * differ.mean().item(),
            "error": 100 * (differ.var(correction=0) / len(differ)).sqrt().item(),
            "student": student[0].tolist(),
            "told": told[0].tolist(),
            "told_tau": None if tau is None else tau.item(),
        }

    def describe(self) -> str:
        return self._describe(self._values(self._lesson()))

    def _describe(self, v: dict[str, Any]) -> str:
        names = {who: getattr(self, who) for who in "ab"}
        said = [
            f"Two students of one teacher, after {v['step']} steps on {self.transfer} points. "
            f"Of 1000 held-out points the teacher names {v['teacher']:.1f} %, A ({names['a']}) {v['accuracy_a']:.1f} %, "
            f"B ({names['b']}) {v['accuracy_b']:.1f} %: B − A = {v['lead']:+.1f} ± {1.96 * v['error']:.1f} points."
        ]
        for who in "ab":
            if v[f"tau_{who}"] is not None:
                said.append(f"{who.upper()}: τ = {v[f'tau_{who}']:.2f}, 1 − ρ = {v[f'distance_{who}']:.4f}.")
        return " ".join(said)

    def still(self) -> Picture:
        """The three views of the plane and the curves, at `step`, or after 600 steps where it has not started."""
        import matplotlib.pyplot as plt

        use_style()
        lesson = Lesson(self.setting)
        rows = lesson.train(self.step or LENGTH)
        v = self._values(lesson)
        figure = plt.figure(figsize=(7.2, 4.9))
        parts: Any = figure.subfigures(2, 1, height_ratios=(5, 4))
        top, bottom = parts
        self._draw_planes(top.subplots(1, 3), lesson, v)
        accuracy, losses, taus = bottom.subplots(1, 3)
        steps = [row["step"] for row in rows]
        for who, color in (("a", "student"), ("b", "mark")):
            accuracy.plot(steps, [row[f"accuracy_{who}"] for row in rows], color=COLORS[color])
            losses.plot(
                steps, [row[f"distance_{who}"] for row in rows], "--", color=COLORS[color], linewidth=1.2
            )
            if rows[0][f"kl_{who}"] is not None:
                losses.plot(steps, [row[f"kl_{who}"] for row in rows], color=COLORS[color])
            tau = lesson.watched_temperatures(who)
            if tau is not None:
                bins = torch.logspace(-0.3, 1.7, 41).tolist()
                heights = tau.student.flatten().expand(min(self.transfer, WATCHED)).tolist()
                taus.hist(heights, bins=bins, color=COLORS[color], alpha=0.75)
        accuracy.axhline(v["teacher"], color=COLORS["teacher"], linestyle=":", linewidth=1.2)
        accuracy.set(title="Held-out, %", xlabel="step", ylim=(max(0, v["teacher"] - 40), None))
        losses.set(title="τ²·KL, dashed 1 − ρ", xlabel="step", yscale="log")
        taus.set(title="Temperatures", yticks=[])
        log_axis(taus, "τ", 0.5, 1, 2, 5, 10, 20, 50)
        return picture(figure, self._describe(v))

    def _draw_planes(self, axes, lesson: Lesson, v: dict[str, Any]) -> None:
        from matplotlib.colors import to_rgb

        palette = torch.tensor([to_rgb(color) for color in _CLASSES[: self.classes]], dtype=torch.float64)
        ends = torch.linspace(-_LIMIT, _LIMIT, _GRID, dtype=torch.float64)
        grid = torch.cartesian_prod(ends, ends).flip(-1)  # row by row from below
        told = lesson.soft_labels(self._heard, grid)[1]
        shown = "Teacher" if v["told_tau"] is None else f"Teacher, as {self._heard.upper()} sees it"
        with torch.no_grad():
            seen = {who: lesson.networks[who](grid).softmax(-1) @ palette for who in "ab"}
        seen = {"teacher": told @ palette, **seen}
        warm = next((who for who in "ba" if lesson.objectives[who].needs_teacher), None)
        if self.view == "tau" and warm:
            tau = lesson.soft_labels(warm, grid)[2]
            assert tau is not None  # it has a teacher
            tau = tau.expand(len(grid), 1)
            low, high = tau.aminmax()
            share = (tau / low).log() / (high / low).log().clamp(min=1e-9)
            seen["teacher"] = palette[0] + share * (palette[1] - palette[0])
            shown = f"{warm.upper()}'s τ, {low:.2f} to {high:.2f}"
        titles = {"teacher": shown} | {
            who: f"{who.upper()}: {getattr(self, who)}, {v[f'accuracy_{who}']:.1f} %" for who in "ab"
        }
        x, y = make_points(
            self.data, self.classes, self.noise, self.seed, torch.arange(min(self.transfer, 200))
        )
        colors = {"teacher": "teacher", "a": "student", "b": "mark"}
        for ax, (who, rgb) in zip(axes, seen.items(), strict=True):
            ax.imshow(
                rgb.view(_GRID, _GRID, 3).clamp(0, 1).numpy(),
                **{"extent": (-_LIMIT, _LIMIT) * 2, "origin": "lower", "alpha": 0.55},
            )
            ax.scatter(*x.T.tolist(), s=6, c=[_CLASSES[k] for k in y], linewidths=0)
            for k, at in enumerate(centres(self.data, self.classes).tolist()):
                ax.text(*at, str(k), ha="center", va="center", fontsize=8, weight="bold", color="white")
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            ax.set_title(titles[who], color=COLORS[colors[who]])
