"""Neuron selectivity transfer: the distribution of a map's channels (Huang & Wang 2017)."""

from torch import Tensor

from ..signals import Batch, Signals
from ._layers import STAGES, map_pairs, taps_of, unit
from .base import Term

__all__ = ["NST"]


class NST(Term):
    r"""Maximum mean discrepancy between the channels of two maps, with the kernel :math:`k(a, b) = (a^\top b)^2`.

    Every channel is a vector over the fields, of norm 1; a map is a sample of C of them:

    .. math:: \ell_i = \sum_{\text{stages}} \frac{1}{C_t^2} \sum_{c,c'} k(f^t_c, f^t_{c'})
              + \frac{1}{C_s^2} \sum_{c,c'} k(f^s_c, f^s_{c'}) - \frac{2}{C_s C_t} \sum_{c,c'} k(f^s_c, f^t_{c'})
              = \sum_{\text{stages}} \Big\| \tfrac{1}{C_s} F_s^\top F_s - \tfrac{1}{C_t} F_t^\top F_t \Big\|^2

    with F (C, H·W) the channels of image i. The larger maps are averaged over fields to the size of the smaller ones; their
    channels may differ. Of the two forms the one with the smaller matrices is computed.

    Args:
        student_layers, teacher_layers: the submodules whose maps are meant, separated by commas, of a network of your
            own; all stages that both networks have when left out.

    Shapes: features (N, C, H, W), a pair a stage. Returns (N,).

    Raises:
        ValueError: for features that are no maps.

    Source: Huang & Wang 2017 (arXiv 1707.01219), with its polynomial kernel of degree 2; all stages and weight 50 are
    those of the CRD repository, with which mdistiller agrees.

    Differs from the paper:
        - Unequal sizes are averaged, as the CRD repository does.
        - A channel of zeros stays zero, with a gradient of 0.
    """

    def __init__(self, student_layers: str | None = None, teacher_layers: str | None = None):
        super().__init__()
        self.taps = taps_of(STAGES, student_layers, teacher_layers)

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        total = student.logits.new_zeros(())
        for s, t in map_pairs(self.taps, student, teacher):
            total = total + discrepancy(unit(s.flatten(2), dim=2), unit(t.flatten(2), dim=2))
        return total

    def extra_repr(self) -> str:
        return f"taps={tuple(self.taps)}"


def discrepancy(s: Tensor, t: Tensor) -> Tensor:
    """Discrepancy (N,) of channels (N, C, F) of F fields, each of norm 1."""
    if s.shape[2] <= max(s.shape[1], t.shape[1]):
        return (_by_fields(s) - _by_fields(t)).square().sum(dim=(1, 2))
    return _kernel(t, t) + _kernel(s, s) - 2 * _kernel(s, t)


def _by_fields(x: Tensor) -> Tensor:
    """Products (N, F, F) of the fields, mean over channels."""
    return x.mT @ x / x.shape[1]


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """Mean (N,) of the kernel over the channels of both."""
    return (a @ b.mT).square().mean(dim=(1, 2))
