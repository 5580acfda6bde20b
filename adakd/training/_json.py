"""Checks of JSON that is read: its size, depth, numbers and fields; an error names what is wrong."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._check import printable

__all__ = [
    "NUMBER",
    "check_checksum",
    "check_fields",
    "field_problem",
    "parse_json",
    "read_json",
    "with_checksum",
]

LARGEST = 64 * 2**20  # bytes: a record of 240 epochs has some 70 000
DEEPEST = 64  # a record is 6 deep
NUMBER = (int, float)
CHECKSUM = "checksum"
# When, how fast and by which commit: all in which two records of the same run differ. Their checksums do not.
_OF_THE_OCCASION = ("seconds", "started", "finished", "sessions", "commit")
_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
    bool: "true or false",
    type(None): "null",
}


def _integer(text: str) -> int:
    if len(text) > 20:  # 2^63 has 19 digits; a million of them would take a minute to read
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{printable(text[:20])} is beyond any number")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"the field {twice!r:.60} stands there twice")
    return found


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_finite, parse_int=_integer, parse_constant=_refuse_constant
)


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [
        part
        for parent in level
        if isinstance(parent, dict | list)
        for part in (parent.values() if isinstance(parent, dict) else parent)
    ]:
        depth += 1
    return depth


def parse_json(content: bytes, where: str | os.PathLike[str], remedy: str) -> Any:
    """The value that these bytes hold.

    Args:
        content: UTF-8, with or without a byte order mark.
        where: the file, and the line where there are several, for the error.
        remedy: what to do about damage, for the error.

    Raises:
        ValueError: for what is no JSON, for NaN and numbers beyond any format, for a field that stands twice in one
            object, and for values nested deeper than any record.
    """
    try:
        if len(content) > LARGEST:
            raise ValueError(f"{len(content)} bytes, and at most {LARGEST} are expected")
        value = _DECODER.decode(content.decode("utf-8-sig"))
        if b"\\u" in content:
            json.dumps(
                value, ensure_ascii=False
            ).encode()  # half a pair of code units could not be written again
        if _depth(value) > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")
    except RecursionError:
        raise _damaged(where, f"nested more than {DEEPEST} deep", remedy) from None
    except ValueError as error:
        raise _damaged(where, printable(error), remedy) from error
    return value


def read_json(
    path: Path, remedy: str = "delete it, or restore it from a copy", where: str | None = None
) -> Any:
    """The value that a file holds; see `parse_json`."""
    with Path(path).open("rb") as file:
        return parse_json(file.read(LARGEST + 1), path if where is None else where, remedy)


def _damaged(where: str | os.PathLike[str], what: str, remedy: str) -> ValueError:
    return ValueError(f"{where} is damaged ({what}); {remedy}")


def _name_of(spec: Any) -> str:
    if isinstance(spec, dict):
        return _NAMES[dict]
    if isinstance(spec, list):
        return _NAMES[list]
    kinds = spec if isinstance(spec, tuple) else (spec,)
    return " or ".join(_NAMES[kind] for kind in kinds if kind is not int or float not in kinds)


def _is(value: Any, spec: Any) -> bool:
    if isinstance(spec, dict | list):
        return isinstance(value, type(spec))
    kinds = spec if isinstance(spec, tuple) else (spec,)
    if isinstance(value, dict | list):
        return isinstance(value, kinds)
    return type(value) in kinds  # and not isinstance: true is no number


def field_problem(value: Any, spec: Any, field: str = "") -> str | None:
    """The first field that is missing or of another type than what reads it expects; None where all are well.

    Fields that `spec` does not name are nobody's business: records may grow.

    Args:
        value: as JSON gives it.
        spec: a type or several; a dict of fields (``"name?"``: need not be there; ``...``: every other field); a list of
            one spec for all entries.
        field: where in the file the value stands.
    """
    if not _is(value, spec):
        shown = "null" if value is None else printable(f"{type(value).__name__} {value!r:.40}")
        return f"{f'field {field!r}: ' if field else ''}expected {_name_of(spec)}, got {shown}"
    dot = f"{field}." if field else ""
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(spec, list):
        parts = [(f"{field}[{number}]", entry, spec[0]) for number, entry in enumerate(value)]
    elif isinstance(spec, dict):
        named = {key.removesuffix("?"): part for key, part in spec.items() if key is not ...}
        specs = {key: named.get(key, spec.get(...)) for key in value}
        parts = [(dot + printable(key), value[key], part) for key, part in specs.items() if part is not None]
    if wrong := next(filter(None, (field_problem(entry, part, name) for name, entry, part in parts)), None):
        return wrong
    for key, part in spec.items() if isinstance(spec, dict) else ():
        if key is not ... and not key.endswith("?") and key not in value:
            return f"field {dot + key!r} is missing, expected {_name_of(part)}"
    return None


def check_fields(value: Any, spec: Any, where: str | os.PathLike[str], remedy: str) -> None:
    """Raises ValueError, with the file's name and what to do, where `field_problem` finds one."""
    if problem := field_problem(value, spec):
        raise _damaged(where, problem, remedy)


def _checksum(value: Mapping[str, Any]) -> str:
    """Of all but the occasion: the same run, made again, has the same."""
    known = {name: part for name, part in value.items() if name not in (CHECKSUM, *_OF_THE_OCCASION)}
    plain = json.loads(json.dumps(known))  # tuples are lists in a file, and numbers as keys are texts
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def with_checksum(value: Mapping[str, Any]) -> dict[str, Any]:
    """The same fields and, last, what they hash to (those of the occasion excepted): one changed digit is then found out."""
    return {**{name: part for name, part in value.items() if name != CHECKSUM}, CHECKSUM: _checksum(value)}


def check_checksum(value: Mapping[str, Any], where: str | os.PathLike[str], remedy: str) -> None:
    """Raises ValueError where the fields are not those that were hashed. What has no checksum is from before them."""
    if CHECKSUM in value and value[CHECKSUM] != (found := _checksum(value)):
        written = printable(f"{value[CHECKSUM]!s:.12}")
        raise _damaged(
            where,
            f"its fields hash to {found[:12]}…, and its {CHECKSUM} says {written}…: it was changed after it was written",
            remedy,
        )
