"""The playground: its JavaScript trains as adakd does, number by number; what it shows, its address, its kernel."""

import itertools
from urllib.parse import parse_qsl

import pytest
import torch
import traitlets
from pages import PAGE, START, box_of, drawn, words
from torch import nn

from adakd.explore import Playground
from adakd.explore.gallery import GALLERY
from adakd.explore.plane import DATA, TAUGHT, Lesson, Setting, StudentSetting, make_points, train_teacher
from adakd.explore.playground import _METHODS, _RANGES

TO_ARRAYS = "const [S, T] = [c.student, c.teacher].map((rows) => Float64Array.from(rows.flat()));"


def changed(**state):
    """A setting in the page's form, all controls by name."""
    figure = Playground(**state)
    return {name: getattr(figure, name) for name in figure.controls}


# ---- the engine: adakd's methods in JavaScript ----


def cases():
    draw = torch.Generator().manual_seed(0)
    for method, kind, classes in itertools.product(
        _METHODS, ("published", "off", "population", "sample"), (3, 10)
    ):
        for epoch, tau, weight in ((1, None, None), (7, 0.7, 3.0), (30, 20.0, 0.5)):
            student, teacher = (
                scale * torch.randn(9, classes, generator=draw, dtype=torch.float64) for scale in (1.5, 4)
            )
            labels = torch.randint(classes, (9,), generator=draw)
            setting = StudentSetting(method, tau, weight, kind)
            yield setting, student, teacher, labels, epoch


@pytest.mark.filterwarnings("ignore:the maximum logit of .* its floor")  # the page has the floor too
def test_losses_gradients_and_temperatures_of_every_method_agree_with_adakd(open_figure):
    known = list(cases())
    answers = open_figure(Playground()).evaluate(
        "(cases) => cases.map((c) => {"
        + TO_ARRAYS
        + """const one = new figure.Objective(c.setting), K = c.student[0].length;
        const batch = [S, T, c.labels, 9, K, c.epoch], found = one.evaluate(...batch);
        const gradient = [...one.gradient.subarray(0, 9 * K)], learned = [...one.learnedGradient];
        return {...found, gradient, learned, taus: one.temperatures(...batch)};
        })""",
        [
            {
                "setting": vars(setting),
                **{"student": student.tolist(), "teacher": teacher.tolist()},
                **{"labels": labels.tolist(), "epoch": epoch},
            }
            for setting, student, teacher, labels, epoch in known
        ],
    )
    assert len(known) == len(answers) > 400
    for (setting, student, teacher, labels, epoch), found in zip(known, answers, strict=True):
        objective = setting.objective()
        student.requires_grad_()
        terms = objective(student, teacher, labels, epoch)
        terms.total.backward()
        where = f"{setting} K={student.shape[1]} epoch={epoch}"
        assert found["total"] == pytest.approx(terms.total.item(), rel=1e-9, abs=1e-9), where
        assert found["gradient"] == pytest.approx(student.grad.flatten().tolist(), rel=1e-6, abs=1e-9), where
        thetas = [parameter.grad.item() for parameter in objective.parameters()]
        assert found["learned"] == pytest.approx(thetas, rel=1e-6, abs=1e-12), where
        if terms.temperature is not None:
            for side, tau in enumerate(terms.temperature):
                expected = tau.detach().expand(9, 1).flatten().tolist()
                assert [pair[side] for pair in found["taus"]] == pytest.approx(expected, rel=1e-9), where


@pytest.mark.parametrize("data", DATA)
def test_points_teacher_and_first_weights_are_the_same_numbers(open_figure, data):
    state = changed(data=data, classes=7, noise=0.1, seed=3, width=5)
    found = open_figure(Playground()).evaluate(
        """(state) => { const lesson = new figure.Lesson(state), array = (v) => Array.from(v);
        return {x: array(lesson.x), y: array(lesson.y), teacher: array(lesson.teacher.weights), a: array(lesson.students.a.network.weights),
          b: array(lesson.students.b.network.weights), taught: array(lesson.taught)}; }""",
        state,
    )
    lesson = Lesson(Setting(data=data, classes=7, noise=0.1, seed=3, width=5))
    assert found["x"] == pytest.approx(lesson.points.flatten().tolist(), abs=1e-12)
    assert found["y"] == lesson.labels.tolist()
    assert found["a"] == found["b"] == pytest.approx(lesson.weights("a"), abs=1e-12)
    assert found["teacher"] == pytest.approx(lesson.weights("teacher"), abs=1e-6)
    assert found["taught"] == pytest.approx(lesson.taught.flatten().tolist(), abs=1e-6)


PAIRS = [(method, _METHODS[(i + 1) % len(_METHODS)]) for i, method in enumerate(_METHODS)][::2]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_200_steps_have_the_same_losses(open_figure, a, b):
    found = open_figure(Playground()).evaluate(
        """(state) => { const lesson = new figure.Lesson(state);
        return Array.from({length: 200}, () => { const {a, b} = lesson.step(); return [a, b]; }).flat(); }""",
        changed(a=a, b=b, transfer=100, seed=1),
    )
    lesson = Lesson(Playground(a=a, b=b, transfer=100, seed=1).setting)
    expected = [loss for _ in range(200) for loss in lesson.step().values()]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


STATES = [
    {},
    {"step": 60},
    {"step": 35, "a": "zkd+mlt", "b": "zkd+mlt-abs", "classes": 3, "noise": 0.3, "view": "a"},
    {
        "step": 45,
        "a": "ctkd",
        "b": "dtkd",
        "data": "spirals",
        "noise": 0.05,
        "transfer": 1000,
        "probe": [-0.7, 0.2],
    },
    {
        "step": 30,
        "a": "dkd",
        "b": "wttm",
        "data": "sunflower",
        "view": "teacher",
        "width": 12,
        "lr": 0.02,
        "seed": 19,
    },
    {
        "step": 30,
        "a": "kd",
        "tau_a": 9.0,
        "weight_a": 2.0,
        "b": "kd",
        "standardize_b": "sample",
        "data": "pair",
    },
    {"step": 20, "a": "correlation", "b": "zctkd", "transfer": 10, "classes": 10},
]


def test_what_the_page_shows_is_what_pytorch_says(assert_javascript_agrees):
    assert_javascript_agrees([Playground(**state) for state in STATES])


# ---- the lesson: what is the same for both students, and what is not ----


def test_two_students_of_one_method_are_one_student():
    rows = Lesson(Setting(a=StudentSetting("zkd+mlt"), b=StudentSetting("zkd+mlt"))).train(30)
    for row in rows:
        assert row["loss_a"] == row["loss_b"]
        assert row["accuracy_a"] == row["accuracy_b"]


def test_a_lesson_is_a_function_of_its_setting():
    setting = Setting(seed=4, a=StudentSetting("ctkd"))
    once, again = Lesson(setting).train(25), Lesson(setting).train(25)
    assert once == again
    assert once != Lesson(Setting(seed=5, a=StudentSetting("ctkd"))).train(25)
    assert [row["step"] for row in once] == [0, 10, 20, 25]


def test_points_are_a_function_of_their_index():
    x, y = make_points("sunflower", 6, 0.1, 2, torch.arange(50))
    part = make_points("sunflower", 6, 0.1, 2, torch.tensor([3, 47]))
    assert torch.equal(part[0], x[[3, 47]])
    assert torch.equal(part[1], y[[3, 47]])
    assert torch.bincount(y).tolist() == [9, 9, 8, 8, 8, 8]


def test_noise_is_what_it_is_called():
    index = torch.arange(TAUGHT)
    for data in DATA:
        x, _ = make_points(data, 5, 0.2, 0, index)
        place, _ = make_points(data, 5, 0.0, 0, index)
        assert (x - place).std().item() == pytest.approx(0.2, rel=0.05)


def test_teachers_know_their_points_and_the_pair_is_what_they_confuse():
    for data, noise, least in (
        ("ring", 0.15, 85),
        ("pair", 0.1, 90),
        ("sunflower", 0.12, 90),
        ("spirals", 0.04, 85),
    ):
        right = Lesson(Setting(data=data, noise=noise)).held_out()["teacher"]
        assert 100 * right.double().mean() > least
    lesson = Lesson(Setting(data="pair", noise=0.1))
    wrong = lesson.labels[TAUGHT:][~lesson.held_out()["teacher"]]
    assert (wrong < 2).double().mean() > 0.6


def test_the_teacher_is_trained_once():
    train_teacher.cache_clear()
    Lesson(Setting(a=StudentSetting("kd")))
    Lesson(Setting(a=StudentSetting("zkd"), transfer=100))
    assert train_teacher.cache_info().misses == 1


# ---- the figure ----


def test_playing_trains_pauses_and_reports(open_figure):
    page = open_figure(Playground())
    page.click(".ak-play")
    page.wait_for_function("document.querySelector('.ak-playground').frames > 5")
    page.click(".ak-play")
    step = page.evaluate("model.get('step')")
    assert 10 <= step <= 600
    history, weights = page.evaluate("[model.get('history'), model.get('weights')]")
    expected = Playground(history=history, step=step).train(step)
    for row, other in zip(history, expected, strict=False):
        assert row.keys() == other.keys()
        for name, value in other.items():
            assert row[name] == (value if value is None else pytest.approx(value, rel=1e-6, abs=1e-6)), name
    assert len(weights["teacher"]) == 2 * 24 + 24 + 24 * 24 + 24 + 24 * 10 + 10
    assert f"After {step} steps" in words(page)


COUNTED = """() => {
  // Each look at the clock is a millisecond later, and no frame comes by itself.
  window.now = 0;
  performance.now = () => (now += 1);
  window.waiting = null;
  window.requestAnimationFrame = (tick) => { window.waiting = tick; return 1; };
  window.nextFrame = () => { const tick = waiting, before = now; window.waiting = null; tick(); return now - before; };
}"""


def test_a_page_that_takes_long_to_open_does_not_talk(open_figure):
    """Half a second a frame, and it has not arrived: it shows how far it is, and says nothing."""
    page = open_figure(Playground())
    page.evaluate("stop()")
    page.set_content(PAGE % Playground._css)
    page.evaluate(COUNTED)
    page.evaluate(
        "window.spoken = []; window.setTimeout = (f) => { spoken.push(f); return 1; }; window.clearTimeout = () => spoken.pop()"
    )
    page.evaluate(START, [Playground._esm, changed(step=60)])
    for _ in range(50):
        page.evaluate("now += 500")
        if page.evaluate("waiting === null"):
            break
        page.evaluate("nextFrame()")
    assert page.evaluate("waiting") is None
    assert "After 60" in page.inner_text(".ak-words")
    assert page.evaluate("spoken.length") == 0
    page.evaluate("model.set('step', 80)")
    while page.evaluate("waiting !== null"):
        page.evaluate("nextFrame()")
    assert page.evaluate("spoken.length") == 1


def test_it_stops_at_600_and_goes_on_when_told(open_figure):
    page = open_figure(Playground(step=590))
    assert "After 590" in words(page)
    page.click(".ak-play")
    page.wait_for_function("document.querySelector('.ak-play').textContent.includes('play on')")
    assert page.evaluate("model.get('step')") == 600
    page.click(".ak-play")
    page.wait_for_function("document.querySelector('.ak-playground output').textContent > 605")
    page.click(".ak-play")
    assert 605 < page.evaluate("model.get('step')") <= 1200


def test_one_step_restart_and_the_way_back(open_figure):
    page = open_figure(Playground(step=40))
    assert "After 40 steps" in words(page)
    before = page.inner_html(".ak-charts")
    page.get_by_role("button", name="one step").click()
    assert "After 41 steps" in words(page)
    page.evaluate("model.set('step', 40)")
    assert "After 40 steps" in words(page)
    assert page.inner_html(".ak-charts") == before
    page.get_by_role("button", name="restart").click()
    assert "Press play" in words(page)


def test_the_cross_moves_by_keys_by_mouse_and_by_a_click(open_figure):
    page = open_figure(Playground())
    square = page.locator(".ak-square").first
    square.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("model.get('probe')") == pytest.approx([0.6, 0.45])
    before = drawn(page).inner_html(".ak-charts svg")
    box = box_of(page, ".ak-square")
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.3)
    assert drawn(page).inner_html(".ak-charts svg") != before
    assert page.evaluate("model.get('probe')") == pytest.approx([0.6, 0.45])
    page.mouse.down()
    page.mouse.up()
    assert page.evaluate("model.get('probe')") == pytest.approx([-0.75, 0.5], abs=0.02)


def test_a_method_brings_its_published_values_and_hides_what_it_does_not_read(open_figure):
    page = open_figure(Playground(a="kd", tau_a=9.0, weight_a=2.0))
    student = page.locator(".ak-student").first
    assert student.locator("output >> visible=true").all_inner_texts() == ["9.00", "2.00"]
    student.locator("select").first.select_option("zkd")
    assert page.evaluate("[model.get('tau_a'), model.get('weight_a')]") == [None, None]
    drawn(page)
    assert student.locator("output >> visible=true").all_inner_texts() == ["2.00", "9.00"]
    for method, sliders in (("ce", 0), ("zkd+mlt", 1), ("correlation", 1), ("dtkd", 2)):
        student.locator("select").first.select_option(method)
        drawn(page)
        assert student.locator("input >> visible=true").count() == sliders


@pytest.mark.parametrize("question", GALLERY, ids=lambda question: question.name)
def test_a_question_sets_everything_and_shows_its_answer(open_figure, question):
    page = open_figure(Playground(seed=5, lr=0.3, data="spirals", noise=0.05))
    page.get_by_role("button", name=question.name).click()
    assert drawn(page).locator(".ak-asked p").first.text_content() == question.question
    for name in Playground().controls:
        assert page.evaluate("(name) => model.get(name)", name) == getattr(Playground(**question.state), name)
    assert not page.get_by_text(question.answer).is_visible()
    page.locator("summary").click()
    assert page.get_by_text(question.answer).is_visible()


TRAINED = "Number(document.querySelector('.ak-playground output').textContent)"


def test_a_frame_trains_its_share_and_no_longer_than_a_screen_waits(open_figure):
    """What makes it quick anywhere; `make bench` says how quick."""
    page = open_figure(Playground())
    page.evaluate("stop()")
    page.set_content(PAGE % Playground._css)
    page.evaluate(COUNTED)
    page.evaluate(START, [Playground._esm, changed()])
    assert page.locator(".ak-charts svg").count() == 4  # drawn by the call itself, before any frame
    page.evaluate("document.querySelector('.ak-play').click()")
    for frame in range(1, 11):  # at the pace "medium", and a step takes a millisecond here
        page.evaluate("nextFrame()")
        assert page.evaluate("document.querySelector('.ak-playground').frames") == frame
    page.evaluate("document.querySelector('.ak-play').click()")
    page.evaluate("nextFrame()")
    assert page.evaluate("model.get('step')") == 30
    # A long way is cut into frames of 14 ms, and the page hears its reader between them.
    page.evaluate("model.set('step', 600)")
    looks = []
    while page.evaluate("waiting !== null"):
        looks.append(page.evaluate("nextFrame()"))
    assert max(looks) <= 20
    assert len(looks) >= 570 / 20
    assert page.evaluate("document.querySelector('.ak-playground').getAttribute('aria-busy')") == "false"
    assert page.evaluate(TRAINED) == 600


# ---- its address ----


def rounds(page, state):
    return page.evaluate("(s) => [figure.toAddress(s), figure.fromAddress(figure.toAddress(s))]", state)


def test_an_address_brings_a_setting_back(open_figure):
    page = open_figure(Playground())
    states = [changed(**question.state) for question in GALLERY]
    states += [changed(tau_a=7.5, a="kd", probe=[-1.0, 0.25], view="teacher"), changed()]
    for state in states:
        address, back = rounds(page, state)
        assert back == state | {"step": 0}
        assert dict(parse_qsl(address.removeprefix("#playground?"))).keys() == {
            name for name in state if state[name] != changed()[name]
        }


@pytest.mark.parametrize(
    "hash",
    [
        "",
        "#top",
        "#playground?classes=99&a=nobody&noise=x&probe=1&seed=1.5&tau_b=-3&lr=NaN&what=1&step=5000",
        "#playground?toString=1",
        "#playground?constructor=1&__proto__=1&hasOwnProperty=2&valueOf=x",
        "#playground?a=toString&b=__proto__&data=constructor&view=hasOwnProperty",
    ],
)
def test_an_address_that_makes_no_sense_changes_nothing(open_figure, hash):
    found = open_figure(Playground()).evaluate("(hash) => figure.fromAddress(hash)", hash)
    assert found == (changed() if hash.startswith("#playground?") else None)


def test_ranges_in_the_page_are_those_of_the_traits():
    for name, values in _RANGES.items():
        beyond = [values[0] - 1, values[1] + 1] if isinstance(values[0], (int, float)) else ["nobody"]
        for value in beyond:
            with pytest.raises(traitlets.TraitError):
                Playground(**{name: [value, 0.0] if name == "probe" else value})


# ---- with a kernel ----


def test_weights_of_the_page_make_a_network(open_figure):
    page = open_figure(Playground(step=30))
    assert "After 30" in words(page)
    page.click(".ak-play")
    page.wait_for_function("document.querySelector('.ak-playground').frames > 3")
    page.click(".ak-play")
    step, weights = page.evaluate("[model.get('step'), model.get('weights')]")
    figure = Playground(step=step, weights=weights)
    network = figure.network("b")
    assert isinstance(network, nn.Sequential)
    lesson = Lesson(figure.setting)
    for _ in range(step):
        lesson.step()
    assert torch.allclose(network(lesson.points), lesson.networks["b"](lesson.points), atol=1e-6)


def test_a_network_needs_weights():
    with pytest.raises(ValueError, match="press play"):
        Playground().network("a")
    with pytest.raises(ValueError, match="'teacher', 'a' or 'b'"):
        Playground().network("c")


def test_curves_are_laid_over_each_other():
    figure = Playground()
    rows = figure.train(40)
    assert "has not trained yet" in figure.compare(rows).alt
    figure.history = [{**row, "loss_a": row["loss_a"] + 0.25} for row in rows[:3]]
    assert "differ by 2.5e-01" in figure.compare(rows).alt
    figure.step = 20
    assert figure.train()[-1]["step"] == 20
    assert [row["step"] for row in figure.train(0)] == [0]


def test_questions_by_name_and_by_number():
    assert Playground.ask(3).classes == 3
    assert repr(Playground.ask("λ: 0.9 or 9", seed=2)) == repr(Playground(**GALLERY[5].state, seed=2))
    with pytest.raises(ValueError, match="two peaks"):
        Playground.ask("three peaks")


def test_it_is_small_and_asks_nobody():
    assert len(Playground._esm.encode()) < 60_000
    assert "import" not in Playground._esm
    assert "http" not in Playground._esm.replace("http://www.w3.org/2000/svg", "")
