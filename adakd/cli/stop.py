"""Ctrl-C and SIGTERM while a command trains: the run is saved, and goes on when the command is repeated."""

from ..engine.stop import StopRequests

__all__ = ["StopRequests"]
