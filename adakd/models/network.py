"""A network as a setting of a run: by name, as a factory, or as a module; and what identifies it."""

import copy
import functools
import hashlib
import inspect
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from .._check import brief, check_filled, check_whole, near_names
from .._described import Description, digest_of, sha256_of_state
from .._seed import seeded
from .imagenet_resnet import IMAGENET_RESNETS
from .language import LANGUAGE_MODELS
from .mobilenet import MOBILENETS
from .resnet import RESNETS
from .shufflenet import SHUFFLENETS
from .vgg import VGGS
from .wrn import WRNS

__all__ = [
    "MODELS",
    "Network",
    "create_model",
    "network_of",
    "refuse_extra_state",
    "resting",
    "seeded_model",
    "sha256_of_state",
]

log = logging.getLogger("adakd")

MODELS: dict[str, Callable[..., nn.Module]] = {
    **RESNETS,
    **WRNS,
    **VGGS,
    **IMAGENET_RESNETS,
    **MOBILENETS,
    **SHUFFLENETS,
    **LANGUAGE_MODELS,
}
_BUILT_IN = dict(MODELS)  # what has these names, and is still this, needs no further description
_LIBRARIES = ("torchvision", "timm")


def create_model(name: str, num_classes: int, in_channels: int = 3) -> nn.Module:
    """Build a network by name, with fresh weights from torch's current random state.

    Args:
        name: a key of ``MODELS``; or ``torchvision/<name>`` or ``timm/<name>``, where that package is installed.
        num_classes: K, at least 2.
        in_channels: 3 for colour images.

    Returns:
        A module from images (B, in_channels, H, W) to logits (B, num_classes); of a language model, from tokens (B, T) to
        logits (B, T, num_classes).

    Raises:
        ValueError: for an unknown name, with the nearest known ones, fewer than 2 classes, or a package that is not
            installed, with the command that installs it.

    >>> sum(p.numel() for p in create_model("resnet8", num_classes=100).parameters())
    83892
    """
    check_model(name)
    check_whole(num_classes=num_classes)
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
    check_whole(1, in_channels=in_channels)
    if name in MODELS:
        return _made(MODELS[name], num_classes, in_channels)
    return _from_library(name, num_classes, in_channels)


def seeded_model(name: str, num_classes: int, seed: int) -> nn.Module:
    """A network with fresh weights that depend on the seed alone; the caller's random state stays as it is."""
    return network_of(name).build(num_classes, seed=seed)


def check_model(name: str) -> None:
    """Raise ValueError unless a network has this name, as far as can be known without building it."""
    if not is_model(name):
        raise ValueError(near_names("model", name, MODELS))


def is_model(name: Any) -> bool:
    """Whether this is the name of a network: of ours, of one that was registered, or of another package."""
    return isinstance(name, str) and (name in MODELS or (name.partition("/")[0] in _LIBRARIES and "/" in name))


def _made(factory: Callable[..., nn.Module], num_classes: int, in_channels: int) -> nn.Module:
    """What a factory makes that takes the number of classes; and the number of channels, if it has a name for it."""
    try:
        signature = inspect.signature(factory)
    except ValueError:  # a function that does not tell
        channels = False
    else:
        channels = "in_channels" in signature.parameters
        try:
            signature.bind(num_classes, **({"in_channels": in_channels} if channels else {}))
        except TypeError as error:
            raise TypeError(
                f"network: expected a function of the number of classes, and {brief(factory)} cannot be called with "
                f"{num_classes} ({error}); give the module itself, or lambda num_classes: …"
            ) from error
    network = factory(num_classes, in_channels=in_channels) if channels else factory(num_classes)
    if not isinstance(network, nn.Module):
        raise TypeError(f"expected {brief(factory)} to return an nn.Module, got {type(network).__name__}")
    return network


def _from_library(name: str, num_classes: int, in_channels: int) -> nn.Module:
    package, _, model = name.partition("/")
    try:
        library = import_module(package)
    except ImportError as error:
        raise ValueError(
            f"model {name!r}: {package} cannot be imported ({error}); install it: pip install {package}"
        ) from error
    except RuntimeError as error:  # as "operator torchvision::nms does not exist"
        raise ValueError(
            f"model {name!r}: torchvision is of another build than torch {torch.__version__} ({error}); install the "
            "one that belongs to it, from where torch is from: pip install --force-reinstall --no-deps torchvision"
        ) from error
    known = library.list_models() if package == "timm" else import_module("torchvision.models").list_models()
    if model not in known:
        raise ValueError(near_names(f"model of {package}:", model, known))
    if package == "timm":
        return library.create_model(model, pretrained=False, num_classes=num_classes, in_chans=in_channels)
    if in_channels != 3:
        raise ValueError(
            f"model {name!r}: torchvision's networks take 3 channels, the images have {in_channels}"
        )
    options = {"aux_logits": False} if model in ("googlenet", "inception_v3") else {}
    if model in ("googlenet", "inception_v3"):
        options["init_weights"] = True
    return import_module("torchvision.models").get_model(
        model, weights=None, num_classes=num_classes, **options
    )


@dataclass(frozen=True)
class Network:
    """A network as a setting of a run; made by `network_of`."""

    name: str
    source: Any = None
    """A factory or a module; None for a name."""

    @property
    def folder(self) -> str:
        """The name as that of a folder."""
        return self.name.replace("/", "-")

    def build(self, num_classes: int, in_channels: int = 3, seed: int = 0) -> nn.Module:
        """The network with fresh weights that depend on the seed alone; a module as it is, copied."""
        if isinstance(self.source, nn.Module):
            refuse_extra_state(self.source)
            return copy.deepcopy(self.source)
        with seeded(seed):
            if self.source is not None:
                network = _made(self.source, num_classes, in_channels)
                refuse_extra_state(network)
                return network
            return create_model(self.name, num_classes, in_channels)

    @property
    def described_by_its_name(self) -> bool:
        """Whether the name says all: that of a network of ours, which nobody has replaced."""
        return self.source is None and self.name in MODELS and MODELS[self.name] is _BUILT_IN.get(self.name)

    @property
    def reads(self) -> str | None:
        """What it reads, "images" or "tokens", as far as its name says; None for anybody's own."""
        if self.source is not None or not (self.described_by_its_name or self.name not in MODELS):
            return None
        return "tokens" if self.name in LANGUAGE_MODELS else "images"

    def identity(self, num_classes: int, in_channels: int = 3) -> dict[str, str]:
        """What a run's config says of it beside the name: nothing where the name says all."""
        if self.described_by_its_name:
            return {}
        network = self.build(num_classes, in_channels)
        found = {"architecture": architecture_of(network)}
        if self.source is not None or self.name in MODELS:  # of a package's own network the name says the rest
            found["settings"] = settings_of(network)
            initial = sha256_of_state(network)  # where training begins; of a factory, what it makes by seed 0
            if isinstance(self.source, nn.Module) or self._makes(initial, num_classes, in_channels):
                found["initial"] = initial
            if tied := _tied(network):
                found["tied"] = digest_of(tied)
        if still := [name for name, each in network.named_parameters() if not each.requires_grad]:
            found["frozen"] = digest_of(still)
        if still := resting(network):
            found["resting"] = digest_of(still)
        return found

    def _makes(self, initial: str, num_classes: int, in_channels: int) -> bool:
        """Whether a factory makes the same weights again; else no run of it would ever be found, nor continued."""
        again = sha256_of_state(self.build(num_classes, in_channels)) == initial
        if not again:
            _warn_of_chance(self.name)
        return again

    def parameters(self, num_classes: int, in_channels: int = 3) -> int:
        """The number of parameters."""
        if self.described_by_its_name:
            with torch.device("meta"):
                network = create_model(self.name, num_classes, in_channels)
        else:
            network = self.build(num_classes, in_channels)
        return sum(parameter.numel() for parameter in network.parameters())


def network_of(network: str | nn.Module | Callable[..., nn.Module] | Network) -> Network:
    """What was given as a network: a name, a module, or a factory ``callable(num_classes) -> nn.Module``.

    A module is a network with its present weights, which are part of what identifies it; a factory (a class is one) is
    called for each run, with torch's random state by the run's seed, and identified by the weights that it makes by seed 0.
    Of both, the settings of the modules are part of it too (`settings_of`), and not the code of their classes.

    Raises:
        ValueError: for an unknown name.
        TypeError: for anything else.
    """
    if isinstance(network, Network):
        return network
    if isinstance(network, str):
        check_model(network)
        return Network(network)
    if isinstance(network, nn.Module):
        return Network(type(network).__name__, network)
    if callable(network):
        function = network
        while isinstance(function, functools.partial):
            function = function.func
        name = getattr(function, "__name__", type(function).__name__)
        return Network("network" if name == "<lambda>" else name, network)
    raise TypeError(
        "network: expected a name, an nn.Module, or a function of the number of classes that returns one, "
        f"got {brief(network)}"
    )


def refuse_extra_state(module: nn.Module, role: str = "network") -> None:
    """Raise TypeError for a module whose state is more than tensors: neither a digest nor a file of weights could hold it;
    and for one that was made in `torch.inference_mode`, which cannot be trained. ValueError for one that holds no numbers yet."""
    check_filled(module, role)
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{role}: expected a state_dict of tensors, got {type(value).__name__} under {name!r} from "
                f"{type(module).__name__}; make it a buffer, or let get_extra_state return a tensor"
            )
        if value.is_inference():
            raise TypeError(
                f"{role}: expected usual tensors, got one of torch.inference_mode under {name!r} from "
                f"{type(module).__name__}; make the {role} outside of that"
            )


def resting(network: nn.Module) -> list[str]:
    """Names of the parts in evaluation mode of a network in training mode: somebody wants them so, as a frozen batch norm."""
    return [name for name, part in network.named_modules() if not part.training] if network.training else []


def architecture_of(network: nn.Module) -> str:
    """Digest of what a network is made of: the classes of its modules, and names and shapes of its tensors."""
    parts = {name: type(module).__qualname__ for name, module in network.named_modules()}
    tensors = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    return hashlib.sha256(json.dumps([parts, tensors], sort_keys=True).encode()).hexdigest()


def _tied(network: nn.Module) -> list[list[str]]:
    """Names of parameters and buffers that are one in memory, so that what trains one trains the others."""
    names: dict[int, list[str]] = {}
    for kind in (network.named_parameters, network.named_buffers):
        for name, tensor in kind(remove_duplicate=False):
            if tensor.numel():
                names.setdefault(tensor.data_ptr(), []).append(name)
    return [sorted(alike) for alike in names.values() if len(alike) > 1]


@functools.cache
def _warn_of_chance(name: str) -> None:
    log.warning(
        "network %r: the function makes other weights at each call, by random numbers that are not torch's: networks that "
        "begin with other weights are taken for one; draw them from torch's default generator, or give such runs folders of "
        "their own (out=)",
        name,
    )


def settings_of(network: nn.Module) -> str:
    """Digest of what a network's tensors do not tell: the settings of its modules, as a rate of dropout or a stride."""
    return digest_of(Description(network).parts)
