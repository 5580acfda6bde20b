"""Write the README's tables of results from the records, so that none of their numbers is typed.

python book/_tools/readme.py            rewrite README.md between its marks
python book/_tools/readme.py --check    exit with 1 if that would change it
"""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

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


def replaced(text, name, content):
    """The text with what stands between the marks of that name made anew."""
    begin, end = (mark.format(name) for mark in MARKS)
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"README.md has no marks {begin} … {end}")
    return f"{before}{begin}\n{content}\n{end}{after}"


def rewritten(text):
    """The README with its tables made anew."""
    # The short first protocol on CIFAR-100 is on the page of records; the study has taken its place here.
    shown = [r for r in runs() if r["kind"] == "teacher" or r["data"]["name"] != "cifar100"]
    text = replaced(text, "study", study_table(read_study(ROOT / "book" / "records" / "study")))
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
