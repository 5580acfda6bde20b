"""`adakd advise`: which temperature and which weight, from recorded logits."""

import argparse
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from .._check import FLOATS, brief, check_labels
from ..advice import advise
from ..training.files import first_sentence, tensor_of_npy, write_bytes
from .options import OptionError, add_json, file, new_command, path, word
from .output import write_result

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    parser = new_command(
        commands,
        "advise",
        run,
        help="recommend temperature and weight for recorded logits",
        description="How soft recorded logits are, the temperature of every rule on them, the weights at which all methods "
        "have the same gradient norm, what is wrong with them, and the settings that the study's records support. Files are .npy or "
        ".safetensors with the one name logits, or labels; nothing in them is run.",
    )
    parser.add_argument(
        "logits",
        type=path,
        metavar="LOGITS",
        help="of the teacher, (images, classes) or (images, views, classes)",
    )
    parser.add_argument(
        "--student",
        type=path,
        metavar="LOGITS",
        help="of the student for the same images, best before training (default: normal numbers)",
    )
    parser.add_argument("--labels", type=path, metavar="FILE", help="of the images, integers (images,)")
    parser.add_argument(
        "--reference",
        type=word,
        default="zkd",
        metavar="METHOD",
        help="the method whose gradient norm, at its published weight, the others are matched to (default: zkd)",
    )
    parser.add_argument(
        "--plot",
        type=file,
        metavar="FILE",
        help="write a figure of all temperatures there, .svg (needs matplotlib)",
    )
    add_json(parser, "the advice")


def run(arguments: argparse.Namespace) -> None:
    if arguments.plot is not None and not arguments.plot.endswith(".svg"):
        raise OptionError(f"--plot: expected a file name that ends in .svg, got {arguments.plot!r}")
    teacher = _read(arguments.logits, "logits")
    student = None if arguments.student is None else _read(arguments.student, "logits")
    labels = None if arguments.labels is None else _read(arguments.labels, "labels")
    if labels is not None and labels.ndim == 1 and teacher.ndim > 1:
        check_labels(labels, teacher.shape[-1], name=f"--labels {arguments.labels}")
    advice = advise(teacher, student, labels, reference=arguments.reference)
    if arguments.plot is not None:
        try:
            write_bytes(Path(arguments.plot), advice.plot().svg.encode())
        except ImportError as error:
            raise OptionError(f"--plot: {error}") from error
    write_result(arguments.json, advice.to_dict(), str(advice))


def _read(name: str, what: str) -> Tensor:
    """The one tensor of a file.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: for a file that holds something else; pickled objects are not read.
    """
    if not name.endswith((".npy", ".safetensors")):
        raise ValueError(
            f"{what}: expected a file .npy or .safetensors, got {brief(name)}; numpy.save writes one"
        )
    try:
        content = Path(name).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{what}: there is no file {brief(name)}; numpy.save writes one") from None
    try:
        tensors = {what: tensor_of_npy(content)} if name.endswith(".npy") else load_safetensors(content)
    except Exception as error:  # each reader has its own exceptions for damaged files
        raise ValueError(f"{name} cannot be read as {what} ({first_sentence(error)})") from error
    tensors.pop("examples", None)  # of `record_logits`: whose the rows are
    if {"indices", "values"} <= set(tensors) or {"indices", "codes"} <= set(tensors):
        raise ValueError(
            f"{name}: expected the logits of all classes, got the {tensors['indices'].shape[-1]} highest of a row; record them "
            "without top="
        )
    if set(tensors) != {what}:
        raise ValueError(
            f"{name}: expected one tensor named {what!r}, got {', '.join(sorted(tensors)) or 'nothing'}"
        )
    tensor = tensors[what]
    if what == "labels":
        if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
            raise ValueError(f"{name}: expected integers, a class for each image, got {tensor.dtype}")
        return tensor.long()
    if tensor.dtype not in FLOATS:
        raise ValueError(
            f"{name}: expected floating-point logits (images, classes) in float16, bfloat16, float32 or float64, got {tensor.dtype} of shape "
            f"{tuple(tensor.shape)}"
        )
    return tensor
