"""Records of runs in files of one line each: small enough to keep, and safe for several processes that append.

A line is what stands between two bytes ``\\n``, and nothing else ends one: texts may hold any character. Whoever is
killed while it writes leaves a last line without its end; what was written before is whole.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from .._check import check_path
from ..training.files import check_checksum, check_fields, parse_json, read_json, with_checksum, with_remedy
from ..training.record import LINE_FIELDS, RUN_FIELDS, contradiction, key_of
from .measures import check_run_record

__all__ = ["FolderResults", "append_record", "compact", "keep_records", "read_records"]

log = logging.getLogger("adakd")

_KINDS = ("teacher", "student")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value


def compact(record: dict[str, Any]) -> dict[str, Any]:
    """The same record with its history and result to six digits, and without what it says twice.

    The configuration stays as it is: by it a run is recognized. The checksum becomes that of the smaller record.
    """
    small = {**record, "history": _rounded(record["history"]), "result": _rounded(record["result"])}
    if len(record.get("sessions", ())) == 1:  # its versions, hardware and commit are the record's own
        del small["sessions"]
    return with_checksum(small)


def append_record(path: str | os.PathLike[str], record: dict[str, Any]) -> None:
    """Add a record to a file as its last line; made where there is none.

    Half a line that a killed process left goes, and the run that it was of will come again; a whole one that lacks
    nothing but its end gets it.

    Raises:
        OSError: naming the file, if it cannot be written; it stays as it was.
    """
    check_path("a file", path=path)
    check_run_record(record, "config", "history", "result")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (
        json.dumps(compact(record), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    )
    with FileLock(path.parent / ".lock"), path.open("r+b" if path.exists() else "w+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        tail = _unended(file, end)
        if tail.strip():
            if _whole(tail, path):
                line = b"\n" + line
            else:
                log.warning(
                    "%s: half a line of %d bytes, left by a killed process, is removed", path, len(tail)
                )
                end -= len(tail)
                file.truncate(end)
        try:
            file.seek(end)
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except OSError as error:
            file.truncate(end)
            raise with_remedy(path, error) from error


def _unended(file: Any, end: int) -> bytes:
    """The bytes behind the last newline."""
    tail = b""
    while end:
        start = max(0, end - 2**16)
        file.seek(start)
        head, newline, rest = file.read(end - start).rpartition(b"\n")
        tail = rest + tail
        if newline:
            break
        tail, end = head + tail, start
    return tail


def _whole(line: bytes, where: str | os.PathLike[str]) -> bool:
    """Whether a line without its end is a record all the same."""
    try:
        return isinstance(parse_json(line.strip(), where, ""), dict)
    except ValueError:
        return False


def keep_records(path: str | os.PathLike[str], records: Iterable[dict[str, Any]]) -> int:
    """Add those records to a file of one a line that are not in it; returns how many these were.

    Raises:
        ValueError: if the file's name does not end in .jsonl, or it holds something else.
    """
    check_path("a file", path=path)
    path = Path(path)
    if path.suffix != ".jsonl":
        raise ValueError(f"records: expected a file name that ends in .jsonl, got {path}")
    known = {key_of(record["config"]) for record in read_records(path)} if path.is_file() else set()
    new = [record for record in records if key_of(record["config"]) not in known]
    for record in new:
        append_record(path, record)
    return len(new)


@dataclass
class _Place:
    """How far a file of lines has been read, to the end of a whole one."""

    lines: int = 0
    offset: int = 0
    before: bytes = b""
    """What stands there before it: of a record, the end of its checksum."""


def _lines(path: Path, place: _Place | None = None) -> Iterator[tuple[str, Any]]:
    """Where each value stands, and the value, from a place on that moves along with those that are taken.

    A last line that was not finished is left out, with a warning.
    """
    place = place or _Place()
    with path.open("rb") as file:
        file.seek(place.offset)
        for number, line in enumerate(file, start=place.lines + 1):
            where, ended, end = f"{path}, line {number}", line.endswith(b"\n"), place.offset + len(line)
            before = line[-100:]
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                if not ended and not _whole(line, where):
                    log.warning(
                        "%s: half a line of %d bytes is left out: its writer was stopped", where, len(line)
                    )
                    return
                yield where, parse_json(line.strip(), f"{where}: not a record: it", _LINE_REMEDY)
            if ended:
                place.lines, place.offset, place.before = number, end, before


_LINE_REMEDY = "delete this line, and its run will be made again; or restore the file from a copy"
_FILE_REMEDY = "delete it, and repeat its run; or restore it from a copy"


def _check(record: Any, where: str, remedy: str, complete: bool) -> None:
    check_fields(record, RUN_FIELDS if complete else LINE_FIELDS, where, remedy)
    if complete and (problem := contradiction(record)):
        raise ValueError(f"{where} is damaged ({problem}); {remedy}")


def read_records(*paths: str | os.PathLike[str], complete: bool = False) -> list[dict[str, Any]]:
    """All records of training runs in these files and folders, in a stable order, each run once.

    Args:
        paths: files of one record (.json) or of a record a line (.jsonl), or folders of such, searched through.
        complete: refuse a record that lacks anything that a run writes into its own.

    Raises:
        FileNotFoundError: if one of them is not there.
        ValueError: naming file, line and field, if what stands there is no JSON, or no record that can be used.
    """
    for path in paths:
        check_path("a file or a folder", path=path)
    files: list[tuple[Path, bool]] = []
    for path in map(Path, paths):
        if path.is_dir():
            files += ((file, False) for file in _files_in(path))
        elif path.is_file():
            files.append((path, True))
        else:
            raise FileNotFoundError(f"no records at {path}")
    runs: dict[str, dict[str, Any]] = {}
    for file, named in files:
        for record in _runs_in(file, named, complete):
            runs.setdefault(key_of(record["config"]), record)
    return list(runs.values())


def _files_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix in (".json", ".jsonl") and file.is_file())


def _runs_in(
    file: Path, named: bool, complete: bool = False, place: _Place | None = None
) -> Iterator[dict[str, Any]]:
    """The records of training runs in a file; what else stands there is passed over in one that was not named."""
    if file.suffix == ".jsonl":
        entries, remedy = _lines(file, place), _LINE_REMEDY
    else:
        entries = iter([(f"{file}", read_json(file, _FILE_REMEDY, f"{file}: not a record: it"))])
        remedy = _FILE_REMEDY
    for where, record in entries:
        if isinstance(record, dict):  # before its kind: a changed letter must not make a run something else
            check_checksum(record, where, remedy)
        # Folders hold other things too: benchmarks, checkpoints' notes, the identity of a cache.
        if isinstance(record, dict) and record.get("kind") in _KINDS:
            _check(record, where, remedy, complete)
            yield record
        elif named or file.suffix == ".jsonl":
            check_fields(record, {"kind": str}, where, remedy)


class FolderResults:
    """Results of the runs in a folder, for repeated reading while several processes append to its files.

    Of a file of a record a line, which `append_record` lets grow at its end alone, only what is new is read; one that no
    longer has what was read before is read from its start.

    Args:
        folder: as for `read_records`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._read: dict[Path, tuple[_Place, dict[str, dict[str, Any]]]] = {}

    def by_key(self) -> dict[str, dict[str, Any]]:
        """Of each run, by its key, what its record says under ``result``.

        Raises:
            ValueError: as `read_records`.
        """
        known, self._read = self._read, {}
        found: dict[str, dict[str, Any]] = {}
        for file in _files_in(self.folder):
            place, results = known.get(file, (_Place(), {}))
            if not place.offset or not _stands_there(file, place):
                place, results = _Place(), {}
            self._read[file] = place, results
            for record in _runs_in(file, False, place=place):
                results.setdefault(key_of(record["config"]), record["result"])
            found = {**results, **found}  # as of `read_records`, the first of a key counts
        return found


def _stands_there(path: Path, place: _Place) -> bool:
    """Whether what was read last is still where it was."""
    with path.open("rb") as file:
        file.seek(place.offset - len(place.before))
        return file.read(len(place.before)) == place.before
