"""What identifies a module beside its tensors: its plain settings, as data of which a digest can be made; and digests."""

import collections
import dis
import enum
import functools
import hashlib
import json
import logging
import random
import sys
import threading
import types
import weakref
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Description", "digest_of", "sha256_of", "sha256_of_state"]

log = logging.getLogger("adakd")

_PLAIN = (bool, int, float, str, type(None))
_WRITTEN = (
    bytes,
    complex,
    range,
    slice,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
    np.dtype,
    PurePath,
    Decimal,
    Fraction,
    type(...),
)
_BUILT_IN = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    np.ufunc,
)
# What computes nothing, whatever it holds.
_MUTE = (types.ModuleType, logging.Logger, weakref.ref, type(threading.Lock()), type(threading.RLock()))
_LIBRARIES = {"adakd", "torch", "numpy", *sys.stdlib_module_names} - {"__main__"}
_OF_MODULES = {*vars(nn.Module()), "_compiled_call_impl"}
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_MOST = 100_000  # values of one module: whoever holds more holds the world


def digest_of(value: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_state(module: nn.Module) -> str:
    """SHA-256 of a module's tensors, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Description:
    """Classes and settings of all parts of a module, as plain data (`parts`).

    A setting is an attribute: a number, a text, a tensor by its content, a function by its name, or, of somebody's own, by
    its code and by the values that it has from outside; and what is made of such, also a dataclass or another object. Of a
    buffer that is not saved, which no state has, the content. Of a module of somebody's own the private attributes count
    where they are numbers, texts or functions; of installed packages none does: they follow from the others.

    Hooks of modules and parameters are settings too, but of the lists, mappings and objects that they read only what is a
    number, a text or a function: the rest may be what they have recorded.

    Attributes that are none of these count by their class alone, with a warning, as an open file.
    """

    def __init__(self, module: nn.Module):
        self.lost: list[str] = []
        self._open = {id(part) for part in module.modules()}
        self._known: dict[int, tuple[Any, Any]] = {}
        self._left = _MOST
        self._in_hook = False
        self.parts = {name: self._part(part) for name, part in module.named_modules()}
        for each in self.lost:
            _warn(each)

    def _part(self, part: nn.Module) -> list[Any]:
        kind = type(part)
        settings = {name: self._value(value, f"{kind.__name__}.{name}") for name, value in _attributes(part)}
        for name in sorted(part._non_persistent_buffers_set):
            if part._buffers.get(name) is not None:
                settings[name] = self._value(part._buffers[name], f"{kind.__name__}.{name}")
        outer, self._in_hook = self._in_hook, True
        settings |= {name: self._value(hooks, f"{kind.__name__}.{name}") for name, hooks in _hooks(part)}
        self._in_hook = outer
        return [kind.__qualname__, settings]

    def _value(self, value: Any, where: str) -> Any:
        if isinstance(value, _PLAIN) and not isinstance(value, enum.Enum):
            return repr(value)
        if id(value) in self._known:
            return self._known[id(value)][0]
        if id(value) in self._open:  # which it is a part of
            return type(value).__qualname__
        self._left -= 1
        if self._left < 0:
            self.lost += [f"{where}, which holds very much,"] if self._left == -1 else []
            return type(value).__qualname__
        self._open.add(id(value))
        found = self._of(value, where)
        self._open.discard(id(value))
        if not self._in_hook:  # kept, for the next object at its place would have its number
            self._known[id(value)] = found, value
        return found

    def _counts(self, value: Any) -> bool:
        """Whether what a list, a mapping or an object holds is a setting."""
        return not self._in_hook or _is_plain(value)

    def _of(self, value: Any, where: str) -> Any:
        kind = type(value)
        if isinstance(value, enum.Enum):
            return f"{kind.__qualname__}.{value.name}"
        if isinstance(value, _WRITTEN):
            return repr(value)
        if isinstance(value, _MUTE):
            return kind.__qualname__
        if isinstance(value, type):
            return f"{value.__module__}.{value.__qualname__}"
        if isinstance(value, Mapping):
            return {str(key): self._value(each, where) for key, each in value.items() if self._counts(each)}
        if isinstance(value, (list, collections.deque)):
            return [self._value(each, where) for each in value if self._counts(each)]
        if isinstance(value, tuple):
            return [self._value(each, where) for each in value]
        if isinstance(value, (set, frozenset)):
            return sorted((self._value(each, where) for each in value if self._counts(each)), key=json.dumps)
        if (array := _array_of(value)) is not None:
            shape, dtype = tuple(getattr(value, "shape", ())), getattr(value, "dtype", "")
            return f"{kind.__name__} {dtype} {shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
        if callable(value) and not isinstance(value, nn.Module) and (made := self._function(value, where)):
            return made
        if isinstance(value, nn.Module):  # one that is no part, as in a list
            parts = {name: self._part(part) for name, part in value.named_modules()}
            return [parts, sha256_of_state(value)]
        if hasattr(value, "__dict__") and _shows_all(kind):
            own = _is_own(kind)
            settings = {
                name: self._value(each, f"{where}.{name}")
                for name, each in vars(value).items()
                if (own or name[:1] != "_") and self._counts(each)
            }
            return [kind.__qualname__, settings]
        if not kind.__module__.startswith("torch._"):  # the compiler's, which changes no answer
            self.lost.append(f"{where} ({kind.__qualname__})")
        return kind.__qualname__

    def _function(self, value: Any, where: str) -> Any:
        """A function by its name; of somebody's own by its code, and by what it reads from outside; None for another object."""
        if isinstance(value, functools.partial):
            return ["partial", *(self._value(each, where) for each in (value.func, value.args, value.keywords))]
        if isinstance(value, types.MethodType):
            return [self._value(value.__func__, where), self._value(value.__self__, where)]
        if isinstance(value, torch.jit.ScriptFunction):
            return value.code
        if not isinstance(value, types.FunctionType):
            if hasattr(value, "__wrapped__"):  # as functools.cache makes it
                return self._value(value.__wrapped__, where)
            named = isinstance(value, _BUILT_IN) or (
                _root(type(value)) == "torch" and hasattr(value, "__name__")
            )
            return f"{value.__module__}.{getattr(value, '__qualname__', value.__name__)}" if named else None
        if not _is_own(value):
            return f"{value.__module__}.{value.__qualname__}"
        outside = {
            name: value.__globals__[name] for name in _globals(value.__code__) if name in value.__globals__
        }
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                outside[name] = cell.cell_contents
            except ValueError:  # of a function that is not made yet
                outside[name] = None
        read = {name: self._value(each, f"{where}: {name}") for name, each in sorted(outside.items())}
        given = [self._value(each, where) for each in (value.__defaults__, value.__kwdefaults__)]
        return [value.__qualname__, _code(value.__code__), given, read]


def _attributes(part: nn.Module) -> Iterator[tuple[str, Any]]:
    """Attributes of a module that are settings of it."""
    own = _is_own(type(part))
    for name, value in vars(part).items():
        if name == "training" or name in _OF_MODULES or (name[0] == "_" and not own):
            continue
        if name[0] != "_" or _is_plain(value):
            yield name, value


def _hooks(part: nn.Module) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """What is called beside a module and on the way of its parameters' gradients; ours do nothing but listen."""
    found = {name: vars(part).get(name) for name in _HOOKS}
    for name, parameter in part._parameters.items():
        found[f"{name}._backward_hooks"] = None if parameter is None else parameter._backward_hooks
    for name, hooks in found.items():
        theirs = [hook for hook in (hooks or {}).values() if _root(getattr(hook, "func", hook)) != "adakd"]
        if theirs:
            yield name, tuple(theirs)


def _is_plain(value: Any) -> bool:
    """Whether it is a number, a text, a function, or made of such: a private tensor may be what a call has left there."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, (*_PLAIN, types.FunctionType, types.BuiltinFunctionType))


def _root(value: Any) -> str:
    """The package that a class or a function is from."""
    return str(getattr(value, "__module__", None) or "builtins").partition(".")[0]


def _is_own(value: Any) -> bool:
    """Whether a class or a function is somebody's own, and not of a package that is installed."""
    if _root(value) in _LIBRARIES:
        return False
    file = getattr(sys.modules.get(value.__module__), "__file__", None) or ""
    return not {"site-packages", "dist-packages"}.intersection(PurePath(file).parts)


def _array_of(value: Any) -> Any:
    """Numbers as an array of bytes or numbers; None for what holds none, or does not show them."""
    try:
        if isinstance(value, torch.Generator):
            return value.get_state().cpu().numpy()
        if isinstance(value, Tensor):
            return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        if isinstance(value, random.Random):
            return np.frombuffer(repr(value.getstate()).encode(), dtype=np.uint8)
        if isinstance(value, np.random.Generator):
            return np.frombuffer(repr(value.bit_generator.state).encode(), dtype=np.uint8)
        if isinstance(value, (np.ndarray, np.generic)) and not np.asarray(value).dtype.hasobject:
            return np.asarray(value)
    except (RuntimeError, NotImplementedError, TypeError):  # of a tensor that has no memory, or is sparse
        pass
    return None


def _shows_all(kind: type) -> bool:
    """Whether what objects of a class hold is theirs alone, and not of an interpreter, a compiler or a file."""
    if kind.__name__ in ("Namespace", "SimpleNamespace"):
        return True
    if _root(kind) == "torch":
        return "._" not in kind.__module__  # the others are the compiler's
    return _root(kind) == "adakd" or _root(kind) not in _LIBRARIES


def _globals(code: types.CodeType) -> set[str]:
    """Names that a function, or one in it, looks up outside of all functions."""
    found = {each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return found.union(*(_globals(each) for each in code.co_consts if isinstance(each, types.CodeType)))


def _code(code: types.CodeType) -> list[Any]:
    """What a function does: its instructions, and the names and constants that they speak of."""
    constants = [
        _code(each)
        if isinstance(each, types.CodeType)
        else sorted(map(repr, each))
        if isinstance(each, frozenset)
        else repr(each)
        for each in code.co_consts
    ]
    return [code.co_code.hex(), list(code.co_names), constants]


@functools.cache
def _warn(what: str) -> None:
    log.warning(
        "%s is nothing of which a digest can be made: runs that differ in it alone are taken for one; hold it as a number, "
        "a text or a tensor, or give such runs folders of their own (out=)",
        what,
    )
