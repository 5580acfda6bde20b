r"""The known language: generated sentences of which it is known what may come next, and how probably.

A language in small has what makes text unlike images: a long tail of words, and more than one word that may follow. Here
both are given. Words are frequent by Zipf's law; what may follow depends on the last word and on the *kind* of the word
before it (as an article, a verb, …), so the context is of order two, and can be learned without being learned by heart.
After some contexts one word is plausible, after others two, or thirty; a little of the probability is everybody's.
"""

import bisect
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .._check import brief, check_whole
from .._hash import hashed
from .tokens import TokenData, Tokens

__all__ = ["Language", "load_sentences"]

# Separate streams of random numbers.
_KIND, _COUNT, _FOLLOWER, _WEIGHT, _TEXT = 21, 22, 23, 24, 25

PLAUSIBLE = (1, 2, 4, 8, 16, 32)
WINDOW = 32
TRAIN_WORDS, TEST_WORDS = 2**18, 2**14
_MOST = 4096  # contexts: their table has a row each, and the stationary distribution an equation


@dataclass(frozen=True)
class Language:
    r"""A source of words with a context of order two, whose distribution and entropy are known exactly.

    .. math:: p(x \mid a, b) = (1 - \varepsilon)\, \frac{w_x\, [x \in S]}{\sum_{j \in S} w_j}
              + \varepsilon\, \frac{1 / (x + 1)}{\sum_j 1 / (j + 1)}, \qquad S = S(\mathrm{kind}(a),\, b)

    with :math:`b` the last word, :math:`a` the one before; S its plausible continuations, drawn by Zipf's law without
    replacement; their weights w uniform in [1, 2): peaks of much the same height. Everything is a pure function of the
    settings (`adakd._hash`), the same on every machine.

    Args:
        words: V, the size of the vocabulary, at least 3.
        plausible: how many words are plausible after a context: a number, or several, of which each context has one.
        kinds: of words.
        noise: :math:`\varepsilon`, between 0 and 1.
        seed: another language of the same kind.

    Raises:
        ValueError: for settings out of range.

    >>> Language(plausible=1).entropy < Language(plausible=8).entropy
    True
    """

    words: int = 64
    plausible: int | tuple[int, ...] = PLAUSIBLE
    kinds: int = 4
    noise: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (("words", 3, _MOST), ("kinds", 1, self.words), ("seed", 0, 2**63 - 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name}: expected an integer from {low} to {high}, got {brief(value)}")
        if self.words * self.kinds > _MOST:
            raise ValueError(
                f"kinds: expected words · kinds of at most {_MOST}, for so many contexts there are, "
                f"got {self.words} · {self.kinds}"
            )
        counts = (self.plausible,) if isinstance(self.plausible, int) else self.plausible
        whole = isinstance(counts, Sequence) and all(type(count) is int for count in counts)
        if not whole or not counts or not 1 <= min(counts) <= max(counts) <= self.words:
            raise ValueError(
                f"plausible: expected one or several integers from 1 to {self.words}, got {brief(self.plausible)}"
            )
        object.__setattr__(self, "plausible", tuple(counts))
        if not 0 < self.noise < 1:  # with none, a word may never come again, and there is no mean to speak of
            raise ValueError(f"noise: expected a number between 0 and 1, got {brief(self.noise)}")

    # ---- what is probable ----
    # Contexts are numbered kind * V + b; behind them stands a row for each b alone, where the word before is not known.

    @cached_property
    def kind(self) -> Tensor:
        """Kind (V,) of each word: the kinds in equal parts, to within one word."""
        order = hashed(_KIND, self.seed, 0, torch.arange(self.words)).argsort(stable=True)
        kinds = torch.empty_like(order)
        kinds[order] = torch.arange(self.words) % self.kinds
        return kinds

    @cached_property
    def _followers(self) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (contexts, V) with kind and last word known; which words are plausible there."""
        contexts, words = self.kinds * self.words, torch.arange(self.words)
        counts = np.array(self.plausible)
        number = counts[hashed(_COUNT, self.seed, 0, torch.arange(contexts)).numpy() % len(counts)]
        zipf = _shares(1 / np.arange(1, self.words + 1))
        table, plausible = np.empty((2, contexts, self.words))
        for context in range(contexts):
            # The first of independent exponential clocks of these rates: drawn by share, without replacement.
            clock = -np.log(_uniform(_FOLLOWER, self.seed, context, words) + 2.0**-33) / zipf
            chosen = np.zeros(self.words)
            chosen[clock.argsort(kind="stable")[: number[context]]] = 1
            weights = chosen * (1 + _uniform(_WEIGHT, self.seed, context, words))
            table[context] = (1 - self.noise) * _shares(weights) + self.noise * zipf
            plausible[context] = chosen
        return table, plausible

    @cached_property
    def _stationary(self) -> np.ndarray:
        """How often (kinds, V) the last two words are of that kind and that word, in an endless text."""
        table, _ = self._followers
        contexts = len(table)
        after = np.zeros((contexts, contexts))
        for context, row in enumerate(table):
            after[context].reshape(self.kinds, self.words)[self.kind[context % self.words]] = row
        # p (P - 1) = 0 with one equation too many, whose place the sum takes.
        equations = (after - np.eye(contexts)).T
        equations[-1] = 1
        return np.linalg.solve(equations, np.eye(contexts)[-1]).reshape(self.kinds, self.words)

    @cached_property
    def table(self) -> Tensor:
        """Probabilities (contexts + V, V) of the next word; rows as `contexts` numbers them, float64."""
        known, _ = self._followers
        share = self._stationary / self._stationary.sum(axis=0)
        alone = np.einsum("cb,cbx->bx", share, known.reshape(self.kinds, self.words, self.words))
        return torch.from_numpy(np.concatenate([known, alone]))

    def contexts(self, tokens: Tensor) -> Tensor:
        """Number (…, T) of the context at each of these tokens (…, T), by what stands in this window until there."""
        kind = self.kind.to(tokens.device)[tokens[..., :-1]]
        first = self.kinds * self.words + tokens[..., :1]
        return torch.cat([first, kind * self.words + tokens[..., 1:]], dim=-1)

    def log_probabilities(self, tokens: Tensor) -> Tensor:
        """True log-probabilities (…, T, V), float64, of the word after each of these tokens (…, T).

        At a window's first token the word before it is not to be seen: there it is the mean over what it may have been.
        """
        return self._at(tokens, self.table.log())

    def plausible_after(self, tokens: Tensor) -> Tensor:
        """How many words (…, T) are plausible after each of these tokens; at the first, after whatever came before."""
        _, known = self._followers
        alone = known.reshape(self.kinds, self.words, self.words).max(axis=0)
        return self._at(tokens, torch.from_numpy(np.concatenate([known, alone]).sum(axis=1)).long())

    def entropy_after(self, tokens: Tensor) -> Tensor:
        """Entropy (…, T) of the next word after each of these tokens, in nats, float64."""
        return self._at(tokens, self._entropies)

    def _at(self, tokens: Tensor, table: Tensor) -> Tensor:
        return table.to(tokens.device)[self.contexts(tokens)]

    @cached_property
    def _entropies(self) -> Tensor:
        return -(self.table * self.table.log()).sum(dim=1)

    @cached_property
    def entropy(self) -> float:
        """Of the next word given all before, in nats a word."""
        known = self._entropies[: self.kinds * self.words].numpy()
        return float((self._stationary.flatten() * known).sum())

    # ---- text ----

    def generate(self, count: int, seed: int = 0) -> Tensor:
        """Text of so many words, (count,) int64; it begins as if it had gone on for ever."""
        uniform = _uniform(_TEXT, seed, 0, torch.arange(count + 1)).tolist()
        cumulated = [row.tolist() for row in _cumulated(self._followers[0])]
        kind = self.kind.tolist()
        start = bisect.bisect_right(_cumulated(self._stationary.reshape(1, -1))[0].tolist(), uniform[0])
        text, before = [start % self.words], start // self.words
        for u in itertools.islice(uniform, 1, count):
            row = cumulated[before * self.words + text[-1]]
            before = kind[text[-1]]
            text.append(bisect.bisect_right(row, u))
        return torch.tensor(text[:count], dtype=torch.int64)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """A name for each word, of one syllable or of several, the frequent ones first."""
        syllables = [c + v for c in "mntslrkdpbgfvhjz" for v in "aeiou"]
        longer = (
            "".join(parts) for n in itertools.count(1) for parts in itertools.product(syllables, repeat=n)
        )
        return tuple(itertools.islice(longer, self.words))


def _uniform(stream: int, seed: int, part: int, index: Tensor) -> np.ndarray:
    """Numbers in [0, 1), float64."""
    return hashed(stream, seed, part, index).numpy() / 2.0**32


def _shares(weights: np.ndarray) -> np.ndarray:
    return weights / weights.cumsum()[-1]  # summed in order, so that every machine has the same bits


def _cumulated(rows: np.ndarray) -> np.ndarray:
    """Sums (n, V) of each row's probabilities up to each word; the last is 1, whatever the rounding."""
    sums = rows.cumsum(axis=1)
    return sums / sums[:, -1:]


def load_sentences(
    plausible: int | tuple[int, ...] = PLAUSIBLE,
    *,
    words: int = Language.words,
    kinds: int = Language.kinds,
    noise: float = Language.noise,
    seed: int = Language.seed,
    train_words: int = TRAIN_WORDS,
    test_words: int = TEST_WORDS,
    window: int = WINDOW,
) -> TokenData:
    """Generate the embedded text: sentences of a known language (`Language`), the same on every machine, in a second.

    ``data.truth`` is the language: true distribution, entropy and number of plausible continuations at any token.

    Args:
        plausible: how many words may well follow a context: one peak (1), many (32), or several numbers, of which each
            context has one. With others than usual the set's name ends in them ("sentences-4"; of one number
            `adakd.load_data` knows that name too).
        words, kinds, noise, seed: of the `Language`; with others than usual the set's name ends in a digest of them.
        train_words, test_words: lengths of the two texts.
        window: T, words that a network reads at once.

    Raises:
        ValueError: for settings out of range, or texts shorter than two windows.
    """
    check_whole(1, train_words=train_words, test_words=test_words, window=window)
    language = Language(words, plausible, kinds, noise, seed)
    counts = language.plausible
    assert isinstance(counts, tuple)
    name = "sentences"
    if counts != PLAUSIBLE:
        name += "-" + "-".join(map(str, counts[:8]))
    settings = (words, counts[8:], kinds, noise, seed, train_words, test_words, window)
    usual = (Language.words, (), Language.kinds, Language.noise, Language.seed, TRAIN_WORDS, TEST_WORDS, WINDOW)
    if settings != usual:
        name += f"-{hashlib.sha256(repr(settings).encode()).hexdigest()[:8]}"
    train, test = (language.generate(count, part) for count, part in ((train_words, 1), (test_words, 2)))
    return TokenData(
        name,
        Tokens(train, window),
        Tokens(test, window),
        language.vocabulary,
        truth=language,
        separator=" ",
    )
