"""Requests to stop: signals that are collected while runs train, so that each is saved before the process ends."""

import signal
import threading
from types import TracebackType
from typing import Any

__all__ = ["StopRequests"]


class StopRequests:
    """Collects SIGINT and SIGTERM while it is entered, instead of dying of them; a second one ends the process at once.

    What `should_stop` of `adakd.distill` and the others expects: calling it says whether a signal has come. A request that
    has stopped something is answered, and no matter of the next call that is given the same object.
    """

    def __init__(self) -> None:
        self._received: list[int] = []
        self._previous: list[dict[int, Any]] = []

    def __call__(self) -> bool:
        return bool(self._received)

    def _receive(self, number: int, frame: Any) -> None:
        if self._received:
            raise KeyboardInterrupt
        self._received.append(number)

    def __enter__(self) -> "StopRequests":
        previous: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():  # signals can be handled there only
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not None:  # not Python's, which could not be given back
                    previous[number] = signal.signal(number, self._receive)
        self._previous.append(previous)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.pop().items():
            signal.signal(number, handler)
        if not self._previous and kind is not None and issubclass(kind, KeyboardInterrupt):
            self._received.clear()  # it has ended what it was for, and not what comes next
