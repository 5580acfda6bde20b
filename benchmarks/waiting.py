"""What a reader waits for: `python benchmarks/waiting.py`. The demonstration, and the playground's pictures.

It reports and fails nothing: how long it takes is the machine's, and the tests bound the work instead.
"""

import argparse
import logging
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

import adakd
from adakd.explore import Playground
from adakd.training import write_json
from adakd.training.record import environment

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

SEEDS = range(3)
WATCHED_SECONDS = 3


def demonstration() -> float:
    """Seconds of one teacher and six students, with every default."""
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        adakd.train_teacher(out=out, progress=False)
        for method in ("ce", "kd"):
            for seed in SEEDS:
                adakd.distill(method=method, seed=seed, out=out, progress=False)
        return time.perf_counter() - started


def playground() -> dict[str, float]:
    """Seconds to its first picture in a browser that is warm, and frames a second while it plays."""
    from pages import PAGE, START, make_ready, open_browser

    figure = Playground()
    with open_browser() as browser:
        for _ in range(2):  # the first one warms the browser
            page = browser.new_page(viewport={"width": 800, "height": 900})
            make_ready(page)
            page.set_content(PAGE % figure._css)
            started = time.perf_counter()
            page.evaluate(START, [figure._esm, {name: getattr(figure, name) for name in figure.controls}])
            page.wait_for_selector(".ak-charts svg")
            first = time.perf_counter() - started
        page.click(".ak-play")
        page.wait_for_function("document.querySelector('.ak-playground').frames > 10")
        frames = "document.querySelector('.ak-playground').frames"
        before, started = page.evaluate(frames), time.perf_counter()
        page.wait_for_timeout(1000 * WATCHED_SECONDS)
        return {"first": first, "frames": (page.evaluate(frames) - before) / (time.perf_counter() - started)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    options = parser.parse_args()
    logging.getLogger("adakd").setLevel(logging.WARNING)
    record = {**environment(torch.device("cpu")), "demonstration": demonstration()}
    print(f"the demonstration, one teacher and {2 * len(SEEDS)} students: {record['demonstration']:.0f} s")
    if any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        record["playground"] = playground()
        print(
            f"the playground: its first picture after {1000 * record['playground']['first']:.0f} ms, "
            f"then {record['playground']['frames']:.0f} frames a second"
        )
    else:
        print("the playground: not measured, there is no chromium")
    if options.json:
        write_json(options.json, record)


if __name__ == "__main__":
    main()
