"""The JavaScript of a live figure as one module: what a page without a server can load.

The sources in ``static`` are ES modules that import each other by name. A page that stands in a file cannot import a
file, and anywidget takes one module, so `make figures` puts each figure and what it imports into one file of
``static/built`` (esbuild; its version stands in package.json). Those files are committed: nobody needs node to use or to
install adakd. What figures get from Python, such as the rows of `adakd.METHODS`, is put in when the package is imported.
"""

import json
import re
from importlib.resources import files
from typing import Any

__all__ = ["built_module"]

# The sources import what Python gives from a module that is no file.
_FROM_PYTHON = re.compile(r'import\s*\{([^}]*)\}\s*from\s*"\./from-python\.js";')


def built_module(name: str, **constants: Any) -> str:
    """The figure's module, with these constants in the place of ``from-python.js``.

    Args:
        name: of a file in ``static/built``, such as ``"zoo.js"``.
        constants: what the sources import, by name; anything that JSON can hold.

    Raises:
        ValueError: if the sources import other names than these.
    """
    text = files(__package__).joinpath("static", "built", name).read_text(encoding="utf-8")
    wanted: set[str] = set()

    def alias(line: re.Match[str]) -> str:
        names = [name.strip().partition(" as ") for name in line[1].split(",")]
        wanted.update(name for name, _, _ in names)
        return "".join(f"const {short}={name};" for name, _, short in names if short)

    text = _FROM_PYTHON.sub(alias, text)
    if wanted != constants.keys():
        raise ValueError(f"{name}: imports {sorted(wanted)} from Python, and is given {sorted(constants)}")
    values = (
        f"const {name}={json.dumps(value, ensure_ascii=False, separators=(',', ':'))};\n"
        for name, value in constants.items()
    )
    return "".join(values) + text
