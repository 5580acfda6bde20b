"""The hint of FitNets: a map of the teacher, predicted from one of the student (Romero et al. 2015)."""

from torch import Tensor, nn

from ..signals import Batch, Signals
from ._features import refuse_unbuilt
from ._layers import pairs_of, taps_of
from .base import Term

__all__ = ["FitNet"]


class FitNet(Term):
    r"""Mean square distance of a regressed map of the student from a map of the teacher.

    .. math:: \ell_i = \tfrac{1}{C H W}\, \big\| r(f^s_i) - f^t_i \big\|^2

    with r a convolution to the teacher's shape (C, H, W), batch norm and ReLU: 3×3 of stride 2 where the student's map is
    twice as large, transposed where the teacher's is a multiple of it, else of the kernel that leaves its size (1×1 for
    equal sizes). Its parameters are trained along.

    Args:
        student_layers, teacher_layers: the submodules whose maps are meant, of a network of your own; ``stage2`` when
            left out. Vectors (N, C) count as maps of one field.
        regressor: whether there is one; without, both maps must have one shape.

    Shapes: features (N, C, H, W). Returns (N,). In training mode the batch norm makes a row's value depend on the others.

    Raises:
        ValueError: for several layers of a network; when built, for maps that no convolution takes to one another.

    Source: Romero et al. 2015 (arXiv 1412.6550). The CRD repository and mdistiller agree: regressor, layer and weight 100
    are theirs.

    Differs from the paper:
        - Trained in one phase, with the cross entropy: the paper trains the layers up to the hint first, alone, then all
          by the teacher's logits.
        - Its regressor has no batch norm, and the loss is half of the sum of squares where this is their mean.
    """

    regressor: nn.Module

    def __init__(
        self, student_layers: str | None = None, teacher_layers: str | None = None, regressor: bool = True
    ):
        super().__init__()
        self.taps = taps_of(("stage2",), student_layers, teacher_layers)
        if len(self.taps.student) > 1:
            raise ValueError(f"student_layers: expected one layer, got {len(self.taps.student)}")
        self.has_regressor = regressor

    @property
    def reads_batch(self) -> bool:  # type: ignore[override]  # by its batch norm
        return self.has_regressor

    def build(self, student: Signals, teacher: Signals, train_images: int) -> None:
        s, t = self._maps(student, teacher)
        if self.has_regressor:
            self.regressor = make_regressor(s.shape[1:], t.shape[1:])
        else:
            self.regressor = nn.Identity()
            _check_shapes(s, t)

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        refuse_unbuilt(self, "regressor")
        s, t = self._maps(student, teacher)
        predicted = self.regressor(s)
        _check_shapes(predicted, t)
        return (predicted - t).square().flatten(1).mean(dim=1)

    def _maps(self, student: Signals, teacher: Signals) -> tuple[Tensor, Tensor]:
        (pair,) = pairs_of(self.taps, student, teacher)
        for x, network in zip(pair, ("student", "teacher"), strict=True):
            if x.ndim not in (2, 4):
                raise ValueError(f"{network} features: expected (N, C, H, W) or (N, C), got {tuple(x.shape)}")
        s, t = (x if x.ndim == 4 else x[:, :, None, None] for x in pair)
        return s, t

    def extra_repr(self) -> str:
        return f"taps={tuple(self.taps)}"


def make_regressor(inputs: tuple[int, ...], outputs: tuple[int, ...]) -> nn.Sequential:
    """Convolution, batch norm and ReLU from maps of shape (C, H, W) to maps of another.

    Raises:
        ValueError: where the outputs are larger, and no multiple.
    """
    (channels, *sizes), (wanted, *targets) = inputs, outputs
    if all(a >= b for a, b in zip(sizes, targets, strict=True)):
        plan = [(3, 2, 1) if a == 2 * b else (1 + a - b, 1, 0) for a, b in zip(sizes, targets, strict=True)]
        kernel, stride, padding = zip(*plan, strict=True)
        convolution: nn.Module = nn.Conv2d(channels, wanted, kernel, stride, padding)
    elif all(b % a == 0 for a, b in zip(sizes, targets, strict=True)):
        # From a field to k: out = (in - 1)·k - 2·(k // 2) + kernel, whatever k.
        factors = [b // a for a, b in zip(sizes, targets, strict=True)]
        plan = [(2 * k - k % 2, k, k // 2) for k in factors]
        kernel, stride, padding = zip(*plan, strict=True)
        convolution = nn.ConvTranspose2d(channels, wanted, kernel, stride, padding)
    else:
        raise ValueError(
            f"features: no regressor takes maps of {_size(sizes)} fields to {_size(targets)}: expected as large, larger, "
            "or a whole part of it; name other layers (student_layers=, teacher_layers=)"
        )
    return nn.Sequential(convolution, nn.BatchNorm2d(wanted), nn.ReLU())


def _size(fields: list[int]) -> str:
    return "×".join(map(str, fields))


def _check_shapes(student: Tensor, teacher: Tensor) -> None:
    if student.shape[1:] != teacher.shape[1:]:
        raise ValueError(
            f"features: expected the shape that the teacher's have here, {tuple(teacher.shape[1:])}, got "
            f"{tuple(student.shape[1:])}; build the method for images of this size, or leave the regressor in"
        )
