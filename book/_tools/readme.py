"""Write the tables and findings of the front pages from the records, so that none of their numbers is typed.

python book/_tools/readme.py            rewrite README.md, book/intro.md and book/findings.md between their marks
python book/_tools/readme.py --check    exit with 1 if that would change one of them
"""

import argparse
import json
import statistics
import sys
import textwrap
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

from adakd import get_method
from adakd.statistics import mean_interval, paired_interval
from adakd.study import WAYS, plus_minus, read_records, read_study, weights_of

ROOT = Path(__file__).resolve().parents[2]
PAIRS_OF_CHAPTER_11 = 15  # five pairs, three ways: its intervals of the temperature hold all together
LABELS = "labels", "more_labels"  # experiments on the labels' weight
MARKS = "<!-- {}:begin -->", "<!-- {}:end -->"
DATA_NAMES = {"cifar100": "CIFAR-100", "cifar10": "CIFAR-10", "gratings": "gratings (embedded)"}


def runs():
    """Records of training runs, in a stable order."""
    files = sorted((ROOT / "book" / "records").glob("**/*.json"))
    records = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    return [record for record in records if record["kind"] in ("teacher", "student")]


def accuracy(values):
    """Mean ± half of its 95 % interval, in percent; one seed has none, and the column beside it says how many."""
    return f"{values[0]:.2f}" if len(values) == 1 else plus_minus(mean_interval(values))


def table(records):
    """One line for runs that differ in nothing but their seed."""
    groups = defaultdict(list)
    for record in records:
        config, teacher = record["config"], record["teacher"]
        recipe = config["recipe"]
        images = recipe["train_images"] or record["data"]["train_images"]
        options = "".join(f", {key}={value:g}" for key, value in config["method_options"].items())
        taught = f"{config['method']}{options}" if teacher else "labels alone (ce)"
        length = f"{spaced(images)} × {recipe['epochs']}"
        role = "teacher" if record["kind"] == "teacher" else "student"
        groups[record["data"]["name"], role == "student", config["model"], taught, length].append(record)
    lines = [
        "| data | network | trained by | images × epochs | seeds | test accuracy, % |",
        "|---|---|---|---|---|---|",
    ]
    means = {key: statistics.mean(r["result"]["last"] for r in group) for key, group in groups.items()}
    for key in sorted(groups, key=lambda key: (key[:2], means[key])):
        data, student, model, taught, length = key
        values = [record["result"]["last"] for record in groups[key]]
        role = "student" if student else "teacher"
        name = DATA_NAMES.get(data, data)
        lines.append(f"| {name} | {role} {model} | {taught} | {length} | {len(values)} | {accuracy(values)} |")
    return "\n".join(lines)


def study_table(study):
    """A line a method, a column for each kind of weights; the best at chosen weights comes first.

    Accuracy in percent, ± half of a 95 % interval where several seeds have run, with the weight on the teacher.
    """
    lines = {way: {line.name: line for line in study.table(way, ())} for way in WAYS}
    titles = ("method", "seeds", *WAYS)
    rows = [f"| {' | '.join(titles)} |", f"|---{'|---:' * (len(titles) - 1)}|"]
    for name in lines["chosen"]:
        found = [lines[way][name] for way in WAYS if name in lines[way]]
        cells = [name, str(min(len(line.seeds) for line in found))]
        for way in WAYS:
            weights, line = study.weights(way, name), lines[way].get(name)
            weight = "" if weights is None or weights[1] is None else f" (λ {weights[1]:.3g})"
            cells.append("–" if line is None else plus_minus(line.accuracy) + weight)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def numbers(study):
    """What the sentences below speak of; one that ceases to hold stops the writing."""
    taught = [name for name in study.methods if name != "ce"]
    published = study.plan["published"]
    forces = [published[name] * study.plan["gradient_norm"][name] for name in taught]

    def differences(way, one, other):
        ours, theirs = study.runs(way, one), study.runs(way, other)
        seeds = sorted(ours.keys() & theirs.keys())
        return [ours[seed]["result"]["last"] - theirs[seed]["result"]["last"] for seed in seeds]

    def gap(way, one, other, level=0.95):
        return mean_interval(differences(way, one, other), level)

    def mean(way, name):
        return statistics.mean(run["result"]["last"] for run in study.runs(way, name).values())

    def end(way):
        return statistics.mean(run["history"][-1]["temperature"] for run in study.runs(way, "ctkd").values())

    def moved(names):
        return statistics.mean(abs(mean("matched", name) - mean("published", name)) for name in names)

    def sets_of_runs(name):
        return len({study.weights(way, name) for way in WAYS})

    turn = paired_interval(*(differences(way, "kd+mlt", "kd") for way in ("matched", "published")))
    labels = study.plan["config"]["ce_weight"]  # of matched and chosen weights
    others = ("zkd+mlt-abs", "zkd+mlt-teacher", "correlation")
    together = 1 - 0.05 / (len(WAYS) * len(others))  # all at once, by Bonferroni
    found = SimpleNamespace(
        taught=taught,
        images=study.plan["config"]["recipe"]["train_images"],
        forces=max(forces) / min(forces),
        moved=moved(taught),
        moved_alone=moved([name for name in taught if study.weights("published", name)[0] == labels]),
        labels_too=sum(study.weights("published", name)[0] != labels for name in taught),
        over_labels=[gap(way, name, "ce") for way in WAYS for name in taught],
        rule=[gap(way, "zkd+mlt", "zkd") for way in WAYS],
        raw=[gap(way, "kd+mlt", "kd", 1 - 0.05 / PAIRS_OF_CHAPTER_11) for way in WAYS[:2]],
        turn=turn,
        clean=[gap(way, "zkd+mlt", "kd+mlt") for way in WAYS[:2]],
        mixed=[gap(way, "zkd", "kd").estimate for way in WAYS],
        family=[gap(way, name, "zkd+mlt", together) for way in WAYS for name in others],
        ctkd=[end(way) for way in WAYS[:2]],
        lowest=[
            min(epoch["temperature"] for epoch in run["history"][:6])
            for run in study.runs("matched", "ctkd").values()
        ],
    )
    holds = {
        "every method is ahead of the labels": all(one.low > 0 for one in found.over_labels),
        "the fixed temperature is ahead": all(one.estimate < 0 for one in found.rule),
        "two sets of runs carry it": sets_of_runs("zkd") == sets_of_runs("zkd+mlt") == 2,
        "the weights move a method by as much": min(-one.estimate for one in found.rule)
        < found.moved_alone
        < found.moved,
        "the labels' weight changes for seven": found.labels_too == 7,
        "equal force turns the means on raw logits": found.raw[0].estimate < 0 < found.raw[1].estimate,
        "either of them is undecided, and the turn is not": all(0 in one for one in found.raw)
        and found.turn.low > 0,
        "CTKD had been near 3": all(abs(low - 3) < 0.1 for low in found.lowest),
        "standardizing is open": found.clean[0].low > 0 and 0 in found.clean[1] and min(found.mixed) > 0,
        "the definitions cannot be told apart": all(0 in one for one in found.family),
    }
    wrong = [sentence for sentence, does in holds.items() if not does]
    if wrong:
        raise ValueError(f"the records no longer say: {'; '.join(wrong)}. Write the sentences anew")
    return found


def on_features(study):
    """How the methods on features end beside the study's, at published weights, in the seeds that all of them have."""
    ended, labels = defaultdict(dict), {}
    for run in read_records(ROOT / "book" / "records" / "evidence" / "features.jsonl"):
        ended[run["config"]["method"]][run["seed"]] = run["result"]["last"]
        labels[run["config"]["method"]] = weights_of(run)[0]
    seeds = sorted(set.intersection(*(set(values) for values in ended.values())))
    beside = {
        name: {seed: run["result"]["last"] for seed, run in study.runs("published", name).items()}
        for name in ("ce", "kd", "dist")
    }
    level = 1 - 0.05 / (2 * len(ended))  # against kd and ce, all at once, as in chapter 16

    def gap(name, other, level=level):
        return paired_interval(
            [ended[name][seed] for seed in seeds], [beside[other][seed] for seed in seeds], level
        )

    best = max(ended, key=lambda name: sum(ended[name][seed] for seed in seeds))
    found = SimpleNamespace(
        count=len(ended),
        seeds=len(seeds),
        full_labels=sum(weight == 1 for weight in labels.values()),
        best=best,
        gap=gap(best, "dist", 0.95),
        ahead=sorted(name for name in ended if gap(name, "kd").low > 0),
        behind=sorted(name for name in ended if gap(name, "kd").high < 0),
        released=[ended["catkd-released"][seed] - beside["ce"][seed] for seed in seeds],
    )
    if any(found.released) or 0 not in found.gap:
        raise ValueError("the records of features no longer say what their finding says. Write it anew")
    return found


def on_standardizing():
    """Standardized minus raw at equal softness and force: at each temperature, all together, and over the temperatures."""
    folder = ROOT / "book" / "records" / "evidence"
    plan = json.loads((folder / "standardization.json").read_text(encoding="utf-8"))["config"]
    wanted = {(row["method"], row["tau"], row["kd_weight"]): row["spreads"] for row in plan["settings"]}
    ended = defaultdict(dict)
    for run in read_records(folder / "standardization.jsonl"):
        method, options = run["config"]["method"], run["config"]["method_options"]
        tau = options.get("tau", {"kd": 4.0, "zkd": 2.0}.get(method))
        spreads = wanted.get((method, tau, options.get("kd_weight", get_method(method).kd_weight)))
        if spreads and options.get("ce_weight", 0.1) == 0.1 and run["seed"] in plan["seeds"]:  # as chapter 11
            ended[method, spreads][run["seed"]] = run["result"]["last"]
    seeds = sorted(set.intersection(*map(set, ended.values())))
    gaps = {
        spreads: [ended["zkd", spreads][seed] - ended["kd", spreads][seed] for seed in seeds]
        for spreads in sorted(set(wanted.values()))
    }
    over = [statistics.fmean(of_seed) for of_seed in zip(*gaps.values(), strict=True)]
    at = {spreads: mean_interval(each, 1 - 0.05 / len(gaps)) for spreads, each in gaps.items()}
    if len(seeds) < len(plan["seeds"]):
        raise ValueError(f"of {len(plan['seeds'])} planned seeds {len(seeds)} are whole")
    return SimpleNamespace(seeds=len(seeds), over=mean_interval(over), at=at)


def on_constants():
    """Schedules minus the constants on their way, as chapter 11 has them; and how many runs of CTKD end on its bound."""
    folder = ROOT / "book" / "records" / "evidence"
    plan = json.loads((folder / "constants.json").read_text(encoding="utf-8"))["config"]
    weighting = {
        (row["method"], row.get("tau"), row["kd_weight"]): row["weighting"] for row in plan["settings"]
    }
    ended, bound = defaultdict(dict), 0
    for run in read_records(folder / "constants.jsonl"):
        method, options = run["config"]["method"], run["config"]["method_options"]
        tau = options.get("tau", {"kd": 4.0}.get(method))
        way = weighting[method, tau, options.get("kd_weight", get_method(method).kd_weight)]
        ended[method, tau, way][run["seed"]] = run["result"]["last"]
        bound += (method, way) == ("ctkd", "matched") and run["history"][-1]["temperature"] > 20.9
    if set(map(frozenset, ended.values())) != {frozenset(plan["seeds"])}:
        raise ValueError(f"not all of {len(plan['seeds'])} planned seeds are whole")

    def gap(rule, tau, way, level):
        ours, constant = ended[rule, None, way], ended["kd", tau, way]
        return paired_interval([ours[s] for s in plan["seeds"]], [constant[s] for s in plan["seeds"]], level)

    passed = (2.0, 2.5, 3.0, 3.3, 4.0)
    schedule = [gap("dts", tau, way, 1 - 0.05 / len(passed)) for way in WAYS[:2] for tau in passed]
    at_rest = gap("ctkd", 3.3, "published", 0.95), gap("ctkd", 21.0, "matched", 0.95)
    if min(one.estimate for one in schedule) < 0 or 0 not in at_rest[0] or at_rest[1].high > 0:
        raise ValueError("the records of constants no longer say what their finding says. Write it anew")
    return SimpleNamespace(seeds=len(plan["seeds"]), schedule=schedule, at_rest=at_rest, bound=bound)


def on_labels(study):
    """Accuracy at λ_CE = 1 minus that at 0.1, all else equal, of each method and λ_KD; the intervals of a family hold together.

    And, at λ_CE = 1, pairs of methods at their published and at their matched λ_KD, as chapter 11 has them.
    """
    folder, families, at = ROOT / "book" / "records" / "evidence", {}, {}
    ended = defaultdict(dict)
    for run in [*study.records, *(run for name in LABELS for run in read_records(folder / f"{name}.jsonl"))]:
        if "tau" not in run["config"]["method_options"]:
            ended[run["config"]["method"], *weights_of(run)][run["seed"]] = run["result"]["last"]

    def of(method, labels, weight):
        return [ended[method, labels, weight][seed] for seed in plan["seeds"]]

    for name in LABELS:
        plan = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["config"]
        at |= {(row["method"], row["weighting"]): row["kd_weight"] for row in plan["settings"]}
        pairs = dict.fromkeys((row["method"], row["kd_weight"]) for row in plan["settings"])
        families[name] = {
            (method, weight): paired_interval(
                of(method, 1.0, weight), of(method, 0.1, weight), 1 - 0.05 / len(pairs)
            )
            for method, weight in pairs
        }

    def full(one, other):
        weights = [(at[one, way], at[other, way]) for way in WAYS[:2]]
        return [paired_interval(of(one, 1.0, a), of(other, 1.0, b), 1 - 0.05 / 8) for a, b in weights]

    def worth(method):
        return [families["labels"][method, at[method, way]].estimate for way in WAYS[:2]]

    found = SimpleNamespace(
        families=[list(families[name].values()) for name in LABELS],
        worth={name: worth(name) for name in ("dtkd", "dkd")},
        rule=full("zkd+mlt", "zkd"),
        standardized=full("zkd", "kd"),
    )
    behind = [one for family in found.families for one in family if one.high < 0]
    decided = [one for one in found.rule if 0 not in one]
    if behind or decided or found.standardized[0].low < 0 or 0 not in found.standardized[1]:
        raise ValueError(
            "the records on the labels' weight no longer say what their finding says. Write it anew"
        )
    return found


def on_photographs():
    """CIFAR-10: the teacher's temperatures, and differences of methods at published and matched weights, all together."""
    folder = ROOT / "book" / "records" / "cifar10"
    plan = json.loads((folder / "students.json").read_text(encoding="utf-8"))["config"]
    temperatures = ROOT / "book" / "records" / "temperatures" / "cifar10-wrn_16_2.json"
    weights = {
        (row["method"], row.get("tau"), row["weighting"]): row["kd_weight"]
        if get_method(row["method"]).needs_teacher
        else None
        for row in plan["settings"]
    }
    ended = defaultdict(dict)
    for run in read_records(folder / "students.jsonl"):
        method, tau = run["config"]["method"], run["config"]["method_options"].get("tau")
        ended[method, tau, weights_of(run)[1]][run["seed"]] = run["result"]["last"]

    def of(method, way, tau=None):
        return [ended[method, tau, weights[method, tau, way]][seed] for seed in plan["seeds"]]

    (twin,) = {row["tau"] for row in plan["settings"] if "tau" in row}
    pairs = [("zkd", "kd"), ("kd+mlt", "kd"), ("zkd+mlt", "zkd")]
    level = 1 - 0.05 / (2 * len(pairs) + 1)
    found = SimpleNamespace(
        seeds=len(plan["seeds"]),
        twin=twin,
        tau=json.loads(temperatures.read_text(encoding="utf-8"))["result"]["test"]["tau"]["teacher"],
        over_labels=[
            paired_interval(of(name, way), of("ce", "published"))
            for name, tau, way in weights
            if name != "ce" and tau is None
        ],
        beside_twin=paired_interval(of("zkd+mlt", "matched"), of("zkd", "matched", twin), level),
        gaps={
            pair: [paired_interval(of(pair[0], way), of(pair[1], way), level) for way in WAYS[:2]]
            for pair in pairs
        },
    )
    undecided = [found.beside_twin, *found.gaps["zkd+mlt", "zkd"], found.gaps["zkd", "kd"][1]]
    one_behind = min(one.low for one in found.over_labels) > 0 > found.gaps["zkd", "kd"][0].high
    if not one_behind or not all(0 in one for one in undecided):
        raise ValueError("the records of CIFAR-10 no longer say what their finding says. Write it anew")
    return found


def spaced(number):
    return f"{number:,}".replace(",", " ")


def answer(found):
    """Three sentences on whether it helps."""
    behind = sorted(-one.estimate for one in found.rule)
    clear = sum(one.high < 0 for one in found.rule)
    low, high = (f(one.estimate for one in found.over_labels) for f in (min, max))
    text = (
        f"**Does it help?** Distilling does: on CIFAR-100 with {spaced(found.images)} images every one of the study's {len(found.taught)} methods "
        f"is ahead of the labels alone, by {low:.1f} to {high:.1f} points. The paper's adaptive temperature, the maximum logit, does not, beside a "
        f"good constant: on standardized logits its mean is {behind[0]:.1f} to {behind[-1]:.1f} points behind the fixed τ = 2 at each of "
        f"{len(found.rule)} kinds of weights (two sets of runs; in {clear} of the {len(found.rule)} the interval excludes zero), and where the labels "
        "weigh 1 in place of 0.1 the two cannot be told apart. The weight "
        f"matters as much as the temperature, since from its published weight to that of equal force a method moves by {found.moved:.1f} points on "
        f"average, and by {found.moved_alone:.1f} where only the weight on the teacher changes."
    )
    return textwrap.fill(text, 120, break_on_hyphens=False)


def findings(found, features, apart, constants, labels, photographs):
    """What the study says, a point each."""
    clear = [spreads for spreads, one in apart.at.items() if 0 not in one]
    lowest = list(apart.at)[:2]
    if (
        0 not in apart.over
        or apart.over.high > min(found.mixed)
        or clear != lowest
        or apart.at[lowest[0]].low < 0
    ):
        raise ValueError("the records on standardizing no longer say what their finding says. Write it anew")
    points = [
        "**The weight is half of a method.** At published weights methods pull with forces that differ up to "
        f"{found.forces:.0f}-fold, and equal forces move a method by {found.moved:.1f} points on average (for seven of them the "
        "weight on the labels changes as well). The weight even decides whether a learned temperature settles: that of CTKD ends at "
        f"{found.ctkd[0]:.1f} with its published weight, and on its bound of 21, after it had been near 3, with one that pulls as hard as "
        "the others, in every run of the study.",
        "**The maximum logit does not beat a good constant here.** On standardized logits the mean of the fixed τ = 2 (`zkd`) is ahead of "
        f"it at published weights, at equal force and at weights chosen on held-out images, by {', '.join(f'{-one.estimate:.1f}' for one in found.rule)} points "
        f"(two of the three coincide for either method); in {sum(one.high < 0 for one in found.rule)} of {len(found.rule)} the interval excludes zero. Its three definitions and their limit 1 − ρ "
        f"(`correlation`) cannot be told apart: of {len(found.family)} simultaneous intervals between them none excludes zero. On raw logits its mean is behind that of plain KD at the published weight and ahead at equal force, either of them undecided among the fifteen intervals of chapter 11, while the turn from one to the other is {found.turn.estimate:.1f} points, by an interval that excludes zero.",
        f"**Standardizing helps where the temperature is low.** `zkd` is ahead of `kd` by {min(found.mixed):.1f} to {max(found.mixed):.1f} points, but the two "
        "differ in temperature as well. At one temperature in units of the teacher's spread and at equal force, standardized minus raw logits is "
        f"{apart.at[lowest[0]]:+.2f} and {apart.at[lowest[1]]:+.2f} at {lowest[0]:g} and {lowest[1]:g} spreads, the lowest of six temperatures, by {apart.seeds} seeds; of the other "
        f"four simultaneous intervals none excludes zero, and the mean over all six is {apart.over:+.2f}. The pair with one rule of temperature, `zkd+mlt` minus "
        f"`kd+mlt`, has {found.clean[0]:+.2f} at its published weights, which differ tenfold, and {found.clean[1]:+.2f} at equal force.",
        "**A schedule is ahead of the constants on its way by the mean.** `dts`, from 4 down to 2, is ahead of plain KD at each of five temperatures "
        f"between by {min(one.estimate for one in constants.schedule):.1f} to {max(one.estimate for one in constants.schedule):.1f} points, by {constants.seeds} seeds and two kinds of weights; of the {len(constants.schedule)} intervals "
        f"{sum(one.low > 0 for one in constants.schedule)} exclude zero, so that a constant as good is not excluded. The learned temperature of `ctkd` is {constants.at_rest[0]:+.2f} from the constant 3.3, at which it "
        f"ends at its published weight, and {constants.at_rest[1]:+.2f} from 21, its bound, where {constants.bound} of {constants.seeds} runs end at equal force. (These runs are in fp32; the study's are in bf16.)",
        "**The labels' weight is a part of every verdict.** With λ_CE = 1 in place of 0.1, all else equal, "
        f"{sum(one.low > 0 for one in labels.families[0])} of {len(labels.families[0])} differences are above zero for the six methods that publish 1, "
        f"and {sum(one.low > 0 for one in labels.families[1])} of {len(labels.families[1])} for four that publish 0.1, in intervals that hold together in each "
        f"family; none is below. To `dtkd` it is worth {labels.worth['dtkd'][0]:.1f} points at its published λ and {labels.worth['dtkd'][1]:.1f} at the matched one, and to `dkd` {labels.worth['dkd'][0]:.1f} and "
        f"{labels.worth['dkd'][1]:.1f}, which is as much as matching costs them. Beside full labels `zkd` minus `kd` is {labels.standardized[0]:+.2f} at published weights on the teacher and "
        f"{labels.standardized[1]:+.2f} at matched ones, and `zkd+mlt` minus `zkd` {labels.rule[0]:+.2f} and {labels.rule[1]:+.2f}.",
        "**The best of the features and the best of the logits cannot be told apart.** "
        f"Of {features.count} methods on features, at published weights and with {features.seeds} seeds, "
        f"{listed(features.ahead)} are ahead of `kd` in simultaneous intervals, and {listed(features.behind)} behind it. The best, "
        f"`{features.best}`, is {features.gap.estimate:+.2f} [{features.gap.low:+.2f}, {features.gap.high:+.2f}] from `dist`, the best of the "
        f"study on logits. Of the {features.count} methods, {features.full_labels} have a weight of 1 on the labels, where `kd` has 0.1, so that their difference to `kd` is one of two "
        "changes. The released code of CAT-KD ends where the labels alone do, in every seed and to the last digit.",
        "**On CIFAR-10 `zkd` is behind `kd` at published weights.** With the same networks and recipe and ten classes, every method is ahead of the labels alone, by "
        f"{min(one.estimate for one in photographs.over_labels):.1f} to {max(one.estimate for one in photographs.over_labels):.1f} points, but `zkd` minus `kd` is {photographs.gaps['zkd', 'kd'][0]:+.2f} at published weights, where "
        f"CIFAR-100 has {found.mixed[0]:+.1f}, and {photographs.gaps['zkd', 'kd'][1]:+.2f} at equal force. Between the maximum logit and a constant nothing shows: on standardized logits it is "
        f"{photographs.gaps['zkd+mlt', 'zkd'][0]:+.2f} and {photographs.gaps['zkd+mlt', 'zkd'][1]:+.2f} from τ = 2, and {photographs.beside_twin:+.2f} from its own mean of {photographs.twin:g}, by {photographs.seeds} seeds. "
        f"Its temperatures have a median of {photographs.tau['q50']:.2f} and reach {photographs.tau['q100']:.2f}, of at most 4.098.",
        "It is a short protocol for two CPU cores. What the paper's own recipe gives awaits a GPU run.",
    ]
    return "\n".join(
        textwrap.fill(f"- {point}", 120, subsequent_indent="  ", break_on_hyphens=False) for point in points
    )


def listed(names):
    *first, last = (f"`{name}`" for name in names) if names else ("none",)
    return f"{', '.join(first)} and {last}" if first else last


def use(study, found, advice):
    """What to use when: each line with what the study measured of it."""
    protocol = advice["protocol"]

    def by_advice(row):
        half = (row["high"] - row["low"]) / 2
        return (
            f"{row['accuracy']:.2f} ± {half:.2f} (λ {row['kd_weight']:g}, on the labels {row['ce_weight']:g})"
        )

    def chosen(name):
        (line,) = (line for line in study.table("chosen", ()) if line.name == name)
        weights = study.weights("chosen", name)
        weight = (
            ""
            if weights is None or weights[1] is None
            else f" (λ {weights[1]:.3g}, on the labels {weights[0]:g})"
        )
        return plus_minus(line.accuracy) + weight

    best, best_kl = advice["best"][0], advice["best_kl"][0]
    rows = [
        ("the best of the study", f"`{best['method']}`", by_advice(best)),
        ("the Kullback-Leibler divergence, and one temperature", f"`{best_kl['method']}`", by_advice(best_kl)),
        ("no temperature to choose", "`zkd+mlt`", chosen("zkd+mlt")),
        ("no teacher: what all others are compared with", "`ce`", chosen("ce")),
    ]
    lines = [
        "| you want | take | accuracy in the study, % |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    about = (
        f"{protocol['data']}, {protocol['student']} from {protocol['teacher']}, {spaced(protocol['train_images'])} images × "
        f"{protocol['epochs']} epochs, mean of {protocol['seeds']} seeds ± half of a 95 % interval. Choose the weight before "
        f"the temperature: published weights differ {found.forces:.0f}-fold in force."
    )
    further = "`adakd methods NAME` shows a method whole, and `adakd advise logits.npy` finds weights for your data and networks."
    paragraphs = (textwrap.fill(text, 120, break_on_hyphens=False) for text in (about, further))
    return "\n".join([*lines, "", "\n\n".join(paragraphs)])


def replaced(text, name, content):
    """The text with what stands between the marks of that name made anew."""
    begin, end = (mark.format(name) for mark in MARKS)
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"there are no marks {begin} … {end}")
    return f"{before}{begin}\n{content}\n{end}{after}"


def written():
    """Path and new text of every page that has such a part."""
    # The short first protocol on CIFAR-100 is on the page of records; the study has taken its place here.
    shown = [r for r in runs() if r["kind"] == "teacher" or r["data"]["name"] != "cifar100"]
    study = read_study(ROOT / "book" / "records" / "study")
    advice = json.loads((ROOT / "adakd" / "advice.json").read_text(encoding="utf-8"))
    found = numbers(study)
    parts = {
        "README.md": {"answer": answer(found), "use": use(study, found, advice)},
        "book/intro.md": {"answer": answer(found)},
        "book/findings.md": {
            "answer": answer(found),
            "study": study_table(study),
            "findings": findings(
                found,
                on_features(study),
                on_standardizing(),
                on_constants(),
                on_labels(study),
                on_photographs(),
            ),
            "table": table(shown),
        },
    }
    for name, contents in parts.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for part, content in contents.items():
            text = replaced(text, part, content)
        yield ROOT / name, text


def parsed(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if that would change something"
    )
    return parser.parse_args(arguments)


def main(arguments):
    only_check = parsed(arguments).check
    stale = [(path, text) for path, text in written() if path.read_text(encoding="utf-8") != text]
    if only_check:
        return int(bool(stale))
    for path, text in stale:
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
