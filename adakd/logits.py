"""What is done to a row of logits before a temperature is chosen: standardize, correlate, find the peak.

All functions take (B, K), work per sample (per row) and keep the gradient. B = batch, K = classes.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _check
from ._check import FLOATS, check_finite_options, check_float, check_tensor, check_whole, transformed

__all__ = [
    "STANDARDIZATIONS",
    "Ends",
    "ends_of",
    "log_softened",
    "median",
    "peak",
    "pearson",
    "softened",
    "standardize",
    "standardize_in_graph",
]

# The papers print "population"; "sample" is what both released codes (Sun et al. 2024; 2503.09030) compute.
STANDARDIZATIONS: dict[str, Any] = {
    "population": {"ddof": 0, "eps": 0.0},
    "sample": {"ddof": 1, "eps": 1e-7},
}


Ends = tuple[Tensor, Tensor]
"""Lowest and highest logit of each row, (B, 1)."""


def ends_of(logits: Tensor) -> Ends:
    """Lowest and highest of each row. Two passes that use the vector units are faster than one of `aminmax`."""
    return logits.amin(dim=-1, keepdim=True), logits.amax(dim=-1, keepdim=True)


def _spread(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows have no spread, found from the values, where a computed std may be rounding noise; and a factor.

    The factor is 0 for those and 1 for all others, but for rows so wide or narrow that squares of their deviations, or
    the cube of the reciprocal that a backward pass takes, leave the format: it brings those near 1. Both (B, 1).
    """
    low, high = ends_of(logits.detach())
    tiny = torch.finfo(logits.dtype).tiny
    # A spread whose square underflows counts as none: nothing could be divided by it.
    constant = high - low <= 8 * math.sqrt(tiny)
    half = high / 2 - low / 2  # of all finite numbers this is finite
    usual = (half > tiny**0.25) & (half < tiny**-0.25)
    return constant, torch.where(usual, 1.0, 1 / half).masked_fill(constant, 0.0)


# Of the mean, in units of the deviation: the deviation of equal numbers, which is their rounding, is 1e-6 of them.
_FARTHEST = 1e4


def _usual(logits: Tensor, eps: float) -> tuple[Tensor, Tensor] | None:
    """Rows standardized by the population's deviation, and 1 over it; None where one is or may be constant or extreme in size.

    What tells is the mean and deviation that are computed anyway; where nothing can be read there is no telling.
    """
    if not _check.may_read(logits) or transformed():
        return None
    classes, tiny = logits.shape[-1], torch.finfo(logits.dtype).tiny
    # Layer normalization without its affine part is this very map, fused forward and backward.
    z, mean, rstd = torch.native_layer_norm(logits, (classes,), None, None, tiny)
    low, high = (end.item() for end in rstd.detach().aminmax())
    left, right = (end.item() for end in mean.detach().aminmax())
    # Far above eps as well, or of a deviation to which it is added nothing could be had back.
    least, most = max(tiny**0.25, 1e3 * eps), tiny**-0.25 / classes
    if high * least < 1 < low * most and max(-left, right) * high < _FARTHEST:
        return z, rstd
    return None


def _standardize_usual(logits: Tensor, ddof: int, eps: float) -> Tensor | None:
    """Standardized rows where none is constant, and none extreme in size; None where one may be, or nothing can be read."""
    plain = ddof == 0 and eps == 0
    found = _usual(logits if plain else logits.detach(), eps)
    if found is None:
        return None
    z, rstd = found
    if plain:
        return z
    factor = math.sqrt(logits.shape[-1] / (logits.shape[-1] - ddof))
    if not logits.requires_grad:
        return z.div_((rstd * eps).add_(factor))
    return _Standardized.apply(logits, z, rstd, factor, ddof, eps)[0]


def standardize_in_graph(logits: Tensor, ddof: int, eps: float) -> tuple[Tensor, Ends]:
    """What `standardize` says, in the passes over a row that a compiler makes little of; and the ends of the new row.

    One reduction tells of constant and of extreme rows, and the deviation is that from a mean which is known: what computes
    both at once divides at every number. The ends of the row as it came are found in these passes, and what is done to a row
    keeps its order, rounding included: so the ends of the new row are known without a pass over it.

    Shapes: logits (B, K), fp32 or float64. Returns (B, K), and (B, 1) twice, without gradient.
    """
    values, tiny = logits.detach(), 2.0**-126 if logits.dtype.itemsize == 4 else 2.0**-1022
    # (B, 1), at least a quarter of the range. Halves, which cannot overflow.
    reach = (values / 2 - values[..., :1] / 2).abs().amax(dim=-1, keepdim=True)
    # In numbers, and in no choices, which a compiler takes through the end of a row one by one. A constant row is multiplied
    # by 0 and has deviation 1, so that no root's infinite slope at 0 comes into the gradient; and x / x is 1.
    constant = (reach <= 4 * tiny**0.5).to(logits.dtype)
    factor = reach.clamp(tiny**0.25, tiny**-0.25) * (1 - constant) / (reach + constant)
    # Of parts, which cannot overflow; and of the row as it came, so that one pass finds it and the reach.
    middle = (logits * (1 / logits.shape[-1])).sum(dim=-1, keepdim=True) * factor
    logits = logits * factor - middle
    variance = (logits * logits).sum(dim=-1, keepdim=True) / (logits.shape[-1] - ddof)
    # A row is divided once, and not its every number, there and back.
    share = 1 / ((variance + constant).sqrt() + factor * eps)
    low, high = values.amin(dim=-1, keepdim=True), values.amax(dim=-1, keepdim=True)
    middle, of_row = middle.detach(), share.detach()
    return logits * share, ((low * factor - middle) * of_row, (high * factor - middle) * of_row)


class Standardized(NamedTuple):
    """Standardized rows, and what takes a gradient back through them (`pull`)."""

    z: Tensor
    """(B, K)."""
    share: Tensor | float
    """Of z times the gradient, summed over the row, in what z takes off the gradient; (B, 1) or a number."""
    inverse: Tensor
    """1 over what the row was divided by, (B, 1)."""

    def pull(self, g: Tensor) -> Tensor:
        """Gradient (B, K) for the logits, from one for z whose rows add up to 0."""
        along = (g * self.z).sum(dim=-1, keepdim=True).mul_(self.share)
        return g.addcmul(self.z, along, value=-1).mul_(self.inverse)


def standardized_usual(logits: Tensor, *, ddof: int = 0, eps: float = 0.0) -> Standardized | None:
    """Rows without gradient as by `standardize`; None where one is or may be constant or extreme in size."""
    classes = logits.shape[-1]
    found = _usual(logits, eps)
    if found is None:
        return None
    z, rstd = found
    if ddof == 0 and eps == 0:
        return Standardized(z, 1 / classes, rstd)
    factor = math.sqrt(classes / (classes - ddof))
    ratio = (rstd * eps).add_(factor)  # of the divisor to the population's deviation
    return Standardized(z.div_(ratio), ratio / (factor * (classes - ddof)), rstd / ratio)


class _Standardized(torch.autograd.Function):
    """Rows divided by another deviation than `population`, at which they are given, and the gradient in closed form.

    The divisor, deviation and eps, is an output as well: so the backward pass is made of ordinary operations on what goes
    in and comes out, and can be differentiated itself.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, population: Tensor, rstd: Tensor, factor: float, ddof: int, eps: float
    ) -> tuple[Tensor, Tensor]:
        ratio = (rstd * eps).add_(factor)  # of the divisor to the population's deviation
        z, divisor = population / ratio, ratio / rstd
        ctx.save_for_backward(z, divisor)
        ctx.set_materialize_grads(False)
        ctx.ddof, ctx.eps = ddof, eps
        return z, divisor

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, g_divisor: Tensor | None) -> tuple[Tensor | None, ...]:
        z, divisor = ctx.saved_tensors
        share = 1 / (z.shape[-1] - ctx.ddof)  # of z, in the gradient of the divisor
        if ctx.eps:
            share = share * divisor / (divisor - ctx.eps)
        gradient = None
        if g is not None:
            along = (g * z).sum(dim=-1, keepdim=True) * -share
            gradient = (g - g.mean(dim=-1, keepdim=True)).addcmul_(z, along).div_(divisor)
        if g_divisor is not None:
            of_divisor = z * (g_divisor * share)
            gradient = of_divisor if gradient is None else gradient + of_divisor
        return gradient, None, None, None, None, None


def _check_rows(name: str, logits: Any) -> None:
    """Raise unless these are rows of floating-point numbers, of which there are some: TypeError for others, ValueError for none."""
    if (
        type(logits) is Tensor
        and logits.dtype in FLOATS
        and logits.layout is torch.strided
        and not logits.is_nested
        and logits.ndim
        and logits.numel()
    ):
        return  # as in nearly every call
    expected = "a floating-point tensor of shape (batch, classes)"
    check_tensor(name, logits, expected, "convert it with torch.as_tensor()")
    check_float(name, logits)
    if not logits.ndim or not logits.shape[-1]:
        raise ValueError(f"{name}: expected shape (batch, classes), got {tuple(logits.shape)}")
    if not logits.numel():
        raise ValueError(f"{name}: the batch is empty (shape {tuple(logits.shape)}); skip empty batches")


def standardize(logits: Tensor, *, ddof: int = 0, eps: float = 0.0) -> Tensor:
    r"""Standardize each row to mean 0 and standard deviation 1.

    .. math:: z_k = \frac{v_k - \bar v}{\sigma + \epsilon}, \qquad
              \sigma^2 = \frac{1}{K - \mathrm{ddof}} \sum_k (v_k - \bar v)^2

    Mean and standard deviation stay in the graph. A constant row (:math:`\sigma = 0`) carries no
    information: it becomes zeros, with zero gradient, instead of NaN.

    Args:
        logits: (B, K).
        ddof: 0 is the population standard deviation, as the papers print it (2503.09030 Algorithm 2; Sun et
            al. 2024). 1 is the sample standard deviation, as both released codes compute it.
        eps: added to the standard deviation; the released codes use 1e-7.

    Returns:
        (B, K), in the dtype of the input.

    Raises:
        TypeError: for logits that are no tensor of floating-point numbers, and an eps that is no number.
        ValueError: if there are not more classes than ``ddof``, for an empty batch, and for an option below 0.
    """
    if not torch.compiler.is_compiling():
        _check_rows("logits", logits)
        if not (type(ddof) is int and ddof >= 0 and type(eps) is float and 0 <= eps < math.inf):
            check_whole(0, ddof=ddof)
            check_finite_options(eps=eps)
            if eps < 0:
                raise ValueError(f"eps: expected a finite number of at least 0, got {eps!r}")
    if logits.shape[-1] <= ddof:
        raise ValueError(
            f"logits: standardizing with ddof={ddof} needs more than {ddof} classes, "
            f"got shape {tuple(logits.shape)}"
        )
    if logits.dtype in (torch.float16, torch.bfloat16):  # fp16 ends at 65504: the variance of logits near 256
        return standardize(logits.float(), ddof=ddof, eps=eps).to(logits.dtype)
    if torch.compiler.is_compiling():
        return standardize_in_graph(logits, ddof, eps)[0]
    z = _standardize_usual(logits, ddof, eps)
    if z is not None:
        return z
    constant, factor = _spread(logits)
    logits = logits * factor
    if ddof == 0 and eps == 0:
        # Its own epsilon, at the smallest float, only keeps constant rows from dividing by 0.
        tiny = torch.finfo(logits.dtype).tiny
        z = F.layer_norm(logits, logits.shape[-1:], eps=tiny)
        return z.masked_fill(constant, 0.0)
    variance, mean = torch.var_mean(logits, dim=-1, correction=ddof, keepdim=True)  # (B, 1)
    # Replacing the variance *before* the root keeps the root's infinite slope at 0 out of the gradient.
    sigma = variance.masked_fill(constant, 1.0).sqrt()
    return ((logits - mean) / (sigma + factor * eps)).masked_fill(constant, 0.0)


def log_softened(logits: Tensor, tau: Tensor, ends: Ends | None = None) -> Tensor:
    """Log-probabilities (B, K) of logits at temperatures (B, 1) or (1, 1), which are above 0; of rows whose ends may be known."""
    if ends is not None:
        highest = ends[1]
    elif torch.compiler.is_compiling():
        highest = logits.detach().amax(dim=-1, keepdim=True)
    else:
        return torch.log_softmax(logits / tau, dim=-1)
    # The peak comes off before the division: of softmax(x / tau) a compiler computes both orders, for a tau below 0.
    apart = (logits - highest) * (1 / tau)
    return apart - apart.exp().sum(dim=-1, keepdim=True).log()


def softened(logits: Tensor, tau: Tensor) -> Tensor:
    """Probabilities (B, K) of logits at temperatures (B, 1) or (1, 1), which are above 0."""
    if not torch.compiler.is_compiling():
        return torch.softmax(logits / tau, dim=-1)
    powers = ((logits - logits.detach().amax(dim=-1, keepdim=True)) * (1 / tau)).exp()  # as in `log_softened`
    return powers * (1 / powers.sum(dim=-1, keepdim=True))  # a row is divided once, and not its every number


def pearson(a: Tensor, b: Tensor) -> Tensor:
    r"""Pearson correlation of the rows of two (B, K) tensors, :math:`\rho = \frac1K \sum_k z^a_k z^b_k`.

    Returns (B,). A constant row has correlation 0 with everything.

    Raises:
        TypeError: for anything but tensors of floating-point numbers.
        ValueError: if the shapes differ, or there are no rows.
    """
    if not torch.compiler.is_compiling():
        _check_rows("a", a)
        _check_rows("b", b)
    if a.shape != b.shape:
        raise ValueError(
            f"pearson: expected two tensors of one shape, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    return (standardize(a) * standardize(b)).mean(dim=-1)


def median(values: Tensor) -> Tensor:
    """Median of all values, the mean of the two middle ones where they are even in number. Returns a scalar.

    What ``values.quantile(0.5)`` gives, which before torch 2.14 refuses more than 2^24 values.
    """
    ordered = values.flatten().sort().values
    last = len(ordered) - 1
    return torch.lerp(ordered[last // 2], ordered[(last + 1) // 2], 0.5)


def six_digits(x: Tensor | float) -> float:
    """A number as it is written down."""
    return float(f"{float(x):.6g}")


def quantiles(x: Tensor, percent: Sequence[int]) -> dict[str, float]:
    """Quantiles of all values, such as q5, from q0 (the smallest) to q100 (the largest), to six digits."""
    at = torch.tensor(percent, dtype=x.dtype, device=x.device) / 100
    return {f"q{n}": six_digits(value) for n, value in zip(percent, x.quantile(at), strict=True)}


def peak(logits: Tensor, magnitude: str = "signed") -> Tensor:
    r"""Height of each row's peak: :math:`\max_k z_k` ("signed") or :math:`\max_k |z_k|` ("absolute").

    Returns (B, 1).

    Raises:
        TypeError: for logits that are no tensor of floating-point numbers.
        ValueError: for another magnitude, or no rows.
    """
    if not torch.compiler.is_compiling():
        _check_rows("logits", logits)
    if magnitude == "signed":
        return logits.amax(dim=-1, keepdim=True)
    if magnitude == "absolute":
        low, high = ends_of(logits)
        return torch.maximum(high, -low)
    raise ValueError(f"magnitude: expected 'signed' or 'absolute', got {magnitude!r}")
