"""A teacher's logits of every view, kept: filled once, and shared by all students of that teacher.

A frozen teacher is a function of (image, view), and a run knows beforehand which views it will show: they are a pure
function of seed, epoch and image. So the teacher runs on just those, each once and in large batches, before the
first step; whoever distills from it later, by whatever method, finds the logits. A file with a place for every view
of every image holds them, in fp16 as a rule (162 views of 50 000 images and 100 classes: 1.62 GB); stretches of it that
were never filled take no room on disk. Beside it stand a checksum of every row, which is looked at when the row is
read, and a note that it is there. The rows do not depend, to the last bit, on when and with which others they were computed.
"""

import contextlib
import hashlib
import json
import logging
import math
import os
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from .._check import check_name, check_path
from .._progress import progress_bar
from ..data import Dataset, ExampleViews
from ..signals import logits_of_output
from .files import read_json, remove_leftovers, write_json
from .precision import Precision
from .world import ALONE, World

__all__ = ["CacheError", "ViewCache", "fits", "open_cache"]

log = logging.getLogger("adakd")

DTYPES = {"fp16": np.float16, "fp32": np.float32}
LARGEST = 8 * 2**30  # bytes: 5 times CIFAR-100's; a larger set runs with a live teacher
_IDENTITY, _FILLED, _CHECKS = "cache.json", "filled.u8", "checks.u32"
# The teacher's forward pass is always of so many images, the last of them repeated where there are fewer. A kernel's
# choice of algorithm, and with it the last bits of a row, depends on the size of the batch, and (tried on CPUs, in fp32
# and bf16, with one thread and two) neither on a row's place in it nor on its company.
FILL_BATCH = 256
_SECONDS_BETWEEN_COMMITS = 5.0
# Of a row's standard deviation, in the rounding to fp16; usual teachers lose a thousandth.
_MOST_LOST = 0.01
_IN_FP32 = "keep them in fp32, cache='fp32' / --cache fp32"


class CacheError(RuntimeError):
    """The cache is damaged, cannot be written, or does not hold the logits of its teacher."""


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
        self.shape = (places, *identity.get("rows", ()), identity["classes"])
        self.dtype = np.dtype(DTYPES[identity["dtype"]])
        self._paths = folder / f"logits.{identity['dtype']}", folder / _CHECKS, folder / _FILLED
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._locked():  # two processes may come to an empty folder at once
                remove_leftovers(folder, [_IDENTITY])
                if not (folder / _IDENTITY).is_file():
                    write_json(folder / _IDENTITY, identity)
                for path, size in zip(
                    self._paths, (self.dtype.itemsize * math.prod(self.shape), 4 * places, places), strict=True
                ):
                    _reserve(path, size)
            try:
                found = read_json(folder / _IDENTITY, f"delete {folder}, and it is filled again")
            except ValueError as error:
                raise CacheError(str(error)) from error
            if found != identity:
                raise CacheError(f"{folder} is the cache of another teacher or data set; delete it")
        except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
            raise CacheError(
                f"{folder} cannot be written ({error}); choose another folder or use no cache"
            ) from error
        self._logits = np.memmap(self._paths[0], dtype=self.dtype, mode="r", shape=self.shape)
        self._checks = np.memmap(self._paths[1], dtype=np.uint32, mode="r", shape=(places,))
        self._filled = np.memmap(self._paths[2], dtype=np.uint8, mode="r", shape=(places,))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=2)
        except Timeout:
            log.info("another process is filling %s; waiting for it", self.folder)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def __repr__(self) -> str:
        return f"ViewCache({self.identity['teacher']}, {self.filled} of {self.shape[0]} views)"

    def _holds(self, index: np.ndarray | slice) -> np.ndarray:
        """Which of these places hold logits: what was kept before there were checksums is computed anew."""
        return (self._filled[index] != 0) & (self._checks[index] != 0)

    @property
    def filled(self) -> int:
        """How many places hold logits."""
        return int(np.count_nonzero(self._holds(slice(None))))

    def missing(self, places: Tensor) -> Tensor:
        """Which of these places (n,) hold nothing yet."""
        places = places.cpu()
        return places[torch.from_numpy(~self._holds(places.numpy()))]

    def read(self, places: Tensor) -> Tensor:
        """Logits (n, K), of text (n, T, K), of filled places (n,), as they are kept, on the device of `places`.

        Raises:
            CacheError: if one of them was never filled, or is not what was written there.
        """
        index = places.cpu().numpy()
        if not self._holds(index).all():
            raise CacheError(
                f"{self.folder}: {len(self.missing(places))} of the views to be read were never filled"
            )
        rows = self._logits[index]
        changed = [
            place
            for place, check, kept in zip(
                index.tolist(), _checks_of(index, rows), self._checks[index], strict=True
            )
            if check != kept
        ]
        if changed:
            image, view = divmod(changed[0], self.views)
            raise CacheError(
                f"{self._paths[0]}: {len(changed)} of {len(index)} rows are not what was written (first: image "
                f"{image}, view {view}); delete {self.folder}, and it is filled again"
            )
        return torch.from_numpy(rows).to(places.device)

    def fill(
        self,
        teacher: nn.Module,
        views: ExampleViews,
        places: Tensor,
        precision: Precision,
        progress: bool = True,
        world: World = ALONE,
    ) -> int:
        """Compute the teacher's logits for those of `places` that are missing; returns how many these were.

        Args:
            teacher: in evaluation mode, on the device of `views`.
            views: of the whole training set or of a subset that contains these places.
            places: (n,), distinct.
            precision: number format of the teacher's forward passes.
            progress: show a progress bar with the time that is left.
            world: processes of which each computes its part.

        Raises:
            CacheError: if the teacher's logits are not finite, or fp16 cannot keep them, or the disk is full.
            ValueError: if a place is of an image that `views` does not hold, or the logits are of another shape.
        """
        with contextlib.ExitStack() as lock:

            def begin() -> Tensor:
                lock.enter_context(self._locked())
                return self.missing(places)

            todo = world.lead(begin)
            parts = (todo.split(FILL_BATCH) if len(todo) else ())[world.rank :: world.size]
            world.together(lambda: self._fill(teacher, views, parts, precision, progress))
        return len(todo)

    def _fill(
        self,
        teacher: nn.Module,
        views: ExampleViews,
        parts: Sequence[Tensor],
        precision: Precision,
        progress: bool,
    ) -> None:
        """Fill these places, (at most `FILL_BATCH`,) each; the lock is held."""
        total, device = sum(map(len, parts)), views.index.device
        if total:
            with (
                self._writing() as write,
                progress_bar(progress, total, desc="teacher's views", unit="view", leave=False) as bar,
            ):
                for part in parts:
                    logits = _outputs(teacher, views, part.to(device), precision).float().cpu().numpy()
                    self._refuse_other_shape(logits.shape[1:])
                    write(part.tolist(), _kept(logits, self.dtype))
                    bar.update(len(part))

    def _refuse_other_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ValueError unless a view's logits are of the shape that there is room for."""
        expected = self.shape[1:]
        if shape == expected:
            return
        if shape[:-1] == expected[:-1]:
            raise ValueError(
                f"teacher and student disagree on the number of classes: {shape[-1]} and {expected[-1]}; they must be "
                "trained on the same labels (for a loss that compares the classes of both, cache=None)"
            )
        raise ValueError(
            f"teacher: expected logits of shape {('batch', *expected)}, got {('batch', *shape)}; say where they are in "
            "what it returns, or return them alone"
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Any]:
        """A function write(places, logits); what it has written counts as filled when it is safely on disk.

        By pwrite, and not through the map: a full disk is then an error with a name, and not the end of the process.
        """
        logits_file, checks_file, filled_file = (os.open(path, os.O_WRONLY) for path in self._paths)
        pending: list[tuple[int, int]] = []
        committed_at = time.monotonic()

        def commit() -> None:
            # The logits before their checksum, and both before the note that they are there: a kill in between loses
            # work, and not truth.
            os.fsync(logits_file)
            for place, check in pending:
                _put(checks_file, check.to_bytes(4, sys.byteorder), 4 * place)
            os.fsync(checks_file)
            for place, _ in pending:
                _put(filled_file, b"\1", place)
            pending.clear()

        def write(places: list[int], logits: np.ndarray) -> None:
            nonlocal committed_at
            for place, row in zip(places, logits, strict=True):
                _put(logits_file, row.tobytes(), place * row.nbytes)
            pending.extend(zip(places, _checks_of(places, logits), strict=True))
            if time.monotonic() - committed_at > _SECONDS_BETWEEN_COMMITS:
                commit()
                committed_at = time.monotonic()

        try:
            try:
                yield write
            finally:  # also after Ctrl-C: every row was paid for
                commit()
        except OSError as error:
            raise CacheError(f"{self.folder} cannot be written ({error}); what is in it stays") from error
        finally:
            for file in (logits_file, checks_file, filled_file):
                os.close(file)

    def refuse_other(self, data: Dataset, views: int) -> None:
        """Raises ValueError unless this is a cache for so many views of these training images."""
        mine = self.identity["data_sha256"], self.views, self.identity["classes"]
        if mine != (data.checksum, views, data.num_classes):
            raise ValueError(f"teacher: {self!r} is of other data than {data.name} with {views} views an image")

    def verify(self, teacher: nn.Module, views: ExampleViews, places: Tensor, precision: Precision) -> None:
        """Compare some of these filled places with the live teacher.

        Raises:
            CacheError: if its logits are not those of the file, or fp16 cannot keep them.
        """
        if len(places) == 0:
            return
        count = min(FILL_BATCH, len(places))  # as many as a forward pass has anyway
        some = places[torch.arange(count, device=places.device) * (len(places) - 1) // max(count - 1, 1)]
        live, kept = _outputs(teacher, views, some, precision).float(), self.read(some).float()
        _kept(live.cpu().numpy(), self.dtype)  # of a file that was filled before this was looked at
        apart = ((live - kept).norm() / live.norm().clamp_min(1e-12)).item()
        # fp16 itself is off by 2^-11 / sqrt(8 ln 2) = 2.1e-4; bf16 kernels differ among batch sizes by a hundredth;
        # another teacher by 1.
        allowed = 2e-3 if precision.name == "fp32" else 3e-2
        if not apart <= allowed:
            raise CacheError(
                f"{self.folder} does not hold the logits of its teacher (relative distance {apart:.2g}); delete it"
            )


def _kept(logits: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Logits (..., K), fp32, in the format of the file.

    Raises:
        CacheError: if they are not finite, or if fp16 cannot keep them: it has 11 bits of a number, and what a row says is
            in the differences of its numbers.
    """
    if not np.isfinite(logits).all():
        raise CacheError("the teacher's logits are not finite: it cannot teach")
    if dtype == np.float32:
        return logits
    with np.errstate(over="ignore"):
        kept = logits.astype(dtype)
    largest = np.abs(logits).max(axis=-1)  # (...)
    if not np.isfinite(kept).all():
        raise CacheError(f"the teacher's logits reach {largest.max():.3g}, beyond fp16: {_IN_FP32}")
    spread, lost = logits.std(axis=-1), (kept - logits).std(axis=-1)  # what all have in common changes nothing
    # A row that is constant in fp32, to its last bits, has no differences to lose.
    damaged = (lost > _MOST_LOST * spread) & (spread > 8 * np.finfo(np.float32).eps * largest)
    if damaged.any():
        row = np.argmax(np.where(damaged, lost / np.where(damaged, spread, 1), 0))
        raise CacheError(
            f"the teacher's logits reach {largest.flat[row]:.3g} in a row whose spread (std) is {spread.flat[row]:.3g}, and of "
            f"that {lost.flat[row] / spread.flat[row]:.2g} is lost in fp16: {_IN_FP32}"
        )
    return kept


def _put(file: int, content: bytes, at: int) -> None:
    """Write all of it at a place: where little room is left, the system writes a part, and says so in a number alone."""
    rest = memoryview(content)
    while rest:
        written = os.pwrite(file, rest, at)
        rest, at = rest[written:], at + written


def _checks_of(places: Sequence[int] | np.ndarray, rows: np.ndarray) -> list[int]:
    """CRC-32 of each row and of its place, so that a row in another's place is found out too; never 0, which is none."""
    content, size = memoryview(rows.tobytes()), rows[:1].nbytes
    return [
        zlib.crc32(content[k * size : (k + 1) * size], int(place) & 0xFFFFFFFF) or 1
        for k, place in enumerate(places)
    ]


def _reserve(path: Path, size: int) -> None:
    """A file of this size, whose unwritten parts read as zero and take no room on disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        found = os.fstat(handle).st_size
        if found == 0:  # new, or left by a process that was killed here
            os.ftruncate(handle, size)
        elif found != size:
            raise CacheError(f"{path} has {found} bytes, expected {size}; delete its folder")
    finally:
        os.close(handle)


@torch.no_grad()
def _outputs(teacher: nn.Module, views: ExampleViews, places: Tensor, precision: Precision) -> Tensor:
    """The teacher's logits of at most `FILL_BATCH` views, as they come in a batch of just that size."""
    padding = places[-1:].expand(FILL_BATCH - len(places))
    images = views.at(torch.cat([places, padding]))
    with precision.autocast(images.device):
        return logits_of_output(teacher(images))[: len(places)]


def fits(data: Dataset, views: int, dtype: str) -> bool:
    """Whether the logits of so many views of each training image stay below 8 GiB.

    Raises:
        ValueError: for an unknown format.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected {' or '.join(map(repr, DTYPES))}, got {dtype!r}")
    return np.dtype(DTYPES[dtype]).itemsize * len(data.train) * views * math.prod(data.logits_shape) <= LARGEST


def open_cache(
    out: str | os.PathLike[str],
    data: Dataset,
    teacher: dict[str, Any],
    precision: Precision,
    views: int,
    dtype: str = "fp16",
) -> ViewCache:
    """The cache of a teacher for a training set under `out`, made where there is none.

    Args:
        out: folder of all runs; caches lie in ``cache`` under it.
        data: the set whose training images are seen.
        teacher: its ``model``, the ``sha256`` of its weights, and the ``settings`` of one whose name does not say them.
        precision: number format in which the teacher runs.
        views: how many views an image has.
        dtype: "fp16" (1.62 GB for CIFAR-100 with all views) or "fp32" (twice that, and nothing is rounded).

    Raises:
        CacheError: if the folder holds something else or cannot be written.
        ValueError: for names of teacher or data that could lead out of `out`.
    """
    check_path("a folder", out=out)
    check_name("data set", data.name)
    for part in teacher["model"].split("/"):  # "timm/resnet18" lies in a folder of that package
        if not part.isidentifier():
            check_name("teacher", part)
    identity = {
        "teacher": teacher["model"],
        "weights_sha256": teacher["sha256"],
        **({"settings": teacher["settings"]} if "settings" in teacher else {}),
        "data": data.name,
        "data_sha256": data.checksum,
        "images": len(data.train),
        "views": views,
        **data.describe_views(),
        "classes": data.num_classes,
        **({"rows": list(data.logits_shape[:-1])} if len(data.logits_shape) > 1 else {}),
        "precision": precision.name,
        "dtype": dtype,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return ViewCache(Path(out) / "cache" / data.name / f"{teacher['model']}-{digest}", identity)
