"""What listens to a run hears each epoch once, when it is saved, and cannot change what it hears of."""

import pytest

import adakd

SMALL = {"device": "cpu", "precision": "fp32", "progress": False, "epochs": 3, "batch_size": 20}
FEW = {**SMALL, "train_images": 50}
STUDENT = "resnet8x0.5"


def test_a_teacher_tells_of_each_epoch_when_it_is_saved(tiny_data, tmp_path):
    heard = []

    def listen(row):
        heard.append((dict(row), len(list(tmp_path.rglob("checkpoint.pt")))))
        row.clear()

    run = adakd.train_teacher(STUDENT, tiny_data, out=tmp_path, on_epoch=listen, **SMALL)
    assert [row for row, _ in heard] == run.history
    assert [checkpoints for _, checkpoints in heard] == [1, 1, 1]


def test_a_student_does_too_and_its_run_is_the_same(tiny_data, tiny_teacher, tmp_path):
    heard = []
    options = {"data": tiny_data, "student": STUDENT, "method": "zkd+mlt", **FEW}
    told = adakd.distill(tiny_teacher, out=tmp_path / "told", on_epoch=heard.append, **options)
    silent = adakd.distill(tiny_teacher, out=tmp_path / "silent", **options)
    assert heard == told.history == silent.history
    assert told.folder.name == silent.folder.name  # listening is no setting of a run
    assert told.record["config"] == silent.record["config"]


def test_a_finished_run_has_nothing_to_tell(tiny_data, tmp_path):
    adakd.train_teacher(STUDENT, tiny_data, out=tmp_path, **SMALL)

    def refuse(row):
        raise AssertionError("nobody trained")

    assert len(adakd.train_teacher(STUDENT, tiny_data, out=tmp_path, on_epoch=refuse, **SMALL).history) == 3


def test_what_it_raises_ends_the_run_which_goes_on_later(tiny_data, tmp_path):
    def give_up(row):
        if row["epoch"] == 2:
            raise LookupError("that will do")

    with pytest.raises(LookupError, match="that will do"):
        adakd.train_teacher(STUDENT, tiny_data, out=tmp_path / "a", on_epoch=give_up, **SMALL)
    heard = []
    run = adakd.train_teacher(STUDENT, tiny_data, out=tmp_path / "a", on_epoch=heard.append, **SMALL)
    assert [row["epoch"] for row in heard] == [3]  # the rows before it were told
    assert run.history == adakd.train_teacher(STUDENT, tiny_data, out=tmp_path / "b", **SMALL).history


@pytest.mark.parametrize("cache", ["fp16", None], ids=["one after the other", "in turns"])
def test_a_comparison_says_which_of_its_runs_it_is(cache, tiny_data, tiny_teacher, tmp_path):
    heard = []
    runs = adakd.compare(
        ["ce", ("kd", {"kd_weight": 9})],
        (0, 1),
        tiny_teacher,
        STUDENT,
        tiny_data,
        out=tmp_path,
        cache=cache,
        on_epoch=lambda run, row: heard.append((run, row)),
        **FEW,
    )
    for run in runs:
        config = run.record["config"]
        identity = {name: config[name] for name in ("method", "method_options", "seed")}
        assert [row for which, row in heard if which == identity] == run.history
    assert len(heard) == 12
