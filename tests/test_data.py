"""The embedded gratings, the views, and CIFAR from archives that are right, altered, damaged or absent."""

import dataclasses
import errno
import os
import pickle
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from archives import publish, write_cifar
from hypothesis import given
from hypothesis import strategies as st

from adakd import DATASETS, DataError, load_data
from adakd._hash import hashed
from adakd.data import (
    ImageData,
    Split,
    Views,
    balanced_subset,
    cifar,
    data_root,
    epoch_order,
    eval_batches,
    ring_distance,
)
from adakd.data.gratings import load_gratings
from adakd.data.images import checksum_of

# ---- gratings ----------------------------------------------------------------------------------------------------


def test_gratings_are_the_same_on_every_machine():
    """Pinned: every record made on them, and every accuracy in the book, is about these pixels."""
    data = load_data("gratings")
    assert data.checksum == "017e1d1c954cf27e6f8448a9526b8f1d6ba0caaea10f10951e2fdc96c5e8d0e5"
    assert data.checksum == checksum_of(data.train, data.test) == load_data("gratings").checksum
    assert load_gratings(60, 40).checksum == "e93ee4b02b417938d678ce22b307b6552a5e88541ffce2067c0fb8a467a86b6e"


def test_gratings_are_bytes_in_equal_classes():
    data = load_data("gratings")
    for split, size in ((data.train, 4000), (data.test, 2000)):
        assert len(split) == size
        assert split.images.shape == (size, 16, 16, 3)
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        assert split.labels.bincount().tolist() == [size // 10] * 10
        assert (split.images == split.images[..., :1]).all(), "three equal channels"
    assert data.num_classes == 10
    assert data.classes[:2] == ("0°", "18°")
    assert not data.flip
    assert data.padding == 0


def test_gratings_of_ten_orientations_are_the_embedded_set():
    assert load_gratings(classes=10).checksum == load_data("gratings").checksum
    assert load_gratings(classes=10).name == "gratings"


@pytest.mark.parametrize("classes", [2, 4, 30, 100])
def test_gratings_of_another_number_of_orientations(classes):
    """Another name, so that nothing takes them for the embedded set, and the classes in turn."""
    data = load_gratings(3 * classes, 2 * classes, classes=classes)
    assert data.name == f"gratings-{classes}"
    assert len(set(data.classes)) == data.num_classes == classes
    assert data.classes[1] == f"{180 / classes:g}°"
    assert data.train.labels.bincount().tolist() == [3] * classes
    assert data.checksum != load_gratings(3 * classes, 2 * classes).checksum


def test_gratings_half_way_round_the_ring_are_perpendicular():
    """Turned by a quarter of a circle, an image of class k looks like one of class k + K/2: so do the mean spectra."""
    spectra = {}
    for k, axes in ((0, (0, 1)), (4, (1, 0))):
        split = load_gratings(4000, 8, classes=8).train
        pixels = split.images[split.labels == k, ..., 0].numpy().transpose(0, *(1 + a for a in axes))
        spectra[k] = (np.abs(np.fft.fft2(pixels - 127.5)) ** 2).mean(0)[:8, :8].ravel()
    assert np.corrcoef(spectra[0], spectra[4])[0, 1] > 0.95


def test_ring_distance_of_any_number_of_classes():
    first, other = torch.arange(7)[:, None], torch.arange(7)[None]
    apart = ring_distance(first, other, 7)
    assert apart[0].tolist() == [0, 1, 2, 3, 3, 2, 1]
    assert torch.equal(apart, apart.T)
    assert ring_distance(torch.tensor(0), torch.tensor(9)) == 1


def test_gratings_need_two_orientations():
    with pytest.raises(ValueError, match="classes: expected at least 2 orientations, got 1"):
        load_gratings(classes=1)


def test_gratings_test_images_are_not_training_images():
    data = load_data("gratings")
    train, test = ({image.numpy().tobytes() for image in split.images} for split in (data.train, data.test))
    assert len(train) == 4000
    assert len(test) == 2000
    assert not train & test


def test_gratings_are_normalized_by_what_they_are():
    data = load_data("gratings")
    pixels = torch.cat([images for images, _ in eval_batches(data)])
    assert pixels.mean().abs() < 0.01
    assert pixels.std().item() == pytest.approx(1.0, abs=0.01)


def test_gratings_have_the_orientation_of_their_class():
    """The energy of the spectrum, averaged over a class, peaks in the direction of the class."""
    split = load_data("gratings").train
    pixels = split.images[..., 0].numpy().astype(float) - 127.5
    y, x = np.meshgrid(np.fft.fftfreq(16), np.fft.fftfreq(16), indexing="ij")
    band = (np.hypot(x, y) > 1.5 / 16) & (np.hypot(x, y) < 3.5 / 16)
    energy = np.abs(np.fft.fft2(pixels)) ** 2
    for label in range(10):
        mean = energy[split.labels.numpy() == label].mean(0)
        # The axis of the energy: half the angle of the second circular moment, since a wave has no front.
        moment = (mean * band * np.exp(2j * np.arctan2(y, x))).sum()
        found = (np.angle(moment) / 2 / np.pi * 10) % 10
        assert min(abs(found - label), 10 - abs(found - label)) < 0.2


@given(st.integers(0, 9), st.integers(0, 9))
def test_ring_distance(a, b):
    expected = min((a - b) % 10, (b - a) % 10)
    assert ring_distance(torch.tensor(a), torch.tensor(b)) == expected


def test_describe_says_what_a_record_needs():
    assert load_gratings(60, 40).describe() == {
        "name": "gratings",
        "official": True,
        "sha256": load_gratings(60, 40).checksum,
        "train_images": 60,
        "test_images": 40,
        "classes": 10,
    }


def test_checksum_notices_a_pixel_and_a_label():
    data = load_gratings(20, 20)
    for field in ("images", "labels"):
        altered = getattr(data.train, field).clone()
        altered.flatten()[0] ^= 1
        assert checksum_of(dataclasses.replace(data.train, **{field: altered}), data.test) != data.checksum


# ---- image sets of one's own -------------------------------------------------------------------------------------


def pixels(*shape):
    return torch.zeros(shape, dtype=torch.uint8)


def own(**changes):
    """A set of two classes; `changes` replace what it is made of."""
    split = Split(pixels(4, 8, 8, 3), torch.arange(4) % 2)
    parts = {"name": "mine", "train": split, "test": split, "classes": ("cat", "dog"), "mean": (0.5,) * 3}
    return ImageData(**{**parts, "std": (0.25,) * 3, **changes})


def test_a_set_of_ones_own_needs_no_more_than_it_is():
    data = own()
    assert data.checksum == checksum_of(data.train, data.test)
    assert (data.padding, data.flip, data.official) == (0, False, True)
    assert own(checksum="c").checksum == "c"
    generous = own(mean=torch.full((3,), 0.5), std=np.full(3, 0.25, dtype=np.float32), classes=["cat", "dog"])
    assert (generous.mean, generous.std, generous.classes) == ((0.5,) * 3, (0.25,) * 3, ("cat", "dog"))
    assert all(type(value) is float for value in (*generous.mean, *generous.std))


LABELS = torch.arange(4) % 2


@pytest.mark.parametrize(
    ("images", "message", "mend"),
    [
        (torch.rand(4, 8, 8, 3), "uint8 of shape (N, H, W, C)", lambda x: (x * 255).round().to(torch.uint8)),
        (pixels(4, 8, 8, 3).int(), "images.to(torch.uint8)", lambda x: x.to(torch.uint8)),
        (
            pixels(4, 3, 8, 8),
            "looks like (N, C, H, W): images.permute(0, 2, 3, 1)",
            lambda x: x.permute(0, 2, 3, 1),
        ),
        (pixels(4, 8, 8), "gray", lambda x: x[..., None].expand(-1, -1, -1, 3)),
        (pixels(4, 8, 8, 1), "gray", lambda x: x.expand(-1, -1, -1, 3)),
        (pixels(4, 1, 8, 8), "gray", lambda x: x.permute(0, 2, 3, 1).expand(-1, -1, -1, 3)),
        (pixels(4, 8, 6, 3), "as high as wide", lambda x: x[:, 1:7]),
    ],
)
def test_images_in_another_layout_are_refused_with_the_way_to_convert_them(images, message, mend):
    with pytest.raises(ValueError, match=r"^images: expected uint8 of shape") as caught:
        Split(images, LABELS)
    assert message in str(caught.value)
    assert str(tuple(images.shape)) in str(caught.value)
    assert own(train=Split(mend(images), LABELS), test=Split(mend(images), LABELS)).num_classes == 2


def test_floats_with_channels_first_are_told_both_steps():
    """What torchvision's ToTensor makes."""
    with pytest.raises(ValueError, match=r"\(images \* 255\).*images\.permute\(0, 2, 3, 1\)"):
        Split(torch.rand(4, 3, 8, 8), LABELS)


@pytest.mark.parametrize("images", [pixels(0, 8, 8, 3), pixels(4, 8), pixels(4), pixels(2, 4, 8, 8, 3)])
def test_images_of_no_shape_at_all(images):
    with pytest.raises(ValueError, match=r"^images: expected uint8 of shape"):
        Split(images, LABELS[: len(images)])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS.int(), r"got torch.int32 of shape \(4,\); labels.long\(\)"),
        (LABELS.to(torch.uint8), "labels.long"),
        (LABELS.float(), "got torch.float32"),
        (LABELS.bool(), "got torch.bool"),
        (torch.eye(4)[:, :2], r"labels.argmax\(1\)"),
        (LABELS[:3], r"int64 of shape \(4,\), one for each image, got shape \(3,\)"),
        (LABELS[:, None], "got shape"),
        (torch.tensor([0, 1, -100, 0]), "got -100 at place 2; leave out images without a label"),
    ],
)
def test_labels_of_another_kind_are_refused(labels, message):
    with pytest.raises(ValueError, match=f"^labels: expected .*{message}"):
        Split(pixels(4, 8, 8, 3), labels)


def test_splits_are_tensors():
    with pytest.raises(TypeError, match=r"images: expected a tensor, got ndarray.*torch.as_tensor"):
        Split(np.zeros((4, 8, 8, 3), dtype=np.uint8), LABELS)
    with pytest.raises(TypeError, match="labels: expected a tensor, got list"):
        Split(pixels(4, 8, 8, 3), [0, 1, 0, 1])
    with pytest.raises(TypeError, match=r"test: expected an adakd.data.Split, got tuple"):
        own(test=(pixels(4, 8, 8, 3), LABELS))


NAMES_THAT_LEAD_ELSEWHERE = [
    "../../x",
    "..",
    ".",
    "",
    "a/b",
    "a\\b",
    "/abs",
    "x\n",
    "x\x00",
    "\x1b[2J",
    " ",
    ".hidden",
]


@pytest.mark.parametrize("name", [*NAMES_THAT_LEAD_ELSEWHERE, "NUL", "con.txt", "x" * 300, None, 3, b"x"])
def test_names_that_cannot_name_a_folder_are_refused(name):
    with pytest.raises(ValueError, match=r"^name: expected a name") as caught:
        own(name=name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": (0.5,)}, "mean: expected 3 finite numbers, one for each channel"),
        ({"mean": 0.5}, "mean: expected a tuple, got 0.5"),
        ({"mean": (0.5, 0.5, float("nan"))}, "mean: expected 3 finite numbers"),
        ({"std": (0.2, 0.2, float("inf"))}, "std: expected 3 finite numbers"),
        ({"std": ("0.2",) * 3}, "std: expected 3 finite numbers"),
        ({"std": (0.2, 0.0, 0.2)}, "std: expected numbers above 0"),
        ({"std": (0.2, -0.2, 0.2)}, "std: expected numbers above 0"),
        ({"classes": ("cat",)}, "classes: expected the names of at least 2 classes"),
        ({"classes": (0, 1)}, "classes: expected the names of at least 2 classes"),
        ({"classes": "ab"}, "classes: expected a tuple, got 'ab'"),
        (
            {"test": Split(pixels(2, 8, 8, 3), torch.tensor([0, 2]))},
            "test: expected labels from 0 to 1, .*got 2 at place 1",
        ),
        (
            {"test": Split(pixels(2, 9, 9, 3), torch.tensor([0, 1]))},
            "test: expected images .8, 8, 3. as in train",
        ),
        ({"padding": -1}, "padding: expected an integer of at least 0, got -1"),
        ({"padding": 1.5}, "padding: expected an integer"),
        ({"padding": True}, "padding: expected an integer"),
        ({"flip": 1}, "flip: expected True or False, got 1"),
        ({"official": "yes"}, "official: expected True or False, got 'yes'"),
    ],
)
def test_a_set_that_does_not_fit_together_is_refused(changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        own(**changes)


# ---- views -------------------------------------------------------------------------------------------------------


def noise_images(count=6, size=32, padding=4, flip=True, channels=3) -> ImageData:
    """Random pixels: no two crops of an image look alike."""
    random = np.random.RandomState(0)

    def split(n):
        images = random.randint(1, 256, (n, size, size, channels), dtype=np.uint8)
        return Split(torch.from_numpy(images), torch.arange(n) % 10)

    return ImageData(
        name="noise",
        train=split(count),
        test=split(5),
        classes=tuple("abcdefghij"),
        mean=(0.5071, 0.4867, 0.4408)[:channels],
        std=(0.2675, 0.2565, 0.2761)[:channels],
        padding=padding,
        flip=flip,
        official=True,
        checksum="",
    )


def crops_and_flips(image, padding, flip, mean, std):
    """What torchvision's Pad, crop, flip, ToTensor and Normalize give, in NumPy: {bytes: (C, H, W) floats}."""
    size = len(image)
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    views = {}
    for row in range(2 * padding + 1):
        for column in range(2 * padding + 1):
            crop = padded[row : row + size, column : column + size]
            for view in (crop, crop[:, ::-1]) if flip else (crop,):
                floats = (view.astype(np.float64) / 255 - mean) / std
                views[view.tobytes()] = floats.transpose(2, 0, 1)
    return views


def as_bytes(batch, data):
    """Normalized images back to the bytes they were made from."""
    mean, std = (torch.tensor(x).view(-1, 1, 1) for x in (data.mean, data.std))
    pixels = ((batch * std + mean) * 255).round().to(torch.uint8)
    return [image.permute(1, 2, 0).numpy().tobytes() for image in pixels]


@pytest.mark.parametrize(
    ("padding", "flip", "count"), [(4, True, 162), (4, False, 81), (1, True, 18), (0, False, 1)]
)
def test_render_gives_exactly_the_crops_and_flips(padding, flip, count):
    data = noise_images(padding=padding, flip=flip)
    views = Views(data, seed=0)
    assert views.count == count
    for position in range(3):
        expected = crops_and_flips(data.train.images[position].numpy(), padding, flip, data.mean, data.std)
        assert len(expected) == count
        rendered = views.render(torch.full((count,), position), torch.arange(count))
        assert rendered.shape == (count, 3, 32, 32)
        assert rendered.dtype == torch.float32
        keys = as_bytes(rendered, data)
        assert set(keys) == set(expected)
        for key, image in zip(keys, rendered.numpy(), strict=True):
            np.testing.assert_allclose(image, expected[key], rtol=0, atol=2e-6)


def test_render_is_ready_for_channels_last():
    views = Views(noise_images(), seed=0)
    assert views.render(torch.arange(6), torch.arange(6)).is_contiguous(memory_format=torch.channels_last)


def test_all_162_views_are_equally_likely():
    """Chi-square over 200 000 choices, 161 degrees of freedom: mean 161, standard deviation 18."""
    data = noise_images(count=10, size=4)
    views = Views(data, seed=7, subset=torch.zeros(20_000, dtype=torch.int64))
    views.index = torch.arange(20_000)  # only the choice is looked at, no image
    counts = sum(
        views.choose(epoch, torch.arange(20_000)).bincount(minlength=162).double() for epoch in range(1, 11)
    )
    expected = 200_000 / 162
    assert len(counts) == 162
    assert 100 < ((counts - expected).square() / expected).sum().item() < 250


@pytest.mark.parametrize("apart", ["epochs", "images", "seeds"])
def test_views_of_neighbours_are_independent(apart):
    """Chi-square of the 9 x 9 table of (crop row here, crop row next): 80 degrees of freedom."""
    index = torch.arange(100_000)
    here = hashed(1, 3, 1, index)
    there = {
        "epochs": hashed(1, 3, 2, index),
        "images": hashed(1, 3, 1, index + 1),
        "seeds": hashed(1, 4, 1, index),
    }[apart]
    rows = [(h * 9) >> 32 for h in (here, there)]
    counts = (rows[0] * 9 + rows[1]).bincount(minlength=81).double()
    expected = len(index) / 81
    assert 35 < ((counts - expected).square() / expected).sum().item() < 150


@given(
    st.integers(0, 3),
    st.integers(0, 2**63 - 1),
    st.integers(0, 1000),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=5),
)
def test_hash_is_a_pure_function_with_32_bits(stream, seed, epoch, index):
    values = hashed(stream, seed, epoch, torch.tensor(index))
    assert ((values >= 0) & (values < 2**32)).all()
    for i, value in zip(index, values, strict=True):
        assert hashed(stream, seed, epoch, torch.tensor([i])) == value


def test_hash_is_murmurs_finalizer():
    """The same in Python's own integers, which cannot overflow."""

    def mix(x):
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            x = ((x ^ (x >> shift)) * factor) % 2**32
        return x ^ (x >> 16)

    for stream, seed, epoch, index in ((1, 0, 1, 0), (2, 2**40 + 5, 240, 49_999), (3, 12345, 7, 2**20)):
        x = stream
        for part in (seed % 2**32, seed >> 32, epoch, index):
            x = mix((x + part + 0x9E3779B9) % 2**32)
        assert hashed(stream, seed, epoch, torch.tensor([index])).item() == x


def test_views_are_a_function_of_seed_epoch_and_image():
    data = noise_images()
    positions = torch.arange(6)
    first = [Views(data, seed=1).choose(epoch, positions).tolist() for epoch in range(1, 9)]
    torch.manual_seed(123)
    assert [Views(data, seed=1).choose(epoch, positions).tolist() for epoch in range(1, 9)] == first
    assert [Views(data, seed=2).choose(epoch, positions).tolist() for epoch in range(1, 9)] != first
    assert len({tuple(views) for views in first}) == 8
    backwards = Views(data, seed=1).choose(3, positions.flip(0)).flip(0)
    assert backwards.tolist() == first[2]


def test_an_image_has_the_same_views_in_every_subset():
    data = noise_images()
    whole, part = Views(data, seed=1), Views(data, seed=1, subset=torch.tensor([4, 1]))
    assert len(part) == 2
    for epoch in (1, 2):
        chosen = whole.choose(epoch, torch.tensor([4, 1]))
        assert torch.equal(part.choose(epoch, torch.arange(2)), chosen)
        assert torch.equal(part.render(torch.arange(2), chosen), whole.render(torch.tensor([4, 1]), chosen))
    assert part.labels.tolist() == [4, 1]


@given(st.integers(0, 2**32), st.integers(1, 300), st.integers(1, 200))
def test_epoch_order_is_a_permutation(seed, epoch, size):
    order = epoch_order(seed, epoch, size)
    assert order.sort().values.tolist() == list(range(size))
    assert torch.equal(order, epoch_order(seed, epoch, size))


def test_epoch_orders_differ_between_epochs_and_seeds_and_show_each_place_equally_often():
    orders = torch.stack([epoch_order(seed, epoch, 50) for seed in range(20) for epoch in range(1, 51)])
    assert len({tuple(order) for order in orders.tolist()}) == 1000
    counts = torch.stack([(orders == image).sum(0) for image in range(50)]).double()  # (image, place)
    assert 49**2 * 0.85 < ((counts - 20).square() / 20).sum() < 49**2 * 1.15


def epoch_of(views, batch_size, start=0):
    batches = list(views.batches(epoch=3, batch_size=batch_size, start=start))
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    return [len(batch[1]) for batch in batches], images, labels


def test_an_epoch_is_the_same_at_every_batch_size():
    views = Views(noise_images(count=10), seed=5)
    sizes, images, labels = epoch_of(views, 4)
    assert sizes == [4, 4, 2], "the last, smaller batch is kept"
    for batch_size in (1, 3, 10, 64):
        _, other_images, other_labels = epoch_of(views, batch_size)
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)
    assert sorted(labels.tolist()) == sorted(views.labels.tolist())


def test_an_epoch_can_be_entered_at_any_batch():
    views = Views(noise_images(count=10), seed=5)
    _, images, labels = epoch_of(views, 3)
    for start in range(4):
        _, later_images, later_labels = epoch_of(views, 3, start)
        assert torch.equal(later_images, images[3 * start :])
        assert torch.equal(later_labels, labels[3 * start :])
    assert list(views.batches(3, 3, start=4)) == []


def test_batches_show_the_images_they_name():
    data = noise_images(count=10)
    views = Views(data, seed=5)
    order = epoch_order(5, 3, 10)
    _, images, labels = epoch_of(views, 4)
    assert labels.tolist() == data.train.labels[order].tolist()
    for position, key in zip(order.tolist(), as_bytes(images, data), strict=True):
        image = data.train.images[position].numpy()
        assert key in crops_and_flips(image, 4, True, data.mean, data.std)


@given(st.integers(0, 1000), st.integers(1, 97), st.integers(1, 97), st.integers(2, 9))
def test_subsets_are_balanced_and_nested(seed, small, large, classes):
    labels = torch.arange(100).flip(0) % classes
    small, large = sorted((small, large))
    subsets = [balanced_subset(labels, size, seed) for size in (small, large)]
    for subset, size in zip(subsets, (small, large), strict=True):
        assert len(set(subset.tolist())) == size
        counts = labels[subset].bincount(minlength=classes)
        assert counts.max() - counts.min() <= 1
    assert set(subsets[0].tolist()) <= set(subsets[1].tolist())


def test_subsets_are_chosen_by_the_seed_among_all_images():
    labels = torch.arange(1000) % 10
    chosen = [balanced_subset(labels, 100, seed) for seed in range(60)]
    assert len({tuple(subset.tolist()) for subset in chosen}) == 60
    assert len(torch.cat(chosen).unique()) > 990


def test_subset_of_all_and_of_too_many():
    labels = torch.arange(20) % 4
    assert balanced_subset(labels, None, 0).tolist() == list(range(20))
    assert balanced_subset(labels, 20, 0).tolist() == list(range(20))
    for size in (0, -1, 21):
        with pytest.raises(ValueError, match=f"expected 1 to 20 .* got {size}"):
            balanced_subset(labels, size, 0)


def test_test_images_are_shown_whole_and_in_order():
    data = noise_images()
    batches = list(eval_batches(data, batch_size=2))
    assert [len(labels) for _, labels in batches] == [2, 2, 1]
    images = torch.cat([images for images, _ in batches])
    assert as_bytes(images, data) == [image.numpy().tobytes() for image in data.test.images]


# ---- CIFAR -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def offline(request, monkeypatch):
    """No test of this file reaches for the network."""
    monkeypatch.delenv("ADAKD_DATA", raising=False)

    def refuse(*_, **__):
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def files_under(root):
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_an_unofficial_archive_is_read_when_it_is_asked_for(name, tmp_path):
    _, contents = write_cifar(tmp_path, name)
    data = load_data(name, tmp_path, official=False)
    assert not data.official
    assert data.describe()["official"] is False
    assert data.num_classes == (10 if name == "cifar10" else 100)
    assert data.classes[3] == f"{name}-3"
    assert (data.padding, data.flip) == (4, True)
    assert len(data.train) == (50 if name == "cifar10" else 100)
    assert len(data.test) == data.num_classes
    # Rows hold all reds, then all greens, then all blues.
    first = contents["data_batch_1" if name == "cifar10" else "train"]["data"][0]
    assert (data.train.images[0].numpy() == first.reshape(3, 32, 32).transpose(1, 2, 0)).all()
    assert data.train.labels[:10].tolist() == list(range(10))
    assert data.train.images.dtype == torch.uint8


def test_checksum_of_an_unofficial_archive_is_of_what_was_read(tmp_path):
    write_cifar(tmp_path / "one", "cifar10")
    write_cifar(tmp_path / "two", "cifar10", altered=lambda c: c["data_batch_5"]["data"].__setitem__((0, 0), 1))
    one, two = (load_data("cifar10", tmp_path / part, official=False) for part in ("one", "two"))
    assert one.checksum == load_data("cifar10", tmp_path / "one", official=False).checksum
    assert one.checksum != two.checksum


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_an_unofficial_archive_is_refused_by_default(name, tmp_path):
    folder, _ = write_cifar(tmp_path, name)
    before = files_under(tmp_path)
    with pytest.raises(DataError, match="do not match the official checksums") as caught:
        load_data(name, tmp_path)
    for hint in (str(folder), "official=False", "--unofficial-archive", "delete"):
        assert hint in str(caught.value)
    assert files_under(tmp_path) == before


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_refused_archive_is_never_unpickled(tmp_path):
    folder, _ = write_cifar(tmp_path, "cifar100")
    trace = tmp_path / "was-here"
    (folder / "train").write_bytes(pickle.dumps(Payload(trace)))
    with pytest.raises(DataError, match="train"):
        load_data("cifar100", tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("official", [True, False])
def test_a_missing_file_is_named(name, official, tmp_path):
    folder, contents = write_cifar(tmp_path, name)
    victim = list(contents)[-2]
    (folder / victim).unlink()
    before = files_under(tmp_path)
    with pytest.raises(DataError) as caught:
        load_data(name, tmp_path, official=official, download=False)
    if not official:
        assert f"missing there: {victim}" in str(caught.value)
    assert str(folder) in str(caught.value)
    assert files_under(tmp_path) == before


@pytest.mark.parametrize("part", ["train", "test", "meta"])
def test_an_archive_truncated_anywhere_is_an_error_that_says_so(part, tmp_path):
    folder, _ = write_cifar(tmp_path, "cifar100")
    whole = (folder / part).read_bytes()
    for length in {0, 1, 2, len(whole) - 1, *np.linspace(3, len(whole) - 2, 25).astype(int).tolist()}:
        (folder / part).write_bytes(whole[:length])
        with pytest.raises(DataError, match=rf"{part} is truncated or not of that layout: .*Delete the folder"):
            load_data("cifar100", tmp_path, official=False)
        assert (folder / part).stat().st_size == length


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["train"]["fine_labels"].__setitem__(0, 100), "expected labels from 0 to 99"),
        (lambda c: c["test"]["fine_labels"].__setitem__(0, -1), "expected labels from 0 to 99"),
        (lambda c: c["train"]["fine_labels"].pop(), "100 images but 99 labels"),
        (
            lambda c: c["train"].update(data=c["train"]["data"][:, :3000]),
            r"uint8 of shape \(N, 3072\), got .*3000",
        ),
        (
            lambda c: c["train"].update(data=c["train"]["data"] / 255),
            r"uint8 of shape .*, got float64 of shape",
        ),
        (
            lambda c: c["train"].update(data=c["train"]["data"].astype("i8")),
            "uint8 of shape .*, got int64 of shape",
        ),
        (lambda c: c["train"].update(data=c["train"]["data"].tolist()), "uint8 of shape .*, got a list"),
        (lambda c: c["train"].update(data=c["train"]["data"][:0], fine_labels=[]), "at least one image"),
        (lambda c: c["train"].pop("fine_labels"), "field 'fine_labels' is missing; there: 'data'"),
        (lambda c: c["train"]["fine_labels"].__setitem__(7, True), "expected integers, got True at place 7"),
        (lambda c: c["train"]["fine_labels"].__setitem__(7, 3.0), "expected integers, got 3.0 at place 7"),
        (lambda c: c["train"]["fine_labels"].__setitem__(7, "3"), "expected integers, got '3' at place 7"),
        (lambda c: c["train"]["fine_labels"].__setitem__(7, 10**400), "got a number of more than 15 digits at"),
        (lambda c: c["train"].update(fine_labels=np.arange(100.0)), "expected integers, got float64"),
        (lambda c: c["train"].update(fine_labels=np.arange(100) > 5), "expected integers, got bool"),
        (lambda c: c["train"].update(fine_labels="labels"), "expected a list of integers, got 'labels'"),
        (lambda c: c["meta"].pop("fine_label_names"), "field 'fine_label_names' is missing; there: nothing"),
        (lambda c: c["meta"]["fine_label_names"].pop(), "expected 100 class names, got 99"),
        (lambda c: c["meta"]["fine_label_names"].__setitem__(2, 2), "expected texts, got 2"),
        (lambda c: c["meta"]["fine_label_names"].__setitem__(2, " "), "expected texts, got ' '"),
        (lambda c: c["meta"]["fine_label_names"].__setitem__(2, "\x1b[2J"), r"expected texts, got '\\x1b"),
        (lambda c: c["meta"]["fine_label_names"].__setitem__(2, "cifar100-1"), "100 different names"),
        (lambda c: c["meta"].update(fine_label_names="apple"), "expected a list of texts, got 'apple'"),
        (lambda c: c.update(train=[1, 2, 3]), "expected a dict, got a list"),
    ],
)
def test_an_archive_of_something_else(change, message, tmp_path):
    write_cifar(tmp_path, "cifar100", altered=change)
    with pytest.raises(DataError, match=message):
        load_data("cifar100", tmp_path, official=False)


def test_cifar10_in_the_place_of_cifar100(tmp_path):
    """Ten labels fit into a hundred; the names do not."""
    write_cifar(
        tmp_path,
        "cifar100",
        altered=lambda c: c["meta"].update(fine_label_names=[f"cifar10-{k}" for k in range(10)]),
    )
    with pytest.raises(DataError, match="expected 100 class names, got 10"):
        load_data("cifar100", tmp_path, official=False)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_offline_and_nothing_there(name, tmp_path):
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        load_data(name, tmp_path / "data")
    message = str(caught.value)
    archive = cifar._SETS[name].archive
    for hint in (archive.name, archive.sha256, str(tmp_path / "data"), "ADAKD_DATA", "gratings", "URLError"):
        assert hint in message


def test_no_download_was_wanted(tmp_path):
    with pytest.raises(DataError, match=f"cifar10 is not in {tmp_path} and download=False"):
        load_data("cifar10", tmp_path, download=False)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def published(tmp_path, monkeypatch):
    """CIFAR-10 as if the small archive were the one its authors publish."""
    folder, _ = write_cifar(tmp_path / "made", "cifar10")
    return publish(monkeypatch, "cifar10", folder)


def names_under(root):
    """What lies there, but for the lock."""
    return sorted(path.name for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")


CIFAR10_FILES = sorted(["cifar-10-python.tar.gz", *cifar._SETS["cifar10"].archive.files])


def test_download_verify_read_and_read_again_offline(published, tmp_path, monkeypatch):
    root = tmp_path / "cache" / "deep"
    data = load_data("cifar10", root)
    assert data.official
    assert len(data.train) == 50
    assert data.checksum == load_data("cifar10", tmp_path / "made", official=False).checksum
    assert names_under(root) == CIFAR10_FILES
    published.online = False
    assert load_data("cifar10", root).checksum == data.checksum
    monkeypatch.setenv("ADAKD_DATA", str(root))
    assert load_data("cifar10").checksum == data.checksum
    assert len(published.requests) == 1
    assert published.requests[0].full_url == "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"


def test_an_archive_put_there_by_hand_is_unpacked_offline(published, tmp_path):
    published.online = False
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "cifar-10-python.tar.gz").write_bytes(published.content)
    assert load_data("cifar10", tmp_path / "cache").official


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-100], lambda c: c + b"x", lambda c: b"\x1f\x8b" + bytes(1000)]
)
def test_a_damaged_archive_put_there_by_hand_is_named_and_left_alone(published, damage, tmp_path):
    archive = tmp_path / "cache" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(damage(published.content))
    with pytest.raises(DataError, match=r"incomplete or damaged cifar-10-python.tar.gz is in .*delete it"):
        load_data("cifar10", archive.parent)
    assert archive.read_bytes() == damage(published.content)
    assert published.requests == []
    assert names_under(archive.parent) == [archive.name]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_ended(published, ranges, tmp_path):
    """Also from a server that sends everything again."""
    published.ranges, published.cut = ranges, 20_000
    with pytest.raises(DataError, match=r"it ended after 20000 of .* bytes, which are kept in"):
        load_data("cifar10", tmp_path / "cache")
    assert names_under(tmp_path / "cache") == ["cifar-10-python.tar.gz.part"]
    published.cut = None
    assert load_data("cifar10", tmp_path / "cache").official
    assert published.requests[1].get_header("Range") == "bytes=20000-"
    assert names_under(tmp_path / "cache") == CIFAR10_FILES


@pytest.mark.parametrize("more", [b"", b"x" * 3_000_000])
def test_a_server_that_sends_something_else_is_not_believed(published, more, tmp_path):
    """Nor does it fill the disk: what is longer than the archive ends there, and nothing of it stays."""
    published.content = published.content[:-1] + b"?" + more
    for _ in range(2):
        with pytest.raises(DataError, match="what came is not the published archive"):
            load_data("cifar10", tmp_path / "cache")
        assert names_under(tmp_path / "cache") == []


def test_a_part_that_is_not_of_the_archive_is_thrown_away(published, tmp_path):
    part = tmp_path / "cache" / "cifar-10-python.tar.gz.part"
    part.parent.mkdir()
    part.write_bytes(b"?" * 10_000)
    with pytest.raises(DataError, match="not the published archive"):
        load_data("cifar10", part.parent)
    assert load_data("cifar10", part.parent).official


def test_a_whole_part_needs_no_network(published, tmp_path):
    """As a process leaves it that is killed between the last byte and the new name."""
    part = tmp_path / "cache" / "cifar-10-python.tar.gz.part"
    part.parent.mkdir()
    part.write_bytes(published.content)
    published.online = False
    assert load_data("cifar10", part.parent).official
    assert names_under(part.parent) == CIFAR10_FILES


def test_a_full_disk_is_no_missing_network(published, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    with monkeypatch.context() as patch:
        patch.setattr("adakd.data._fetch.os.replace", full)
        with pytest.raises(
            DataError, match=r"python.tar.gz cannot be read or written: No space left.*make room"
        ):
            load_data("cifar10", tmp_path / "cache")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file cannot be read or written: .*name another folder"):
        load_data("cifar10", tmp_path / "file")


def test_processes_that_want_it_at_once_download_it_once(published, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        sets = list(pool.map(lambda _: load_data("cifar10", tmp_path / "cache"), range(4)))
    assert len({data.checksum for data in sets}) == 1
    assert len(published.requests) == 1


def test_a_real_server_and_a_real_proxy_variable(tmp_path, monkeypatch):
    """Through urllib as it is: a server on this machine, of which a part is asked for, and a proxy that is not there."""
    folder, _ = write_cifar(tmp_path / "made", "cifar10")
    real = urllib.request.OpenerDirector.open
    content = publish(monkeypatch, "cifar10", folder).content
    monkeypatch.setattr(
        urllib.request,
        "urlopen",
        lambda request, timeout: real(urllib.request.build_opener(), request, timeout=timeout),
    )
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers["Range"])
            start = int((asked[-1] or "bytes=0-")[6:-1])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : None if start else 30_000])

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        of = cifar._SETS["cifar10"]
        url = f"http://127.0.0.1:{port}/{of.archive.name}"
        archive = dataclasses.replace(of.archive, url=url)
        monkeypatch.setitem(cifar._SETS, "cifar10", dataclasses.replace(of, archive=archive))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(DataError, match="could not be downloaded"):
            load_data("cifar10", tmp_path / "cache")
        assert load_data("cifar10", tmp_path / "cache").official
        server.shutdown()
    assert asked == [None, "bytes=30000-"]
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")  # where nobody listens any more
    with pytest.raises(DataError, match=r"could not be downloaded .*refused"):
        load_data("cifar10", tmp_path / "elsewhere")


def test_what_a_killed_process_left_is_cleared(published, tmp_path):
    scratch = tmp_path / "cache" / ".cifar-10-batches-py.unpacking"
    scratch.mkdir(parents=True)
    (scratch / "data_batch_1").write_bytes(b"half")
    assert load_data("cifar10", scratch.parent).official
    assert names_under(scratch.parent) == CIFAR10_FILES


def test_a_file_damaged_after_the_download_is_noticed(published, tmp_path):
    load_data("cifar10", tmp_path / "cache")
    victim = tmp_path / "cache" / "cifar-10-batches-py" / "data_batch_3"
    content = bytearray(victim.read_bytes())
    content[500] ^= 1
    victim.write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_3 in .* do not match the official checksums"):
        load_data("cifar10", tmp_path / "cache")


def test_a_file_lost_after_the_download_comes_back(published, tmp_path):
    checksum = load_data("cifar10", tmp_path / "cache").checksum
    published.online = False
    (tmp_path / "cache" / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(DataError, match="download=False: missing there: test_batch"):
        load_data("cifar10", tmp_path / "cache", download=False)
    assert load_data("cifar10", tmp_path / "cache").checksum == checksum


def test_where_data_lie(monkeypatch, tmp_path):
    assert data_root() == Path.home() / ".cache" / "adakd"
    monkeypatch.setenv("ADAKD_DATA", str(tmp_path))
    assert data_root() == tmp_path
    assert data_root("~/elsewhere") == Path.home() / "elsewhere"


def test_unknown_sets_are_answered_with_near_names():
    for name in ("cifar-100", "CIFAR100", "cifar1000"):
        with pytest.raises(ValueError, match=r"unknown data set .*Did you mean 'cifar100'"):
            load_data(name)
    assert set(DATASETS) == {"cifar10", "cifar100", "gratings", "sentences", "pydoc"}


REAL = os.environ.get("ADAKD_DATA")


def real(name):
    try:
        return load_data(name, REAL, download=False)
    except DataError:
        return load_data(name, REAL, official=False)


@pytest.mark.skipif(not REAL, reason="ADAKD_DATA names no folder with CIFAR")
@pytest.mark.parametrize(
    ("name", "first", "last"), [("cifar10", "airplane", "truck"), ("cifar100", "apple", "worm")]
)
def test_real_cifar(name, first, last):
    if not (Path(REAL) / cifar._SETS[name].archive.folder).is_dir():
        pytest.skip(f"{name} is not there")
    data = real(name)
    classes = data.num_classes
    for split, size in ((data.train, 50_000), (data.test, 10_000)):
        assert split.images.shape == (size, 32, 32, 3)
        assert split.images.dtype == torch.uint8
        assert split.labels.bincount().tolist() == [size // classes] * classes
    assert (data.classes[0], data.classes[-1]) == (first, last)
    pixels = data.train.images.double() / 255
    # What is normalized with are the literature's figures: the means, and deviations to within 1 %.
    assert pixels.mean((0, 1, 2)).tolist() == pytest.approx(data.mean, abs=5e-4)
    assert pixels.std((0, 1, 2)).tolist() == pytest.approx(data.std, rel=0.01)
