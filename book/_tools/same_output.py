"""What `notebooks.py check` compares: text as it stands, a figure by what it shows. A plugin for pytest beside nbval.

The last bits of a number depend on the processor, and a figure writes them out: a coordinate moves by a hundredth, and
with it the id of its path, which matplotlib makes from the content. So ids are followed to what they name, coordinates
may differ by less than an eye sees, and everything else is compared: which shapes there are and in which order, their
colours and widths, every word.

A cell that shows what it has trained, here and now, has the tag ``trained-here``: rounding grows during training. Its
numbers are left out of the comparison, its words are not, and its curves may lie further apart.
"""

import base64
import re
import xml.etree.ElementTree as ElementTree
from io import BytesIO
from itertools import zip_longest

import numpy as np
from matplotlib.image import imread

SVG = "image/svg+xml"
TRAINED_HERE = "trained-here"
# In units of the figure, of which a still picture is 518 wide; a page draws them as pixels or a third larger.
NEAR, NEAR_IF_TRAINED = 1.5, 16.0
_STYLE_NEAR = 0.02  # widths, opacities
_COLOUR_NEAR = 4  # of 255: a colour can be made from a number
_NUMBER = re.compile(r"[-+−]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+−]?\d+)?")
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_DRAWN_AT = (
    "x",
    "y",
    "x1",
    "y1",
    "x2",
    "y2",
    "cx",
    "cy",
    "r",
    "rx",
    "ry",
    "width",
    "height",
    "points",
    "transform",
    "viewBox",
)
_MANY_DECIMALS = 5
_SIZES = re.compile(r"(?:scale|matrix|skew.)\([^)]*\)")  # parts of a transform that are no places
_PNG = "data:image/png;base64,"
_IMAGE_NEAR = 1 / 255  # in the mean over all pixels, each from 0 to 1
_SAID = ("aria-label", "alt")  # attributes that are words
_DROPPED = ("metadata", "style")  # the date of the drawing; a style sheet is the same in every figure


def differ_in(one: str, other: str, near: float = NEAR, numbers: bool = True) -> str | None:
    """What an eye would see that differs between two SVGs, in a sentence; None if nothing.

    Args:
        near: how far apart two coordinates may lie.
        numbers: whether the numbers in texts count.
    """
    try:
        roots = [ElementTree.fromstring(svg) for svg in (one, other)]
    except ElementTree.ParseError as error:
        return None if one == other else f"not an SVG: {error}"
    named = [{part.get("id"): part for part in root.iter() if part.get("id")} for root in roots]
    return _differ(*roots, *named, _Comparison(near, numbers))


class _Comparison:
    def __init__(self, near, numbers):
        self.near, self.numbers = near, numbers

    def words(self, text):
        return " ".join(without_signs_of_zero(text or "").split()) if self.numbers else as_words(text or "")


def without_signs_of_zero(text: str) -> str:
    """A text in which a number that is printed as 0 has no sign: on another processor its last bit has the other one."""
    return re.sub(r"(?<![\w.])[-+−](0(?:\.0+)?)(?![\w.]\d|\d)", r"\1", text)


def same_text(one: str, other: str) -> bool:
    """Whether two texts have the same words and numbers, where a number of five or more decimals may differ by one in its last.

    So many are the rounding of something computed, as in the arrays that a live figure is made of; of fewer, each counts.
    """
    one, other = without_signs_of_zero(one), without_signs_of_zero(other)
    return one == other or (
        _NUMBER.sub("#", one) == _NUMBER.sub("#", other)
        and all(map(_same_number, _NUMBER.findall(one), _NUMBER.findall(other)))
    )


def _same_number(one: str, other: str) -> bool:
    if one == other:
        return True
    if "e" in (one + other).lower():
        return False
    decimals = max(
        len(text.partition(".")[2]) for text in (one, other)
    )  # of a last 0, which may not be printed, too
    apart = abs(float(one.replace("−", "-")) - float(other.replace("−", "-")))
    return decimals >= _MANY_DECIMALS and apart < 1.5 * 10**-decimals


def as_words(text: str) -> str:
    """A text without its numbers, however many digits and spaces they took."""
    return " ".join(_NUMBER.sub(" # ", text).split())


def _tag(element):
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _drawn(element):
    """The children that are seen where they stand: a definition is seen where it is used."""
    return [child for child in element if _tag(child) not in ("defs", "clipPath", *_DROPPED, "")]


def _differ(one, other, known, others_known, how):
    if _tag(one) != _tag(other):
        return f"a {_tag(one)} became a {_tag(other)}"
    for text, others in ((one.text, other.text), (one.tail, other.tail)):
        if how.words(text) != how.words(others):
            return f"the text {(text or '').strip()!r} became {(others or '').strip()!r}"
    values, others_values = (
        {name.rpartition("}")[2]: value for name, value in part.attrib.items() if name != "id"}
        for part in (one, other)
    )
    if values.keys() != others_values.keys():
        return f"a {_tag(one)} has other attributes: {sorted(values.keys() ^ others_values.keys())}"
    for name, value in values.items():
        found = _attributes_differ(name, value, others_values[name], known, others_known, how)
        if found:
            return f"{found} (in a {_tag(one)})"
    for child, others_child in zip_longest(_drawn(one), _drawn(other)):
        if child is None or others_child is None:
            return f"a {_tag(child if child is not None else others_child)} is {'new' if child is None else 'missing'}"
        found = _differ(child, others_child, known, others_known, how)
        if found:
            return found
    return None


def _attributes_differ(name, value, other, known, others_known, how):
    if name == "href" and value.startswith("#") and other.startswith("#"):
        return _referred_differ(value[1:], other[1:], known, others_known, how)
    references, others_references = _REFERENCE.findall(value), _REFERENCE.findall(other)
    if references or others_references:
        if len(references) != len(others_references):
            return f"{name} became {other!r}"
        for reference, others_reference in zip(references, others_references, strict=True):
            found = _referred_differ(reference, others_reference, known, others_known, how)
            if found:
                return found
        value, other = (_REFERENCE.sub("url()", text) for text in (value, other))
    if name == "d":
        try:
            same = same_path(value, other, how.near)
        except ValueError:
            same = _same_values(value, other, how.near)
        return None if same else "a path has another shape"
    if name in _SAID:
        return None if how.words(value) == how.words(other) else f"{name} {value!r} became {other!r}"
    if value.startswith(_PNG) and other.startswith(_PNG):
        return None if _same_image(value, other) else "an image shows something else"
    if name == "transform" and not _same_values(
        *(" ".join(_SIZES.findall(text)) for text in (value, other)), _STYLE_NEAR
    ):
        return f"{name} {value!r} became {other!r}"
    near = how.near if name in _DRAWN_AT else _STYLE_NEAR
    return None if _same_values(value, other, near) else f"{name} {value!r} became {other!r}"


def _referred_differ(reference, other, known, others_known, how):
    one, two = known.get(reference), others_known.get(other)
    if one is None or two is None:
        return None if one is two else f"#{reference} or #{other} names nothing"
    if _tag(one) == _tag(two) == "clipPath":
        for child, others_child in zip_longest(one, two):
            if child is None or others_child is None:
                return "it is cut off otherwise"
            found = _differ(child, others_child, known, others_known, how)
            if found:
                return found
        return None
    return _differ(one, two, known, others_known, how)


def _parts(value):
    """A value of an attribute as words, colours (three integers) and numbers."""
    colour = r"#[0-9a-fA-F]{6}\b"
    for part in re.findall(rf"{colour}|{_NUMBER.pattern}|[^\W\d][\w-]*|\S", value):
        if re.fullmatch(colour, part):
            yield "colour", [int(part[at : at + 2], 16) for at in (1, 3, 5)]
        elif _NUMBER.fullmatch(part):
            yield "number", [float(part)]
        elif part != ",":
            yield part, []


def _same_values(value, other, near):
    for one, two in zip_longest(_parts(value), _parts(other)):
        if one is None or two is None or one[0] != two[0]:
            return False
        allowed = _COLOUR_NEAR if one[0] == "colour" else near
        if any(abs(a - b) > allowed for a, b in zip(one[1], two[1], strict=True)):
            return False
    return True


def _same_image(one, other):
    first, second = (
        imread(BytesIO(base64.b64decode(text.removeprefix(_PNG))), format="png") for text in (one, other)
    )
    return first.shape == second.shape and abs(first - second).mean() <= _IMAGE_NEAR


def same_path(one: str, other: str, near: float) -> bool:
    """Whether two paths are made of as many pieces, each of which lies within `near` of its counterpart.

    A curve is simplified where it is nearly straight, so the same one can have other corners.
    """
    pieces, others = _pieces(one), _pieces(other)
    if len(pieces) != len(others):
        return False
    for piece, other_piece in zip(pieces, others, strict=True):
        if piece.shape == other_piece.shape and (abs(piece - other_piece) <= near).all():
            continue
        if max(_distance(piece, other_piece), _distance(other_piece, piece)) > near:
            return False
        # A line that goes there and back is not the line that only goes there.
        if max(abs(piece[0] - other_piece[0]).max(), abs(piece[-1] - other_piece[-1]).max()) > near:
            return False
    return True


def _pieces(path):
    """The connected pieces of a path as matplotlib writes it, each its corners (N, 2); control points count as corners."""
    pieces = []
    for command, numbers in re.findall(r"([A-DF-Za-df-z])([^A-DF-Za-df-z]*)", path):  # an e is in a number
        values = [float(number) for number in _NUMBER.findall(numbers)]
        if command == "M":
            pieces.append([])
        if command in "Zz" and pieces:
            pieces[-1].append(pieces[-1][0])
        elif len(values) % 2 == 0 and command in "MLCSQT" and pieces:
            pieces[-1] += [values[at : at + 2] for at in range(0, len(values), 2)]
        else:
            raise ValueError(f"expected a path of M, L, C, S, Q, T and z, got {command}{numbers}")
    return [np.array(piece) for piece in pieces if piece]


def _distance(points, line):
    """The largest distance of a point from a line through corners; points halfway between corners count too."""
    points = np.concatenate([points, (points[1:] + points[:-1]) / 2])
    if len(line) == 1:
        return np.linalg.norm(points - line[0], axis=1).max()
    start, along = line[:-1], line[1:] - line[:-1]
    length = (along**2).sum(axis=1)
    offset = points[:, None] - start
    share = (offset * along).sum(axis=2) / np.where(length > 0, length, 1)
    nearest = offset - np.clip(share, 0, 1)[:, :, None] * along
    return np.linalg.norm(nearest, axis=2).min(axis=1).max()


# ---- with nbval ----


def reconcile(fresh, committed, trained_here: bool) -> list[str]:
    """Put the committed value wherever the fresh one shows the same, and say what else differs in figures."""

    def alike(one: str, other: str) -> bool:
        return as_words(one) == as_words(other) if trained_here else same_text(one, other)

    found = []
    kinds = {kind for output in (*fresh, *committed) for kind in output.get("data", {})}
    for kind in kinds:
        holding, others = (
            [output for output in outputs if kind in output.get("data", {})] for outputs in (fresh, committed)
        )
        for output, other in zip(holding, others, strict=False):
            new, old = output["data"][kind], other["data"][kind]
            if kind == SVG:
                difference = differ_in(
                    old, new, NEAR_IF_TRAINED if trained_here else NEAR, numbers=not trained_here
                )
                same = difference is None
                found += [] if same else [f"figure: {difference}"]
            else:
                same = isinstance(new, str) and isinstance(old, str) and alike(new, old)
            if same:
                output["data"][kind] = old
    streams, others = ([output for output in outputs if "text" in output] for outputs in (fresh, committed))
    for output, other in zip(streams, others, strict=False):
        if alike(output["text"], other["text"]):
            output["text"] = other["text"]
    return found


def pytest_itemcollected(item):
    # Seconds that nbval waits for an output after the cell's end: 5, and on a busy machine that is not the cell's fault.
    item.output_timeout = 600


def pytest_configure(config):
    from nbval.plugin import IPyNbCell

    exactly = IPyNbCell.compare_outputs

    def compare_outputs(cell, fresh, committed, skip_compare=None):
        # nbval has no hook for this; what it is given is compared exactly, so what is the same is made equal before.
        found = reconcile(fresh, committed, TRAINED_HERE in cell.cell.metadata.get("tags", []))
        same = exactly(cell, fresh, committed, skip_compare)
        cell.comparison_traceback[:0] = found
        return same

    IPyNbCell.compare_outputs = compare_outputs
    config.add_cleanup(lambda: setattr(IPyNbCell, "compare_outputs", exactly))
