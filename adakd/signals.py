"""What a step hands to a loss: the outputs of both networks, and what else is known of the batch."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .stages import place_of

__all__ = ["Batch", "Signals", "Tapped", "Taps", "Which", "logits_of_output"]


class Signals(NamedTuple):
    """Outputs of one network for one batch."""

    logits: Tensor
    """(…, K) as the network gives them; (N, K) once rows are selected."""
    features: Mapping[str, Tensor] = {}
    """Features by name, for the names that a term reads (`Taps`)."""


class Batch(NamedTuple):
    """What a step knows besides the outputs of the networks."""

    target: Tensor | None
    """(N,) labels, (N, K) probabilities, or None without labels."""
    index: Tensor | None = None  # type: ignore[assignment]  # tuple has a method of that name
    """(B,) positions of the images in the training set, which is what a run shows of its data; for terms with a memory of it."""
    epoch: int | None = None
    """Counted from 1; None means that warm-ups and schedules are over."""


class Taps(NamedTuple):
    """Names of the features that a term reads, of either network; empty for logits alone.

    A name is a portable one, as ``"stage2"``, ``"last:pre"`` or ``"classifier:weight"`` (`adakd.stages_of`), or a place
    of a network of your own, as ``"body"`` or ``"body.relu:input"`` (`Tapped`). One that ends with "?", as ``"stage4?"``,
    is read where the network has it, by its name without that mark.

    A term that taps nothing of the teacher can be answered by a cache of its logits.
    """

    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()

    def __or__(self, other: "Taps") -> "Taps":
        return Taps(*(tuple(dict.fromkeys((*a, *b))) for a, b in zip(self, other, strict=True)))


Which = int | str | Callable[[Any], Tensor] | None
"""Where the logits are in what a network returns: an index, a key or attribute, a function of it, or None."""


def logits_of_output(output: Any, which: Which = None) -> Tensor:
    """Logits in the output of a network: a tensor, an object or dict with ``logits``, a tuple, or where `which` says.

    Raises:
        TypeError: if none are found.
        ValueError: for a tuple with several tensors of shape (B, ·), or none of it and several of (B, T, ·), and no word
            which; for a part that is not there.
    """
    if which is not None:
        return _chosen(output, which)
    if isinstance(output, Tensor):
        return output
    named: Tensor | None = getattr(output, "logits", None)
    if named is None and isinstance(output, Mapping):
        named = output.get("logits")
    if named is not None:
        return named
    if isinstance(output, (tuple, list)) and output:
        tables = [(i, x) for i, x in enumerate(output) if isinstance(x, Tensor) and x.ndim == 2]
        if len(tables) > 1:
            _refuse_several("(batch, ·)", tables)
        if tables:
            return tables[0][1]
        if isinstance(output[0], Tensor):
            rows = output[0].shape[:-1]
            alike = [
                (i, x)
                for i, x in enumerate(output)
                if isinstance(x, Tensor) and x.ndim > 2 and x.shape[:-1] == rows
            ]
            if len(alike) > 1:
                _refuse_several("(batch, length, ·)", alike)
            return output[0]
    raise TypeError(
        "expected the network to return logits: a tensor, an object or dict with 'logits', or a tuple that "
        f"starts with them; got {type(output).__name__}; say where they are by Distiller(..., logits=)"
    )


def first_tensor(value: Any) -> Any:
    """A feature as losses read it: of several tensors, as a GRU returns them, the first; anything else as it is."""
    if isinstance(value, (tuple, list)):
        return next((each for each in value if isinstance(each, Tensor)), value)
    return value


def _refuse_several(shape: str, candidates: list[tuple[int, Tensor]]) -> None:
    shapes = ", ".join(f"{i}: {tuple(x.shape)}" for i, x in candidates)
    raise ValueError(
        f"the network returned several tensors of shape {shape}, at {shapes}, any of which could be logits; "
        f"say which, as by Distiller(..., logits={candidates[-1][0]})"
    )


def _chosen(output: Any, which: int | str | Callable[[Any], Tensor]) -> Tensor:
    try:
        if callable(which):
            found = which(output)
        elif isinstance(which, str) and hasattr(output, which):
            found = getattr(output, which)
        else:
            found = output[which]
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"logits={which!r}: there is no such part in what the network returned, {type(output).__name__}: {error}"
        ) from error
    if not isinstance(found, Tensor):
        raise TypeError(f"logits={which!r}: expected a tensor there, got {type(found).__name__}")
    return found


class Tapped(nn.Module):
    """A network whose call returns `Signals`: its logits, and features of it by name.

    Parameters, buffers and ``state_dict`` are the network's own; it is not wrapped for the optimizer or a file. Of a
    submodule that is called several times, the last call counts.

    Args:
        network: from images to logits.
        names: of the features: the path of a submodule, as in ``network.get_submodule(name)``, for its output;
            ``"path:input"`` for what it receives, a copy where the submodule then overwrites it; ``"path:weight"`` for a
            parameter, itself; or a portable name, which is found by `adakd.stages_of`. One that ends with "?" is left
            out where the network has no such feature.
        logits: where the logits are in its output, as for `logits_of_output`.

    Raises:
        ValueError: if the network has no feature of that name.
        RuntimeError: when called, if a feature was not computed, or overwritten before the network was done.
    """

    def __init__(self, network: nn.Module, names: Iterable[str] = (), logits: Which = None):
        super().__init__()
        self.network = network
        self._which = logits
        self._features: dict[str, Tensor] | None = None  # None: nobody listens
        self._versions: dict[str, int] = {}
        self._names = tuple(dict.fromkeys(_present(network, names)))
        self._parameters_of: dict[str, tuple[str, str]] = {}
        for name in self._names:
            path, _, part = place_of(network, name).partition(":")
            module = network.get_submodule(path)
            # Bound methods, so that a deep copy of the network reports to the copy.
            if part == "":
                module.register_forward_hook(partial(self._keep_output, name))
            elif part == "input":
                module.register_forward_pre_hook(partial(self._keep_input, name))
            else:
                self._parameters_of[name] = (path, part)

    def _keep_output(self, name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._keep(name, output)

    def _keep_input(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._features is not None and inputs:
            overwritten = getattr(module, "inplace", False) and isinstance(inputs[0], Tensor)
            self._keep(name, inputs[0].clone() if overwritten else inputs[0])

    def _keep(self, name: str, value: Tensor) -> None:
        if self._features is None:
            return
        self._features[name] = value
        if _has_version(value):
            self._versions[name] = value._version

    def forward(self, *inputs: Any, **named: Any) -> Signals:
        self._features, self._versions = {}, {}
        logits = logits_of_output(self.network(*inputs, **named), self._which)
        features, self._features = self._features, None
        for name, (path, part) in self._parameters_of.items():
            features[name] = getattr(self.network.get_submodule(path), part)
        for name in self._names:
            if name not in features:
                raise RuntimeError(
                    f"features: {name!r} was not computed: {type(self.network).__name__} calls no such submodule "
                    "(or by keyword, where its input is meant)"
                )
            if name in self._versions and features[name]._version != self._versions[name]:
                raise RuntimeError(
                    f"features: {name!r} was overwritten in place after it was read, as a ReLU with inplace=True does; "
                    "name that submodule and its input, as 'relu:input', or make it ReLU()"
                )
        return Signals(logits, features)


def _present(network: nn.Module, names: Iterable[str]) -> Iterator[str]:
    """Names of features, those that may be missing only where they are there, and without their mark."""
    for name in names:
        if name.endswith("?"):
            name = name[:-1]
            try:
                place_of(network, name)
            except ValueError:
                continue
        yield name


def is_parameter(name: str) -> bool:
    """Whether a feature of this name is a parameter, as ``"classifier:weight"``, and not of rows."""
    return name.partition(":")[2] not in ("", "input", "pre")


def _has_version(value: Any) -> bool:
    """Whether it is known of a tensor that it was overwritten: not to the compiler, nor in inference mode."""
    return isinstance(value, Tensor) and not torch.compiler.is_compiling() and not value.is_inference()
