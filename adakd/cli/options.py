"""Options that several commands share, and how each is read: an error appears where the option is typed.

What is no value at all (`--epochs many`) is argparse's to refuse, with the usage. A value that cannot be (`--epochs 0`)
raises `OptionError`, and is one line like every other mistake.
"""

import argparse
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .._check import brief
from ..data import DATASETS, TokenData
from ..engine import Engine, Processes, Ray, Sequential
from ..models import MODELS
from ..training import RECIPES
from ..training.recipe import MOST_EPOCHS

__all__ = [
    "OptionError",
    "add_cache",
    "add_capture",
    "add_data",
    "add_device",
    "add_engine",
    "add_fresh",
    "add_json",
    "add_out",
    "add_quiet",
    "add_run_or_weights",
    "add_student",
    "add_teacher",
    "add_training",
    "check_run_or_weights",
    "engine_of",
    "file",
    "integer",
    "lines_file",
    "method",
    "new_command",
    "once",
    "order",
    "out_folder",
    "path",
    "positive",
    "refuse_beside_folder",
    "seed",
    "setting",
    "teacher_arguments",
    "training_arguments",
    "word",
]

MOST_WORKERS = 10_000
MOST = 1_000_000  # of images in a batch, of views, of epochs between measurements, of pairs in a benchmark


class OptionError(Exception):
    """A value of an option that was understood and cannot be."""


# ---- how a text is read ----


def integer(name: str, low: int, high: int) -> Callable[[str], int]:
    """Reads an integer of that range."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected an integer, got {brief(text)}") from None
        if number < low:
            raise OptionError(f"{name}: must be at least {low}, got {brief(number)}")
        if number > high:
            raise OptionError(f"{name}: must be at most {high}, got {brief(number)}")
        return number

    return read


def seed(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an integer, got {brief(text)}") from None
    if not 0 <= number < 2**63:
        raise OptionError(f"seed: expected an integer from 0 to 2^63 - 1, got {brief(number)}")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {brief(text)}") from None


def positive(name: str) -> Callable[[str], float]:
    """Reads a finite number above 0."""

    def read(text: str) -> float:
        number = _number(text)
        if not 0 < number < math.inf:
            raise OptionError(f"{name}: expected a finite number above 0, got {brief(text)}")
        return number

    return read


def share(name: str) -> Callable[[str], float]:
    """Reads a finite number of at least 0."""

    def read(text: str) -> float:
        number = _number(text)
        if not 0 <= number < math.inf:
            raise OptionError(f"{name}: expected a finite number of at least 0, got {brief(text)}")
        return abs(number)  # of -0 too

    return read


def images(text: str) -> int | str:
    """`all`, or how many; how many there are is for the data to say."""
    if text == "all":
        return text
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an integer or all, got {brief(text)}") from None
    if abs(number) > 2**31 - 1:
        raise OptionError(f"train_images: expected how many images to train on, got {brief(number)}")
    return number


def order(text: str) -> int | str:
    """A number as `adakd.series` has it; infinity stays a text, as in a record."""
    try:
        return text if text == "inf" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an integer or inf, got {brief(text)}") from None


def word(text: str) -> str:
    """A name: whatever it is, it is not empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"expected a name, got {brief(text)}")
    return text


def path(text: str) -> str:
    """A place in the file system."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, got {brief(text)}")
    return text


def file(text: str) -> str:
    """A file to be written, or - for the terminal: a folder of that name is found out before the work and not after."""
    if Path(path(text)).is_dir():
        raise argparse.ArgumentTypeError(f"expected a file, got the folder {brief(text)}")
    return text


def out_folder(name: str) -> Callable[[str], str]:
    """Reads a folder in which results will lie, there or not yet: a file in its way is found out before the work."""

    def read(text: str) -> str:
        wanted = Path(path(text))
        there = next((place for place in (wanted, *wanted.parents) if os.path.lexists(place)), None)
        if there is not None and not there.is_dir():
            inside = "" if there == wanted else f"{brief(text)} inside "
            raise OptionError(
                f"{name}: expected a folder, got {inside}the file {brief(str(there))}; name another, or move the file away"
            )
        return text

    return read


def lines_file(text: str) -> Path:
    if not file(text).endswith(".jsonl"):
        raise argparse.ArgumentTypeError(f"expected a file name that ends in .jsonl, got {brief(text)}")
    return Path(text)


_WORDS = {"true": True, "false": False, "none": None}


def _value(text: str) -> Any:
    """A number, true, false, none, or a text, with or without quotes."""
    for read in (int, float):
        try:
            number = read(text)
        except ValueError:
            continue
        if isinstance(number, int) and abs(number) > 2**63:
            raise argparse.ArgumentTypeError(f"expected a number of usual size, got {brief(text)}")
        return number
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return _WORDS.get(text.lower(), text)


_OPTION = re.compile(r"([\w+-]+\.)?[^\W\d]\w*")  # of one term of a sum: zkd+mlt.kd_weight


def setting(text: str) -> tuple[str, Any]:
    """`name=value`."""
    name, equals, value = text.partition("=")
    if not equals or not _OPTION.fullmatch(name):
        raise argparse.ArgumentTypeError(f"expected name=value (for example kd_weight=18), got {brief(text)}")
    return name, _value(value)


def method(text: str) -> tuple[str, dict[str, Any]]:
    """`name` or `name:setting=value,setting=value`."""
    name, _, settings = text.partition(":")
    return name, once([setting(part) for part in settings.split(",") if part])


def once(settings: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Settings by their names, each of which may stand there once."""
    found: dict[str, Any] = {}
    for name, value in settings:
        if name in found:
            raise OptionError(
                f"{name}: expected one value, got {found[name]} and {value}; several of one method are several runs, "
                "NAME:SETTING=VALUE NAME:SETTING=VALUE of compare"
            )
        found[name] = value
    return found


# ---- groups of options ----


def new_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int | None], **texts: str
) -> argparse.ArgumentParser:
    """The parser of a command, which knows what to run and whose usage to show."""
    parser = commands.add_parser(name, **texts)
    parser.set_defaults(run=run, parser=parser)
    return parser


WRITTEN = "json", "plot", "target"  # options that name a file to be written


def refuse_overwriting(arguments: argparse.Namespace) -> None:
    """Raise OptionError where a file would be written over one that the command reads, or two results into one file."""
    options = {action.dest: "/".join(action.option_strings) for action in arguments.parser._actions}
    written: dict[str, Path] = {}
    for name in WRITTEN:
        given = getattr(arguments, name, None)
        if given is None or given == "-":
            continue
        target = Path(os.path.realpath(given))
        if target in written.values():
            raise OptionError(
                f"{options[name]}: {brief(str(given))} is written by another option too; choose another file"
            )
        written[options[name]] = target
    for name in options.keys() - set(WRITTEN):
        given = getattr(arguments, name, None)
        for text in given if isinstance(given, list) else [given]:
            if not isinstance(text, str) or not os.path.isfile(text):  # of any text, however long
                continue
            for option, target in written.items():
                if target.is_file() and target.samefile(text):
                    raise OptionError(f"{option}: {brief(text)} is read by this command; choose another file")


def add_data(parser: argparse.ArgumentParser, of_grid: bool = False) -> None:
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=word,
        default=None if of_grid else "gratings",
        metavar="NAME",
        help=f"{', '.join(DATASETS)}{'' if of_grid else ', text:PATH'} (default: {_first(of_grid)}gratings, embedded: "
        "nothing is downloaded)",
    )
    data.add_argument(
        "--root",
        type=path,
        metavar="FOLDER",
        help="where CIFAR lies or will be downloaded to (default: $ADAKD_DATA, else ~/.cache/adakd)",
    )
    data.add_argument(
        "--unofficial-archive",
        action="store_true",
        help="accept CIFAR files that do not match the published checksums. Danger: nobody vouches for what they show, "
        "so only from a source that you trust (nothing in them is run); the record says so",
    )


def _first(of_grid: bool) -> str:
    """What goes before a default where a grid's file may say something else."""
    return "the grid's, else " if of_grid else ""


def add_run_or_weights(parser: argparse.ArgumentParser) -> None:
    """The folder of a finished run; or a file of weights, with what a record would say of it."""
    parser.add_argument("run_folder", nargs="?", type=path, metavar="FOLDER", help="folder of a finished run")
    weights = parser.add_argument_group("published weights")
    weights.add_argument(
        "--weights", type=path, metavar="FILE", help="a file of weights (.safetensors, .pth, .pt, .tar)"
    )
    weights.add_argument("--model", type=word, metavar="NAME", help=f"its network: {', '.join(MODELS)}")
    add_data(parser)
    parser.set_defaults(data=None)  # of weights gratings; a run says its own


def add_training(
    parser: argparse.ArgumentParser,
    seeds: bool = False,
    default_seeds: Sequence[int] = (0, 1, 2),
    of_grid: bool = False,
) -> None:
    """Data, length, and how to run; what a grid's file can say has no value of its own there."""
    add_data(parser, of_grid)
    length = parser.add_argument_group("length")
    length.add_argument(
        "--recipe",
        type=word,
        metavar="NAME",
        help=f"{', '.join(RECIPES)} (default: {_first(of_grid)}demo for gratings, quick for CIFAR, language for text; "
        "paper is 240 epochs)",
    )
    length.add_argument(
        "--epochs",
        type=integer("epochs", 1, MOST_EPOCHS),
        metavar="N",
        help=f"other length than the recipe's, up to {MOST_EPOCHS}: a record holds a row an epoch",
    )
    length.add_argument(
        "--batch-size", type=integer("batch_size", 1, MOST), metavar="N", help="other batch size"
    )
    length.add_argument("--lr", type=positive("lr"), metavar="X", help="other learning rate")
    length.add_argument(
        "--train-images",
        type=images,
        metavar="N",
        help="train on N images (of text, passages), the classes in equal parts, or on all",
    )
    length.add_argument(
        "--views",
        type=integer("views", 1, MOST),
        metavar="N",
        help="show each image in N crops and flips only (default: all, 162 for CIFAR)",
    )
    length.add_argument(
        "--eval-every",
        type=integer("eval_every", 1, MOST),
        metavar="N",
        help="epochs between measurements; the last epoch is always measured (default: the recipe's)",
    )
    length.add_argument(
        "--validation-images",
        type=integer("validation_images", 1, 2**31 - 1),
        metavar="N",
        help="hold N training images out, the same for all seeds, and measure on them too (default: none)",
    )
    run = parser.add_argument_group("run")
    if seeds:
        run.add_argument(
            "--seeds",
            type=seed,
            nargs="+",
            default=None if of_grid else list(default_seeds),
            metavar="N",
            help=f"(default: {_first(of_grid)}{' '.join(map(str, default_seeds))})",
        )
    else:
        run.add_argument("--seed", type=seed, default=0, metavar="N", help="(default: 0)")
    add_out(run)
    add_quiet(run)
    run.add_argument(
        "--verbose", action="store_true", help="say more: how the steps run, and what the cache held"
    )
    add_device(run, _first(of_grid) + _FASTEST)


def add_out(group: Any, help: str = "results go under it (default: runs)") -> None:
    group.add_argument("--out", type=out_folder("--out"), default="runs", metavar="FOLDER", help=help)


def add_quiet(group: Any) -> None:
    group.add_argument("--quiet", action="store_true", help="print results and warnings alone")


def add_fresh(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fresh", action="store_true", help="forget an earlier run of the same settings, finished or not"
    )


def add_capture(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--capture",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="compile the step, on a GPU into CUDA graphs (default: on a GPU only)",
    )


def add_teacher(group: Any) -> None:
    group.add_argument(
        "--teacher",
        type=word,
        metavar="NAME|FOLDER|FILE",
        help="a model trained by `adakd teacher`, the folder of its run, or a file of recorded logits",
    )
    group.add_argument(
        "--teacher-weights",
        type=path,
        metavar="FILE",
        help="published weights (.safetensors, .pth, .pt, .tar) for the model named by --teacher",
    )


def add_student(group: Any) -> None:
    group.add_argument(
        "--student",
        type=word,
        metavar="NAME",
        help=f"one of {', '.join(MODELS)} (default: resnet8x0.5 for gratings, resnet8 for CIFAR, {TokenData.usual.student} for text)",
    )


def add_cache(parser: argparse.ArgumentParser, also_off: bool = True, of_grid: bool = False) -> None:
    parser.add_argument(
        "--cache",
        choices=["fp16", "fp32", "off"] if also_off else ["fp16", "fp32"],
        default=None if of_grid else "fp16",
        help=f"the format in which the teacher's logits are kept (default: {_first(of_grid)}fp16)"
        + ("; off: it runs along with the student" if also_off else ""),
    )


_FASTEST = "what the hardware does fastest, with the reason shown"


def add_device(group: Any, precision: str = _FASTEST) -> None:
    group.add_argument(
        "--device", type=word, default="auto", metavar="NAME", help="cuda, cpu or auto (default: auto)"
    )
    group.add_argument(
        "--precision",
        type=word,
        default=None,
        metavar="NAME",
        help=f"fp32, bf16, fp16 or auto (default: {precision})",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    engine = parser.add_argument_group("engine")
    engine.add_argument(
        "--workers",
        type=integer("workers", 1, MOST_WORKERS),
        metavar="N",
        help="runs at once, each in a process of its own (default: one after the other; with Ray as many as there is room for)",
    )
    engine.add_argument(
        "--engine", choices=["local", "ray"], default="local", help="this machine, or Ray (default: local)"
    )
    engine.add_argument(
        "--address",
        type=word,
        metavar="ADDRESS",
        help="of a Ray cluster; auto finds this machine's (default: a Ray of its own)",
    )
    engine.add_argument(
        "--gpus-per-run",
        type=share("gpus_per_run"),
        metavar="X",
        help="with Ray: 0.25 lets four runs share a GPU (default: 1 where there are GPUs)",
    )
    engine.add_argument("--cpus-per-run", type=share("cpus_per_run"), metavar="X", help="with Ray (default: 1)")
    engine.add_argument(
        "--retries",
        type=integer("retries", 0, 1000),
        default=3,
        metavar="N",
        help="how often a run is tried again whose process or machine has died (default: 3)",
    )


def add_json(group: Any, what: str = "the record") -> None:
    group.add_argument(
        "--json",
        type=file,
        metavar="FILE",
        help=f"also write {what} there; - shows it as JSON instead of the text",
    )


# ---- what the library is given ----


def engine_of(arguments: argparse.Namespace) -> Engine:
    """The engine that the options name."""
    if arguments.engine == "ray":
        return Ray(
            arguments.address,
            arguments.workers,
            Ray.cpus_per_run if arguments.cpus_per_run is None else arguments.cpus_per_run,
            arguments.gpus_per_run,
            arguments.retries,
        )
    of_ray = (arguments.address, arguments.gpus_per_run, arguments.cpus_per_run)
    if any(value is not None for value in of_ray):
        raise OptionError("--address, --gpus-per-run, --cpus-per-run: are Ray's; say --engine ray")
    workers = arguments.workers or 1
    return Sequential() if workers == 1 else Processes(workers, arguments.retries)


def check_run_or_weights(arguments: argparse.Namespace) -> None:
    """Raise OptionError, or end with the usage, unless there is either a run's folder or weights with their network."""
    if (arguments.run_folder is None) == (arguments.weights is None):
        arguments.parser.error("expected the FOLDER of a run, or --weights FILE --model NAME --data NAME")
    if arguments.weights is not None and arguments.model is None:
        raise OptionError("--weights: which network are they of? Say it: --model NAME")


def refuse_beside_folder(arguments: argparse.Namespace, *options: str) -> None:
    """Raise OptionError for the first of these options that was given: the record in a run's folder says it."""
    for option in options:
        if getattr(arguments, option.replace("-", "_")):
            raise OptionError(f"--{option}: the record of the run in the folder says it; leave it out")


def teacher_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.teacher_weights is not None and arguments.teacher is None:
        raise OptionError("--teacher-weights: which network are they of? Say it: --teacher NAME")
    return {"teacher": arguments.teacher, "teacher_weights": arguments.teacher_weights}


def training_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "data": arguments.data,
        "recipe": arguments.recipe,
        "out": arguments.out,
        "device": arguments.device,
        "precision": arguments.precision or "auto",
        "root": arguments.root,
        "official": not arguments.unofficial_archive,
        "progress": not arguments.quiet,
        "epochs": arguments.epochs,
        "batch_size": arguments.batch_size,
        "lr": arguments.lr,
        "train_images": arguments.train_images,
        "views": arguments.views,
        "eval_every": arguments.eval_every,
        "validation_images": arguments.validation_images,
    }
