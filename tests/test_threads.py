"""A busy machine: how many threads wait for each other, how, and that nothing of it stays behind a library call."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adakd._process import is_command_line
from adakd.explore.plane import Lesson, Setting, StudentSetting

ROOT = Path(__file__).parents[1]
ASKED = "import adakd, os; print(os.environ.get('OMP_WAIT_POLICY'))"


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("two_threads")
def test_networks_in_the_plane_have_one_thread_and_give_the_others_back(monkeypatch):
    seen = set()
    forward = torch.nn.Sequential.forward

    def counted(self, x):
        seen.add(torch.get_num_threads())
        return forward(self, x)

    monkeypatch.setattr(torch.nn.Sequential, "forward", counted)
    lesson = Lesson(Setting(seed=17, a=StudentSetting("kd")))
    seen.discard(2)  # the teacher's answers, asked once
    lesson.step()
    lesson.train(12)
    lesson.measure()
    assert seen == {1}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_an_error_gives_them_back_too(monkeypatch):
    lesson = Lesson(Setting())
    monkeypatch.setattr(lesson, "objectives", {})
    with pytest.raises(KeyError):
        lesson.step()
    assert torch.get_num_threads() == 2


def waits(command, **environment):
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment = {**inherited, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_command_waits_without_spinning_and_a_library_leaves_that_alone(tmp_path):
    script = tmp_path / "adakd"  # as the installed command is called
    script.write_text(ASKED)
    assert waits([str(script)]) == "PASSIVE"
    assert waits([str(script)], OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"
    assert waits(["-c", ASKED]) == "None"


@pytest.mark.parametrize(
    ("argv", "whole", "is_one"),
    [
        (["-m", "distill"], ["python", "-m", "adakd", "distill"], True),
        (["-m", "distill"], ["python", "-X", "dev", "-m", "adakd", "distill"], True),
        (["/usr/bin/adakd", "methods"], ["python", "/usr/bin/adakd", "methods"], True),
        (["adakd.exe"], ["adakd.exe"], True),
        (["-m", "tests"], ["python", "-m", "pytest", "tests"], False),
        (["-m"], ["python", "-m"], False),
        (["adakd_of_mine.py"], ["python", "adakd_of_mine.py"], False),
        (["-c"], ["python", "-c", "import adakd"], False),
        ([], ["python"], False),
    ],
)
def test_which_process_is_the_command(argv, whole, is_one):
    assert is_command_line(argv, whole) is is_one
