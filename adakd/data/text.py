"""Real text as characters: what every Python ships, or any file."""

import hashlib
import os
import re
from importlib import import_module
from pathlib import Path

import torch

from .._check import check_path
from .cifar import DataError
from .tokens import TokenData, Tokens

__all__ = ["load_pydoc", "load_text", "text_data"]

WINDOW = 64
_MOST = 64 * 2**20  # bytes of a file: its characters become numbers of eight bytes each
_TEST = 10  # one part in so many, the last, is the test split


def load_pydoc(*, window: int = WINDOW) -> TokenData:
    """The help on topics that every Python ships (`pydoc_data.topics`): some 700 000 characters of English.

    Its text differs between versions of Python: `TokenData.checksum` says which one a record is of.

    Args:
        window: T, characters that a network reads at once.

    Raises:
        DataError: if this Python was packaged without it.
    """
    try:
        topics = import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise DataError(
            "pydoc: this Python was packaged without pydoc_data.topics; give a file of your own: text:PATH"
        ) from error
    return text_data("pydoc", "\n\n".join(topics[name].strip() for name in sorted(topics)), window=window)


def load_text(path: str | os.PathLike[str], *, window: int = WINDOW) -> TokenData:
    """Any text file as characters: its last tenth is the test split.

    On the command line ``--data text:PATH``. The set is named by the file and by a digest of its text, so that runs on
    another text of the same name are other runs.

    Args:
        path: of the file, in UTF-8; a byte order mark is no character of it.
        window: T, characters that a network reads at once.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: for a file that is no text, larger than 64 MB, of fewer than three different characters, or too short
            for a window in either split.
    """
    check_path("a file", path=path)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no text file at {path}")
    if (size := path.stat().st_size) > _MOST:
        raise ValueError(
            f"{path} has {size / 2**20:.0f} MB, expected at most {_MOST // 2**20}; give a part of it"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 (byte {error.start}); save it as UTF-8 text") from error
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", path.stem)[:40].strip("-.") or "file"
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    try:
        return text_data(f"text-{stem}-{digest}", text, window=window)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def text_data(name: str, text: str, *, window: int = WINDOW) -> TokenData:
    """A text in memory as characters: its last tenth is the test split.

    Args:
        name: of the set; letters, digits and ``._+-``.
        text: whose characters are the vocabulary, in the order of their code points.
        window: T, characters that a network reads at once.

    Raises:
        ValueError: for fewer than three different characters, or a text too short for a window in either split.
    """
    characters = sorted(set(text))
    if len(characters) < 3:
        raise ValueError(f"text: expected at least 3 different characters, got {len(characters)}")
    needed = 2 * window * _TEST
    if len(text) < needed:
        raise ValueError(
            f"text: expected at least {needed} characters (its last tenth must hold two windows of {window}), "
            f"got {len(text)}; give more text, or a smaller window"
        )
    number = {character: token for token, character in enumerate(characters)}
    stream = torch.tensor([number[character] for character in text], dtype=torch.int64)
    cut = len(stream) - len(stream) // _TEST
    return TokenData(name, Tokens(stream[:cut], window), Tokens(stream[cut:], window), tuple(characters))
