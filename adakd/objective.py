"""The composition that every logit-based system is: standardize? -> temperature rule -> divergence."""

import math
import numbers
import warnings
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._check import NotFiniteError, check_finite, check_labels, check_logits, may_read, read
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
        ValueError: for an unknown standardization, a negative or non-finite weight, or a rule that learns from the
            loss beside a divergence that reads no temperature.
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
        if divergence is not None and not divergence.reads_temperature and temperature is not None:
            learned = [name for name, _ in temperature.named_parameters()]
            if learned:
                raise ValueError(
                    f"temperature: {type(divergence).__name__} reads no temperature, so {', '.join(learned)} of "
                    f"{type(temperature).__name__} would never be trained; take another divergence, such as KL, or "
                    "leave the rule out"
                )
        self._told: set[str] = set()  # what was warned of, once each
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

    @property
    def reads_batch(self) -> bool:
        """Whether a sample's loss depends on the other samples of its batch, and so on gradient accumulation."""
        return self.divergence is not None and (self.divergence.reads_batch or self.temperature.reads_batch)

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
            teacher_logits: (B, K); taken as constant, in the student's precision. None only where there is no
                divergence.
            target: (B,) integer labels, from 0 to K - 1.
            epoch: counted from 1; drives warm-up and schedules. None means that they are over.

        Raises:
            TypeError: for logits that are no tensors of floating-point numbers, labels that are no tensor.
            ValueError: for mismatched shapes, an empty batch, a missing teacher, an epoch below 1, two classes where
                rows are standardized (they are then (1, -1) or (-1, 1), whatever the networks say); and on a CPU
                for labels out of range and for NaN or infinite logits, naming the rows (on an accelerator and inside
                `torch.vmap` nothing can be read: the training loop does it once an epoch).
        """
        if self.needs_teacher and teacher_logits is None:
            raise ValueError(
                "teacher_logits: this method distills from a teacher and got None; pass the teacher's logits "
                "for the same images, or use the method 'ce'"
            )
        _check_epoch(epoch)
        check_logits(student_logits, teacher_logits, target)
        check_labels(target, student_logits.shape[1])
        self._refuse_two_classes(student_logits.shape[1])
        if may_read(student_logits):
            check_finite(student_logits=student_logits, teacher_logits=teacher_logits)
        # Inside a caller's autocast, matrix products of a divergence or a rule would fall back to half precision.
        with torch.autocast(student_logits.device.type, enabled=False):
            return self._terms(student_logits, teacher_logits, target, epoch)

    def _terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, target: Tensor, epoch: int | None
    ) -> Terms:
        student, target = _at_least_fp32(_ordinary(student_logits)), _ordinary(target)
        ce = F.cross_entropy(student, target)
        total = self.ce_weight * ce
        if self.divergence is None:
            kd, temperatures = torch.zeros_like(ce), None
        else:
            z_student = self._standardized(student)
            teacher = _ordinary(teacher_logits.detach()).to(student.dtype)
            z_teacher = self._standardized(teacher)
            temperatures = self.temperature(z_student, z_teacher, target, epoch)
            self._warn(student.detach(), teacher, z_student.detach(), z_teacher, temperatures)
            kd = self.divergence(z_student, z_teacher, target, temperatures).mean()
            total = total + self.kd_weight * self._warmup(epoch) * kd
        _refuse_non_finite(total, student.dtype)
        return Terms(total, ce, kd, temperatures)

    @torch.no_grad()
    def _warn(
        self, student: Tensor, teacher: Tensor, z_student: Tensor, z_teacher: Tensor, temperatures: Temperatures
    ) -> None:
        """Of logits of which the teacher can teach next to nothing; once each, where values may be read."""
        if not may_read(student):
            return
        looks = {"temperature": lambda: self.temperature.complaint(z_student, z_teacher, temperatures)}
        if self.standardize is not False:
            looks["classes"] = lambda: _two_values(student, teacher, z_teacher > 0)
        for what, look in looks.items():
            text = None if what in self._told else look()
            if text:
                self._told.add(what)
                warnings.warn(text, stacklevel=6)

    def _refuse_two_classes(self, classes: int) -> None:
        if classes > 2 or self.divergence is None:
            return
        if self.standardize is False and not self.divergence.standardizes:
            return
        raise ValueError(
            "student_logits: expected at least 3 classes where logits are standardized, got 2; every row would be "
            "(1, -1) or (-1, 1) and the teacher would teach nothing: use a method on the logits themselves, such as "
            "'kd' or 'dkd'"
        )

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


def _ordinary(x: Tensor) -> Tensor:
    """The tensor itself, or a copy of one from `torch.inference_mode`, which no graph could keep."""
    if torch.compiler.is_compiling() or not x.is_inference():
        return x
    return x.clone()


def _check_epoch(epoch: int | None) -> None:
    if epoch is None:
        return
    if not torch.compiler.is_compiling() and not isinstance(epoch, numbers.Real):
        raise TypeError(f"epoch: expected a number counted from 1, or None, got {epoch!r}")
    if not epoch >= 1:
        raise ValueError(f"epoch: epochs are counted from 1, got {epoch}")


def _refuse_non_finite(total: Tensor, dtype: torch.dtype) -> None:
    """The logits are known to be finite."""
    value = read(total.detach())
    if value is not None and not math.isfinite(value):
        raise NotFiniteError(
            f"the loss is {value} although all logits are finite: their scale is beyond {dtype}; "
            "standardize, or lower the learning rate"
        )


def _two_values(student: Tensor, teacher: Tensor, high: Tensor) -> str | None:
    """What to say if in every row of both the same few classes hold all of the spread, as masked classes do.

    Every standardized row then has two values, low for the masked classes and high for the others, and nothing is left
    of what the networks say of the others. `high` are the classes above the teacher's mean.
    """
    if not read((high == high[:1]).all()):
        return None
    if not 1 < read(high[0].sum()) < high.shape[1]:  # one class against all others is a label, and no mask
        return None
    for logits in (student, teacher):
        least, most = logits.where(high, math.inf).amin(dim=1), logits.where(high, -math.inf).amax(dim=1)
        gap = least - logits.where(~high, -math.inf).amax(dim=1)
        if read(((gap < 100) | (most - least > 0.01 * gap)).any()):
            return None
    masked = (~high[0]).nonzero().flatten().tolist()
    which = f"column {masked[0]} holds" if len(masked) == 1 else f"columns {masked[:5]} hold"
    return (
        f"{which} all of the spread of every row, in student and teacher, as if masked by a large negative number: "
        "standardized, the other classes are all but equal and the teacher teaches nothing; drop masked classes from "
        "student and teacher before the loss"
    )
