"""The loss that every system is: cross entropy and a weighted sum of terms."""

import math
import numbers
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.utils.checkpoint import checkpoint

from . import _check
from ._check import (
    NO_LABEL,
    NotFiniteError,
    at_least_fp32,
    brief,
    check_finite,
    check_labels,
    check_numbers,
    value_of,
)
from ._plain import plain_terms
from ._rows import Rows, are_usual, check_kinds, check_shapes, select_rows
from ._seed import seeded
from ._traced import traced_terms
from .divergence import Divergence
from .refine import Refinement
from .signals import Batch, Signals, Taps, first_tensor, is_parameter
from .temperature import TemperatureRule, Temperatures
from .terms import LogitTerm, Term
from .weight import SampleWeight

__all__ = ["LogitObjective", "Objective", "SumOfTerms", "Terms"]


class Terms(NamedTuple):
    """Loss of one batch, and what it is made of."""

    total: Tensor
    """ce_weight * ce + sum of weight * warm-up * term: the scalar to call ``backward()`` on."""
    ce: Tensor
    """Cross entropy with the labels, mean over the rows, unweighted; 0 without labels."""
    kd: Tensor
    """Value of the logit term, or of the only term; mean over the rows, unweighted; 0 without."""
    temperature: Temperatures | None
    """Temperatures that the rule of the logit term chose, each (N, 1) or (1, 1); None without one."""


class SumOfTerms(Terms):
    """`Terms` of an `Objective` with other terms than one on logits; as a tuple, the same four."""

    parts: Mapping[str, Tensor]
    """Every term by its name, mean over the rows, unweighted."""


class CrossEntropy(nn.Module):
    """Cross entropy with labels or probabilities, with its usual options."""

    def __init__(self, class_weights: Any = None, label_smoothing: float = 0.0):
        super().__init__()
        if not isinstance(label_smoothing, numbers.Real):
            raise TypeError(f"label_smoothing: expected a number in [0, 1), got {brief(label_smoothing)}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: expected a number in [0, 1), got {label_smoothing!r}")
        self.plain: bool
        self.class_weights: Tensor | None
        if class_weights is not None:
            try:
                class_weights = torch.as_tensor(class_weights, dtype=torch.float32)
            except (TypeError, ValueError, RuntimeError):
                raise TypeError(
                    f"class_weights: expected (K,) finite numbers of at least 0, got {brief(class_weights)}"
                ) from None
            if class_weights.ndim != 1 or not (class_weights.isfinite() & (class_weights >= 0)).all():
                raise ValueError(
                    f"class_weights: expected (K,) finite numbers of at least 0, got {class_weights}"
                )
        self.register_buffer("class_weights", None, persistent=False)
        self.class_weights = class_weights
        self.label_smoothing: float = float(label_smoothing)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "label_smoothing" or (name == "class_weights" and "plain" in self.__dict__):
            # Whether it is the mean over rows of -log q(label): kept, for it is read before every call of a compiled step.
            self.__dict__["plain"] = self.class_weights is None and not self.label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Value of each row, and what each counts in the mean, both (N,)."""
        weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        if weights is not None and len(weights) != logits.shape[1]:
            raise ValueError(f"class_weights: expected {logits.shape[1]} of them, got {len(weights)}")
        if target.is_floating_point():
            target = target.to(logits.dtype)
        values = F.cross_entropy(
            logits,
            target,
            weight=weights,
            label_smoothing=self.label_smoothing,
            reduction="none",
            ignore_index=NO_LABEL,
        )
        if weights is None or target.is_floating_point():  # torch divides by the rows there, weighted or not
            return values, torch.ones_like(values)
        return values, weights[target]


class Objective(nn.Module):
    r"""Distillation loss: cross entropy and a weighted sum of terms.

    .. math:: \mathcal L = \lambda_{CE}\,\mathrm{CE}(s, y) + \sum_j \lambda_j\, w_{j,e}\,\frac1N \sum_i \ell_{j,i},
              \qquad w_{j,e} = \min(e / e_j,\, 1)

    with :math:`e` the epoch counted from 1 and :math:`e_j` the warm-up of term j. Rows whose label is `ignore_index`
    are taken out before anything else: cross entropy, terms, temperatures and batch statistics are those of the rows
    that remain.

    Args:
        terms: by name; empty for cross entropy alone (then no teacher is needed).
        weights: :math:`\lambda_j`, of every term.
        ce_weight: :math:`\lambda_{CE}`.
        warmup_epochs: :math:`e_j`, one number for all terms or one by name; 0 for none.
        class_weights: (K,) weights of the classes in the cross entropy, as in `torch.nn.CrossEntropyLoss`.
        label_smoothing: of the cross entropy alone.
        chunk: rows that are computed at a time, for many classes: the same loss and gradient, without ever holding more
            than a slice in fp32. Refused where a term reads the whole batch.
        pad_vocab: None, or "truncate": where the teacher has another number of classes, compare the classes that both
            have, from the first on (vocabularies padded to different sizes).

    Raises:
        TypeError: for terms or weights that are no mappings, and for a term that is none.
        ValueError: for a negative or non-finite weight, a term without a weight, a name that a module cannot have, or an
            option out of range.
    """

    terms: Mapping[str, Term]

    def __init__(
        self,
        terms: Mapping[str, Term],
        weights: Mapping[str, float],
        ce_weight: float = 1.0,
        *,
        warmup_epochs: int | Mapping[str, int] = 0,
        class_weights: Any = None,
        label_smoothing: float = 0.0,
        chunk: int | None = None,
        pad_vocab: str | None = None,
    ):
        super().__init__()
        _check_terms(terms, weights)
        if set(terms) != set(weights):
            raise ValueError(f"weights: expected one for each of {sorted(terms)}, got {sorted(weights)}")
        if not isinstance(warmup_epochs, Mapping):
            warmup_epochs = dict.fromkeys(terms, warmup_epochs)
        if unknown := set(warmup_epochs) - set(terms):
            raise ValueError(f"warmup_epochs: no term is called {', '.join(sorted(unknown))}")
        check_weight("ce_weight", ce_weight)
        for name in terms:
            check_weight(f"weight of {name}", weights[name])
            check_weight(f"warm-up of {name}", warmup_epochs.get(name, 0))
        if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1):
            raise ValueError(f"chunk: expected a number of rows of at least 1 or None, got {chunk!r}")
        if pad_vocab not in (None, "truncate"):
            raise ValueError(f"pad_vocab: expected None or 'truncate', got {pad_vocab!r}")
        self.terms = nn.ModuleDict(terms)  # type: ignore[assignment]
        self.weights = {name: float(weights[name]) for name in terms}
        self.warmups = {name: warmup_epochs.get(name, 0) for name in terms}
        self.ce_weight = float(ce_weight)
        self.cross_entropy = CrossEntropy(class_weights, label_smoothing)
        self._is_plain = len(terms) < 2 and all(isinstance(term, LogitTerm) for term in terms.values())
        self._may_be_plain = self._is_plain and bool(terms) and _composes(type(self))
        self.chunk = chunk
        self.pad_vocab = pad_vocab
        self.built = not self.builds
        """Whether `build` has been called, or no term needs it."""
        if chunk is not None:
            self._refuse_slices()

    # ---- what a loop wants to know ----

    @property
    def needs_teacher(self) -> bool:
        """Whether the loss reads the teacher at all."""
        return len(self.terms) > 0

    @property
    def taps(self) -> Taps:
        """Features that the terms read, of either network."""
        taps = Taps()
        for term in self.terms.values():
            taps = taps | term.taps
        return taps

    @property
    def reads_batch(self) -> bool:
        """Whether a row's value depends on the other rows of its batch, and so on gradient accumulation."""
        return any(term.reads_batch for term in self.terms.values())

    @property
    def reads_target(self) -> bool:
        """Whether labels are needed, even where the cross entropy weighs 0."""
        return self.ce_weight > 0 or any(term.reads_target for term in self.terms.values())

    @property
    def reads_epoch(self) -> bool:
        """Whether there is a warm-up or a schedule."""
        return any(warmup > 0 for warmup in self.warmups.values()) or any(
            term.reads_epoch for term in self.terms.values()
        )

    @property
    def builds(self) -> bool:
        """Whether a term has parts that depend on the shapes of the features (`build`)."""
        return any(type(term).build is not Term.build for term in self.terms.values())

    @property
    def deploys(self) -> bool:
        """Whether what is evaluated and saved is another network than the student (`deploy`)."""
        return any(type(term).deploy is not Term.deploy for term in self.terms.values())

    def build(self, student: Signals, teacher: Signals, train_images: int, seed: int = 0) -> "Objective":
        """Make the connectors and memories of all terms from outputs for an example; once, before the optimizer.

        Their random numbers follow `seed`; the caller's random state stays as it is.
        """
        with seeded(seed):
            for term in self.terms.values():
                term.build(student, teacher, train_images)
        self.built = True
        return self

    def deploy(self, student: nn.Module, teacher: nn.Module) -> nn.Module:
        """The network to evaluate and save: the student, or what a term makes of it and a part of the teacher.

        It shares its parts with those that it is made of, so that it is up to date after every step.
        """
        for term in self.terms.values():
            student = term.deploy(student, teacher)
        return student

    # ---- the loss ----

    def forward(
        self,
        student_logits: Tensor | Signals,
        teacher_logits: Tensor | Signals | None,
        target: Tensor | None,
        epoch: int | None = None,
        *,
        ignore_index: int | None = -100,
        index: Tensor | None = None,
    ) -> Terms:
        """Loss of one batch.

        Args:
            student_logits: (…, K), with gradient; or `Signals`, with the features that the terms tap. Half precision is
                raised to fp32 first.
            teacher_logits: (…, K); taken as constant. None only where there are no terms.
            target: (…) integer labels; or (…, K) probabilities; or None, where the cross entropy weighs 0 and no
                term reads labels.
            epoch: counted from 1; drives warm-ups and schedules. None means that they are over.
            ignore_index: label of the rows to take out; None where there are none, which spares an accelerator
                the wait for the answer where rows are compared with each other, or have leading axes. (Where (N, K) rows
                stand for themselves they are left out there without a wait; the temperatures then name them too.)
            index: (B,) positions of the images in the training set, for terms with a memory of it.

        Raises:
            TypeError: for logits that are no tensors of floating-point numbers, a target that is no tensor, an ignore_index
                that is no whole number.
            ValueError: for mismatched shapes, an empty batch, a missing teacher or target, an epoch below 1, two classes
                where rows are standardized; and on a CPU for labels out of range and NaN or infinite logits, naming
                the rows (on an accelerator and inside `torch.vmap` nothing can be read: the training loop does it
                once an epoch).
        """
        if self._may_be_plain and self.chunk is None and is_compiling():
            found = traced_terms(self, student_logits, teacher_logits, target, epoch, ignore_index)
            if found is not None:
                return tuple.__new__(Terms, found)  # its own constructor is nine names to a compiled step
        student = _signals(student_logits)
        teacher = None if teacher_logits is None else _signals(teacher_logits)
        taught = None if teacher is None else teacher.logits
        usual = not is_compiling() and are_usual(student.logits, taught, target)
        if not usual:
            check_kinds(student.logits, taught, target)
            self._check_call(student.logits, teacher, target)
            check_shapes(student.logits, taught if self.terms else None, target, self.pad_vocab)
        _check_epoch(epoch)
        if type(ignore_index) is not int and ignore_index is not None and not is_compiling():
            _check_ignored(ignore_index)
        if usual and self._may_be_plain and self.chunk is None:
            # Before rows are selected: labels that are all in range, as nearly always, need no look of their own.
            found = plain_terms(self, student.logits, taught, target, epoch, ignore_index)  # type: ignore[arg-type]
            if found is not None:
                return Terms(*found)
        rows = select_rows(
            student.logits,
            taught if self.terms else None,
            target,
            ignore_index=ignore_index,
            may_mask=self._rows_stand_alone,
        )
        if rows.keep is not None:
            self._refuse_gaps(ignore_index)
        if index is not None and rows.keep is not None and rows.keep.ndim == 1:  # a row is an image
            index = _positions_kept(index, rows.keep)
        if rows.target is not None and not usual and not is_compiling():
            rows = rows._replace(target=_ordinary(rows.target))
        if _are_plain(rows) and self._may_be_plain and self.chunk is None and not (usual and rows.keep is None):
            s, t = _ordinary(rows.student), _ordinary(rows.teacher)  # type: ignore[arg-type]
            found = plain_terms(self, s, t, rows.target, epoch, None)  # type: ignore[arg-type]
            if found is not None:
                return Terms(*found)
        batch = Batch(rows.target, index, epoch)
        device = rows.student.device.type
        if is_compiling() or torch.is_autocast_enabled(device):
            # Or else matrix products of a divergence or a rule would fall to the half precision of the caller's autocast.
            with torch.autocast(device, enabled=False):
                return self._loss(rows, batch, student, teacher)
        return self._loss(rows, batch, student, teacher)

    def _loss(self, rows: Rows, batch: Batch, student: Signals, teacher: Signals | None) -> Terms:
        """Loss of the rows that are left."""
        count = rows.student.shape[0]
        if not count:
            return self._nothing(rows.student)
        if rows.teacher is not None and rows.teacher.shape[1] != rows.student.shape[1]:
            rows = self._shared_classes(rows)
        if self.chunk is not None and count > self.chunk:
            self._refuse_slices()
            return self._in_slices(rows, batch)
        return self._whole(rows, batch, student, teacher)

    def _shared_classes(self, rows: Rows) -> Rows:
        """Rows without the teacher's classes beyond the student's, which no loss reads (`pad_vocab`)."""
        assert rows.teacher is not None
        teacher = rows.teacher[:, : rows.student.shape[1]]
        if rows.target is not None and any(term.reads_target for term in self.terms.values()):
            check_labels(rows.target, teacher.shape[1])  # a term finds no label among the student's own padding
        return rows._replace(teacher=teacher)

    def _rows_stand_alone(self) -> bool:
        """Whether no row is compared with another."""
        return not any(
            term.reads_batch or term.keeps_state or not term.per_sample for term in self.terms.values()
        )

    def _refuse_slices(self) -> None:
        """Raise ValueError if a term cannot be computed in slices; a part may have been changed since the construction."""
        whole = [
            name
            for name, term in self.terms.items()
            if term.reads_batch or term.keeps_state or not term.per_sample or term.taps != Taps()
        ]
        if whole:
            raise ValueError(
                f"chunk: {', '.join(whole)} needs the whole batch in one call and cannot be computed in slices; leave "
                "chunk out, or choose a method that reads each row alone"
            )

    def _refuse_gaps(self, ignore_index: int | None) -> None:
        """Raise ValueError if a term pairs rows by their places, of which some are left out."""
        for name, term in self.terms.items():
            if isinstance(term, LogitTerm) and term.divergence.pairs_rows:
                raise ValueError(
                    f"target: {name} pairs the views of an image by their rows, and rows with the label {ignore_index} would be "
                    "left out; leave out both views of such images, in logits and labels alike, before the loss"
                )

    def _check_call(self, logits: Tensor, teacher: Signals | None, target: Tensor | None) -> None:
        if self.needs_teacher and teacher is None:
            raise ValueError(
                "teacher_logits: this method distills from a teacher and got None; pass the teacher's logits "
                "for the same images, or use the method 'ce'"
            )
        if target is None and self.reads_target:
            why = "the cross entropy has a weight" if self.ce_weight > 0 else "a term reads the labels"
            raise ValueError(
                f"target: got None, but {why}; pass labels, or ce_weight=0 with a method that reads none"
            )
        if target is None or not target.is_floating_point() or target.ndim != logits.ndim:
            return
        readers = [name for name, term in self.terms.items() if term.reads_target]
        if readers:
            raise ValueError(
                f"target: {', '.join(readers)} needs one class label a row, got probabilities; use a method that reads "
                "no labels (such as 'kd', 'zkd+mlt') with mixed or smoothed labels"
            )

    def _whole(self, rows: Rows, batch: Batch, student: Signals, teacher: Signals | None) -> Terms:
        reads = _check.may_read(rows.student)
        if reads:
            check_finite(student_logits=rows.student, teacher_logits=rows.teacher)
        s = at_least_fp32(_ordinary(rows.student))
        ce = self._ce(s, rows)
        total = ce if self.ce_weight == 1 else self.ce_weight * ce
        kd, temperatures, parts = None, None, {}
        if rows.teacher is not None:
            s_rows, t_rows = self._both(s, rows.teacher)
            for name, term in self.terms.items():
                if isinstance(term, LogitTerm):
                    values, temperatures = term.evaluate(s_rows, t_rows, batch)
                else:
                    of_student = Signals(s_rows, _kept(student, rows))
                    of_teacher = Signals(t_rows, {} if teacher is None else _kept(teacher, rows))
                    values = term(of_student, of_teacher, batch)
                    _check_values(name, values, len(s_rows))
                parts[name] = values.mean() if rows.mask is None else _mean(values, rows.mask, term.reads_batch)
                weight = self.weights[name] * self._warmup(name, batch.epoch)
                total = torch.add(total, parts[name], alpha=weight)
                if isinstance(term, LogitTerm) or len(self.terms) == 1:
                    kd = parts[name]
        if reads:
            _refuse_non_finite(total, s.dtype)
        terms = Terms(total, ce, torch.zeros_like(ce) if kd is None else kd, temperatures)
        return self._result(terms, parts)

    def _both(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of both networks with the classes that both have, in the student's dtype."""
        teacher = _ordinary(teacher.detach())
        if student.shape[-1] != teacher.shape[-1]:
            shared = min(student.shape[-1], teacher.shape[-1])
            student, teacher = student[:, :shared], teacher[:, :shared]
        return student, teacher if teacher.dtype == student.dtype else teacher.to(student.dtype)

    def _ce(self, student: Tensor, rows: Rows) -> Tensor:
        if rows.target is None:
            return student.new_zeros(())
        if self.cross_entropy.plain and rows.mask is None:
            return F.cross_entropy(
                student,
                rows.target.to(student.dtype) if rows.target.is_floating_point() else rows.target,
                ignore_index=NO_LABEL,
            )
        values, counts = self.cross_entropy(student, rows.target)
        if rows.mask is not None:
            values, counts = (torch.where(rows.mask, x, 0.0) for x in (values, counts))
        return values.sum() / counts.sum().clamp(min=torch.finfo(counts.dtype).tiny)

    def _in_slices(self, rows: Rows, batch: Batch) -> Terms:
        """The same, a slice of rows at a time; the backward pass computes each slice once more."""
        if _check.may_read(rows.student):
            check_finite(student_logits=rows.student, teacher_logits=rows.teacher)
        count, size = len(rows.student), self.chunk or len(rows.student)
        found: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []
        seen: list[Temperatures] = []
        teachers = rows.teacher.split(size) if rows.teacher is not None else [None] * math.ceil(count / size)
        targets = rows.target.split(size) if rows.target is not None else [None] * len(teachers)
        masks = rows.mask.split(size) if rows.mask is not None else [None] * len(teachers)
        for one in zip(rows.student.split(size), teachers, targets, masks, strict=True):
            ce, counted, sums, temperatures = checkpoint(
                self._slice,
                *one,
                batch.epoch,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            found.append((ce, counted, sums))
            if temperatures is not None:
                seen.append(temperatures)
        ce_sums, counts, sums_of_terms = zip(*found, strict=True)
        counted = _sum(counts)
        parts = {name: _sum([sums[name] for sums in sums_of_terms]) for name in sums_of_terms[0]}
        ce = _sum(ce_sums) / counted.clamp(min=torch.finfo(counted.dtype).tiny)
        total, kd = self.ce_weight * ce, torch.zeros_like(ce)
        for name, term in self.terms.items():
            parts[name] = parts[name] / (count if rows.mask is None else rows.mask.sum().clamp(min=1))
            total = total + self.weights[name] * self._warmup(name, batch.epoch) * parts[name]
            if isinstance(term, LogitTerm) or len(self.terms) == 1:
                kd = parts[name]
        if _check.may_read(total):
            _refuse_non_finite(total, total.dtype)
        return self._result(Terms(total, ce, kd, _joined(seen)), parts)

    def _slice(
        self,
        student: Tensor,
        teacher: Tensor | None,
        target: Tensor | None,
        mask: Tensor | None,
        epoch: int | None,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor], Temperatures | None]:
        """Sums over a slice of rows: of the cross entropy, of what it is divided by, and of every term by its name."""
        s = at_least_fp32(student)
        ce, counted = s.new_zeros(()), s.new_zeros(())
        sums: dict[str, Tensor] = {}
        temperatures = None
        if target is not None:
            values, counts = self.cross_entropy(s, target)
            if mask is not None:
                values, counts = (torch.where(mask, x, 0.0) for x in (values, counts))
            ce, counted = values.sum(), counts.sum()
        batch = Batch(target, None, epoch)
        if teacher is not None:
            s_rows, t_rows = self._both(s, teacher)
            for name, term in self.terms.items():
                if isinstance(term, LogitTerm):
                    values, chosen = term.evaluate(s_rows, t_rows, batch)
                    temperatures = Temperatures(*(tau.expand(len(s), 1) for tau in chosen))
                else:
                    values = term(Signals(s_rows), Signals(t_rows), batch)
                if values.shape != (len(s_rows),):
                    raise ValueError(
                        f"chunk: expected one value for each of {len(s_rows)} rows from {name}, got shape "
                        f"{tuple(values.shape)}; leave chunk out, or set per_sample = False where it is one for all rows"
                    )
                sums[name] = (values if mask is None else torch.where(mask, values, 0.0)).sum()
        return ce, counted, sums, temperatures

    def _nothing(self, student: Tensor) -> Terms:
        """Loss of a batch of which every row is ignored: 0, with a gradient of 0."""
        zero = at_least_fp32(student).sum()
        for parameter in self.parameters():  # without a gradient, DistributedDataParallel would wait for it
            zero = zero + parameter.flatten()[:0].sum()
        nothing = zero.detach()
        return self._result(Terms(zero, nothing, nothing, None), dict.fromkeys(self.terms, nothing))

    def _result(self, terms: Terms, parts: Mapping[str, Tensor]) -> Terms:
        if self._is_plain:
            return terms  # whose kd is the one part
        result = SumOfTerms(*terms)
        result.parts = parts
        return result

    def _warmup(self, name: str, epoch: int | None) -> float:
        if epoch is None or self.warmups[name] == 0:
            return 1.0
        return min(epoch / self.warmups[name], 1.0)

    def extra_repr(self) -> str:
        return f"weights={self.weights}, ce_weight={self.ce_weight:g}, warmup_epochs={self.warmups}"


_OF_THE_TERM = ("divergence", "temperature", "standardize")


class LogitObjective(Objective):
    r"""Distillation loss with one logit term (refine? → standardize? → temperature → divergence → sample weight?).

    .. math:: \mathcal L = \lambda_{CE}\,\mathrm{CE}(s, y)
              + \lambda_{KD}\,w_e\,\frac1N \sum_i u_i\,D_i\big(z^s_i, z^t_i;\ \tau_i\big), \qquad
              w_e = \min(e / e_0,\, 1)

    with :math:`z` the standardized logits, or the logits themselves; :math:`\tau_i` the temperatures of the rule;
    :math:`D` the divergence, :math:`u` the sample weight; :math:`e` the epoch counted from 1 and :math:`e_0` the warm-up.

    Args:
        divergence: a `Divergence`, or None for cross entropy alone (then no teacher is needed).
        temperature: a `TemperatureRule`; ``Fixed(4)`` when left out.
        standardize: False, True or ``"population"`` (as the papers print it), or ``"sample"`` (as the released
            codes compute it: K - 1 in the variance, 1e-7 added).
        ce_weight: :math:`\lambda_{CE}`.
        kd_weight: :math:`\lambda_{KD}`.
        warmup_epochs: :math:`e_0`; 0 for none.
        refine: a `Refinement` of the rows, or None.
        weight: a `SampleWeight`, or None.
        options: ``class_weights``, ``label_smoothing``, ``chunk``, ``pad_vocab``, as for `Objective`.

    Raises:
        ValueError: for an unknown standardization or a negative or non-finite weight.
        TypeError: if a part is not of its family.
    """

    def __init__(
        self,
        divergence: Divergence | None = None,
        temperature: TemperatureRule | None = None,
        standardize: bool | str = False,
        ce_weight: float = 1.0,
        kd_weight: float = 1.0,
        warmup_epochs: int = 0,
        *,
        refine: Refinement | None = None,
        weight: SampleWeight | None = None,
        **options: Any,
    ):
        check_weight("kd_weight", kd_weight)
        check_weight("warmup_epochs", warmup_epochs)
        terms = {}
        if divergence is not None:
            terms["kd"] = LogitTerm(divergence, temperature, standardize, refine=refine, weight=weight)
        super().__init__(
            terms,
            dict.fromkeys(terms, kd_weight),
            ce_weight,
            warmup_epochs=dict.fromkeys(terms, warmup_epochs),
            **options,
        )
        self.kd_weight = float(kd_weight)
        self.warmup_epochs = warmup_epochs
        self._register_load_state_dict_pre_hook(rename_old_parameters)

    @property
    def term(self) -> LogitTerm | None:
        """The logit term; None for cross entropy alone."""
        term = self.terms["kd"] if self.terms else None
        return term if isinstance(term, LogitTerm) else None

    @property
    def divergence(self) -> Divergence | None:
        """The divergence; None for cross entropy alone."""
        return None if self.term is None else self.term.divergence

    @property
    def temperature(self) -> TemperatureRule | None:
        """The temperature rule; None for cross entropy alone."""
        return None if self.term is None else self.term.temperature

    @property
    def standardize(self) -> bool | str:
        """How rows are standardized: False, "population" or "sample"."""
        return self.term.standardize if self.term is not None else False

    def __setattr__(self, name: str, value: Any) -> None:
        # nn.Module would register a module under this name, beside the term's own.
        if name in _OF_THE_TERM:
            setattr(self.term, name, value)
        else:
            super().__setattr__(name, value)
            if name == "kd_weight" and "kd" in self.terms:
                self.weights["kd"] = float(value)

    def extra_repr(self) -> str:
        return f"ce_weight={self.ce_weight:g}, kd_weight={self.kd_weight:g}, warmup_epochs={self.warmup_epochs}"


def rename_old_parameters(state: dict[str, Any], prefix: str = "", *_: Any) -> None:
    """Give their present names to parameters that were saved before terms had names: ``temperature.theta`` is ``terms.kd.temperature.theta``."""
    for part in ("temperature.", "divergence."):
        for key in [key for key in state if key.startswith(prefix + part)]:
            state[f"{prefix}terms.kd.{key.removeprefix(prefix)}"] = state.pop(key)


def check_weight(name: str, value: float) -> None:
    """Raise unless a weight or a warm-up is a finite number of at least 0: TypeError for no number, ValueError for others."""
    check_numbers("a finite number of at least 0", **{name: value})
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}: expected a finite number of at least 0, got {value!r}")


# What a ModuleDict has of its own, and would take a term of that name for.
_TAKEN = frozenset(dir(nn.ModuleDict()))


def _check_terms(terms: Any, weights: Any) -> None:
    """Raise TypeError unless these are terms and numbers by name, and ValueError for names that no module can have."""
    for name, given in (("terms", terms), ("weights", weights)):
        if not isinstance(given, Mapping | nn.ModuleDict):
            raise TypeError(
                f"{name}: expected a dict with an entry for each term by its name, got {brief(given)}"
            )
    for name, term in terms.items():
        if not isinstance(name, str):
            raise TypeError(f"terms: expected names that are texts, got {brief(name)}")
        if not name or "." in name or name in _TAKEN:
            raise ValueError(
                f"terms: {brief(name)} cannot be the name of a term: expected a text without a dot that is no attribute of "
                "torch.nn.ModuleDict, under which state_dict() keeps its tensors; choose another"
            )
        if not isinstance(term, Term):
            wraps = isinstance(term, Divergence)
            remedy = (
                "adakd.LogitTerm(divergence) makes one of it" if wraps else "terms are subclasses of adakd.Term"
            )
            raise TypeError(f"terms: {name!r}: expected a Term, got {type(term).__qualname__}; {remedy}")


def _composes(kind: type) -> bool:
    """Whether objectives of this class put the loss together as `Objective` does."""
    return all(
        getattr(kind, name) is getattr(Objective, name)
        for name in ("_loss", "_whole", "_ce", "_both", "_warmup")
    )


def _are_plain(rows: Rows) -> bool:
    """Whether these are some (N, K) logits of both networks and N labels that all count."""
    return (
        not is_compiling()
        and rows.teacher is not None
        and rows.target is not None
        and rows.mask is None
        and not rows.target.is_floating_point()
        and rows.student.shape == rows.teacher.shape
        and len(rows.student) > 0
    )


def _signals(outputs: Any) -> Signals:
    return outputs if isinstance(outputs, Signals) else Signals(outputs)


def _kept(signals: Signals, rows: Rows) -> Mapping[str, Tensor]:
    """Features of the rows that are left, where a row is an image; of sequences they stay as they are.

    Where rows are marked and not taken out, the features of those that do not count are 0: NaN in them must not reach a
    gradient.
    """
    if signals.logits.ndim > 2 or (rows.keep is None and rows.mask is None):
        return signals.features
    found = {}
    for name, feature in signals.features.items():
        feature = first_tensor(feature)
        if is_parameter(name) or not isinstance(feature, Tensor):  # of which the term has something to say
            found[name] = feature
        elif rows.keep is not None:
            found[name] = feature[rows.keep]
        elif rows.mask is not None:
            found[name] = torch.where(rows.mask.view(-1, *[1] * (feature.ndim - 1)), feature, 0.0)
    return found


def _positions_kept(index: Tensor, keep: Tensor) -> Tensor:
    """Positions of the images that are left."""
    if not isinstance(index, Tensor) or index.shape != keep.shape:
        got = tuple(index.shape) if isinstance(index, Tensor) else type(index).__name__
        raise ValueError(
            f"index: expected the positions of the batch's {len(keep)} images, a tensor of shape ({len(keep)},), got {got}; pass "
            "those of the ignored rows, too"
        )
    return index[keep]


def _check_values(name: str, values: Tensor, count: int) -> None:
    if values.ndim and values.shape != (count,):
        raise ValueError(
            f"{name}: expected one value for each of {count} rows, or one for all, got shape {tuple(values.shape)}; "
            "sum over the classes, as by .sum(dim=-1)"
        )


def _sum(values: Sequence[Tensor]) -> Tensor:
    return sum(values[1:], values[0])


def _mean(values: Tensor, mask: Tensor, reads_batch: bool) -> Tensor:
    """Mean over the rows that count."""
    if reads_batch or values.ndim == 0:
        # In a compiled graph rows cannot be taken out of a batch statistic: NaN, and no silently wrong number.
        return torch.where(mask.all(), values.mean(), torch.nan)
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def _joined(seen: list[Temperatures]) -> Temperatures | None:
    """Temperatures of all slices, (N, 1)."""
    return Temperatures(*map(torch.cat, zip(*seen, strict=True))) if seen else None


def _ordinary(x: Tensor) -> Tensor:
    """The tensor itself, or a copy of one from `torch.inference_mode`, which no graph could keep."""
    if is_compiling() or not x.is_inference():
        return x
    return x.clone()


def _check_epoch(epoch: int | None) -> None:
    if epoch is None:
        return
    if type(epoch) is not int and not is_compiling() and not isinstance(epoch, numbers.Real):
        raise TypeError(f"epoch: expected a number counted from 1, or None, got {epoch!r}")
    if not epoch >= 1:
        raise ValueError(f"epoch: epochs are counted from 1, got {epoch}")


def _check_ignored(ignore_index: Any) -> None:
    """Raise TypeError unless it can be a label."""
    try:
        operator.index(ignore_index)
    except TypeError:
        raise TypeError(
            f"ignore_index: expected a label, a whole number, or None, got {brief(ignore_index)}"
        ) from None


def _refuse_non_finite(total: Tensor, dtype: torch.dtype) -> None:
    """The logits are known to be finite."""
    value = value_of(total)
    if value is not None and not math.isfinite(value):
        raise NotFiniteError(
            f"the loss is {value} although all logits are finite: their scale is beyond {dtype}; "
            "standardize, or lower the learning rate"
        )
