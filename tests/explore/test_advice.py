"""Advice in the book's page: its numbers are those of `adakd.advise`, its errors say what to do, and nothing is sent."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from book_page import advice_box
from pages import barriers, drawn

import adakd
from adakd import advice, logits

# From base64 texts of .npy files to the advice on them, as the page computes it.
COMPUTE = """async (files) => {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  const buffers = Object.fromEntries(Object.entries(files).map(([who, text]) => [who, bytes(text)]));
  try { return await figure.compute(buffers); } catch (error) { return error.message; }
}"""


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def ask(page, **arrays):
    files = {who: x if isinstance(x, bytes) else npy(x) for who, x in arrays.items() if x is not None}
    return page.evaluate(COMPUTE, {who: base64.b64encode(content).decode() for who, content in files.items()})


def made_up(rows=60, classes=8, scale=3.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=rows)
    teacher = scale * rng.standard_normal((rows, classes))
    teacher[np.arange(rows), labels] += 2 * scale
    return {
        "teacher": teacher,
        "student": 0.3 * rng.standard_normal((rows, classes)),
        "labels": labels,
    }


def changed(**changes):
    return made_up() | changes


def masked(arrays, value):
    for who in ("teacher", "student"):
        arrays[who][:, 3] = value
    arrays["labels"][arrays["labels"] == 3] = 2
    return arrays


def logs(x):
    return x - np.log(np.exp(x).sum(1, keepdims=True))


CASES = {
    "all three": made_up(),
    "no labels": changed(labels=None),
    "the teacher alone": changed(student=None, labels=None),
    "two classes": made_up(classes=2),
    "two classes, no labels": made_up(classes=2) | {"labels": None},
    "half": {who: x.astype(np.float16) if who != "labels" else x for who, x in made_up().items()},
    "single, Fortran": {who: np.asfortranarray(x.astype(np.float32)) for who, x in made_up().items()}
    | {"labels": made_up()["labels"].astype(np.uint8)},
    "views": changed(
        teacher=made_up()["teacher"].reshape(20, 3, 8),
        student=np.asfortranarray(made_up()["student"].reshape(20, 3, 8)),
        labels=made_up()["labels"][:20],
    ),
    "minus infinity": masked(made_up(), -np.inf),
    "masked": masked(made_up(), -1000.0),
    "log-probabilities": changed(teacher=logs(made_up()["teacher"])),
    "probabilities": changed(teacher=np.exp(logs(made_up()["teacher"]))),
    "chance": changed(labels=np.roll(made_up()["labels"], 1)),
    "constant and saturated": changed(
        teacher=np.where(np.arange(60)[:, None] < 5, 1.5, 20 * made_up()["teacher"])
    ),
    "repeated": changed(teacher=np.repeat(made_up()["teacher"][:30], 2, axis=0)),
    "masks in rows": changed(teacher=np.where(np.eye(8)[np.arange(60) % 8] > 0, -1e9, made_up()["teacher"])),
    "a mask of both": changed(
        teacher=made_up()["teacher"] - 1e4 * (np.arange(8) == 2),
        student=made_up()["student"] - 200.0 * (np.arange(8) == 2),
    ),
    "sigmoids": changed(teacher=1 / (1 + np.exp(-made_up()["teacher"]))),
    "standardized": changed(
        teacher=(lambda t: (t - t.mean(1, keepdims=True)) / t.std(1, keepdims=True))(made_up()["teacher"])
    ),
    "uniform": changed(teacher=1e-3 * made_up()["teacher"]),
    "shifted": changed(labels=made_up()["teacher"].argmin(1)),
    "one class": changed(
        labels=np.where(np.arange(60) % 10 > 0, 2, made_up()["labels"]),
        teacher=made_up()["student"] + 5.0 * (np.arange(8) == 2),
    ),
    "alike": changed(teacher=made_up()["teacher"][:1] + 1e-3 * made_up()["student"]),
    "the teacher again": changed(student=made_up()["teacher"]),
    "trained": changed(student=made_up()["teacher"] + made_up(seed=1)["student"]),
    "trained, no labels": changed(student=made_up()["teacher"] + made_up(seed=1)["student"], labels=None),
    "zeros": changed(student=np.zeros((60, 8))),
    "probabilities of both": changed(**{who: np.exp(logs(made_up()[who])) for who in ("teacher", "student")}),
    "few rows": {who: x[:9] for who, x in made_up().items()},
    "many rows": made_up(rows=20_500, classes=3),
}


def expected(teacher, student, labels):
    """`adakd.advise` on the same arrays, whose numbers are not rounded, without what only the command gives."""
    given = [None if x is None else torch.from_numpy(np.ascontiguousarray(x)) for x in (teacher, student)]
    found = adakd.advise(*given, None if labels is None else torch.as_tensor(labels.astype(np.int64)))
    rows = found.to_dict()
    return {
        name: rows[name]
        for name in (
            "rows",
            "classes",
            "accuracy",
            "warnings",
            "spread",
            "max_z",
            "entropy",
            "choices",
            "reference",
        )
    }, {name: {row["method"]: row for row in rows[name]} for name in ("temperatures", "gradients")}


@pytest.fixture(scope="module")
def without_rounding():
    with pytest.MonkeyPatch.context() as patch:
        for module in (advice, logits):
            patch.setattr(module, "six_digits", float)
        yield


def assert_near(found, wanted, where):
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for name, value in wanted.items():
            assert_near(found[name], value, f"{where} {name}")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-12), where
    else:
        assert found == wanted, where


def test_the_page_gives_what_the_library_gives(open_figure, without_rounding):
    page = open_figure(advice_box())
    for case, arrays in CASES.items():
        found = ask(page, **arrays)
        assert isinstance(found, dict), (case, found)
        plain, tables = expected(**arrays)
        tables_found = {name: {row["method"]: row for row in found.pop(name)} for name in tables}
        assert_near(found, plain, case)
        for name, rows in tables_found.items():
            for method, row in rows.items():
                # Of log-probabilities the energies are all 0, and rounding decides their order.
                if (case, method.removeprefix("kd+")) != ("log-probabilities", "energy"):
                    assert_near(row, tables[name][method], f"{case} {name} {method}")
        assert {"kd", "zkd", "zkd+mlt-teacher"} <= tables_found["temperatures"].keys()
        if arrays["student"] is None:
            assert tables_found["gradients"] == {}
        else:
            assert {"kd", "dtkd"} <= tables_found["gradients"].keys()
            assert tables["temperatures"].keys() - tables_found["temperatures"].keys() == {"kd+attm"}


WRONG = {  # who, what, and the error
    "no array": ("teacher", b"1,2\n3,4\n", r"teacher’s logits: expected a \.npy file, got something else; numpy\.save"),
    "empty": ("teacher", b"", r"teacher’s logits: expected a \.npy file"),
    "cut short": ("teacher", npy(made_up()["teacher"])[:-8], r"expected 480 numbers, as its header says, got 479; .*copy it"),
    "integers": ("teacher", np.ones((4, 3), np.int32), r"expected little-endian float16, .*, got dtype '<i4'; save the logits"),
    "big-endian": ("teacher", np.ones((4, 3), ">f4"), r"got dtype '>f4'.*astype"),
    "structure": ("teacher", np.zeros(4, [("a", "f4")]), r"got dtype 'a structure'"),
    "one axis": ("teacher", np.ones(4), r"expected shape \(images, classes\) or .*, got \(4,\); reshape"),
    "one class": ("teacher", np.ones((4, 1)), r"at least 1 image and 2 classes, got \(4, 1\)"),
    "no rows": ("teacher", np.ones((0, 3)), r"got \(0, 3\)"),
    "constant": ("teacher", np.ones((60, 8)), r"teacher’s logits: every row is constant: a collapsed teacher"),
    "NaN": ("teacher", np.where(np.arange(60)[:, None] == 7, np.nan, made_up()["teacher"]), r"1 of 60 rows hold NaN or infinity \(first: row 7\); record in float32"),
    "masked here and there": ("student", np.where(np.eye(60, 8) > 0, -np.inf, made_up()["student"]), r"student’s logits: 8 of 60 rows .*minus infinity masks a class"),
    "huge": ("teacher", np.where(np.eye(60, 8) > 0, -1e38, made_up()["teacher"]), r"at most 1e\+30 in size, got 1\.00e\+38"),
    "nothing left": ("teacher", np.full((60, 8), -np.inf), r"at least 2 classes that are not minus infinity"),
    "other shape": ("student", np.ones((60, 7)), r"expected the teacher’s shape \(60, 8\), got \(60, 7\); record both"),
    "floats as labels": ("labels", np.zeros(60), r"labels: expected little-endian integers, .*got dtype '<f8'"),
    "too few labels": ("labels", np.zeros(59, int), r"labels: expected 60 integers of shape \(60,\), .*got shape \(59,\)"),
    "from one": ("labels", made_up()["labels"] + 1, r"they seem to count from 1, so subtract 1; leave"),
    "one-hot": ("labels", np.eye(8, dtype=int)[made_up()["labels"]], r"one-hot: argmax\(-1\) gives the classes"),
    "transposed": ("labels", np.zeros(8, int), r"are the logits transposed"),
    "two arrays": ("teacher", npy(made_up()["teacher"]) + npy(made_up()["student"]), r"expected one array of shape \(60, 8\), .*numpy\.concatenate"),
    "out of range": ("labels", np.full(60, 8), r"labels from 0 to 7, got 8 in row 0 \(60 of 60 rows are out of range\); leave"),
}  # fmt: skip


def test_wrong_files_are_refused_with_what_to_do(open_figure):
    page = open_figure(advice_box())
    for case, (who, what, error) in WRONG.items():
        assert re.search(error, str(ask(page, **changed(**{who: what})))), case


# ---- the face ----


def choose(page, who, array, name="logits.npy"):
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": npy(array)}
    page.locator(f"[data-file={who}] input").set_input_files([file])
    return drawn(page)


def cells(page, caption):
    """Rows of a table by their heading."""
    rows = page.locator("table").filter(has_text=caption).locator("tbody tr").all()
    return {row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in rows}


@pytest.mark.parametrize("width", [390, 800])
def test_files_are_chosen_read_and_shown_by_keyboard_and_without_a_request(open_figure, width):
    """`open_figure` fails for any request, and for anything that the page complains of."""
    page = open_figure(advice_box(), width)
    arrays = made_up()
    assert page.locator("table").count() == 0
    choose(page, "student", arrays["student"])
    assert page.locator("[role=status]").text_content() == "The teacher’s logits are needed, too."
    choose(page, "teacher", arrays["teacher"])
    assert page.locator("[role=status]").text_content() == "The teacher: 60 rows of 8 classes."
    choose(page, "labels", arrays["labels"])
    found = adakd.advise(*(torch.from_numpy(arrays[who]) for who in ("teacher", "student", "labels")))
    assert (
        page.locator("[role=status]").text_content()
        == f"The teacher: 60 rows of 8 classes, {found.accuracy:.1f} % right."
    )
    assert cells(page, "How soft")["spread of a row, σ"] == [
        f"{found.spread[q]:.3g}" for q in ("q5", "q50", "q95")
    ]
    assert cells(page, "Temperature by rule")["kd"][3:] == ["4", "4", "4"]
    weights = {row["method"]: row["matched"] for row in found.gradients}
    assert cells(page, "Gradient norm")["dkd"][2] == f"{weights['dkd']:.3g}"
    assert "adakd advise gives the rule kd+attm, the weights of dist, " in page.inner_text(".ak-results")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(
        "[...document.querySelectorAll('table')].every((t) => t.scrollWidth <= t.parentElement.clientWidth)"
    )
    assert page.evaluate("[...document.querySelectorAll('input')].every((i) => i.labels.length === 1)")

    assert [found for found in barriers(page) if ".ak" in found] == []  # the rest is of the bare page

    picture = page.inner_html(".ak-pictures")
    page.get_by_label("in units of σ").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_label("raw", exact=True).is_checked()
    assert page.inner_html(".ak-pictures") != picture

    choose(page, "teacher", np.full((60, 8), np.nan))
    assert "60 of 60 rows hold NaN" in page.locator("[role=alert]").text_content()
    assert page.locator("table").count() == 0
    page.get_by_role("button", name="made-up").focus()
    page.keyboard.press("Enter")
    assert (
        drawn(page)
        .locator("[role=status]")
        .text_content()
        .startswith("Made-up logits: 300 rows of 10 classes, ")
    )
    assert page.locator("[role=alert]").text_content() == ""
    assert page.evaluate(
        "[...document.querySelectorAll('input[type=file]')].every((i) => i.files.length === 0)"
    )
    page.get_by_role("button", name="Clear").click()
    assert page.locator("table").count() == 0


DROP = """([selector, texts]) => {
  const transfer = new DataTransfer();
  for (const text of texts) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], "dropped.npy"));
  }
  const fire = (kind) => document.querySelector(selector).dispatchEvent(
    new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true}));
  return [fire("dragover"), fire("drop")];  // false where the browser is kept from opening the file
}"""


def drop(page, selector, *arrays):
    texts = [base64.b64encode(npy(array)).decode() for array in arrays]
    assert page.evaluate(DROP, [selector, texts]) == [False, False]
    return drawn(page)


def test_files_are_dropped(open_figure):
    page = open_figure(advice_box())
    drop(page, ".ak-scenes", made_up()["teacher"])
    assert "No student’s logits" in page.inner_text(".ak-results")
    assert cells(page, "Temperature by rule").keys() >= {"kd", "zkd", "zkd+mlt-teacher"}
    drop(page, "[data-file=student] span", made_up()["student"])
    assert "zkd+mlt" in cells(page, "Gradient norm")
    assert "labels need them" in page.inner_text(".ak-results")
    drop(page, ".ak-files", *[made_up()["teacher"]] * 2)
    assert "expected one file, got 2" in page.locator("[role=alert]").text_content()
