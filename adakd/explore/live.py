"""What every live figure shares: its files, a name without an address, a text alternative."""

import re
from importlib.resources import files

import anywidget

from .style import Picture

__all__ = ["LiveFigure", "asset"]


def asset(*names: str) -> str:
    """Text of the files of these names in ``adakd/explore/static``, one after the other.

    anywidget is given the text and not the path: a path starts a file watcher and ties a notebook to a machine.
    One text, because a module in a page without a server cannot import another. Of JavaScript without its lines of
    comment and its indentation: every page of the book carries it.
    """
    static = files(__package__) / "static"
    texts = {name: static.joinpath(name).read_text(encoding="utf-8") for name in names}
    bare = {name: re.sub(r"(?m)^ *(//.*\n)?", "", text) for name, text in texts.items() if name.endswith(".js")}
    return "\n".join((texts | bare).values())


class LiveFigure(anywidget.AnyWidget):
    """A figure whose JavaScript computes everything in the page, and whose traits follow it where a kernel runs.

    A subclass gives ``_esm`` and ``_css`` (``kit`` first, which all share, then ``pair`` and ``stage`` where it needs
    them, then its own), its controls as traits named
    in ``controls``, ``values``, ``describe`` and ``still``.
    """

    controls: tuple[str, ...] = ()

    def values(self) -> dict:
        """Every number the figure shows, computed by adakd; the page computes the same in JavaScript."""
        raise NotImplementedError

    def describe(self) -> str:
        """The state in words, for readers and machines that do not see the picture."""
        raise NotImplementedError

    def still(self) -> Picture:
        """The state as a still picture, for print and for readers without JavaScript (GitHub, a saved file)."""
        raise NotImplementedError

    def __repr__(self) -> str:
        state = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.controls)
        return f"{type(self).__name__}({state})"

    def _repr_mimebundle_(self, **options):
        bundle = super()._repr_mimebundle_(**options)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        data["text/plain"] = f"{self!r}\n{self.describe()}"
        data["image/svg+xml"] = self.still().svg
        return bundle
