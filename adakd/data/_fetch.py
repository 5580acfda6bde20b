"""A published archive, downloaded once: by its checksum, and from where a stopped download left off."""

import hashlib
import http.client
import os
import shutil
import ssl
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .._described import sha256_of
from .._progress import progress_bar
from .._version import __version__

__all__ = ["Archive", "DataError", "fetch", "md5_of"]

_BLOCK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte


class DataError(RuntimeError):
    """The data could not be had, or are not what they should be. The message says what to do."""


@dataclass(frozen=True)
class Archive:
    """What somebody published as a .tar.gz, and how to know it again."""

    url: str
    size: int
    """In bytes."""
    sha256: str
    folder: str
    """Where its files lie, inside the archive and on the disk."""
    files: Mapping[str, str]
    """The files that are read, with the MD5 of each."""
    largest: int
    """More bytes than any of its files has: beyond that, nothing is read into memory or unpacked."""

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


def md5_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def fetch(name: str, archive: Archive, root: Path, progress: bool | None = None) -> None:
    """Put the archive's files into `root`, from an archive that lies there or from the network.

    Several processes may call it at once: one works, the others wait and find the files.

    Raises:
        DataError: offline, damaged, or no room or permission to write.
    """
    from filelock import FileLock  # here: reading what is there needs no lock

    packed = root / archive.name
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{archive.folder}.lock"):
            if all((root / archive.folder / file).is_file() for file in archive.files):
                return
            if packed.exists() and (found := sha256_of(packed)) != archive.sha256:
                raise DataError(
                    f"{name}: an incomplete or damaged {archive.name} is in {root} (SHA-256 {found}, expected "
                    f"{archive.sha256}). It was not opened: delete it, and run again to download it."
                )
            if not packed.exists():
                _download(archive, packed, progress)
            _unpack(name, archive, packed)
    except (
        ConnectionError,
        TimeoutError,
        http.client.HTTPException,
        ssl.SSLError,
        urllib.error.URLError,
    ) as error:
        reason = str(error).rstrip(".") or "no reason given"
        raise DataError(
            f"{name} is not in {root} and could not be downloaded from {archive.url}: {type(error).__name__}: {reason}. "
            "With a connection, run again: a part that has come is kept. (A proxy is taken from https_proxy, "
            f"certificates from SSL_CERT_FILE.) Without one, put {archive.name} (SHA-256 {archive.sha256}) into {root}, "
            "or name a folder that has it in ADAKD_DATA; or use the embedded set, data='gratings'."
        ) from error
    except OSError as error:
        raise DataError(
            f"{name}: {error.filename or root} cannot be read or written: {error.strerror or error}; it takes 350 MB: "
            "make room or mend the permissions, or name another folder (--root, ADAKD_DATA)"
        ) from error


def _download(archive: Archive, target: Path, progress: bool | None) -> None:
    part = target.with_name(f"{target.name}.part")
    have = part.stat().st_size if part.is_file() else 0
    if have != archive.size:  # else a process was killed that had it all
        have = _go_on(archive, part, have if have < archive.size else 0, progress)
    if have < archive.size:
        raise ConnectionError(f"it ended after {have} of {archive.size} bytes, which are kept in {part}")
    if sha256_of(part) != archive.sha256:
        part.unlink()
        raise ConnectionError(
            "what came is not the published archive (its SHA-256 is another), and was removed"
        )
    os.replace(part, target)


def _go_on(archive: Archive, part: Path, have: int, progress: bool | None) -> int:
    """Fetch what follows the first `have` bytes; how many there are then, one block too many at most."""
    headers = {"User-Agent": f"adakd/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(archive.url, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        if have and response.status != 206:  # it sends everything again
            have = 0
        with (
            part.open("ab" if have else "wb") as file,
            progress_bar(
                progress, archive.size, have, desc=archive.name, unit="B", unit_scale=True, leave=False
            ) as bar,
        ):
            while have <= archive.size and (block := response.read(_BLOCK)):
                have += file.write(block)
                bar.update(len(block))
            file.flush()
            os.fsync(file.fileno())
    return have


def _unpack(name: str, archive: Archive, packed: Path) -> None:
    """The known files, each by its checksum, all of them or none.

    Nothing of the archive decides where something is written: contents are copied into files of our own naming, and only
    from members that are plain files. A link, a device or a path that leads elsewhere is never followed.
    """
    scratch = packed.with_name(f".{archive.folder}.unpacking")
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed: the lock is ours
    scratch.mkdir()
    wanted = {f"{archive.folder}/{file}": file for file in archive.files}
    try:
        with tarfile.open(packed, "r:gz") as tar:
            for member in tar:
                file = wanted.pop(member.name, None)
                if file is None:
                    continue
                if not member.isreg() or member.size > archive.largest:
                    raise tarfile.TarError(f"{member.name} is not a plain file of the published size")
                opened = tar.extractfile(member)
                assert opened is not None  # a plain file
                content = opened.read()
                if md5_of(content) != archive.files[file]:
                    raise tarfile.TarError(f"{member.name} does not match the published checksum")
                (scratch / file).write_bytes(content)
        if wanted:
            raise tarfile.TarError(f"it has no {', '.join(wanted)}")
        folder = packed.with_name(archive.folder)
        folder.mkdir(exist_ok=True)
        for file in archive.files:
            os.replace(scratch / file, folder / file)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(
            f"{name}: {packed} cannot be unpacked: {error}; delete it, and run again to download it"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
