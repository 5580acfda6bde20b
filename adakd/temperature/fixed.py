"""One temperature for all samples and all time (Hinton et al. 2015)."""

from torch import Tensor

from ._options import check_positive
from .base import TemperatureRule, Temperatures

__all__ = ["Fixed"]


class Fixed(TemperatureRule):
    r"""A constant temperature, :math:`\tau_i = \tau`.

    Args:
        tau: temperature, > 0; 4 in Hinton's and Zhao's CIFAR settings, 2 on standardized logits (Sun 2024).

    Raises:
        ValueError: if tau is not a finite number above 0.
    """

    def __init__(self, tau: float = 4.0):
        super().__init__()
        check_positive(tau=tau)
        self.tau = float(tau)

    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor | None = None, epoch: int | None = None
    ) -> Temperatures:
        tau = teacher.new_full((1, 1), self.tau)
        return Temperatures(tau, tau)

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}"
