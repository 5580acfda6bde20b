"""The state of one training run, a step at a time: no files, no signals, no display."""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._check import check_trainable
from .._frozen import evaluate_parts
from ..data import Dataset
from ..logits import pearson
from ..models._layout import channels_last
from ..models.network import refuse_extra_state
from ..objective import Objective, Terms
from ..signals import Batch, Signals, Tapped, Taps, logits_of_output
from ..terms import LogitTerm
from .capture import Captured
from .precision import Precision
from .recipe import Recipe, steps_of, validation_split
from .world import ALONE, World, normalize_over

__all__ = ["DivergedError", "Meter", "Trainer", "evaluate_model", "measure_model"]


class DivergedError(FloatingPointError):
    """Loss or weights are not finite; the text says which, and in which epoch."""


class Meter:
    """Sums over an epoch, kept on the device as one tensor: no step waits for them."""

    FIELDS = ("images", "loss", "ce", "kd", "correct", "tau", "correlation", "rule_gradient")

    def __init__(self, device: torch.device):
        # float64: sums over 50 000 images must not depend on where a run was interrupted.
        self.sums = torch.zeros(len(self.FIELDS), dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(
        self,
        terms: Terms,
        logits: Tensor,
        teacher_logits: Tensor | None,
        labels: Tensor,
        rule_gradient: Tensor | None = None,
    ) -> None:
        """Add the means of one batch."""
        size = labels.numel()
        tau = correlation = torch.zeros((), device=logits.device)
        if terms.temperature is not None and teacher_logits is not None:
            tau = terms.temperature.teacher.mean()
            correlation = pearson(logits.float(), teacher_logits.float()).mean()  # bf16 has two digits
        correct = (logits.argmax(dim=-1) == labels).float().mean()
        gradient = torch.zeros_like(tau) if rule_gradient is None else rule_gradient
        means = torch.stack([terms.total, terms.ce, terms.kd, correct, tau, correlation, gradient]).double()
        self.sums[0] += size
        self.sums[1:] += means * size

    def read(self) -> dict[str, float]:
        """Means over the epoch. This waits for the device."""
        images, *sums = self.sums.tolist()
        means = {name: value / images for name, value in zip(self.FIELDS[1:], sums, strict=True)}
        return {
            "loss": means["loss"],
            "ce": means["ce"],
            "kd": means["kd"],
            "train_accuracy": 100 * means["correct"],
            "temperature": means["tau"],
            "correlation": means["correlation"],
            "rule_gradient": means["rule_gradient"],
        }


def _other_format(student: nn.Module) -> str:
    """What may be wrong with a student that fails: its parameters are all in fp64, and it does not convert what it reads.
    Empty for others."""
    formats = {p.dtype for p in student.parameters() if p.is_floating_point()}
    if formats != {torch.float64}:
        return ""
    return (
        "student: its parameters are torch.float64, and images are torch.float32; call .float() on it (precision= chooses the "
        "format of the steps)"
    )


def evaluate_model(model: nn.Module, data: Dataset, precision: Precision) -> float:
    """Top-1 accuracy on the test split, in percent; of text, of the next token."""
    return measure_model(model, data, precision)["accuracy"]


@torch.no_grad()
def measure_model(
    model: nn.Module, data: Dataset, precision: Precision, world: World = ALONE
) -> dict[str, float]:
    """All that the data measure on their test split: ``accuracy``, and of text ``nats`` a token (`TokenData.measure`).

    Of several processes each measures some of the batches.
    """

    def answer(inputs: Tensor) -> Tensor:
        with precision.autocast(data.device):
            return logits_of_output(model(inputs))

    with evaluating(model):
        return data.measure(answer, world)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A network in evaluation mode; then each part is again in its own, as a frozen BatchNorm in evaluation mode."""
    modes = {module: module.training for module in model.modules()}
    evaluate_parts(model)
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


class Trainer:
    """Training of one student: the whole state of a run, and nothing beside it.

    A loop drives it: `fit` and `lockstep`, or one of your own. Everything that the next step depends on is in
    `state_dict`, so that a trainer that loads it goes on, on one machine, bit for bit as the one that was saved.

    >>> from adakd import create_method, create_model, get_recipe, load_data, choose_precision
    >>> from adakd.training import student_views
    >>> data = load_data("gratings")
    >>> recipe, precision = get_recipe("demo"), choose_precision("fp32", data.device, 0)
    >>> trainer = Trainer(create_model("resnet8x0.5", 10), create_method("ce"), recipe, data, precision)
    >>> shown = next(student_views(data, recipe, seed=0).steps(trainer.epoch, recipe.batch_size))
    >>> terms = trainer.step(shown.images, None, Batch(shown.labels, shown.index, trainer.epoch))
    >>> trainer.epoch, trainer.step_in_epoch
    (1, 1)

    Args:
        student: moved to the device of `data`. Of one in training mode, parts in evaluation mode stay in that, as a frozen
            batch norm; of one in evaluation mode, all goes into training mode.
        objective: the loss; its parameters, if any, are trained along and its state is saved along. Built, where its
            terms have parts that depend on shapes (`Objective.build`).
        recipe: length, schedule, optimizer.
        data: what is trained and measured on.
        precision: number format of forward and backward.
        capture: compile forward and loss (on a GPU into CUDA graphs); where that fails in the first steps they run one
            operation at a time.
        teacher: the network of which a term reuses a part (`Objective.deploy`); None where no term does.
        world: the processes that train this student together; its batch norms then take the statistics of the whole
            batch.

    Raises:
        TypeError: for a student or an objective whose state is more than tensors.
        ValueError: for a student without parameters, or whose parameters are all frozen or in half precision; for such a term
            without a teacher; for a batch of fewer images than there are processes, or a captured step in several.
    """

    def __init__(
        self,
        student: nn.Module,
        objective: nn.Module,
        recipe: Recipe,
        data: Dataset,
        precision: Precision,
        capture: bool = False,
        *,
        teacher: nn.Module | None = None,
        world: World = ALONE,
    ):
        check_trainable(student)
        refuse_extra_state(student, "student")
        refuse_extra_state(objective, "objective")
        self.recipe, self.precision, self.device = recipe, precision, data.device
        self.student = channels_last(student, self.device)
        self.objective = objective.to(self.device)
        self.deployed = self.student
        """The network that is measured and kept: the student, or what a term makes of it."""
        if getattr(objective, "deploys", False):
            if teacher is None:
                raise ValueError(
                    "teacher: this method reuses a part of the teacher in the network that is evaluated and saved, "
                    "and got None; give the network"
                )
            made: Any = objective  # an Objective, or what has the method too
            self.deployed = made.deploy(self.student, channels_last(teacher, self.device))
        self.steps = steps_of(data, recipe) // recipe.epochs
        """Steps of an epoch."""
        self.world = world
        self.normalizes = normalize_over(world, self.student)
        """Whether the student has batch norms."""
        if world.size > 1:
            _refuse_small_batches(data, recipe, world)
            if capture:
                raise ValueError("capture: expected False where several processes train one network, got True")
        self.tests = {"test": data}
        if (validation := validation_split(data, recipe)) is not None:
            self.tests["validation"] = validation
        self.learned = list(objective.parameters())
        self._still = _infinite(self.student), _infinite(objective)
        self.optimizer = recipe.optimizer([*student.parameters(), *self.learned])
        self.scheduler = recipe.scheduler(self.optimizer, self.steps)
        self.scaler = precision.scaler(self.device)
        self.meter = Meter(self.device)
        self.epoch = 1
        """The epoch under way, counted from 1; one more than the recipe has when all is done."""
        self.step_in_epoch = 0
        """How many of its steps are done."""
        self.seconds = 0.0
        """Of training and measuring so far; the loop's to count."""
        self.history: list[dict[str, Any]] = []
        """One row a finished epoch."""
        self._lr: float | Tensor = 0.0
        taps = getattr(objective, "taps", Taps())
        self.taps = taps
        """Features that the objective reads, of either network."""
        # Tensors where logits are enough: a compiled loss then has the arguments that it always had.
        self._logits_only = taps == Taps()
        # Of somebody's own loss it is not known what it makes of more classes.
        self._of_classes = isinstance(objective, Objective) and objective.pad_vocab is None
        terms = getattr(objective, "terms", {}).values()
        self._by_index = any(not isinstance(term, LogitTerm) for term in terms)
        network = student if self._logits_only else Tapped(student, taps.student)
        for each in (student, objective):
            if not each.training:
                each.train()
        self._resting = [part for each in (student, objective) for part in each.modules() if not part.training]
        self._forward: Callable[..., Any] = network
        self._loss: Callable[..., Any] = objective
        if capture:
            self._forward = Captured(network, self.device, "the network")
            self._loss = Captured(objective, self.device, "the loss")

    @property
    def needs_teacher(self) -> bool:
        """Whether the objective reads a teacher."""
        return bool(getattr(self.objective, "needs_teacher", True))

    @property
    def position(self) -> int:
        """How many steps of the whole run are done."""
        return (self.epoch - 1) * self.steps + self.step_in_epoch

    @property
    def done(self) -> bool:
        """Whether the last epoch is over."""
        return self.epoch > self.recipe.epochs

    @property
    def measures(self) -> bool:
        """Whether the epoch under way ends with a measurement."""
        return self.epoch % self.recipe.eval_every == 0 or self.epoch == self.recipe.epochs

    def step(self, images: Tensor, teacher: Signals | None, batch: Batch) -> Terms:
        """One update of the student.

        Args:
            images: (B, C, H, W), normalized, or tokens (B, T); of several processes, those of this one (`World.part`).
            teacher: outputs for the same images; None where the objective needs no teacher.
            batch: of all processes: labels (B,) from 0 to K - 1 (none is left out: that is not looked for, so that no step waits for
                the device), positions of the images, and the epoch.

        Raises:
            ValueError: for logits of other classes than the data's; where the objective refuses its inputs (on a CPU also for
                values that are not finite).
        """
        labels = batch.target
        assert labels is not None  # a training set has them
        if not self.student.training or not self.objective.training:
            self.student.train()
            self.objective.train()
            for part in self._resting:
                part.training = False
        try:
            with self.precision.autocast(self.device):
                outputs = self._forward(images)
        except RuntimeError as error:
            if note := _other_format(self.student):
                error.add_note(note)
            raise
        taught: Tensor | Signals | None
        teacher = None if teacher is None else self.world.gather_signals(teacher, len(labels))
        if self._logits_only:
            outputs = logits = self.world.gather(logits_of_output(outputs), len(labels))
            taught = None if teacher is None else teacher.logits
        else:
            outputs = self.world.gather_signals(outputs, len(labels))
            logits, taught = outputs.logits, teacher
        if self._of_classes and logits.ndim > 1 and logits.shape[-1] != self.tests["test"].num_classes:
            data = self.tests["test"]
            raise ValueError(
                f"student: expected logits of the {data.num_classes} classes of {data.name}, got shape {tuple(logits.shape)}; "
                "give a network of so many classes"
            )
        by_index = {"index": batch.index} if self._by_index else {}
        terms: Terms = self._loss(
            outputs, taught, batch.target, epoch=batch.epoch, ignore_index=None, **by_index
        )
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(terms.total).backward()
        self._share_gradients()
        rule_gradient = None
        if self.learned:
            self.scaler.unscale_(self.optimizer)
            rule_gradient = _norm(self.learned)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._lr = self.scheduler.get_last_lr()[0]
        with _quiet_about_skipped_steps(self.scaler):
            self.scheduler.step()
        teacher_logits = None if teacher is None else teacher.logits
        self.meter.add(terms, logits, teacher_logits, labels, rule_gradient)
        self.step_in_epoch += 1
        return terms

    def _share_gradients(self) -> None:
        """Of the student, the sum over processes; of what the objective learns, which is whole everywhere, one of them."""
        if self.world.size > 1:
            for exchange, parameters in (
                (self.world.add, self.student.parameters()),
                (self.world.spread, iter(self.learned)),
            ):
                exchange([each.grad for each in parameters if each.grad is not None])

    def share(self) -> None:
        """Weights and buffers of the first process, in all of them: where training begins, and after every epoch."""
        self.world.spread([*self.student.state_dict().values(), *self.objective.state_dict().values()])

    def refuse_divergence(self) -> dict[str, float]:
        """Means of the epoch so far, if loss and weights are finite. This waits for the device.

        Raises:
            FloatingPointError: if they are not: such a state must not be saved.
        """
        means = self.meter.read()
        # The loss is of before the last update, which may have ruined the weights without being seen in it.
        tensors = [
            tensor
            for module, still in ((self.student, self._still[0]), (self.objective, self._still[1]))
            for name, tensor in module.state_dict().items()
            if name not in still
        ]
        finite = torch.stack([tensor.isfinite().all() for tensor in tensors]).all()  # one wait for all of them
        if not math.isfinite(means["loss"]):
            raise DivergedError(f"the loss became {means['loss']} in epoch {self.epoch}")
        if not finite:
            raise DivergedError(f"weights became infinite or NaN in epoch {self.epoch}")
        return means

    def end_epoch(self) -> dict[str, Any]:
        """Measure where the recipe wants it, close the epoch, and return its row of the history.

        Raises:
            FloatingPointError: if loss or weights are not finite; nothing has changed then.
        """
        row = {"epoch": self.epoch, "lr": self._lr, **self.refuse_divergence()}  # the rate of the last step
        self.share()  # which changes nothing where all processors round alike
        if self.deployed is not self.student:
            del row["train_accuracy"]  # of a classifier that is not kept, and perhaps not trained
        if self.measures:
            for split, data in self.tests.items():
                found = measure_model(self.deployed, data, self.precision, self.world)
                row |= {f"{split}_{name}": value for name, value in found.items()}
        self.history.append(row)
        self.meter.sums.zero_()
        self.epoch, self.step_in_epoch = self.epoch + 1, 0
        return row

    @property
    def _stateful(self) -> dict[str, Any]:
        return {
            "model": self.student,
            "criterion": self.objective,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.scaler,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on; tensors are those of the trainer and no copies."""
        return {
            **{name: part.state_dict() for name, part in self._stateful.items()},
            "epoch": self.epoch,
            "step": self.step_in_epoch,
            "seconds": self.seconds,
            "meter": self.meter.sums,
            "history": self.history,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another trainer of the same settings stood; see `Checkpoint` for states that are not trusted."""
        for name, part in self._stateful.items():
            part.load_state_dict(state[name])
        self.meter.sums.copy_(state["meter"])
        self.epoch, self.step_in_epoch = state["epoch"], state["step"]
        self.seconds, self.history = state["seconds"], list(state["history"])


def _infinite(module: nn.Module) -> set[str]:
    """Names of what is not trained and not finite to begin with, as a causal mask: no sign of a divergence."""
    trained = {name for name, each in module.named_parameters(remove_duplicate=False) if each.requires_grad}
    return {
        name
        for name, tensor in module.state_dict().items()
        if name not in trained and not tensor.isfinite().all()
    }


def _refuse_small_batches(data: Dataset, recipe: Recipe, world: World) -> None:
    images = recipe.shown(len(data.train))
    last = images % recipe.batch_size
    for size, which in ((min(recipe.batch_size, images), "a batch"), (last, "the last batch of an epoch")):
        if 0 < size < world.size:
            raise ValueError(
                f"batch_size: {which} has {size} images, and each of {world.size} processes needs one; choose another "
                "batch size, or fewer processes"
            )


@contextlib.contextmanager
def _quiet_about_skipped_steps(scaler: torch.amp.GradScaler) -> Iterator[None]:
    """fp16's scaler skips its first steps by design; the schedule then seems to run ahead of the optimizer."""
    if not scaler.is_enabled():
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        yield


def _norm(parameters: list[nn.Parameter]) -> Tensor | None:
    """Norm of the gradient; 0 in a step that the scaler skips, None where the divergence reads no temperature."""
    gradients = [p.grad.flatten() for p in parameters if p.grad is not None]
    if not gradients:
        return None
    norm = torch.cat(gradients).norm()
    return torch.where(norm.isfinite(), norm, 0.0)
