"""Write the tables and findings of the front pages from the records, so that none of their numbers is typed.

python book/_tools/readme.py            rewrite README.md, and intro, findings and which of the book, between their marks
python book/_tools/readme.py --check    exit with 1 if that would change one of them
"""

import argparse
import json
import statistics
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

from findings import Finding, Study, findings, start

from adakd.statistics import mean_interval
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


def spaced(number):
    return f"{number:,}".replace(",", " ")


def answer(s):
    """Three sentences on whether it helps."""
    over_labels = [s.gap(way, name, "ce") for way in WAYS for name in s.taught]
    published, matched = (s.gap(way, "zkd+mlt", "zkd") for way in WAYS[:2])
    recipe = s.study.plan["config"]["recipe"]
    weight = s.gap_of_ways("kd+mlt")
    Finding("Does it help?", "").check(
        distilling_helps=all(one.low > 0 for one in over_labels),
        the_rule_is_behind=published.high < 0 and matched.estimate < 0 and 0 in matched,
        the_weight_matters_more=weight.low > -published.low,
    )
    text = (
        f"**Does it help?** Distilling does: students of {spaced(recipe['train_images'])} images of CIFAR-100, whose teacher saw all 50 000, are ahead of the labels "
        f"alone by each of the study's {len(s.taught)} methods, by {min(one.estimate for one in over_labels):.1f} to {max(one.estimate for one in over_labels):.1f} points. The paper's adaptive "
        "temperature, the maximum logit, does not help beside a constant: on standardized logits it is behind the fixed τ = 2 by "
        f"{-published.estimate:.1f} points at published weights, and by {-matched.estimate:.1f}, which five seeds do not decide, at equal gradient norm; where the labels "
        "weigh 1 in place of 0.1 nothing is decided, and from a constant at its own level it cannot be told apart anywhere. The weight matters more: on raw logits "
        f"the same rule (`kd+mlt`) gains {weight.estimate:.1f} points when its weight goes from the published one to that of equal norm."
    )
    return textwrap.fill(text, 120, break_on_hyphens=False)


def use(s, advice):
    """What to use when: each line with its settings, and what the study measured of it."""
    protocol, best, best_kl = advice["protocol"], advice["best"][0], advice["best_kl"][0]

    def by_advice(row):
        weights = f"λ {row['kd_weight']:g}, λ_CE {row['ce_weight']:g}"
        return weights, f"{row['accuracy']:.2f} ± {(row['high'] - row['low']) / 2:.2f}"

    def chosen(name):
        (line,) = (line for line in s.study.table("chosen", ()) if line.name == name)
        weights = s.study.weights("chosen", name)
        with_them = "λ_CE 1" if weights[1] is None else f"λ {weights[1]:.3g}, λ_CE {weights[0]:g}"
        return with_them, plus_minus(line.accuracy)

    rows = [
        ("the best of the study", f"`{best['method']}`", *by_advice(best)),
        ("the Kullback-Leibler divergence", f"`{best_kl['method']}`", *by_advice(best_kl)),
        ("a temperature for each image", "`zkd+mlt`", *chosen("zkd+mlt")),
        ("no teacher: what all others are compared with", "`ce`", *chosen("ce")),
    ]
    lines = [
        "| you want | take | with | accuracy in the study, % |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    about = (
        f"{protocol['data']}, {protocol['student']} from {protocol['teacher']}, {spaced(protocol['train_images'])} images × "
        f"{protocol['epochs']} epochs, mean of {protocol['seeds']} seeds ± half of a 95 % interval; λ weighs the teacher's term and λ_CE the labels. On other data "
        "the order may differ: on CIFAR-10 `kd` is ahead of `zkd` at published weights."
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
    s = Study(study)
    parts = {
        "README.md": {"answer": answer(s), "use": use(s, advice)},
        "book/intro.md": {"answer": answer(s)},
        "book/which.md": {"start": start(s)},
        "book/findings.md": {
            "answer": answer(s),
            "study": study_table(study),
            "findings": findings(s),
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
