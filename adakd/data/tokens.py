"""Text as tokens that live on the device: passages, and windows of them instead of crops.

The stream of tokens is cut into passages of 2T tokens, and a view of a passage is a window of T: there are T of them, by
where it begins, and the labels of a window are the tokens that follow each of its own, in the same passage still. So
passages share nothing: what is held out is in no other window, and a window is a pure function of (seed, epoch, passage).
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from .._check import brief, check_name
from .base import WHOLE, Share, TwoSplits, Usual, array_of, is_sha256, written
from .views import ExampleViews, balanced_subset, held_out

__all__ = ["TokenData", "Tokens", "Truth", "Windows"]


@dataclass(frozen=True)
class Tokens:
    """A stream of tokens (N,) as int64, and the length T of the windows that are seen of it.

    Raises:
        TypeError: for anything but a tensor.
        ValueError: for another type or shape, negative numbers, or fewer than the 2T tokens of one passage.
    """

    stream: Tensor
    window: int

    def __post_init__(self) -> None:
        if not isinstance(self.stream, Tensor):
            raise TypeError(
                f"stream: expected a tensor of tokens, got {type(self.stream).__name__}; convert it with torch.as_tensor()"
            )
        shape = tuple(self.stream.shape)
        if self.stream.dtype != torch.int64 or self.stream.ndim != 1:
            raise ValueError(f"stream: expected int64 of shape (N,), got {self.stream.dtype} of shape {shape}")
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 2:
            raise ValueError(f"window: expected an integer of at least 2, got {brief(self.window)}")
        if not len(self):
            raise ValueError(
                f"stream: expected at least {2 * self.window} tokens (a passage is two windows of {self.window}), "
                f"got {shape[0]}; give more text, or a smaller window"
            )
        if self.stream.min() < 0:
            raise ValueError(f"stream: expected tokens from 0 on, got {int(self.stream.min())}")

    def __len__(self) -> int:
        """How many passages there are."""
        return len(self.stream) // (2 * self.window)

    @property
    def passages(self) -> Tensor:
        """(n, 2T): what does not fill a passage at the end is left out."""
        return self.stream[: len(self) * 2 * self.window].view(len(self), 2 * self.window)

    def to(self, device: torch.device | str) -> "Tokens":
        return Tokens(self.stream.to(device), self.window)


class Truth(Protocol):
    """The source of a text, where it is known: what truly comes next."""

    @property
    def entropy(self) -> float:
        """Nats a token, of the next one given all before."""

    def log_probabilities(self, tokens: Tensor) -> Tensor:
        """(…, T, V), in float64: of the token after each of these (…, T), by what the window shows until then."""


@dataclass(frozen=True)
class TokenData(TwoSplits):
    """Text in two splits: a network reads a window of T tokens and predicts at each what comes next.

    Your own needs a name, two streams of one window, and what its tokens are called:

    >>> stream = torch.arange(1000) % 3
    >>> data = TokenData("mine", Tokens(stream[:900], 8), Tokens(stream[900:], 8), vocabulary=("a", "b", "c"))
    >>> data.num_classes, len(data.train), data.decode(data.encode("cab"))
    (3, 56, 'cab')

    Raises:
        TypeError: for splits that are none.
        ValueError: for a name that cannot name a folder, windows of two lengths, or tokens without a name.
    """

    reads: ClassVar[str] = "tokens"
    channels: ClassVar[int] = 1
    usual: ClassVar[Usual] = Usual("gru256", "gru64", "language")

    name: str
    """Letters, digits and ``._+-``: results lie in a folder of this name."""
    train: Tokens
    test: Tokens
    vocabulary: tuple[str, ...]
    """What each token is called."""
    truth: Truth | None = None
    """The source, where it is known."""
    separator: str = ""
    """What stands between tokens in a text: nothing between characters, a space between words."""
    official: bool = True
    checksum: str = ""
    """SHA-256 of vocabulary, window and both streams; computed when left out, and where the one given is a SHA-256 of
    other ones, as `dataclasses.replace` hands it on. Any other text stays."""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        for field, split in (("train", self.train), ("test", self.test)):
            if not isinstance(split, Tokens):
                raise TypeError(f"{field}: expected adakd.data.Tokens, got {type(split).__name__}")
        if self.train.window != self.test.window:
            raise ValueError(
                f"test: expected windows of {self.train.window} as in train, got {self.test.window}"
            )
        words = self.vocabulary
        if not isinstance(words, tuple) or len(words) < 3 or not all(isinstance(word, str) for word in words):
            raise ValueError(f"vocabulary: expected a tuple of at least 3 names of tokens, got {brief(words)}")
        if len(set(words)) < len(words):
            raise ValueError("vocabulary: expected every token to have a name of its own, got one twice")
        for field, split in (("train", self.train), ("test", self.test)):
            if (highest := int(split.stream.max())) >= len(words):
                raise ValueError(
                    f"{field}: expected tokens from 0 to {len(words) - 1}, for {len(words)} have names, got {highest}"
                )
        if not self.checksum or is_sha256(self.checksum):
            object.__setattr__(self, "checksum", _checksum(self))
        object.__setattr__(self, "_summed_up", self._written())

    def _written(self) -> list[Any]:
        return written(self.train.stream, self.test.stream)

    @property
    def num_classes(self) -> int:
        """V, the size of the vocabulary."""
        return len(self.vocabulary)

    @property
    def described_by_its_name(self) -> bool:
        """Whether name and checksum say all: always, for the checksum is of window and vocabulary too."""
        return True

    @property
    def window(self) -> int:
        """T: tokens that a network reads at once."""
        return self.train.window

    @property
    def device(self) -> torch.device:
        return self.train.stream.device

    @property
    def logits_shape(self) -> tuple[int, ...]:
        """(T, V): a row of logits for each token of a window."""
        return self.window, self.num_classes

    @property
    def views_of_each(self) -> int:
        """T: how many windows a passage has."""
        return self.window

    @property
    def guessing(self) -> tuple[float, int]:
        """Share of the most frequent token among the test labels, and their number."""
        labels = self.test.passages[:, 1 : self.window + 1].flatten()
        return labels.bincount().max().item() / len(labels), len(labels)

    def describe(self) -> dict[str, Any]:
        """What a record says of the data."""
        return {
            **super().describe(),
            "classes": self.num_classes,
            "channels": self.channels,
            "window": self.window,
            **({} if self.truth is None else {"entropy": self.truth.entropy}),
        }

    def describe_views(self) -> dict[str, Any]:
        """What a cache of logits says of the views that they are of."""
        return {"window": self.window}

    def subset(self, size: int | None, seed: int, without: Tensor | None = None) -> Tensor:
        """Positions of `size` passages, chosen by the seed; smaller subsets are contained in larger ones."""
        return balanced_subset(self._alike, size, seed, without)

    def held_out(self, size: int) -> Tensor:
        """Positions of `size` training passages for validation, the same for every seed."""
        return held_out(self._alike, size)

    @property
    def _alike(self) -> Tensor:
        """Labels of the passages, by which parts of images are balanced: none is of another kind than the others."""
        return torch.zeros(len(self.train), dtype=torch.int64, device=self.device)

    def tested_on(self, index: Tensor) -> "TokenData":
        """The same set with these training passages in the place of the test split; its checksum stays that of the whole."""
        return self._with(test=Tokens(self.train.passages[index].flatten(), self.window))

    def views(self, seed: int, subset: Tensor | None = None, limit: int | None = None) -> "Windows":
        """The training passages, or those of a subset, in the windows and the order of a seed."""
        return Windows(self, seed, subset, limit)

    def test_batches(
        self, batch_size: int = 500, *, first: int = 0, every: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The first window (B, T) of every test passage, in order, and what follows (B, T): of batches, those from `first` on, one in `every`."""
        for passages in self.test.passages.split(batch_size)[first::every]:
            yield passages[:, : self.window], passages[:, 1 : self.window + 1]

    def measure(self, network: Callable[[Tensor], Tensor], share: Share = WHOLE) -> dict[str, float]:
        r"""Means over all tokens in the first window of every test passage, of what a network predicts to follow.

        ``accuracy``, in percent; ``nats``, :math:`-\log q(x_{t+1})`; and where the source is known ``kl_to_truth``,
        :math:`\mathrm{KL}(p \,\|\, q)` of its true distribution to the network's, at the same places: it has no noise of
        drawn tokens.
        """
        sums = torch.zeros(4, dtype=torch.float64, device=self.device)
        for tokens, following in self.test_batches(100, first=share.rank, every=share.size):
            log_q = network(tokens).double().log_softmax(dim=-1)  # (B, T, V)
            right = (log_q.argmax(dim=-1) == following).sum()
            nats = -log_q.gather(-1, following.unsqueeze(-1)).sum()
            apart = torch.zeros_like(nats)
            if self.truth is not None:
                log_p = self.truth.log_probabilities(tokens)
                apart = (log_p.exp() * (log_p - log_q)).sum()
            count = torch.full_like(nats, following.numel())
            sums += torch.stack([count, right.double(), nats, apart])
        share.add([sums])
        right, nats, apart = (sums[1:] / sums[0]).tolist()
        found = {"accuracy": 100.0 * right, "nats": nats}
        return found if self.truth is None else {**found, "kl_to_truth": apart}

    def encode(self, text: str) -> Tensor:
        """The tokens (n,) of a text.

        Raises:
            ValueError: for what is not in the vocabulary, with its place.
        """
        number = {word: token for token, word in enumerate(self.vocabulary)}
        words = text.split(self.separator) if self.separator else text
        for place, word in enumerate(words):
            if word not in number:
                raise ValueError(
                    f"text: {brief(word)} at place {place} is not among the {len(number)} tokens of {self.name}; "
                    "leave it out, or load a text that has it"
                )
        return torch.tensor([number[word] for word in words], dtype=torch.int64, device=self.device)

    def decode(self, tokens: Tensor) -> str:
        """The text of tokens (n,)."""
        return self.separator.join(self.vocabulary[token] for token in tokens.tolist())


class Windows(ExampleViews):
    """The training passages of a text, seen through windows: view k of a passage begins at its token k.

    Args:
        data: on the device where training happens.
        seed: the run's seed.
        subset: positions of the training passages to use; all when left out.
        limit: show each passage in so many different windows only; all when left out.

    Raises:
        ValueError: if the limit is below 1 or above what there is.
    """

    def __init__(self, data: TokenData, seed: int, subset: Tensor | None = None, limit: int | None = None):
        index = torch.arange(len(data.train), device=data.device) if subset is None else subset.to(data.device)
        super().__init__(index, data.views_of_each, seed, limit, data.name)
        self.window = data.window
        self.passages = data.train.passages[index]  # (n, 2T)

    def render(self, positions: Tensor, view: Tensor) -> Tensor:
        """Tokens (B, T) of the given windows: one gather."""
        places = view.unsqueeze(1) + torch.arange(self.window, device=view.device)
        return self.passages[positions.unsqueeze(1), places]

    def targets(self, positions: Tensor, view: Tensor) -> Tensor:
        """The token (B, T) that follows each."""
        return self.render(positions, view + 1)


_SENTENCES, _OTHER_SENTENCES = re.compile(r"sentences(-\d+)*"), re.compile(r"sentences-.*[0-9a-f]{8}")


def _checksum(data: TokenData) -> str:
    words = data.vocabulary
    head = f"{data.window}\0{chr(0).join(words)}\0"
    if not _cut_as_usual(data) or any("\0" in word for word in words):
        # Records know the texts that the package loads by the head above, which says neither where a stream ends nor
        # where a word does.
        head = json.dumps([data.window, words, len(data.train.stream), len(data.test.stream)]) + "\0"
    digest = hashlib.sha256(head.encode(errors="surrogatepass"))
    for split in (data.train, data.test):
        digest.update(array_of(split.stream).astype("<i8").data)
    return digest.hexdigest()


def _cut_as_usual(data: TokenData) -> bool:
    """Whether a set is cut in two where the loaders of the package cut, so that its length says where that is."""
    train, test = len(data.train.stream), len(data.test.stream)
    if _SENTENCES.fullmatch(data.name):
        return train == 16 * test
    return _OTHER_SENTENCES.fullmatch(data.name) is not None or test == (train + test) // 10
