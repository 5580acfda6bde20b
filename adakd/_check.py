"""Checks of user input shared by every room: errors that say what was expected, what came, and what to do."""

import difflib
import math
import numbers
import operator
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.parameter import is_lazy

__all__ = [
    "FLOATS",
    "NO_LABEL",
    "NotFiniteError",
    "at_least_fp32",
    "brief",
    "check_device",
    "check_file",
    "check_filled",
    "check_finite",
    "check_finite_options",
    "check_float",
    "check_folder",
    "check_kind",
    "check_label_shape",
    "check_labels",
    "check_logits",
    "check_method_name",
    "check_name",
    "check_numbers",
    "check_path",
    "check_probabilities",
    "check_tensor",
    "check_trainable",
    "check_whole",
    "label_ends",
    "may_read",
    "near_names",
    "printable",
    "read",
    "transformed",
    "value_of",
]

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# For `F.cross_entropy`, where `ignore_index` of ours alone says what is left out: torch's default would silently leave out -100.
NO_LABEL = -(2**62)


def printable(text: object) -> str:
    r"""A text from a file as it may reach a terminal: what would steer it becomes a visible escape.

    Control characters (also those of the C1 range, which some terminals obey), line and paragraph separators, marks that
    turn the direction of writing, and lone surrogates, which no output could encode.

    >>> printable("kd\x1b[31m, τ = 4")
    'kd\\x1b[31m, τ = 4'
    """
    # Cc, Cf: control and format; Cs: surrogates; Zl, Zp: separators that break lines.
    steering = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in steering
        else character
        for character in str(text)
    )


# What a file system, a shell and a table all take as one plain word; "+" stands in names of methods.
_NAME = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,99}")
# No file of Windows can be called so.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


class NotFiniteError(FloatingPointError, ValueError):
    """Numbers that are NaN or infinite: wrong input, or a training that has diverged."""


def brief(value: object) -> str:
    """A value as an error shows it: written as in Python, and no longer than a line takes.

    >>> brief("x" * 100)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…"
    """
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:60]}…"


def check_name(kind: str, name: str) -> None:
    """Raise ValueError unless a name can stand in a folder's name, and cannot lead out of its folder.

    >>> check_name("recipe", "../x")
    Traceback (most recent call last):
    ValueError: recipe: expected a name of letters, digits, ".", "_", "+" and "-" that does not begin with a dot, got '../x'
    """
    if isinstance(name, str) and _DEVICE.fullmatch(name):
        raise ValueError(f"{kind}: expected a name that Windows does not keep for a device, got {brief(name)}")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f'{kind}: expected a name of letters, digits, ".", "_", "+" and "-" that does not begin with a dot, '
            f"got {brief(name)}"
        )


def check_numbers(expected: str, **options: Any) -> None:
    """Raise TypeError naming the first option that is no real number; what a comparison says of it names nothing.

    >>> check_numbers("a number above 0", tau="4")
    Traceback (most recent call last):
    TypeError: tau: expected a number above 0, got '4'
    """
    for name, value in options.items():
        one = isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()
        if not (one or isinstance(value, numbers.Real)):
            raise TypeError(f"{name}: expected {expected}, got {brief(value)}")


def check_finite_options(**options: Any) -> None:
    """Raise ValueError naming the first option that is NaN or infinite, and TypeError for one that is no number.

    >>> check_finite_options(alpha=1.0, beta=math.inf)
    Traceback (most recent call last):
    ValueError: beta: expected a finite number, got inf
    """
    check_numbers("a finite number", **options)
    for name, value in options.items():
        if not math.isfinite(value):
            raise ValueError(f"{name}: expected a finite number, got {value!r}")


def check_whole(least: int | None = None, **options: Any) -> None:
    """Raise ValueError naming the first option that is no integer, or below the least.

    >>> check_whole(1, width=128, negatives=math.nan)
    Traceback (most recent call last):
    ValueError: negatives: expected a whole number of at least 1, got nan
    """
    for name, value in options.items():
        try:
            number = operator.index(value)
        except TypeError:
            number = None
        if number is None or isinstance(value, bool) or (least is not None and number < least):
            bound = "" if least is None else f" of at least {least}"
            raise ValueError(f"{name}: expected a whole number{bound}, got {brief(value)}")


def check_path(expected: str, **paths: Any) -> None:
    """Raise TypeError naming the first argument that can be no path.

    >>> check_path("a folder", out=3)
    Traceback (most recent call last):
    TypeError: out: expected a folder, as a text or a path, got 3
    """
    for name, value in paths.items():
        if not isinstance(value, str | os.PathLike):
            raise TypeError(f"{name}: expected {expected}, as a text or a path, got {brief(value)}")
        if "\0" in str(value):
            raise ValueError(f"{name}: expected {expected}, whose name holds no NUL, got {brief(value)}")


def check_file(expected: str, **paths: Any) -> None:
    """As `check_path`, for what is read as a file; IsADirectoryError for a folder."""
    check_path(expected, **paths)
    for name, value in paths.items():
        if Path(value).is_dir():
            raise IsADirectoryError(f"{name}: expected {expected}, got the folder {brief(str(value))}")


def check_kind(kind: type | tuple[type, ...], expected: str, **given: Any) -> None:
    """Raise TypeError naming the first argument that is of another kind.

    >>> check_kind(str, "a name", name=3)
    Traceback (most recent call last):
    TypeError: name: expected a name, got 3
    """
    for name, value in given.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name}: expected {expected}, got {brief(value)}")


def check_folder(**folders: str | os.PathLike[str]) -> None:
    """Raise NotADirectoryError naming the first argument in whose place, or above it, there is a file."""
    for name, value in folders.items():
        place = Path(value).absolute()
        there = next((each for each in (place, *place.parents) if os.path.lexists(each)), place)
        if there.exists() and not there.is_dir():
            raise NotADirectoryError(f"{name}: expected a folder, got the file {there}; name another place")


def check_method_name(name: Any) -> None:
    """Raise ValueError unless a method's name can stand in a folder's name: parts between "+", each a plain word, or a name
    of Python's, as of the class of somebody's loss.

    >>> check_method_name("../escaped")
    Traceback (most recent call last):
    ValueError: method: expected a name of letters, digits, ".", "_", "+" and "-" that does not begin with a dot, got '../escaped'
    """
    parts = name.split("+") if isinstance(name, str) else [""]
    if not all(
        part.isidentifier() or _NAME.fullmatch(part) for part in parts
    ):  # a sum may be longer than a word
        check_name("method", name)


# What an option is called elsewhere, and here: too far apart to be found by their letters.
_CALLED_HERE = {"temperature": "tau", "temp": "tau", "t": "tau"}


def near_names(
    kind: str,
    name: str,
    known: Iterable[str],
    shown: Iterable[str] | None = None,
    listed_by: str | None = None,
) -> str:
    """The text of an error about an unknown name: the nearest known ones first, then all, or those to be shown.

    With `listed_by`, the command that lists them all, it stands for a long list where there are near names.

    >>> near_names("option of kd:", "temperature", ["kd_weight", "tau"])
    "unknown option of kd: 'temperature'. Did you mean 'tau'? Known: kd_weight, tau"
    >>> near_names("method", "kdd", ["ce", "kd"], listed_by="`adakd methods`")
    "unknown method 'kdd'. Did you mean 'kd'? `adakd methods` lists all"
    """
    known, wanted = sorted(known), str(name)[:60].lower()
    of, dot, last = wanted.rpartition(".")  # an option of one term of a sum: "crd.tau"
    if kind.startswith("option of") and last in _CALLED_HERE:
        here = _CALLED_HERE[last]
        near = [each for each in known if each == of + dot + here or (not of and each.endswith(f".{here}"))][:3]
    else:
        near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    if hint and listed_by is not None:
        return f"unknown {kind} {brief(name)}.{hint} {listed_by} lists all"
    return f"unknown {kind} {brief(name)}.{hint} Known: {', '.join(known if shown is None else shown)}"


def check_filled(network: nn.Module, role: str) -> None:
    """Raise ValueError if parameters or buffers of a network hold no numbers yet: on the meta device, or of lazy layers."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    if lazy := [name for name, each in tensors.items() if is_lazy(each)]:
        raise ValueError(
            f"{role}: expected a network that knows its shapes, got lazy layers ({lazy[0]}); call it once on a batch"
        )
    if absent := [name for name, each in tensors.items() if each.is_meta]:
        raise ValueError(
            f"{role}: expected weights, got {absent[0]} on the meta device, which holds none; build the network on the "
            "CPU, or give a function that builds it"
        )


def check_trainable(network: nn.Module) -> None:
    """Raise ValueError if a network is none that a run can train: its parameters must be there, real, not all frozen, and
    not all of them in half precision."""
    parameters = list(network.parameters())
    if not parameters:
        raise ValueError(
            f"student: expected a network with parameters to be trained, got {type(network).__name__}, which has none"
        )
    check_filled(network, "student")
    if wrong := [(each.dtype, name) for name, each in network.named_parameters() if each.is_complex()]:
        raise ValueError(
            f"student: expected real parameters, got {wrong[0][0]} ({wrong[0][1]}); keep real and imaginary part "
            "as two, torch.view_as_real()"
        )
    formats = {each.dtype for each in parameters if each.is_floating_point()}
    if formats and not formats & {torch.float32, torch.float64}:
        raise ValueError(
            f"student: expected parameters in torch.float32, got {', '.join(sorted(map(str, formats)))}; call .float() on "
            "it (precision= chooses the format of the steps)"
        )
    if not any(each.requires_grad for each in parameters):
        raise ValueError(
            "student: expected a network to be trained, got one whose parameters are all frozen; call requires_grad_(True) "
            "of what is to learn"
        )


def may_read(tensor: Tensor) -> bool:
    """Whether a value may be read for a check: on an accelerator it would stall, in a compiled step break the graph."""
    return tensor.is_cpu and not torch.compiler.is_compiling()


def transformed() -> bool:
    """Whether a transform of `torch.func` (vmap, grad, jvp) or forward-mode differentiation is at work."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def read(scalar: Tensor) -> float | int | bool | None:
    """The value of a scalar, or None where none may be read, or where it is many: inside `torch.vmap`."""
    return value_of(scalar) if may_read(scalar) else None


def value_of(scalar: Tensor) -> float | int | bool | None:
    """The value of a scalar that may be read; None inside `torch.vmap`, where it is many."""
    try:
        return scalar.item()
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        return None


def at_least_fp32(tensor: Tensor) -> Tensor:
    """The same numbers, in fp32 where they are in half precision."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def check_tensor(name: str, value: Any, expected: str, remedy: str) -> None:
    """Raise TypeError unless it is a dense tensor."""
    if not isinstance(value, Tensor):
        got = type(value)
        where = "" if got.__module__ == "builtins" else f"{got.__module__}."
        raise TypeError(f"{name}: expected {expected}, got {where}{got.__qualname__}; {remedy}")
    if value.layout != torch.strided or value.is_nested:
        kind = "a nested tensor" if value.is_nested else str(value.layout)
        raise TypeError(
            f"{name}: expected {expected} with torch.strided layout, got {kind}; call to_dense() first"
        )


def check_float(name: str, value: Any) -> None:
    """Raise TypeError unless it is a dense tensor of floating-point numbers."""
    if isinstance(value, (list, tuple)):  # and no union, of which the compiler of torch 2.4 knows nothing
        remedy = "call the loss once for each network, and add or average what comes back"
    else:
        remedy = "convert it with torch.as_tensor()"
    expected = "a floating-point tensor of shape (batch, classes)"
    check_tensor(name, value, expected, remedy)
    if value.dtype not in FLOATS:
        raise TypeError(
            f"{name}: expected {expected}, float16, bfloat16, float32 or float64, got {value.dtype}; "
            "logits are what a network gives before softmax or argmax, call .float() if these are"
        )


def check_logits(student: Tensor, teacher: Tensor | None, target: Tensor, name: str = "student") -> None:
    """Raise unless student and teacher are (B, K) of one shape, K >= 2, B >= 1, and target is (B,), on one device.

    Types and shapes only: nothing here reads a value, so nothing waits for the device.

    Args:
        name: of the first, in a message.

    Raises:
        TypeError: for anything but tensors, and for logits that are not floating-point numbers.
        ValueError: for other shapes, labels of another type, or tensors on several devices.
    """
    check_float(f"{name}_logits", student)
    if teacher is not None:
        check_float("teacher_logits", teacher)
    check_tensor(
        "target", target, "class labels, torch.int64 of shape (batch,)", "convert it with torch.as_tensor()"
    )
    if student.ndim != 2:
        raise ValueError(
            f"{name} logits: expected shape (batch, classes), got {tuple(student.shape)}; "
            "flatten other axes into the batch first"
        )
    batch, classes = student.shape
    if batch == 0:
        raise ValueError(f"{name} logits: the batch is empty (shape (0, K)); skip empty batches")
    if classes < 2:
        raise ValueError(f"{name} logits: expected at least 2 classes, got {classes}")
    if teacher is not None and teacher.shape != student.shape:
        if teacher.ndim == 2 and teacher.shape[1] != classes:
            raise ValueError(
                f"teacher and student disagree on the number of classes: {teacher.shape[1]} and {classes}; "
                "they must be trained on the same labels"
            )
        raise ValueError(
            f"teacher logits: expected the student's shape {tuple(student.shape)}, got {tuple(teacher.shape)}"
        )
    check_label_shape("target", target, (batch,))
    check_device(student, teacher=teacher, target=target)


def check_device(student: Tensor, teacher: Tensor | None, target: Tensor | None) -> None:
    """Raise ValueError unless teacher and target are where the student is."""
    for name, tensor in {"teacher logits": teacher, "target": target}.items():
        if tensor is not None and tensor.device != student.device:
            raise ValueError(
                f"{name}: expected them on the student's device {student.device}, got {tensor.device}; "
                f"move them there with .to({str(student.device)!r})"
            )


def check_label_shape(name: str, labels: Tensor, shape: Sequence[int], logits: Tensor | None = None) -> None:
    """Raise ValueError unless labels are torch.int64 of this shape.

    Args:
        logits: (…, classes), in whose shape probabilities are taken as well.
    """
    if labels.shape == shape and labels.dtype == torch.int64:
        return
    hint = ""
    if logits is not None and labels.shape == logits.shape:
        hint = "; if they are one-hot, call .float() to give probabilities"
    elif logits is not None and logits.ndim > 2 and labels.shape == logits.shape[:1] + logits.shape[2:]:
        hint = "; classes are the last axis: logits.movedim(1, -1)"
    elif logits is not None:
        hint = " (probabilities have the logits' shape)"
    raise ValueError(
        f"{name}: expected {math.prod(shape)} class labels, torch.int64 of shape {tuple(shape)}, "
        f"got {labels.dtype} of shape {tuple(labels.shape)}{hint}"
    )


def label_ends(target: Tensor) -> tuple[int, int] | None:
    """Lowest and highest label, which may be read; None inside `torch.vmap`."""
    low, high = map(value_of, target.aminmax())
    return None if low is None or high is None else (int(low), int(high))


def check_labels(target: Tensor, classes: int, ignore_index: int | None = None, name: str = "target") -> None:
    """Raise ValueError naming the first label (N,) outside 0..K-1, where values may be read."""
    if not may_read(target):
        return
    ends = label_ends(target)
    if ends is None or (ends[0] >= 0 and ends[1] < classes):
        return
    bad = (target < 0) | (target >= classes)
    row = int(bad.nonzero()[0])
    from_one = "they seem to count from 1, so subtract 1; " if 1 <= ends[0] < ends[1] == classes else ""
    raise ValueError(
        f"{name}: expected labels from 0 to {classes - 1}, got {target[row]} in row {row} "
        f"({int(bad.sum())} of {len(target)} rows are out of range); {from_one}rows without a label: "
        + (
            "leave them out, in logits and labels alike"
            if ignore_index is None
            else f"give them the label {ignore_index}, which is left out, or say yours with ignore_index="
        )
    )


def check_probabilities(target: Tensor) -> None:
    """Raise ValueError naming the first row (N, K) that is no distribution, to a hundredth, where values may be read."""
    if not may_read(target):
        return
    target = target.detach()
    wrong = ~((target >= 0).all(dim=-1) & ((target.sum(dim=-1) - 1).abs() <= 0.01))
    if not value_of(wrong.any()):  # also None: inside `torch.vmap`
        return
    row = int(wrong.nonzero()[0])
    low, total = target[row].amin().item(), target[row].sum().item()
    raise ValueError(
        f"target: expected probabilities, at least 0 with a sum of 1 in each row, got a row with a least value of {low:g} and "
        f"a sum of {total:g} (row {row}; {int(wrong.sum())} of {len(target)} rows are wrong); divide each row by its sum, or "
        "pass integer labels"
    )


def check_finite(**tensors: Tensor | None) -> None:
    """Raise NotFiniteError (a ValueError) naming the first row of any tensor that holds NaN or infinity. Reads values, on any device."""
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.is_cpu:
            # The cheapest look at all of them. The sum of finite numbers may overflow: then the rows say what it is.
            total = value_of(tensor.detach().sum())
            if total is None or math.isfinite(total):
                continue
        if torch.isfinite(tensor).all():
            continue
        bad = ~torch.isfinite(tensor).all(dim=-1)
        rows = bad.nonzero().flatten().tolist()
        masked = torch.isneginf(tensor).any() and not (torch.isnan(tensor) | torch.isposinf(tensor)).any()
        remedy = (
            "minus infinity masks a class: drop masked classes from student and teacher before the loss"
            if masked
            else "lower the learning rate, or look for the step that produced it"
        )
        raise NotFiniteError(
            f"{name}: {len(rows)} of {bad.numel()} rows hold NaN or infinity (first: row {rows[0]}); {remedy}"
        )
