"""Curriculum temperature: the peer's trajectory, the reversal, the instance-wise network."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches

from adakd import DKD, KL, LogitObjective
from adakd.temperature import CTKD
from adakd.temperature.ctkd import curriculum, scale_gradient

T0 = 1 + 20 / (1 + math.exp(-1))


def test_the_curriculum_is_the_peers(golden):
    peer = golden.scalars["ctkd_curriculum"]
    ours = [curriculum(epoch, loops=10) for epoch in peer["epochs"]]
    np.testing.assert_allclose(ours, peer["cosine"], rtol=1e-9, atol=1e-15)


def test_the_trajectory_is_the_peers(golden):
    """36 steps of SGD with momentum and weight decay on fixed logits, theta moving alone."""
    student, teacher = (
        torch.from_numpy(golden.arrays[f"A_B8_K100/inputs/{name}"]) for name in ("student", "teacher")
    )
    rule = CTKD().double()
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    ours = []
    for epoch, iteration in golden.arrays["ctkd_trajectory"][:, :2]:
        theta = rule.theta.item()
        temperatures = rule(student, teacher, epoch=int(epoch))
        loss = 0.9 * KL()(student, teacher, None, temperatures).mean()
        optimizer.zero_grad()
        loss.backward()
        tau = temperatures.teacher.item()
        ours.append(
            [
                epoch,
                iteration,
                curriculum(int(epoch), rule.loops),
                theta,
                tau,
                loss.item(),
                rule.theta.grad.item(),
            ]
        )
        optimizer.step()
    np.testing.assert_allclose(ours, golden.arrays["ctkd_trajectory"], rtol=1e-9)


def test_the_first_temperature():
    assert CTKD()(torch.zeros(1, 2), torch.zeros(1, 2)).teacher.item() == pytest.approx(T0)
    assert pytest.approx(15.6212, abs=1e-4) == T0


@given(x=st.floats(-100, 100), factor=st.floats(-2, 2))
def test_scaling_the_gradient_changes_nothing_else(x, factor):
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    scaled = scale_gradient(leaf, factor)
    assert scaled.item() == x
    scaled.square().backward()
    assert leaf.grad.item() == pytest.approx(2 * x * factor)


def test_gradcheck_and_its_reversal():
    """At the end of the curriculum the gradient is the true one, negated; before epoch 1 it would be 0."""
    torch.manual_seed(0)
    student, teacher = 9 * torch.randn(2, 3, 5, dtype=torch.float64)
    rule = CTKD().double()

    def loss(theta, epoch):
        temperatures = torch.func.functional_call(rule, {"theta": theta}, (student, teacher, None, epoch))
        return KL()(student, teacher, None, temperatures).mean()

    theta, h = rule.theta.detach(), 1e-4
    numeric = (loss(theta + h, 1) - loss(theta - h, 1)).item() / (2 * h)
    for epoch in (1, 4, 10, 99, None):
        (grad,) = torch.autograd.grad(loss(rule.theta, epoch), rule.theta)
        assert grad.item() == pytest.approx(curriculum(epoch, 10) * numeric, rel=1e-5)


def test_it_climbs_the_loss_that_the_student_descends():
    torch.manual_seed(0)
    student, teacher = torch.randn(16, 10), 3 * torch.randn(16, 10)
    rule = CTKD()
    optimizer = torch.optim.SGD(rule.parameters(), lr=1.0)
    losses = []
    for _ in range(30):
        loss = KL()(student, teacher, None, rule(student, teacher)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses)
    assert losses[-1] > losses[0]


@given(batch=batches(), start=st.floats(0.1, 10), end=st.floats(0.1, 50), theta=st.floats(-1000, 1000))
def test_bounds(batch, start, end, theta):
    student, teacher, _ = batch
    rule = CTKD(start=start, end=end).double()
    with torch.no_grad():
        rule.theta.fill_(theta)
    tau = rule(student, teacher).teacher
    assert tau.shape == (1, 1)
    assert start <= tau.item() <= start + end + 1e-9


class TestInstance:
    def test_it_starts_as_the_global_rule_and_then_tells_samples_apart(self):
        torch.manual_seed(0)
        student, teacher = torch.randn(6, 5, requires_grad=True), torch.randn(6, 5)
        rule = CTKD(instance=True, num_classes=5)
        tau = rule(student, teacher).teacher
        assert tau.shape == (6, 1)
        torch.testing.assert_close(tau, torch.full((6, 1), T0))
        optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            KL()(student, teacher, None, rule(student, teacher)).mean().backward()
            optimizer.step()
        tau = rule(student, teacher).teacher
        assert tau.std() > 1e-3
        assert ((tau > 1) & (tau < 21)).all()

    def test_the_student_does_not_learn_through_the_network(self):
        student, teacher = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5)
        rule = CTKD(instance=True, num_classes=5)
        torch.nn.init.normal_(rule.network[2].weight)
        (grad,) = torch.autograd.grad(rule(student, teacher).student.sum(), student, allow_unused=True)
        assert grad is None

    def test_every_sample_is_reversed(self):
        torch.manual_seed(1)
        student, teacher = torch.randn(4, 5), torch.randn(4, 5)
        gradients = {}
        for epoch in (5, 10):
            rule = CTKD(instance=True, num_classes=5)
            KL()(student, teacher, None, rule(student, teacher, epoch=epoch)).mean().backward()
            gradients[epoch] = rule.network[2].weight.grad
        torch.testing.assert_close(gradients[5], gradients[10] * 0.5)

    def test_seed_and_not_the_callers_random_state_decides_the_weights(self):
        def weights(seed):
            return CTKD(instance=True, num_classes=5, seed=seed).network[0].weight

        assert torch.equal(weights(0), weights(0))
        assert not torch.equal(weights(0), weights(1))

    def test_it_refuses_other_classes_and_none(self):
        with pytest.raises(ValueError, match="num_classes: the instance-wise temperature is a network"):
            CTKD(instance=True)
        with pytest.raises(ValueError, match="made for 10 classes, the logits have 5"):
            CTKD(instance=True, num_classes=10)(torch.zeros(2, 5), torch.zeros(2, 5))


def test_logits_that_are_no_logits_leave_its_gradient_finite():
    """The temperature's gradient grows with the teacher's logits, as their rounding does, and so did the network's input:
    the product left the format."""
    objective = LogitObjective(DKD(), CTKD(instance=True, num_classes=4), ce_weight=0, kd_weight=1e3)
    student, teacher = torch.zeros(3, 4, requires_grad=True), torch.full((3, 4), 1e24)
    terms = objective(student, teacher, torch.arange(3), epoch=7)
    terms.total.backward()
    assert terms.total.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in objective.parameters())


@pytest.mark.parametrize("instance", [False, True])
def test_200_steps_with_dkd_stay_finite(instance, record_property):
    """The trap of the released code: a learned temperature behind a mask of -1000 is NaN sooner or later."""
    generator = torch.Generator().manual_seed(0)
    student = torch.nn.Parameter(torch.randn(32, 10, generator=generator))
    teacher = 6 * torch.randn(32, 10, generator=generator)
    target = teacher.argmax(dim=1)
    objective = LogitObjective(DKD(), CTKD(instance=instance, num_classes=10), warmup_epochs=20)
    optimizer = torch.optim.SGD([student, *objective.parameters()], lr=0.05, momentum=0.9, weight_decay=5e-4)
    taus, gradients, losses = [], [], []
    for step in range(200):
        terms = objective(student, teacher, target, epoch=1 + step // 10)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        losses.append(terms.kd.item())
        taus.append(terms.temperature.teacher.mean().item())
        gradients.append(torch.cat([p.grad.flatten() for p in objective.parameters()]).norm().item())
    record_property("temperature", taus)
    record_property("temperature_gradient", gradients)
    assert np.isfinite([losses, taus, gradients]).all()
    assert all(1 <= tau <= 21 for tau in taus)
    assert max(taus) > taus[0] + 1
    assert min(gradients) > 0
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 0}, "start: expected a finite number above 0, got 0"),
        ({"end": -1.0}, "end: expected a finite number above 0"),
        ({"loops": 0}, "loops: expected a finite number above 0"),
    ],
)
def test_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        CTKD(**options)
