"""Write the README's tables and findings from the records, so that none of their numbers is typed.

python book/_tools/readme.py            rewrite README.md between its marks
python book/_tools/readme.py --check    exit with 1 if that would change it
"""

import json
import statistics
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

from adakd.statistics import mean_interval, paired_interval
from adakd.study import WAYS, plus_minus, read_study

ROOT = Path(__file__).resolve().parents[2]
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
        length = f"{images:,} × {recipe['epochs']}".replace(",", " ")
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


def findings(study):
    """What the study says, a point each; every number is computed, and a sentence that ceases to hold stops the writing."""
    taught = [name for name in study.methods if name != "ce"]
    published = study.plan["published"]
    forces = [published[name] * study.plan["push"][name] for name in taught]

    def gap(way, one, other, level=0.95):
        ours, theirs = study.runs(way, one), study.runs(way, other)
        seeds = sorted(ours.keys() & theirs.keys())
        return paired_interval(
            *([runs[seed]["result"]["last"] for seed in seeds] for runs in (ours, theirs)), level
        )

    def mean(way, name):
        return statistics.mean(run["result"]["last"] for run in study.runs(way, name).values())

    def end(way):
        return statistics.mean(run["history"][-1]["temperature"] for run in study.runs(way, "ctkd").values())

    moved = statistics.mean(abs(mean("matched", name) - mean("published", name)) for name in taught)
    rule = [gap(way, "zkd+mlt", "zkd") for way in WAYS]
    raw = [gap(way, "kd+mlt", "kd").estimate for way in WAYS[:2]]
    clean = [gap(way, "zkd+mlt", "kd+mlt") for way in WAYS[:2]]
    mixed = [gap(way, "zkd", "kd").estimate for way in WAYS]
    others = ("zkd+mlt-abs", "zkd+mlt-teacher", "correlation")
    together = 1 - 0.05 / (len(WAYS) * len(others))  # all at once, by Bonferroni
    family = [gap(way, name, "zkd+mlt", together) for way in WAYS for name in others]
    holds = (
        all(found.estimate < 0 for found in rule),
        raw[0] < 0 < raw[1],
        clean[0].low > 0 and 0 in clean[1] and min(mixed) > 0,
        all(0 in found for found in family),
    )
    if not all(holds):
        raise ValueError(f"the records no longer say what `findings` says: {holds}; write its sentences anew")
    points = [
        "**The weight is half of a method.** At published weights methods pull with forces that differ up to "
        f"{max(forces) / min(forces):.0f}-fold, and equal forces move a method by {moved:.1f} points on average (for seven of them the "
        "weight on the labels changes as well). The weight even decides where a learned temperature goes: that of CTKD ends at "
        f"{end('published'):.1f} with its published weight, and on its bound of 21 with one that pulls as hard as the others.",
        "**The maximum logit does not beat a good constant here.** On standardized logits the mean of the fixed τ = 2 (`zkd`) is ahead of "
        f"it at each kind of weight, by {', '.join(f'{-found.estimate:.1f}' for found in rule)} points, and in "
        f"{sum(found.high < 0 for found in rule)} of {len(rule)} the interval excludes zero. Its three definitions and their limit 1 − ρ "
        f"(`correlation`) cannot be told apart: of {len(family)} simultaneous intervals between them none excludes zero. On raw logits it is behind plain KD at the published weight, and equal force turns that by {raw[1] - raw[0]:.1f} points.",
        f"**Whether standardizing helps is open.** `zkd` is ahead of `kd` by {min(mixed):.1f} to {max(mixed):.1f} points, but the two differ "
        "in temperature as well. The pair with one rule of temperature, `zkd+mlt` minus `kd+mlt`, has "
        f"{clean[0]:+.2f} at its published weights, which differ tenfold, and {clean[1]:+.2f} at equal force. The experiment that "
        "takes the two apart is under way.",
        "It is a short protocol for two CPU cores. What the paper's own recipe gives awaits a GPU run.",
    ]
    return "\n".join(
        textwrap.fill(f"- {point}", 120, subsequent_indent="  ", break_on_hyphens=False) for point in points
    )


def replaced(text, name, content):
    """The text with what stands between the marks of that name made anew."""
    begin, end = (mark.format(name) for mark in MARKS)
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"README.md has no marks {begin} … {end}")
    return f"{before}{begin}\n{content}\n{end}{after}"


def rewritten(text):
    """The README with its tables and findings made anew."""
    # The short first protocol on CIFAR-100 is on the page of records; the study has taken its place here.
    shown = [r for r in runs() if r["kind"] == "teacher" or r["data"]["name"] != "cifar100"]
    study = read_study(ROOT / "book" / "records" / "study")
    text = replaced(replaced(text, "study", study_table(study)), "findings", findings(study))
    return replaced(text, "table", table(shown))


def main(arguments):
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    new = rewritten(text)
    if arguments == ["--check"]:
        return int(new != text)
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
