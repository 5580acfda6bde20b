"""Where a picture is on the page, asked in one go: a figure that redraws replaces its SVG, between any two questions."""

_BOX = "([selector, n]) => document.querySelectorAll(selector)[n].getBoundingClientRect().toJSON()"


def box_of(page, selector, n=0):
    """x, y, width and height of the n-th element that matches."""
    return page.evaluate(_BOX, [selector, n])
