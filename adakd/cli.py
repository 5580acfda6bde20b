"""The command line, also as `python -m adakd`: teachers, students, comparisons, measurements."""

import argparse
import ast
import inspect
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ._version import __version__
from .bench import PAIRS, bench_losses, bench_step
from .data import DATASETS, DataError
from .divergence import DIVERGENCES
from .measure import measure_temperatures
from .methods import METHODS, RULE_NAMES, Method
from .models import MODELS
from .study import (
    PLAN,
    WAYS,
    Study,
    compare_records,
    describe_method,
    format_lines,
    format_table,
    keep_records,
    read_records,
    read_study,
    run_study,
    summarize,
)
from .temperature import RULES
from .training import (
    RECIPES,
    BusyError,
    CacheError,
    CheckpointError,
    Interrupted,
    Run,
    TeacherError,
    WeightsError,
    cache_teacher,
    compare,
    distill,
    evaluate,
    open_run,
    resolve_device,
    train_teacher,
    write_json,
)

__all__ = ["main"]

# What a user can mend: shown as one line, without a traceback.
_USER_ERRORS = (
    BusyError,
    CacheError,
    CheckpointError,
    DataError,
    FloatingPointError,
    OSError,  # no such file, no permission, no room on the disk
    TeacherError,
    ValueError,
    WeightsError,
)

_EPILOG = """\
Start here (embedded data, no download, under a minute on two CPU cores):
  adakd distill                                   teacher, then a student by zkd+mlt
  adakd distill --method ce                       the same student without a teacher
  adakd compare --methods ce kd zkd+mlt           several methods on the same views, and a table

CIFAR-100 (downloaded and verified on first use):
  adakd teacher --data cifar100 --model resnet32x4 --recipe paper
  adakd distill --data cifar100 --teacher resnet32x4 --student resnet8x4 --recipe paper

Ctrl-C stops a run and saves it; repeating the command continues it exactly.
"""


def _option(text: str) -> tuple[str, Any]:
    """`name=value` with the value read as a Python literal, or else as text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"expected name=value (for example kd_weight=18), got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _order(text: str) -> int | str:
    """A number as `adakd.series` has it; infinity stays a text, as in a record."""
    try:
        return text if text == "inf" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an integer or inf, got {text!r}") from None


def _method(text: str) -> tuple[str, dict[str, Any]]:
    """`name` or `name:setting=value,setting=value`."""
    name, _, settings = text.partition(":")
    return name, dict(_option(part) for part in settings.split(",") if part)


def _lines_file(text: str) -> Path:
    if not text.endswith(".jsonl"):
        raise argparse.ArgumentTypeError(f"expected a file name that ends in .jsonl, got {text!r}")
    return Path(text)


def _images(text: str) -> int | str:
    return text if text == "all" else int(text)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        default="gratings",
        metavar="NAME",
        help=f"{', '.join(DATASETS)} (default: gratings, embedded: nothing is downloaded)",
    )
    data.add_argument(
        "--root",
        metavar="FOLDER",
        help="where CIFAR lies or will be downloaded to (default: $ADAKD_DATA, else ~/.cache/adakd)",
    )
    data.add_argument(
        "--unofficial-archive",
        action="store_true",
        help="accept CIFAR files that do not match the published checksums; the record says so",
    )


def _add_records_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("records", metavar="FOLDER", help="of the study's records")


def _add_training_options(
    parser: argparse.ArgumentParser, seeds: bool = False, default_seeds: Sequence[int] = (0, 1, 2)
) -> None:
    _add_data_options(parser)
    length = parser.add_argument_group("length")
    length.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"{', '.join(RECIPES)} (default: demo for gratings, quick for CIFAR; paper is 240 epochs)",
    )
    length.add_argument("--epochs", type=int, metavar="N", help="other length than the recipe's")
    length.add_argument("--batch-size", type=int, metavar="N", help="other batch size")
    length.add_argument("--lr", type=float, metavar="X", help="other learning rate")
    length.add_argument(
        "--train-images",
        type=_images,
        metavar="N",
        help="train on N images, the classes in equal parts, or on all",
    )
    length.add_argument(
        "--views",
        type=int,
        metavar="N",
        help="show each image in N crops and flips only (default: all, 162 for CIFAR)",
    )
    length.add_argument(
        "--eval-every",
        type=int,
        metavar="N",
        help="epochs between measurements; the last epoch is always measured (default: the recipe's)",
    )
    length.add_argument(
        "--validation-images",
        type=int,
        metavar="N",
        help="hold N training images out, the same for all seeds, and measure on them too (default: none)",
    )
    run = parser.add_argument_group("run")
    if seeds:
        run.add_argument(
            "--seeds",
            type=int,
            nargs="+",
            default=list(default_seeds),
            metavar="N",
            help=f"(default: {' '.join(map(str, default_seeds))})",
        )
    else:
        run.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")
    run.add_argument("--out", default="runs", metavar="FOLDER", help="results go under it (default: runs)")
    run.add_argument("--quiet", action="store_true", help="no progress bar")
    _add_device_options(run)


def _add_fresh(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fresh", action="store_true", help="forget an earlier run of the same settings, finished or not"
    )


def _add_capture(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--capture",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="compile the step, on a GPU into CUDA graphs (default: on a GPU only)",
    )


def _add_teacher_options(group) -> None:
    group.add_argument(
        "--teacher",
        metavar="NAME|FOLDER",
        help="a model trained by `adakd teacher`, or the folder of its run",
    )
    group.add_argument(
        "--teacher-weights",
        metavar="FILE",
        help="published weights (.safetensors, .pth, .pt, .tar) for the model named by --teacher",
    )


def _add_cache(parser: argparse.ArgumentParser, also_off: bool = True) -> None:
    parser.add_argument(
        "--cache",
        choices=["fp16", "fp32", "off"] if also_off else ["fp16", "fp32"],
        default="fp16",
        help="the format in which the teacher's answers are kept (default: fp16)"
        + ("; off: it runs along with the student" if also_off else ""),
    )


def _add_device_options(
    group, precision: str = "what the hardware does fastest, with the reason shown"
) -> None:
    group.add_argument("--device", default="auto", metavar="NAME", help="cuda, cpu or auto (default: auto)")
    group.add_argument(
        "--precision",
        default=None,
        metavar="NAME",
        help=f"fp32, bf16, fp16 or auto (default: {precision})",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adakd",
        description="Knowledge distillation with adaptive temperatures.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"adakd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    teacher = commands.add_parser(
        "teacher",
        help="train a large network on the labels",
        description="Train a network on the labels alone, to teach others later.",
    )
    teacher.add_argument(
        "--model",
        metavar="NAME",
        help=f"one of {', '.join(MODELS)} (default: resnet14 for gratings, wrn_16_2 for CIFAR)",
    )
    _add_training_options(teacher)
    _add_fresh(teacher)
    _add_capture(teacher)

    student = commands.add_parser(
        "distill",
        help="train a small network from a teacher",
        description="Train a student from a teacher. On the embedded set the teacher is trained first "
        "where there is none.",
    )
    models = student.add_argument_group("models and method")
    _add_teacher_options(models)
    models.add_argument("--student", metavar="NAME", help="a model; see `adakd teacher --help`")
    models.add_argument(
        "--method", default="zkd+mlt", metavar="NAME", help="see `adakd methods` (default: zkd+mlt)"
    )
    models.add_argument(
        "--set",
        action="append",
        type=_option,
        default=[],
        metavar="NAME=VALUE",
        help="another value for a setting of the method, e.g. --set kd_weight=18 (repeatable)",
    )
    _add_training_options(student)
    _add_fresh(student)
    _add_cache(student)
    _add_capture(student)

    several = commands.add_parser(
        "compare",
        help="distill by several methods and seeds, and show a table",
        description="Several methods and seeds from one teacher: the same initial weights, images and views within a "
        "seed, and a teacher that says everything once. Differences in the table are to the first method, paired by "
        "seed.",
    )
    models = several.add_argument_group("models and methods")
    models.add_argument(
        "--methods",
        nargs="+",
        type=_method,
        required=True,
        metavar="NAME[:SETTING=VALUE,…]",
        help="see `adakd methods`, e.g. ce kd kd:kd_weight=9 zkd+mlt",
    )
    _add_teacher_options(models)
    models.add_argument("--student", metavar="NAME", help="a model; see `adakd teacher --help`")
    several.add_argument(
        "--records",
        type=_lines_file,
        metavar="FILE",
        help="also add the records to this file, one a line (.jsonl); see `adakd table`",
    )
    _add_training_options(several, seeds=True)
    _add_cache(several)
    _add_capture(several)

    study = commands.add_parser(
        "study",
        help="compare methods at published, matched and chosen weights, over seeds",
        description="Each method over the same seeds three times: at its published weights; at weights by which all push "
        "equally hard at the start; at the best of a few weights by validation images that no run trains on. Records go "
        "into a folder, and what stands there is not repeated: stop it, repeat the command, or start it several times "
        "at once. `adakd table FOLDER` shows what is there.",
    )
    _add_records_folder(study)
    models = study.add_argument_group("models and methods")
    models.add_argument(
        "--methods",
        nargs="+",
        required=True,
        metavar="NAME",
        help="see `adakd methods`, e.g. ce kd zkd zkd+mlt",
    )
    models.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS), help="which weights (default: all three)"
    )
    models.add_argument(
        "--reference",
        default=Study.reference,
        metavar="NAME",
        help=f"the method whose published push the matched weights have (default: {Study.reference})",
    )
    models.add_argument(
        "--grid",
        nargs="+",
        type=float,
        default=list(Study.grid),
        metavar="X",
        help="multiples of the matched weight that validation chooses from "
        f"(default: {' '.join(map(str, Study.grid))})",
    )
    _add_teacher_options(models)
    models.add_argument("--student", metavar="NAME", help="a model; see `adakd teacher --help`")
    _add_training_options(study, seeds=True, default_seeds=list(Study.seeds))
    _add_cache(study)
    _add_capture(study)

    table = commands.add_parser(
        "table",
        help="show what records say: means, intervals, paired differences",
        description="Of a study's folder, a table for each of its three questions; of other records, a table for each "
        "network, data set and recipe. Test accuracy after the last epoch; ± is half of a 95 % interval (Student's, "
        "over seeds); differences are paired by seed.",
    )
    table.add_argument("records", nargs="+", metavar="PATH", help="folders or files of records (.json, .jsonl)")
    table.add_argument(
        "--to",
        nargs="*",
        default=["kd", "zkd"],
        metavar="NAME",
        help="methods to compare all with, as the table names them (default: kd zkd)",
    )
    table.add_argument("--markdown", action="store_true", help="as a Markdown table")

    cache = commands.add_parser(
        "cache",
        help="ask a teacher about all views beforehand",
        description="Fill the cache of a teacher's answers for the views that students of these seeds will see. "
        "`distill` and `compare` do it by themselves; this is for another time or machine.",
    )
    _add_teacher_options(cache.add_argument_group("teacher"))
    _add_training_options(cache, seeds=True)
    _add_cache(cache, also_off=False)

    measure = commands.add_parser(
        "evaluate",
        help="measure a finished run again",
        description="Test accuracy of a finished run's network, beside what its record says.",
    )
    measure.add_argument("run", metavar="FOLDER", help="folder of a finished run")
    measure.add_argument("--root", metavar="FOLDER", help="where CIFAR lies")
    _add_device_options(measure, precision="the run's own")

    temperatures = commands.add_parser(
        "temperatures",
        help="measure what temperatures a teacher's logits ask for",
        description="The maximum logit as temperature on all training and test images, under each definition, "
        "as distributions.",
    )
    networks = temperatures.add_argument_group("networks")
    networks.add_argument(
        "--teacher",
        metavar="NAME|FOLDER",
        help="a model trained by `adakd teacher`, or the folder of its run (default: the data set's usual one)",
    )
    networks.add_argument(
        "--teacher-weights",
        metavar="FILE",
        help="published weights (.safetensors, .pth, .pt, .tar) for the model named by --teacher",
    )
    networks.add_argument(
        "--student",
        metavar="FOLDER",
        help="folder of a student's run, for the definitions that read the student too",
    )
    networks.add_argument("--out", default="runs", metavar="FOLDER", help="where runs lie (default: runs)")
    _add_data_options(temperatures)
    run = temperatures.add_argument_group("run")
    run.add_argument(
        "--order",
        type=_order,
        default=2,
        metavar="N",
        help="of the Taylor polynomial, at least 1, or inf (default: 2)",
    )
    run.add_argument("--device", default="auto", metavar="NAME", help="cuda, cpu or auto (default: auto)")
    run.add_argument("--json", metavar="FILE", help="also write the record there")
    run.add_argument("--quiet", action="store_true", help="no progress bar")

    bench = commands.add_parser(
        "bench",
        help="measure what losses and steps cost",
        description="Time each method's loss as a ratio to plain KD, or a training step and its parts.",
    )
    kinds = bench.add_subparsers(dest="what", metavar="WHAT", required=True, help="losses or step")
    losses = kinds.add_parser(
        "losses",
        help="forward and backward of each method's loss, as ratios to plain KD from one run",
        description="Time forward and backward of each method's loss, as ratios to plain KD from one run.",
    )
    losses.add_argument(
        "--methods", nargs="+", metavar="NAME", help="only these (default: all of `adakd methods`)"
    )
    losses.add_argument(
        "--compiled", action="store_true", help="through torch.compile (each method compiles first)"
    )
    step = kinds.add_parser(
        "step",
        help="a training step, split into its parts, beside what the hardware could do",
        description="Time a training step on random pixels in CIFAR-100's shape, split into data, teacher, student, "
        "loss and optimizer, beside the peak and the per-layer roofline of the device.",
    )
    step.add_argument("--teacher", default="resnet32x4", metavar="NAME", help="(default: resnet32x4)")
    step.add_argument("--student", default="resnet8x4", metavar="NAME", help="(default: resnet8x4)")
    step.add_argument("--method", default="zkd+mlt", metavar="NAME", help="(default: zkd+mlt)")
    step.add_argument("--batch-size", type=int, default=64, metavar="N", help="(default: 64)")
    step.add_argument(
        "--pairs",
        type=int,
        default=PAIRS,
        metavar="N",
        help="how often a step with adaptive temperature and one with a fixed temperature are held against each other "
        f"(default: {PAIRS})",
    )
    step.add_argument(
        "--precision", default="auto", metavar="NAME", help="fp32, bf16, fp16 or auto (default: auto)"
    )
    _add_capture(step)
    for kind in (losses, step):
        kind.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda or auto (default: auto)")
        kind.add_argument("--json", metavar="FILE", help="also write the record there")

    commands.add_parser(
        "methods",
        help="list the methods",
        description="The published methods with their weights. Any of them takes another temperature rule: "
        "<method>+<rule>.",
    )
    return parser


def _training_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
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


def _report(run: Run) -> None:
    result, config = run.record["result"], run.record["config"]
    taught = f" from {config['teacher']['model']}" if config["teacher"] else ""
    print(f"{config['model']}{taught} by {config['method']} on {config['data']['name']}")
    print(
        f"  test accuracy {result['last']:.2f} % after the last epoch "
        f"(best {result['best']:.2f} % after epoch {result['best_epoch']}); {run.record['seconds']:.0f} s"
    )
    print(f"  {run.folder}")


def _teacher(arguments: argparse.Namespace) -> None:
    _report(
        train_teacher(
            arguments.model,
            seed=arguments.seed,
            fresh=arguments.fresh,
            capture=arguments.capture,
            **_training_arguments(arguments),
        )
    )


def _distill(arguments: argparse.Namespace) -> None:
    _report(
        distill(
            arguments.teacher,
            arguments.student,
            arguments.method,
            teacher_weights=arguments.teacher_weights,
            method_options=dict(arguments.set),
            seed=arguments.seed,
            fresh=arguments.fresh,
            cache=None if arguments.cache == "off" else arguments.cache,
            capture=arguments.capture,
            **_training_arguments(arguments),
        )
    )


def _compare(arguments: argparse.Namespace) -> None:
    runs = compare(
        arguments.methods,
        arguments.seeds,
        arguments.teacher,
        arguments.student,
        teacher_weights=arguments.teacher_weights,
        cache=None if arguments.cache == "off" else arguments.cache,
        capture=arguments.capture,
        **_training_arguments(arguments),
    )
    if arguments.records:
        keep_records(arguments.records, [run.record for run in runs])
    config = runs[0].record["config"]
    print(f"{config['model']} on {config['data']['name']}, last epoch, mean ± standard error over seeds")
    print(format_table(summarize(runs)))


def _study(arguments: argparse.Namespace) -> None:
    wanted = Study(
        arguments.methods,
        arguments.seeds,
        reference=arguments.reference,
        grid=arguments.grid,
        ways=arguments.ways,
    )
    records = run_study(
        wanted,
        arguments.records,
        arguments.teacher,
        arguments.student,
        teacher_weights=arguments.teacher_weights,
        cache=None if arguments.cache == "off" else arguments.cache,
        capture=arguments.capture,
        **_training_arguments(arguments),
    )
    print(f"{len(records)} runs in {arguments.records}; `adakd table {arguments.records}` shows them")


def _table(arguments: argparse.Namespace) -> None:
    folders = [path for path in arguments.records if Path(path, PLAN).is_file()]
    tables = []
    for folder in folders:
        study = read_study(folder)
        config = study.plan["config"]
        for way in WAYS:
            title = f"{config['model']} on {config['data']['name']} at {way} weights ({folder})"
            tables.append((title, study.table(way, arguments.to)))
    groups: dict[str, dict[str, dict[int, Any]]] = {}
    for record in read_records(*(path for path in arguments.records if path not in folders), complete=True):
        config, recipe = record["config"], record["config"]["recipe"]
        images = recipe["train_images"] or record["data"]["train_images"]
        title = f"{config['model']} on {config['data']['name']}, {images} images × {recipe['epochs']} epochs"
        runs = groups.setdefault(title, {}).setdefault(describe_method(record), {})
        if record["seed"] in runs:
            raise ValueError(
                f"{title}: {describe_method(record)} has seed {record['seed']} twice; name fewer files"
            )
        runs[record["seed"]] = record
    for title, runs in groups.items():
        lines = compare_records(runs, [name for name in arguments.to if name in runs])
        tables.append((title, sorted(lines, key=lambda line: -line.accuracy.estimate)))
    if not tables:
        raise ValueError(f"no records of runs in {', '.join(arguments.records)}")
    mark = "**" if arguments.markdown else ""
    print(
        "\n\n".join(
            f"{mark}{title}{mark}\n{chr(10) if mark else ''}{format_lines(lines, arguments.markdown)}"
            for title, lines in tables
        )
    )


def _cache(arguments: argparse.Namespace) -> None:
    cache = cache_teacher(
        arguments.teacher,
        dtype=arguments.cache,
        seeds=arguments.seeds,
        teacher_weights=arguments.teacher_weights,
        **_training_arguments(arguments),
    )
    print(f"{cache}\n  {cache.folder}")


def _evaluate(arguments: argparse.Namespace) -> None:
    run = open_run(arguments.run)
    accuracy = evaluate(run, device=arguments.device, precision=arguments.precision, root=arguments.root)
    print(f"test accuracy {accuracy:.2f} % (record: {run.accuracy:.2f} %)")


def _temperatures(arguments: argparse.Namespace) -> None:
    record = measure_temperatures(
        arguments.teacher,
        arguments.student,
        arguments.data,
        teacher_weights=arguments.teacher_weights,
        out=arguments.out,
        order=arguments.order,
        device=arguments.device,
        root=arguments.root,
        official=not arguments.unofficial_archive,
        progress=not arguments.quiet,
    )
    if arguments.json:
        write_json(Path(arguments.json), record)
    student = f" and {record['student']['model']}" if record["student"] else ""
    low, high = record["bounds"]["tau"]
    print(f"{record['teacher']['model']}{student} on {record['data']['name']}")
    print(f"with {record['data']['classes']} classes, τ = c · max z is between {low:.3f} and {high:.3f}")
    print(f"{'images':7}{'rule':19}" + "".join(f"{title:>9}" for title in ("5 %", "median", "95 %", "6 to 10")))
    for split, found in record["result"].items():
        for rule, tau in found["tau"].items():
            quantiles = "".join(f"{tau[name]:>9.2f}" for name in ("q5", "q50", "q95"))
            print(f"{split:7}{rule:19}{quantiles}{100 * tau['in_6_to_10']:>7.1f} %")


def _bench(arguments: argparse.Namespace) -> None:
    device = resolve_device(arguments.device)
    if arguments.what == "losses":
        record = bench_losses(arguments.methods, device=device, compiled=arguments.compiled)
        show = _show_losses
    else:
        record = bench_step(
            arguments.teacher,
            arguments.student,
            arguments.method,
            batch_size=arguments.batch_size,
            device=device,
            precision=arguments.precision,
            capture=arguments.capture,
            pairs=arguments.pairs,
        )
        show = _show_step
    if arguments.json:
        write_json(Path(arguments.json), record)
    show(record)


def _show_losses(record: dict[str, Any]) -> None:
    rows = record["rows"]
    shapes = list(rows[0]["ratio"])
    how = "compiled" if record["config"]["compiled"] else "eager"
    print(f"forward + backward, {how}, median ratio to kd of the same run")
    print(f"{'method':16}" + "".join(f"{shape:>12}" for shape in shapes))
    for row in rows:
        print(f"{row['method']:16}" + "".join(f"{row['ratio'][shape]['median']:>12.2f}" for shape in shapes))


def _show_step(record: dict[str, Any]) -> None:
    config, limit = record["config"], record["ceiling"]
    print(
        f"{config['teacher']} → {config['student']} by {config['method']}, batch {config['batch_size']}, "
        f"{config['precision']} ({config['precision_reason']}), "
        f"{'captured' if config['captured'] else 'not captured'} ({config['captured_reason']})"
    )
    print(f"{'part':12}{'ms':>9}{'share of the live step':>26}")
    for name, seconds in record["seconds"].items():
        print(f"{name:12}{1000 * seconds['median']:>9.2f}{100 * record['share'][name]['median']:>24.1f} %")
    adapting = record["adaptive_to_fixed"]
    print(
        f"adaptive to fixed temperature, whole cached step: {adapting['median']:.4f}, 95 % interval "
        f"{adapting['low']:.4f} to {adapting['high']:.4f} ({adapting['pairs']} pairs)\n"
        f"peak {limit['flops'] / 1e12:.2f} TFLOP/s, {limit['bandwidth'] / 1e9:.0f} GB/s ({limit['source']})"
    )
    for name in ("live", "cached"):
        print(
            f"{name:8}{record['images_per_second'][name]:>9.0f} images/s, "
            f"{100 * record['fraction_of_peak'][name]:.0f} % of peak, "
            f"{100 * record['fraction_of_roofline'][name]:.0f} % of the roofline"
        )


def _assignments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _defaults(component: type) -> dict[str, Any]:
    parameters = inspect.signature(component).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}


def _settings(row: Method) -> dict[str, Any]:
    """Every setting of a row, its own and those its parts come with."""
    return {
        "standardize": row.standardize,
        "warmup_epochs": row.warmup_epochs,
        **_defaults(DIVERGENCES[row.divergence]),
        **row.divergence_options,
        **_defaults(RULES[row.rule]),
        **row.rule_options,
    }


def _methods(arguments: argparse.Namespace) -> None:
    print(f"{'method':16} {'λ_CE':>5} {'λ_KD':>5}  formula")
    for row in METHODS.values():
        weight = f"{row.kd_weight:g}" if row.divergence else "–"
        print(f"{row.name:16} {row.ce_weight:>5g} {weight:>5}  {row.formula}")
        print(f"{'':30}{row.paper}")
        if row.note:
            print(f"{'':30}{row.note}")
        if row.divergence:
            print(f"{'':30}{_assignments(_settings(row))}")
        if row.table3:
            print(f"{'':30}Table 3 of 2503.09030: {_assignments(row.table3)}")
    print("\nAny method with a teacher takes another temperature rule, <method>+<rule>:")
    for suffix, rule in RULE_NAMES.items():
        defaults = {**_defaults(RULES[rule.rule]), **rule.options}
        print(f"  +{suffix:14} τ = {rule.formula}")
        print(f"{'':18}{rule.paper}")
        if rule.note:
            print(f"{'':18}{rule.note}")
        print(f"{'':18}{_assignments(defaults)}")


_COMMANDS = {
    "teacher": _teacher,
    "distill": _distill,
    "compare": _compare,
    "study": _study,
    "table": _table,
    "cache": _cache,
    "evaluate": _evaluate,
    "temperatures": _temperatures,
    "bench": _bench,
    "methods": _methods,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 an error told in one line, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        _COMMANDS[arguments.command](arguments)
    except Interrupted as interrupted:
        without = " without --fresh" if getattr(arguments, "fresh", False) else ""
        print(f"\n{interrupted}\nRepeat the command{without} to continue.", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except _USER_ERRORS as error:
        print(f"adakd: {error}", file=sys.stderr)
        return 1
    return 0
