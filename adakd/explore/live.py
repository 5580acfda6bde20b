"""What every live figure shares: its files, a name without an address, a text alternative."""

from importlib.resources import files

import anywidget

from .style import Picture

__all__ = ["LiveFigure", "style_sheet"]


def style_sheet(*names: str) -> str:
    """Text of the style sheets of these names in ``adakd/explore/static``, one after the other.

    anywidget is given the text and not the path: a path starts a file watcher and ties a notebook to a machine. So it is
    with the JavaScript, see `adakd.explore.module`.
    """
    static = files(__package__) / "static"
    return "\n".join(static.joinpath(name).read_text(encoding="utf-8") for name in names)


class LiveFigure(anywidget.AnyWidget):
    """A figure whose JavaScript computes everything in the page, and whose traits follow it where a kernel runs.

    A subclass gives ``_esm`` (from `built_module`) and ``_css`` (``kit.css`` first, which all share), its controls as traits named
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
