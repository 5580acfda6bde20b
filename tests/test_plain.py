"""The usual loss in one step is the composition: values, gradients, second derivatives; and what is not usual is composed."""

import collections

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from adakd import KL, create_method
from adakd._closed import COMPARED
from adakd.divergence import TTM
from adakd.objective import LogitObjective

NAMES = [
    *("kd", "zkd", "zkd+mlt", "zkd+mlt-abs", "kd+mlt", "kd+dtkd", "kd+dtkd-max", "dtkd", "dtkd-max", "ttm"),
    *("dkd", "zdkd", "zdkd+mlt", "zdkd+mlt-abs", "dist", "dist+mlt"),
]


def batch_of(rows, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64) + 4 for _ in range(2)
    )
    return student.requires_grad_(), teacher, torch.randint(classes, (rows,), generator=generator)


def is_plain(terms):
    return type(terms.total.grad_fn).__name__ == "_KnownBackward"


def composed(monkeypatch, criterion, *batch, **named):
    """Terms of the composition."""
    with monkeypatch.context() as patch:
        patch.setattr("adakd.objective.plain_terms", lambda *_: None)
        return criterion(*batch, **named)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 3), (5, 7), (64, 100)])
@pytest.mark.parametrize("name", NAMES)
def test_the_one_step_is_the_composition(name, shape, monkeypatch):
    criterion = create_method(name).double()
    for seed in range(3):
        batch = batch_of(*shape, seed)
        one, other = criterion(*batch, epoch=3), composed(monkeypatch, criterion, *batch, epoch=3)
        assert is_plain(one)
        assert not is_plain(other)
        close(one, other)
        for a, b in zip(one[:3], other[:3], strict=True):
            close(*(torch.autograd.grad(x, batch[0], retain_graph=True)[0] for x in (a, b)))
        mixed = [terms.total + 2 * terms.ce - 3 * terms.kd for terms in (one, other)]
        close(*(torch.autograd.grad(x, batch[0])[0] for x in mixed))


@pytest.mark.parametrize("name", ["dtkd", "dtkd-max", "kd+dtkd"])
def test_a_bound_of_dtkd_holds_its_slope(name, monkeypatch):
    criterion = create_method(name).double()
    criterion.temperature.floor = 1e-9
    student, teacher, target = batch_of(6, 7)
    with torch.no_grad():
        student[0] -= 20  # at the floor
        teacher[1] -= 20
        student[2] *= 1e8  # beyond the ratio of the two
        teacher[3] *= 1e8
    one = criterion(student, teacher, target)
    other = composed(monkeypatch, criterion, student, teacher, target)
    assert is_plain(one)
    close(*(torch.autograd.grad(x.total, student, retain_graph=True)[0] for x in (one, other)))
    for a, b in zip(one.temperature, other.temperature, strict=True):
        close(a, b)
        close(*(torch.autograd.grad(x.sum(), student, retain_graph=True)[0] for x in (a, b)))


def test_every_closed_form_is_compared():
    assert {type(create_method(name).divergence) for name in NAMES} == set(COMPARED)


# The temperature of MaxLogit counts as a constant, which differences do not see.
@pytest.mark.parametrize("name", [name for name in NAMES if "mlt" not in name])
def test_derivatives_are_the_numerical_ones(name):
    criterion = create_method(name).double()
    student, teacher, target = batch_of(4, 5)
    assert is_plain(criterion(student, teacher, target))

    assert gradcheck(lambda s: criterion(s, teacher, target)[:3], (student,))
    assert gradgradcheck(lambda s: criterion(s, teacher, target)[:3], (student,), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_are_those_of_the_composition(name, monkeypatch):
    criterion = create_method(name).double()
    batch = batch_of(5, 7)
    found = []
    for terms in (criterion(*batch), composed(monkeypatch, criterion, *batch)):
        (gradient,) = torch.autograd.grad(terms.total, batch[0], create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), batch[0])[0])
    close(*found)


def test_ignored_rows_leading_axes_and_half_precision_take_it_too():
    criterion = create_method("zkd+mlt")
    student, teacher, target = batch_of(8, 7)
    target[2] = -100
    assert is_plain(criterion(student, teacher, target))
    assert is_plain(criterion(student.unflatten(0, (2, 4)), teacher.unflatten(0, (2, 4)), target.view(2, 4)))
    half = criterion(student.bfloat16(), teacher.bfloat16(), target)
    assert is_plain(half)
    assert half.total.dtype == torch.float32


def test_the_total_may_be_overwritten_and_the_teacher_gets_no_gradient():
    student, teacher, target = batch_of(8, 7)
    teacher.requires_grad_()
    criterion = create_method("kd").double()
    (expected,) = torch.autograd.grad(criterion(student, teacher, target).total, student)
    total = criterion(student, teacher, target).total
    total /= 4
    total.backward()
    close(student.grad, expected / 4)
    assert teacher.grad is None


class Otherwise(KL):
    def forward(self, student, teacher, target, temperatures):
        return 2 * super().forward(student, teacher, target, temperatures)


class Heavier(LogitObjective):
    def _ce(self, student, rows):
        return 2 * super()._ce(student, rows)


def hooked():
    criterion = LogitObjective(KL())
    criterion.divergence.register_forward_hook(lambda module, inputs, output: 2 * output)
    return criterion


def smoothed():
    criterion = LogitObjective(KL())
    criterion.cross_entropy.label_smoothing = 0.1
    return criterion


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogitObjective(Otherwise()),
        lambda: LogitObjective(TTM(weighted=True)),
        lambda: Heavier(KL()),
        lambda: LogitObjective(KL(), chunk=3),
        lambda: LogitObjective(KL(), class_weights=torch.arange(1, 8)),
        hooked,
        smoothed,
    ],
)
def test_what_is_not_usual_is_composed(make, monkeypatch):
    batch, criterion = batch_of(8, 7), make()
    terms = criterion(*batch)
    assert not is_plain(terms)
    assert torch.equal(terms.total, composed(monkeypatch, criterion, *batch).total)


def test_a_transform_is_composed():
    student, teacher, target = batch_of(8, 7)
    criterion = create_method("kd").double()
    found = torch.func.grad(lambda s: criterion(s, teacher, target).total)(student.detach())
    close(found, torch.autograd.grad(criterion(student, teacher, target).total, student)[0])
    network = nn.Linear(7, 7).double()
    criterion(network(student.detach()), teacher, target).total.backward()
    assert network.weight.grad.isfinite().all()


class Operations(TorchDispatchMode):
    """Counts what is called of the kernels."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.seen.append(str(function))
        return function(*arguments, **(keywords or {}))


# Those of the published formulas in benchmarks/peers.py: 35, 67, 75, 114, 31, 83.
@pytest.mark.parametrize(
    ("name", "most"),
    [("kd", 28), ("zkd", 61), ("zkd+mlt-abs", 73), ("dtkd-max", 84), ("ttm", 25), ("dkd", 58)],
)
def test_a_step_calls_few_operations(name, most):
    criterion = create_method(name).double()
    student, teacher, target = batch_of(8, 7)
    for _ in range(2):  # which are looked at for warnings
        criterion(student, teacher, target)
    with Operations() as operations:
        criterion(student, teacher, target).total.backward()
    seen = operations.seen
    if torch.__version__.startswith("2.4."):  # whose autograd detaches what it saves once more
        seen = [operation for operation in seen if "detach" not in operation]
    assert len(seen) <= most, collections.Counter(seen)
