"""Meta-learned temperature: its closed-form derivative, and that it moves where the meta-loss falls."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches

from adakd import KL, Temperatures
from adakd.temperature import MetaTemperature
from adakd.temperature.meta import look_ahead, meta_gradient


def meta_loss(student, teacher, target, tau, step):
    return F.cross_entropy(look_ahead(student, teacher, tau, step), target)


@given(batch=batches(), tau_s=st.floats(0.5, 20), tau_t=st.floats(0.5, 20), step=st.floats(0.1, 2))
def test_one_step_is_a_gradient_step_of_the_divergence(batch, tau_s, tau_t, step):
    student, teacher, target = batch
    leaf = student.clone().requires_grad_()
    one = torch.ones(1, 1, dtype=torch.float64)
    KL()(leaf, teacher, target, Temperatures(tau_s * one, tau_t * one)).sum().backward()
    moved = look_ahead(student, teacher, torch.tensor([tau_s, tau_t], dtype=torch.float64), step)
    torch.testing.assert_close(moved, student - step * leaf.grad)


@given(batch=batches(), tau_s=st.floats(0.5, 20), tau_t=st.floats(0.5, 20), step=st.floats(0.1, 2))
def test_the_closed_form_is_the_derivative(batch, tau_s, tau_t, step):
    student, teacher, target = batch
    tau = torch.tensor([tau_s, tau_t], dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(meta_loss(student, teacher, target, tau, step), tau)
    ours = meta_gradient(student, teacher, target, tau.detach(), step)
    torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-10)


def example(kind):
    """A teacher that is right, or wrong, about class 0, and a student that is undecided."""
    teacher = torch.tensor([[4.0, 1.0, 0.0, -1.0]] if kind == "right" else [[-4.0, 1.0, 2.0, 0.0]])
    student = torch.tensor([[0.5, 1.0, -1.0, 0.0]])
    return student.double(), teacher.double(), torch.tensor([0])


@pytest.mark.parametrize("kind", ["right", "wrong"])
@pytest.mark.parametrize("shared", [True, False])
def test_it_moves_where_the_meta_loss_falls(kind, shared):
    """Against a finite difference: the step is minus the rate times the slope, and the loss after it is lower."""
    batch, h = example(kind), 1e-6
    rule = MetaTemperature(initial=4.0, meta_lr=0.5, shared=shared).double()
    before = rule.tau.clone()

    def loss(tau):
        return meta_loss(*batch, tau, rule.lookahead).item()

    directions = torch.ones(1, 2) if shared else torch.eye(2)
    slopes = torch.tensor([(loss(before + h * d) - loss(before - h * d)) / (2 * h) for d in directions])
    rule(*batch)
    torch.testing.assert_close(rule.tau - before, (-0.5 * slopes).double().expand(2), rtol=1e-5, atol=1e-8)
    assert loss(rule.tau) < loss(before)
    for _ in range(300):
        rule(*batch)
    assert loss(rule.tau) < loss(before)


def test_it_settles_at_the_best_temperature_from_either_side():
    batch = example("right")
    grid = torch.linspace(1, 20, 1901, dtype=torch.float64)
    losses = torch.stack([meta_loss(*batch, tau.expand(2), 1.0) for tau in grid])
    best = grid[losses.argmin()]
    assert 1.5 < best < 10  # inside the bounds, between the two starts
    for initial in (1.5, 10.0):
        rule = MetaTemperature(initial, meta_lr=20.0).double()
        for _ in range(500):
            rule(*batch)
        torch.testing.assert_close(rule.tau, best.expand(2), rtol=0, atol=0.01)


def test_separate_temperatures_do_better_than_one():
    batch, losses = example("right"), {}
    for shared in (True, False):
        rule = MetaTemperature(meta_lr=5.0, shared=shared).double()
        for _ in range(500):
            rule(*batch)
        losses[shared] = meta_loss(*batch, rule.tau, rule.lookahead)
    assert losses[False] < losses[True] - 1e-3


def test_the_batch_sees_the_temperature_that_it_has_not_moved_yet():
    rule, batch = MetaTemperature(meta_lr=1.0).double(), example("right")
    assert rule(*batch).teacher.item() == 4.0
    assert rule.tau[0].item() != 4.0
    assert rule(*batch).teacher.item() != 4.0


@given(batch=batches(), low=st.floats(0.5, 4), width=st.floats(0, 20), rate=st.floats(0.01, 1e6))
def test_bounds(batch, low, width, rate):
    rule = MetaTemperature(low, low, low + width, meta_lr=rate, shared=False).double()
    for _ in range(3):
        tau = rule(*batch)
        for t in tau:
            assert t.shape == (1, 1)
            assert low * (1 - 1e-6) <= t.item() <= (low + width) * (1 + 1e-6)


def test_no_optimizer_can_reach_it_and_without_labels_it_says_so():
    rule, logits = MetaTemperature(), torch.zeros(1, 2)
    assert list(rule.parameters()) == []
    assert list(rule.state_dict()) == ["tau"]
    with pytest.raises(ValueError, match="target: MetaTemperature learns from the labels"):
        rule(logits, logits)
    assert rule.eval()(logits, logits).teacher.item() == 4.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": 0.5}, "initial: expected a temperature between minimum and maximum"),
        ({"minimum": 0}, "minimum: expected a finite number above 0"),
        ({"meta_lr": 0}, "meta_lr: expected a finite number above 0"),
        ({"lookahead": -1}, "lookahead: expected a finite number above 0"),
    ],
)
def test_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        MetaTemperature(**options)
