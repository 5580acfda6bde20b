"""The live figure of chapter 17: a sentence, position by position, as a teacher and its student foretell it."""

from collections.abc import Sequence
from typing import Any

import torch
import traitlets
from torch import Tensor

from ..divergence import KL
from ..logits import pearson, standardize
from ..methods import RULE_NAMES
from ..temperature import RULES, Fixed, TemperatureRule
from .live import LiveFigure, style_sheet
from .module import built_module
from .rules import rules_for_page
from .style import COLORS, Picture, picture, use_style

__all__ = ["SentenceExplorer"]

# Rows of RULE_NAMES by choice; the constant has none.
_SHOWN = {"teacher": "mlt-teacher", "both": "mlt", "absolute": "mlt-abs", "constant": "fixed", "adakd": "adakd"}
_RAW = ("adakd",)  # read raw logits
_CONSTANT = 2.0
_BARS = 12
_DIGITS = 5  # of the logits that the page is given


def _rule(name: str) -> TemperatureRule:
    row = RULE_NAMES.get(_SHOWN[name])
    return Fixed(_CONSTANT) if row is None else RULES[row.rule](**row.options)


def _rows(logits: Tensor) -> list[list[float]]:
    return [[round(x, _DIGITS) for x in row] for row in logits.double().tolist()]


class SentenceExplorer(LiveFigure):
    """Temperature along a sentence, and the bars of teacher and student at one position of it.

    Temperatures are in spreads of the teacher's row, so that rules on raw and on standardized logits can be compared.

    Args:
        words: T + 1 of them; the first position is after the second word.
        vocabulary: V names of words.
        teacher: (T, V) raw logits, a row for what follows each word from the second on.
        student: (T, V) raw logits.
        truth: (T, V) true probabilities, where they are known.
        plausible: how many words are truly plausible, T numbers.
        position: 1 to T.
        rule: who sets the temperature: ``"teacher"``, ``"both"`` or ``"absolute"`` (the three definitions of the maximum
            logit), ``"constant"`` (τ = 2), ``"adakd"``.
        view: ``"outputs"`` at τ = 1, or ``"softened"`` by the rule.

    Raises:
        ValueError: for parts of other lengths.
        traitlets.TraitError: for a value out of its range.
    """

    controls = ("data", "position", "rule", "view")
    _esm = built_module("sentence.js", RULES=rules_for_page(_SHOWN.values(), zoo=False))
    _css = style_sheet("kit.css", "sentence.css")

    data = traitlets.Dict().tag(sync=True)
    position = traitlets.Int(1, min=1).tag(sync=True)
    rule = traitlets.Enum([*_SHOWN], default_value="both").tag(sync=True)
    view = traitlets.Enum(["outputs", "softened"], default_value="outputs").tag(sync=True)

    def __init__(
        self,
        words: Sequence[str],
        vocabulary: Sequence[str],
        teacher: Tensor,
        student: Tensor,
        *,
        truth: Tensor | None = None,
        plausible: Sequence[int] | None = None,
        **state: Any,
    ):
        shape = (len(words) - 1, len(vocabulary))
        for name, rows in (("teacher", teacher), ("student", student), ("truth", truth)):
            if rows is not None and tuple(rows.shape) != shape:
                raise ValueError(
                    f"{name}: expected shape {shape} for {len(words)} words and a vocabulary of {shape[1]}, "
                    f"got {tuple(rows.shape)}"
                )
        if plausible is not None and len(plausible) != shape[0]:
            raise ValueError(f"plausible: expected {shape[0]} numbers, got {len(plausible)}")
        data: dict[str, Any] = {
            "words": [*words],
            "vocabulary": [*vocabulary],
            "teacher": _rows(teacher),
            "student": _rows(student),
        }
        if truth is not None:
            data["truth"] = _rows(truth)
        if plausible is not None:
            data["plausible"] = [int(n) for n in plausible]
        super().__init__(data=data, **state)

    @traitlets.validate("position")
    def _inside(self, proposal: Any) -> int:
        position: int = proposal["value"]
        if self.data and position > len(self.data["teacher"]):
            raise traitlets.TraitError(f"position: expected 1 to {len(self.data['teacher'])}, got {position}")
        return position

    def logits(self) -> tuple[Tensor, Tensor]:
        """Raw logits of student and teacher, each (T, V), float64, as the page has them."""
        return tuple(torch.tensor(self.data[who], dtype=torch.float64) for who in ("student", "teacher"))  # type: ignore[return-value]

    def taus(self, rule: str) -> Tensor:
        """Temperature (T,) of every position by a rule, in spreads of the teacher's row."""
        student, teacher = self.logits()
        if rule in _RAW:
            spread = teacher.std(dim=1, correction=0)
            return _rule(rule)(student, teacher).teacher.flatten() / spread
        tau = _rule(rule)(standardize(student), standardize(teacher)).teacher
        return tau.expand(len(teacher), 1).flatten()

    def values(self) -> dict[str, float]:
        """Every number the figure shows, computed by adakd; the page computes the same in JavaScript.

        Keys: tau_teacher, tau_both, tau_absolute, tau_constant, tau_adakd (of this position, by rule), tau (in use),
        highest, lowest (of the teacher's standardized row), asymmetry (−lowest / highest), entropy, entropy_student (at τ = 1, in
        nats), entropy_soft (of the teacher, softened), limit (1 − ρ), loss (τ²·KL), ratio (loss / limit).
        """
        at = self.position - 1
        result = {f"tau_{name}": self.taus(name)[at].item() for name in _SHOWN}
        raw_student, raw_teacher = (x[at : at + 1] for x in self.logits())
        student, teacher = standardize(raw_student), standardize(raw_teacher)
        tau = result[f"tau_{self.rule}"]
        limit = 1 - pearson(student, teacher).item()
        loss = KL()(student, teacher, None, Fixed(tau)(student, teacher)).item()
        high, low = teacher.max().item(), teacher.min().item()
        return result | {
            "tau": tau,
            "highest": high,
            "lowest": low,
            "asymmetry": -low / high,
            "entropy": _entropy(raw_teacher),
            "entropy_student": _entropy(raw_student),
            "entropy_soft": _entropy(teacher / tau),
            "limit": limit,
            "loss": loss,
            "ratio": loss / limit,
        }

    def describe(self) -> str:
        v, at = self.values(), self.position - 1
        words = self.data["words"]
        return (
            f"After “{words[at]} {words[at + 1]}” the teacher's entropy is {v['entropy']:.2f} nats and the student's "
            f"{v['entropy_student']:.2f}. τ = {v['tau']:.2f} in spreads of the teacher's row (teacher only {v['tau_teacher']:.2f}, "
            f"both {v['tau_both']:.2f}, absolute {v['tau_absolute']:.2f}, adakd {v['tau_adakd']:.2f}); τ²·KL is {v['ratio']:.2f} "
            f"times 1 − ρ = {v['limit']:.2f}."
        )

    def still(self) -> Picture:
        import matplotlib.pyplot as plt

        use_style()
        at, words = self.position - 1, self.data["words"]
        taus, tau = self.taus(self.rule), self.taus(self.rule)[at]
        figure, (along, bars) = plt.subplots(1, 2, figsize=(7.2, 3.0))
        along.plot(taus.tolist(), color=COLORS["mark"], marker="o", markersize=4)
        along.plot(at, tau, "o", color=COLORS["mark"], markersize=9)
        along.set(title="Temperature along the sentence", ylim=(0, None), xticks=range(len(taus)))
        along.set_xticklabels(words[1:], fontsize=8)
        student, teacher = (x[at] for x in self.logits())
        if self.view == "softened":
            student, teacher = (standardize(x[None])[0] / tau for x in (student, teacher))
        p, q = teacher.softmax(0), student.softmax(0)
        order = p.argsort(descending=True, stable=True)[:_BARS]
        bars.bar(range(len(order)), p[order].tolist(), color=COLORS["teacher"], alpha=0.75)
        bars.plot(q[order].tolist(), "o", color=COLORS["student"], markersize=4)
        if self.view == "outputs" and "truth" in self.data:
            truth = torch.tensor(self.data["truth"][at])[order].tolist()
            ends = [[k + side * 0.42 for k in range(len(order))] for side in (-1, 1)]
            bars.hlines(truth, *ends, color=COLORS["mark"], linewidth=1.6)
        bars.set(title=f"After “{words[at]} {words[at + 1]} …”", xticks=range(len(order)))
        bars.set_xticklabels([self.data["vocabulary"][k] for k in order.tolist()], fontsize=8)
        return picture(figure, self.describe())


def _entropy(row: Tensor) -> float:
    log_p = row.log_softmax(dim=-1)
    return -(log_p.exp() * log_p).sum().item()
