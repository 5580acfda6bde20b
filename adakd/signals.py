"""What a step hands to a loss: the outputs of both networks, and what else is known of the batch."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

__all__ = ["Batch", "Signals", "Tapped", "Taps", "logits_of_output"]


class Signals(NamedTuple):
    """Outputs of one network for one batch."""

    logits: Tensor
    """(…, K) as the network gives them; (N, K) once rows are selected."""
    features: Mapping[str, Tensor] = {}
    """Features by the name of the submodule that they leave, for the names that a term asks for (`Taps`)."""


class Batch(NamedTuple):
    """What a step knows besides the outputs of the networks."""

    target: Tensor | None
    """(N,) labels, (N, K) probabilities, or None without labels."""
    index: Tensor | None = None
    """(B,) positions of the images in the training set, for terms with a memory of it."""
    epoch: int | None = None
    """Counted from 1; None means that warm-ups and schedules are over."""


class Taps(NamedTuple):
    """Names of the features that a term reads, of either network; empty for logits alone.

    A term that taps nothing of the teacher can be answered by a cache of its logits.
    """

    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()

    def __or__(self, other: "Taps") -> "Taps":
        return Taps(*(tuple(dict.fromkeys((*a, *b))) for a, b in zip(self, other, strict=True)))


def logits_of_output(output: Any) -> Tensor:
    """Logits in the output of a network: a tensor, or an object or dict with ``logits``, or a tuple that starts with them.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(output, Tensor):
        return output
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, dict) and "logits" in output:
        return output["logits"]
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    raise TypeError(
        "expected the network to return logits: a tensor, an object or dict with 'logits', or a tuple that "
        f"starts with them; got {type(output).__name__}"
    )


class Tapped(nn.Module):
    """A network whose call returns `Signals`: its logits, and the outputs of named submodules.

    Parameters, buffers and ``state_dict`` are the network's own; it is not wrapped for the optimizer or a file.

    Args:
        network: from images to logits.
        names: paths of submodules, as in ``network.get_submodule(name)``.

    Raises:
        ValueError: if the network has no submodule of that name.
    """

    def __init__(self, network: nn.Module, names: Iterable[str] = ()):
        super().__init__()
        self.network = network
        self._features: dict[str, Tensor] = {}
        known = dict(network.named_modules())
        for name in names:
            if name not in known:
                top = ", ".join(key for key in known if key and "." not in key)
                raise ValueError(
                    f"features: {type(network).__name__} has no submodule {name!r}; its top level has {top}"
                )
            known[name].register_forward_hook(self._hook(name))

    def _hook(self, name: str):
        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._features[name] = output

        return keep

    def forward(self, *inputs: Any, **named: Any) -> Signals:
        logits = logits_of_output(self.network(*inputs, **named))
        features, self._features = self._features, {}
        return Signals(logits, features)
