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
from ._json import NUMBER

__all__ = [
    "LINE_FIELDS",
    "REQUIRED_FIELDS",
    "ROW_FIELDS",
    "RUN_FIELDS",
    "contradiction",
    "environment",
    "key_of",
    "now",
]

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


OF_TEXT = ("nats", "kl_to_truth")
_MEASURED = ("lr", "loss", "ce", "kd", "train_accuracy", "temperature", "correlation", "rule_gradient")
ROW_FIELDS = {
    "epoch": int,
    **{f"{name}?": NUMBER for name in _MEASURED},
    **{f"{split}_{name}?": NUMBER for split in ("test", "validation") for name in ("accuracy", *OF_TEXT)},
}
# What a record must hold to be opened as a run: what is read from it anywhere, with its types. (See `check_fields`.)
RUN_FIELDS = {
    "kind": str,
    "status?": str,
    "config": {
        "model": str,
        "method": str,
        "method_options": dict,
        "data": {"name": str, "sha256": str},
        "recipe": {
            "name": str,
            "epochs": int,
            "batch_size": int,
            "train_images": (int, type(None)),
            "views?": int,
            "validation_images?": int,
        },
        "seed": int,
        "precision": str,
        "teacher": (dict, type(None)),
    },
    "seed": int,
    "data": {
        "name": str,
        "official": bool,
        "sha256": str,
        "train_images": int,
        "test_images": int,
        "classes": int,
        "entropy?": NUMBER,
    },
    "teacher?": (dict, type(None)),
    "deployed?": {"architecture": str, "size": int},
    "result": {
        "last": NUMBER,
        "best": NUMBER,
        "best_epoch": int,
        "test_images": int,
        "validation?": NUMBER,
        **{f"{split}{name}?": NUMBER for split in ("", "validation_") for name in OF_TEXT},
    },
    "weights_sha256?": str,
    "seconds": NUMBER,
    "history": [ROW_FIELDS],
    "sessions?": [dict],
}
# Of a line among other records: the least by which a run is recognized and compared.
LINE_FIELDS = {
    "config": dict,
    "seed": int,
    "result": {"last": NUMBER, "validation?": NUMBER},
    "history?": [ROW_FIELDS],
}


def contradiction(record: dict[str, Any]) -> str | None:
    """Where a run's record says two different things of one, as after a changed digit; None where it does not."""
    config, result, history = record["config"], record["result"], record["history"]
    measured = {row["epoch"]: row["test_accuracy"] for row in history if "test_accuracy" in row}
    for name, one, other in (
        ("seed", record["seed"], config["seed"]),
        ("data.sha256", record["data"]["sha256"], config["data"]["sha256"]),
        ("data.name", record["data"]["name"], config["data"]["name"]),
        ("config.recipe.epochs", config["recipe"]["epochs"], len(history)),
        ("history", [row["epoch"] for row in history], list(range(1, len(history) + 1))),
        ("result.last", result["last"], history[-1].get("test_accuracy") if history else None),
        ("result.best", result["best"], max(measured.values(), default=None)),
        ("result.best_epoch", measured.get(result["best_epoch"]), result["best"]),
        ("result.test_images", result["test_images"], record["data"]["test_images"]),
    ):
        if one != other:
            return f"field {name!r} does not agree with the rest: {one!r:.40} and {other!r:.40}"
    return None


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
