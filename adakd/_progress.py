"""Progress bars: tqdm's, or one that shows nothing."""

from collections.abc import Hashable, Iterable
from typing import Any

from tqdm.auto import tqdm
from tqdm.std import tqdm as Bar

__all__ = ["Bar", "progress_bar", "shown_before"]


class _Hidden(Bar):
    """A bar that shows nothing, starts no thread and takes no lock.

    tqdm's own, disabled, does both when it is made: its thread stays, and its lock is one that forked processes share. A
    process that is killed while it holds the lock leaves all the others waiting.
    """

    def __new__(cls, *_: Any, **__: Any) -> "_Hidden":
        return object.__new__(cls)

    def __init__(self, iterable: Iterable[Any] | None, total: int | None, initial: int) -> None:
        self.disable, self.iterable = True, iterable
        self.total, self.n, self.initial = total, initial, initial


def progress_bar(
    show: bool | None,
    total: int | None = None,
    initial: int = 0,
    iterable: Iterable[Any] | None = None,
    **options: Any,
) -> Bar:
    """The bar of tqdm with these options; one that shows nothing for `show=False`. None: where there is a terminal."""
    if show is False:
        return _Hidden(iterable, total, initial)
    disable = None if show is None else False
    return tqdm(iterable, total=total, initial=initial, disable=disable, **options)


def shown_before(display: bool | Bar, what: Hashable) -> bool:
    """Whether one of the runs that share a display has shown this already; for a run with a display of its own, none has."""
    if isinstance(display, bool):
        return False
    shown = vars(display).setdefault("adakd_shown", set())
    before = what in shown
    shown.add(what)
    return before
