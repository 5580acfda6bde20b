"""Exercises that check themselves: what they compute, what they say of answers, and that the pages say the same."""

import dataclasses
import json
import random
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
import torch
from pages import open_browser
from test_book import code, markdown, notebook, small_book

import adakd
from adakd.exercises import EXERCISES, Exercise, check

ROOT = Path(__file__).parents[1]
every = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES.keys())
numeric = [exercise for exercise in EXERCISES.values() if not exercise.choices]
CALL = re.compile(r'adakd\.exercises\.check\("([^"]*)", \.\.\.\)')
# The chapters of Part I, all of them, and some others.
PART_ONE = {f"0{n}" for n in range(1, 9)}


def asked():
    """(exercise, chapter, the Markdown before its cell, the solution after it) of each check in the notebooks."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf8"))["cells"]
        for before, cell, after in zip(cells, cells[1:], cells[2:], strict=False):
            found = CALL.fullmatch("".join(cell["source"]))
            if cell["cell_type"] == "code" and "exercises" in "".join(cell["source"]):
                assert found, "".join(cell["source"])
                yield found[1], path.stem[:2], before, cell, after


ASKED = list(asked())


def test_every_exercise_is_in_its_chapter_and_every_cell_has_one():
    assert [name for name, *_ in ASKED] == sorted(EXERCISES)
    for name, chapter, before, cell, after in ASKED:
        assert name.partition(".")[0] == chapter
        assert f"**{name.partition('.')[2]}." in "".join(before["source"])
        assert "hide-cell" in after["metadata"]["tags"]  # the solution stays, folded
        (output,) = cell["outputs"]
        assert "".join(output["data"]["text/plain"]) == repr(check(name))
    assert {name[:2] for name in EXERCISES} >= PART_ONE | {"00", "11", "14", "16"}


@every
def test_the_right_answer_is_right_in_any_form(exercise):
    solution = exercise.solution
    assert check(exercise.name, solution)
    assert repr(check(exercise.name, solution)) == f"{exercise.name}: Right."
    if exercise.choices:
        return
    forms = (np.float64(solution), torch.tensor(float(solution), dtype=torch.float64), sp.Float(solution, 20))
    assert all(check(exercise.name, form) for form in forms)
    assert check(exercise.name, solution + 0.9 * exercise.margin)
    assert not check(exercise.name, solution + 1.1 * exercise.margin + (0 if exercise.margin else 1))


@every
def test_a_wrong_answer_gets_a_hint_and_no_solution(exercise):
    wrong = [mistake() for mistake, _ in exercise.mistakes]
    hints = [hint for _, hint in exercise.mistakes]
    other = [one for one in exercise.choices if one != exercise.solution] or [
        -17 * (abs(exercise.solution) + 1)
    ]
    assert len(set(hints)) == len(hints)
    for answer, hint in zip([*wrong, *other], [*hints, *len(other) * [exercise.hint]], strict=True):
        verdict = check(exercise.name, answer)
        assert not verdict
        assert repr(verdict) == f"{exercise.name}: Not yet. {hint}"
        shown = str(exercise.solution) if exercise.choices else f"{exercise.solution:.4g}"
        assert not re.search(
            rf"(?<![\w.]){re.escape(shown)}(?![\w])", repr(verdict).removeprefix(exercise.name)
        )
        assert shown[:4] in repr(check(exercise.name, answer, reveal=True))


@pytest.mark.parametrize("exercise", numeric, ids=lambda one: one.name)
def test_mistakes_are_apart_from_the_answer_and_from_each_other(exercise):
    values = [exercise.solution, *(mistake() for mistake, _ in exercise.mistakes)]
    values.sort()
    for low, high in pairwise(values):
        assert high - low > 2 * exercise.margin


@pytest.mark.parametrize(
    "answer", ["4.3", b"4", None, True, 1 + 2j, [1.0, 2.0], torch.ones(2), sp.Symbol("x"), object()]
)
def test_what_is_no_number_is_refused(answer):
    with pytest.raises(TypeError, match=r"answer: expected a number, to 1 %, got"):
        check("08.3", answer)


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), np.nan, torch.tensor(float("-inf"))])
def test_what_is_not_finite_is_refused(answer):
    with pytest.raises(ValueError, match=r"answer: expected a number, to 1 %, got"):
        check("08.3", answer)


def test_a_choice_is_one_of_its_texts():
    with pytest.raises(ValueError, match="expected one of 'lower', 'upper', got 'left'"):
        check("05.2", "left")
    with pytest.raises(TypeError, match="expected one of 'lower', 'upper', got 3"):
        check("05.2", 3)


def test_another_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown exercise '8.3'. Did you mean '08.3'"):
        check("8.3", 1.0)


def test_three_dots_ask_what_is_wanted():
    assert repr(check("08.3")) == repr(check("08.3", ...))
    assert repr(check("08.3")).startswith("08.3: The largest κ (a number, to 1 %).")
    assert not check("08.3")
    assert adakd.exercises.check is check


@every
def test_an_answer_leaves_the_random_numbers_as_they_were(exercise):
    fresh = dataclasses.replace(exercise)  # whose solution is not computed yet
    states = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    fresh.judge(fresh.solution)
    if not fresh.choices:
        fresh.judge(fresh.solution + 3 * fresh.margin + 1)  # every mistake is computed
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]


def test_a_solution_is_computed_once():
    counts = []
    one = Exercise("99.1", "?", lambda: counts.append(1) or 2.0, "!")
    assert one.judge(2.0)
    assert not one.judge(3.0)
    assert counts == [1]


# ---- against what the chapters print ----


@pytest.mark.parametrize(
    "name", [name for name, *_ in ASKED if name not in ("01.3", "04.1", "05.2", "13.2", "14.2")]
)
def test_the_solution_below_prints_the_answer(name):
    (after,) = [after for found, *_, after in ASKED if found == name]
    text = "".join("".join(output.get("text", "")) for output in after["outputs"]).replace("−", "-")
    numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", text)]
    exercise = EXERCISES[name]
    assert any(abs(number - exercise.solution) <= max(exercise.margin, 1e-9) for number in numbers), text


# ---- in the page ----


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with every exercise, on a page of its own address, as a reader without a server opens it."""
    folder = tmp_path_factory.mktemp("exercises")
    cells = [
        code(f'adakd.exercises.check("{name}", ...)', id=f"check-{name.replace('.', '-')}")
        for name in EXERCISES
    ]
    done = small_book(folder, {"index": notebook(markdown("# Exercises"), *cells), "two": "# Two\n"})
    assert done.returncode == 0, done.stdout + done.stderr
    html = (folder / "_build" / "html" / "index.html").read_text(encoding="utf8")
    assert "adakd.exercises.check(" not in re.sub("<noscript>.*?</noscript>", "", html)
    with open_browser() as browser:
        page = browser.new_context(viewport={"width": 390, "height": 800}).new_page()
        complaints, requests = [], []
        page.on(
            "console", lambda message: message.type in ("error", "warning") and complaints.append(message.text)
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((folder / "_build" / "html" / "index.html").as_uri())
        yield page
        assert complaints == []
        assert [url for url in requests if not url.startswith("file:")] == []


def tell(page, exercise, answer):
    """What the page says of an answer, given by the keyboard."""
    field = page.locator(f"#exercise-{exercise.name.replace('.', '-')}")
    if exercise.choices:
        field.select_option(answer)
        field.focus()
        page.keyboard.press("Tab")
    else:
        field.fill(answer)
    page.keyboard.press("Enter")
    return page.inner_text(f"#exercise-{exercise.name.replace('.', '-')}-said")


@pytest.mark.slow
def test_the_page_says_what_the_library_says(page):
    for exercise in EXERCISES.values():
        if exercise.choices:
            wrong = next(one for one in exercise.choices if one != exercise.solution)
            assert tell(page, exercise, "") == f"Give {exercise.kind}."
            assert tell(page, exercise, wrong) == f"Not yet. {exercise.hint}"
            assert tell(page, exercise, exercise.solution) == "Right."
            continue
        for text in ("", "four", "1e999", "1,2,3"):
            assert tell(page, exercise, text) == f"Give {exercise.kind}."
        known = [(mistake(), f"Not yet. {hint}") for mistake, hint in exercise.mistakes]
        far = exercise.solution + 1.3 * exercise.margin + (0 if exercise.margin else 20)
        for value, verdict in [*known, (far, f"Not yet. {exercise.hint}"), (exercise.solution, "Right.")]:
            assert tell(page, exercise, f"{value:.9g}") == verdict, (exercise.name, value)
        if exercise.margin:
            assert tell(page, exercise, f"{exercise.solution - 0.7 * exercise.margin:.9g}") == "Right."
            assert (
                tell(page, exercise, f"{exercise.solution:.9g}".replace(".", ",").replace("-", "−")) == "Right."
            )
        else:
            assert tell(page, exercise, f"{exercise.solution}.4") == "Give a whole number."
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for _ in range(3):  # once, on a busy machine, none was shown as solved after one reload; why is not known
        page.reload()
        if page.locator(".exercise.is-right").count() == len(EXERCISES):
            break
    assert page.locator(".exercise.is-right").count() == len(EXERCISES)
    assert page.inner_text("#exercise-08-3-said") == "You have solved it before."


@pytest.mark.slow
def test_the_page_needs_no_memory_and_does_not_show_the_answer(page):
    source = page.content()
    for exercise in numeric:
        data = re.search(rf'data-exercise="([^"]*{exercise.name}[^"]*)"', source)[1]
        if exercise.margin:
            assert f"{exercise.solution:.4g}".lstrip("-") not in data
    page.evaluate("Object.defineProperty(window, 'localStorage', {get() { throw new Error('none'); }})")
    assert tell(page, EXERCISES["08.3"], "4.32") == "Right."
