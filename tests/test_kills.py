"""SIGKILL at any system call: what is started again ends as if nothing had been, to the last bit, and leaves nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).parent / "kills.py"


def killed(folder, trials, *options):
    done = subprocess.run(
        [sys.executable, WORKER, folder, str(trials), *options],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    print(report)
    assert report["different"] == []
    return report["kills"]


def test_killed_at_some_system_calls(tmp_path):
    """Every job once: restarted, killed again, and left to finish."""
    kills = killed(tmp_path, 8)
    assert len(kills) == 8


@pytest.mark.slow
def test_killed_at_many_system_calls_and_moments(tmp_path):
    kills = killed(tmp_path, 96, "moments")
    assert sum(kills.values()) >= 100
    assert len(kills) == 8
