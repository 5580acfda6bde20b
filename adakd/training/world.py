"""Several processes that train one network: which rows each has, and how the loss sees all of them."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .._check import at_least_fp32
from ..signals import Signals, is_parameter

__all__ = ["ALONE", "PeerError", "World", "join_world", "launched", "normalize_alone", "normalize_over"]

Result = TypeVar("Result")

_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")  # of torchrun
_PATIENCE = timedelta(minutes=30)


class PeerError(RuntimeError):
    """Another process of this run has failed, or cannot be reached."""


@contextlib.contextmanager
def _reaching() -> Iterator[None]:
    """Errors of the network between processes, of which torch has several, as one."""
    try:
        yield
    except PeerError:
        raise
    except RuntimeError as error:  # of gloo; those of nccl are of this class too
        reason = str(error).strip().partition("\n")[0]
        raise PeerError(
            f"another process of this run has ended or does not answer ({reason:.200}); what was saved stays: repeat "
            "the command"
        ) from error


@dataclass(frozen=True)
class World:
    r"""The processes that train one network, each with its rows of every batch.

    The global batch is the recipe's. Each process computes the network on its own rows, and *the loss on all of them*: what
    the objective reads (logits, features) is gathered in the order of the batch, so that means over rows, batch
    statistics, learned temperatures, memories and connectors see what one process sees. All processes then have the same
    loss :math:`\mathcal L(f_1, \dots, f_W)`, and the gradient by the network's weights is

    .. math:: \frac{\partial \mathcal L}{\partial w} = \sum_{r=1}^{W}
              \Big(\frac{\partial f_r}{\partial w}\Big)^{\!\top} \frac{\partial \mathcal L}{\partial f_r}

    of which process r has the summand r: one sum over processes makes it whole. The objective's own parameters have their
    whole gradient everywhere.

    Args:
        rank: number of this process, from 0; the first one writes files.
        size: how many there are; 1 for one process, where nothing below does anything.
        local_rank: number of this process on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """Rows of this process among so many; they differ by one row at most."""
        return self._part_of(self.rank, count)

    def _part_of(self, rank: int, count: int) -> slice:
        return slice(count * rank // self.size, count * (rank + 1) // self.size)

    # ---- tensors ----

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """Rows of all processes in the order of the batch, (count, …), from those of this one.

        Differentiable where every process computes the same loss from the result: the gradient of its own rows then
        needs no word from the others.

        Raises:
            ValueError: if these are not the rows that this process has of so many.
        """
        if self.size == 1:
            return rows
        part = self.part(count)
        if rows.ndim == 0 or len(rows) != part.stop - part.start:
            raise ValueError(
                f"world: expected one row an image ({part.stop - part.start} of this process), got shape "
                f"{tuple(rows.shape)}; what has no rows of images can be trained by one process alone"
            )
        gathered: Tensor = _Gathered.apply(rows, self, count)
        return gathered

    def gather_signals(self, signals: Signals, count: int) -> Signals:
        """Outputs of a network for the whole batch, from those for the rows of this process; see `gather`."""
        if self.size == 1:
            return signals
        features = {
            # A parameter is whole everywhere, and so is its gradient: each process gives its share of that.
            name: value.detach() + (value - value.detach()) / self.size
            if is_parameter(name)
            else self.gather(value, count)
            for name, value in signals.features.items()
        }
        return Signals(self.gather(signals.logits, count), features)

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Put the sum over processes in the place of each tensor."""
        if self.size > 1:
            _packed(tensors, dist.all_reduce)

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Put the first process's values in the place of each tensor."""
        if self.size > 1:
            _packed(tensors, partial(dist.broadcast, src=0))

    # ---- decisions ----

    def any(self, *flags: bool) -> list[bool]:
        """Of each flag, whether it is set in any process. An accelerator is not waited for."""
        if self.size == 1:
            return list(flags)
        found = torch.tensor(flags, dtype=torch.int32)
        with _reaching():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return [bool(flag) for flag in found.tolist()]

    def together(self, function: Callable[[], Result]) -> Result:
        """Call a function in every process; if it fails in one, all fail.

        It may call `lead` and `first`, and must not exchange tensors.

        Raises:
            PeerError: with the words of the error of another process. (The first one that failed raises its own.)
        """
        if self.size == 1:
            return function()
        error, result = None, None
        try:
            result = function()
        except PeerError:  # which the others know
            raise
        except Exception as failed:
            error = failed
        words: list[str | None] = [None] * self.size
        with _reaching():
            dist.all_gather_object(words, None if error is None else str(error) or type(error).__name__)
        for rank, text in enumerate(words):
            if text is not None:
                if rank == self.rank and error is not None:
                    raise error
                raise PeerError(f"process {rank} of {self.size}: {text}") from error
        return result  # type: ignore[return-value]  # there was no error

    def lead(self, function: Callable[[], Result]) -> Result:
        """Call a function in the first process alone; all get its result, which tensors on an accelerator are no part of.

        Raises:
            PeerError: as `together`.
        """
        if self.size == 1:
            return function()
        found = [self.together(lambda: function() if self.leads else None)]
        with _reaching():
            dist.broadcast_object_list(found, src=0)
        return found[0]  # type: ignore[return-value]  # the first process's

    def first(self, function: Callable[[], Result]) -> Result:
        """Call a function in one process a machine, then in the others: the second finds what the first has put on disk.

        Raises:
            PeerError: as `together`.
        """
        if self.size == 1:
            return function()
        ahead = self.local_rank == 0
        found = self.together(lambda: function() if ahead else None)
        return self.together(lambda: found if ahead else function())  # type: ignore[return-value]

    def refuse_different(self, what: str, value: str) -> None:
        """Raise ValueError in all processes unless they have the same value."""
        if self.lead(lambda: value) != value:
            error: ValueError | None = ValueError(
                f"{what} of process {self.rank} is not that of process 0: start all with one command, one version and "
                "the same data, and say --precision where their processors differ"
            )
        else:
            error = None

        def check() -> None:
            if error is not None:
                raise error

        self.together(check)


ALONE = World()
"""One process."""


class _Gathered(torch.autograd.Function):
    """Rows of all processes; see `World.gather`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World, count: int) -> Tensor:
        ctx.part = world.part(count)
        # Maps come with the channels of a pixel side by side, and stay so.
        by_pixel = rows.ndim == 4 and rows.is_contiguous(memory_format=torch.channels_last)
        found = _rows_of_all(rows.permute(0, 2, 3, 1) if by_pixel else rows, world, count)
        return found.permute(0, 3, 1, 2) if by_pixel else found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.part], None, None


def _rows_of_all(rows: Tensor, world: World, count: int) -> Tensor:
    parts = [world._part_of(rank, count) for rank in range(world.size)]
    sizes = [part.stop - part.start for part in parts]
    own = rows.new_zeros((max(sizes), *rows.shape[1:]))  # a collective takes tensors of one size
    own[: len(rows)] = rows
    found = [torch.empty_like(own) for _ in sizes]
    with _reaching():  # as bytes: not every backend knows every format
        dist.all_gather([x.flatten().view(torch.uint8) for x in found], own.flatten().view(torch.uint8))
    return torch.cat([x[:size] for x, size in zip(found, sizes, strict=True)])


@torch.no_grad()
def _packed(tensors: Iterable[Tensor], collective: Callable[[Tensor], Any]) -> None:
    """One collective for all tensors of a format, whose results take their places."""
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_dtype.setdefault(tensor.dtype, []).append(tensor)
    for group in by_dtype.values():
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in group])
        with _reaching():
            collective(flat)
        for tensor, part in zip(group, flat.split([tensor.numel() for tensor in group]), strict=True):
            tensor.detach().copy_(part.view(tensor.shape))


# ---- batch norm ----


def normalize_over(world: World, network: nn.Module) -> bool:
    """Let the batch norms of a network take mean and variance over the rows of all processes; whether there are any.

    What `torch.nn.SyncBatchNorm` computes, on a CPU too. Names, classes and tensors of the network stay as they are: its
    weights are those of a network that one process trains, and in evaluation mode nothing differs.

    Raises:
        ValueError: for a batch norm with a forward pass of its own, in more than one process.
    """
    found = False
    for name, module in network.named_modules():
        if not isinstance(module, _BatchNorm):
            continue
        found = True
        if world.size == 1 or isinstance(module, nn.SyncBatchNorm):
            continue
        if type(module).forward is not _BatchNorm.forward:
            raise ValueError(
                f"world: {name} is a {type(module).__name__}, a batch norm whose forward pass is its own, and would see "
                "the rows of one process; train this network in one process, or make it of torch's own"
            )
        module.forward = partial(_batch_norm, module, world)  # type: ignore[method-assign]
    return found


def normalize_alone(network: nn.Module) -> None:
    """Undo `normalize_over`: a network that is trained goes on in one process."""
    for module in network.modules():
        forward = vars(module).get("forward")
        if isinstance(forward, partial) and forward.func is _batch_norm:
            del module.forward


def _batch_norm(module: _BatchNorm, world: World, x: Tensor) -> Tensor:
    if not module.training:
        return _BatchNorm.forward(module, x)
    module._check_input_dim(x)
    normalized, mean, variance, count = _Normalized.apply(x, module.weight, module.bias, world, module.eps)
    if module.track_running_stats:
        _keep(module, mean, variance * count / (count - 1))
    return normalized


@torch.no_grad()
def _keep(module: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Running mean and (unbiased) variance, as torch keeps them."""
    tracked, running_mean, running_var = module.num_batches_tracked, module.running_mean, module.running_var
    assert tracked is not None  # track_running_stats
    assert running_mean is not None
    assert running_var is not None
    tracked.add_(1)
    momentum = 1.0 / float(tracked) if module.momentum is None else module.momentum
    running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    running_var.lerp_(variance.to(running_var.dtype), momentum)


class _Normalized(torch.autograd.Function):
    r"""Batch norm over the rows of all processes.

    .. math:: y = w\,\hat x + b, \qquad \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad
              \frac{\partial \mathcal L}{\partial x} = \frac{w}{\sqrt{\sigma^2 + \epsilon}}
              \big(g - \langle g \rangle - \hat x\,\langle g\,\hat x \rangle\big)

    with means over rows and places of all processes, :math:`g = \partial \mathcal L / \partial y`. Gradients by w and b
    are those of the own rows, as of every other parameter.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, world: World, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        precise = at_least_fp32(x)
        dims = [dim for dim in range(x.ndim) if dim != 1]
        variance, mean = torch.var_mean(precise, dims, correction=0)
        count = mean.new_full((1,), x.numel() // x.shape[1])
        own = torch.cat([mean, variance, count]).unsqueeze(0)
        # One row a process: of so many rows as there are processes, each has one.
        means, variances, counts = _rows_of_all(own, world, world.size).split([len(mean), len(mean), 1], dim=1)
        count = counts.sum()
        mean = (means * counts).sum(0) / count
        variance = ((variances + (means - mean).square()) * counts).sum(0) / count
        shape = [-1 if dim == 1 else 1 for dim in range(x.ndim)]
        scale = (variance + eps).rsqrt()
        normalized = (precise - mean.view(shape)) * scale.view(shape)
        ctx.save_for_backward(normalized, scale, weight)
        ctx.world, ctx.dims, ctx.shape, ctx.count = world, dims, shape, count
        ctx.has_bias = bias is not None
        y = normalized if weight is None else normalized * weight.view(shape)
        y = y if bias is None else y + bias.view(shape)
        ctx.mark_non_differentiable(mean, variance, count)
        return y.to(x.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        normalized, scale, weight = ctx.saved_tensors
        g = gradient.to(normalized.dtype)
        sums = torch.stack([g.sum(ctx.dims), (g * normalized).sum(ctx.dims)])
        of_bias, of_weight = sums[0].clone(), sums[1].clone()
        ctx.world.add([sums])
        along, with_normalized = (sums / ctx.count).unbind()
        inner = g - along.view(ctx.shape) - normalized * with_normalized.view(ctx.shape)
        factor = scale if weight is None else scale * weight
        return (
            (inner * factor.view(ctx.shape)).to(gradient.dtype),
            None if weight is None else of_weight.to(weight.dtype),
            of_bias if ctx.has_bias else None,
            None,
            None,
        )


# ---- processes ----


def launched() -> bool:
    """Whether torchrun, or what sets its variables, has started several processes of which this is one."""
    return all(name in os.environ for name in _VARIABLES) and os.environ["WORLD_SIZE"] != "1"


@contextlib.contextmanager
def join_world(device: torch.device, timeout: timedelta = _PATIENCE) -> Iterator[World]:
    """Meet the other processes that torchrun has started; one process where it has started none.

    On GPUs each process takes the one of its number on its machine (``torch.device("cuda")`` is that one from then on),
    and tensors go by nccl; on CPUs by gloo. A process group that is there already is used, and left open; on GPUs it must
    serve tensors of both kinds (``backend="cpu:gloo,cuda:nccl"``).

    Args:
        device: where training happens, "cuda" or "cpu".
        timeout: how long a process that does not answer is waited for. (One that has ended is noticed at once.)

    Raises:
        ValueError: for more processes on this machine than it has GPUs.
        PeerError: if the others are not to be reached.

    >>> with join_world(torch.device("cpu")) as world:
    ...     world
    World(rank=0, size=1, local_rank=0)
    """
    if dist.is_available() and dist.is_initialized():
        local_rank = int(os.environ.get("LOCAL_RANK", dist.get_rank()))
        yield World(dist.get_rank(), dist.get_world_size(), local_rank)
        return
    if not launched():
        yield ALONE
        return
    rank, local_rank, size, local_size = (int(os.environ[name]) for name in _VARIABLES)
    if device.type == "cuda":
        if local_size > torch.cuda.device_count():
            raise ValueError(
                f"torchrun: expected at most one process a GPU ({torch.cuda.device_count()} on this machine), got "
                f"{local_size}; give --nproc-per-node {torch.cuda.device_count()}, or --device cpu"
            )
        torch.cuda.set_device(local_rank)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with _reaching():
        dist.init_process_group(backend, timeout=timeout)
    try:
        yield World(rank, size, local_rank)
    except BaseException:
        if device.type != "cuda":  # nccl would wait for whom it cannot reach
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()
