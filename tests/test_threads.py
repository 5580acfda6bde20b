"""A busy machine: how many threads wait for each other, how, and that nothing of it stays behind a library call."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adakd.explore.plane import Lesson, Setting, StudentSetting

ROOT = Path(__file__).parents[1]


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


def waits(program, **environment):
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment = {**inherited, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_command_waits_without_spinning_and_a_library_leaves_that_alone():
    command = "import sys, types\nfrom adakd import _entry\n"
    # In the place of the command line, whose import brings torch: what it would find when it is imported.
    told = "import os; main = lambda arguments: print(os.environ.get('OMP_WAIT_POLICY'))"
    command += f"module = types.ModuleType('adakd.cli'); exec({told!r}, module.__dict__)\n"
    command += "sys.modules['adakd.cli'] = module\n_entry.main(['methods'])"
    assert waits(command) == "PASSIVE"
    assert waits(command, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"
    assert (
        waits("import os, torch, adakd; adakd.create_method('kd'); print(os.environ.get('OMP_WAIT_POLICY'))")
        == "None"
    )


def test_without_a_bar_no_thread_is_left_and_no_lock_of_tqdms_is_made(tmp_path):
    """A process that is killed in tqdm's lock leaves waiting all that were forked from the same one."""
    program = """if True:
        import threading
        import adakd
        from adakd.measure import measure_temperatures
        from tqdm.std import TqdmDefaultWriteLock

        def refuse(*_):
            raise AssertionError("tqdm's lock")

        TqdmDefaultWriteLock.__init__ = refuse
        data = adakd.data.load_gratings(train_images=40, test_images=20)
        settings = {"out": FOLDER, "device": "cpu", "progress": False, "epochs": 1, "batch_size": 20}
        teacher = adakd.train_teacher("resnet8x0.5", data, **settings)
        run = adakd.distill(teacher, "resnet8x0.5", "kd", data, train_images=40, **settings)
        adakd.compare(("ce", "kd"), (0,), teacher, "resnet8x0.5", data, train_images=40, **settings)
        measure_temperatures(teacher, data=data, out=FOLDER, progress=False)
        print([thread.name for thread in threading.enumerate()])
    """
    assert waits(program.replace("FOLDER", repr(str(tmp_path)))) == "['MainThread']"
