"""The parts of a package by the names of their modules, so that a part is a file and no line elsewhere."""

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from typing import TypeVar

__all__ = ["find_parts"]

Family = TypeVar("Family")


def find_parts(package: str, path: Iterable[str], family: type[Family]) -> dict[str, type[Family]]:
    """Parts of a package by name: of each public module, its one subclass of the family in ``__all__``.

    Called as ``find_parts(__name__, __path__, Family)`` at the end of the package's ``__init__``. A module is public
    unless its name begins with "_" or is "base".

    Raises:
        TypeError: for a module with no such class, or several; what is no part is a module that begins with "_".
    """
    found = {}
    for module in pkgutil.iter_modules(path):
        if module.name.startswith("_") or module.name == "base":
            continue
        room = import_module(f"{package}.{module.name}")
        public = [getattr(room, name) for name in room.__all__]
        parts = [part for part in public if isinstance(part, type) and issubclass(part, family)]
        if len(parts) != 1:
            raise TypeError(
                f"{room.__name__}: expected one subclass of {family.__name__} in __all__, got {len(parts)}; a module "
                "that is no part begins with '_'"
            )
        found[module.name] = parts[0]
    return found
