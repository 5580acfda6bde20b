"""`adakd bench`: what losses and training steps cost."""

import argparse
from typing import Any

from ..bench import PAIRS, StepBench, bench_losses, bench_methods, bench_step
from ..runs import resolve_device
from .options import MOST, add_capture, add_json, integer, new_command, word
from .output import write_result

__all__ = ["add_parser", "run_losses", "run_methods", "run_step"]


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure what losses and steps cost",
        description="Time each method's loss as a ratio to plain KD, or a training step and its parts.",
    )
    kinds = parser.add_subparsers(dest="what", metavar="WHAT", required=True, help="losses, step or methods")
    losses = new_command(
        kinds,
        "losses",
        run_losses,
        help="forward and backward of each method's loss, as ratios to plain KD from one run",
        description="Time forward and backward of each method's loss, as ratios to plain KD from one run.",
    )
    losses.add_argument(
        "--methods", nargs="+", type=word, metavar="NAME", help="only these (default: all on logits alone)"
    )
    losses.add_argument(
        "--compiled", action="store_true", help="through torch.compile (each method compiles first)"
    )
    step = new_command(
        kinds,
        "step",
        run_step,
        help="a training step, split into its parts, beside what the hardware could do",
        description="Time a training step on random pixels in CIFAR-100's shape, split into data, teacher, student, "
        "loss and optimizer, beside the peak and the per-layer roofline of the device.",
    )
    methods = new_command(
        kinds,
        "methods",
        run_methods,
        help="a training step of each method, as ratios to one by plain KD",
        description="Time a training step with a live teacher on random pixels in CIFAR-100's shape, by each method, as "
        "ratios to one by plain KD from one run.",
    )
    methods.add_argument(
        "--methods",
        nargs="+",
        type=word,
        metavar="NAME",
        help="only these (default: all that are terms)",
    )
    methods.add_argument(
        "--rounds", type=integer("rounds", 1, MOST), default=10, metavar="N", help="(default: 10)"
    )
    for kind in (step, methods):
        kind.add_argument(
            "--teacher", type=word, default="resnet32x4", metavar="NAME", help="(default: resnet32x4)"
        )
        kind.add_argument(
            "--student", type=word, default="resnet8x4", metavar="NAME", help="(default: resnet8x4)"
        )
        kind.add_argument(
            "--batch-size", type=integer("batch_size", 1, 65_536), default=64, metavar="N", help="(default: 64)"
        )
        kind.add_argument(
            "--precision",
            type=word,
            default="auto",
            metavar="NAME",
            help="fp32, bf16, fp16 or auto (default: auto)",
        )
    step.add_argument("--method", type=word, default="zkd+mlt", metavar="NAME", help="(default: zkd+mlt)")
    step.add_argument(
        "--pairs",
        type=integer("pairs", 1, MOST),
        default=PAIRS,
        metavar="N",
        help="how often a step with adaptive temperature and one with a fixed temperature are held against each other "
        f"(default: {PAIRS})",
    )
    add_capture(step)
    for kind in (losses, step, methods):
        kind.add_argument(
            "--device", type=word, default="auto", metavar="NAME", help="cpu, cuda or auto (default: auto)"
        )
        add_json(kind)


def run_losses(arguments: argparse.Namespace) -> None:
    device = resolve_device(arguments.device)
    record = bench_losses(arguments.methods, device=device, compiled=arguments.compiled)
    write_result(arguments.json, record, "\n".join(lines_of_losses(record)))


def run_step(arguments: argparse.Namespace) -> None:
    settings = StepBench(
        arguments.teacher,
        arguments.student,
        arguments.method,
        batch_size=arguments.batch_size,
        precision=arguments.precision,
        capture=arguments.capture,
        pairs=arguments.pairs,
    )
    record = bench_step(settings, device=resolve_device(arguments.device))
    write_result(arguments.json, record, "\n".join(lines_of_step(record)))


def run_methods(arguments: argparse.Namespace) -> None:
    record = bench_methods(
        arguments.methods,
        arguments.teacher,
        arguments.student,
        batch_size=arguments.batch_size,
        device=resolve_device(arguments.device),
        precision=arguments.precision,
        rounds=arguments.rounds,
    )
    write_result(arguments.json, record, "\n".join(lines_of_methods(record)))


def lines_of_methods(record: dict[str, Any]) -> list[str]:
    config = record["config"]
    return [
        f"{config['teacher']} → {config['student']}, batch {config['batch_size']}, {config['precision']}: a whole step with "
        f"a live teacher, ratio to {config['reference']} of the same run (median, lowest and highest of "
        f"{config['rounds']} rounds), and parameters beside the student's",
        *(
            f"{row['method']:18}{row['ratio']['median']:>8.2f}{row['ratio']['lowest']:>8.2f}{row['ratio']['highest']:>8.2f}"
            f"{row['parameters']:>12,}"
            for row in record["rows"]
        ),
    ]


def lines_of_losses(record: dict[str, Any]) -> list[str]:
    rows = record["rows"]
    shapes = list(rows[0]["ratio"])
    how = "compiled" if record["config"]["compiled"] else "eager"
    return [
        f"forward + backward, {how}, median ratio to kd of the same run",
        f"{'method':16}" + "".join(f"{shape:>12}" for shape in shapes),
        *(
            f"{row['method']:16}" + "".join(f"{row['ratio'][shape]['median']:>12.2f}" for shape in shapes)
            for row in rows
        ),
    ]


def lines_of_step(record: dict[str, Any]) -> list[str]:
    config, limit, adapting = record["config"], record["ceiling"], record["adaptive_to_fixed"]
    return [
        f"{config['teacher']} → {config['student']} by {config['method']}, batch {config['batch_size']}, "
        f"{config['precision']} ({config['precision_reason']}), "
        f"{'captured' if config['captured'] else 'not captured'} ({config['captured_reason']})",
        f"{'part':12}{'ms':>9}{'share of the live step':>26}",
        *(
            f"{name:12}{1000 * seconds['median']:>9.2f}{100 * record['share'][name]['median']:>24.1f} %"
            for name, seconds in record["seconds"].items()
        ),
        f"adaptive to fixed temperature, whole cached step: {adapting['median']:.4f}, 95 % interval "
        f"{adapting['low']:.4f} to {adapting['high']:.4f} ({adapting['pairs']} pairs)",
        f"peak {limit['flops'] / 1e12:.2f} TFLOP/s, {limit['bandwidth'] / 1e9:.0f} GB/s ({limit['source']})",
        *(
            f"{name:8}{record['images_per_second'][name]:>9.0f} images/s, "
            f"{100 * record['fraction_of_peak'][name]:.0f} % of peak, "
            f"{100 * record['fraction_of_roofline'][name]:.0f} % of the roofline"
            for name in ("live", "cached")
        ),
    ]
