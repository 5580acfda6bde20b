"""Weights are those that a record names by their hash, wherever they are loaded; and what a killed run left goes."""

import os
import shutil

import pytest

import adakd
from adakd import WeightsError
from adakd.models import seeded_model
from adakd.teachers import find as find_module
from adakd.training import save_weights

NAME = "resnet8x0.5"
SMALL = {
    "device": "cpu",
    "precision": "fp32",
    "progress": False,
    "epochs": 1,
    "batch_size": 20,
    "train_images": 20,
}


@pytest.fixture
def teacher(tiny_teacher, tmp_path):
    return adakd.open_run(shutil.copytree(tiny_teacher.folder, tmp_path / "teacher"))


def zeroed(path):
    content = bytearray(path.read_bytes())
    content[4000:6000] = bytes(2000)
    path.write_bytes(content)


def replaced(path):
    save_weights(seeded_model(NAME, 10, 9), path)


@pytest.mark.parametrize("harm", [zeroed, replaced])
@pytest.mark.parametrize("cache", ["fp16", None])
@pytest.mark.parametrize("loaded_before", [False, True])
def test_a_teacher_of_other_weights_does_not_teach(harm, cache, loaded_before, teacher, tiny_data, tmp_path):
    options = {**SMALL, "out": tmp_path, "cache": cache}
    if loaded_before:  # and kept in memory
        adakd.distill(teacher, NAME, "kd", tiny_data, **options)
    harm(teacher.folder / "weights.safetensors")
    right = teacher.record["weights_sha256"]
    for one in (teacher, str(teacher.folder)):
        with pytest.raises(
            WeightsError, match=rf"teacher/weights.safetensors .*expected sha256 {right}, got .*restore"
        ):
            adakd.distill(one, NAME, "dist", tiny_data, **options)
    with pytest.raises(WeightsError, match=right):
        adakd.cache_teacher(teacher, tiny_data, **{k: v for k, v in options.items() if k != "cache"})


@pytest.mark.parametrize("harm", [zeroed, replaced])
def test_a_run_of_other_weights_is_not_evaluated(harm, teacher):
    teacher.model()
    harm(teacher.folder / "weights.safetensors")
    with pytest.raises(WeightsError, match=teacher.record["weights_sha256"]):
        teacher.model()
    with pytest.raises(WeightsError, match=teacher.record["weights_sha256"]):
        adakd.evaluate(teacher.folder, device="cpu")


def test_published_weights_are_those_that_the_record_names(teacher, tiny_data, tmp_path, monkeypatch):
    """Between the hash and the loading another file may come into their place."""
    path = tmp_path / "published.safetensors"
    shutil.copy(teacher.folder / "weights.safetensors", path)
    options = {**SMALL, "out": tmp_path / "out", "cache": None, "teacher_weights": path}
    run = adakd.distill(NAME, NAME, "kd", tiny_data, **options)
    assert run.record["teacher"]["sha256"] == teacher.record["weights_sha256"]
    hashed = find_module.sha256_of

    def then_replaced(file):
        found = hashed(file)
        replaced(file)
        return found

    find_module._teacher_model.cache_clear()
    monkeypatch.setattr(find_module, "sha256_of", then_replaced)
    with pytest.raises(WeightsError, match=teacher.record["weights_sha256"]):
        adakd.distill(NAME, NAME, "dist", tiny_data, **options)


def test_weights_of_another_network_name_it(teacher, tiny_data, tmp_path):
    options = {**SMALL, "out": tmp_path / "out", "teacher_weights": teacher.folder / "weights.safetensors"}
    with pytest.raises(
        WeightsError, match=r"does not fit wrn_16_2 \(10 classes\): missing .*the network with conv1"
    ):
        adakd.distill("wrn_16_2", NAME, "kd", tiny_data, **options)


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"config": 1}', '{"kind": "student"}', "[" * 5000])
def test_a_record_that_is_none_is_named(content, teacher, tiny_data, tmp_path):
    (teacher.folder / "record.json").write_text(content)
    for use in (
        lambda: adakd.open_run(teacher.folder),
        lambda: adakd.evaluate(teacher.folder),
        lambda: adakd.distill(str(teacher.folder), NAME, "kd", tiny_data, out=tmp_path, **SMALL),
    ):
        with pytest.raises(
            ValueError, match=r"teacher/record.json is damaged \(.*\); delete it and repeat the run"
        ):
            use()


@pytest.mark.parametrize("name", ["record.json", "weights.safetensors", "checkpoint.pt", "sessions.json"])
def test_a_folder_in_a_files_place_is_found_before_training(name, tiny_data, tmp_path):
    run = adakd.train_teacher(NAME, tiny_data, out=tmp_path, **SMALL)
    shutil.rmtree(run.folder)
    (run.folder / name).mkdir(parents=True)

    def trained(row):
        raise AssertionError("it trained")

    with pytest.raises(IsADirectoryError, match=name):
        adakd.train_teacher(NAME, tiny_data, out=tmp_path, on_epoch=trained, **SMALL)


def test_what_a_killed_run_left_half_written_goes(tiny_data, tmp_path):
    run = adakd.train_teacher(NAME, tiny_data, out=tmp_path, **SMALL)
    left = [
        ".record.json.abcd_123",
        ".checkpoint.pt.abcd_123",
        ".weights.safetensors.abcd_123",
        ".sessions.json.abcd_123",
    ]
    for fresh in (True, False):  # trained again, or opened
        for name in left:
            (run.folder / name).write_text("half")
        adakd.train_teacher(NAME, tiny_data, out=tmp_path, fresh=fresh, **SMALL)
        assert sorted(path.name for path in run.folder.iterdir()) == ["record.json", "weights.safetensors"]


def test_a_run_killed_before_it_cleaned_up_is_cleaned_up_when_it_is_opened(tiny_data, tmp_path):
    run = adakd.train_teacher(NAME, tiny_data, out=tmp_path, **SMALL)
    for name in ("checkpoint.pt", "sessions.json", ".lock"):
        (run.folder / name).write_bytes(b"")
    assert adakd.train_teacher(NAME, tiny_data, out=tmp_path, **SMALL).record == run.record
    assert sorted(path.name for path in run.folder.iterdir()) == ["record.json", "weights.safetensors"]


def test_a_disk_that_is_full_loses_nothing(tiny_data, tmp_path, monkeypatch):
    """At every write in turn; when there is room again it goes on and ends as ever."""
    whole = adakd.train_teacher(NAME, tiny_data, out=tmp_path / "whole", **SMALL)
    replace = os.replace
    for full_at in range(1, 5):  # sessions, checkpoint, weights, record
        left = [full_at]

        def full(source, target, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise OSError(28, "No space left on device")
            return replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr("os.replace", full)
            with pytest.raises(
                OSError, match=rf"No space left on device; .*free some space.*{tmp_path}/{full_at}/"
            ):
                adakd.train_teacher(NAME, tiny_data, out=tmp_path / str(full_at), **SMALL)
        run = adakd.train_teacher(NAME, tiny_data, out=tmp_path / str(full_at), **SMALL)
        assert run.record["weights_sha256"] == whole.record["weights_sha256"]
        assert sorted(path.name for path in run.folder.iterdir()) == ["record.json", "weights.safetensors"]
