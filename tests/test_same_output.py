"""What the comparison of notebooks forgives, and what not."""

import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "book" / "_tools"))

from same_output import (
    NEAR_IF_TRAINED,
    as_words,
    differ_in,
    reconcile,
    same_path,
    same_text,
    without_signs_of_zero,
)

from adakd.explore import picture, use_style

TURNS = np.linspace(0, 6, 200)


def drawing(
    *,
    curves=2,
    shift=0.0,
    high=1.0,
    label="rises",
    color="#9a63cc",
    width=2,
    points=(1.0, 2.0),
    alpha=1.0,
    alt="A wave.",
):
    """Curves, dots and words; a unit of the second axis is about 100 units of the picture."""
    use_style()
    figure, ax = plt.subplots(figsize=(7.2, 3))
    for number in range(curves):
        ax.plot(TURNS, high * np.sin(TURNS + number) + shift, color=color, linewidth=width)
    ax.plot(points, [0.5 + shift / 2] * len(points), "o", color="#123456", alpha=alpha, markersize=5)
    ax.text(1, 0.5, label)
    ax.fill_between(TURNS, -1, -0.5 + shift, alpha=0.2)
    ax.set(ylim=(-1.2, 1.2), xlim=(0, 6))
    return picture(figure, alt).svg


def pixels(svg_units):
    return svg_units / 70


def test_the_same_drawing_shows_the_same():
    assert differ_in(drawing(), drawing()) is None


@pytest.mark.parametrize("units", [0.01, 1.0, -1.0])
def test_a_curve_one_pixel_lower_passes(units):
    one, other = drawing(), drawing(shift=pixels(units))
    assert one != other
    assert differ_in(one, other) is None


def test_a_marker_whose_id_follows_its_last_digit_passes():
    one = drawing()
    other = re.sub(r"m[0-9a-f]{10}", lambda found: "mffff" + found[0][5:], drawing(points=(1.0, 2.001)))
    assert set(re.findall(r'id="(m\w+)"', one)).isdisjoint(re.findall(r'id="(m\w+)"', other))
    assert differ_in(one, other) is None


def test_two_shapes_that_were_one_pass():
    """Equal paths share a definition; a last digit apart, they have one each."""
    shape = '<path id="{}" d="M 0 0 L {} 5"/>'
    frame = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"><defs>{}</defs>{}</svg>'
    use = '<use xlink:href="#{}" x="{}" y="7"/>'
    one = frame.format(shape.format("a", 5), use.format("a", 1) + use.format("a", 9))
    other = frame.format(
        shape.format("b", 5) + shape.format("c", 5.01), use.format("b", 1) + use.format("c", 9)
    )
    far = frame.format(shape.format("b", 5) + shape.format("c", 50), use.format("b", 1) + use.format("c", 9))
    assert differ_in(one, other) is None
    assert "shape" in differ_in(one, far)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"curves": 1}, "missing|became"),
        ({"curves": 3}, "missing|became|new|shape"),
        ({"label": "falls"}, "'rises' became 'falls'"),
        ({"high": 0.9}, "another shape"),
        ({"high": -1.0}, "another shape"),
        ({"shift": pixels(5)}, "another shape"),
        ({"color": "#cc6333"}, "became"),
        ({"width": 1}, "became"),
        ({"points": (1.0, 2.5)}, "x '"),
        ({"points": (1.0,)}, "missing"),
        ({"alpha": 0.5}, "became|attributes"),
        ({"alt": "A wave of another size."}, "A wave"),
    ],
)
def test_what_an_eye_sees_fails(change, said):
    found = differ_in(drawing(), drawing(**change))
    assert found is not None
    assert re.search(said, found)


def test_numbers_in_words_count_unless_a_cell_trains():
    one, other = drawing(label="92.8 % right"), drawing(label="9.25 % right")
    assert "92.8" in differ_in(one, other)
    assert differ_in(one, other, numbers=False) is None
    assert differ_in(one, drawing(label="92.8 % wrong"), numbers=False) is not None


def test_a_simplified_curve_is_the_same_curve():
    line = "M 0 0 L 10 0.2 L 20 0 L 30 5 "
    assert same_path(line, "M 0 0 L 20 0 L 30 5 ", 1.5)
    assert not same_path(line, "M 0 0 L 20 0 L 30 15 ", 1.5)
    assert not same_path(line, "M 0 0 L 20 0 M 20 0 L 30 5 ", 1.5)
    assert not same_path(line, "M 0 0 L 20 0 L 10 9 L 20 0 L 30 5", 1.5)
    with pytest.raises(ValueError, match="expected a path"):
        same_path("M 0 0 V 5", "M 0 0 V 5", 1.5)


def test_an_image_may_differ_in_its_last_digit_and_not_in_what_it_shows():
    def shading(values):
        figure, ax = plt.subplots(figsize=(2, 2))
        ax.imshow(values, vmin=0, vmax=1)
        return picture(figure, "Shades.").svg

    values = np.outer(np.linspace(0, 1, 20), np.linspace(1, 0, 20))
    one, near, other = (shading(v) for v in (values, values + 0.0015, values.T[::-1]))
    assert one != near
    assert differ_in(one, near) is None
    assert "an image" in differ_in(one, other)


def test_a_size_is_no_place():
    drawn = '<svg><g transform="translate(5 5) scale({})"><path d="M 0 0 L 9 9"/></g></svg>'
    assert differ_in(drawn.format("1 -1"), drawn.format("1.001 -1").replace("(5 ", "(6 ")) is None
    assert "transform" in differ_in(drawn.format("1 -1"), drawn.format("2 -1"))


def test_what_is_no_figure_is_compared_as_it_stands():
    assert differ_in("<svg", "<svg") is None
    assert "not an SVG" in differ_in("<svg", "<svg/>")


def stream(text):
    return {"output_type": "stream", "name": "stdout", "text": text}


def shown(svg, text="a picture"):
    return {"output_type": "display_data", "data": {"image/svg+xml": svg, "text/plain": text}}


def test_a_trained_cell_forgives_numbers_and_no_words():
    def after(fresh, committed, trained_here):
        reconcile(fresh, committed, trained_here)
        return fresh == committed

    for trained_here in (True, False):
        assert after([stream("kd: 92.8 %\n")], [stream("kd: 92.7 %\n")], trained_here) == trained_here
        assert not after([stream("kd: 92.8 %\n")], [stream("ce: 92.8 %\n")], trained_here)
        assert not after([stream("1 %\n")], [stream("1 %\n"), stream("2 %\n")], trained_here)
    near = pixels(0.6 * NEAR_IF_TRAINED)
    assert after([shown(drawing(shift=near), "test 1")], [shown(drawing(), "test 2")], True)
    assert not after([shown(drawing(shift=near))], [shown(drawing())], False)
    assert not after([shown(drawing(curves=1))], [shown(drawing())], True)
    assert not after([shown(drawing(label="falls"))], [shown(drawing())], True)


def test_the_difference_is_said():
    assert reconcile([shown(drawing(label="falls"))], [shown(drawing())], False) == [
        "figure: the text 'rises' became 'falls'"
    ]


@pytest.mark.parametrize("text", ["off by 0.15 in 10 000", "off by  1.5e-3 in 10000", "off by −2 in 7"])
def test_words_are_what_is_left_without_numbers(text):
    assert re.sub(r"(# )+", "# ", as_words(text) + " ") == "off by # in # "


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Σ g·s is -1.493 and -0.000.", "Σ g·s is -1.493 and 0.000."),
        ("gain +0.00 [-0.41, +0.41]", "gain 0.00 [-0.41, +0.41]"),
        ("−0 and -0.001, 2-0, 1e-0, -0.00", "0 and -0.001, 2-0, 1e-0, 0.00"),
    ],
)
def test_a_zero_has_no_sign(text, plain):
    assert without_signs_of_zero(text) == plain
    fresh = [stream(text)]
    reconcile(fresh, [stream(plain)], False)
    assert fresh == [stream(plain)]
    assert differ_in(drawing(label=text), drawing(label=plain)) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("z = [4.21548, -1.50325]", "z = [4.21549, -1.50325]", True),
        ("z = [4.21548, -1.50325]", "z = [4.2155, -1.50324]", False),  # two in the last place
        ("z = [4.21549]", "z = [4.2155]", True),  # a last 0 is not printed
        ("τ = 4.04", "τ = 4.05", False),
        ("-0.00001", "0.00000", True),
        ("1.5e-07", "1.6e-07", False),
        ("4.21548 nats", "4.21549 bits", False),
        ("1.00000 2.00000", "1.00000", False),
    ],
)
def test_the_last_of_many_decimals_is_the_processors(one, other, same):
    assert same_text(one, other) == same_text(other, one) == same
