"""`adakd export`: a finished run's network, or published weights, as ONNX or as a program of torch."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..data import resolve_images
from ..export import Exported, export_network
from ..models import network_of
from ..runs import loaded_model
from .options import add_json, add_run_or_weights, check_run_or_weights, file, new_command, refuse_beside_folder
from .output import write_result

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    parser = new_command(
        commands,
        "export",
        run,
        help="write a student as ONNX or .pt2, checked on test images",
        description="A finished run's network (or a file of weights: --weights FILE --model NAME --data NAME) for other "
        "programs: .onnx, or .pt2 for torch.export.load. Any batch size; the file is run on test images first, and "
        "compared with the network.",
    )
    parser.add_argument(
        "--to",
        dest="target",
        type=_target,
        required=True,
        metavar="FILE",
        help="what to write: a name that ends in .onnx or .pt2",
    )
    parser.add_argument(
        "--normalized",
        action="store_true",
        help="let the file take normalized images; without it, normalization is inside and it takes pixels in [0, 1]",
    )
    add_run_or_weights(parser)
    add_json(parser, "what was written and how it was checked")


def _target(text: str) -> Path:
    if Path(file(text)).suffix not in (".onnx", ".pt2"):
        raise argparse.ArgumentTypeError(f"expected a file name that ends in .onnx or .pt2, got {text[:60]!r}")
    return Path(text)


def run(arguments: argparse.Namespace) -> None:
    check_run_or_weights(arguments)
    normalize = not arguments.normalized
    if arguments.run_folder is not None:
        refuse_beside_folder(arguments, "model", "data", "unofficial-archive")
        found = export_network(arguments.run_folder, arguments.target, normalize=normalize, root=arguments.root)
    else:
        chosen = network_of(arguments.model)
        data = resolve_images(
            arguments.data or "gratings", arguments.root, not arguments.unofficial_archive, "export"
        )
        network = loaded_model(chosen, data.num_classes, data.channels, Path(arguments.weights))
        found = export_network(network, arguments.target, data, normalize=normalize, name=chosen.name)
    result = {**asdict(found), "path": str(found.path), "bytes": found.path.stat().st_size}
    write_result(arguments.json, result, _text(found))


def _text(found: Exported) -> str:
    about = found.about
    mean, std = (", ".join(f"{value:.4g}" for value in about[name]) for name in ("mean", "std"))
    return (
        f"{found.path}: {about['model']} on {about['data']}\n"
        f"inputs: {about['inputs']}\n"
        f"outputs: {about['outputs']}\n"
        f"normalization: {about['normalization']} (mean {mean}; std {std})\n"
        f"checked by {found.engine} on {found.images} test images: logits differ by at most {found.difference:.2g}, "
        f"{found.agreeing} of {found.images} classes agree"
    )
