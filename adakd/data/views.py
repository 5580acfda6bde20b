"""Views instead of augmentation: which crop and flip of image i epoch e shows is a pure function of (seed, e, i).

Padding by 4, cropping and flipping has exactly 9 · 9 · 2 = 162 outcomes. Choosing among them by hashing, and not
from a stream of random numbers, has three consequences: every method sees the same images in the same order
(comparisons are paired), a run resumes exactly from any step, and nothing depends on the number of workers.

What is true of any kind of example is `ExampleViews`; `Views` are those of images, `adakd.data.Windows` those of text.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .._check import check_kind, check_whole
from .._hash import hashed

if TYPE_CHECKING:
    from .images import ImageData

__all__ = ["ExampleViews", "Shown", "Views", "balanced_subset", "epoch_order", "held_out"]

# Separate streams, so that e.g. the order of an epoch says nothing about its crops.
_VIEW, _ORDER, _SUBSET, _LIMITED, _HELD_OUT = 1, 2, 3, 5, 6


def epoch_order(seed: int, epoch: int, size: int, device: torch.device | str = "cpu") -> Tensor:
    """A permutation of 0 … size - 1: the order in which epoch `epoch` of that seed visits the images."""
    check_whole(seed=seed, epoch=epoch)
    check_whole(0, size=size)
    return hashed(_ORDER, seed, epoch, torch.arange(size, device=device)).argsort(stable=True)


def balanced_subset(labels: Tensor, size: int | None, seed: int, without: Tensor | None = None) -> Tensor:
    """Indices of `size` images with the classes in equal parts (to within one image), chosen by the seed.

    Smaller subsets of one seed are contained in larger ones. None means all images.

    Args:
        labels: (N,) of the training set.
        size: how many.
        seed: the run's.
        without: indices of images that are not to be taken, such as those of `held_out`.

    Raises:
        ValueError: if the size is not between 1 and the number of images that may be taken.
    """
    taken = torch.arange(len(labels), device=labels.device)
    if without is not None:
        taken = taken[~torch.isin(taken, without.to(taken.device))]
    if size is None:
        return taken
    check_whole(train_images=size)
    if not 1 <= size <= len(taken):
        beyond = "" if without is None else f", {len(without)} of its {len(labels)} images being held out"
        raise ValueError(
            f"train_images: expected 1 to {len(taken)} (the size of the training set{beyond}), got {size}"
        )
    return _dealt(labels, taken[hashed(_SUBSET, seed, 0, taken).argsort(stable=True)], size)


def held_out(labels: Tensor, size: int) -> Tensor:
    """Indices of `size` training images for validation, the classes in equal parts (to within one image).

    They are the same for every seed, so that no run of a comparison trains on an image by which another one is chosen.

    Raises:
        ValueError: if the size is not between 1 and the number of images less one.
    """
    check_whole(validation_images=size)
    if not 1 <= size < len(labels):
        raise ValueError(
            f"validation_images: expected 1 to {len(labels) - 1} (some must be left to train on), got {size}"
        )
    everyone = torch.arange(len(labels), device=labels.device)
    return _dealt(labels, hashed(_HELD_OUT, 0, 0, everyone).argsort(stable=True), size)


def _dealt(labels: Tensor, order: Tensor, size: int) -> Tensor:
    """The first `size` of the images in this order, dealt round by round, one of each class in each round."""
    of = labels[order]
    by_class = of.argsort(stable=True)
    sizes = of.bincount()
    rounds = torch.empty_like(order)  # this image is the n-th of its class
    rounds[by_class] = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[of[by_class]]
    return order[rounds.argsort(stable=True)[:size]].sort().values


class Shown(NamedTuple):
    """What one step shows."""

    images: Tensor
    """Normalized, (B, C, H, W); of text, windows of tokens (B, T)."""
    labels: Tensor
    """(B,); of text, the tokens that follow (B, T)."""
    index: Tensor  # type: ignore[assignment]  # tuple has a method of that name
    """Positions (B,) of the examples among those that are shown, which are the training set of the run."""
    slots: Tensor
    """Numbers (B,) of the views shown among all views of all training examples; see `ExampleViews.places`."""


class ExampleViews(ABC):
    """Training examples, each seen through one of its views in every epoch, by batches.

    Abstract or final: a kind of data says how many views an example has, and what one shows.

    Args:
        index: positions (n,) of the examples in the training set, on the device where training happens.
        count: how many views each has.
        seed: the run's seed.
        limit: show each example in so many different views only, its own and the same for every seed: a teacher that
            is slow has less to say then. All when left out.
        name: of the data set, for an error.

    Raises:
        ValueError: if the limit is below 1 or above what there is.
    """

    def __init__(self, index: Tensor, count: int, seed: int, limit: int | None, name: str):
        check_whole(seed=seed)
        if limit is not None:
            check_whole(views=limit)
        if limit is not None and not 1 <= limit <= count:
            raise ValueError(f"views: expected 1 to {count} (all that {name} has), got {limit}")
        self.index, self.count, self.seed, self.limit = index, count, seed, limit

    @abstractmethod
    def render(self, positions: Tensor, view: Tensor) -> Tensor:
        """Inputs (B, …) of a network: the given views of the examples at these positions (B,) within the subset."""

    @abstractmethod
    def targets(self, positions: Tensor, view: Tensor) -> Tensor:
        """Labels of the same views."""

    def __len__(self) -> int:
        return len(self.index)

    def choose(self, epoch: int, positions: Tensor) -> Tensor:
        """Which view (0 … count - 1) each of these examples shows in this epoch.

        Args:
            epoch: counted from 1.
            positions: (B,) positions within the subset.
        """
        # Hashing the index in the whole set gives an example the same views in every subset it belongs to.
        index = self.index[positions]
        if self.limit is None:
            return (hashed(_VIEW, self.seed, epoch, index) * self.count) >> 32
        turn = (hashed(_VIEW, self.seed, epoch, index) * self.limit) >> 32
        # An example's own views: from a start of its own in even steps around all there are, so no two are the same.
        start = (hashed(_LIMITED, 0, 0, index) * self.count) >> 32
        return (start + turn * self.count // self.limit) % self.count

    def places(self, epoch: int, positions: Tensor) -> Tensor:
        """Number (B,) of what each of these examples shows in this epoch among all views of all training examples."""
        return self.index[positions] * self.count + self.choose(epoch, positions)

    def visited(self, epochs: int) -> Tensor:
        """Numbers, as in `places`, of everything that epochs 1 to `epochs` show: each once, in ascending order."""
        positions = torch.arange(len(self), device=self.index.device)
        shown = torch.zeros(len(self), self.count, dtype=torch.bool, device=self.index.device)
        for epoch in range(1, epochs + 1):
            shown[positions, self.choose(epoch, positions)] = True
        position, view = shown.nonzero(as_tuple=True)
        return (self.index[position] * self.count + view).sort().values

    def at(self, places: Tensor) -> Tensor:
        """Inputs (B, …) of places (B,), numbered as in `places`.

        Raises:
            ValueError: if an example is not in the subset.
        """
        example, view = places // self.count, places % self.count
        order = self.index.argsort()
        positions = order[torch.searchsorted(self.index[order], example).clamp_max(len(self) - 1)]
        if not torch.equal(self.index[positions], example):
            raise ValueError("places: some are of images that are not among these views")
        return self.render(positions, view)

    def order(self, epoch: int) -> Tensor:
        """Positions (len(self),) in the order in which the epoch shows them."""
        return epoch_order(self.seed, epoch, len(self), self.index.device)

    def batches(self, epoch: int, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs (B, …) and labels of an epoch from batch `start` on; the last may be smaller."""
        for shown in self.steps(epoch, batch_size, start):
            yield shown.images, shown.labels

    def steps(
        self, epoch: int, batch_size: int, start: int = 0, part: Callable[[int], slice] | None = None
    ) -> Iterator[Shown]:
        """The steps of an epoch from step `start` on, with what identifies their examples; the last may be smaller.

        Args:
            epoch: counted from 1.
            batch_size: B.
            start: the first step, counted from 0.
            part: rows of a batch of so many examples that this process computes: inputs and slots are of these alone,
                labels and positions of the whole batch. All when left out.
        """
        for positions in self.order(epoch).split(batch_size)[start:]:
            view, index = self.choose(epoch, positions), self.index[positions]
            own = slice(None) if part is None else part(len(positions))
            inputs, slots = self.render(positions[own], view[own]), index[own] * self.count + view[own]
            yield Shown(inputs, self.targets(positions, view), positions, slots)


class Views(ExampleViews):
    """The training images of a set, seen through crops and flips: 162 views of an image of CIFAR.

    Args:
        data: on the device where training happens.
        seed: the run's seed.
        subset: indices of the training images to use; all when left out.
        limit: show each image in so many different views only; all when left out.

    Raises:
        ValueError: if the limit is below 1 or above what there is.
    """

    def __init__(self, data: "ImageData", seed: int, subset: Tensor | None = None, limit: int | None = None):
        split = data.train
        if subset is not None:
            check_kind(Tensor, "indices of training images, a tensor", subset=subset)
        index = torch.arange(len(split), device=data.device) if subset is None else subset.to(data.device)
        super().__init__(index, data.views_of_each, seed, limit, data.name)
        self.labels = split.labels[self.index]
        self.size = split.images.shape[1]
        self.padding = data.padding
        self.flip = data.flip
        # Black borders are added to the pixels, before normalization, as torchvision's RandomCrop does.
        pad = self.padding
        self.images = F.pad(split.images[self.index], (0, 0, pad, pad, pad, pad))
        self.scale, self.shift = normalization(data)

    def render(self, positions: Tensor, view: Tensor) -> Tensor:
        """Normalized float images (B, C, H, W), channels_last, of the given views: one gather."""
        offsets = 2 * self.padding + 1
        crop = view % offsets**2
        mirrored = view >= offsets**2  # never, where count == offsets**2
        steps = torch.arange(self.size, device=view.device)
        rows = (crop // offsets).unsqueeze(1) + steps  # (B, H)
        columns = torch.where(mirrored.unsqueeze(1), steps.flip(0), steps) + (crop % offsets).unsqueeze(1)
        pixels = self.images[positions[:, None, None], rows[:, :, None], columns[:, None, :]]
        return (pixels.float() * self.scale + self.shift).permute(0, 3, 1, 2)

    def targets(self, positions: Tensor, view: Tensor) -> Tensor:
        """Labels (B,): a crop or a flip of an image has the image's."""
        return self.labels[positions]


def normalization(data: "ImageData") -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) that turn bytes into normalized values: (x / 255 - mean) / std."""
    mean = torch.tensor(data.mean, device=data.device)
    std = torch.tensor(data.std, device=data.device)
    return 1 / (255 * std), -mean / std
