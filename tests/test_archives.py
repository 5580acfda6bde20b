"""Archives made to do harm, or damaged at random: nothing of them is run, and nothing wrong is believed."""

import io
import os
import pickle
import random
import struct
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from archives import pack, publish, write_cifar

from adakd import DataError, load_data
from adakd.data._pickle import PickledArray, read_pickle, shown

FORMATS = [0, 1, 2, 3, 4, 5]
ARRAYS = [
    np.arange(12, dtype=np.uint8).reshape(3, 4),
    np.asfortranarray(np.arange(12, dtype=np.int64).reshape(3, 4)),
    np.arange(5, dtype=">i4"),
    np.zeros((0, 3072), dtype=np.uint8),
    np.linspace(0, 1, 7, dtype=np.float32),
    np.array([True, False]),
]


# ---- what pickle reads, this reads alike -------------------------------------------------------------------------


def plain(value):
    """Arrays in the place of their descriptions."""
    if isinstance(value, PickledArray):
        return value.array()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("protocol", FORMATS)
def test_plain_data_are_read_as_pickle_reads_them(protocol):
    shared = ["airplane", "ä", 7]
    value = {
        **{"none": None, "yes": True, "no": False, "small": 3, "byte": 200, "short": -70_000, "long": 2**70},
        **{
            "float": 0.1,
            "text": "τ = 4",
            "list": [1, [2, []], shared, shared],
            "tuple": (1, (2,), (), (1, 2, 3, 4)),
        },
        **{"dict": {"a": {}, "b": shared}, "minus": -1, "large": [*range(3000)]},
    }
    read = read_pickle(pickle.dumps(value, protocol=protocol))
    assert read == value
    assert read["list"][2] is read["dict"]["b"], "what was one object stays one"


@pytest.mark.parametrize("protocol", FORMATS)
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_are_read_as_pickle_reads_them(array, protocol):
    content = pickle.dumps({"data": array, "bytes": bytes(range(256))}, protocol=protocol)
    if protocol == 0 and b"_reconstruct" in content:
        content = pickle.dumps({"data": array, "bytes": b""}, protocol=0)
    read, expected = read_pickle(content)["data"].array(), pickle.loads(content)["data"]
    assert read.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")  # NumPy turns some bytes round
    np.testing.assert_array_equal(read, expected)


def test_an_archive_that_python_2_wrote():
    """The published ones: texts are bytes there, and so is what an array holds."""
    pixels = bytes(range(256)) * 12
    content = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b"
        b"\x87Rq\x05(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", len(pixels)) + pixels + b"tb"
        b"U\x06labelsq\x08]q\t(K\x05I7\nL3L\neu."
    )
    read = read_pickle(content)
    assert read["data"].array().tobytes() == pixels
    assert read["data"].array().shape == (1, 3072)
    assert read["labels"] == [5, 7, 3]
    np.testing.assert_array_equal(read["data"].array(), pickle.loads(content, encoding="latin1")["data"])


# ---- hostile pickles ---------------------------------------------------------------------------------------------


class Calls:
    """Unpickled, it calls."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Plain:
    pass


def array_of(shape, code=b"u1", raw=b"", order=b"|"):
    """A pickled array that declares what it likes."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + pickle.dumps(shape, protocol=2)[2:-1]
        + b"cnumpy\ndtype\nU"
        + bytes([len(code)])
        + code
        + b"K\x00K\x01\x87R(K\x03U\x01"
        + order
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", len(raw))
        + raw
        + b"tb."
    )


# Each tuple holds the one before three times: few bytes, and a hash that takes 3^200 steps.
LAUGHS = b"\x80\x02)" + b"".join(b"q%ch%ch%c\x87" % (k, k, k) for k in range(200))
COPY = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"  # of the text before it
# One text or bytearray of 10 000 bytes as the content of many arrays.
SHARED_TEXT = b"\x80\x05(X\x10\x27\x00\x00" + b"x" * 10_000 + b"q\x00"
SHARED_BYTES = b"\x80\x05(\x96\x10\x27" + bytes(6) + b"x" * 10_000 + b"q\x00"
TYPE = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
BUFFER = b"cnumpy.core.numeric\n_frombuffer\n(h\x00" + TYPE + b"M\x10\x27\x85U\x01CtR"
STATE = (
    b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01M\x10\x27\x85"
    + TYPE
    + b"\x89h\x00tb"
)
HOSTILE = {
    "system": (pickle.dumps(Calls(os.system, "touch was-here")), "system"),
    "open": (pickle.dumps(Calls(open, "was-here", "w")), "open"),
    "eval": (pickle.dumps(Calls(eval, "open('was-here', 'w')"), protocol=0), "eval"),
    "exit": (pickle.dumps(Calls(SystemExit, 3)), "SystemExit"),
    "interrupt": (pickle.dumps(Calls(KeyboardInterrupt)), "KeyboardInterrupt"),
    "getattr": (pickle.dumps(Calls(getattr, [], "append")), "getattr"),
    "class": (pickle.dumps(Plain()), "Plain"),
    "dotted": (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", r"numpy\.ndarray\.tofile"),
    "load": (b"\x80\x04\x8c\x05numpy\x8c\x04load\x93\x8c\x01x\x85R.", r"numpy\.load"),
    "ndarray called": (b"\x80\x02cnumpy\nndarray\nK\x09\x85R.", "calls"),
    "ndarray made": (b"\x80\x02cnumpy\nndarray\nK\x09\x85\x81.", "NEWOBJ"),
    "array of a subclass": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85U\x01b\x87R.",
        "kind",
    ),
    "numpy scalar": (pickle.dumps(np.int64(3)), r"multiarray\.scalar"),
    "set": (pickle.dumps({1, 2}, protocol=4), "EMPTY_SET"),
    "instance": (b"(ios\nsystem\n.", "INST"),
    "persistent": (b"Pthing\n.", "PERSID"),
    "extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "out of band": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "encoding": (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00base64\x86R.", "encodes"),
    "bytes of a size": (b"\x80\x02c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R.", "calls"),
    "state of a list": (b"\x80\x02]}b.", "sets the state of a list"),
    "state of a name": (b"\x80\x02cnumpy\nndarray\n}b.", "sets the state"),
    "objects": (array_of((1,), b"O8", bytes(8)), "'O8', which is not of numbers"),
    "structure": (array_of((1,), b"V8", bytes(8)), "not of numbers"),
    "declared array": (array_of((2**40,)), "holds 0 bytes"),
    "declared shape": (array_of((2**62, 2**62)), "more than 15 digits"),
    "negative shape": (array_of((-1, -1), raw=b"x"), "without a shape"),
    "float shape": (array_of((1.0,), raw=b"x"), "without a shape"),
    "list as a shape": (array_of([1], raw=b"x"), "without a shape"),
    "byte order": (array_of((1,), b"i4", bytes(4), b"?"), "byte order"),
    "wrong length": (array_of((2, 2), raw=b"xyz"), "holds 3 bytes"),
    "declared bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.", "expected 1099511627776 bytes"),
    "declared buffer": (b"\x80\x05\x96" + struct.pack("<Q", 2**50) + b"abc.", "expected"),
    "declared text": (b"\x80\x02X\xff\xff\xff\x7fabc.", "expected 2147483647 bytes"),
    "declared number": (b"\x80\x02\x8b\xff\xff\xff\x7fabc.", "not enough data"),
    "memo": (b"\x80\x02]r\xff\xff\xff\xff" + b"h\x01.", "KeyError"),
    "digits": (b"L" + b"9" * 100_000 + b"L\n.", "digits"),
    "nested": (b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".", None),
    "nested tuples": (b"\x80\x02)" + b"\x85" * 20_000 + b".", None),
    "laughs as a value": (LAUGHS + b".", None),
    "laughs as a key": (b"\x80\x02}" + LAUGHS[2:] + b"Ns.", "a tuple as a key"),
    "nested key": (b"\x80\x02})" + b"\x85" * 20_000 + b"Ns.", "a tuple as a key"),
    "list as a key": (b"\x80\x02}]Ns.", "a list as a key"),
    "itself": (b"\x80\x02]q\x00h\x00a.", None),
    "copies": (
        b"\x80\x02(X\x10\x27\x00\x00" + b"x" * 10_000 + b"q\x00" + 90 * COPY + b"l.",
        "more out of its bytes",
    ),
    **{
        f"copies of a {kind} by {way}": (shared + 90 * array + b"l.", "more out of its bytes")
        for kind, shared in (("text", SHARED_TEXT), ("bytearray", SHARED_BYTES))
        for way, array in (("buffer", BUFFER), ("state", STATE))
    },
    "no operands": (b"\x80\x02R.", "IndexError"),
    "no mark": (b"\x80\x02t.", "IndexError"),
    "odd items": (b"\x80\x02}(U\x01au.", "shorter"),
    "append to a dict": (b"\x80\x02}Na.", "TypeError"),
    "items of a list": (b"\x80\x02]U\x01aNs.", "TypeError"),
    "more after its end": (b"\x80\x02N.N.", "after its end"),
    "two values": (b"\x80\x02NN.", "after its end"),
    "no end": (b"\x80\x02N", "STOP|end"),
    "nothing": (b"", "exhausted"),
    "text": (b"<!DOCTYPE html><html>moved</html>", "opcode"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_runs_nothing_and_costs_little(name, tmp_path, monkeypatch):
    """It is refused in one line that says why, or is harmless data, of which CIFAR has no use."""
    content, reason = HOSTILE[name]
    folder, _ = write_cifar(tmp_path, "cifar100")
    monkeypatch.chdir(tmp_path)
    for victim in ("train", "meta"):
        good = (folder / victim).read_bytes()
        (folder / victim).write_bytes(content)
        before = sorted(tmp_path.rglob("*"))
        tracemalloc.start()
        try:
            with pytest.raises(
                DataError, match=rf"{victim} is truncated or not of that layout: .*{reason or ''}"
            ) as caught:
                load_data("cifar100", tmp_path, official=False)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 5_000_000 + 40 * len(content)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000
        assert sorted(tmp_path.rglob("*")) == before
        (folder / victim).write_bytes(good)


def test_a_pickle_of_too_many_operations_ends(monkeypatch):
    monkeypatch.setattr("adakd.data._pickle._OPERATIONS", 1000)
    assert len(read_pickle(b"\x80\x02(" + b"N" * 990 + b"l.")) == 990
    with pytest.raises(ValueError, match="more than 1000 operations"):
        read_pickle(b"\x80\x02(" + b"N" * 1000 + b"l.")


def test_values_of_a_file_are_shown_short_and_harmless():
    assert shown("\x1b[2J\n") == r"'\x1b[2J\n'"
    assert len(shown("x" * 10**6)) < 80
    assert shown(10**5000) == "a number of more than 15 digits"
    assert shown([[]]) == "a list"


# ---- damage at random --------------------------------------------------------------------------------------------


def small_cifar(root):
    """CIFAR-100's layout with as few bytes as it can have: an image a file."""

    def shrink(contents):
        for part in ("train", "test"):
            contents[part] = {"data": contents[part]["data"][:1], "fine_labels": [7]}

    return write_cifar(root, "cifar100", altered=shrink)[0]


def mutations(random, content, count):
    """Bit flips, cuts, and pieces of the file written over or between others, wrong types among them."""
    pieces = [
        b"N",
        b"\x88",
        b"G" + struct.pack(">d", 0.5),
        b"]",
        b"}",
        b")",
        b"(",
        b"t",
        b"l",
        b"R",
        b"b",
        b"0",
        b"K\xff",
    ]
    pieces += [
        b"cos\nsystem\n",
        b"\x81",
        b"\x93",
        b"h\x00",
        b"r\xff\xff\xff\xff",
        b"X\xff\xff\xff\x7f",
        b"U\x01a",
        b".",
    ]
    # Most of the file are pixels, every value of which is a picture: strike between them as often as into them.
    interesting = [i for i, byte in enumerate(content) if i < 300 or i > len(content) - 200 or byte in b"cRbt"]
    for number in range(count):
        place = random.choice(interesting) if number % 4 else random.randrange(len(content))
        kind = number % 5
        if kind < 2:
            yield content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :]
        elif kind == 2:
            yield content[:place]
        else:
            piece = random.choice(pieces)
            yield content[:place] + piece + content[place + (len(piece) if kind == 3 else 0) :]


@pytest.mark.parametrize("victim", ["train", "meta"])
def test_damage_is_an_error_or_another_archive(victim, tmp_path):
    """600 in all: never a traceback, never the undamaged archive's checksum or classes on other data."""
    folder = small_cifar(tmp_path)
    content = (folder / victim).read_bytes()
    good = load_data("cifar100", tmp_path, official=False)
    errors = []
    for damaged in mutations(random.Random(5), content, 300):
        (folder / victim).write_bytes(damaged)
        try:
            data = load_data("cifar100", tmp_path, official=False)
        except DataError as error:
            errors.append(str(error))
            continue
        # Accepted: everything is of the right kind, and what differs can be seen.
        assert not data.official
        assert data.train.images.shape[1:] == (32, 32, 3)
        assert 0 <= data.train.labels.min() <= data.train.labels.max() < 100
        assert len(set(data.classes)) == 100
        same = pickled_as(damaged) == pickled_as(content)
        assert same == ((data.checksum, data.classes) == (good.checksum, good.classes))
    assert len(errors) > 100
    assert all(victim in error and error.isprintable() for error in errors)


def pickled_as(content):
    """What is looked at in a file that was accepted, by Python's own reader (it names nothing but arrays)."""
    # Not the one in C: it reserves as much memory as a damaged number asks for.
    value = pickle._loads(content, encoding="latin1")
    return {
        key: value[key].tobytes() if key == "data" else list(map(str, value[key]))
        for key in ("data", "fine_labels", "fine_label_names")
        if key in value
    }


@pytest.mark.parametrize("victim", ["train", "test", "meta"])
def test_any_bit_that_differs_from_the_published_files_is_refused(victim, tmp_path, monkeypatch):
    folder = small_cifar(tmp_path / "made")
    publish(monkeypatch, "cifar100", folder)
    content = (folder / victim).read_bytes()
    for damaged in mutations(random.Random(7), content, 50):
        if damaged == content:
            continue
        (folder / victim).write_bytes(damaged)
        with pytest.raises(DataError, match=f"{victim} in .* do not match the official checksums"):
            load_data("cifar100", tmp_path / "made")


def test_files_that_are_too_large_are_not_read(tmp_path):
    folder = small_cifar(tmp_path)
    os.truncate(folder / "train", 321 << 20)  # takes no room on the disk
    with pytest.raises(DataError, match="a file of at most 320 MiB, got 336592896 bytes"):
        load_data("cifar100", tmp_path, official=False)


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "link"])
def test_what_is_no_file_is_missing(kind, tmp_path):
    folder = small_cifar(tmp_path)
    (folder / "train").unlink()
    if kind == "fifo":
        os.mkfifo(folder / "train")
    elif kind == "folder":
        (folder / "train").mkdir()
    else:
        (folder / "train").symlink_to("/dev/zero" if kind == "device" else "nowhere")
    with pytest.raises(DataError, match="missing there: train"):
        load_data("cifar100", tmp_path, official=False)


# ---- hostile tar files, should the checksum ever be wrong --------------------------------------------------------


def member(name, kind=tarfile.REGTYPE, content=b"", link="", size=None):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content) if size is None else size
    return lambda tar: tar.addfile(info, io.BytesIO(content))


TRAPS = {
    "out": member("../was-here", content=b"x"),
    "absolute": member("/tmp/adakd-was-here", content=b"x"),
    "out of the folder": member("cifar-100-python/../../was-here", content=b"x"),
    "another": member("cifar-100-python/was-here", content=b"x"),
    "folder as a link": member("cifar-100-python", tarfile.SYMTYPE, link="/tmp"),
    "soft link": member("cifar-100-python/train", tarfile.SYMTYPE, link="/etc/passwd"),
    "hard link": member("cifar-100-python/train", tarfile.LNKTYPE, link="/etc/passwd"),
    "device": member("cifar-100-python/train", tarfile.CHRTYPE),
    "fifo": member("cifar-100-python/train", tarfile.FIFOTYPE),
    "folder": member("cifar-100-python/train", tarfile.DIRTYPE),
    "other content": member("cifar-100-python/train", content=b"x"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_tar_file_writes_only_the_known_files(trap, tmp_path, monkeypatch):
    folder = small_cifar(tmp_path / "made")
    publish(monkeypatch, "cifar100", folder, pack(folder, TRAPS[trap]))
    root = tmp_path / "deep" / "cache"
    refused = TRAPS[trap] in [
        TRAPS[t] for t in ("soft link", "hard link", "device", "fifo", "folder", "other content")
    ]
    if refused:
        with pytest.raises(
            DataError, match=r"cannot be unpacked: cifar-100-python/train (is not a plain|does not match)"
        ):
            load_data("cifar100", root)
    else:
        assert load_data("cifar100", root).official
    there = {
        str(path.relative_to(tmp_path)) for path in (tmp_path / "deep").rglob("*") if path.suffix != ".lock"
    }
    files = {f"deep/cache/cifar-100-python{part}" for part in ("", "/train", "/test", "/meta")}
    assert there == {"deep/cache", "deep/cache/cifar-100-python.tar.gz"} | (set() if refused else files)
    assert not os.path.lexists("/tmp/adakd-was-here")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not an archive", "not a gzip file|could not be opened"),
        (pack(Path(__file__).parent / "golden")[:5000], "ended before|unexpected end"),
    ],
)
def test_what_is_no_archive_is_an_error(content, reason, tmp_path, monkeypatch):
    folder = small_cifar(tmp_path / "made")
    publish(monkeypatch, "cifar100", folder, content)
    with pytest.raises(DataError, match=rf"cannot be unpacked: .*({reason}).*delete it"):
        load_data("cifar100", tmp_path / "cache")


def test_an_archive_without_a_file_is_an_error(tmp_path, monkeypatch):
    folder = small_cifar(tmp_path / "made")
    publish(monkeypatch, "cifar100", folder)
    (folder / "test").rename(tmp_path / "test")
    content = pack(folder)
    (tmp_path / "test").rename(folder / "test")
    publish(monkeypatch, "cifar100", folder, content)
    with pytest.raises(DataError, match="it has no cifar-100-python/test"):
        load_data("cifar100", tmp_path / "cache")
