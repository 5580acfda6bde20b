"""The ranking explorer: its JavaScript against adakd, the study's own table, clicks, drags, motion and words."""

import random
from pathlib import Path

import pytest
import traitlets
from made_up_runs import RANKED, Ranked
from pages import box_of, drawn, pictures, words

from adakd.explore import RankingExplorer
from adakd.statistics import paired_interval
from adakd.study import read_study

WAYS = ("published", "matched", "chosen")
GROUPS = ("all", "maximum logit", "standardized", "others", "labels only")


@pytest.fixture(scope="module")
def study():
    return read_study(Path(__file__).parents[2] / "book" / "records" / "study")


@pytest.fixture(scope="module")
def data(study):
    return RankingExplorer(study).data


@pytest.mark.parametrize("way", WAYS)
def test_values_are_those_of_the_studys_table(study, data, way):
    values = RankingExplorer(data=data, way=way).values()
    names = [row["name"] for row in data["methods"]]
    lines = study.table(way, ("zkd",))
    assert [names[values["ranks"].index(rank)] for rank in (1, 2, 3)] == [line.name for line in lines[:3]]
    for line in lines:
        at = names.index(line.name)
        found = values["estimates"][at], values["lows"][at], values["highs"][at]
        assert found == pytest.approx((line.accuracy.estimate, line.accuracy.low, line.accuracy.high))
        if line.name != "zkd":
            pair = RankingExplorer(data=data, way=way, first=line.name, second="zkd").values()
            ahead = line.ahead["zkd"]
            assert [pair["difference"], pair["low"], pair["high"]] == pytest.approx(
                [ahead.estimate, ahead.low, ahead.high]
            )


def test_all_weights_of_the_records_are_there(study, data):
    row = next(row for row in data["methods"] if row["name"] == "zkd+mlt")
    weights = [run["kd"] for run in row["runs"]]
    assert weights == sorted(weights)
    assert {0.9, 3, 6, 9, 12, 15, 18, 11.3} <= set(weights)
    by_weights = study.by_weights("zkd+mlt")
    for way in WAYS:
        run = row["runs"][row["ways"][way]]
        assert (run["ce"], run["kd"]) == study.weights(way, "zkd+mlt")
        assert by_weights[run["ce"], run["kd"]] == study.runs(way, "zkd+mlt")


def states(data, count):
    draw = random.Random(0)
    names = [row["name"] for row in data["methods"]]
    several = [row["name"] for row in data["methods"] if len(row["runs"]) > 1]
    for _ in range(count):
        yield {
            "way": draw.choice(WAYS),
            "group": draw.choice(GROUPS),
            "first": draw.choice(names),
            "second": draw.choice(names),
            "method": draw.choice(several),
            "place": draw.randint(-1, 5),
        }


def assert_same(answer, expected, name):
    if isinstance(expected, list):
        assert len(answer) == len(expected), name
        for one, other in zip(answer, expected, strict=True):
            assert_same(one, other, name)
    else:
        wanted = expected if expected is None else pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert answer == wanted, name


@pytest.mark.parametrize("made_up", [False, True])
def test_javascript_against_adakd(open_figure, data, made_up):
    data = RANKED if made_up else data
    page = open_figure(RankingExplorer(data=data))
    for state in states(data, 60):
        figure = RankingExplorer(data=data, **state)
        answer = page.evaluate("(state) => figure.compute({ ...state, data: model.get('data') })", state)
        for name, expected in figure.values().items():
            if not (made_up and name.startswith("all_")):  # its quantiles are made up, too
                assert_same(answer[name], expected, (state, name))


def test_all_pairs_at_once_are_wider_by_bonferroni(data):
    values = RankingExplorer(data=data, way="matched", first="dts", second="kd").values()
    accuracies = {row["name"]: row["runs"][row["ways"]["matched"]]["accuracies"] for row in data["methods"]}
    count = len(data["methods"])
    wide = paired_interval(accuracies["dts"], accuracies["kd"], 1 - 0.05 / (count * (count - 1) / 2))
    assert [values["all_low"], values["all_high"]] == pytest.approx([wide.low, wide.high])
    assert values["all_low"] < values["low"] < values["difference"] < values["high"] < values["all_high"]


def names_in_order(page):
    return drawn(page).evaluate("[...document.querySelectorAll('[data-method]')].map((g) => g.dataset.method)")


def test_the_ranking_crosses_when_the_weights_change(open_figure):
    page = open_figure(Ranked())
    assert names_in_order(page) == ["zkd", "zkd+mlt", "kd", "ce"]
    page.get_by_label("matched").check()
    assert names_in_order(page) == ["zkd+mlt", "zkd", "kd", "ce"]
    assert page.evaluate("document.getAnimations().length") > 0
    page.get_by_label("chosen").check()
    assert names_in_order(page) == ["zkd", "zkd+mlt", "ce"]  # kd was not run with these


def test_nothing_moves_for_a_reader_who_wants_no_motion(open_figure):
    page = open_figure(Ranked(), reduced_motion="reduce")
    page.get_by_label("matched").check()
    assert names_in_order(page)[0] == "zkd+mlt"
    assert page.evaluate("document.getAnimations().length") == 0


def test_two_clicks_choose_a_pair(open_figure):
    page = open_figure(Ranked())
    for name in ("kd", "ce"):
        box = box_of(page, f"[data-method='{name}'] .sign")
        page.mouse.click(box["x"] + 3, box["y"] + 3)
        drawn(page)
    assert page.evaluate("[model.get('first'), model.get('second')]") == ["ce", "kd"]
    assert "ce is behind kd: −9.00 points" in words(page)


def test_dragging_moves_the_weight_and_the_ways_take_it_back(open_figure):
    page = open_figure(Ranked())
    box = box_of(page, ".ak-pictures svg", 1)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 250)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 250, steps=3)
    page.mouse.up()
    assert page.evaluate("model.get('place')") == 0
    assert names_in_order(page) == ["zkd", "kd", "zkd+mlt", "ce"]
    assert "too few seeds" in words(page)
    page.get_by_label("matched").check()
    assert page.evaluate("model.get('place')") == -1
    page.get_by_label("its λ_KD").focus()
    page.keyboard.press("Home")
    assert page.evaluate("model.get('place')") == 0


def test_every_state_draws_numbers_only(open_figure, data):
    page = open_figure(RankingExplorer(data=data), 390)
    for state in states(data, 25):
        page.evaluate("(s) => Object.entries(s).forEach(([name, value]) => model.set(name, value))", state)
        assert "NaN" not in pictures(page), state
        assert "Infinity" not in pictures(page), state
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_description_has_the_order_and_the_pair():
    said = Ranked(way="matched").describe()
    assert "the best first: zkd+mlt, zkd, kd, ce." in said
    assert "zkd minus zkd+mlt: -1.00" in Ranked(way="matched").describe()


def test_wrong_states_are_refused():
    with pytest.raises(traitlets.TraitError):
        Ranked(way="best")
    with pytest.raises(ValueError, match="first: expected a method of the study"):
        Ranked(first="zdkd")
    with pytest.raises(ValueError, match="several weights"):
        Ranked(method="ce")
    with pytest.raises(ValueError, match="expected a method of the study"):
        RankingExplorer()
