"""A teacher that is a file: logits that somebody has recorded, of all classes or of the highest."""

import hashlib
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from .._check import check_name
from .._progress import Bar
from ..data import Dataset, ImageData
from ..runs.config import Resources, RunConfig
from ..signals import Signals, Taps
from ..training.files import first_sentence
from ..training.loop import TeacherSource

__all__ = ["MISSING", "Recorded", "RecordedSource", "RecordedTeacher"]

MISSING = ("zero", "uniform", "sampled")
_ZERO = -60.0  # log-probability of a class that has none: it must stay finite, also divided by a temperature


class Recorded:
    r"""Recorded logits of a teacher for the training images, from a file.

    Either of all classes: ``logits`` (N, K), one row an image in the order of the training set, or (N, V, K), one an
    image and view (as `adakd.data.Views` numbers views). A ``.npy`` file holds just these. Or, in a ``.safetensors``
    file, of k classes: ``indices`` (N, k), and ``values`` (N, k), their log-probabilities :math:`\log p`. What is then
    known of the other classes is for you to say:

    * ``"zero"``: nothing is missing; the k probabilities are scaled to a sum of 1;
    * ``"uniform"``: the rest of the probability, :math:`1 - \sum p`, is spread over the other K - k classes evenly;
    * ``"sampled"``: the indices are draws with replacement from the teacher's distribution, a class may stand there
      twice, and the share of the draws is its probability: without bias in the mean over files (``values`` may be left
      out).

    A class without probability gets the log-probability -60. Where rows are standardized that number would decide
    everything: take "uniform" or all classes there.

    Args:
        path: of the file.
        missing: "zero", "uniform" or "sampled"; for a file of all classes without a meaning.
        sha256: what the file's bytes must hash to; not checked when left out, but recorded.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: for another ``missing``, a file that holds something else, or is not the one of the hash.
    """

    def __init__(self, path: str | os.PathLike[str], missing: str = "uniform", sha256: str | None = None):
        if missing not in MISSING:
            raise ValueError(f"missing: expected {', '.join(map(repr, MISSING))}, got {missing!r}")
        self.path, self.missing = Path(path), missing
        content = self.path.read_bytes()
        self.sha256 = hashlib.sha256(content).hexdigest()
        if sha256 is not None and sha256 != self.sha256:
            raise ValueError(f"{path} is not the file that it was: expected sha256 {sha256}, got {self.sha256}")
        self._tensors = self._read(content)

    def _read(self, content: bytes) -> dict[str, Tensor]:
        try:
            if self.path.suffix == ".npy":
                array = np.load(io.BytesIO(content), allow_pickle=False)  # of the bytes that were hashed
                tensors = {"logits": torch.from_numpy(np.ascontiguousarray(array))}
            elif self.path.suffix == ".safetensors":
                tensors = load_safetensors(content)
            else:
                raise ValueError("expected .npy or .safetensors")
        except Exception as error:  # each reader has its own exceptions for damaged files
            raise ValueError(f"{self.path} cannot be read as logits ({first_sentence(error)})") from error
        names = set(tensors)
        wanted = [{"logits"}, {"indices", "values"}, *([{"indices"}] if self.missing == "sampled" else [])]
        if names not in wanted:
            raise ValueError(
                f"{self.path}: expected 'logits', or 'indices' and 'values', got {', '.join(sorted(names)) or 'nothing'}"
            )
        return tensors

    def logits(self, classes: int) -> Tensor:
        """Logits (N, K) or (N, V, K) of all classes.

        Raises:
            ValueError: for numbers that are not finite, or indices of no class.
        """
        if "logits" in self._tensors:
            logits = self._tensors["logits"]
            if not logits.is_floating_point() or logits.ndim not in (2, 3) or logits.shape[-1] != classes:
                raise ValueError(
                    f"{self.path}: expected floating-point logits (N, {classes}) or (N, V, {classes}), "
                    f"got {logits.dtype} of shape {tuple(logits.shape)}"
                )
        else:
            logits = self._spread(classes)
        if not logits.isfinite().all():
            raise ValueError(f"{self.path}: some logits are NaN or infinite")
        return logits

    def _spread(self, classes: int) -> Tensor:
        """Log-probabilities of all classes from those of some."""
        indices = self._tensors["indices"].long()
        if indices.ndim != 2 or indices.numel() == 0 or indices.min() < 0 or indices.max() >= classes:
            raise ValueError(
                f"{self.path}: expected indices (N, k) from 0 to {classes - 1}, got shape {tuple(indices.shape)}"
                + (f", {int(indices.min())} to {int(indices.max())}" if indices.numel() else "")
            )
        count, kept = indices.shape
        if self.missing == "sampled":
            share = torch.zeros(count, classes, dtype=torch.float64)
            share.scatter_add_(1, indices, torch.full(indices.shape, 1 / kept, dtype=torch.float64))
            return share.log().clamp_min(_ZERO).float()
        values = self._tensors["values"].double()
        if values.shape != indices.shape:
            raise ValueError(
                f"{self.path}: expected values of the shape of indices {tuple(indices.shape)}, got {tuple(values.shape)}"
            )
        if (indices.sort(1).values.diff(dim=1) == 0).any():
            raise ValueError(f"{self.path}: a class stands twice in a row; drawn classes are missing='sampled'")
        total = values.exp().sum(1, keepdim=True)
        if not (total <= 1 + 1e-2).all():
            raise ValueError(
                f"{self.path}: expected values to be log-probabilities, whose probabilities sum to at most 1; "
                f"got a sum of {total.max().item():.4g}"
            )
        if self.missing == "zero":
            spread = torch.full((count, classes), _ZERO, dtype=torch.float64)
            return spread.scatter(1, indices, values - total.log()).float()
        rest = ((1 - total) / max(classes - kept, 1)).clamp_min(math.exp(_ZERO)).log()
        return rest.expand(count, classes).scatter(1, indices, values).float()

    def for_data(self, data: Dataset) -> "RecordedTeacher":
        """The teacher of the training images of a data set.

        Raises:
            ValueError: unless there is a row for each of them; for text.
        """
        if not isinstance(data, ImageData):
            raise ValueError(
                f"{self.path}: recorded logits are of images, a row each, and {data.name} is text, whose windows have a row "
                "a token; give the network: its logits for the windows that are seen are cached"
            )
        logits, images = self.logits(data.num_classes), len(data.train)
        views = data.views_of_each
        if len(logits) != images or (logits.ndim == 3 and logits.shape[1] != views):
            raise ValueError(
                f"{self.path}: expected logits of {images} training images of {data.name}"
                + (f" in {views} views" if logits.ndim == 3 else "")
                + f", got shape {tuple(logits.shape)}"
            )
        name = self.path.stem
        check_name("file of logits", name)
        identity: dict[str, Any] = {"model": name, "sha256": self.sha256, "logits": "recorded"}
        if "logits" not in self._tensors:
            identity["missing"] = self.missing
        return RecordedTeacher(logits, identity)


@dataclass(frozen=True)
class RecordedTeacher:
    """Recorded logits as the teacher of a run."""

    logits: Tensor
    identity: dict[str, Any]
    cached: bool = True

    def with_cache(self, data: Dataset, recipe: Any, dtype: str, precision: str) -> "RecordedTeacher":
        """Itself: there is nothing to compute."""
        return self

    def describe(self, config: RunConfig, progress: bool | Bar) -> dict[str, Any]:
        """Its identity, and its accuracy on the training images (it knows no others)."""
        logits = self.logits if self.logits.ndim == 2 else self.logits[:, 0]
        assert isinstance(config.data, ImageData)  # `for_data`
        labels = config.data.train.labels.cpu()
        right = (logits.argmax(1) == labels).double().mean().item()
        return {**self.identity, "transfer_accuracy": 100 * right}

    def source(self, config: RunConfig, resources: Resources, taps: Taps) -> TeacherSource:
        """Where a run's steps get the logits from."""
        data = config.data
        return RecordedSource(self.logits.to(data.device), data.views_of_each)


class RecordedSource:
    """Recorded logits on the device; no step waits for them."""

    def __init__(self, logits: Tensor, views: int):
        self.logits, self.views = logits, views

    def begin_epoch(self, slots: Tensor) -> None:
        """All is there."""

    def signals(self, images: Tensor, slots: Tensor) -> Signals:
        """Logits of one step."""
        image = slots // self.views
        if self.logits.ndim == 2:
            return Signals(self.logits[image])
        return Signals(self.logits[image, slots % self.views])
