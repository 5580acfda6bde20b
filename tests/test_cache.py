"""The view cache: it says what the teacher says, is filled once, survives kills, and knows whose it is."""

import dataclasses
import errno
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import nn

import adakd
from adakd import CacheError
from adakd.data import Views
from adakd.models import seeded_model
from adakd.training import Recipe, choose_precision, student_views
from adakd.training.cache import FILL_BATCH, LARGEST, _kept, _outputs, fits, open_cache

CPU = torch.device("cpu")
FP32 = choose_precision("fp32", CPU, 0)
WHO = {"model": "resnet8x0.5", "sha256": "0" * 64}
SMALL = {"device": "cpu", "precision": "fp32", "progress": False, "epochs": 3, "batch_size": 20}


@pytest.fixture(scope="module")
def data(tiny_data):
    """The tiny gratings as if they could be cropped and mirrored: 25 · 2 views an image."""
    return dataclasses.replace(tiny_data, padding=2, flip=True)


@pytest.fixture(scope="module")
def teacher():
    return seeded_model("resnet8x0.5", 10, seed=1).eval().requires_grad_(False)


class Counting(nn.Module):
    """Counts the images that it is asked about; stops after so many calls."""

    def __init__(self, model, calls=None):
        super().__init__()
        self.model, self.images, self.calls = model, 0, calls

    def forward(self, images):
        if self.calls is not None:
            self.calls -= 1
            if self.calls < 0:
                raise KeyboardInterrupt
        self.images += len(images)
        return self.model(images)


def cache_of(data, folder, views, who=WHO):
    return open_cache(folder, data, who, FP32, views.count)


def live(teacher, views, places):
    with torch.no_grad():
        return teacher(views.at(places))


# ---- views by place ----


def test_a_place_is_an_image_and_a_view(data):
    views = Views(data, seed=3, subset=torch.tensor([7, 2, 40]))
    positions = torch.arange(3)
    for epoch in (1, 2, 9):
        shown = views.render(positions, views.choose(epoch, positions))
        torch.testing.assert_close(views.at(views.places(epoch, positions)), shown, rtol=0, atol=0)


@pytest.mark.parametrize("limit", [None, 1, 7])
def test_visited_is_what_the_epochs_show(data, limit):
    views = Views(data, seed=3, subset=torch.arange(0, 60, 2), limit=limit)
    everything = torch.cat([views.places(epoch, torch.arange(30)) for epoch in range(1, 13)])
    assert torch.equal(views.visited(12), everything.unique())


@pytest.mark.parametrize("limit", [1, 2, 7, 49, 50])
def test_a_limit_leaves_so_many_views_the_same_for_all_seeds(data, limit):
    seen = [set(Views(data, seed, limit=limit).visited(1500).tolist()) for seed in (0, 1)]
    per_image = [sum(place // 50 == image for place in seen[0]) for image in range(60)]
    assert per_image == [limit] * 60
    assert seen[0] == seen[1]


def test_a_limit_leaves_different_views_to_different_images(data):
    views = Views(data, seed=0, limit=1)
    assert len(set(views.choose(1, torch.arange(60)).tolist())) > 20


@pytest.mark.parametrize("limit", [0, 51])
def test_a_limit_beyond_the_views_is_refused(data, limit):
    with pytest.raises(ValueError, match=f"views: expected 1 to 50 .*, got {limit}"):
        Views(data, seed=0, limit=limit)


# ---- what it says ----


@pytest.mark.parametrize(("dtype", "rounding"), [("fp16", 2**-11), ("fp32", 1e-6)])
def test_it_says_what_the_teacher_says(data, teacher, tmp_path, dtype, rounding):
    """One rounding to fp16's 11 bits; in fp32 nothing but what a kernel does otherwise in a larger batch."""
    views = Views(data, seed=0)
    cache, places = open_cache(tmp_path, data, WHO, FP32, views.count, dtype), views.visited(4)
    assert cache.fill(teacher, views, places, FP32, progress=False) == len(places) == cache.filled
    kept, said = cache.read(places), live(teacher, views, places)
    assert kept.dtype == {"fp16": torch.float16, "fp32": torch.float32}[dtype]
    torch.testing.assert_close(kept.float(), said, rtol=rounding, atol=1e-6)
    cache.verify(teacher, views, places, FP32)


def test_it_is_filled_once_and_only_with_what_is_asked(data, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("adakd.training.cache.FILL_BATCH", 1)  # nothing is repeated to fill a batch up
    counting = Counting(teacher)
    first, second = (student_views(data, Recipe("t", epochs=3, train_images=40), seed) for seed in (0, 1))
    places = [views.visited(3) for views in (first, second)]
    cache = cache_of(data, tmp_path, first)
    for views, wanted in zip((first, second), places, strict=True):
        cache.fill(counting, views, wanted, FP32, progress=False)
    assert counting.images == len(torch.cat(places).unique())
    again = cache_of(data, tmp_path, first)
    assert again.fill(counting, second, places[1], FP32, progress=False) == 0
    assert counting.images == len(torch.cat(places).unique())


def test_filling_goes_on_where_it_was_stopped(data, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("adakd.training.cache.FILL_BATCH", 16)
    views = Views(data, seed=0)
    places = views.visited(2)
    with pytest.raises(KeyboardInterrupt):
        cache_of(data, tmp_path, views).fill(Counting(teacher, calls=3), views, places, FP32, progress=False)
    cache = cache_of(data, tmp_path, views)
    assert cache.filled == 48
    assert cache.fill(teacher, views, places, FP32, progress=False) == len(places) - 48
    cache.verify(teacher, views, places, FP32)


def test_many_may_open_a_new_cache_at_once(data, tmp_path):
    views = Views(data, seed=0)
    with ThreadPoolExecutor(8) as pool:
        caches = list(pool.map(lambda _: cache_of(data, tmp_path, views), range(32)))
    assert len({cache.folder for cache in caches}) == 1


def test_a_file_that_a_kill_left_empty_is_made_whole(data, tmp_path):
    views = Views(data, seed=0)
    (cache_of(data, tmp_path, views).folder / "logits.fp16").write_bytes(b"")
    assert cache_of(data, tmp_path, views).filled == 0


def test_a_full_disk_is_an_error_with_a_name(data, teacher, tmp_path, monkeypatch):
    views = Views(data, seed=0)
    cache = cache_of(data, tmp_path, views)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(CacheError, match="No space left on device"):
            cache.fill(teacher, views, views.visited(1), FP32, progress=False)
    assert cache.filled == 0
    cache.fill(teacher, views, views.visited(1), FP32, progress=False)
    cache.verify(teacher, views, views.visited(1), FP32)


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX's")
def test_a_file_system_that_is_full_within_a_row_is_an_error_too(data, teacher, tmp_path):
    import resource

    views = Views(data, seed=0)
    cache, places = cache_of(data, tmp_path, views), torch.arange(256)
    row = 10 * 2  # ten classes in fp16
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (row * 255 + 7, hard))
    try:
        with pytest.raises(CacheError, match="File too large"):
            cache.fill(teacher, views, places, FP32, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    cache.fill(teacher, views, places, FP32, progress=False)
    assert torch.equal(cache.read(places), live(teacher, views, places).half())


def test_one_waits_for_another_and_says_so(data, teacher, tmp_path, caplog):
    views = Views(data, seed=0)
    cache, places = cache_of(data, tmp_path, views), views.visited(1)
    lock = FileLock(cache.folder / ".lock")
    lock.acquire()
    with caplog.at_level("INFO", logger="adakd"), ThreadPoolExecutor(1) as pool:
        filling = pool.submit(cache.fill, teacher, views, places, FP32, False)
        while "waiting for it" not in caplog.text:
            assert not filling.done()
            time.sleep(0.05)
        lock.release()
        assert filling.result() == len(places)


def test_a_cache_of_other_data_is_refused(data, teacher, tmp_path):
    other = dataclasses.replace(data, checksum="else")
    views = Views(other, seed=0)
    cache = cache_of(other, tmp_path, views)
    cache.fill(teacher, views, views.visited(1), FP32, progress=False)
    with pytest.raises(ValueError, match="is of other data than gratings with 50 views"):
        adakd.fit(
            seeded_model("resnet8x0.5", 10, 0),
            data,
            Recipe("test", epochs=1),
            adakd.create_method("kd"),
            seed=0,
            checkpoint=tmp_path / "checkpoint.pt",
            config={},
            precision=FP32,
            teacher=cache,
            progress=False,
        )


def test_images_outside_the_views_are_refused(data, teacher, tmp_path):
    few = Views(data, seed=0, subset=torch.arange(10))
    with pytest.raises(ValueError, match="not among these views"):
        cache_of(data, tmp_path, few).fill(teacher, few, torch.tensor([50 * 30]), FP32, progress=False)


def test_what_was_never_filled_is_not_read(data, teacher, tmp_path):
    views = Views(data, seed=0)
    cache = cache_of(data, tmp_path, views)
    cache.fill(teacher, views, views.visited(1), FP32, progress=False)
    with pytest.raises(CacheError, match="never filled"):
        cache.read(views.visited(2))


def test_another_teacher_is_found_out(data, teacher, tmp_path):
    views = Views(data, seed=0)
    cache, places = cache_of(data, tmp_path, views), views.visited(1)
    cache.fill(seeded_model("resnet8x0.5", 10, seed=2).eval(), views, places, FP32, progress=False)
    with pytest.raises(CacheError, match="does not hold the logits of its teacher"):
        cache.verify(teacher, views, places, FP32)


def test_each_teacher_data_set_and_precision_has_its_own(data, tmp_path):
    views = Views(data, seed=0)
    others = [
        cache_of(data, tmp_path, views),
        cache_of(data, tmp_path, views, {**WHO, "sha256": "1" * 64}),
        cache_of(dataclasses.replace(data, checksum="else"), tmp_path, views),
        open_cache(tmp_path, data, WHO, choose_precision("bf16", CPU, 0), views.count),
    ]
    assert len({cache.folder for cache in others}) == 4


def test_logits_that_fp16_cannot_hold_are_refused(data, tmp_path):
    class Loud(nn.Module):
        def forward(self, images):
            return torch.full((len(images), 10), 1e5)

    views = Views(data, seed=0)
    with pytest.raises(CacheError, match="beyond fp16"):
        cache_of(data, tmp_path, views).fill(Loud(), views, views.visited(1), FP32, progress=False)
    assert cache_of(data, tmp_path, views).filled == 0


class Apart(nn.Module):
    """A teacher with something added to all of its logits, and all of them multiplied."""

    def __init__(self, model, offset=0.0, factor=1.0):
        super().__init__()
        self.model, self.offset, self.factor = model, offset, factor

    def forward(self, images):
        return self.factor * self.model(images) + self.offset


@pytest.mark.parametrize("offset", [3000.0, -3000.0, 30000.0])
def test_what_an_offset_leaves_of_the_logits_in_fp16_is_looked_at(offset, data, teacher, tmp_path, monkeypatch):
    views = Views(data, seed=0)
    places, apart = views.visited(1), Apart(teacher, offset)
    with pytest.raises(
        CacheError, match=r"spread \(std\) .* is lost in fp16: keep them in fp32, cache='fp32' / --cache"
    ):
        cache_of(data, tmp_path, views).fill(apart, views, places, FP32, progress=False)
    assert cache_of(data, tmp_path, views).filled == 0
    exact = open_cache(tmp_path, data, WHO, FP32, views.count, "fp32")
    exact.fill(apart, views, places, FP32, progress=False)
    torch.testing.assert_close(exact.read(places), live(apart, views, places), rtol=1e-6, atol=0)
    # A file that an older version has filled is found out when it is held against its teacher.
    with monkeypatch.context() as older:
        older.setattr("adakd.training.cache._MOST_LOST", np.inf)
        cache_of(data, tmp_path, views).fill(apart, views, places, FP32, progress=False)
    with pytest.raises(CacheError, match="is lost in fp16"):
        cache_of(data, tmp_path, views).verify(apart, views, places, FP32)


@pytest.mark.parametrize(
    "rows",
    [
        torch.full((4, 10), 3000.3),  # constant in fp32 already
        torch.full((4, 10), 3000.3).index_fill(
            1, torch.tensor(3), torch.nextafter(torch.tensor(3000.3), torch.tensor(1e9)).item()
        ),
        torch.zeros(4, 10),
        torch.eye(10)[:4] * 40.3,
        torch.eye(1000)[:4] * 60.3,  # one peak of many classes
        torch.randn(4, 100, generator=torch.Generator().manual_seed(0)) * 3 - 30,  # a language model's
        torch.randn(4, 7, 100, generator=torch.Generator().manual_seed(0)) * 1000,
    ],
    ids=range(7),
)
def test_usual_logits_and_constant_ones_are_kept(rows):
    kept = _kept(rows.numpy(), np.dtype(np.float16))
    assert kept.dtype == np.float16
    assert np.array_equal(kept, rows.numpy().astype(np.float16))


def test_a_run_says_what_to_do_about_an_offset(data, teacher, tmp_path):
    apart, of = Apart(teacher, 3000.0), {**SMALL, "train_images": 40}
    with pytest.raises(CacheError, match="cache='fp32'"):
        adakd.distill(apart, "resnet8x0.5", "kd", data, out=tmp_path, **of)
    exact = adakd.distill(apart, "resnet8x0.5", "kd", data, out=tmp_path, cache="fp32", **of)
    usual = adakd.distill(teacher, "resnet8x0.5", "kd", data, out=tmp_path, cache="fp32", **of)
    assert exact.history[-1]["kd"] == pytest.approx(usual.history[-1]["kd"], rel=1e-2)


@pytest.mark.parametrize("name", ["logits.fp16", "checks.u32", "filled.u8"])
def test_a_truncated_file_is_refused(data, tmp_path, name):
    views = Views(data, seed=0)
    path = cache_of(data, tmp_path, views).folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CacheError, match=f"{name} has .* bytes, expected"):
        cache_of(data, tmp_path, views)


def test_a_folder_of_something_else_is_refused(data, tmp_path):
    views = Views(data, seed=0)
    path = cache_of(data, tmp_path, views).folder / "cache.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"teacher": "vgg8"}))
    with pytest.raises(CacheError, match="another teacher or data set"):
        cache_of(data, tmp_path, views)


def test_a_folder_that_cannot_be_written_is_told(data, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(CacheError, match="cannot be written"):
        cache_of(data, tmp_path, Views(data, seed=0))


def test_cifar_fits_and_a_thousand_classes_of_a_million_images_do_not():
    class Many:
        def __init__(self, images, classes):
            self.train, self.logits_shape = range(images), (classes,)

    assert fits(Many(50_000, 100), 162, "fp16")
    assert 50_000 * 162 * 100 * 2 == 1_620_000_000 < LARGEST
    assert not fits(Many(1_281_167, 1000), 162, "fp16")
    with pytest.raises(ValueError, match="dtype: expected 'fp16' or 'fp32', got None"):
        fits(Many(1, 10), 1, None)


# ---- its bits do not depend on its history, and are known by their checksums ----


def contents(cache):
    return [path.read_bytes() for path in cache._paths]


@pytest.mark.parametrize("name", ["resnet8x0.5", "resnet14", "wrn_16_2"])
@pytest.mark.parametrize("parts", [(1,), (2, 3, 1, 7), (5, 40)])
def test_its_bits_do_not_depend_on_how_it_was_filled(name, parts, data, tmp_path):
    """A batch of one to five images gets other last bits from these networks than a larger one: it is never asked."""
    asked = seeded_model(name, 10, seed=1).eval().requires_grad_(False)
    views = Views(data, seed=0)
    places = views.visited(1)
    whole, pieces = (open_cache(tmp_path / out, data, WHO, FP32, views.count, "fp32") for out in ("a", "b"))
    whole.fill(asked, views, places, FP32, progress=False)
    mixed = places[torch.randperm(len(places), generator=torch.Generator().manual_seed(0))]
    for part in mixed.split([*parts, len(places) - sum(parts)]):
        pieces.fill(asked, views, part.sort().values, FP32, progress=False)
    assert contents(pieces) == contents(whole)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_depends_neither_on_its_place_in_a_batch_nor_on_its_company(threads, data):
    """Why a batch of one size is enough, whatever stands in it."""
    views, model = Views(data, seed=0), seeded_model("resnet14", 10, seed=1).eval()
    places = views.visited(5)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        first = _outputs(model, views, places[:FILL_BATCH], FP32)
        for seed in range(3):
            order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))[:FILL_BATCH]
            again, known = _outputs(model, views, places[order], FP32), order < len(first)
            assert known.sum() > 100
            assert torch.equal(again[known], first[order[known]])
    finally:
        torch.set_num_threads(before)


def test_the_teacher_is_asked_in_batches_of_one_size(data, tmp_path):
    sizes = set()

    class Sized(nn.Module):
        def forward(self, images):
            sizes.add(len(images))
            return images.mean((2, 3)) @ torch.ones(3, 10)

    views = Views(data, seed=0)
    cache = cache_of(data, tmp_path, views)
    for epochs in (1, 2, 9):
        cache.fill(Sized(), views, views.visited(epochs), FP32, progress=False)
        cache.verify(Sized(), views, views.visited(epochs), FP32)
    cache.verify(Sized(), views, views.visited(1)[:1], FP32)
    assert sizes == {FILL_BATCH}


@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("call", ["fsync", "pwrite"])
def test_stopped_within_a_commit_it_holds_no_wrong_row(call, at, data, teacher, tmp_path, monkeypatch):
    """As a kill would: nothing that is written afterwards is written."""
    monkeypatch.setattr("adakd.training.cache.FILL_BATCH", 16)
    monkeypatch.setattr("adakd.training.cache._SECONDS_BETWEEN_COMMITS", -1.0)
    views = Views(data, seed=0)
    cache, places = cache_of(data, tmp_path, views), views.visited(1)
    done, left = getattr(os, call), [at if call == "fsync" else 17 * at]

    def stop(*arguments):
        left[0] -= 1
        if left[0] <= 0:
            raise KeyboardInterrupt
        return done(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, stop)
        with pytest.raises(KeyboardInterrupt):
            cache.fill(teacher, views, places, FP32, progress=False)
    again = cache_of(data, tmp_path, views)
    held = places[~torch.isin(places, again.missing(places))]
    assert len(held) < len(places)
    again.read(held)  # by their checksums
    again.fill(teacher, views, places, FP32, progress=False)
    other = cache_of(data, tmp_path / "other", views)
    other.fill(teacher, views, places, FP32, progress=False)
    assert contents(again) == contents(other)


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_a_changed_bit_of_any_row_is_found_when_it_is_read(dtype, data, teacher, tmp_path):
    views = Views(data, seed=0)
    places = views.visited(2)
    cache = open_cache(tmp_path, data, WHO, FP32, views.count, dtype)
    cache.fill(teacher, views, places, FP32, progress=False)
    path, row = cache._paths[0], cache.dtype.itemsize * 10
    place = int(places[50])  # none of the first, nor of those that are asked again
    content = bytearray(path.read_bytes())
    content[place * row] ^= 1
    path.write_bytes(content)
    image, view = divmod(place, views.count)
    expected = (
        rf"logits.{dtype}: 1 of \d+ rows are not what was written \(first: image {image}, view {view}\); delete"
    )
    with pytest.raises(CacheError, match=expected):
        cache_of_dtype(data, tmp_path, views, dtype).read(places)


def cache_of_dtype(data, folder, views, dtype):
    return open_cache(folder, data, WHO, FP32, views.count, dtype)


def test_rows_that_changed_places_are_found(data, teacher, tmp_path):
    views = Views(data, seed=0)
    places = views.visited(1)
    cache = cache_of(data, tmp_path, views)
    cache.fill(teacher, views, places, FP32, progress=False)
    for path, size in zip(cache._paths[:2], (20, 4), strict=True):  # row and checksum, both
        content, (one, other) = bytearray(path.read_bytes()), places[:2].tolist()
        first, second = (content[at * size : (at + 1) * size] for at in (one, other))
        content[one * size : (one + 1) * size], content[other * size : (other + 1) * size] = second, first
        path.write_bytes(content)
    with pytest.raises(CacheError, match="2 of 60 rows are not what was written"):
        cache_of(data, tmp_path, views).read(places)


def test_a_cache_from_before_the_checksums_is_asked_again(data, teacher, tmp_path):
    """It was filled in batches of any size, and nothing says whether it is still what was written."""
    views = Views(data, seed=0)
    places = views.visited(1)
    cache = cache_of(data, tmp_path, views)
    cache.fill(teacher, views, places, FP32, progress=False)
    right = contents(cache)
    cache._paths[1].unlink()
    old = cache_of(data, tmp_path, views)
    assert old.filled == 0
    assert old.fill(teacher, views, places, FP32, progress=False) == len(places)
    assert contents(old) == right


def test_half_written_files_of_killed_processes_are_removed(data, tmp_path):
    views = Views(data, seed=0)
    folder = cache_of(data, tmp_path, views).folder
    (folder / ".cache.json.abcd_123").write_text("{")
    cache_of(data, tmp_path, views)
    assert not (folder / ".cache.json.abcd_123").exists()


# ---- in a run ----


def distill(teacher, data, out, method="kd", **options):
    return adakd.distill(teacher, "resnet8x0.5", method, data, out=out, train_images=40, **{**SMALL, **options})


@pytest.mark.parametrize(("dtype", "rounding"), [("fp16", 1e-3), ("fp32", 1e-5)])
def test_a_cached_run_is_the_live_one_to_the_rounding(data, tmp_path, dtype, rounding):
    teacher = adakd.train_teacher("resnet8x0.5", data, out=tmp_path, **SMALL)
    cached, live = (distill(teacher, data, tmp_path, cache=choice) for choice in (dtype, None))
    for row, other in zip(cached.history, live.history, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=rounding)
    assert cached.record["teacher"]["logits"] == f"{dtype} of fp32"
    assert "logits" not in live.record["teacher"]
    assert cached.folder != live.folder


def test_an_unknown_format_is_refused(data, tmp_path):
    teacher = adakd.train_teacher("resnet8x0.5", data, out=tmp_path, **SMALL)
    with pytest.raises(ValueError, match="cache: expected 'fp16', 'fp32' or None, got 'int8'"):
        distill(teacher, data, tmp_path, cache="int8")


def test_a_run_that_finds_the_cache_is_bit_for_bit_the_one_that_filled_it(data, tmp_path):
    teacher = adakd.train_teacher("resnet8x0.5", data, out=tmp_path, **SMALL)
    first = distill(teacher, data, tmp_path)
    again = distill(teacher, data, tmp_path, fresh=True)
    assert first.history == again.history
    assert first.record["weights_sha256"] == again.record["weights_sha256"]


def test_a_finished_run_does_not_fill_a_cache(data, tmp_path):
    teacher = adakd.train_teacher("resnet8x0.5", data, out=tmp_path, **SMALL)
    distill(teacher, data, tmp_path)
    shutil.rmtree(tmp_path / "cache")
    distill(teacher, data, tmp_path)
    assert not (tmp_path / "cache").exists()


def test_filling_beforehand_leaves_nothing_to_ask(data, tmp_path):
    teacher = adakd.train_teacher("resnet8x0.5", data, out=tmp_path, **SMALL)
    cache = adakd.cache_teacher(teacher, data, seeds=(0, 1), out=tmp_path, train_images=40, **SMALL)
    filled = cache.filled
    for seed in (0, 1):
        distill(teacher, data, tmp_path, seed=seed)
    assert cache.filled == filled
    assert "ViewCache(resnet8x0.5, " in repr(cache)


def test_a_set_too_large_runs_live_and_says_so(data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("adakd.training.cache.LARGEST", 1000)
    teacher = adakd.train_teacher("resnet8x0.5", data, out=tmp_path, **SMALL)
    with caplog.at_level("INFO", logger="adakd"):
        run = distill(teacher, data, tmp_path)
    assert "the teacher stays live" in caplog.text
    assert "logits" not in run.record["teacher"]
    with pytest.raises(ValueError, match="too large for a cache"):
        adakd.cache_teacher(teacher, data, out=tmp_path, train_images=40, **SMALL)


def test_fewer_views_are_in_the_record_and_ask_the_teacher_less(data, tmp_path):
    teacher = adakd.train_teacher("resnet8x0.5", data, out=tmp_path, **SMALL)
    run = distill(teacher, data, tmp_path, views=2, epochs=12)
    assert run.record["config"]["recipe"]["views"] == 2
    (filled,) = (tmp_path / "cache").rglob("filled.u8")
    assert 40 < sum(filled.read_bytes()) <= 80
