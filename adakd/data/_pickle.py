"""Pickled data without unpickling them: NumPy arrays and plain containers are read, nothing is ever called.

`pickle` calls what a file tells it to call. Here `pickletools` of the standard library splits the file into its
operations, and this module carries out by hand those that make numbers, texts, lists, tuples, dicts and arrays; what a
file names beyond the few functions by which NumPy describes an array is refused by its name. Python 2's texts are read
as latin-1: one character a byte.

What a file can cost is bounded by its length: sizes that it only declares reserve nothing, each byte of it becomes part
of one array or text at most, and keys of dicts are texts (a tuple's hash can take for ever).
"""

import pickletools
import re
from collections.abc import Iterator
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np

__all__ = ["PickledArray", "read_pickle", "shown"]

_OPERATIONS = 1_000_000  # CIFAR-100's training file, the largest there is, has 260 000

# The functions and classes that pickled arrays name: as NumPy 1 and NumPy 2 call them, and Python's own helper for bytes
# in old formats.
_KNOWN = {
    (module, name): name
    for names, modules in {
        ("_reconstruct",): ("numpy.core.multiarray", "numpy._core.multiarray"),
        ("_frombuffer",): ("numpy.core.numeric", "numpy._core.numeric"),
        ("ndarray", "dtype"): ("numpy",),
        ("encode",): ("_codecs",),
        ("bytes",): ("__builtin__", "builtins"),  # called without arguments, where there are none
    }.items()
    for name in names
    for module in modules
}
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]")  # of fixed size and without objects in them

_PUSH = {
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}  # pickletools gives them no argument
_PUT, _GET = {"PUT", "BINPUT", "LONG_BINPUT"}, {"GET", "BINGET", "LONG_BINGET"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Name(NamedTuple):
    """What a pickle calls by its name; never the thing itself."""

    name: str


class _DType:
    """A NumPy dtype as a pickle describes it."""

    def __init__(self, code: Any):
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise ValueError(f"it holds an array of {shown(code)}, which is not of numbers")
        self.code = code
        self.order: Literal["<", ">", "|", "="] = "="

    def set_state(self, state: Any) -> None:
        # (version, byte order, nothing of a compound type, size, alignment, flags), as every plain type has it
        plain = (
            isinstance(state, tuple)
            and len(state) == 8
            and [type(part) for part in state] == [int, str, *[type(None)] * 3, int, int, int]
            and (state[0], *state[5:7]) == (3, -1, -1)
        )
        if not plain or state[1] not in ("<", ">", "|", "="):
            raise ValueError("it describes a dtype that has parts, or no byte order")
        self.order = state[1]


Order = Literal["C", "F"]  # whether rows or columns lie together


class PickledArray:
    """A NumPy array as a pickle describes it: made when needed, from bytes that were in the file."""

    def __init__(self) -> None:
        self.parts: tuple[bytes, _DType, tuple[int, ...], Order] | None = None

    def set_parts(self, raw: Any, dtype: Any, shape: Any, order: Order) -> None:
        if isinstance(raw, str):  # Python 2
            raw = raw.encode("latin-1")
        if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, _DType):
            raise ValueError("it describes an array without its bytes or dtype")
        if not isinstance(shape, tuple) or len(shape) > 8 or any(type(n) is not int or n < 0 for n in shape):
            raise ValueError("it describes an array without a shape")
        if prod(shape) * int(dtype.code[1]) != len(raw):
            declared = " x ".join(map(shown, shape))
            raise ValueError(
                f"it declares an array of {declared} values in {dtype.code} and holds {len(raw)} bytes"
            )
        self.parts = bytes(raw), dtype, shape, order

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or type(state[0]) is not int or state[0] != 1:
            raise ValueError("it describes an array by something else than (1, shape, dtype, order, bytes)")
        _, shape, dtype, fortran, raw = state
        if type(fortran) is not bool:
            raise ValueError("it describes an array without an order")
        self.set_parts(raw, dtype, shape, "F" if fortran else "C")

    def array(self) -> np.ndarray:
        """The array; it cannot be written to.

        Raises:
            ValueError: if the pickle has no description of what is in it.
        """
        if self.parts is None:
            raise ValueError("it names an array and does not say what is in it")
        raw, dtype, shape, order = self.parts
        return np.frombuffer(raw, np.dtype(dtype.code).newbyteorder(dtype.order)).reshape(shape, order=order)


def shown(value: Any) -> str:
    """A value from a file for an error's text: short, on one line, without what a terminal would obey."""
    if isinstance(value, int) and abs(value) >= 10**15:
        return "a number of more than 15 digits"
    if isinstance(value, str | bytes | int | float | None):
        text = ascii(value[:60] if isinstance(value, str | bytes) else value)
        return text if not isinstance(value, str | bytes) or len(value) <= 60 else f"{text}…"
    return f"a {type(value).__name__}"


def read_pickle(content: bytes) -> Any:
    """What a pickle holds: numbers, texts, bytes, lists, tuples, dicts, and a `PickledArray` for each NumPy array.

    Raises:
        ValueError: for anything else: what is cut, damaged, or names code.
    """
    try:
        return _Reader(len(content)).read(content)
    except ValueError as error:
        # pickletools quotes what it cannot read, which may be the whole file.
        text = str(error)
        raise ValueError(text if len(text) <= 200 else f"{text[:200]}…") from error
    except (
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        MemoryError,
        RecursionError,
        AttributeError,
    ) as error:
        # An operation whose operands are missing or of another kind.
        raise ValueError(f"its operations do not fit together ({type(error).__name__})") from error


class _Reader:
    """The stack machine that a pickle is a program for, with no operation that calls anything."""

    def __init__(self, size: int):
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # what lies below each open mark
        self.memo: dict[int, Any] = {}
        self.left = size  # how many bytes of arrays may still be made from the file's texts

    def read(self, content: bytes) -> Any:
        operations: Iterator[tuple[Any, Any, Any]] = pickletools.genops(content)
        for count, (operation, argument, position) in enumerate(operations):
            if count >= _OPERATIONS:
                raise ValueError(f"it has more than {_OPERATIONS} operations")
            name = operation.name
            if name in _PUSH:
                self.stack.append(_CONSTANTS.get(name, argument))
            elif name in _PUT:
                self.memo[argument] = self.stack[-1]
            elif name in _GET:
                self.stack.append(self.memo[argument])
            elif name == "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            elif name == "STOP":
                value = self.stack.pop()
                if self.stack or self.outer or position + 1 != len(content):
                    raise ValueError("it goes on after its end")
                return value
            elif name not in ("PROTO", "FRAME"):
                self._build(name, argument)
        raise ValueError("it has no end")

    def _build(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name == "MARK":
            self.outer.append(stack)
            self.stack = []
        elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"):
            stack.append({"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}[name]())
        elif name in ("LIST", "TUPLE"):
            values = self._since_mark()
            self.stack.append(values if name == "LIST" else tuple(values))
        elif name in _TUPLES:
            length = _TUPLES[name]
            if len(stack) < length:
                raise IndexError
            stack[-length:] = [tuple(stack[-length:])]
        elif name in ("APPEND", "APPENDS"):
            values = [stack.pop()] if name == "APPEND" else self._since_mark()
            self._top(list).extend(values)
        elif name in ("SETITEM", "SETITEMS", "DICT"):
            values = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._since_mark()
            if name == "DICT":
                self.stack.append({})
            target = self._top(dict)
            for key, value in zip(values[::2], values[1::2], strict=True):
                if not isinstance(key, str | bytes):
                    raise ValueError(f"it holds a dict with {shown(key)} as a key, and a text was expected")
                target[key] = value
        elif name == "GLOBAL":
            self._name(*argument.split(" ", 1))
        elif name == "STACK_GLOBAL":
            self._name(*[stack.pop(-2), stack.pop()])
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(self._describe(stack.pop(), arguments))
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], PickledArray | _DType):
                raise ValueError(f"it sets the state of {shown(stack[-1])}")
            if isinstance(stack[-1], PickledArray) and isinstance(state, tuple):
                self._spend_copied(state[-1])
            stack[-1].set_state(state)
        else:
            raise ValueError(f"it uses the operation {name}, for which data have no use")

    def _since_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.outer.pop()
        return values

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise TypeError
        return self.stack[-1]

    def _spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise ValueError("it makes more out of its bytes than there are")

    def _spend_copied(self, raw: Any) -> None:
        """What an array's bytes cost: bytes are taken as they are, and of all else a copy is made."""
        if isinstance(raw, str | bytearray):
            self._spend(len(raw))

    def _name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in _KNOWN:
            named = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else None
            raise ValueError(f"it names {shown(named)}: only NumPy arrays and plain containers are read")
        self.stack.append(_Name(name))

    def _describe(self, function: Any, arguments: Any) -> Any:
        """What a call of one of the known functions would give, as a description."""
        name = function.name if isinstance(function, _Name) else None
        if not isinstance(arguments, tuple):
            raise TypeError
        if name == "encode":
            text, encoding = arguments
            if not isinstance(text, str) or encoding != "latin1":
                raise ValueError("it encodes something else than bytes")
            self._spend(len(text))
            return text.encode("latin-1")
        if name == "bytes" and arguments == ():
            return b""
        if name == "_reconstruct":
            if arguments not in ((_Name("ndarray"), (0,), b"b"), (_Name("ndarray"), (0,), "b")):
                raise ValueError("it describes a kind of array that is not NumPy's plain one")
            return PickledArray()
        if name == "dtype":
            code, align, copy = arguments
            if align not in (0, 1) or copy not in (0, 1):
                raise TypeError
            return _DType(code)
        if name == "_frombuffer":
            raw, dtype, shape, order = arguments
            if order not in ("C", "F"):
                raise ValueError("it describes an array without an order")
            self._spend_copied(raw)
            array = PickledArray()
            array.set_parts(raw, dtype, shape, order)
            return array
        raise ValueError(f"it calls {shown(function)}")
