"""The training loop: resumable at any step, pausable after any epoch; and no step of it waits for the device."""

import contextlib
import logging
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..data import ImageData, Split, Views, balanced_subset, eval_batches, held_out
from ..logits import pearson
from ..objective import LogitObjective, Terms
from .cache import ViewCache
from .capture import Captured
from .files import write_checkpoint
from .precision import Precision
from .recipe import Recipe
from .resume import CheckpointError, read_state

__all__ = ["CheckpointError", "Interrupted", "evaluate_model", "fit"]

log = logging.getLogger("adakd")

SECONDS_BETWEEN_CHECKPOINTS = 120.0
T = TypeVar("T")


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, and has saved where it stood."""


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
        size = len(labels)
        tau = correlation = torch.zeros((), device=logits.device)
        if terms.temperature is not None:
            tau = terms.temperature.teacher.mean()
            correlation = pearson(logits.float(), teacher_logits.float()).mean()  # bf16 has two digits
        correct = (logits.argmax(dim=1) == labels).float().mean()
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


@torch.no_grad()
def evaluate_model(model: nn.Module, data: ImageData, precision: Precision) -> float:
    """Top-1 accuracy on the test split, in percent."""
    training = model.training
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=data.device)
    for images, labels in eval_batches(data):
        with precision.autocast(data.device):
            logits = model(images)
        correct += (logits.argmax(dim=1) == labels).sum()
    model.train(training)
    return 100.0 * correct.item() / len(data.test)


@contextlib.contextmanager
def _quiet_about_skipped_steps(scaler: torch.amp.GradScaler) -> Iterator[None]:
    """fp16's scaler skips its first steps by design; the schedule then seems to run ahead of the optimizer."""
    with warnings.catch_warnings():
        if scaler.is_enabled():
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        yield


@contextlib.contextmanager
def _stop_requests(received: list[int]) -> Iterator[None]:
    """Collect SIGINT and SIGTERM instead of dying of them; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals can be handled in the main thread only
        return

    def receive(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    previous = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _frozen(teacher: nn.Module) -> nn.Module:
    return teacher.eval().requires_grad_(False)


class Together:
    """What runs have in common that take turns, an epoch at a time: a stream of images and a live teacher.

    The teacher answers each step once, whoever comes to it first, and what it says is kept as it said it until another
    epoch begins. So every run gets, bit for bit, what it would get alone.
    """

    def __init__(self, runs: int):
        self.runs = runs
        self._views: Views | None = None
        self._epoch = 0
        self._said: dict[int, Tensor] = {}

    def views(self, data: ImageData, recipe: Recipe, seed: int) -> Views:
        """The stream of images; a padded copy of the training set that one is enough of."""
        if self._views is None:
            self._views = student_views(data, recipe, seed)
        return self._views

    def once(self, epoch: int, step: int, ask: Callable[[], Tensor]) -> Tensor:
        """The teacher's logits of a step, asked for if nobody has yet in this epoch."""
        if epoch != self._epoch:
            self._epoch, self._said = epoch, {}
        if step not in self._said:
            self._said[step] = ask()
        return self._said[step]


def _answers(
    teacher: nn.Module | ViewCache | None, views: Views, epoch: int, batch_size: int, together: Together | None
) -> Callable[[int, Tensor], Tensor | None]:
    """How the steps of an epoch get what the teacher says of their images."""
    if teacher is None:
        return lambda step, images: None
    if isinstance(teacher, ViewCache):
        # What a cached teacher says of the epoch comes to the device at once, and not step by step.
        said = teacher.read(views.places(epoch, views.order(epoch)))
        return lambda step, images: said[step * batch_size :][: len(images)]

    @torch.no_grad()
    def ask(images: Tensor) -> Tensor:
        return teacher(images)

    if together is None:
        return lambda step, images: ask(images)
    return lambda step, images: together.once(epoch, step, lambda: ask(images))


def exhaust(turns: Generator[int, None, T]) -> T:
    """What comes of it when nobody pauses it."""
    while True:
        try:
            next(turns)
        except StopIteration as end:
            return end.value


def fit(
    model: nn.Module,
    data: ImageData,
    recipe: Recipe,
    criterion: LogitObjective,
    *,
    seed: int,
    checkpoint: Path,
    config: dict[str, Any],
    precision: Precision,
    teacher: nn.Module | ViewCache | None = None,
    capture: bool = False,
    label: str = "training",
    progress: bool | tqdm = True,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[list[dict[str, Any]], float]:
    """Train `model` in place on `data`, continuing from `checkpoint` where there is one.

    Which images a step shows is a pure function of the seed, the epoch and the image (see `adakd.data.views`), and
    the checkpoint holds everything else, so that a run stopped at any moment and continued is, on one machine, bit
    for bit the run that was never stopped. (On a CPU, and for networks that draw no random numbers while training, as
    all of `adakd.models`; a GPU's kernels may sum in another order.)

    Args:
        model: on the device of `data`.
        data: training happens on its device.
        recipe: length, batch size, schedule, transfer set.
        criterion: the loss; its parameters, if any, are trained along and its state is saved along.
        seed: chooses the transfer set, the order of the images and their views.
        checkpoint: file to continue from and to save to: after every epoch, every two minutes, and on Ctrl-C.
        config: what identifies the run; a checkpoint of another config is refused.
        precision: number format of forward and backward.
        teacher: a network, evaluated live on the very views the student sees; or a `ViewCache` that holds what it
            says of all of them.
        capture: compile forward and loss (on a GPU into CUDA graphs); where that fails in the first steps they run one
            operation at a time.
        label: what the progress display calls the run.
        progress: whether to show it; or a display that several runs share.
        on_epoch: called with the row of each epoch that is trained, after the checkpoint is saved. What it raises ends
            the run, which can be continued; rows of earlier sessions are not repeated.

    Returns:
        One row an epoch, and the seconds of training and measuring over all continuations. A row holds means over the
        epoch: losses, accuracy, the teacher's temperature, the correlation of the logits, the norm of the gradient
        by what the temperature rule learns (0 where it learns nothing); and where measured the test accuracy, and
        the accuracy on the validation images where the recipe holds some out.

    Raises:
        Interrupted: on SIGINT or SIGTERM, after saving.
        CheckpointError: if the checkpoint is of another run or damaged.
        FloatingPointError: if loss or weights are not finite; the last good checkpoint stays.
        ValueError: if the criterion needs a teacher and there is none or a cache of other data, or (on a CPU) refuses the
            logits of a step.
    """
    return exhaust(
        fit_in_turns(
            model,
            data,
            recipe,
            criterion,
            seed=seed,
            checkpoint=checkpoint,
            config=config,
            precision=precision,
            teacher=teacher,
            capture=capture,
            label=label,
            progress=progress,
            on_epoch=on_epoch,
        )
    )


def fit_in_turns(
    model: nn.Module,
    data: ImageData,
    recipe: Recipe,
    criterion: LogitObjective,
    *,
    seed: int,
    checkpoint: Path,
    config: dict[str, Any],
    precision: Precision,
    teacher: nn.Module | ViewCache | None = None,
    capture: bool = False,
    label: str = "training",
    progress: bool | tqdm = True,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    stop: list[int] | None = None,
    together: Together | None = None,
) -> Generator[int, None, tuple[list[dict[str, Any]], float]]:
    """`fit` with a pause before every epoch, in which other runs may train; yields the epoch's number.

    While it pauses, everything is saved: it may be left there for good. Nothing global is changed then, neither the
    handling of signals nor of warnings.

    Args:
        stop: signals that were received while a run trained are added here; whoever gives the turns reads it.
        together: what this run shares with those that it takes turns with.
    """
    checkpoint = Path(checkpoint)
    stop = [] if stop is None else stop
    if not criterion.needs_teacher:
        teacher = None
    elif teacher is None:
        raise ValueError("this method distills from a teacher, and none was given")
    device = data.device
    model = model.to(device, memory_format=torch.channels_last)
    criterion = criterion.to(device)
    if isinstance(teacher, nn.Module):
        teacher = _frozen(teacher).to(device, memory_format=torch.channels_last)
    views = together.views(data, recipe, seed) if together else student_views(data, recipe, seed)
    validation = _validation(data, recipe)
    if isinstance(teacher, ViewCache):
        teacher.refuse_other(data, views.count)
    steps = math.ceil(len(views) / recipe.batch_size)
    learned = list(criterion.parameters())
    optimizer = recipe.optimizer([*model.parameters(), *learned])
    scheduler = recipe.scheduler(optimizer, steps)
    scaler = precision.scaler(device)
    meter = Meter(device)
    stateful = {
        "model": model,
        "criterion": criterion,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "scaler": scaler,
    }
    epoch, step, seconds, history = 1, 0, 0.0, []
    if checkpoint.is_file():
        saved = read_state(checkpoint, device, config, stateful, meter.sums, recipe.epochs, steps)
        for name, part in stateful.items():
            part.load_state_dict(saved[name])
        meter.sums.copy_(saved["meter"])
        epoch, step = saved["epoch"], saved["step"]
        seconds, history = saved["seconds"], saved["history"]
        log.info("continuing %s from epoch %d, step %d", label, epoch, step)
    clock = time.perf_counter() - seconds

    def save() -> None:
        state = {name: part.state_dict() for name, part in stateful.items()}
        position = {"epoch": epoch, "step": step, "seconds": time.perf_counter() - clock}
        write_checkpoint(
            checkpoint,
            {**state, **position, "meter": meter.sums, "history": history, "config": config},
        )

    done = (epoch - 1) * steps + step
    if isinstance(progress, tqdm):
        bar, closing = progress, contextlib.nullcontext()
        bar.update(done)
    else:
        bar = closing = step_bar(recipe.epochs * steps, done, label, show=progress)
    forward, loss = model, criterion
    if capture:
        torch._dynamo.reset()  # it keeps a few versions of each function, and the runs before this one had theirs
        forward, loss = Captured(model, device, "the network"), Captured(criterion, device, "the loss")
    with closing:
        while epoch <= recipe.epochs:
            paused = time.perf_counter()
            yield epoch
            clock += time.perf_counter() - paused
            bar.set_description(label, refresh=False)  # a display that several share shows who is at it
            bar.set_postfix(_shown(history, recipe))
            saved_at = time.perf_counter()
            with _quiet_about_skipped_steps(scaler), _room_to_compile(together, capture), _stop_requests(stop):
                model.train()
                criterion.train()
                answer = _answers(teacher, views, epoch, recipe.batch_size, together)
                for images, labels in views.batches(epoch, recipe.batch_size, start=step):
                    with precision.autocast(device):
                        teacher_logits = answer(step, images)
                        logits = forward(images)
                    terms = loss(logits, teacher_logits, labels, epoch=epoch)
                    optimizer.zero_grad(set_to_none=True)
                    scaler.scale(terms.total).backward()
                    rule_gradient = None
                    if learned:
                        scaler.unscale_(optimizer)
                        rule_gradient = _norm(learned)
                    scaler.step(optimizer)
                    scaler.update()
                    lr = scheduler.get_last_lr()[0]
                    scheduler.step()
                    meter.add(terms, logits, teacher_logits, labels, rule_gradient)
                    step += 1
                    bar.update()
                    if step < steps and (stop or _due(saved_at)):
                        _refuse_divergence(meter.read()["loss"], (model, criterion), epoch, checkpoint)
                        save()
                        saved_at = time.perf_counter()
                        if stop:
                            raise Interrupted(f"stopped in epoch {epoch}; saved in {checkpoint}")
                row = {"epoch": epoch, "lr": lr, **meter.read()}  # the rate of the epoch's last step
                _refuse_divergence(row["loss"], (model, criterion), epoch, checkpoint)
                if epoch % recipe.eval_every == 0 or epoch == recipe.epochs:
                    bar.set_description(
                        f"{label}, measuring"
                    )  # else the bar would stand still without a reason
                    row["test_accuracy"] = evaluate_model(model, data, precision)
                    if validation:
                        row["validation_accuracy"] = evaluate_model(model, validation, precision)
                    bar.set_description(label, refresh=False)
                history.append(row)
                meter.sums.zero_()
                epoch, step = epoch + 1, 0
                save()
                bar.set_postfix(_shown(history, recipe))
                if on_epoch is not None:
                    on_epoch(dict(row))  # its own copy: the history is nobody else's
                if stop and epoch <= recipe.epochs:
                    raise Interrupted(f"stopped after epoch {epoch - 1}; saved in {checkpoint}")
    return history, time.perf_counter() - clock


def student_views(data: ImageData, recipe: Recipe, seed: int) -> Views:
    """What a run of this recipe and seed sees."""
    without = (
        held_out(data.train.labels, recipe.validation_images) if recipe.validation_images is not None else None
    )
    subset = balanced_subset(data.train.labels, recipe.train_images, seed, without)
    return Views(data, seed, subset, recipe.views)


def steps_of(data: ImageData, recipe: Recipe) -> int:
    """How many steps a run of this recipe has."""
    images = recipe.train_images or len(data.train) - (recipe.validation_images or 0)
    return recipe.epochs * math.ceil(images / recipe.batch_size)


def _validation(data: ImageData, recipe: Recipe) -> ImageData | None:
    """The images that the recipe holds out, in the place of the test split."""
    if recipe.validation_images is None:
        return None
    index = held_out(data.train.labels, recipe.validation_images)
    return replace(data, test=Split(data.train.images[index], data.train.labels[index]))


def step_bar(total: int, done: int, label: str, show: bool) -> tqdm:
    """The progress display of a run or of several."""
    return tqdm(total=total, initial=done, desc=label, unit="step", disable=not show, dynamic_ncols=True)


def _refuse_divergence(loss: float, modules: Iterable[nn.Module], epoch: int, checkpoint: Path) -> None:
    """Before anything is saved: a checkpoint must never hold a state that cannot be continued."""
    # The loss is of before the last update, which may have ruined the weights without being seen in it.
    finite = [tensor.isfinite().all() for module in modules for tensor in module.state_dict().values()]
    if math.isfinite(loss) and torch.stack(finite).all():  # one wait for all of them
        return
    what = "weights became infinite or NaN" if math.isfinite(loss) else f"the loss became {loss}"
    last = f"the last good state is in {checkpoint}" if checkpoint.is_file() else "nothing was saved yet"
    raise FloatingPointError(
        f"{what} in epoch {epoch}; {last}. Lower the learning rate or the weight of the distillation term."
    )


def _norm(parameters: list[nn.Parameter]) -> Tensor | None:
    """Norm of the gradient; 0 in a step that the scaler skips, None where the divergence reads no temperature."""
    gradients = [p.grad.flatten() for p in parameters if p.grad is not None]
    if not gradients:
        return None
    norm = torch.cat(gradients).norm()
    return torch.where(norm.isfinite(), norm, 0.0)


def _room_to_compile(together: Together | None, capture: bool) -> contextlib.AbstractContextManager:
    """All networks, and all losses, are calls of one function, of which dynamo keeps a few versions: a few for each."""
    if together is None or not capture:
        return contextlib.nullcontext()
    config = torch._dynamo.config
    return config.patch(recompile_limit=config.recompile_limit * together.runs)


def _due(saved_at: float) -> bool:
    return time.perf_counter() - saved_at > SECONDS_BETWEEN_CHECKPOINTS


def _shown(history: list[dict[str, Any]], recipe: Recipe) -> dict[str, str]:
    if not history:
        return {}
    shown = {
        "epoch": f"{history[-1]['epoch']}/{recipe.epochs}",
        "train": f"{history[-1]['train_accuracy']:.1f}%",
    }
    measured = [row["test_accuracy"] for row in history if "test_accuracy" in row]
    return {**shown, "test": f"{measured[-1]:.1f}%"} if measured else shown
