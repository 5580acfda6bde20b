"""A process of `adakd.engine.Processes`: takes tasks from a connection until it closes, and sends their outcomes back on it."""

import logging
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from ._shared import MappedData
from .base import Context, carry_out

__all__ = ["main"]


class _Forwarding(logging.Handler):
    """Lines of the library's log, for the process that shows them."""

    def __init__(self, connection: Connection, lock: threading.Lock):
        super().__init__()
        self.connection, self.access = connection, lock

    def emit(self, record: logging.LogRecord) -> None:
        _send(self.connection, self.access, ("log", (record.levelno, "%s", record.getMessage())))


def _send(connection: Connection, access: Any, message: Any) -> None:
    try:
        with access:
            connection.send(message)
    except OSError:  # nobody is there any more; the task ends by itself
        return


def main(arguments: list[str]) -> None:
    """Work until the other end of the connection closes, be it because that process has died."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    connection = Connection(int(arguments[0]))
    level, about = connection.recv()
    data = MappedData.opened(int(arguments[1]), *about) if about is not None else None
    access = threading.Lock()
    log = logging.getLogger("adakd")
    log.setLevel(level)
    log.addHandler(_Forwarding(connection, access))
    log.propagate = False
    tasks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                tasks.put(connection.recv_bytes())
        except (EOFError, OSError):
            stop.set()
            tasks.put(None)

    threading.Thread(target=listen, daemon=True).start()

    def report(message: Any) -> None:
        _send(connection, access, ("report", message))

    context = Context(data, stop.is_set, report)
    while (task := tasks.get()) is not None:
        _send(connection, access, ("outcome", carry_out(task, context)))


if __name__ == "__main__":
    main(sys.argv[1:])
