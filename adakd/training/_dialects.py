"""Weights as others save them: their wrappers, their prefixes, their tensors; and what of it is refused."""

import argparse
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .._check import printable

__all__ = ["first_names", "fitted", "refused_class", "state_in", "tensor_problem"]

WRAPPERS = ("model", "state_dict", "net", "model_state_dict", "student", "network", "weights")
# DataParallel, torch.compile, Lightning, and our own `Distiller` put these before every name, and each other's too.
_PREFIX = re.compile(r"(?:(?:module|_orig_mod|model|net|network|student)\.)*")
# Of torch 2.4 only for the whole process.
_ALLOWING = (
    "load it inside `with torch.serialization.safe_globals([{}]):`"
    if hasattr(torch.serialization, "safe_globals")
    else "call `torch.serialization.add_safe_globals([{}])` first"
)
_COUNTER = "num_batches_tracked"  # of batch norm; older torch and some exporters do without


def state_in(saved: Any) -> dict[str, Any]:
    """The tensors by name in what a file holds, taken out of whatever it wraps them in.

    Raises:
        ValueError: if there are none.
    """
    for _ in range(4):  # a wrapper in a wrapper, but not for ever
        inner = [
            saved[key] for key in WRAPPERS if isinstance(saved, Mapping) and isinstance(saved.get(key), Mapping)
        ]
        if not inner:
            break
        saved = inner[0]
    if not isinstance(saved, Mapping):
        raise ValueError(f"it holds a {type(saved).__name__}, expected tensors by name")
    if strange := [name for name in saved if not isinstance(name, str)]:
        raise ValueError(
            f"it holds an entry named {printable(f'{strange[0]!r:.40}')}, expected names that are texts"
        )
    return dict(saved)


def _prefixes(state: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> list[str]:
    """What could stand before every name of the network: those under which most of its tensors are found, the shortest
    first."""
    names = [name for name in wanted if not name.endswith(_COUNTER)]
    found = {
        prefix
        for key in state
        for name in names[:1]
        if key.endswith(name) and _PREFIX.fullmatch(prefix := key.removesuffix(name))
    }
    complete = [prefix for prefix in found if all(prefix + name in state for name in names)]
    return sorted(complete or found, key=lambda prefix: (len(prefix), prefix))


def tensor_problem(name: str, found: Any, wanted: Tensor, exact: bool = False) -> str | None:
    """Why this cannot be loaded into that tensor; None where it can.

    Args:
        name: of the tensor, for the text.
        found: what a file holds.
        wanted: the tensor that it is for.
        exact: refuse another number format of the same kind too.
    """
    if not isinstance(found, Tensor):
        return f"{name} is a {type(found).__name__}, expected a tensor"
    if found.is_meta:
        return f"{name} has a shape and no values (device meta)"
    if found.is_quantized or found.layout != torch.strided or found.is_nested:
        what = "quantized" if found.is_quantized else "nested" if found.is_nested else f"{found.layout}"
        return f"{name} is {what}, expected a plain dense tensor"
    if found.shape != wanted.shape:
        return f"{name} is {tuple(found.shape)}, expected {tuple(wanted.shape)}"
    kind = "floating" if wanted.is_floating_point() else "whole"
    same_kind = found.is_floating_point() == wanted.is_floating_point() and not found.is_complex()
    if not same_kind or (found.dtype == torch.bool) != (wanted.dtype == torch.bool):
        return f"{name} is {found.dtype}, expected {kind} numbers ({wanted.dtype})"
    if exact and found.dtype != wanted.dtype:
        return f"{name} is {found.dtype}, expected {wanted.dtype}"
    if wanted.is_floating_point():
        read = found.to(wanted)
        # As a causal mask, which is infinite where the network's is.
        finite = read.isfinite() | read.isclose(wanted, equal_nan=True)
        if not finite.all():
            return f"{name}: {int((~finite).sum())} of {finite.numel()} values are not finite in {wanted.dtype}"
    return None


def fitted(state: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The network's tensors out of a state whose names may have a prefix, and why they do not fit (none: they do)."""
    prefixes = _prefixes(state, wanted)
    if (
        len(prefixes) > 1
        and prefixes[0]
        and all(prefix + next(iter(wanted)) in state for prefix in prefixes[:2])
    ):
        return {}, [f"it holds two networks, {prefixes[0]}… and {prefixes[1]}…: save the one that is meant"]
    prefix = prefixes[0] if prefixes else ""
    named = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    # What stands beside a prefixed network is another part of whatever held it, as a distiller's criterion.
    beside = [] if prefix.endswith("student.") else [name for name in state if not name.startswith(prefix)]
    for name, tensor in wanted.items():
        if name.endswith(_COUNTER):
            named.setdefault(name, torch.zeros_like(tensor))
    missing = [f"missing {name}" for name in wanted if name not in named]
    unexpected = [f"unexpected {printable(name)}" for name in (*named, *beside) if name not in wanted]
    problems = missing + unexpected
    problems += filter(None, (tensor_problem(n, named[n], wanted[n]) for n in wanted if n in named))
    return named, problems


def first_names(state: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> str:
    """How the names of a file and of a network begin: by these one sees what has to be renamed."""
    file, network = (
        ", ".join(printable(f"{name:.60}") for name in names[:3]) for names in (sorted(state), list(wanted))
    )
    return f"The file begins with {file or 'nothing'}; the network with {network}. "


# Whatever is of these modules acts when it is unpickled: nobody is advised to allow it.
_ACTING = {
    "builtins",
    "os",
    "posix",
    "nt",
    "sys",
    "subprocess",
    "shutil",
    "runpy",
    "importlib",
    "code",
    "pickle",
}


def refused_class(error: Exception) -> str | None:
    """What to do about a class that torch does not load, where its error names one; None where it does not."""
    found = re.search(r"GLOBAL ([\w.]+)|Can only build Tensor, [^.]*? with `?([\w.]+)", str(error))
    if not found:
        return None
    name = found.group(1) or found.group(2)
    if "." not in name or name.partition(".")[0] in _ACTING:  # torch leaves "builtins." out
        return f"it asks to call {name}, which no weights need: do not load it"
    example = "argparse.Namespace" if name == f"{argparse.Namespace.__module__}.Namespace" else name
    return (
        f"beside the tensors it holds {name}, which is refused. Where you trust the file: save the tensors alone "
        f"(torch.save of its state_dict), or {_ALLOWING.format(example)}"
    )
