"""Where a training loop gets a teacher's outputs from: the network itself, or a cache of its logits."""

import copy

import torch
from torch import Tensor, nn

from .._frozen import frozen
from ..models._layout import channels_last
from ..signals import Signals, Tapped, Taps, logits_of_output
from ..training.cache import ViewCache
from ..training.precision import Precision
from .ensemble import Ensemble

__all__ = ["CachedTeacher", "LiveTeacher", "fp32_of"]


def fp32_of(network: nn.Module) -> nn.Module:
    """A copy in fp32, the format of images, of a network without a parameter in it; others as they are. Of an ensemble,
    so of each member."""
    if isinstance(network, Ensemble):
        if all(fp32_of(member) is member for member in network.teachers):
            return network
        ensemble = copy.deepcopy(network)
        ensemble.teachers = nn.ModuleList(map(fp32_of, ensemble.teachers))
        return ensemble
    formats = {p.dtype for p in network.parameters() if p.is_floating_point()}
    if not formats or torch.float32 in formats:
        return network
    return copy.deepcopy(network).float()


class LiveTeacher:
    """A frozen network, evaluated on the very views that the student sees.

    Args:
        network: put into evaluation mode, and its parameters need no gradient from now on.
        precision: number format of its forward pass.
        device: where it goes.
        taps: features that the students' objectives read of it.
    """

    def __init__(
        self, network: nn.Module, precision: Precision, device: torch.device, taps: Taps | None = None
    ):
        network = channels_last(frozen(network), device)
        self.network = Tapped(network, taps.teacher) if taps is not None and taps.teacher else network
        self.precision, self.device = precision, device

    def begin_epoch(self, slots: Tensor) -> None:
        """Nothing is known before the images are."""

    @torch.no_grad()
    def signals(self, images: Tensor, slots: Tensor) -> Signals:
        """Outputs for one step."""
        with self.precision.autocast(self.device):
            outputs = self.network(images)
        return outputs if isinstance(outputs, Signals) else Signals(logits_of_output(outputs))


class CachedTeacher:
    """A cache of a teacher's logits for all views that a run shows."""

    def __init__(self, cache: ViewCache):
        self.cache = cache
        self._slots = self._logits = torch.empty(0)

    def begin_epoch(self, slots: Tensor) -> None:
        """Read the logits of the epoch at once: they come to the device then, and no step waits for them.

        Raises:
            CacheError: if one of the views was never filled, or is not what was written.
        """
        self._slots, order = slots.sort()
        self._logits = self.cache.read(slots)[order]

    def signals(self, images: Tensor, slots: Tensor) -> Signals:
        """Logits of one step, as they are kept."""
        return Signals(self._logits[torch.searchsorted(self._slots, slots)])
