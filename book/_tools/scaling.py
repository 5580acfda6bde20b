"""Write what the grids would take, book/scaling_table.md, from the roofline of `adakd.bench` and from nothing measured.

python book/_tools/scaling.py            write the file anew
python book/_tools/scaling.py --check    exit with 1 if that would change it
"""

import argparse
import sys
from pathlib import Path

from adakd.sweep import estimate, read_grid
from adakd.sweep.estimate import hours, live, size

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "book" / "scaling_table.md"
GRIDS = ("table1", "table2", "table4", "fig2")
GPUS = ("T4", "H100")
CLUSTER = 8  # H100s, which divide the hours at best


def row(name):
    """A line of the table: a grid from nothing, its teachers included."""
    grid = read_grid(ROOT / "grids" / f"{name}.toml")
    teachers = sorted({cell.teacher for cell in grid.cells() if cell.teacher is not None})
    found = estimate(grid, missing=teachers, gpus=GPUS)
    cells = [
        f"`{name}`",
        f"{found.runs:,}".replace(",", " "),
        str(found.teachers),
        f"{found.steps / 1e6:.1f}",
        "along" if live(grid) else f"kept, {size(found.caches)}",
        *(hours(found.hours[gpu]) for gpu in GPUS),
        hours(found.hours["H100"] / CLUSTER),
        size(found.weights),
    ]
    return f"| {' | '.join(cells)} |"


def table():
    """The content of the file."""
    titles = (
        "grid",
        "runs",
        "teachers",
        "million steps of students",
        "teachers run",
        *GPUS,
        f"{CLUSTER} × H100",
        "weights",
    )
    rule = ["---", *["---:"] * (len(titles) - 1)]
    rows = [f"| {' | '.join(titles)} |", f"|{'|'.join(rule)}|", *map(row, GRIDS)]
    return "\n".join(rows) + "\n"


def parsed(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if that would change something"
    )
    return parser.parse_args(arguments)


def main(arguments):
    only_check = parsed(arguments).check
    new = table()
    if only_check:
        return int(not FILE.is_file() or FILE.read_text(encoding="utf-8") != new)
    FILE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
