"""A trained network as a file for other programs: ONNX, or an exported program of torch; checked before it is written."""

import contextlib
import copy
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ._version import __version__
from .data import ImageData, eval_batches, resolve_images
from .plan import check_arguments
from .runs import Run, data_of_run, open_run, refuse_other_data
from .signals import logits_of_output
from .training.files import first_sentence, write_bytes

__all__ = ["ExportError", "Exported", "export_network"]

_CHECKED = 64  # test images, in two batches of different size
_TOLERANCE = 1e-4  # of the largest logit, at least of 1: other kernels add up in another order, and no more


class ExportError(RuntimeError):
    """A network cannot be exported, a package is missing, or the file does not compute what the network does."""


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how it was checked."""

    path: Path
    about: dict[str, Any]
    """What the file says of itself: inputs, classes, normalization, and what it was trained by."""
    engine: str
    """What ran the file for the check."""
    images: int
    """How many test images it was checked on."""
    difference: float
    """The largest difference of a logit to the network's own."""
    agreeing: int
    """For how many of these images the highest logit is that of the same class."""


class Deployed(nn.Module):
    """A network from pixels in [0, 1], or from normalized ones, to logits and nothing else."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, data: ImageData, normalize: bool):
        super().__init__()
        self.network = network
        self.normalize = normalize
        self.register_buffer("mean", torch.tensor(data.mean).view(1, -1, 1, 1), persistent=normalize)
        self.register_buffer("std", torch.tensor(data.std).view(1, -1, 1, 1), persistent=normalize)

    def forward(self, images: Tensor) -> Tensor:
        if self.normalize:
            images = (images - self.mean) / self.std
        return logits_of_output(self.network(images))


def export_network(
    network: str | os.PathLike[str] | Run | nn.Module,
    file: str | os.PathLike[str],
    data: str | ImageData | None = None,
    *,
    normalize: bool = True,
    name: str | None = None,
    root: str | os.PathLike[str] | None = None,
    official: bool = True,
) -> Exported:
    """Write a trained network for other programs, in fp32, for any batch size and images of the data's size.

    The file is run on test images before it is written, and compared with the network as it is evaluated here. What a
    method has made of student and teacher (SimKD) is exported as it was saved.

    Args:
        network: a finished run or its folder (of a network that has no name ``open_run(folder, network=...)``), or a module,
            which goes from normalized images to logits.
        file: ``.onnx``, which needs onnx, onnxscript and onnxruntime, or ``.pt2``, for `torch.export.load`.
        data: a data set, for normalization and check; left out for a run of a data set with a name.
        normalize: whether normalization is inside, so that the file takes pixels in [0, 1]; else it is beside, in what the
            file says of itself: ``adakd`` in the metadata of ONNX, ``adakd.json`` in the extra files of ``.pt2``.
        name: what the file calls a module; its class when left out.
        root: folder of the downloaded data.
        official: verify CIFAR against the published checksums.

    Raises:
        ExportError: if the network cannot be exported, a package is missing, or the file computes something else.
        ValueError: for another kind of file, a run on text, or for data that are not the run's.
        FileNotFoundError: if the folder holds no finished run.
        DataError, WeightsError: if data or weights are missing or damaged.
    """
    check_arguments(
        network=network,
        file=file,
        root=root,
        normalize=normalize,
        official=official,
        **({} if data is None else {"data": data}),
    )
    file = Path(file)
    if file.suffix not in (".onnx", ".pt2"):
        raise ValueError(f"file: expected a name that ends in .onnx or .pt2, got {file.name!r}")
    if file.suffix == ".onnx":
        _require_onnx()
    about: dict[str, Any]
    if isinstance(network, nn.Module):
        if data is None:
            raise ValueError(
                "data: a module does not say what it was trained on; name the data set, or give it"
            )
        data = resolve_images(data, root, official, "export")
        about = {"model": name or type(network).__name__, "data": data.name}
        trained = copy.deepcopy(network)
    else:
        run = network if isinstance(network, Run) else open_run(Path(network))
        if "window" in run.record["data"]:
            raise ValueError(
                f"export is for images, and the network in {run.folder} reads tokens ({run.record['data']['name']}); "
                "run.model() is the network, for an export of your own"
            )
        of_run = data_of_run(run, root, "export_network(run, file, data)") if data is None else data
        data = resolve_images(of_run, root, run.record["data"]["official"], "export")
        refuse_other_data(run, data, "network")
        config = run.record["config"]
        about = {
            "model": config["model"],
            "method": config["method"],
            "data": data.name,
            "seed": run.record["seed"],
        }
        about |= {"accuracy": run.accuracy, "weights_sha256": run.record.get("weights_sha256")}
        trained = run.model()
    trained = trained.eval().requires_grad_(False).to("cpu", torch.float32)
    return _written(trained, file, data.to("cpu"), normalize, about)


def _written(
    network: nn.Module, file: Path, data: ImageData, normalize: bool, about: dict[str, Any]
) -> Exported:
    few = next(eval_batches(data, _CHECKED))[0]
    pixels = data.test.images[: len(few)].permute(0, 3, 1, 2).float() / 255
    inputs = pixels if normalize else few.contiguous()
    shape = ["batch", *inputs.shape[1:]]
    about = {
        "adakd": __version__,
        **about,
        "inputs": f"images, float32 {shape}: "
        + ("pixels in [0, 1]" if normalize else "(pixels in [0, 1] - mean) / std"),
        "outputs": f"logits, float32 ['batch', {data.num_classes}]",
        "normalization": "inside" if normalize else "beside",
        "mean": list(data.mean),
        "std": list(data.std),
        "classes": list(data.classes),
    }
    module = Deployed(network, data, normalize).eval()
    make, run = (_onnx, _run_onnx) if file.suffix == ".onnx" else (_program, _run_program)
    name = about["model"]
    try:
        with _quiet():
            content = make(module, inputs[:2], json.dumps(about))
    except Exception as error:  # an exporter fails in many ways
        raise ExportError(f"{name} cannot be exported to {file.suffix}: {first_sentence(error)}") from error
    with torch.no_grad():
        expected = logits_of_output(network(few))
    try:
        engine, found = run(content, inputs)
    except Exception as error:
        raise ExportError(f"{name}: the exported file does not run: {first_sentence(error)}") from error
    difference = (found - expected).abs().max().item()
    if not difference <= _TOLERANCE * max(1.0, expected.abs().max().item()):
        raise ExportError(
            f"{name}: the exported file is not this network: {engine} gives logits that differ by up to {difference:.2g}; "
            "nothing was written"
        )
    write_bytes(file, content)
    agreeing = int((found.argmax(1) == expected.argmax(1)).sum())
    return Exported(file, about, engine, len(inputs), difference, agreeing)


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f"{error}: ONNX needs three packages: pip install onnx onnxscript onnxruntime; a .pt2 file needs none"
        ) from error


def _onnx(module: nn.Module, example: Tensor, about: str) -> bytes:
    made: Any = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes={"images": {0: "batch"}},
        verbose=False,
    )
    made.model.metadata_props["adakd"] = about
    return made.model_proto.SerializeToString()


def _run_onnx(content: bytes, inputs: Tensor) -> tuple[str, Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    parts = [session.run(["logits"], {"images": part.numpy()})[0] for part in _two_batches(inputs)]
    return f"onnxruntime {onnxruntime.__version__}", torch.cat([torch.from_numpy(part) for part in parts])


def _program(module: nn.Module, example: Tensor, about: str) -> bytes:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(module, (example,), dynamic_shapes={"images": {0: batch}})
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"adakd.json": about})
    return buffer.getvalue()


def _run_program(content: bytes, inputs: Tensor) -> tuple[str, Tensor]:
    loaded = torch.export.load(io.BytesIO(content)).module()
    with torch.no_grad():
        return f"torch {torch.__version__}", torch.cat([loaded(part) for part in _two_batches(inputs)])


def _two_batches(inputs: Tensor) -> tuple[Tensor, ...]:
    """One image alone, and the others: a batch size that became a part of the file is found out."""
    return tuple(part.contiguous() for part in (inputs[:1], inputs[1:]) if len(part))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks on packages that nobody needs here."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
