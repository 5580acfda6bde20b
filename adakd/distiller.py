"""Student, teacher and method as one module, for a loop that is not ours: your own, Lightning's, the Hugging Face Trainer's."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Self

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from ._check import brief, check_numbers, check_tensor
from ._frozen import frozen as freeze
from .methods import create_method
from .objective import Objective, Terms
from .signals import Signals, Tapped, Which, logits_of_output
from .teachers import Ensemble

__all__ = ["Distiller", "TrainerDistiller", "check_apart"]


def _tensors(module: nn.Module) -> dict[int, str]:
    """Memory of each parameter and buffer that has any -> its name."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {x.data_ptr(): name for name, x in named if not is_lazy(x) and x.device.type != "meta" and x.numel()}


def _trains(student: nn.Module) -> bool:
    """Whether any parameter can be trained; True where there are none."""
    parameters = list(student.parameters())
    return not parameters or any(parameter.requires_grad for parameter in parameters)


def check_apart(student: nn.Module, teacher: nn.Module) -> None:
    """Raise ValueError if freezing the teacher would freeze some of the student, or the student is frozen already."""
    if student is teacher or any(student is part for part in teacher.modules()):
        raise ValueError(
            "student, teacher: expected two networks, got the same object twice, which would be frozen; "
            "for self-distillation pass copy.deepcopy(network) as the teacher"
        )
    ours, theirs = _tensors(student), _tensors(teacher)
    shared = [name for memory, name in ours.items() if memory in theirs]
    if shared:
        more = "" if len(shared) == 1 else f" and {len(shared) - 1} more"
        raise ValueError(
            f"student, teacher: expected networks of their own, but they share {shared[0]!r}{more}, which would be "
            "frozen and follow the student; pass copy.deepcopy(teacher)"
        )
    if not _trains(student):
        raise ValueError(
            "student: expected a network to be trained, got one whose parameters are all frozen, as those of another "
            "Distiller's teacher are; pass copy.deepcopy(network) there as the teacher, or call "
            "student.requires_grad_(True)"
        )


def _as_objective(method: Any, overrides: dict[str, Any]) -> Objective:
    if isinstance(method, str):
        return create_method(method, **overrides)
    if not isinstance(method, Objective):
        raise TypeError(
            f"method: expected a name of adakd.METHODS or an Objective, got {method!r}; "
            "a divergence becomes one by adakd.LogitObjective(divergence)"
        )
    if overrides:
        raise ValueError(f"overrides {sorted(overrides)} need a method's name, got an objective")
    return method


def _as_teacher(teacher: Any, which: Which, needed: bool) -> nn.Module | None:
    if teacher is None and not needed:
        return None
    if isinstance(teacher, nn.ModuleList) or (isinstance(teacher, Sequence) and not isinstance(teacher, str)):
        return Ensemble(teacher, logits=which)
    if not isinstance(teacher, nn.Module):
        raise TypeError(
            f"teacher: expected a torch.nn.Module, or a sequence of several, got {type(teacher).__name__}"
        )
    return teacher


def _places(logits: Any) -> tuple[Which, Which]:
    """Where the logits of student and teacher are in what the networks return."""
    which = logits if isinstance(logits, tuple) else (logits, logits)
    if len(which) != 2 or not all(
        place is None or isinstance(place, int | str) or callable(place) for place in which
    ):
        raise TypeError(
            "logits: expected an index, a key or an attribute, a function of the output, or a pair of such (student's, "
            f"teacher's), got {brief(logits)}"
        )
    return which


def _call(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments of the networks."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    # A named tuple is one argument: torch's PackedSequence is one.
    return (inputs if type(inputs) is tuple else (inputs,)), {}


class _Pair(nn.Module):
    """Student, frozen teacher and objective; subclasses add the `forward` that a loop expects."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | Sequence[nn.Module] | None,
        method: str | Objective = "zkd+mlt",
        *,
        logits: Which | tuple[Which, Which] = None,
        **overrides: Any,
    ):
        super().__init__()
        if not isinstance(student, nn.Module):
            raise TypeError(f"student: expected a torch.nn.Module, got {type(student).__name__}")
        criterion = _as_objective(method, overrides)
        which = _places(logits)
        frozen = _as_teacher(teacher, which[1], criterion.needs_teacher)
        if frozen is not None:
            check_apart(student, frozen)
        # An ensemble finds the logits of its teachers itself.
        self._which = (which[0], None if frozen is not teacher else which[1])
        self.student = student
        self.criterion = criterion
        # In a tuple, so that it is no submodule: not trained, not saved, not put into training mode.
        self._frozen = (frozen,)
        self._tapped: list[Tapped | None] = [None, None]
        # Features that are not there are refused before anything is frozen.
        self._network(0)
        if criterion.needs_teacher:
            self._network(1)
        if frozen is not None:
            freeze(frozen)
        self.epoch: int | None = None
        """The epoch, counted from 1, for methods with a warm-up or a schedule; set it as epochs go by."""

    @property
    def teacher(self) -> nn.Module | None:
        """The frozen teacher; an `adakd.Ensemble` where several were given."""
        return self._frozen[0]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        if self.teacher is not None:
            self.teacher._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self

    def _network(self, side: int) -> nn.Module:
        """The student (0) or the teacher (1); `Tapped` where a term reads its features."""
        network = self.teacher if side else self.student
        assert network is not None
        names, tapped = self.criterion.taps[side], self._tapped[side]
        if not names:
            return network
        if tapped is None or tapped.network is not network:  # somebody has put another student in its place
            tapped = self._tapped[side] = Tapped(network, names, self._which[side])
        return tapped

    def _signals(self, side: int, inputs: tuple[Any, ...], named: dict[str, Any]) -> Signals:
        output = self._network(side)(*inputs, **named)
        return output if isinstance(output, Signals) else Signals(logits_of_output(output, self._which[side]))

    def _both(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Signals, Signals | None]:
        """Outputs of student and teacher; None where the method needs no teacher."""
        teacher = None
        if self.criterion.needs_teacher:
            with torch.no_grad():
                teacher = self._signals(1, inputs, named)
        return self._signals(0, inputs, named), teacher

    def logits(self, *inputs: Any, **named: Any) -> tuple[Tensor, Tensor | None]:
        """Logits of student and teacher for the same inputs; None where the method needs no teacher."""
        student, teacher = self._both(inputs, named)
        return student.logits, None if teacher is None else teacher.logits

    def build(self, example: Any, train_images: int = 0, *, seed: int = 0) -> Self:
        """Make the connectors and memories of the terms; before the optimizer and before loading a checkpoint.

        They become parameters and buffers of this module. Methods on logits have none.

        Args:
            example: a small batch of inputs, as a call takes them; both networks see it in evaluation mode.
            train_images: size of the training set, for terms with a memory of it.
            seed: of the connectors' initial weights; the caller's random state stays as it is.

        Returns:
            The distiller itself.

        Raises:
            RuntimeError: if the method's connectors or memories are there already.
        """
        if self.criterion.builds and self.criterion.built:
            raise RuntimeError(
                "build: this method's connectors and memories are made already, and others in their place would be none of an "
                "optimizer's that exists; build once, or make a new method and a new Distiller"
            )
        inputs, named = _call(example)
        modes = {module: module.training for module in self.student.modules()}
        self.student.eval()
        try:
            with torch.no_grad():
                student, teacher = self._both(inputs, named)
        finally:
            for module, mode in modes.items():
                module.training = mode
        if teacher is not None:  # else there is no term
            self.criterion.build(student, teacher, train_images, seed)
        self.criterion.to(student.logits.device)
        if student.logits.dtype == torch.float64:
            self.criterion.double()
        return self

    def deploy(self) -> nn.Module:
        """The network to evaluate and keep: the student, or what a term makes of it and a part of the teacher."""
        return self.student if self.teacher is None else self.criterion.deploy(self.student, self.teacher)

    def _replicate_for_data_parallel(self) -> NoReturn:
        raise RuntimeError(
            "nn.DataParallel would leave the teacher on one device and lose the state of temperature rules; "
            "use torchrun with one process a GPU (DistributedDataParallel)"
        )

    def _check_ready(self) -> None:
        """A schedule that nobody drives would silently count as over, and a frozen student would learn nothing."""
        if not self.criterion.built:
            raise RuntimeError(
                "this method has connectors or a memory, whose shapes depend on the networks: call "
                "distiller.build(example, train_images) before the optimizer is made, so that it trains them"
            )
        if self.training and torch.is_grad_enabled() and not _trains(self.student):
            raise RuntimeError(
                "the student has been frozen since this Distiller was made, perhaps as the teacher of another one; "
                "pass copy.deepcopy(network) there, and call student.requires_grad_(True) here"
            )
        keeping = [term for term in self.criterion.terms.values() if term.keeps_state] if self.training else []
        if keeping:
            around = getattr(DistributedDataParallel, "_active_ddp_module", None)
            own = [type(term).__name__ for term in keeping if term.own_memory]
            if around is not None and around.broadcast_buffers and own and around.process_group.size() > 1:
                warnings.warn(
                    f"{', '.join(own)}: the memory of the first process is put over the others' before every step, which "
                    "forget what they saw; give DistributedDataParallel broadcast_buffers=False (in newer versions "
                    "forward_sync_buffers=False)",
                    stacklevel=4,
                )
            if around is not None and not around.broadcast_buffers and len(own) < len(keeping):
                raise RuntimeError(
                    "this method keeps a state, which would drift apart between the processes; leave the buffers of "
                    "DistributedDataParallel synchronized (broadcast_buffers, in newer versions forward_sync_buffers)"
                )
        if self.training and self.epoch is None and self.criterion.reads_epoch:
            warnings.warn(
                "this method has a warm-up or a schedule; set distiller.epoch (from 1) as epochs begin, "
                "or it counts as over",
                stacklevel=4,
            )


class Distiller(_Pair):
    """A student, a frozen teacher and a method as one module: inputs and labels in, loss out.

    Its parameters are the student's and, where the method has some of its own, the criterion's: a learned temperature,
    connectors of features. The teacher is none of them: it stays in evaluation mode without gradients, moves along with
    ``.to(device)``, and is in no checkpoint. The object that is passed is itself put into evaluation mode and frozen
    (``requires_grad_(False)``), so it must share no parameter or buffer with the student: pass ``copy.deepcopy(network)``
    where it does.

    **Gradient accumulation.** Methods whose rows are independent add up: the mean of the parts' losses, weighted by their
    rows, is the loss of the whole. Where ``distiller.criterion.reads_batch`` (DIST, MLKD, CSWT, the token rule of AdaKD), a
    statistic is that of each part. Rules with a state (DTS, meta-learned, policy) move once a call in training mode: they
    see every part of a step as a step.

    **Several processes.** ``DistributedDataParallel(distiller)``, where the teacher is not taken part of: each process
    loads its own. With equally many rows that count on each, methods whose rows are independent train as one process on the
    whole batch would, and so does a learned temperature. Batch statistics are those of each process's rows. The state of a
    rule is a buffer, which DistributedDataParallel takes from rank 0 before every forward pass: all processes use
    the same temperature, moved by the rows of rank 0 alone. (Without that, ``broadcast_buffers=False``, such rules are refused; inside
    ``no_sync()`` each process moves its own until the next synchronized pass.) A memory of the training set, as that of
    CRD, is better left to each process: there ``broadcast_buffers=False``.

    Args:
        student: from inputs to logits (…, K).
        teacher: from the same inputs to logits (…, K); or a sequence of such, whose probabilities are averaged (for the
            mean of logits pass ``adakd.Ensemble(teachers, mean="logits")``); None where the method needs none.
        method: a name of `adakd.METHODS`, or an `Objective`. Where its terms read features, call `build` next.
        logits: where the logits are in what the networks return: an index, a key or an attribute, or a function of it.
            Left out: the tensor itself, its ``logits``, or a tuple's only tensor of shape (B, ·). A pair
            ``(student's, teacher's)`` where the two differ.
        overrides: as for `adakd.create_method`; only with a name.

    Raises:
        TypeError: for networks that are no modules, a method that is neither a name nor an objective, or a place of the
            logits that is none.
        ValueError: for an unknown method or override, networks that share parameters or buffers, a student that is
            frozen; when called, for a tuple with several tensors of shape (B, ·), if `logits` does not say which.

    >>> student, teacher = nn.Linear(8, 10), nn.Linear(8, 10)
    >>> distiller = Distiller(student, teacher, "zkd+mlt")
    >>> terms = distiller(torch.randn(4, 8), torch.tensor([1, 2, 3, 4]))
    >>> terms.total.backward()
    """

    def forward(
        self,
        inputs: Any,
        target: Tensor | None = None,
        *,
        index: Tensor | None = None,
        ignore_index: int | None = -100,
    ) -> Terms:
        """Terms of the loss; ``terms.total`` is what to call ``backward()`` on.

        Args:
            inputs: what both networks are called with: a tensor; a tuple of positional arguments (a tuple that is one
                argument stands in another, ``((a, b),)``); or a mapping of named ones.
            target: (…) labels, (…, K) probabilities (mixup), or None where the method reads no labels and its
                ``ce_weight`` is 0 (unlabelled inputs).
            index: (B,) positions of the images in the training set, for terms with a memory of it.
            ignore_index: label of the rows to leave out.

        Raises:
            RuntimeError: before `build`, where it is needed; for a student that has been frozen since.
        """
        self._check_ready()
        student, teacher = self._both(*_call(inputs))
        terms: Terms = self.criterion(
            student, teacher, target, epoch=self.epoch, index=index, ignore_index=ignore_index
        )
        return terms


_IGNORED = -100  # the label that Hugging Face's collators give to padding

_SHIFTED = ("ForCausalLM", "ForConditionalGeneration")
_UNSHIFTED = (
    "ForMaskedLM",
    "ForTokenClassification",
    "ForSequenceClassification",
    "ForImageClassification",
    "ForVideoClassification",
    "ForAudioClassification",
)


def _shifts(network: Any) -> bool | None:
    """Whether the label of a position is what the position before it predicts; None if the network does not say."""
    inner = getattr(network, "_orig_mod", network)  # torch.compile's wrapper, and PEFT's
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    names = [kind.__name__ for kind in type(inner).__mro__]
    if "PreTrainedModel" not in names:  # no model of transformers
        return None
    if getattr(inner.config, "is_encoder_decoder", False):  # its decoder's inputs are shifted already
        return False
    # Older versions say it in the name of the class alone.
    known = (*_SHIFTED, *_UNSHIFTED)
    kind = getattr(inner, "loss_type", None) or next((kind for kind in known if kind in names[0]), None)
    if kind in known:
        return kind in _SHIFTED
    if kind is None:  # older names: GPT2LMHeadModel, BertLMHeadModel
        from transformers.models.auto import modeling_auto

        causal = {*modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()}.intersection(names)
        masked = {*modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.values()}.intersection(names)
        if bool(causal) != bool(masked):
            return bool(causal)
    return None


def _memory(value: Any) -> tuple[Any, ...] | None:
    """What two names of one tensor have in common; None for what has no memory."""
    if not isinstance(value, Tensor) or is_lazy(value) or not value.numel() or value.device.type == "meta":
        return None
    return value.data_ptr(), value.shape, value.stride(), value.dtype


def _without_twins(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Leave out a tied parameter's other names: safetensors, in which the Trainer saves, refuses them."""
    seen = set()
    for name in [name for name in state if name.startswith(prefix)]:
        memory = _memory(state[name])
        if memory is not None and memory in seen:
            del state[name]
        seen.add(memory)


def _with_twins(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Put back what `_without_twins` left out."""
    twins: dict[Any, list[str]] = {}
    for named in (module.named_parameters, module.named_buffers):
        for name, value in named(remove_duplicate=False):
            twins.setdefault(_memory(value), []).append(prefix + name)
    twins.pop(None, None)
    for names in twins.values():
        there = next((name for name in names if name in state), None)
        if there is not None:
            for name in names:
                state.setdefault(name, state[there])


class TrainerDistiller(_Pair):
    """`Distiller` in the convention of the Hugging Face Trainer: named inputs, ``labels``, a dict of loss and logits.

    ``Trainer(model=TrainerDistiller(student, teacher, "zkd+mlt"), ...)``, with ``remove_unused_columns=False`` among
    its arguments, because the inputs' names are the networks' own. The distilled network is ``.student``, and
    ``.save_pretrained(folder)`` saves it; so do ``.generate``, ``.config`` and gradient checkpointing mean the student's.
    The Trainer's own checkpoints hold student and criterion, and it resumes from them.

    Sequence and token classification, masked and causal language models, encoders with decoders: rows with the label
    -100 count in neither cross entropy nor distillation, and for causal models the logits of a position are
    held against the label of the next. In evaluation mode with labels the loss is the same, without labels there are
    the student's logits alone.

    **Gradient accumulation.** The Trainer counts the labels of all parts of a step, and the loss of each part is its sum
    over that count: for methods whose rows are independent, parts with unequal padding add up to the loss of one large batch.
    (Of probabilities, which know no padding, so do parts of any number of sequences, if these are of one length.)
    Where ``.criterion.reads_batch`` or class weights are set, each part has statistics and a mean of its own. For several
    processes see `Distiller`.

    **Warm-ups and schedules** follow ``.epoch``, which a callback of the Trainer's sets::

        class Epochs(transformers.TrainerCallback):
            def on_epoch_begin(self, args, state, control, model, **_):
                model.epoch = int(state.epoch) + 1

    Args:
        student: from named inputs to an output with ``logits`` (…, K), as Hugging Face models have them.
        teacher: the same; or a sequence of such.
        method: a name of `adakd.METHODS`, or an `Objective`.
        shift: whether the labels of a sequence are those of the inputs, to be shifted by one (causal language models).
            None takes it from the student, where it is a model of transformers.
        logits: as for `Distiller`.
        overrides: as for `adakd.create_method`; among them ``chunk=`` for large vocabularies and
            ``pad_vocab="truncate"`` for padded ones.

    Raises:
        ValueError: as for `Distiller`; for models of several labels a row or of numbers; for a student and a teacher of
            which one shifts its labels and the other does not; when called, for labels of sequences where nobody says
            whether to shift them, and for no labels in training mode.
    """

    # Read by the Trainer: the loss heeds `num_items_in_batch`.
    accepts_loss_kwargs = True
    # Read by the Trainer where a checkpoint lacks a key.
    _keys_to_ignore_on_save = None
    _of_the_student = frozenset(
        {
            "activation_checkpointing_disable",
            "activation_checkpointing_enable",
            "can_generate",
            "config",
            "enable_input_require_grads",
            "generate",
            "generation_config",
            "gradient_checkpointing_disable",
            "gradient_checkpointing_enable",
            "is_activation_checkpointing",
            "is_gradient_checkpointing",
            "main_input_name",
            "prepare_decoder_input_ids_from_labels",
            "save_pretrained",
        }
    )

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | Sequence[nn.Module] | None,
        method: str | Objective = "zkd+mlt",
        *,
        shift: bool | None = None,
        logits: Which | tuple[Which, Which] = None,
        **overrides: Any,
    ):
        if not (shift is None or isinstance(shift, bool)):
            raise TypeError(f"shift: expected True, False or None, got {brief(shift)}")
        kind = getattr(getattr(student, "config", None), "problem_type", None)
        if kind in ("regression", "multi_label_classification"):
            raise ValueError(
                f"student: expected one class a row (softmax), got problem_type={kind!r}, whose logits are no "
                "distribution over classes; temperatures and these divergences do not apply"
            )
        if shift is None:
            shift = _shifts(student)
            teachers: list[Any] = [*teacher] if isinstance(teacher, (Sequence, nn.ModuleList)) else [teacher]
            if shift is not None and (not shift) in map(_shifts, teachers):
                raise ValueError(
                    f"student, teacher: {type(student).__name__} {'predicts the next' if shift else 'labels the same'} "
                    "position and the teacher does not; if they do belong together, say shift=True or shift=False"
                )
        super().__init__(student, teacher, method, logits=logits, **overrides)
        self.shift = shift
        """Whether labels are shifted by one; None where it has not been set."""
        self._register_state_dict_hook(_without_twins)
        self._register_load_state_dict_pre_hook(_with_twins, with_module=True)

    def __getattr__(self, name: str) -> Any:
        if name in TrainerDistiller._of_the_student:
            return getattr(self.student, name)
        return super().__getattr__(name)

    @property
    def loss_type(self) -> str | None:
        """Read by the Trainer, which counts the labels from the second on where they are shifted."""
        return "ForCausalLM" if self.shift else None

    def _rows(self, labels: Tensor) -> tuple[slice, Tensor]:
        """Positions whose logits count, and their labels."""
        soft = labels.is_floating_point()  # with an axis of classes
        if labels.ndim < (3 if soft else 2):
            return slice(None), labels
        if self.shift is None:
            raise ValueError(
                f"labels: expected to know whether those of shape {tuple(labels.shape)} are shifted, and "
                f"{type(self.student).__name__} does not say; pass shift=True to TrainerDistiller for a causal language "
                "model (position i predicts label i + 1), or shift=False (position i has label i)"
            )
        return (slice(None, -1), labels[:, 1:]) if self.shift else (slice(None), labels)

    def forward(
        self,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        index: Tensor | None = None,
        **inputs: Any,
    ) -> dict[str, Tensor]:
        """Logits of the student, and the loss where labels are given.

        Args:
            labels: (B,) or (B, T), -100 where there is none; or probabilities (B, K) or (B, T, K).
            num_items_in_batch: labels in the whole step, as the Trainer counts them; the loss is then the sum over the
                rows of this part, divided by it. Of probabilities the Trainer counts every number, K of a row, and K - 1
                where labels are shifted: the mean over the rows of this part is then weighted by its share of these. None for
                the mean over the rows.
            index: (B,) positions of the examples in the training set, for terms with a memory of it: a column "index" of
                the data set. The networks do not see it.
            inputs: of both networks.

        Raises:
            TypeError: for labels that are no tensor, and a number of them that is none.
            ValueError: for no labels in training mode, where nothing would be distilled; for no index where a term
                needs it.
        """
        if labels is None:
            if self.training:
                raise ValueError(
                    "labels: expected them while training, got none; label_smoothing_factor and compute_loss_func of the "
                    "Trainer take them out and put their own loss in the place of this one: leave both at their "
                    "defaults (and remove_unused_columns=False); label_smoothing= of the distiller smooths its "
                    "cross entropy"
                )
            return {"logits": self._signals(0, (), inputs).logits}
        check_tensor("labels", labels, "labels or probabilities", "convert them with torch.as_tensor()")
        if num_items_in_batch is not None:
            check_numbers("the number of labels in the step", num_items_in_batch=num_items_in_batch)
        self._check_ready()
        given = {"decoder_input_ids", "decoder_inputs_embeds"} & set(inputs)
        if getattr(getattr(self, "config", None), "is_encoder_decoder", False) and not given:
            inputs["decoder_input_ids"] = self.prepare_decoder_input_ids_from_labels(labels)
        student, teacher = self._both((), inputs)
        rows, target = self._rows(labels)
        both = [
            None if x is None else x._replace(logits=x.logits[:, rows] if x.logits.ndim > 2 else x.logits)
            for x in (student, teacher)
        ]
        loss = self.criterion(*both, target, epoch=self.epoch, index=index, ignore_index=_IGNORED).total
        if num_items_in_batch is not None:
            # In this order: a ratio of integers would be fp32. A step may have no label at all.
            loss = loss * self._count(labels, target) / torch.as_tensor(num_items_in_batch).clamp(min=1)
        return {"loss": loss, "logits": student.logits}

    def _count(self, labels: Tensor, target: Tensor) -> Tensor | int:
        """What this part adds to `num_items_in_batch`: the rows of the loss, or, of probabilities, numbers as the Trainer counts them."""
        if not labels.is_floating_point():
            return (target != _IGNORED).sum()
        # Labels that are shifted it counts from the second on, along the last axis, which is here that of the classes.
        return (labels[..., 1:] if self.shift and _counts_from_second() else labels).numel()


def _counts_from_second() -> bool:
    """Whether the Trainer leaves out the first label of a row where labels are shifted; older versions count it."""
    trainer = sys.modules.get("transformers.trainer")
    return trainer is None or hasattr(trainer, "ForCausalLMLoss")
