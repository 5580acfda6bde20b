"""The composition that every logit-based system is: standardize? -> temperature rule -> divergence."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._check import check_finite, check_logits
from .divergence import Divergence
from .logits import STANDARDIZATIONS
from .logits import standardize as standardize_logits
from .temperature import Fixed, TemperatureRule, Temperatures

__all__ = ["LogitObjective", "Terms"]


class Terms(NamedTuple):
    """One batch's loss and what it is made of."""

    total: Tensor
    """ce_weight * ce + kd_weight * warm-up * kd: the scalar to call ``backward()`` on."""
    ce: Tensor
    """Cross entropy with the labels, mean over the batch, unweighted."""
    kd: Tensor
    """Divergence from the teacher, mean over the batch, unweighted; 0 without a divergence."""
    temperature: Temperatures | None
    """What the rule chose, each (B, 1) or (1, 1); None without a divergence."""


class LogitObjective(nn.Module):
    r"""Distillation loss from logits, as three independent choices.

    .. math:: \mathcal L = \lambda_{CE}\,\mathrm{CE}(s, y)
              + \lambda_{KD}\,w_e\,\frac1B \sum_i D_i\big(z^s_i, z^t_i;\ \tau_i\big), \qquad
              w_e = \min(e / e_0,\, 1)

    with :math:`z` the standardized logits, or the logits themselves; :math:`\tau_i` what the temperature rule
    says; :math:`D` the divergence; :math:`e` the epoch counted from 1 and :math:`e_0` the warm-up.

    Args:
        divergence: a `Divergence`, or None for cross entropy alone (then no teacher is needed).
        temperature: a `TemperatureRule`; ``Fixed(4)`` when left out.
        standardize: False, True or ``"population"`` (as the papers print it), or ``"sample"`` (as the released
            codes compute it: K - 1 in the variance, 1e-7 added).
        ce_weight: :math:`\lambda_{CE}`.
        kd_weight: :math:`\lambda_{KD}`.
        warmup_epochs: :math:`e_0`; 0 for none.

    Raises:
        ValueError: for an unknown standardization or a negative or non-finite weight.
    """

    def __init__(
        self,
        divergence: Divergence | None = None,
        temperature: TemperatureRule | None = None,
        standardize: bool | str = False,
        ce_weight: float = 1.0,
        kd_weight: float = 1.0,
        warmup_epochs: int = 0,
    ):
        super().__init__()
        if standardize is True:
            standardize = "population"
        if standardize is not False and standardize not in STANDARDIZATIONS:
            raise ValueError(
                f"standardize: expected False, True, 'population' or 'sample', got {standardize!r}"
            )
        weights = {
            "ce_weight": ce_weight,
            "kd_weight": kd_weight,
            "warmup_epochs": warmup_epochs,
        }
        for name, value in weights.items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: expected a finite number of at least 0, got {value!r}")
        self.divergence = divergence
        self.temperature = None if divergence is None else (temperature or Fixed())
        self.standardize = standardize
        self.ce_weight = float(ce_weight)
        self.kd_weight = float(kd_weight)
        self.warmup_epochs = warmup_epochs

    @property
    def needs_teacher(self) -> bool:
        """Whether the loss reads the teacher at all."""
        return self.divergence is not None

    def _standardized(self, logits: Tensor) -> Tensor:
        if self.standardize is False:
            return logits
        return standardize_logits(logits, **STANDARDIZATIONS[self.standardize])

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None,
        target: Tensor,
        epoch: int | None = None,
    ) -> Terms:
        """Loss of one batch.

        Args:
            student_logits: (B, K), with gradient. Half precision is raised to fp32 first.
            teacher_logits: (B, K); taken as constant. None only where there is no divergence.
            target: (B,) integer labels.
            epoch: counted from 1; drives warm-up and schedules. None means that they are over.

        Raises:
            ValueError: for mismatched shapes, an empty batch, a missing teacher, an epoch below 1; and on a CPU
                for NaN or infinite logits, naming the rows (on an accelerator the check would stall it: the
                training loop does it once an epoch).
        """
        if self.needs_teacher and teacher_logits is None:
            raise ValueError(
                "teacher_logits: this method distills from a teacher and got None; pass the teacher's logits "
                "for the same images, or use the method 'ce'"
            )
        if epoch is not None and epoch < 1:
            raise ValueError(f"epoch: epochs are counted from 1, got {epoch}")
        check_logits(student_logits, teacher_logits, target)
        # Inside a caller's autocast, matrix products of a divergence or a rule would fall back to half precision.
        with torch.autocast(student_logits.device.type, enabled=False):
            return self._terms(student_logits, teacher_logits, target, epoch)

    def _terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, target: Tensor, epoch: int | None
    ) -> Terms:
        student = _at_least_fp32(student_logits)
        ce = F.cross_entropy(student, target)
        total = self.ce_weight * ce
        if self.divergence is None:
            kd, temperatures = torch.zeros_like(ce), None
        else:
            z_student = self._standardized(student)
            z_teacher = self._standardized(_at_least_fp32(teacher_logits.detach()))
            temperatures = self.temperature(z_student, z_teacher, target, epoch)
            kd = self.divergence(z_student, z_teacher, target, temperatures).mean()
            total = total + self.kd_weight * self._warmup(epoch) * kd
        if total.device.type == "cpu" and not torch.compiler.is_compiling():
            _refuse_non_finite(total, student, teacher_logits)
        return Terms(total, ce, kd, temperatures)

    def _warmup(self, epoch: int | None) -> float:
        if epoch is None or self.warmup_epochs == 0:
            return 1.0
        return min(epoch / self.warmup_epochs, 1.0)

    def extra_repr(self) -> str:
        return (
            f"standardize={self.standardize!r}, ce_weight={self.ce_weight:g}, "
            f"kd_weight={self.kd_weight:g}, warmup_epochs={self.warmup_epochs}"
        )


def _at_least_fp32(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _refuse_non_finite(total: Tensor, student: Tensor, teacher: Tensor | None) -> None:
    """One scalar is read first; the rows are searched only when it is already known that something is wrong."""
    if math.isfinite(total.item()):
        return
    check_finite(student_logits=student, teacher_logits=teacher)
    raise ValueError(
        f"the loss is {total.item()} although all logits are finite: their scale is beyond {student.dtype}; "
        "standardize, or lower the learning rate"
    )
