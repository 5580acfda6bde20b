"""SIGKILL at any system call: what is started again ends as if nothing had been, to the last bit, and leaves nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).parent / "kills.py"


def killed(folder, kills, *options):
    done = subprocess.run(
        [sys.executable, WORKER, folder, str(kills), *options],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    print(report)
    assert report["different"] == []
    assert len(report["kills"]) == 8
    assert sum(report["kills"].values()) >= kills


def test_killed_at_some_system_calls(tmp_path):
    """Every job once: restarted, killed again, and left to finish."""
    killed(tmp_path, 8)


@pytest.mark.slow
def test_killed_at_many_system_calls_and_moments(tmp_path):
    killed(tmp_path, 100, "moments")
