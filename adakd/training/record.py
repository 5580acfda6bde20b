"""What a run writes about itself: enough to know where each number is from, and to make it again."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import torch

from .._version import __version__

__all__ = ["REQUIRED_FIELDS", "environment", "key_of", "now"]

# A record without one of these is no evidence; a test holds every committed record to it.
REQUIRED_FIELDS = (
    "schema",
    "kind",
    "status",
    "config",
    "seed",
    "data",
    "versions",
    "hardware",
    "commit",
    "history",
    "result",
    "seconds",
)


def key_of(config: dict[str, Any]) -> str:
    """What two records have in common if and only if they are of the same run."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git(*arguments: str) -> str | None:
    """Output of a git command in the source tree of this package; None when it is installed from a wheel."""
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ("git", "-C", str(source), *arguments), capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _commit() -> str:
    """The commit the code is from, with "+changes" when the package's own files differ from it."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return f"release {__version__}"
    return commit + ("+changes" if _git("status", "--porcelain", "--", "adakd") else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, hardware and commit, as the fields of a record."""
    hardware = {
        "device": device.type,
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        hardware["gpu"] = torch.cuda.get_device_name(device)
        hardware["cuda"] = torch.version.cuda
    return {
        "versions": {
            "adakd": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "platform": sys.platform,
        },
        "hardware": hardware,
        "commit": _commit(),
    }
