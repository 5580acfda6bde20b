"""Formulas as data: a small language for temperatures, read by Python and by the pages of the book.

A live figure runs without a kernel, so its page must compute a temperature rule by itself. What it computes is stated
once, beside the rule's row in `adakd.methods`, as a text such as ``"c2 * max(max(zt), max(zs))"``. Python's own parser
reads it; the page gets the tree as JSON and evaluates it without ``eval``; tests hold both to the library's rule.

A value is a row of numbers, one a class, or a single number; arithmetic (``+ - * / **``) goes entry by entry.

==========================================================  ===========================================================
names                                                       meaning
==========================================================  ===========================================================
``zs``, ``zt``                                              logits of student and teacher as the rule reads them, rows
``K``, ``epoch``, ``pi``                                    classes; the epoch, counted from 1; the number
``c2``, ``c2_lower``                                        factors of the maximum logit (Eq. 20) and of its other end
an option of the rule (``tau``, ``floor``)                  its number in this row
``abs exp log sqrt cos tanh sigmoid``                       entry by entry
``max min``                                                 of one row; of several values, entry by entry
``sum mean std lse entropy count``                          of one row (``std`` of the population, ``entropy`` of its
                                                            softmax, ``count`` of its entries)
``softmax log_softmax``                                     row -> row
``norm cosine(a, b)``                                       Euclidean length; cosine of two rows
``clip(x, low, high)``, ``where(a < b, x, y)``              bounded; chosen by a comparison (``< <= > >=``)
``label(row)``, ``others(row)``                             the labelled class's entry; the row without it
``batch_max batch_min batch_mean batch_median``             of a number over the samples of a batch
==========================================================  ===========================================================
"""

import ast
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .series import lower_factor, upper_factor

__all__ = ["CONSTANTS", "LiveRule", "Tree", "evaluate", "names", "numbers", "parse"]

Tree = float | str | list[Any]
"""A number, a name, or ``[operation, argument, …]``: what JSON can hold."""

CONSTANTS = {"pi": math.pi, "c2": upper_factor(2), "c2_lower": lower_factor(2)}

# Functions that are only shorthand. Python writes them out, so that the page need not know them.
_SHORTHAND: dict[str, tuple[tuple[str, ...], str]] = {
    "mean": (("x",), "sum(x) / count(x)"),
    "std": (("x",), "sqrt(mean((x - mean(x)) ** 2))"),
    "norm": (("x",), "sqrt(sum(x * x))"),
    "softmax": (("x",), "exp(x - lse(x))"),
    "log_softmax": (("x",), "x - lse(x)"),
    "entropy": (("x",), "-sum(softmax(x) * log_softmax(x))"),
    "cosine": (("a", "b"), "sum(a * b) / (norm(a) * norm(b))"),
    "clip": (("x", "low", "high"), "min(high, max(low, x))"),
}


def _highest(x: Tensor) -> Tensor:
    return x.amax(dim=-1, keepdim=True)


def _lowest(x: Tensor) -> Tensor:
    return x.amin(dim=-1, keepdim=True)


def _median(x: Tensor) -> Tensor:
    ordered = x.flatten().sort().values
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


# What both evaluators know: this one, in PyTorch, and adakd/explore/static/expression.js. Rows are (B, K), numbers (B, 1).
_OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    "*": torch.mul,
    "/": torch.div,
    "**": torch.pow,
    "<": torch.lt,
    "<=": torch.le,
    ">": torch.gt,
    ">=": torch.ge,
    "where": torch.where,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    **{name: getattr(torch, name) for name in ("abs", "exp", "log", "sqrt", "cos", "tanh", "sigmoid")},
    "highest": _highest,
    "lowest": _lowest,
    "sum": lambda x: x.sum(dim=-1, keepdim=True),
    "lse": lambda x: x.logsumexp(dim=-1, keepdim=True),
    "count": lambda x: x.new_tensor(float(x.shape[-1])),
    "batch_max": torch.max,
    "batch_min": torch.min,
    "batch_mean": torch.mean,
    "batch_median": _median,
}
_OF_LABEL = ("label", "others")  # read the label besides
_ARGUMENTS = {"where": 3}  # all others of a call take one
_SYMBOLS: dict[type, str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}


def parse(text: str, parts: Mapping[str, str] | None = None) -> Tree:
    """The tree of an expression, with shorthand and named parts written out.

    Args:
        text: in the language above, which is a part of Python's.
        parts: further names, each an expression that may use the names before it.

    Raises:
        ValueError: for what is not of the language.

    >>> parse("c2 * max(max(zt), 1)")
    ['*', 'c2', ['maximum', ['highest', 'zt'], 1]]
    """
    known: dict[str, Tree] = {}
    for name, part in (parts or {}).items():
        known[name] = _parse(part, known)
    return _parse(text, known)


def _parse(text: str, known: Mapping[str, Tree]) -> Tree:
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"expected an expression, got {text!r}: {error.msg}") from error
    return _tree(node, known, text)


def _tree(node: ast.expr, known: Mapping[str, Tree], text: str) -> Tree:
    def inner(node: ast.expr) -> Tree:
        return _tree(node, known, text)

    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return value
        case ast.Name(id=name):
            return known.get(name, name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return ["-", 0, inner(operand)]
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _SYMBOLS:
            return [_SYMBOLS[type(operator)], inner(left), inner(right)]
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in _SYMBOLS:
            return [_SYMBOLS[type(operator)], inner(left), inner(right)]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if arguments:
            return _call(name, [inner(argument) for argument in arguments], text)
    raise ValueError(
        f"{ast.unparse(node)!r} in {text!r} is not of the language of expressions; see adakd.expression"
    )


def _call(name: str, arguments: list[Tree], text: str) -> Tree:
    if name in ("max", "min"):
        if len(arguments) == 1:
            return ["highest" if name == "max" else "lowest", *arguments]
        first, *rest = arguments
        for one in rest:
            first = [f"{name}imum", first, one]
        return first
    if name in _SHORTHAND:
        parameters, formula = _SHORTHAND[name]
        wanted = len(parameters)
    else:
        wanted = _ARGUMENTS.get(name, 1)
        if name in ("maximum", "minimum", "highest", "lowest") or name not in (*_OPERATIONS, *_OF_LABEL):
            raise ValueError(f"{name!r} in {text!r} is no function of the language; see adakd.expression")
    if len(arguments) != wanted:
        raise ValueError(f"{name} in {text!r}: expected {wanted} arguments, got {len(arguments)}")
    if name in _SHORTHAND:
        return _parse(formula, dict(zip(parameters, arguments, strict=True)))
    return [name, *arguments]


def names(tree: Tree) -> set[str]:
    """The names and operations that a tree uses.

    >>> sorted(names(parse("tau * max(zt)")))
    ['*', 'highest', 'tau', 'zt']
    """
    if isinstance(tree, str):
        return {tree}
    return set().union(*map(names, tree)) if isinstance(tree, list) else set()


def numbers(component: type, options: Mapping[str, Any]) -> dict[str, float]:
    """The options of a part that are numbers: its defaults, and over them a row's own.

    >>> from adakd import DTKD
    >>> numbers(DTKD, {"tau": 2.0, "magnitude": "max"})
    {'tau': 2.0, 'floor': 0.01}
    """
    parameters = inspect.signature(component).parameters.values()
    known = {p.name: options.get(p.name, p.default) for p in parameters}
    return {
        name: value
        for name, value in known.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def evaluate(tree: Tree, scope: Mapping[str, Any], target: Tensor | None = None) -> Tensor:
    """The value of a tree, differentiable.

    Args:
        tree: from `parse`.
        scope: what the names stand for, numbers and tensors: ``zs`` and ``zt`` (B, K) and the options.
        target: labels (B,), for ``label`` and ``others``.

    Returns:
        (B, 1), or (1, 1) or () where all samples share it.

    Raises:
        ValueError: for a name that the scope does not have, or a label where there is no target.

    >>> zt = torch.tensor([[1.0, 3.0]])
    >>> evaluate(parse("tau + max(zt)"), {"zt": zt, "tau": 1.5})
    tensor([[4.5000]])
    """
    if isinstance(tree, (int, float)):
        return scope["zt"].new_tensor(float(tree))
    if isinstance(tree, str):
        if tree not in scope and tree not in CONSTANTS:
            raise ValueError(f"name {tree!r}: expected one of {', '.join([*CONSTANTS, *scope])}")
        value = scope.get(tree, CONSTANTS.get(tree))
        return value if isinstance(value, Tensor) else scope["zt"].new_tensor(float(value))
    operation, *arguments = tree
    values = [evaluate(argument, scope, target) for argument in arguments]
    if operation not in _OF_LABEL:
        return _OPERATIONS[operation](*values)
    if target is None:
        raise ValueError(f"{operation}: needs labels, and there is no target")
    (row,) = values
    chosen = torch.zeros_like(row, dtype=torch.bool).scatter(1, target[:, None], True)
    return (row[chosen] if operation == "label" else row[~chosen]).view(len(row), -1)


@dataclass(frozen=True)
class LiveRule:
    """How a page computes the temperatures of a rule: expressions, and what the zoo of chapter 7 says of them."""

    student: str
    """Temperature of the student, an expression."""
    teacher: str = ""
    """Temperature of the teacher; the student's where it is left out."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Names for parts of both, each an expression."""
    in_graph: bool = False
    """Whether the student's gradient goes through the temperature; as a constant otherwise."""
    learned: Mapping[str, float] = field(default_factory=dict)
    """Parameters by name, each with its first value; the playground trains them as CTKD does, against the student."""
    printed: tuple[str, str] | None = None
    """Student's and teacher's as the source prints them, where the library keeps them above 0 and the source does not."""
    reach: tuple[str, str] | None = None
    """Lowest and highest temperature that there can be: of standardized rows where the rule's source standardizes."""
    name: str = ""
    """In the zoo; the row's own where it is left out."""
    group: str = "others"
    """Heading in the zoo."""
    note: str = ""
    """A sentence for the zoo's card: what was decided for the figure."""

    @property
    def trees(self) -> tuple[Tree, Tree]:
        """Of the student and of the teacher."""
        return parse(self.student, self.parts), parse(self.teacher or self.student, self.parts)

    def temperatures(
        self,
        student: Tensor,
        teacher: Tensor,
        options: Mapping[str, Any],
        target: Tensor | None = None,
        epoch: int = 1,
        *,
        printed: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Temperatures of a batch by the expressions, student's and teacher's: what a page computes, in PyTorch.

        Args:
            student: logits (B, K) as the rule reads them.
            teacher: the same of the teacher.
            options: numbers by name, see `numbers`.
            target: labels (B,).
            epoch: counted from 1.
            printed: as the source prints them, without the library's guard.

        Raises:
            ValueError: for a name that is none of the language's and no option, or where nothing else is printed.
        """
        if printed and self.printed is None:
            raise ValueError("printed: the source has the library's formula")
        trees = [parse(text, self.parts) for text in self.printed] if printed and self.printed else self.trees
        scope = {"zs": student, "zt": teacher, "K": student.shape[1], "epoch": epoch}
        one, two = (evaluate(tree, {**options, **self.learned, **scope}, target) for tree in trees)
        return one, two
