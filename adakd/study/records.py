"""Records of runs in files of one line each: small enough to keep, and safe for several processes that append."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..training.record import key_of

__all__ = ["append_record", "compact", "keep_records", "read_records"]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value


def compact(record: dict[str, Any]) -> dict[str, Any]:
    """The same record with its history and result to six digits, and without what it says twice.

    The configuration stays as it is: by it a run is recognized.
    """
    small = {**record, "history": _rounded(record["history"]), "result": _rounded(record["result"])}
    if len(record.get("sessions", ())) == 1:  # its versions, hardware and commit are the record's own
        del small["sessions"]
    return small


def append_record(path: str | os.PathLike, record: dict[str, Any]) -> None:
    """Add a record to a file as its last line; made where there is none."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(compact(record), ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
    with FileLock(path.parent / ".lock"), path.open("r+b" if path.exists() else "w+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end and file.seek(end - 1) is not None and file.read(1) != b"\n":
            # A process was killed while it wrote: its half line goes, and the run it was of will come again.
            text = path.read_bytes()
            file.truncate(text.rfind(b"\n") + 1)
            file.seek(0, os.SEEK_END)
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def keep_records(path: str | os.PathLike, records: Iterable[dict[str, Any]]) -> int:
    """Add those records to a file of one a line that are not in it; returns how many these were.

    Raises:
        ValueError: if the file's name does not end in .jsonl, or it holds something else.
    """
    path = Path(path)
    if path.suffix != ".jsonl":
        raise ValueError(f"records: expected a file name that ends in .jsonl, got {path}")
    known = {key_of(record["config"]) for record in read_records(path)} if path.is_file() else set()
    new = [record for record in records if key_of(record["config"]) not in known]
    for record in new:
        append_record(path, record)
    return len(new)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except ValueError as error:
            if number == len(lines) and not text.endswith("\n"):
                return  # being written, or left by a process that was killed while it wrote
            raise ValueError(f"{path}, line {number}: not a record ({error})") from error


def read_records(*paths: str | os.PathLike) -> list[dict[str, Any]]:
    """All records of training runs in these files and folders, in a stable order, each run once.

    Args:
        paths: files of one record (.json) or of a record a line (.jsonl), or folders of such, searched through.

    Raises:
        FileNotFoundError: if one of them is not there.
        ValueError: if a file is no JSON.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files += sorted(file for file in path.rglob("*") if file.suffix in (".json", ".jsonl"))
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f"no records at {path}")
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        if file.suffix == ".jsonl":
            records = list(_lines(file))
        else:
            try:
                records = [json.loads(file.read_text(encoding="utf-8"))]
            except ValueError as error:
                raise ValueError(f"{file}: not a record ({error})") from error
        for record in records:
            # Folders hold other things too: benchmarks, checkpoints' notes, the identity of a cache.
            if isinstance(record, dict) and record.get("kind") in ("teacher", "student"):
                found.setdefault(key_of(record["config"]), record)
    return list(found.values())
