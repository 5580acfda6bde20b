"""Online modules of a teacher: a small part of it that is trained beside the student (after Rao et al. 2024)."""

import torch.nn.functional as F
from torch import Tensor, nn

from .._check import check_finite_options, check_whole
from ..divergence.kl import kl_of_rows
from ..signals import Batch, Signals, Taps
from ._features import feature, refuse_unbuilt
from .base import Term

__all__ = ["OKD"]


class OKD(Term):
    r"""Distillation from a teacher with a small online module, which is trained towards the student and the labels.

    The teacher itself stays as it is; its logits are moved by a low-rank module on its pooled features, which begins at 0:

    .. math:: t'_i = t_i + B A f^t_i, \qquad
              \ell_i = \tau^2\,\mathrm{KL}\big(p'_i \,\|\, q_i\big) + \mu\,\tau^2\,\mathrm{KL}\big(q_i \,\|\, p'_i\big)
              + \nu\,\mathrm{CE}(t'_i, y_i)

    with :math:`p'` and q the softmax of :math:`t'/\tau` and :math:`s/\tau`. The first summand is differentiated by the
    student alone, the other two by the module alone: :math:`\mu` draws it to the student, :math:`\nu` to the labels.

    Args:
        rank: of the module: A is (rank, C), B is (K, rank).
        tau: temperature.
        follow: :math:`\mu`.
        hold: :math:`\nu`.

    Shapes: logits (N, K), the teacher's feature ``pooled`` (N, C). Returns (N,), in nats.

    Raises:
        ValueError: for an option out of range.

    Source: Rao et al. 2024 (arXiv 2409.12512), from the abstract.

    Differs from the paper:
        - Of the method only what the abstract says was known: small online modules in the teacher, trained along with the
          student, which adapt the teacher's distribution to the student's. Where they stand, their loss and the values of
          all options are ours.
        - One row is one image and no sequence of tokens; there is nothing to be generated.
    """

    taps = Taps((), ("pooled",))
    reads_target = True

    down: nn.Linear
    up: nn.Linear

    def __init__(self, rank: int = 8, tau: float = 4.0, follow: float = 1.0, hold: float = 1.0):
        super().__init__()
        check_whole(1, rank=rank)
        check_finite_options(tau=tau, follow=follow, hold=hold)
        if not tau > 0:
            raise ValueError(f"tau: expected a positive number, got {tau!r}")
        if not (follow >= 0 and hold >= 0):
            raise ValueError(f"follow, hold: expected weights of at least 0, got {follow!r}, {hold!r}")
        self.rank, self.tau, self.follow, self.hold = rank, tau, follow, hold

    def build(self, student: Signals, teacher: Signals, train_images: int) -> None:
        channels = feature(teacher, "pooled", "teacher").flatten(1).shape[1]
        self.down = nn.Linear(channels, self.rank, bias=False)
        self.up = nn.Linear(self.rank, teacher.logits.shape[-1], bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        refuse_unbuilt(self, "up")
        assert batch.target is not None  # reads_target
        moved = self.moved(teacher)
        log_p, log_q = (F.log_softmax(logits / self.tau, dim=1) for logits in (moved, student.logits))
        value = self.tau**2 * (
            kl_of_rows(log_q, log_p.detach()) + self.follow * kl_of_rows(log_p, log_q.detach())
        )
        return value + self.hold * F.cross_entropy(moved, batch.target, reduction="none")

    def moved(self, teacher: Signals) -> Tensor:
        """The teacher's logits (N, K) as its online module moves them."""
        found = feature(teacher, "pooled", "teacher").flatten(1).detach()
        moved: Tensor = teacher.logits.detach() + self.up(self.down(found))
        return moved

    def extra_repr(self) -> str:
        return f"rank={self.rank}, tau={self.tau:g}, follow={self.follow:g}, hold={self.hold:g}"
