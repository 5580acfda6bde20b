"""The still figures' style: deterministic, transparent, described, readable on light and on dark."""

import re
import xml.etree.ElementTree as ElementTree

import matplotlib.pyplot as plt
import pytest

from adakd.explore import COLORS, picture, use_style


def draw(alt="One line rises."):
    use_style()
    figure, ax = plt.subplots()
    ax.plot([1, 2], [1, 3])
    ax.set(xlabel="temperature τ", title="A < B & C")
    return picture(figure, alt)


def test_same_bytes_no_date_no_background():
    svg = draw().svg
    assert svg == draw().svg
    assert "dc:date" not in svg
    root = ElementTree.fromstring(svg)
    background = root.find(".//*[@id='patch_1']/*")
    assert (
        background is None or "opacity: 0" in background.get("style") or "fill: none" in background.get("style")
    )


def test_text_stays_text_in_the_readers_font():
    svg = draw().svg
    assert "temperature τ</text>" in svg
    assert "DejaVu" not in svg


def test_alternative_text():
    shown = draw("KL < 1 & falling.")
    assert repr(shown) == "KL < 1 & falling."
    title = ElementTree.fromstring(shown.svg).find("{http://www.w3.org/2000/svg}title")
    assert title.text == "KL < 1 & falling."
    with pytest.raises(ValueError, match="alt"):
        draw(" ")


def test_figures_are_closed():
    before = plt.get_fignums()
    draw()
    assert plt.get_fignums() == before


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("page", ["#ffffff", "#14181e"])  # the book's theme, light and dark
@pytest.mark.parametrize("name", COLORS)
def test_contrast(name, page):
    low, high = sorted((luminance(COLORS[name]), luminance(page)))
    assert (high + 0.05) / (low + 0.05) > 3.8


def test_coordinates_are_rounded_and_words_are_not():
    use_style()
    figure, ax = plt.subplots()
    ax.plot([1, 2], [1, 1.23456789])
    ax.set_title("c = 1.3660254")
    svg = picture(figure, "A line.").svg
    assert "c = 1.3660254</text>" in svg
    assert not re.search(r'\bd="[^"]*\.\d{3}', svg)
