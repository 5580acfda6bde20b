"""`adakd sweep`: a grid of runs from a small file, resumed from its records."""

import argparse
from pathlib import Path
from typing import Any

from ..bench import vendor_ceiling
from ..sweep import Grid, SweepResults, estimate, read_grid, run_sweep
from ..sweep.estimate import GPUS, SHAPES, hours, live, size
from ..sweep.run import plan_sweep
from ..sweep.table import format_cells
from .options import (
    OptionError,
    add_cache,
    add_capture,
    add_engine,
    add_json,
    add_training,
    engine_of,
    method,
    new_command,
    out_folder,
    path,
    training_arguments,
    word,
)
from .output import complain, say, write_result
from .stop import StopRequests

__all__ = ["add_parser", "run"]

_LENGTH = ("epochs", "batch_size", "lr", "train_images", "views", "eval_every", "validation_images")


def add_parser(commands: Any) -> None:
    parser = new_command(
        commands,
        "sweep",
        run,
        help="carry out a grid of runs: teachers, students, methods, seeds",
        description="Teachers × students × methods × seeds × overrides, from a small TOML file or from the options below, "
        "which go before what the file says. Missing teachers are trained first. A run of which a record is there is not "
        "repeated: stop the sweep, repeat the command, or start it several times at once. `grids/` of the source tree holds "
        "the paper's tables.",
    )
    parser.add_argument(
        "grid_file",
        nargs="?",
        type=path,
        metavar="GRID",
        help="a TOML file, e.g. grids/demo.toml; left out where --methods says what to run",
    )
    models = parser.add_argument_group("models and methods")
    models.add_argument(
        "--methods", nargs="+", type=method, metavar="NAME[:SETTING=VALUE,…]", help="see `adakd methods`"
    )
    models.add_argument(
        "--teachers", nargs="+", type=word, metavar="NAME|FOLDER", help="trained first where they are missing"
    )
    models.add_argument("--students", nargs="+", type=word, metavar="NAME", help="each by every teacher")
    add_training(parser, seeds=True, default_seeds=Grid.seeds, of_grid=True)
    add_cache(parser, of_grid=True)
    add_capture(parser)
    add_engine(parser)
    parser.add_argument(
        "--records",
        type=out_folder("--records"),
        metavar="FOLDER",
        help="of the sweep's records (default: OUT/sweeps/NAME of the grid); `adakd table` reads it",
    )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="try runs again that diverged before (default: they are left out)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say how many runs there are and are done, and estimate hours and disk (of images alone); run nothing",
    )
    parser.add_argument(
        "--gpus",
        nargs="+",
        type=word,
        default=list(GPUS),
        metavar="NAME",
        help=f"which ones --dry-run estimates hours for (default: {' '.join(GPUS)})",
    )
    add_json(parser, "all records")


def grid_of(arguments: argparse.Namespace) -> Grid:
    """The file's grid, with what the options say otherwise."""
    entries = arguments.methods and [
        {"name": name, **settings} if settings else name for name, settings in arguments.methods
    ]
    length = {name: getattr(arguments, name) for name in _LENGTH if getattr(arguments, name) is not None}
    changes = {
        "methods": entries,
        "teachers": arguments.teachers,
        "students": arguments.students,
        "seeds": arguments.seeds,
        "data": arguments.data,
        "recipe": arguments.recipe,
        "precision": arguments.precision,
        "cache": arguments.cache,
    }
    if arguments.grid_file is None and not arguments.methods:
        raise OptionError("sweep: expected a grid's file, or --methods; e.g. adakd sweep grids/demo.toml")
    grid = read_grid(_found(arguments.grid_file) if arguments.grid_file is not None else {}, **changes)
    # Those of the command come last, and leave the others.
    return read_grid({**grid.describe(), "settings": {**grid.settings, **length}}) if length else grid


def _found(text: str) -> Path:
    """The grid's file; a bare name is one of `grids/`, here or in the source tree."""
    if Path(text).is_file():
        return Path(text)
    known = [folder / "grids" for folder in (Path.cwd(), Path(__file__).parents[2])]
    for folder in known:
        if (folder / f"{text}.toml").is_file():
            return folder / f"{text}.toml"
    names = sorted({file.stem for folder in known for file in folder.glob("*.toml")})
    there = f"; in grids/ there are {', '.join(names)}" if names else ""
    raise FileNotFoundError(f"no grid at {text}{there}")


def run(arguments: argparse.Namespace) -> int:
    grid = grid_of(arguments)
    for gpu in arguments.gpus:
        vendor_ceiling(gpu)  # refuses unknown ones
    common = training_arguments(arguments)
    where = {name: common[name] for name in ("device", "root", "official")}
    if arguments.dry_run:
        _say_plan(grid, arguments, where)
        return 0
    results = run_sweep(
        grid,
        out=arguments.out,
        records=arguments.records,
        engine=engine_of(arguments),
        capture=arguments.capture,
        progress=not arguments.quiet,
        retry_failed=arguments.retry_failed,
        should_stop=StopRequests(),
        **where,
    )
    title = f"{grid.name} on {grid.data}, last epoch; ± is half of a 95 % interval (Student's, over seeds), from three seeds on"
    table = format_cells(grid.cells(), results.accuracy, results.errors)
    shown = results.records if arguments.json else []
    write_result(arguments.json, shown, f"{title}\n{table}\nThe records are in {results.folder}")
    return _say_failures(results)


def _say_failures(results: SweepResults) -> int:
    if not results.errors:
        return 0
    complain(f"adakd: {len(results.errors)} of {len(results.grid.cells())} runs failed:")
    for cell, error in results.errors.items():
        complain(f"  {cell.name}: {error}")
    complain("Repeat the command to try them again; those that diverged with --retry-failed.")
    return 1


def _say_plan(grid: Grid, arguments: argparse.Namespace, where: dict[str, Any]) -> None:
    cells = grid.cells()
    done, missing, models = plan_sweep(grid, arguments.out, arguments.records, **where)
    teachers = f"{len(missing)} to be trained first ({', '.join(missing)})" if missing else "all there"
    how = "run along with each student" if live(grid) else f"their logits are kept in {grid.cache}"
    found = f"{grid.name}: {len(cells)} runs on {grid.data}, {len(done)} done, {len(cells) - len(done)} left"
    if grid.data not in SHAPES:
        say(f"{found}\nteachers: {teachers}; {how}\nhours and disk: estimated for {', '.join(SHAPES)} alone")
        return
    left = estimate(grid, done, missing, gpus=arguments.gpus, models=models)
    times = ", ".join(f"{gpu} {hours(left.hours[gpu])}" for gpu in arguments.gpus)
    say(
        f"{found} ({left.steps} steps)\n"
        f"teachers: {teachers}; {how}\n"
        f"GPU-hours, an estimate from the roofline (no training is faster): {times}\n"
        f"disk, an estimate: caches {size(left.caches)}, a checkpoint of up to {size(left.checkpoint)} for each run under way, "
        f"weights {size(left.weights)}"
    )
