"""Random command lines: whatever a user types ends with a status, in one line, and in bounded time.

The lines are made from the parser's own options, so that a new option joins by itself. Training is real and tiny: the
embedded set has a few dozen images here, and a run that was not told to be long may take a few steps only.

`python tests/test_fuzz_commands.py 1000 7` runs a thousand lines from seed 7 and counts how they end.
"""

import argparse
import contextlib
import functools
import io
import itertools
import json
import os
import random
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import adakd
import adakd.export
from adakd import METHODS, MODELS
from adakd.bench import Ceiling, bench_losses, bench_step, synthetic_data
from adakd.bench.methods import bench_methods
from adakd.cli import _parser, main
from adakd.cli.options import engine_of
from adakd.data import DATASETS, load_gratings, load_sentences
from adakd.engine import Sequential
from adakd.methods import RULE_NAMES, options_of
from adakd.training.recipe import Recipe

# What a hostile or tired hand types in any place.
EVERY_SEED = os.environ.get("ADAKD_EVERY_SEED") == "1"
HOSTILE = (
    "",
    " ",
    "-",
    "--",
    "-1",
    "0",
    "1",
    "-0",
    "1.5",
    "1e308",
    "1e-320",
    "1e309",
    "nan",
    "-inf",
    "inf",
    "9223372036854775807",
    "9223372036854775808",
    "1" * 400,
    "1" * 5000,
    "True",
    "false",
    "None",
    "four",
    "((((((((",
    "[1, 2]",
    "{}",
    "λ",
    "\udcff",
    "\x1b[2J",
    "a\nb",
    "a\0b",
    "../../x",
    "/dev/null",
    "/dev/null/x",
    "x" * 300,
    "kd+",
    "+mlt",
    "%s%d",
    "١",
    "all",
    "auto",
)
SETTINGS = (
    "kd_weight",
    "ce_weight",
    "warmup_epochs",
    "standardize",
    "tau",
    "name",
    "self",
    "order",
    "seed",
    "weighted",
)


MOST_STEPS = 130  # of a run: two epochs of 60 images, one in a batch, and a little


class TooLongError(Exception):
    """A run that made more steps than its line asked for."""


def good_value(action: argparse.Action, places: dict[str, list[str]], draw: random.Random) -> str:
    """A value that the option is for."""
    if action.choices:
        return draw.choice(list(action.choices))
    some = {
        "data": [*DATASETS, "gratings", "gratings", "gratings"],
        "recipe": ["demo", "quick"],
        "epochs": ["1", "2"],
        "batch_size": ["10", "20", "64"],
        "lr": ["0.01", "1e3", "1e-9"],
        "train_images": ["all", "5", "10", "25"],
        "views": ["1", "3"],
        "eval_every": ["1", "1000"],
        "validation_images": ["1", "10"],
        "seed": ["0", "1", str(2**63 - 1)],
        "seeds": ["0", "1"],
        "device": ["cpu", "auto"],
        "precision": ["fp32", "auto", "bf16"],
        "teacher": ["resnet8x0.5", *places["runs"]],
        "teacher_weights": places["weights"],
        "weights": places["weights"],
        "student": ["resnet8x0.5", *places["runs"][:1]],
        "model": ["resnet8x0.5"],
        "method": [*METHODS, "dkd+mlt-abs", "ztaylor+itkd", "kd+ctkd-instance", "dist+meta"],
        "methods": [*METHODS, "kd:kd_weight=9", "kd:tau=2,kd_weight=3"],
        "reference": ["zkd", "kd"],
        "grid": ["0.5", "2"],
        "grid_file": places["grids"],
        "teachers": ["resnet8x0.5", *places["runs"]],
        "students": ["resnet8x0.5"],
        "gpus": ["T4", "H100"],
        "workers": ["1", "2"],
        "address": ["auto"],
        "gpus_per_run": ["0.5"],
        "cpus_per_run": ["1"],
        "retries": ["0", "3"],
        "to": ["kd", "zkd"],
        "name": [*METHODS, *(f"+{name}" for name in RULE_NAMES), "zkd+meta"],
        "order": ["1", "2", "3", "inf"],
        "pairs": ["6"],
        "rounds": ["1", "3"],
        "out": places["out"],
        "root": places["empty"],
        "json": ["-", *places["file"]],
        "records": places["records"],
        "run_folder": places["runs"],
        "target": ["student.pt2"],
        "logits": places["logits"],
        "labels": places["labels"],
        "plot": ["tau.svg"],
    }
    return draw.choice(some[action.dest])


def value(action: argparse.Action, places: dict[str, list[str]], draw: random.Random, hostility: float) -> str:
    if action.dest == "set":
        name = draw.choice([*SETTINGS, *options_of(draw.choice(["itkd", "ctkd", "dts", "meta", "ztaylor"]))])
        return f"{name}={draw.choice(['1', '2', '0.5', 'sample', 'true', *HOSTILE])}"
    if draw.random() < hostility:
        return draw.choice(HOSTILE)
    return good_value(action, places, draw)


def parsers(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()):
    """Every command's parser with the words that lead to it."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield words, parser
    for action in inner:
        for name, command in action.choices.items():
            yield from parsers(command, (*words, name))


@functools.cache
def all_parsers() -> list[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    return sorted(parsers(_parser()), key=lambda pair: pair[0])


def command_line(draw: random.Random, places: dict[str, list[str]]) -> list[str]:
    words, parser = draw.choice(all_parsers())
    line: list[str] = []
    hostility = draw.choice(
        [0, 0, 0.1, 0.3]
    )  # lines without a mistake must be among them, for what they then do
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction) and draw.random() > 0.01:
            continue
        positional = not action.option_strings
        # What keeps a run short is nearly always there; the rest now and then.
        often = {
            "epochs": 0.95,
            "train_images": 0.6,
            "out": 0.9,
            "teacher": 0.5,
            "device": 0.5,
            "quiet": 0.3,
            "seeds": 0.7,
            "validation_images": 0.9 if words == ("study",) else 0.1,
        }
        if not draw.random() < (0.9 if positional or action.required else often.get(action.dest, 0.12)):
            continue
        option = [] if positional else [draw.choice(action.option_strings)]
        if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
            line += option
            continue
        many = draw.choice([1, 1, 2]) if action.nargs in ("+", "*") or action.dest == "set" else 1
        values = [value(action, places, draw, hostility) for _ in range(many)]
        if positional:
            line = [*values, *line]
        elif action.nargs in ("+", "*"):
            line += [*option, *values]
        else:
            line += [part for one in values for part in (*option, one)]
    if draw.random() < hostility / 2:
        line.insert(
            draw.randrange(len(line) + 1), draw.choice([*HOSTILE, "--quite", "--epoch", "-q", "--no-capture"])
        )
    if draw.random() < 0.03:
        return line  # without a command
    if words == ("teacher",):  # elsewhere, or the others would have several teachers to choose among
        line += ["--out", draw.choice(places["elsewhere"])]
    return [*words, *line]


def small_bench_losses(methods, **options):
    return bench_losses(
        methods or ["kd", "zkd"], **{**options, "rounds": 1, "compiled": False, "progress": False}
    )


def small_bench_step(settings, **options):
    teacher, student = (
        "resnet8x0.5" if name in MODELS else name for name in (settings.teacher, settings.student)
    )
    few = {"batch_size": min(settings.batch_size, 4), "pairs": min(settings.pairs, 7)}
    quick = {"rounds": 1, "least": 0.001, "capture": False}
    small = replace(settings, teacher=teacher, student=student, **few, **quick)
    return bench_step(small, **{**options, "progress": False})


def small_bench_methods(methods, teacher, student, **options):
    names = ("resnet8x0.5" if name in MODELS else name for name in (teacher, student))
    quick = {"batch_size": min(options["batch_size"], 4), "rounds": 1, "progress": False}
    return bench_methods(methods or ["fitnet"], *names, **{**options, **quick})


def exported_once(make):
    """The exporter of programs, which remembers them by whether normalization is inside."""
    made: dict[bool, bytes] = {}

    def program(module, example, about):
        if module.normalize not in made:
            made[module.normalize] = make(module, example, about)
        return made[module.normalize]

    return program


class Kitchen:
    """Where the lines are run: a folder, tiny data, one teacher, and a bound on steps."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch):
        self.folder = folder
        tiny = load_gratings(train_images=60, test_images=40)
        patch.chdir(folder)
        text = replace(load_sentences(train_words=2048, test_words=128), name="sentences")
        patch.setattr("adakd.data.load_gratings", lambda: tiny)
        patch.setattr("adakd.data.load_sentences", lambda *_: text)
        patch.setattr("adakd.data.load_pydoc", lambda: replace(text, name="pydoc"))
        patch.setenv("ADAKD_DATA", str(folder / "nothing"))

        def refuse(*_, **__):
            raise OSError("no network in a test")

        patch.setattr("urllib.request.urlopen", refuse)
        short = {"batch_size": 20, "epochs": 1, "train_images": 10}
        patch.setitem(DATASETS, "gratings", DATASETS["gratings"]._replace(teacher="resnet8x0.5"))
        for name in ("sentences", "pydoc"):
            patch.setitem(DATASETS, name, DATASETS[name]._replace(teacher="gru16", student="gru16"))
        for name in ("demo", "language"):
            shorter = {
                "teacher": adakd.get_recipe(name, "teacher", **{**short, "train_images": "all"}),
                "student": adakd.get_recipe(name, "student", **short),
            }
            patch.setitem(adakd.RECIPES, name, shorter)
        # Benchmarks measure the smallest there is, and nothing is compiled: that is bounded, and slow.
        patch.setattr("adakd.bench.losses.SHAPES", ((8, 10),))
        patch.setattr("adakd.bench.step.synthetic_data", lambda _: synthetic_data(100, test_images=10))
        patch.setattr("adakd.bench.step.ceiling", lambda device, precision: Ceiling(1e12, 1e11, "a test"))
        patch.setattr("adakd.bench.methods.LEAST", 0.001)
        patch.setattr("adakd.cli.bench.bench_losses", small_bench_losses)
        patch.setattr("adakd.cli.bench.bench_step", small_bench_step)
        patch.setattr("adakd.cli.bench.bench_methods", small_bench_methods)
        # What is carried out elsewhere would have none of these patches; the options are read all the same.
        for command in ("compare", "study", "sweep"):
            patch.setattr(
                f"adakd.cli.{command}.engine_of", lambda arguments: engine_of(arguments) and Sequential()
            )
        patch.setattr("adakd.runs.run.choose_capture", lambda *_: (False, "a test"))
        # There is one network to export: the compiler works once a way, and not once a line.
        patch.setattr("adakd.export._program", exported_once(adakd.export._program))
        self._count_steps(patch)
        teacher = adakd.train_teacher(
            "resnet8x0.5", out=folder / "runs", device="cpu", precision="fp32", progress=False
        )
        study = folder / "study"
        study.mkdir()
        (study / "published.jsonl").write_text(json.dumps(teacher.record) + "\n")
        (folder / "grid.toml").write_text('methods = ["ce", "kd"]\nseeds = [0, 1]\n')
        (folder / "wrong.toml").write_text('methods = ["ce"]\nseed = 1\n')
        np.save(folder / "logits.npy", np.random.default_rng(0).normal(size=(20, 10)))
        np.save(folder / "labels.npy", np.arange(20) % 10)
        self.places = {
            "runs": [str(teacher.folder)],
            "weights": [str(teacher.folder / "weights.safetensors")],
            "out": ["runs", "runs", "runs", str(folder / "others")],
            "elsewhere": ["teachers", str(folder / "more teachers")],
            "empty": [str(folder / "nothing")],
            "file": ["result.json"],
            "logits": [str(folder / "logits.npy")],
            "labels": [str(folder / "labels.npy")],
            "grids": ["grid.toml", "grid.toml", "wrong.toml", str(folder / "none.toml")],
            "records": ["study", "new-study", "kept.jsonl", str(study / "published.jsonl")],
        }

    @staticmethod
    def _count_steps(patch):
        optimizer = Recipe.optimizer

        def counted(recipe, parameters):
            made, steps = optimizer(recipe, parameters), itertools.count(1)

            def count(*_):
                if next(steps) > MOST_STEPS:
                    raise TooLongError(f"more than {MOST_STEPS} steps")

            made.register_step_post_hook(count)
            return made

        patch.setattr(Recipe, "optimizer", counted)

    def run(self, line: list[str]) -> tuple[int | str, str, str]:
        """Exit status ("long" where the line asked for more steps than are made here), stdout and stderr."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                status = main(line)
            except SystemExit as exit:
                status = exit.code
        if status == 70 and "TooLongError" in err.getvalue() and asks_for_much(line):
            status = "long"
        return status, out.getvalue(), err.getvalue()


def asks_for_much(line: list[str]) -> bool:
    """Whether a line says itself that it wants many epochs, or a whole recipe of another set."""
    given = [line[i + 1] for i, word in enumerate(line[:-1]) if word.startswith("--epoch")]
    return (
        any(text.strip().isdecimal() and int(text) > 2 for text in given) or "quick" in line or "paper" in line
    )


def what_is_wrong(status: int | str, out: str, err: str) -> str | None:
    if status not in (0, 1, 2, "long"):
        return f"status {status}"
    if "Traceback" in out + err:
        return "a traceback"
    # The progress bars' own way up a line is no one else's doing.
    if any(ord(c) < 32 and c not in "\n\r\t" for c in out + err.replace("\x1b[A", "")):
        return "a control character"
    if status == 1 and not err.strip():
        return "an error that says nothing"
    return None


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield Kitchen(tmp_path_factory.mktemp("fuzz"), patch)


def lines_of(kitchen: Kitchen, count: int, seed: int):
    draw = random.Random(seed)
    return [command_line(draw, kitchen.places) for _ in range(count)]


def check(kitchen: Kitchen, count: int, seed: int) -> None:
    wrong = []
    for line in lines_of(kitchen, count, seed):
        result = kitchen.run(line)
        if fault := what_is_wrong(*result):
            wrong.append((fault, [part[:80] for part in line], result[2][-300:]))
    assert wrong == []


def test_random_command_lines_end_with_a_status(kitchen):
    check(kitchen, 150, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6) if EVERY_SEED else (2,))
def test_more_random_command_lines_end_with_a_status(kitchen, seed):
    check(kitchen, 250 if EVERY_SEED else 100, seed)


def test_the_lines_reach_every_command_and_every_option(kitchen):
    """Else the fuzz would prove nothing: all commands, nearly all options, and some lines that succeed."""
    seen = {word.partition("=")[0] for line in lines_of(kitchen, 1000, 2) for word in line}
    for words, parser in all_parsers():
        assert set(words) <= seen
        for option in parser._option_string_actions:
            assert option in seen or option in ("-h", "--help"), option


if __name__ == "__main__":
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        cook = Kitchen(Path(folder), patch)
        ends: Counter = Counter()
        for number, line in enumerate(lines_of(cook, count, seed)):
            result = cook.run(line)
            ends[result[0]] += 1
            if fault := what_is_wrong(*result):
                ends["wrong"] += 1
                print(number, fault, [part[:80] for part in line], result[2][-600:], flush=True)
        print(dict(ends))
        os.chdir("/")
