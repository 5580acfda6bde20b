"""What a teacher says of every view, kept: exact, filled once, and shared by all students of that teacher.

A frozen teacher is a function of (image, view), and a run knows beforehand which views it will show: they are a pure
function of seed, epoch and image. So the teacher is asked about just those, each once and in large batches, before the
first step; whoever distills from it later, by whatever method, finds the answers. A file with a place for every view
of every image holds them, as a rule in fp16 (162 views of 50 000 images and 100 classes: 1.62 GB); places that were never filled
take no room on disk.
"""

import hashlib
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..data import ImageData, Views
from .files import read_json, write_json
from .precision import Precision

__all__ = ["CacheError", "ViewCache", "fits", "open_cache"]

log = logging.getLogger("adakd")

DTYPES = {"fp16": np.float16, "fp32": np.float32}
LARGEST = 8 * 2**30  # bytes: 5 times CIFAR-100's; a larger set runs with a live teacher
_IDENTITY, _FILLED = "cache.json", "filled.u8"
_FILL_BATCH = 512
_CHECKED = 32  # places that are asked of the live teacher again before a run relies on the file


class CacheError(RuntimeError):
    """The cache is damaged, cannot be written, or does not say what its teacher says."""


class ViewCache:
    """Logits of one teacher for the views of one training set, by place: ``image * views + view``.

    Made by `open_cache`. Filling can be stopped at any moment and goes on where it was; several processes may share
    the file, and one of them fills at a time.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]):
        self.folder = folder
        self.identity = identity
        self.views = identity["views"]
        places = identity["images"] * self.views
        self.shape = (places, identity["classes"])
        dtype = np.dtype(DTYPES[identity["dtype"]])
        logits = folder / f"logits.{identity['dtype']}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / _IDENTITY).is_file():
                write_json(folder / _IDENTITY, identity)
            for path, size in ((logits, dtype.itemsize * math.prod(self.shape)), (folder / _FILLED, places)):
                _reserve(path, size)
            if read_json(folder / _IDENTITY) != identity:
                raise CacheError(f"{folder} is the cache of another teacher or data set; delete it")
        except OSError as error:
            raise CacheError(
                f"{folder} cannot be written ({error}); choose another folder or use no cache"
            ) from error
        self._logits = np.memmap(logits, dtype=dtype, mode="r+", shape=self.shape)
        self._filled = np.memmap(folder / _FILLED, dtype=np.uint8, mode="r+", shape=(places,))

    def __repr__(self) -> str:
        return f"ViewCache({self.identity['teacher']}, {self.filled} of {self.shape[0]} views)"

    @property
    def filled(self) -> int:
        """How many places hold logits."""
        return int(np.count_nonzero(self._filled))

    def missing(self, places: Tensor) -> Tensor:
        """Which of these places (n,) hold nothing yet."""
        places = places.cpu()
        return places[torch.from_numpy(self._filled[places.numpy()] == 0)]

    def read(self, places: Tensor) -> Tensor:
        """Logits (n, K) of filled places (n,), as they are kept, on the device of `places`.

        Raises:
            CacheError: if one of them was never filled.
        """
        index = places.cpu().numpy()
        if not self._filled[index].all():
            raise CacheError(
                f"{self.folder}: {len(self.missing(places))} of the views asked for were never filled"
            )
        return torch.from_numpy(self._logits[index]).to(places.device)

    def fill(
        self, teacher: nn.Module, views: Views, places: Tensor, precision: Precision, progress: bool = True
    ) -> int:
        """Ask the teacher about those of `places` that are missing; returns how many these were.

        Args:
            teacher: in evaluation mode, on the device of `views`.
            views: of the whole training set or of a subset that contains these places.
            places: (n,), distinct.
            precision: number format of the teacher's forward passes.
            progress: show a progress bar with the time that is left.

        Raises:
            CacheError: if the teacher's logits are not finite or beyond fp16, or the disk is full.
        """
        with FileLock(self.folder / ".lock"):
            todo = self.missing(places)
            device = views.images.device
            bar = tqdm(
                total=len(todo),
                desc="teacher's views",
                unit="view",
                disable=not (progress and len(todo)),
                leave=False,
            )
            with bar:
                for part in todo.split(_FILL_BATCH):
                    logits = _ask(teacher, views, part.to(device), precision).float().cpu().numpy()
                    with np.errstate(over="ignore"):
                        kept = logits.astype(self._logits.dtype)
                    if not np.isfinite(kept).all():
                        raise CacheError(
                            f"the teacher's logits are NaN, infinite or beyond {self.identity['dtype']}: use no cache"
                        )
                    self._write(part.numpy(), kept)
                    bar.update(len(part))
        return len(todo)

    def _write(self, index: np.ndarray, logits: np.ndarray) -> None:
        self._logits[index] = logits
        self._logits.flush()  # the logits before the note that they are there: a kill between loses work, not truth
        self._filled[index] = 1
        self._filled.flush()

    def verify(self, teacher: nn.Module, views: Views, places: Tensor, precision: Precision) -> None:
        """Ask the live teacher about some of these filled places again.

        Raises:
            CacheError: if it says something else than the file.
        """
        if len(places) == 0:
            return
        some = places[torch.linspace(0, len(places) - 1, min(_CHECKED, len(places))).long().to(places.device)]
        live, kept = _ask(teacher, views, some, precision).float(), self.read(some).float()
        apart = ((live - kept).norm() / live.norm().clamp_min(1e-12)).item()
        # fp16 itself is off by 2e-4; bf16 kernels differ among batch sizes by a hundredth; another teacher by 1.
        allowed = 2e-3 if precision.name == "fp32" else 3e-2
        if not apart <= allowed:
            raise CacheError(
                f"{self.folder} does not say what its teacher says (relative distance {apart:.2g}); delete it"
            )


def _reserve(path: Path, size: int) -> None:
    """A file of this size, whose unwritten parts read as zero and take no room on disk."""
    if path.exists() and path.stat().st_size != size:
        raise CacheError(f"{path} has {path.stat().st_size} bytes, expected {size}; delete its folder")
    if not path.exists():
        with path.open("wb") as file:
            file.truncate(size)


@torch.no_grad()
def _ask(teacher: nn.Module, views: Views, places: Tensor, precision: Precision) -> Tensor:
    images = views.at(places)
    with precision.autocast(images.device):
        return teacher(images)


def fits(data: ImageData, views: int, dtype: str) -> bool:
    """Whether the logits of so many views of each training image stay below 8 GiB.

    Raises:
        ValueError: for an unknown format.
    """
    if dtype not in DTYPES:
        raise ValueError(f"cache: expected {', '.join(map(repr, DTYPES))} or None, got {dtype!r}")
    return np.dtype(DTYPES[dtype]).itemsize * len(data.train) * views * data.num_classes <= LARGEST


def open_cache(
    out: str | os.PathLike,
    data: ImageData,
    teacher: dict[str, Any],
    precision: Precision,
    views: int,
    dtype: str = "fp16",
) -> ViewCache:
    """The cache of a teacher for a training set under `out`, made where there is none.

    Args:
        out: folder of all runs; caches lie in ``cache`` under it.
        data: the set whose training images are seen.
        teacher: its ``model`` and the ``sha256`` of its weights.
        precision: number format in which the teacher answers.
        views: how many views an image has.
        dtype: "fp16" (1.62 GB for CIFAR-100 with all views) or "fp32" (twice that, and nothing is rounded).

    Raises:
        CacheError: if the folder holds something else or cannot be written.
    """
    identity = {
        "teacher": teacher["model"],
        "weights_sha256": teacher["sha256"],
        "data": data.name,
        "data_sha256": data.checksum,
        "images": len(data.train),
        "views": views,
        "padding": data.padding,
        "flip": data.flip,
        "classes": data.num_classes,
        "precision": precision.name,
        "dtype": dtype,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return ViewCache(Path(out) / "cache" / data.name / f"{teacher['model']}-{digest}", identity)
