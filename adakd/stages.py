"""Where a network's features are: portable names, so that one term fits every pair of networks.

======================  ===============================================================================
``stage0``              the stem's map
``stage1``, …           the map that each stage ends with, after its ReLU (B, C, H, W)
``stage1:pre``, …       the same before that ReLU; the same map, where a stage of ours ends without one
``last``, ``last:pre``  the map whose mean is ``pooled``: of the last stage, or of a head behind it
                        (of timm's networks always the last stage's)
``pooled``              what the classifier receives (B, C)
``classifier``          the logits, as the classifier returns them
``classifier:weight``   the classifier's parameters themselves (K, C), with gradient
``classifier:bias``     … and (K,)
======================  ===============================================================================

A *place* is where such a name leads: the path of a submodule, as in ``network.get_submodule(path)``, for its output;
``path:input`` for what it receives; ``path:weight`` for a parameter of it.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

__all__ = ["place_of", "stages_of"]

_PORTABLE = re.compile(r"(stage\d+|last)(:pre)?|pooled|classifier(:weight|:bias)?")


def stages_of(network: nn.Module) -> dict[str, str]:
    """Portable names of a network's features, and the place of each.

    A network says where they are by an attribute ``places``, as those of `MODELS` do: ``{"stage0": "relu", "stage1":
    "layer1", "stage1:pre": "layer1.-1.relu:input", …, "classifier": "fc"}``, where ``-1`` is the last child. The rest
    follows: ``last`` is the last stage unless it is named, ``pooled`` is the classifier's input. Known without a
    table are the ResNets of torchvision, and of timm what has a ``feature_info``.

    Raises:
        ValueError: for any other network, with its submodules; for a place that it does not have.

    >>> import adakd
    >>> stages_of(adakd.create_model("resnet8", 10))["last:pre"]
    'layer3.0.relu:input'
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network: expected a module, got {network!r:.60}")
    places = getattr(network, "places", None)
    if not isinstance(places, Mapping):
        places = _of_torchvision(network) or _of_timm(network)
    if not places:
        raise ValueError(
            f"{type(network).__name__} does not say where its stages are. Name the submodules instead, of "
            f"{_submodules(network)}; or give the network an attribute places = "
            '{"stage1": "<submodule>", …, "classifier": "<submodule>"}'
        )
    found = dict(places)
    stages = [name for name in found if re.fullmatch(r"stage\d+", name)]
    if stages and "last" not in found:
        last = max(stages, key=lambda name: int(name.removeprefix("stage")))
        found["last"] = found[last]
        if f"{last}:pre" in found:
            found["last:pre"] = found[f"{last}:pre"]
    if (classifier := found.get("classifier")) is not None:
        found.setdefault("pooled", f"{classifier}:input")
        for name in ("weight", "bias"):
            found.setdefault(f"classifier:{name}", f"{classifier}:{name}")
    return {name: _counted_from_the_front(network, place) for name, place in found.items()}


def place_of(network: nn.Module, name: str) -> str:
    """The place of a feature in a network: of a portable name, or the name itself where it is a place.

    Raises:
        ValueError: if the network has no such feature, with those that it has.
    """
    try:
        stages, reason = stages_of(network), None
    except ValueError as error:
        stages, reason = {}, error
    place = stages.get(name, name)
    path, _, part = place.partition(":")
    try:
        module = network.get_submodule(path)
    except AttributeError:
        if reason is not None and _PORTABLE.fullmatch(name):
            raise ValueError(f"features: there is no {name!r}: {reason}") from None
        known = f"; its portable names are {', '.join(stages)}" if stages else ""
        raise ValueError(
            f"features: {type(network).__name__} has no submodule {path!r}; its top level has "
            f"{_children(network)}{known}"
        ) from None
    if part not in ("", "input") and not isinstance(getattr(module, part, None), nn.Parameter):
        has = ", ".join(name for name, _ in module.named_parameters(recurse=False))
        raise ValueError(
            f"features: {place!r} is no place in {type(network).__name__}: expected after the colon 'input' or a "
            f"parameter of {type(module).__name__}; it has {has or 'none'}"
        )
    return place


def _counted_from_the_front(network: nn.Module, place: str) -> str:
    """A place whose ``-1`` is the last child's own name."""
    path, colon, part = place.partition(":")
    module, names = network, []
    for name in path.split("."):
        children = dict(module.named_children())
        if name == "-1" and children:
            name = list(children)[-1]
        if name not in children:
            raise ValueError(f"{type(network).__name__}.places: there is no submodule {path!r}")
        names.append(name)
        module = children[name]
    return ".".join(names) + colon + part


def _of_torchvision(network: nn.Module) -> dict[str, str]:
    """The places of a ResNet, ResNeXt or wide ResNet of torchvision."""
    if not any(kind.__module__ == "torchvision.models.resnet" for kind in type(network).__mro__):
        return {}
    places = {"stage0": "relu", "stage0:pre": "relu:input"}
    for i in range(1, 5):
        places |= {f"stage{i}": f"layer{i}", f"stage{i}:pre": f"layer{i}.-1.relu:input"}
    return {**places, "classifier": "fc"}


def _of_timm(network: nn.Module) -> dict[str, str]:
    """The places of a network of timm, whose ``feature_info`` lists its stages."""
    info: Any = getattr(network, "feature_info", None)
    if not isinstance(info, list) or not all(
        isinstance(entry, Mapping) and "module" in entry for entry in info
    ):
        return {}
    paths = [entry["module"] for entry in info]
    # A list that begins with the stem has another kind of name there, as act1, layer1, layer2, …
    kinds = [re.sub(r"\d+", "", path) for path in paths[:2]]
    first = 1 if len(set(kinds)) == 1 else 0
    places: dict[str, str] = {}
    for i, path in enumerate(paths, start=first):
        places[f"stage{i}"] = path
        if before := _before_the_last_relu(network, path):
            places[f"stage{i}:pre"] = before
    classifier: Any = getattr(network, "get_classifier", lambda: None)()
    for path, module in network.named_modules():
        if module is classifier and isinstance(module, nn.Linear):
            places["classifier"] = path
    return places


def _before_the_last_relu(network: nn.Module, path: str) -> str | None:
    """The input of the ReLU that a stage of timm ends with; None where it ends with something else."""
    module = network.get_submodule(path)
    while isinstance(module, nn.Sequential) and len(module):
        path, module = f"{path}.{len(module) - 1}", module[-1]
    if isinstance(module, nn.ReLU):
        return f"{path}:input"
    ends = {"BasicBlock": "act2", "Bottleneck": "act3"}.get(type(module).__name__, "")
    return f"{path}.{ends}:input" if isinstance(getattr(module, ends, None), nn.ReLU) else None


def _children(network: nn.Module) -> str:
    return ", ".join(name for name, _ in network.named_children()) or "none"


def _submodules(network: nn.Module, most: int = 40) -> str:
    names = [name for name, _ in network.named_modules() if name]
    # Of a deep network the upper levels: what a stage is called stands there.
    for depth in (3, 2, 1):
        if len(names) > most:
            names = [name for name in names if name.count(".") < depth]
    return ", ".join(names[:most]) + (", …" if len(names) > most else "") or "none"
