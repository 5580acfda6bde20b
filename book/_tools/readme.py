"""Write the README's table of results from the records, so that none of its numbers is typed.

python book/_tools/readme.py            rewrite README.md between its table marks
python book/_tools/readme.py --check    exit with 1 if that would change it
"""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
DATA_NAMES = {"cifar100": "CIFAR-100", "cifar10": "CIFAR-10", "gratings": "gratings (embedded)"}


def runs():
    """Records of training runs, in a stable order."""
    files = sorted((ROOT / "book" / "records").glob("**/*.json"))
    records = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    return [record for record in records if record["kind"] in ("teacher", "student")]


def accuracy(values):
    """Mean and standard error in percent; one seed has no error."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) / len(values) ** 0.5:.2f}"


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


def rewritten(text, records):
    """The README with its table made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(records)}\n{END}{after}"


def main(arguments):
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    new = rewritten(text, runs())
    if arguments == ["--check"]:
        return int(new != text)
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
