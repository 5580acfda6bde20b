"""What a chapter's first cell finds out: the machine, where runs go, and how long they take."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

import adakd
from adakd.explore import minutes, start_session


@pytest.fixture
def colab(monkeypatch):
    """A module like Colab's, that remembers where a drive was mounted."""
    google, found, drive = ModuleType("google"), ModuleType("google.colab"), ModuleType("google.colab.drive")
    drive.mounted = []
    drive.mount = drive.mounted.append
    google.colab, found.drive = found, drive
    for module in (google, found, drive):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return drive


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_small_set_and_a_folder_that_is_made_once():
    here = start_session()
    assert here.data == "gratings"
    assert here.runs == here.runs
    assert here.runs.is_dir()
    assert "on the CPU" in repr(here)
    assert "Change runtime type" not in repr(here)
    assert str(here.runs) not in repr(here)  # another one each time: it must not stand in an output


@pytest.mark.usefixtures("gpu")
def test_with_a_gpu_cifar_and_a_folder_that_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = start_session()
    assert here.data == "cifar100"
    assert here.runs == tmp_path / "runs"
    assert "Tesla T4" in repr(here)
    assert str(here.runs) in repr(here)


@pytest.mark.usefixtures("no_gpu")
def test_on_colab_it_says_how_to_get_a_gpu(colab):
    assert "Change runtime type" in repr(start_session())
    assert colab.mounted == []


@pytest.mark.usefixtures("gpu")
def test_on_colab_runs_can_go_to_the_drive(colab):
    here = start_session(drive=True)
    assert colab.mounted == ["/content/drive"]
    assert here.runs == Path("/content/drive/MyDrive/adakd-runs")


def test_a_drive_is_colabs_only():
    with pytest.raises(ValueError, match="drive: expected False outside of Colab, got True"):
        start_session(drive=True)


def test_minutes_follow_the_recipe_and_disturb_nothing(monkeypatch):
    clock = iter(range(1000))  # a second passes between two looks at the clock: 3 steps, then 20
    monkeypatch.setattr("adakd.explore.session.time.perf_counter", lambda: float(next(clock)))
    data = adakd.load_data("gratings")
    recipe = adakd.get_recipe("demo", "teacher", epochs=1)
    state = torch.random.get_rng_state()
    one = minutes("resnet8x0.5", data, recipe)
    assert torch.equal(torch.random.get_rng_state(), state)
    steps = -(-len(data.train) // recipe.batch_size)
    assert one == pytest.approx(steps / 20 / 60)
    assert minutes("resnet8x0.5", data, replace(recipe, epochs=6)) == pytest.approx(6 * one)
    few = replace(recipe, train_images=2 * recipe.batch_size)
    assert minutes("resnet8x0.5", data, few) == pytest.approx(2 / 20 / 60)


def test_minutes_refuse_an_unknown_model():
    with pytest.raises(ValueError, match="resnet8"):
        minutes("resnet9", adakd.load_data("gratings"), adakd.get_recipe("demo", "teacher"))
