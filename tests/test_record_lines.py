"""Records a line: no cut and no character loses a complete one, and what is skipped is said."""

import json
import os

import pytest

from adakd.study import append_record, keep_records, read_records
from adakd.study import records as records_module
from adakd.study.records import FolderResults
from adakd.training.files import write_record
from adakd.training.record import key_of


def record_of(seed=0, note="", method="kd"):
    return {
        "kind": "student",
        "config": {"method": method, "method_options": {}, "seed": seed, "note": note},
        "seed": seed,
        "result": {"last": 50.0},
        "history": [{"epoch": 1, "loss": 1.25}],
    }


def seeds(path):
    return [record["seed"] for record in read_records(path)]


def test_a_whole_last_line_without_its_end_is_kept(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    for seed in (0, 77):
        append_record(path, record_of(seed))
    path.write_bytes(path.read_bytes()[:-1])
    assert seeds(path) == [0, 77]
    append_record(path, record_of(5))
    assert seeds(path) == [0, 77, 5]
    assert path.read_bytes().count(b"\n") == 3
    assert caplog.messages == []


NOTES = [
    "a\u2028b",
    "a\u2029b",
    "a\u0085b",
    "a\x0bb\x0cc\x1cd\x1de\x1ef",
    "a\r\nb",
    "τ 🙂",
    "\ufeff",
    "\x00\x1b[2J",
]


@pytest.mark.parametrize("note", NOTES, ids=ascii)
def test_no_character_ends_a_line(note, tmp_path):
    path = tmp_path / "a.jsonl"
    for seed in (0, 1):
        append_record(path, record_of(seed, note))
    assert [(r["seed"], r["config"]["note"]) for r in read_records(path)] == [(0, note), (1, note)]


def test_a_last_line_cut_anywhere_is_left_out_said_and_mended(tmp_path, caplog):
    """Also in the middle of a character."""
    path = tmp_path / "a.jsonl"
    append_record(path, record_of(0, "τ🙂\u2028"))
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        caplog.clear()
        path.write_bytes(whole + whole[:cut])
        complete = cut == len(whole) - 1
        assert seeds(path) == [0]  # the same run, twice
        assert caplog.messages == (
            []
            if complete
            else [f"{path}, line 2: half a line of {cut} bytes is left out: its writer was stopped"]
        )
        if cut % 40 == 0:
            append_record(path, record_of(1))
            assert f"half a line of {cut} bytes, left by a killed process, is removed" in caplog.text
            assert seeds(path) == [0, 1]


def test_blank_lines_byte_order_marks_and_other_line_ends(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(record_of(seed)).encode() for seed in range(3)]
    path.write_bytes(b"\xef\xbb\xbf" + lines[0] + b"\r\n\n  \n" + lines[1] + b"\n\r\n" + lines[2] + b"\n\n")
    assert seeds(path) == [0, 1, 2]
    append_record(path, record_of(3))
    assert seeds(path) == [0, 1, 2, 3]
    assert caplog.messages == []


@pytest.mark.parametrize("damage", [b'{"kind": "stud', b"\xff\xfe", b"[" * 100_000, b"\x00" * 50, b"{}{}"])
def test_damage_in_the_middle_names_file_line_and_remedy(damage, tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(record_of(seed)).encode() for seed in range(2)]
    path.write_bytes(lines[0] + b"\n" + damage + b"\n" + lines[1] + b"\n")
    with pytest.raises(
        ValueError, match=r"a.jsonl, line 2: not a record: .*; delete this line, and its run will be made"
    ):
        read_records(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", "field 'kind' is missing"),
        ("[]", r"expected an object, got list \[\]"),
        ("null", "expected an object, got null"),
        ('{"kind": "student"}', "field 'config' is missing, expected an object"),
        ('{"kind": "student", "config": []}', "field 'config': expected an object, got list"),
        (
            '{"kind": "student", "config": {}, "seed": "0", "result": {"last": 1}}',
            "field 'seed': expected a whole number",
        ),
        (
            '{"kind": "student", "config": {}, "seed": 0, "result": {"last": null}}',
            "field 'result.last': expected a number",
        ),
    ],
)
def test_what_is_no_record_of_a_run_is_named_with_its_field(line, message, tmp_path):
    (tmp_path / "a.jsonl").write_text(line + "\n")
    (tmp_path / "a.json").write_text(line)
    with pytest.raises(ValueError, match=rf"a.jsonl, line 1 is damaged \({message}.*delete this line"):
        read_records(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match=rf"a.json is damaged \({message}.*delete it"):
        read_records(tmp_path / "a.json")


def test_other_things_in_a_folder_are_passed_over(tmp_path):
    (tmp_path / "cache.json").write_text('{"teacher": "x"}')
    (tmp_path / "list.json").write_text("[1]")
    append_record(tmp_path / "a.jsonl", record_of(0))
    assert seeds(tmp_path) == [0]


def test_a_changed_digit_of_a_record_is_found(tmp_path):
    path = tmp_path / "a.jsonl"
    append_record(path, record_of(0))
    path.write_bytes(path.read_bytes().replace(b"50.0", b"59.0"))
    with pytest.raises(
        ValueError, match=r"a.jsonl, line 1 is damaged \(its fields hash to .*changed after it was written"
    ):
        read_records(path)


def test_who_asks_again_and_again_reads_each_line_once(tmp_path, monkeypatch):
    path, known = tmp_path / "a.jsonl", FolderResults(tmp_path)
    read = []
    parse = records_module.parse_json
    monkeypatch.setattr(records_module, "parse_json", lambda *a: read.append(a[0]) or parse(*a))
    for seed in range(8):
        append_record(path, record_of(seed))
        found = known.by_key()
        assert found == {key_of(record_of(s)["config"]): {"last": 50.0} for s in range(seed + 1)}
    assert len(read) == 8


def test_what_is_read_on_is_what_is_read_anew(tmp_path, caplog):
    """Half a line of another process, a whole one without its end, other files, and a file that was written anew."""
    path, known = tmp_path / "a.jsonl", FolderResults(tmp_path)

    def is_right(count):
        anew = {key_of(record["config"]): record["result"] for record in read_records(tmp_path)}
        assert known.by_key() == known.by_key() == anew
        assert len(anew) == count

    is_right(0)
    path.write_bytes(b"\xef\xbb\xbf\n\n")
    append_record(path, record_of(0))
    is_right(1)
    append_record(path, record_of(1))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    is_right(1)
    path.write_bytes(whole[:-1])
    is_right(2)
    append_record(path, record_of(2))
    is_right(3)
    append_record(tmp_path / "deeper" / "b.jsonl", {**record_of(3), "result": {"last": 1.0}})
    append_record(tmp_path / "deeper" / "b.jsonl", {**record_of(0), "result": {"last": 1.0}})
    write_record(tmp_path / "c.json", {"kind": "sweep"})
    is_right(4)
    path.unlink()
    is_right(2)
    for seed in (7, 8, 9, 10):
        append_record(path, record_of(seed))
    is_right(6)
    line = path.read_bytes().splitlines(keepends=True)[1]
    path.write_bytes(4 * line)
    is_right(3)


def test_damage_in_what_is_read_on_is_named_with_its_line_each_time(tmp_path):
    path, known = tmp_path / "a.jsonl", FolderResults(tmp_path)
    for seed in (0, 1):
        append_record(path, record_of(seed))
    known.by_key()
    with path.open("ab") as file:
        file.write(b"{}\n")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"a\.jsonl, line 3"):
            known.by_key()


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    append_record(path, record_of(0))
    before = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left on device; .*free some space.*a.jsonl"):
            append_record(path, record_of(1))
    assert path.read_bytes() == before


def test_kept_records_are_those_that_are_not_there_yet(tmp_path):
    path = tmp_path / "a.jsonl"
    append_record(path, record_of(0))
    path.write_bytes(path.read_bytes()[:-1])
    assert keep_records(path, [record_of(seed) for seed in (0, 1, 2)]) == 2
    assert seeds(path) == [0, 1, 2]
    assert keep_records(path, [record_of(seed) for seed in (0, 1, 2)]) == 0
