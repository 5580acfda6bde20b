"""The live figure of chapter 7: one pair of logits, and where every temperature rule puts its τ."""

import functools
import math
from typing import Any

import torch
import traitlets

from ..divergence import KL
from ..logits import standardize
from ..methods import METHODS, RULE_NAMES
from ..temperature import DTS, RULES, TemperatureRule, Temperatures
from .live import style_sheet
from .module import built_module
from .rules import FIXED, live_rule, options_of_rule, rules_for_page
from .style import COLORS, Picture, log_axis, picture, use_style
from .temperature import MadeUpPair, student_logits, teacher_logits

__all__ = ["ZooExplorer"]

_GROUPS = (  # in this order; a group that is not among them comes before the last
    "fixed",
    "from the height of the logits",
    "from how alike the two are",
    "by schedule and loss gap",
    "learned, at the start",
)


def _rows() -> dict[str, dict[str, str]]:
    """Group: {row: name}. The fixed temperatures are rows of `METHODS`, all others suffixes of `RULE_NAMES`."""
    groups: dict[str, dict[str, str]] = {group: {} for group in _GROUPS[:-1]}
    groups["fixed"] = {"kd": "KD", "zkd": "zKD"}
    last: dict[str, str] = {}
    for suffix, row in RULE_NAMES.items():
        if row.live:
            group = last if row.live.group == _GROUPS[-1] else groups.setdefault(row.live.group, {})
            group[suffix] = row.live.name or suffix
    return {**groups, _GROUPS[-1]: last}


_ROWS = _rows()
_NAMES = functools.reduce(dict.__or__, _ROWS.values())
_STANDARDIZED = {"zkd", *(suffix for suffix, row in RULE_NAMES.items() if row.standardize)}
_NOT_SHOWN = [suffix for suffix, row in RULE_NAMES.items() if not row.live]
_COMPANIONS = (0.5, 0.75, 0.95)  # agreement of the other students in the batch
_LABELS = {"peak": 0, "second": 1, "slip": 2}


def _rule(name: str) -> TemperatureRule:
    """The rule of that row as `adakd.methods` has it, in float64 and in evaluation mode."""
    named = RULE_NAMES.get(name)
    if named is not None:
        return RULES[named.rule](**named.options).double().eval()
    row = METHODS[name]
    assert row.rule is not None
    return RULES[row.rule](**row.rule_options).double().eval()


def _zoo_for_page() -> dict[str, dict[str, Any]]:
    """The table ZOO of static/zoo.js."""
    table = {}
    for row, name in _NAMES.items():
        rule = RULE_NAMES.get(row)
        entry = {
            "name": name,
            "rule": row if rule else FIXED,
            "formula": f"τ = {rule.formula if rule else format(METHODS[row].rule_options['tau'], 'g')}",
            "options": {} if rule else METHODS[row].rule_options,
            "standardized": row in _STANDARDIZED,
            "note": rule.live.note if rule and rule.live else "",
        }
        table[row] = {key: value for key, value in entry.items() if value}
    return table


class ZooExplorer(MadeUpPair):
    """Where the temperature rules put τ for one pair of logits, and the softmax that each of them makes of it.

    The teacher's logits are ``teacher_scale`` times standardized ones, the student's ``student_scale`` times
    standardized ones plus ``shift``. A rule reads these raw logits, or the standardized ones, as its paper has it.
    The standard deviation is the population's throughout.

    Rules that read a batch (CSWT, AdaKD) get the pair and three more students of the same teacher, scale and
    shift, with agreements 0.5, 0.75 and 0.95. DTS is shown where its running mean would settle if every batch were
    this pair. Learned rules are shown at their start.

    Args:
        peak: the teacher's logit of its first class, 0 to 20, in spreads of the ordinary classes.
        second: the same of its second class, 0 to 20.
        ruled_out: the same of its last class, -20 to 0.
        agreement: correlation ρ of the student's logits with the teacher's, 0 to 1.
        classes: K, 6 to 1000.
        teacher_scale: standard deviation of the teacher's logits, 0.1 to 100.
        student_scale: the same of the student's.
        shift: added to all of the student's logits, -20 to 20.
        label: the labelled class, ``"peak"``, ``"second"`` or ``"slip"``.
        epoch: 1 to 240.
        logits: which logits the rules read: ``"published"`` (each as its paper has it), ``"raw"`` or
            ``"standardized"``.
        rule: whose softmax is shown; a name of `adakd.methods`.

    Raises:
        traitlets.TraitError: for a value out of its range.
    """

    controls = (
        *("peak", "second", "ruled_out", "agreement", "classes"),
        *("teacher_scale", "student_scale", "shift", "label", "epoch", "logits", "rule"),
    )
    _esm = built_module(
        "zoo.js",
        RULES=rules_for_page([FIXED, *(row for row in _NAMES if row in RULE_NAMES)]),
        ZOO=_zoo_for_page(),
        GROUPS={group: [*rows] for group, rows in _ROWS.items()},
        NOT_SHOWN=f"Not shown here, for no formula does: {', '.join(_NOT_SHOWN)}." if _NOT_SHOWN else "",
    )
    _css = style_sheet("kit.css", "zoo.css")

    teacher_scale = traitlets.Float(3.0, min=0.1, max=100.0).tag(sync=True)
    student_scale = traitlets.Float(2.5, min=0.1, max=100.0).tag(sync=True)
    shift = traitlets.Float(0.0, min=-20.0, max=20.0).tag(sync=True)
    label = traitlets.Enum([*_LABELS], default_value="peak").tag(sync=True)
    epoch = traitlets.Int(1, min=1, max=240).tag(sync=True)
    logits = traitlets.Enum(["published", "raw", "standardized"], default_value="published").tag(sync=True)
    rule = traitlets.Enum([*_NAMES], default_value="mlt").tag(sync=True)

    def reads_standardized(self, name: str) -> bool:
        """Whether the rule of that row reads standardized logits here."""
        return name in _STANDARDIZED if self.logits == "published" else self.logits == "standardized"

    def batch(self, standardized: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of student and teacher, each (4, K), float64: the pair first, then its three companions."""
        teacher = standardize(teacher_logits(self.peak, self.second, self.ruled_out, self.classes))
        student = torch.cat([student_logits(teacher, rho) for rho in (self.agreement, *_COMPANIONS)])
        teacher = teacher.expand_as(student)
        if standardized:
            return standardize(student), teacher
        return self.student_scale * student + self.shift, self.teacher_scale * teacher

    def temperatures(self, name: str) -> Temperatures:
        """Temperatures of that row's rule on the pair, each (1, 1)."""
        student, teacher = self.batch(self.reads_standardized(name))
        rule, target = _rule(name), torch.full((len(student),), _LABELS[self.label])
        if isinstance(rule, DTS):
            rule.momentum = 0.0  # so that one step is where the running mean settles
            rule.train()(student[:1], teacher[:1], target[:1], self.epoch)
            rule.eval()
        with torch.no_grad():
            return Temperatures(*(tau[:1] for tau in rule(student, teacher, target, self.epoch)))

    def published(self, name: str) -> list[float] | None:
        """The two temperatures [student, teacher] as the source prints them, where the library guards them; else None."""
        live = live_rule(name) if name in RULE_NAMES else None
        if live is None or live.printed is None:
            return None
        student, teacher = self.batch(self.reads_standardized(name))
        target = torch.full((len(student),), _LABELS[self.label])
        both = live.temperatures(student, teacher, options_of_rule(name), target, self.epoch, printed=True)
        return [tau[0].item() for tau in both]

    def refused(self, name: str) -> bool:
        """Whether the published formula gives this pair a temperature that is not above 0."""
        published = self.published(name)
        return published is not None and min(published) <= 0

    def values(self) -> dict[str, Any]:
        """Every number the figure shows, computed by adakd; the page computes the same in JavaScript.

        Keys: for each rule its name: [τ of the student, τ of the teacher]; ``peaks``: the teacher's probability of
        its peak class by each rule; ``published_`` and a rule's name: [student, teacher] as its source prints them, None
        where the library has the same. Of the chosen rule:
        tau_student, tau_teacher, entropy (of the teacher, in nats), loss (τ_s·τ_t·KL), p and q (probabilities of peak,
        second, slip, all others, ruled out, by teacher and student).
        """
        result: dict[str, Any] = {}
        peaks = []
        for name in _NAMES:
            tau = self.temperatures(name)
            _, teacher = self.batch(self.reads_standardized(name))
            peaks.append(torch.softmax(teacher[:1] / tau.teacher, dim=-1)[0, 0].item())
            result[name] = [tau.student.item(), tau.teacher.item()]
            result[f"published_{name}"] = self.published(name)
        student, teacher = (rows[:1] for rows in self.batch(self.reads_standardized(self.rule)))
        tau = self.temperatures(self.rule)
        log_p = torch.log_softmax(teacher / tau.teacher, dim=-1)
        p, q = log_p.exp()[0], torch.softmax(student / tau.student, dim=-1)[0]
        return result | {
            "peaks": peaks,
            "tau_student": tau.student.item(),
            "tau_teacher": tau.teacher.item(),
            "entropy": -(log_p.exp() * log_p).sum().item(),
            "loss": KL()(student, teacher, None, tau).item(),
            "p": [*p[:3].tolist(), p[3:-1].sum().item(), p[-1].item()],
            "q": [*q[:3].tolist(), q[3:-1].sum().item(), q[-1].item()],
        }

    def describe(self) -> str:
        v = self.values()
        lowest, top = (pick(v[name][1] for name in _NAMES if not self.refused(name)) for pick in (min, max))
        refused = [_NAMES[name] for name in _NAMES if self.refused(name)]
        one = math.isclose(v["tau_student"], v["tau_teacher"])
        tau = (
            f"τ = {v['tau_teacher']:.2f}"
            if one
            else f"τ = {v['tau_teacher']:.2f} (teacher), {v['tau_student']:.2f} (student)"
        )
        return (
            f"For this pair {len(_NAMES)} rules put the teacher's τ between {lowest:.2f} and {top:.2f}. "
            f"{_NAMES[self.rule]}: {tau}, the teacher's peak class gets {v['p'][0]:.2f}, τ²·KL = {v['loss']:.3f}."
            + (f" Refused: {' and '.join(refused)}, whose formula gives a τ below 0." if refused else "")
        )

    def still(self) -> Picture:
        import matplotlib.pyplot as plt

        use_style()
        v = self.values()
        figure, (zoo, bars) = plt.subplots(1, 2, figsize=(7.2, 1.4 + 0.2 * len(_NAMES)), width_ratios=(3, 2))
        y, ticks = 0.0, {}
        beside = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        for group, names in _ROWS.items():
            zoo.text(0.11, y, group, va="center", fontsize=9, style="italic")
            for name in names:
                y -= 1
                student, teacher = v[name]
                ticks[y] = _NAMES[name]
                if self.refused(name):
                    zoo.text(
                        0.12,
                        y,
                        "refused: a temperature below 0",
                        va="center",
                        color=COLORS["student"],
                        fontsize=9,
                    )
                elif math.isclose(student, teacher):
                    zoo.plot(teacher, y, "o", color=COLORS["mark"], clip_on=False)
                    zoo.annotate(f"{teacher:.2f}", (teacher, y), **beside)
                else:
                    zoo.plot(teacher, y + 0.2, "v", color=COLORS["teacher"], clip_on=False)
                    zoo.plot(student, y - 0.2, "^", color=COLORS["student"], clip_on=False)
                    zoo.annotate(f"{teacher:.2f}, {student:.2f}", (max(teacher, student), y), **beside)
            y -= 1
        log_axis(zoo, "temperature τ", 0.1, 1, 10, 100)
        zoo.set_yticks(list(ticks), list(ticks.values()), fontsize=9)
        for tick, name in zip(zoo.get_yticklabels(), _NAMES, strict=True):
            tick.set_weight("bold" if name == self.rule else "normal")
        zoo.set(title="Where the rules put τ", ylim=(y + 0.6, 0.6))

        rows = range(5)
        bars.barh([row - 0.2 for row in rows], v["p"], height=0.36, color=COLORS["teacher"])
        bars.barh([row + 0.2 for row in rows], v["q"], height=0.36, color=COLORS["student"])
        for row, (p, q) in enumerate(zip(v["p"], v["q"], strict=True)):
            for value, place, who in ((p, row - 0.2, "teacher"), (q, row + 0.2, "student")):
                text = f"{value:.2f} {who}" if row == 0 else f"{value:.2f}"
                bars.text(value, place, f" {text}", va="center", fontsize=9, color=COLORS[who])
        bars.set_yticks(rows, ["peak", "2nd", "slip", "others", "ruled out"])
        bars.set(title=f"Softmax by {_NAMES[self.rule]}", xlim=(0, 1.6 * max(v["p"] + v["q"])), xticks=[])
        bars.grid(False)
        bars.invert_yaxis()
        return picture(figure, self.describe())
