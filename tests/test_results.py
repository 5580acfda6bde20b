"""The table of all runs: each record is in it once, and each printed command asks for what its record is of."""

import json
import re
import shlex
import sys
from functools import lru_cache
from pathlib import Path

import pytest

from adakd import api, cli, get_recipe
from adakd.cli import distill, teacher
from adakd.plan import plan_student, plan_teacher
from adakd.study import read_records
from adakd.training.files import sha256_of
from adakd.training.record import key_of

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def results():
    """The module of the book's extension; with the library's tests alone there is no Sphinx."""
    pytest.importorskip("sphinx")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "book" / "_ext"))
        from adakd_book import results

        yield results
    for name in [name for name in sys.modules if name.partition(".")[0] == "adakd_book"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def library(results):
    return results.Library(ROOT)


@pytest.fixture
def asked(monkeypatch):
    """asked(line) -> request and resources that a command line leads to; nothing is planned or trained."""
    found = []

    def keep(request, resources):
        found.append((request, resources))
        return lambda: None

    monkeypatch.setattr(api, "plan_student", keep)
    monkeypatch.setattr(api, "plan_teacher", keep)
    monkeypatch.setattr(api, "ensure_teacher", lambda requests, resources: None)
    monkeypatch.setattr(distill, "show_run", lambda run, json: None)
    monkeypatch.setattr(teacher, "show_run", lambda run, json: None)
    monkeypatch.setattr(cli, "_parser", lru_cache(cli._parser))

    def parse(line):
        program, *words = shlex.split(line)
        assert program == "adakd"
        arguments = cli._parse(words)
        arguments.run(arguments)
        return found.pop()

    return parse


def test_every_run_has_a_row_and_a_file_of_its_own(library, results):
    runs = {key_of(record["config"]) for record in read_records(ROOT / "book" / "records")}
    rows = [entry for group in library.groups() for entry in group]
    assert {entry.key for entry in rows} == runs
    assert len({entry.address for entry in rows}) == len(rows) == len(runs)
    record = rows[0].record
    assert json.loads(results.record_text(record)) == record


def test_a_row_is_of_one_configuration_and_its_mean_of_its_runs(library, results):
    for group in library.groups():
        configs = {key_of({**entry.record["config"], "seed": 0}) for entry in group}
        seeds = [entry.record["seed"] for entry in group]
        assert len(configs) == 1
        assert seeds == sorted(set(seeds))
        lasts = [entry.record["result"]["last"] for entry in group]
        assert results.accuracy(group).estimate == pytest.approx(sum(lasts) / len(lasts))


def test_each_command_gives_the_records_configuration(library, results, asked):
    scripts = set(results.SCRIPTS.values())
    for group in library.groups():
        first = library.command(group[0])
        assert first, f"no command repeats {group[0].address}"
        if first in scripts:
            assert (ROOT / first.split()[1]).is_file()
            continue
        assert_asks_for(first, group[0], library, results, asked)
        for entry in group[1:]:
            seed = entry.record["seed"]
            assert library.command(entry) == re.sub(r"--seed \d+$", f"--seed {seed}", first)


def assert_asks_for(command, entry, library, results, asked):
    config, role = entry.record["config"], entry.record["kind"]
    *before, last = command.split("\n")
    request, resources = asked(last)
    method = request.method if role == "student" else "ce"
    assert request.data == config["data"]["name"]
    assert request.network(role).name == config["model"]
    assert (method, request.options, request.seed) == (
        config["method"],
        config["method_options"],
        config["seed"],
    )
    assert request.resolved_recipe(role).describe() == config["recipe"]
    logits = (config["teacher"] or {}).get("logits")
    if request.precision == "auto":  # a small network's choice, and the large teacher's
        assert logits.partition(" of ")[2] != config["precision"]
    else:
        assert request.precision == config["precision"]
    if config["teacher"] is None:
        assert before == []
        return
    assert resources.cache == (logits.partition(" of ")[0] if logits else None)
    if request.teacher_weights:
        assert request.teacher == config["teacher"]["model"]
        assert sha256_of(ROOT / request.teacher_weights) == config["teacher"]["sha256"]
        return
    trained = library.teacher_run(config["teacher"]["sha256"])
    assert trained.record["config"]["model"] == config["teacher"]["model"]
    assert request.teacher == results.folder_of(trained)
    assert before == [library.command(trained)]


@pytest.mark.slow
def test_runs_on_the_embedded_data_are_planned_as_recorded(library, results, asked):
    """To the key, data and network included: so the folder is the one that the next command names."""
    own = [entry for entry in library.entries if entry.source == "gratings"]
    trained = next(entry for entry in own if entry.record["kind"] == "teacher")
    alone = next(entry for entry in own if entry.record["config"]["method"] == "ce" and entry is not trained)
    for entry, plan in ((trained, plan_teacher), (alone, plan_student)):
        request, resources = asked(library.command(entry))
        config = plan(request, resources).config
        assert config.key == entry.key
        assert str(config.folder(resources.out)) == results.folder_of(entry)


def test_what_a_command_cannot_say_has_none(results):
    recipe = get_recipe("quick", "student").describe()
    assert results.changes_of(recipe, "student", "resnet8") == {}
    longer = get_recipe("paper", "student", epochs=24).describe()
    assert results.changes_of(longer, "student", "resnet8") == {"epochs": 24}
    assert results.changes_of({**recipe, "train_images": None}, "student", "resnet8") == {"train_images": "all"}
    for other in ({"momentum": 0.8}, {"milestones": [3]}, {"name": "mine"}):
        assert results.changes_of({**recipe, **other}, "student", "resnet8") is None


def test_a_run_without_a_teacher_stands_beside_those_with_one(library):
    alone = next(
        entry
        for entry in library.entries
        if entry.source == "study/published" and not entry.record["config"]["teacher"]
    )
    assert "wrn_16_2 → resnet8" in library.pairs(alone)
    assert set(library.weighting(alone)) == {"published", "matched", "chosen"}
