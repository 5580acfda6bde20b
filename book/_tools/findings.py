"""The findings of the book's page "What was measured", each from its records: a sentence, what it rests on, and a table.

A finding whose sentence the records no longer carry stops the writing (`Finding.check`); then write it anew.
"""

import json
import statistics
import textwrap
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from adakd import get_method
from adakd.statistics import Interval, mean_interval, paired_interval
from adakd.study import WAYS, read_records, weights_of

RECORDS = Path(__file__).resolve().parents[1] / "records"
EVIDENCE = RECORDS / "evidence"
KINDS = WAYS[:2]  # published and matched
SEEDS = 0, 1, 2, 3, 4


class Runs:
    """Accuracies after the last epoch by what a run is: method, temperature (of a rule that has one), λ_CE, λ_KD; and seed.

    On test images, or on those for validation.
    """

    def __init__(self, records, on="last"):
        self.ended = defaultdict(dict)
        for run in records:
            row, options = get_method(run["config"]["method"]), run["config"]["method_options"]
            tau = options.get("tau", row.rule_options.get("tau") if row.rule == "fixed" else None)
            self.ended[row.name, tau, *weights_of(run)][run["seed"]] = run["result"][on]

    def of(self, method, labels, weight, tau=None, seeds=SEEDS):
        row = get_method(method)
        own = row.rule_options.get("tau") if row.rule == "fixed" else None
        ended = self.ended[method, own if tau is None else tau, labels, weight]
        return [ended[seed] for seed in seeds]


@dataclass
class Finding:
    """What was found, in a sentence; what it rests on; and differences in points, of which those in bold exclude zero."""

    title: str
    text: str
    heads: tuple[str, ...] = ()
    rows: list[tuple[str | Interval | None, ...]] = field(default_factory=list)

    def check(self, **holds):
        if wrong := [what for what, does in holds.items() if not does]:
            raise ValueError(f"{self.title}: the records no longer say {', '.join(wrong)}. Write it anew")
        return self

    def __str__(self):
        lines = [f"### {self.title}", "", textwrap.fill(self.text, 120, break_on_hyphens=False)]
        if self.rows:
            lines += ["", f"| {' | '.join(self.heads)} |", "|---" + "|---:" * (len(self.heads) - 1) + "|"]
            lines += [f"| {' | '.join(map(_cell, row))} |" for row in self.rows]
        return "\n".join(lines)


def _cell(value):
    if not isinstance(value, Interval):
        return value or ""
    return f"{value:+.1f}" if 0 in value else f"**{value:+.1f}**"


def listed(names):
    *first, last = (f"`{name}`" for name in names) if names else ("none",)
    return f"{', '.join(first)} and {last}" if first else last


def plan_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["config"]


def together(count):
    """The level of each of so many intervals that hold all at once with 95 %, by Bonferroni."""
    return 1 - 0.05 / count


def evidence(*names):
    return read_records(*(EVIDENCE / f"{name}.jsonl" for name in names))


class Study:
    """The study, with the experiments in its own number format beside it."""

    def __init__(self, study):
        self.study = study
        records = [*study.records, *evidence("labels", "more_labels", "direction", "twin", "grid")]
        self.runs, self.held_out = Runs(records), Runs(records, on="validation")
        self.taught = [name for name in study.methods if name != "ce"]

    def weight(self, way, name):
        return self.study.weights(way, name)[1]

    def last(self, way, name):
        runs = self.study.runs(way, name)
        return [runs[seed]["result"]["last"] for seed in SEEDS]

    def gap(self, way, one, other, level=0.95):
        return paired_interval(self.last(way, one), self.last(way, other), level)

    def gap_of_ways(self, name, level=0.95):
        """A method at its matched λ_KD minus itself at its published one."""
        return paired_interval(*(self.last(kind, name) for kind in KINDS[::-1]), level)

    def at(self, labels, one, other, kind, level):
        """Of two methods at their λ_KD of that kind, beside labels of that weight."""
        ours, theirs = (self.runs.of(name, labels, self.weight(kind, name)) for name in (one, other))
        return paired_interval(ours, theirs, level)


# ---- the findings ----


def weights(s):
    """What the weight alone does."""
    study = s.study
    forces = [study.plan["published"][name] * study.plan["gradient_norm"][name] for name in s.taught]
    labels = study.plan["config"]["ce_weight"]  # of matched and chosen weights
    only = [name for name in s.taught if study.weights("published", name)[0] == labels]
    changed = [name for name in only if s.weight("matched", name) != s.weight("published", name)]
    moved = {name: s.gap_of_ways(name, together(len(changed))) for name in changed}
    sizes = [abs(one.estimate) for one in moved.values()]
    ends = {
        way: [run["history"][-1]["temperature"] for run in study.runs(way, "ctkd").values()] for way in KINDS
    }
    factor = {name: s.weight("matched", name) / s.weight("published", name) for name in moved}
    raised = [name for name in moved if moved[name].estimate > 2]
    rest = [name for name in moved if name not in raised]
    return Finding(
        "A weight can do more than a temperature",
        f"At published weights the methods of the study differ {max(forces) / min(forces):.0f}-fold in the gradient norm with which they begin. "
        f"For {len(moved)} methods matching changes λ_KD alone. {listed(raised)}, on raw logits, get {min(factor[m] for m in raised):.0f} to {max(factor[m] for m in raised):.0f} times their "
        f"published weight and have means that are {min(moved[m].estimate for m in raised):.1f} to {max(moved[m].estimate for m in raised):.1f} points higher, of which that of `kd+mlt` is decided; the others move little (the median of all is "
        f"{statistics.median(sizes):.1f}). The weight even decides where a learned temperature ends: that of `ctkd` at {statistics.mean(ends['published']):.1f} with its published weight, and "
        "on its bound of 21 with the matched one.",
        ("matched minus published λ_KD", "λ_KD", "points"),
        [
            (f"`{name}`", f"{s.weight('published', name):g} → {s.weight('matched', name):g}", moved[name])
            for name in sorted(moved, key=lambda name: -moved[name].estimate)
        ],
    ).check(
        three_are_held_back=len(raised) == 3,
        one_is_decided=[name for name in moved if 0 not in moved[name]] == ["kd+mlt"],
        and_on_raw_logits=not any(get_method(name).standardize for name in raised),
        the_rest_moves_less=all(abs(moved[name].estimate) < 1.2 for name in rest),
        ctkd_ends_on_its_bound=min(ends["matched"]) > 20.9,
    )


def by_weight(s):
    """Validation accuracy by method and multiple of the matched λ_KD, a number for each seed that chooses."""
    plan = plan_of(EVIDENCE / "grid.json")
    found = defaultdict(dict)
    for row in plan["settings"]:
        weights = row["ce_weight"], row["kd_weight"]
        found[row["method"]][row["multiple"]] = s.held_out.of(row["method"], *weights, seeds=plan["seeds"])
    return found


def best_of(by):
    return max(by, key=lambda multiple: statistics.fmean(by[multiple]))


def lost_at_eight(found):
    """Points of each method below its best at eight times the matched weight."""
    return {name: statistics.fmean(by[best_of(by)]) - statistics.fmean(by[8]) for name, by in found.items()}


def finer(s):
    """Weights from half to eight times the matched one."""
    found = by_weight(s)
    luck, same, count = [], 0, 0
    for by in found.values():
        gains = []
        for seed in range(len(by[1])):
            own = max(by, key=lambda multiple, seed=seed, by=by: by[multiple][seed])
            others = [value for k, value in enumerate(by[own]) if k != seed]
            gains.append(by[own][seed] - statistics.fmean(others))
            same, count = same + (own == best_of(by)), count + 1
        luck.append(statistics.fmean(gains))
    lost = lost_at_eight(found)
    invariant = [name for name in found if get_method(name).standardize or name in ("correlation", "dist")]
    raw = [name for name in found if name not in invariant]
    rows = []
    for name, by in found.items():
        cells = [f"{statistics.fmean(by[m]):.1f}" for m in by]
        at = list(by).index(best_of(by))
        cells[at] = f"**{cells[at]}**"
        rows.append((f"`{name}`", *cells))
    return Finding(
        "Too large a weight ruins what matches raw logits, and costs little where rows are standardized or correlated",
        f"Eight methods at half to eight times their matched λ_KD, three seeds each: at eight times {listed(raw)} are {min(lost[m] for m in raw):.0f} to {max(lost[m] for m in raw):.0f} "
        f"points below their best, and {listed(invariant)} {min(lost[m] for m in invariant):.1f} to {max(lost[m] for m in invariant):.1f}. A weight chosen by one seed is "
        f"the one that all three choose in {same} of {count} cases, and what the seed sees there is {mean_interval(luck):+.1f} points above what the other two reach (mean over the methods).",
        ("validation accuracy, %, at", *("½", "1", "2", "4", "8 times")),
        rows,
    ).check(raw_methods_fall_further=min(lost[m] for m in raw) > 2 * max(lost[m] for m in invariant))


def rule(s):
    """The maximum logit beside constants."""
    three = [s.gap(way, "zkd+mlt", "zkd", together(15)) for way in WAYS]  # of chapter 11's fifteen
    full = [s.at(1.0, "zkd+mlt", "zkd", kind, together(8)) for kind in KINDS]
    raw = [s.gap(kind, "kd+mlt", "kd", together(15)) for kind in KINDS]
    turn = paired_interval(
        *(
            [a - b for a, b in zip(s.last(kind, "kd+mlt"), s.last(kind, "kd"), strict=True)]
            for kind in KINDS[::-1]
        )
    )
    twin = plan_of(EVIDENCE / "twin.json")
    own, height, level = {}, {}, together(len(twin["settings"]))
    for row in twin["settings"]:
        constant = s.runs.of("zkd", row["ce_weight"], row["kd_weight"], twin["tau"])
        colder = s.runs.of("zkd", row["ce_weight"], s.weight(row["weighting"], "zkd"))
        height[row["weighting"], row["ce_weight"]] = paired_interval(constant, colder, level)
        ours = s.runs.of("zkd+mlt", row["ce_weight"], s.weight(row["weighting"], "zkd+mlt"))
        own[row["weighting"], row["ce_weight"]] = paired_interval(ours, constant, level)
    others = ("zkd+mlt-abs", "zkd+mlt-teacher", "correlation")
    family = [s.gap(way, name, "zkd+mlt", together(len(WAYS) * len(others))) for way in WAYS for name in others]
    return Finding(
        "The maximum logit is not ahead of a constant",
        f"On standardized logits its mean is behind the fixed τ = 2 of `zkd` at published, matched and chosen weights (two sets of runs of either), by {', '.join(f'{-one.estimate:.1f}' for one in three)} points; "
        f"beside labels that weigh 1 the two cannot be told apart. From the constant at its own level, τ = {twin['tau']:g}, which takes the choosing by the image away and nothing else, it "
        "cannot be told apart, and that constant is behind τ = 2 as the rule is: what the rule costs is its level, and its choosing by the image shows nothing. On raw logits the weight turns the sign, and neither sign is decided, while the turn is, "
        f"{turn:+.1f}. Of {len(family)} intervals between its definitions and their limit 1 − ρ none excludes zero.",
        ("maximum logit minus a constant", "published λ_KD", "matched λ_KD"),
        [
            ("`zkd+mlt` − `zkd`, τ = 2, λ_CE 0.1", *three[:2]),
            ("the same beside λ_CE 1", *full),
            (f"`zkd+mlt` − `zkd`, τ = {twin['tau']:g}, λ_CE 0.1", *(own[kind, 0.1] for kind in KINDS)),
            ("the same beside λ_CE 1", *(own[kind, 1.0] for kind in KINDS)),
            (f"`zkd`, τ = {twin['tau']:g} − τ = 2, λ_CE 0.1", *(height[kind, 0.1] for kind in KINDS)),
            ("the same beside λ_CE 1", *(height[kind, 1.0] for kind in KINDS)),
            ("`kd+mlt` − `kd`, τ = 4, λ_CE 0.1", *raw),
        ],
    ).check(
        the_fixed_temperature_is_ahead=all(one.estimate < 0 for one in three)
        and three[0].high < 0
        and three[2].high < 0,
        two_sets_of_runs_carry_it=all(
            len({s.study.weights(way, name) for way in WAYS}) == 2 for name in ("zkd", "zkd+mlt")
        ),
        full_labels_leave_it_open=all(0 in one for one in full),
        its_own_level_too=all(0 in one for one in own.values()),
        the_level_is_behind=all(height[kind, 0.1].high < 0 and 0 in height[kind, 1.0] for kind in KINDS),
        raw_logits_too=all(0 in one for one in raw) and raw[0].estimate < 0 < raw[1].estimate and turn.low > 0,
        the_definitions_too=all(0 in one for one in family),
    )


def by_temperature():
    """Accuracies by method and temperature in units of σ, at weights of equal gradient norm; and that σ, of the teacher's rows."""
    plan = plan_of(EVIDENCE / "standardization.json")
    runs = Runs(evidence("standardization"))
    ends = {
        (row["method"], row["spreads"]): runs.of(row["method"], 0.1, row["kd_weight"], row["tau"])
        for row in plan["settings"]
    }
    return ends, plan["spread"]


def standardizing(s):
    """Standardized minus raw at equal softness and force."""
    ends, _ = by_temperature()
    units = sorted({unit for _, unit in ends})
    gaps = [[a - b for a, b in zip(ends["zkd", c], ends["kd", c], strict=True)] for c in units]
    at = {c: mean_interval(gap, together(len(units))) for c, gap in zip(units, gaps, strict=True)}
    over = mean_interval([statistics.fmean(of_seed) for of_seed in zip(*gaps, strict=True)])
    constant = {
        c: paired_interval(ends["zkd", 2.0], ends["zkd", c], together(len(units) - 1)) for c in units if c != 2
    }
    clean = [s.gap(kind, "zkd+mlt", "kd+mlt") for kind in KINDS]
    mixed = [s.gap(way, "zkd", "kd").estimate for way in WAYS]
    return Finding(
        "Standardizing helps where the temperature is low",
        f"`zkd` is ahead of `kd` by {min(mixed):.1f} to {max(mixed):.1f} points, but the two differ in their temperature as well. At one temperature in units of σ, the spread of the "
        f"teacher's rows, and at equal force, standardized logits are ahead at the two lowest of six; the mean over all six is {over:+.1f}. Among constants on standardized logits, read off "
        "from the same runs afterwards, τ = 2 is ahead of 8 and of 30, and of none between 1.2 and 5. The one pair of published methods that differs in nothing but the "
        f"standardization and λ, `zkd+mlt` − `kd+mlt`, has {clean[0]:+.1f} at published weights, which differ tenfold, and {clean[1]:+.1f} at matched ones.",
        ("τ in units of σ", "standardized minus raw", "standardized: τ = 2 minus this one"),
        [(f"{c:g}", at[c], constant.get(c)) for c in units],
    ).check(
        the_two_lowest_are_clear=[c for c in units if at[c].low > 0] == units[:2],
        the_others_are_open=all(0 in at[c] for c in units[2:]),
        the_mean_is_open=0 in over and over.high < min(mixed),
        hot_constants_are_behind=[c for c in constant if 0 not in constant[c]] == units[-2:],
        and_no_other_is=all(one.estimate > 0 for one in constant.values()),
        the_clean_pair_is_open=clean[0].low > 0 and 0 in clean[1],
    )


def schedules(s):
    """Schedules and learned rules beside the constants on their way."""
    plan = plan_of(EVIDENCE / "constants.json")
    records = list(evidence("constants"))
    runs = Runs(records)
    weight = {(row["method"], row.get("tau"), row["weighting"]): row["kd_weight"] for row in plan["settings"]}
    passed = (2.0, 2.5, 3.0, 3.3, 4.0)

    def ends(method, kind, tau=None):
        return runs.of(method, 0.1, weight[method, tau, kind], tau)

    gap = {
        (kind, tau): paired_interval(ends("dts", kind), ends("kd", kind, tau), together(len(passed)))
        for kind in KINDS
        for tau in passed
    }
    rest = [
        paired_interval(ends("ctkd", kind), ends("kd", kind, tau), together(len(KINDS)))
        for kind, tau in zip(KINDS, (3.3, 21.0), strict=True)
    ]
    bound = sum(
        run["history"][-1]["temperature"] > 20.9
        for run in records
        if run["config"]["method"] == "ctkd" and weights_of(run)[1] == weight["ctkd", None, "matched"]
    )
    clear = sum(0 not in one for one in gap.values())
    return Finding(
        "No schedule and no learned rule is shown to do more than a constant",
        f"`dts` falls from 4 to 2 while it trains. Its mean is ahead of five constants on its way at either weight, and {clear} of the {len(gap)} intervals exclude zero; so a constant as "
        f"good is not excluded. `ctkd` learns its temperature: at its published weight it ends at 3.3 and cannot be told from that constant, and at the matched one {bound} of "
        f"{len(SEEDS)} runs end on its bound of 21, behind that constant. (These runs are in fp32, the study's in bf16.)",
        ("rule minus a constant", "published λ_KD", "matched λ_KD"),
        [
            *((f"`dts` − τ = {tau:g}", *(gap[kind, tau] for kind in KINDS)) for tau in passed),
            ("`ctkd` − τ = 3.3 (published), 21 (matched)", *rest),
        ],
    ).check(
        the_schedule_is_ahead_by_the_mean=all(one.estimate > 0 for one in gap.values()),
        ctkd_is_at_rest_or_behind=0 in rest[0] and rest[1].high < 0,
    )


def labels(s):
    """The weight of the labels, alone."""
    families, rows = {}, []
    for name in ("labels", "more_labels"):
        plan = plan_of(EVIDENCE / f"{name}.json")
        settings = dict.fromkeys((row["method"], row["kd_weight"]) for row in plan["settings"])
        families[name] = {
            where: paired_interval(
                *(s.runs.of(where[0], labels, where[1]) for labels in (1.0, 0.1)), together(len(settings))
            )
            for where in settings
        }
    every = {where: one for family in families.values() for where, one in family.items()}
    for method in dict.fromkeys(method for method, _ in every):
        cells = [every.get((method, s.weight(kind, method))) for kind in KINDS]
        rows.append((f"`{method}`", *cells))
    pairs = (("zkd", "kd"), ("zkd+mlt", "kd+mlt"))
    full = {pair: [s.at(1.0, *pair, kind, together(8)) for kind in KINDS] for pair in pairs}
    above = [sum(one.low > 0 for one in family.values()) for family in families.values()]
    ends_at_zero = every["zkd", s.weight("published", "zkd")]
    return Finding(
        "The labels' weight is a part of every verdict",
        f"With λ_CE = 1 in place of 0.1, all else equal, {above[0]} of {len(families['labels'])} intervals lie above zero for the six methods that publish 1, and {above[1]} of "
        f"{len(families['more_labels'])} for four that publish 0.1; none lies below, though that of `zkd` ends at zero (the intervals of the six hold together, and those of the four). What matching costs `dtkd` and `dkd` is this weight. Beside full labels "
        f"the lead of `zkd` over `kd` is {full['zkd', 'kd'][0]:+.1f} at published λ_KD and {full['zkd', 'kd'][1]:+.1f} at matched ones.",
        ("λ_CE 1 minus 0.1", "published λ_KD", "matched λ_KD"),
        rows,
    ).check(
        none_is_below=all(one.high > 0 for one in every.values()),
        that_of_zkd_ends_at_zero=0 < ends_at_zero.high < 0.01,
        zkd_leads_at_one_weight=full["zkd", "kd"][0].low > 0 and 0 in full["zkd", "kd"][1],
    )


def direction(s):
    """Forward and reverse divergence by the temperature."""
    plan = plan_of(EVIDENCE / "direction.json")
    weight = {(row["method"], row["tau"]): row["kd_weight"] for row in plan["settings"]}
    ends = {where: s.runs.of(where[0], 0.1, weight[where], where[1]) for where in weight}
    taus = sorted({tau for _, tau in weight})
    apart = {tau: paired_interval(ends["kd", tau], ends["rkl", tau], together(len(taus))) for tau in taus}
    level = together(3 * (len(taus) - 1))
    gains = {
        (method, tau): paired_interval(ends[method, tau], ends[method, taus[0]], level)
        for method in ("kd", "rkl", "jsd")
        for tau in taus[1:]
    }
    return Finding(
        "A temperature helps the reverse divergence most",
        "The claim is that it helps the forward direction and only rescales the reverse one. At weights that match the gradient norm the reverse KL gains far more from it: at τ = 1 it is where the "
        f"labels alone are, {apart[1.0].estimate:.0f} points behind the forward one, and from 4 on the two cannot be told apart.",
        ("τ", "forward − reverse", "forward, over τ = 1", "reverse, over τ = 1"),
        [(f"{tau:g}", apart[tau], gains.get(("kd", tau)), gains.get(("rkl", tau))) for tau in taus],
    ).check(
        cold_the_forward_one_is_ahead=all(apart[tau].low > 0 for tau in taus[:2]),
        hot_they_are_level=all(0 in apart[tau] for tau in taus[2:]),
        the_reverse_one_gains=all(gains["rkl", tau].low > 3 for tau in taus[1:]),
        at_1_it_is_where_the_labels_are=abs(
            statistics.fmean(ends["rkl", 1.0]) - statistics.fmean(s.last("published", "ce"))
        )
        < 1,
    )


def features(s):
    """The methods on features beside the study's, at published weights."""
    ended, full = defaultdict(dict), {}
    for run in evidence("features"):
        ended[run["config"]["method"]][run["seed"]] = run["result"]["last"]
        full[run["config"]["method"]] = weights_of(run)[0] == 1
    seeds = sorted(set.intersection(*map(set, ended.values())))
    beside = {name: dict(zip(SEEDS, s.last("published", name), strict=True)) for name in ("ce", "kd", "dist")}
    level = together(2 * len(ended))  # against kd and ce, as in chapter 16

    def gap(name, other, level=level):
        return paired_interval(*([row[seed] for seed in seeds] for row in (ended[name], beside[other])), level)

    order = sorted(ended, key=lambda name: -sum(ended[name][seed] for seed in seeds))
    to_dist = gap(order[0], "dist", 0.95)
    released = [ended["catkd-released"][seed] - beside["ce"][seed] for seed in seeds]
    return Finding(
        "The best of the features and the best of the logits cannot be told apart",
        f"Of {len(ended)} methods on features, at published weights and with {len(seeds)} seeds, the first is `{order[0]}`, which is {to_dist:+.1f} from `dist`. "
        f"{sum(full.values())} of them give the labels a weight of 1, where `kd` gives 0.1, so that their difference to `kd` is one of two changes. The released code of CAT-KD ends where the "
        "labels alone do, in every seed and to the last digit.",
        ("features", "minus `kd`"),
        [(f"`{name}`", gap(name, "kd")) for name in order],
    ).check(level_with_dist=0 in to_dist, catkd_as_released_is_ce=not any(released))


def photographs(s):
    """CIFAR-10, at published and matched weights."""
    folder = RECORDS / "cifar10"
    plan = plan_of(folder / "students.json")
    runs = Runs(read_records(folder / "students.jsonl"))
    tau = json.loads((RECORDS / "temperatures" / "cifar10-wrn_16_2.json").read_text(encoding="utf-8"))
    tau = tau["result"]["test"]["tau"]["teacher"]
    weight = {
        (row["method"], row.get("tau"), row["weighting"]): (
            row["ce_weight"],
            row["kd_weight"] if get_method(row["method"]).needs_teacher else None,
        )
        for row in plan["settings"]
    }

    def ends(method, kind, tau=None):
        return runs.of(method, *weight[method, tau, kind], tau)

    (twin,) = {row["tau"] for row in plan["settings"] if "tau" in row}
    pairs = [("zkd", "kd"), ("kd+mlt", "kd"), ("zkd+mlt", "zkd")]
    level = together(2 * len(pairs) + 1)
    gaps = {
        pair: [paired_interval(*(ends(name, kind) for name in pair), level) for kind in KINDS] for pair in pairs
    }
    own = paired_interval(ends("zkd+mlt", "matched"), ends("zkd", "matched", twin), level)
    names = {name for name, *_ in weight} - {"ce"}
    over = [paired_interval(ends(name, kind), ends("ce", "published")) for name in names for kind in KINDS]
    hundred = s.gap("published", "zkd", "kd")
    return Finding(
        "On CIFAR-10 `zkd` is behind `kd` at published weights",
        "With the same networks and recipe and ten classes every method is ahead of the labels alone, by "
        f"{min(one.estimate for one in over):.1f} to {max(one.estimate for one in over):.1f} points. The order of `zkd` and `kd` at published weights is the reverse of CIFAR-100, where the difference is "
        f"{hundred:+.1f}. Between the maximum logit and a constant nothing shows. Its temperatures have a median of {tau['q50']:.2f} and reach {tau['q100']:.2f}, of at most 4.098.",
        ("difference on CIFAR-10", "published λ_KD", "matched λ_KD"),
        [
            *((f"`{one}` − `{other}`", *gaps[one, other]) for one, other in pairs),
            (f"`zkd+mlt` − `zkd`, τ = {twin:g}", "", own),
        ],
    ).check(
        distilling_helps=all(one.low > 0 for one in over),
        zkd_is_behind=gaps["zkd", "kd"][0].high < 0 < hundred.low,
        the_rest_is_open=all(0 in one for one in (own, *gaps["zkd+mlt", "zkd"], gaps["zkd", "kd"][1])),
    )


def start(s):
    """Where to begin, for the page "Which temperature, which weight": a list."""
    found = by_weight(s)
    ends, sigma = by_temperature()
    hot = [statistics.fmean(ends["zkd", 2.0]) - statistics.fmean(ends["zkd", c]) for c in (8.0, 30.0)]
    warm = paired_interval(ends["kd", 3.3], ends["kd", 1.2], together(5))  # of the five above the lowest
    published = get_method("zkd").kd_weight
    best = best_of(found["zkd"]) * s.weight("matched", "zkd")
    lost = lost_at_eight(found)
    Finding("Where to begin", "").check(
        a_larger_weight_is_better=best > published,
        too_large_a_weight_ruins_kd_alone=lost["kd"] > 10 > 4 > lost["zkd"],
        warmer_is_better_on_raw_logits=warm.low > 0,
    )
    points = [
        f"**Standardized logits, τ = 2** (`zkd`). Between 1.2 and 5 no constant could be told from it; 8 and 30 were {hot[0]:.1f} and {hot[1]:.1f} points behind (read off afterwards).",
        f"**λ = {published:g}, then {2 * published:g} and {4 * published:g}.** On the study's validation images {best:g} was the best of five for `zkd`. On standardized logits too large a λ costs "
        f"little ({lost['zkd']:.1f} points at {8 * s.weight('matched', 'zkd'):g}); on raw ones it is ruinous (`kd` at eight times its matched λ: {lost['kd']:.0f} points), so go up there in steps of two.",
        f"**On raw logits not τ = 4 by habit.** What counts is τ in units of σ, the spread of the teacher's rows: at equal gradient norm 3.3 σ was {warm.estimate:.1f} points ahead of 1.2 σ "
        f"[{warm.low:.1f}, {warm.high:.1f}] (read off afterwards), and 4 was {4 / sigma:.1f} σ of this teacher.",
        "**The labels' weight as the method publishes it**: 0.1 for `zkd`, 1 for `dist`, `ttm`, `dkd` and their like.",
        "**An adaptive temperature only if you cannot try two constants.** The maximum logit finds a level by itself, and a constant at that level did as well.",
        "**Other data: try `kd` as well.** On CIFAR-10 it was ahead of `zkd` at published weights.",
    ]
    return "\n".join(
        textwrap.fill(f"{k}. {point}", 120, subsequent_indent="   ", break_on_hyphens=False)
        for k, point in enumerate(points, 1)
    )


LEGEND = (
    "Differences of test accuracy in points, paired by seed (five where nothing else is said), each with its 95 % interval; the intervals of "
    "a table's experiment hold together. **In bold: the interval excludes zero** (of the weights: the best). λ_KD is the weight of the teacher's term, λ_CE that of the labels."
)
LAST = (
    "All of this is a short protocol for two CPU cores, of one teacher and small students, at one learning rate and one length. Students of the labels alone then fit {fitted:.0f} % of "
    "their own images, so that a part of what distilling gains may be that it trains faster. What the paper's own recipe gives awaits a GPU run."
)
FINDINGS = (weights, finer, rule, standardizing, schedules, labels, direction, features, photographs)


def findings(s):
    """All of them, for the page."""
    alone = s.study.runs("published", "ce").values()
    fitted = statistics.mean(run["history"][-1]["train_accuracy"] for run in alone)
    last = LAST.format(fitted=fitted)
    fill = [textwrap.fill(text, 120, break_on_hyphens=False) for text in (LEGEND, last)]
    return "\n\n".join([fill[0], *(str(make(s)) for make in FINDINGS), fill[1]])
