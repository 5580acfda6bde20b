"""A teacher that is a file: logits that somebody has recorded, of all classes or of the highest."""

import hashlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as saved_safetensors
from torch import Tensor, nn

from .._check import FLOATS, brief, check_file, check_name, check_path, check_whole
from .._progress import Bar
from ..data import Dataset, ImageData, TokenData, eval_batches
from ..runs.config import Resources, RunConfig
from ..signals import Signals, Taps, logits_of_output
from ..training.files import first_sentence, tensor_of_npy, write_bytes
from ..training.loop import TeacherSource
from ..training.trainer import evaluating
from .source import fp32_of

__all__ = ["MISSING", "Recorded", "RecordedSource", "RecordedTeacher", "Rows", "record_logits"]

MISSING = ("zero", "uniform", "sampled")
_ZERO = -60.0  # log-probability of a class that has none: it must stay finite, also divided by a temperature
HASH_BYTES = 6  # of 50 000 images two have one hash by chance in one of 200 000 sets
_AT_ONCE = 256  # examples whose rows are spread over all classes at a time


class Recorded:
    r"""Recorded logits of a teacher for the training examples, from a file.

    Of images a row each in the order of the training set, (N, K), or one a view, (N, V, K), as `adakd.data.Views` numbers
    views. Of text a row for each token of each passage, (N, 2T, K), in the order of ``data.train.passages``; a window reads
    the rows of its tokens. `record_logits` writes such files.

    A ``.npy`` file holds the ``logits`` of all classes. A ``.safetensors`` file holds them too, or k of the classes in the
    place of K: ``indices``, and ``values``, their log-probabilities :math:`\log p`. What is then known of the other
    classes is for you to say:

    * ``"zero"``: nothing is missing; the k probabilities are scaled to a sum of 1;
    * ``"uniform"``: the rest of the probability, :math:`1 - \sum p`, is spread over the other K - k classes evenly;
    * ``"sampled"``: the indices are draws with replacement from the teacher's distribution, a class may stand there
      twice, and the share of the draws is its probability: without bias in the mean over files (``values`` may be left
      out).

    In the place of ``values`` there may be ``codes`` in 8 bits, k + 1 of them, :math:`\log p = -\text{scale}\,(c/255)^2`,
    which is fine where p is large; the last is that of each other class, which no sum of rounded numbers would tell. The scale
    is one for each row, or, in older files, one for all. A file
    with ``examples``, a hash of the pixels of each image that it has a row for, finds the rows of your images whatever their
    order, and of a part of them.

    A class without probability gets the log-probability -60. Where rows are standardized that number would decide
    everything: take "uniform" or all classes there. Only the rows of a step are spread over all classes at a time, so that
    memory holds what the file holds.

    Args:
        path: of the file.
        missing: "zero", "uniform" or "sampled"; for a file of all classes without a meaning.
        sha256: what the file's bytes must hash to; not checked when left out, but recorded.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: for another ``missing``, a file that holds something else, or is not the one of the hash.
    """

    def __init__(self, path: str | os.PathLike[str], missing: str = "uniform", sha256: str | None = None):
        check_file("a file of logits", path=path)
        if missing not in MISSING:
            raise ValueError(f"missing: expected {', '.join(map(repr, MISSING))}, got {missing!r}")
        self.path, self.missing = Path(path), missing
        content = self.path.read_bytes()
        self.sha256 = hashlib.sha256(content).hexdigest()
        if sha256 is not None and sha256 != self.sha256:
            raise ValueError(f"{path} is not the file that it was: expected sha256 {sha256}, got {self.sha256}")
        self._tensors = self._read(content)
        self._examples = self._tensors.pop("examples", None)

    def _read(self, content: bytes) -> dict[str, Tensor]:
        try:
            if self.path.suffix == ".npy":
                tensors = {"logits": tensor_of_npy(content)}  # of the bytes that were hashed
            elif self.path.suffix == ".safetensors":
                tensors = load_safetensors(content)
            else:
                raise ValueError("expected .npy or .safetensors")
        except Exception as error:  # each reader has its own exceptions for damaged files
            raise ValueError(f"{self.path} cannot be read as logits ({first_sentence(error)})") from error
        names = set(tensors) - {"examples"}
        wanted = [("logits",), ("indices", "values"), ("indices", "codes", "scale")]
        wanted += [("indices",)] if self.missing == "sampled" else []
        if names not in map(set, wanted):
            expected = ", or ".join(" and ".join(map(repr, each)) for each in wanted)
            raise ValueError(f"{self.path}: expected {expected}, got {', '.join(sorted(names)) or 'nothing'}")
        return tensors

    def rows(self, classes: int) -> "Rows":
        """The rows as they are in the file.

        Raises:
            ValueError: for numbers that are not finite, indices of no class, or values that are no log-probabilities.
        """
        check_whole(1, classes=classes)
        rows = Rows(self._tensors, classes, self.missing)
        try:
            rows.check()
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None
        return rows

    def logits(self, classes: int) -> Tensor:
        """Logits (N, K), (N, V, K) or (N, 2T, K) of all classes, all at once.

        Raises:
            ValueError: as `rows` does.
        """
        return self.rows(classes).at(...)

    def for_data(self, data: Dataset) -> "RecordedTeacher":
        """The teacher of the training examples of a data set.

        Raises:
            ValueError: unless there is a row for each of them; for data that are neither images nor text.
        """
        if not hasattr(data, "num_classes"):
            raise TypeError(f"data: expected an ImageData or a TokenData, got {brief(data)}")
        rows = self.rows(data.num_classes)
        if isinstance(data, ImageData):
            rows = self._in_order(rows, data)
            count, views = len(data.train), data.views_of_each
            fitting = [(count,), (count, views)]
            expected = f"{count} training images of {data.name}" + (
                f" in {views} views" if len(rows.shape) > 1 else ""
            )
        elif isinstance(data, TokenData):
            fitting = [tuple(data.train.passages.shape)]
            expected = f"{len(data.train)} training passages of {data.name} at their {fitting[0][1]} tokens"
        else:
            raise ValueError(
                f"{self.path}: recorded logits are of images or of text, and {data.name} is neither; give the network"
            )
        if rows.shape not in fitting:
            raise ValueError(
                f"{self.path}: expected logits of {expected}, got shape {(*rows.shape, rows.width)}"
            )
        name = self.path.stem
        check_name("file of logits", name)
        identity: dict[str, Any] = {"model": name, "sha256": self.sha256, "logits": "recorded"}
        if not rows.whole:
            identity["missing"] = self.missing
        return RecordedTeacher(rows, identity)

    def _in_order(self, rows: "Rows", data: ImageData) -> "Rows":
        """The rows of the training images in their order, where the file says whose they are."""
        if self._examples is None:
            return rows
        if self._examples.shape != (rows.shape[0], HASH_BYTES) or self._examples.dtype is not torch.uint8:
            raise ValueError(
                f"{self.path}: expected a hash of {HASH_BYTES} bytes for each of {rows.shape[0]} images, "
                f"got {self._examples.dtype} of shape {tuple(self._examples.shape)}"
            )
        found = {bytes(each): i for i, each in enumerate(self._examples.numpy())}
        places = [found.get(each) for each in hashes_of(data.train.images)]
        if (lost := places.count(None)) > 0:
            raise ValueError(
                f"{self.path}: {lost} of the {len(places)} training images of {data.name} are not among those that it has "
                "a row for; record the teacher on these images (adakd.record_logits)"
            )
        if places == list(range(rows.shape[0])):
            return rows
        index = torch.tensor(places)
        tensors = {name: x if name == "scale" and x.ndim == 1 else x[index] for name, x in rows.tensors.items()}
        return Rows(tensors, rows.classes, rows.missing)


def hashes_of(images: Tensor) -> list[bytes]:
    """A hash of the pixels of each image (N, H, W, C), uint8."""
    pixels = np.ascontiguousarray(images.cpu().numpy())
    return [hashlib.blake2b(image.tobytes(), digest_size=HASH_BYTES).digest() for image in pixels]


def _coded(values: Tensor, classes: int) -> dict[str, Tensor]:
    """Log-probabilities (..., k) in 8 bits, and that of each other class, of which the square root is even: as `Rows` reads them.

    The scale is a row's own, (..., 1): a row that is sure of one class makes no other coarse.
    """
    values, others = values.double(), classes - values.shape[-1]
    rest = (1 - values.exp().sum(-1, keepdim=True)) / max(others, 1)
    falls = -torch.cat([values, rest.clamp_min(math.exp(_ZERO)).log()], dim=-1)
    falls = falls.clamp_max(-_ZERO)  # as a class that has no probability
    scale = (falls if others else falls[..., :-1]).amax(-1, keepdim=True).clamp_min(1e-3).half()
    codes = (255 * (falls / scale.double()).clamp(0, 1).sqrt()).round()
    return {"codes": codes.to(torch.uint8), "scale": scale}


def _refuse_narrow(name: str, tensor: Tensor) -> None:
    """Raises ValueError for a format of floating-point numbers with which nothing is computed."""
    if tensor.dtype not in FLOATS:
        raise ValueError(
            f"expected {name} in float16, bfloat16, float32 or float64, got {tensor.dtype}; convert them before they are "
            f"saved: {name}.half()"
        )


class Rows:
    """Rows of logits as a file has them, of all classes or of k; spread over all classes where they are read.

    Args:
        tensors: ``logits``; or ``indices`` and, but for draws, ``values``, or ``codes`` and their ``scale``.
        classes: K.
        missing: what is known of the classes that a row does not have.
    """

    def __init__(self, tensors: dict[str, Tensor], classes: int, missing: str):
        self.tensors, self.classes, self.missing = tensors, classes, missing

    @property
    def whole(self) -> bool:
        """Whether rows have all classes."""
        return "logits" in self.tensors

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what there is a row for each of."""
        return tuple(self.tensors["logits" if self.whole else "indices"].shape[:-1])

    @property
    def width(self) -> int:
        """Numbers in a row of the file: K or k."""
        return self.tensors["logits" if self.whole else "indices"].shape[-1]

    def to(self, device: torch.device | str) -> "Rows":
        """The same rows on another device."""
        tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return Rows(tensors, self.classes, self.missing)

    def check(self) -> None:
        """Refuse what can be no teacher.

        Raises:
            ValueError: saying what was expected, and what is there.
        """
        if self.whole:
            logits = self.tensors["logits"]
            if not logits.is_floating_point() or logits.ndim not in (2, 3) or self.width != self.classes:
                raise ValueError(
                    f"expected floating-point logits (N, {self.classes}) or (N, V, {self.classes}), "
                    f"got {logits.dtype} of shape {tuple(logits.shape)}"
                )
            _refuse_narrow("logits", logits)
            if not logits.isfinite().all():
                raise ValueError("some logits are NaN or infinite")
            return
        indices = self.tensors["indices"]
        if indices.is_floating_point() or indices.is_complex() or indices.dtype is torch.bool:
            raise ValueError(
                f"expected indices to be integers, numbers of classes, got {indices.dtype}; convert them: indices.long()"
            )
        indices = indices.long()
        inside = indices.numel() and 0 <= indices.min() <= indices.max() < self.classes
        if indices.ndim not in (2, 3) or not inside:
            raise ValueError(
                f"expected indices (N, k) or (N, V, k) from 0 to {self.classes - 1}, got shape {tuple(indices.shape)}"
                + (f", {int(indices.min())} to {int(indices.max())}" if indices.numel() else "")
            )
        if self.missing == "sampled":
            return
        if "codes" in self.tensors:
            codes, scale = self.tensors["codes"], self.tensors["scale"]
            of_rows = (*indices.shape[:-1], 1)
            if (
                codes.dtype is not torch.uint8
                or scale.dtype not in FLOATS
                or scale.shape not in ((1,), of_rows)
            ):
                raise ValueError(
                    f"expected codes in torch.uint8 and a floating-point scale (1,), or {of_rows}, got {codes.dtype} and "
                    f"{scale.dtype} of shape {tuple(scale.shape)}"
                )
            if not ((scale > 0) & scale.isfinite()).all():
                wrong = scale[~((scale > 0) & scale.isfinite())]
                raise ValueError(f"expected finite scales above 0, got {wrong[0].item()}")
            if codes.shape != (*indices.shape[:-1], self.width + 1):
                raise ValueError(
                    f"expected codes (..., {self.width + 1}), one more than indices, got {tuple(codes.shape)}"
                )
        else:
            values = self.tensors["values"]
            if not values.is_floating_point():
                raise ValueError(
                    f"expected values to be log-probabilities, floating-point numbers, got {values.dtype}; write those that "
                    "log_softmax gives"
                )
            _refuse_narrow("values", values)
        values, _ = self.known(...)
        if values.shape != indices.shape:
            raise ValueError(
                f"expected values of the shape of indices {tuple(indices.shape)}, got {tuple(values.shape)}"
            )
        if not values.isfinite().all():
            raise ValueError("some values are NaN or infinite")
        if (indices.sort(-1).values.diff(dim=-1) == 0).any():
            raise ValueError("a class stands twice in a row; drawn classes are missing='sampled'")
        total = values.double().exp().sum(-1)
        if not (total <= 1 + 1e-2).all():
            raise ValueError(
                f"expected values to be log-probabilities, whose probabilities sum to at most 1; "
                f"got a sum of {total.max().item():.4g}"
            )

    def known(self, place: Any) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the k classes of the rows at a place, (..., k), and of each other class, (..., 1), in fp64."""
        if "codes" in self.tensors:
            codes, scale = self.tensors["codes"][place].double() / 255, self.tensors["scale"]
            scale = scale if scale.ndim == 1 else scale[place]
            values, rest = (-scale.double() * codes**2).split([self.width, 1], dim=-1)
            count = self.classes - self.width
            others = rest + math.log(count) if count else rest.new_full((), _ZERO)
            # Rounded, they do not quite add up to 1.
            total = torch.cat([values, others.expand_as(rest)], dim=-1).logsumexp(-1, keepdim=True)
            return values - total, rest - total
        values = self.tensors["values"][place].double()
        rest = (1 - values.exp().sum(-1, keepdim=True)) / max(self.classes - self.width, 1)
        return values, rest.clamp_min(math.exp(_ZERO)).log()

    def at(self, place: Any) -> Tensor:
        """Logits (..., K) of the rows at a place, as one indexes a tensor of them; log-probabilities where a row has k classes."""
        if self.whole:
            return self.tensors["logits"][place]
        indices = self.tensors["indices"][place].long()
        shape = (*indices.shape[:-1], self.classes)
        if self.missing == "sampled":
            share = torch.zeros(shape, dtype=torch.float64, device=indices.device)
            share.scatter_add_(-1, indices, torch.full_like(indices, 1, dtype=torch.float64) / self.width)
            return share.log().clamp_min(_ZERO).float()
        values, rest = self.known(place)
        if self.missing == "zero":
            spread = torch.full(shape, _ZERO, dtype=torch.float64, device=indices.device)
            return spread.scatter(-1, indices, values - values.logsumexp(-1, keepdim=True)).float()
        return rest.expand(shape).scatter(-1, indices, values).float()


@dataclass(frozen=True)
class RecordedTeacher:
    """Recorded logits as the teacher of a run."""

    rows: Rows
    identity: dict[str, Any]
    cached: bool = True

    def with_cache(self, data: Dataset, recipe: Any, dtype: str, precision: str) -> "RecordedTeacher":
        """Itself: there is nothing to compute."""
        return self

    def describe(self, config: RunConfig, progress: bool | Bar) -> dict[str, Any]:
        """Its identity, and its accuracy on the training examples (it knows no others)."""
        known: tuple[int | slice, ...]
        if isinstance(config.data, TokenData):
            labels, known = config.data.train.passages[:, 1:], (slice(None, -1),)
        else:
            assert isinstance(config.data, ImageData)  # `for_data`
            labels, known = config.data.train.labels, (0,) * (len(self.rows.shape) - 1)
        labels, right = labels.cpu(), 0
        for some in torch.arange(len(labels)).split(_AT_ONCE):
            right += int((self.rows.at((some, *known)).argmax(-1) == labels[some]).sum())
        return {**self.identity, "transfer_accuracy": 100 * right / labels.numel()}

    def source(self, config: RunConfig, resources: Resources, taps: Taps) -> TeacherSource:
        """Where a run's steps get the logits from."""
        data, rows = config.data, self.rows.to(config.data.device)
        if isinstance(data, TokenData):
            places = torch.arange(data.window, device=data.device)
            return RecordedSource(rows, lambda example, view: (example[:, None], view[:, None] + places), data)
        if len(rows.shape) == 1:
            return RecordedSource(rows, lambda example, view: example, data)
        return RecordedSource(rows, lambda example, view: (example, view), data)


class RecordedSource:
    """Recorded logits on the device; no step waits for them.

    Args:
        rows: of all training examples.
        place: of the rows that some views of some examples show.
        data: whose views they are.
    """

    def __init__(self, rows: Rows, place: Callable[[Tensor, Tensor], Any], data: Dataset):
        self.rows, self.place, self.views = rows, place, data.views_of_each

    def begin_epoch(self, slots: Tensor) -> None:
        """All is there."""

    def signals(self, images: Tensor, slots: Tensor) -> Signals:
        """Logits of one step."""
        return Signals(self.rows.at(self.place(slots // self.views, slots % self.views)))


@torch.no_grad()
def record_logits(
    network: nn.Module,
    data: ImageData | TokenData,
    path: str | os.PathLike[str],
    top: int | None = None,
    *,
    bits: int = 32,
    batch_size: int = 100,
) -> Recorded:
    r"""Record a network's logits for the training examples of a data set in a file, as `Recorded` reads it.

    Of an image the row for it as it is, without a view's flip or shift. Of text a row for each token of each passage,
    from the longest context that a window of T tokens has: token t is read after the min(t, T - 1) before it, so that a
    window's first tokens are known with what stands before the window.

    Args:
        network: images as `data` has them, or tokens (B, T), to logits (B, K) or (B, T, K); in training mode or not, it
            is run in evaluation mode and is left as it was. Of a half or double one that reads images a copy in fp32 is
            used.
        data: images or text, on the network's device.
        path: of the file, ``.safetensors``; one that is there is replaced, when all is known.
        top: keep the k highest classes alone, as log-probabilities; all logits when left out.
        bits: 32; or 8, with `top`, where a file has to be small: two bytes a class for up to 256 classes, and three a row. Of
            10 to 100 classes with logits of std 3, that is a KL of less than 1e-4 nats at τ = 1 in the mean over rows, and a
            log-probability above -7 is off by 0.06 at most, whatever other rows are. One below -60 becomes -60.
        batch_size: examples at once.

    Returns:
        The file as a teacher, with the rest of the probability spread evenly ("uniform").

    Raises:
        ValueError: for a file of another kind, a ``top`` that is not from 1 to K, 8 bits without it, or logits of another
            shape, that are integers or not finite: then no file is written.
        TypeError: for data that are neither images nor text, or a network that is no module.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network: expected a module, got {brief(network)}")
    if not isinstance(data, ImageData | TokenData):
        raise TypeError(f"data: expected ImageData or TokenData, got {type(data).__name__}")
    check_path("a .safetensors file", path=path)
    check_whole(1, batch_size=batch_size)
    path, classes = Path(path), data.num_classes
    if path.suffix != ".safetensors":
        raise ValueError(f"path: expected a .safetensors file, got {path.name!r}")
    if top is not None and (isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= classes):
        raise ValueError(f"top: expected an integer from 1 to the {classes} classes, got {top!r}")
    if bits not in (8, 32) or (bits == 8 and top is None):
        raise ValueError(f"bits: expected 32, or 8 with top=, got {bits!r} with top={top!r}")
    # Images are fp32, and tokens have no format.
    network = fp32_of(network) if isinstance(data, ImageData) else network
    parts = (_of_text if isinstance(data, TokenData) else _of_images)(network, data, batch_size)
    kept: dict[str, list[Tensor]] = {}
    small = bits == 8 and classes <= 256
    with evaluating(network):
        for part in parts:
            logits = part.float().cpu()
            if not logits.isfinite().all():
                raise ValueError("the network's logits are not finite: it cannot teach")
            if top is None:
                found = {"logits": logits}
            else:
                values, indices = logits.log_softmax(-1).topk(top)
                found = {"values": values, "indices": indices.to(torch.uint8 if small else torch.int32)}
            for name, tensor in found.items():
                kept.setdefault(name, []).append(tensor)
    tensors = {name: torch.cat(parts) for name, parts in kept.items()}
    if bits == 8:
        tensors |= _coded(tensors.pop("values"), classes)
    if isinstance(data, ImageData):
        tensors["examples"] = torch.frombuffer(
            bytearray(b"".join(hashes_of(data.train.images))), dtype=torch.uint8
        )
        tensors["examples"] = tensors["examples"].view(-1, HASH_BYTES)
    write_bytes(path, saved_safetensors(tensors))
    return Recorded(path)


def _of_images(network: nn.Module, data: Any, batch_size: int) -> Iterator[Tensor]:
    """Logits (B, K) for the training images as they are."""
    for images, _ in eval_batches(replace(data, test=data.train), batch_size):
        yield _outputs(network, images, data, (len(images),))


def _of_text(network: nn.Module, data: Any, batch_size: int) -> Iterator[Tensor]:
    """Logits (B, 2T, K) for the tokens of the training passages, each from the longest context in a window of T."""
    window = data.window
    for passages in data.train.passages.split(batch_size):
        rows = len(passages), window
        first = _outputs(network, passages[:, :window], data, rows)
        later = [
            _outputs(network, passages[:, begin : begin + window], data, rows)[:, -1]
            for begin in range(1, window + 1)
        ]
        yield torch.cat([first, torch.stack(later, dim=1)], dim=1)


def _outputs(network: nn.Module, inputs: Tensor, data: Any, rows: tuple[int, ...]) -> Tensor:
    """A network's logits (*rows, K) for these inputs.

    Raises:
        ValueError: for logits of another shape, or in no format of logits.
    """
    logits, expected = logits_of_output(network(inputs)), (*rows, data.num_classes)
    if logits.shape != expected:
        raise ValueError(
            f"network: expected logits of the {data.num_classes} classes of {data.name}, of shape {expected} for "
            f"{len(inputs)} {'passages' if data.reads != 'images' else data.reads}, got shape {tuple(logits.shape)}"
        )
    if logits.dtype not in FLOATS:
        raise ValueError(
            f"network: expected floating-point logits, what it gives before softmax or argmax, got {logits.dtype}"
        )
    return logits
