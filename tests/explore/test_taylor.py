"""The Taylor explorer: its JavaScript against adakd, the regions it draws, its words, its drags."""

import itertools
import math

import numpy as np
import pytest
import traitlets
from pages import box_of, pictures, words

from adakd import series
from adakd.explore import TaylorExplorer
from adakd.explore.taylor import _ROWS

STATES = [
    {"row": row, "classes": classes, "order": order, "tau": tau}
    for (row, classes), (order, tau) in zip(
        itertools.product(_ROWS, [6, 10, 33, 100, 1000]),
        itertools.cycle(itertools.product(range(1, 11), [0.1, 0.7, 1.0, 2.5, 20.0])),
        strict=False,
    )
] + [
    {"row": row, "order": order, "tau": tau}
    for row, order, tau in itertools.product(_ROWS, range(1, 11), [0.5, 1.3, 4.0])
]


def polynomial(order):
    return [1 / math.factorial(i) for i in range(order, -1, -1)]


def numpy_values(figure):
    """The figure's numbers a third time, from the formulas, sharing no code with adakd."""
    k, n = figure.classes, figure.order
    rest = [math.sqrt(3) * (1 - (2 * i + 1) / (k - 4)) for i in range(k - 4)]
    peak, second, ruled_out = _ROWS[figure.row]
    v = np.array([peak, second, 0.0, *rest, ruled_out])
    z = (v - v.mean()) / v.std()
    x = z / figure.tau
    weights, exact = np.polyval(polynomial(n), x), np.exp(x - x.max())
    taylor, exact = weights / weights.sum(), exact / exact.sum()
    zeros = np.roots(polynomial(n))
    level = polynomial(n)
    level[-1] -= 2
    reals = [r.real for r in np.concatenate([np.roots(level), zeros]) if abs(r.imag) < 1e-7]
    low, high = max(r for r in reals if r < 0), min(r for r in reals if r > 0)
    return {
        "lower_end": low,
        "upper_end": high,
        "radius": abs(zeros).min(),
        "required": max(z.max() / high, z.min() / low),
        "tau_disc": abs(z).max() / abs(zeros).min(),
        "outside": ((weights <= 0) | (weights > 2)).sum(),
        "outside_disc": (abs(x) >= abs(zeros).min()).sum(),
        "negative": (weights < 0).sum(),
        "total": weights.mean(),
        "error": abs(taylor - exact).sum() / 2,
        "taylor_lowest": taylor[z.argmin()],
        "exact_highest": exact.max(),
    }


@pytest.mark.parametrize("state", STATES[::3], ids=str)
def test_values_against_numpy(state):
    figure = TaylorExplorer(**state)
    values = figure.values()
    for name, expected in numpy_values(figure).items():
        assert values[name] == pytest.approx(expected, rel=1e-7, abs=1e-9), name


def test_zeros_are_zeros_and_the_nearest_comes_first():
    for order in range(1, 11):
        zeros = [complex(*pair) for pair in TaylorExplorer(order=order).values()["zeros"]]
        assert len(set(zeros)) == order
        assert max(abs(np.polyval(polynomial(order), zeros))) < 1e-9
        assert abs(zeros[0]) == min(map(abs, zeros))


@pytest.mark.parametrize("row", _ROWS)
def test_algorithm_1_can_stop_below_every_other_bound(row):
    values = TaylorExplorer(row=row, classes=100, order=2).values()
    fails = row == "one class ruled out"
    assert (values["tau_upper"] < values["required"]) == fails
    assert (values["tau_upper"] < values["tau_exact"]) == fails  # there even the exact expansion diverges


def test_a_logit_on_the_end_of_the_interval():
    for order, row in itertools.product(range(1, 11), _ROWS):
        figure = TaylorExplorer(row=row, order=order)
        values = figure.values()
        figure.tau = values["required"]
        by_the_lower_end = values["tau_lower"] > values["tau_upper"]
        assert figure.values()["outside"] == (1 if by_the_lower_end and order % 2 else 0)


def test_softmaxes_sum_to_one_and_the_first_may_be_negative():
    figure = TaylorExplorer(row="one class ruled out", order=3, tau=1.2)
    taylor, exact = figure.softmaxes()
    assert taylor.sum().item() == pytest.approx(1)
    assert exact.sum().item() == pytest.approx(1)
    assert taylor.min() < 0 < exact.min()
    assert figure.values()["negative"] == 1


def by_place(pairs):
    return sorted((round(a, 6) + 0.0, b) for a, b in pairs)


def test_javascript_against_adakd(open_figure):
    page = open_figure(TaylorExplorer())
    figures = [TaylorExplorer(**state) for state in STATES]
    answers = page.evaluate(
        "(states) => states.map((s) => figure.compute(s))",
        [{name: getattr(figure, name) for name in figure.controls} for figure in figures],
    )
    for figure, answer in zip(figures, answers, strict=True):
        values = figure.values()
        zeros = values.pop("zeros")
        for mine, theirs in zip(by_place(answer["zeros"]), by_place(zeros), strict=True):
            assert mine == pytest.approx(theirs, abs=1e-6), figure
        for name, expected in values.items():
            assert answer[name] == pytest.approx(expected, abs=1e-6, rel=1e-9), (figure, name)


def test_the_exact_bound_for_any_number_of_classes(open_figure):
    page = open_figure(TaylorExplorer())
    states = [(row, k) for row in _ROWS for k in (7, 8, 9, 12, 15, 20, 50, 77, 200, 400, 700)]
    answers = page.evaluate(
        "(states) => states.map(([row, classes]) => figure.compute({ order: 1, tau: 1, row, classes }).tau_exact)",
        [list(state) for state in states],
    )
    for (row, k), answer in zip(states, answers, strict=True):
        z = TaylorExplorer(row=row, classes=k).logits()[0].tolist()
        assert answer == pytest.approx(1 / series.partition_radius(z), abs=1e-6), (row, k)


def inside(curves, points):
    """Whether each of the points (N,) is inside an odd number of the closed curves."""
    crossings = np.zeros(len(points), dtype=int)
    for curve in curves:
        a = np.array([complex(*p) for p in curve])
        b = np.roll(a, -1)
        for start, end in zip(a, b, strict=True):
            rows = (start.imag > points.imag) != (end.imag > points.imag)
            slope = (end.real - start.real) / (end.imag - start.imag) if start.imag != end.imag else 0.0
            crossings += rows & (points.real < start.real + slope * (points.imag - start.imag))
    return crossings % 2 == 1


@pytest.mark.parametrize("order", range(1, 11))
def test_the_region_in_the_plane(open_figure, order):
    page = open_figure(TaylorExplorer())
    curves = page.evaluate("(n) => figure.domain(n)", order)
    for curve in curves:  # on the edge, in steps too small to see
        points = np.array([complex(*p) for p in curve])
        assert abs(abs(np.polyval(polynomial(order), points) - 1) - 1).max() < 1e-9
        assert abs(points - np.roll(points, 1)).max() < 0.1
    generator = np.random.default_rng(order)
    points = generator.uniform(-5.8, 4.2, 4000) + 1j * generator.uniform(-4.3, 4.3, 4000)
    height = abs(np.polyval(polynomial(order), points) - 1)
    clear = abs(height - 1) > 0.02
    assert (inside(curves, points) == (height < 1))[clear].all()
    assert 20 < (height < 1).sum() < 3000


def drag(page, picture, start, end):
    box = box_of(page, ".ak-pictures svg", picture)
    page.mouse.move(box["x"] + start, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + end, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    return page.evaluate("[model.get('tau'), figure.compute({order: 2, row: 'one peak', classes: 10, tau: 1})]")


def test_dragging_pulls_a_logit_along(open_figure):
    page = open_figure(TaylorExplorer())
    width = box_of(page, ".ak-pictures svg")["width"]
    unit = (width - 36) / 10
    for picture in (0, 1):
        tau, values = drag(page, picture, 300, 28 + (1.5 + 5.8) * unit)
        assert tau == pytest.approx(values["highest"] / 1.5, rel=0.01)
        tau, values = drag(page, picture, 300, 28 + (-0.5 + 5.8) * unit)
        assert tau == pytest.approx(values["lowest"] / -0.5, rel=0.02)
    wide = box_of(page, ".ak-pictures svg", 2)["width"]
    tau, _ = drag(page, 2, 100, 52 + (wide - 68) / 2)
    assert tau == pytest.approx(math.sqrt(0.1 * 20), rel=0.01)
    assert drag(page, 2, 100, wide + 40)[0] == 20
    assert drag(page, 0, 300, 28 + 5.8 * unit)[0] == pytest.approx(20, rel=0.2)  # on 0: as hot as it gets


@pytest.mark.parametrize(
    ("scene", "holds", "said"),
    [
        ("τ just enough", lambda v: v["outside"] == 0, "all logits are inside the interval"),
        (
            "Algorithm 1’s blind end",
            lambda v: v["outside"] == 1 and v["tau_upper"] < 1.36 < v["tau_exact"],
            "Algorithm 1 stops at 1.35",
        ),
        ("a negative probability", lambda v: v["negative"] == 1 and v["total"] > 0, "a negative probability"),
        (
            "interval, not disc",
            lambda v: v["outside"] == 0 < v["outside_disc"],
            "In powers of x it fails, though",
        ),
        ("disc, not interval", lambda v: v["outside_disc"] == 0 < v["outside"], "log f₆ converges"),
    ],
)
def test_each_scene_shows_what_it_says(open_figure, scene, holds, said):
    page = open_figure(TaylorExplorer())
    page.get_by_role("button", name=scene).click()
    state = {name: page.evaluate("(name) => model.get(name)", name) for name in TaylorExplorer.controls}
    assert holds(TaylorExplorer(**state).values())
    assert said in words(page)


def test_the_words_of_every_case(open_figure):
    page = open_figure(TaylorExplorer())
    cases = {
        "no softmax is left": {"row": "one class ruled out", "order": 3, "tau": 0.4},
        "Left of its valley f₂ rises again": {"row": "one class ruled out", "order": 2, "tau": 0.5},
        "1 of 10 logits is outside the interval: the highest": {"row": "one peak", "order": 2, "tau": 2.0},
        "10 logits are outside the disc": {"row": "undecided", "order": 1, "tau": 0.1},
        "converges, too": {"row": "undecided", "order": 2, "tau": 20.0},
    }
    for said, state in cases.items():
        words = page.evaluate("(s) => figure.words(s, figure.compute(s))", {"classes": 10} | state)
        assert said in words
    values = TaylorExplorer(row="one class ruled out", order=2, tau=0.5).values()
    assert values["taylor_lowest"] > values["taylor_highest"]


def test_hot_or_cold_it_draws_numbers_only(open_figure):
    page = open_figure(TaylorExplorer(), 390)
    for order, tau, classes in itertools.product((1, 2, 3, 10), (0.1, 1.0, 20.0), (6, 1000)):
        for name, value in (("order", order), ("tau", tau), ("classes", classes)):
            page.evaluate("([name, value]) => model.set(name, value)", [name, value])
        picture = pictures(page)
        assert "NaN" not in picture
        assert "Infinity" not in picture
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_description_says_whether_the_logits_are_inside():
    assert "all logits inside" in TaylorExplorer(tau=5.0).describe()
    assert "1 of 10 logits outside" in TaylorExplorer(tau=2.0).describe()
    assert "f₃ is negative for 1" in TaylorExplorer(row="one class ruled out", order=3, tau=1.2).describe()


@pytest.mark.parametrize("wrong", [{"order": 0}, {"order": 11}, {"tau": 0.05}, {"row": "flat"}, {"classes": 5}])
def test_wrong_states_are_refused(wrong):
    with pytest.raises(traitlets.TraitError):
        TaylorExplorer(**wrong)
