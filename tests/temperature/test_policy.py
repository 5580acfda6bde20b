"""Instance temperature by policy: it learns a bandit, its objective is PPO's, its noise is a pure function."""

import math

import pytest
import torch
from hypothesis import given
from strategies import batches

from adakd.temperature import Policy
from adakd.temperature.policy import actor, clipped_objective, describe, gaussian_noise


def student_with(ce, batch, classes=4):
    """Logits whose cross entropy with class 0 is `ce`."""
    p = torch.exp(-ce)
    logits = torch.zeros(batch, classes)
    logits[:, 0] = torch.log(p / (1 - p) * (classes - 1))
    return logits


def play(rule, reward, steps, batch=16):
    """A student whose cross entropy falls or rises with the last batch's mean temperature; returns the means."""
    generator = torch.Generator().manual_seed(0)
    teacher, target = torch.randn(batch, 4, generator=generator), torch.zeros(batch, dtype=torch.int64)
    tau, means = torch.tensor(4.0), []
    for _ in range(steps):
        ce = 1 - reward * (tau - 4) + 0.02 * torch.randn((), generator=generator)
        tau = rule(student_with(ce, batch), teacher, target).teacher.mean()
        means.append(tau.item())
    return means


@pytest.mark.parametrize(("reward", "end"), [(0.05, 10.0), (-0.05, 1.0)])
def test_it_learns_a_bandit(reward, end):
    rule = Policy(actor_lr=0.01)
    means = play(rule, reward, steps=250)
    rule.eval()
    logits = torch.zeros(1, 4)
    assert abs(means[0] - 4) < 1.0
    assert abs(sum(means[-10:]) / 10 - end) < 1.0
    assert abs(rule(logits, logits).teacher.item() - end) < 1.0


def test_it_starts_at_the_initial_temperature_for_every_sample():
    for initial in (1.5, 4.0, 9.0):
        tau = Policy(initial=initial).eval()(torch.randn(5, 7), torch.randn(5, 7)).teacher
        torch.testing.assert_close(tau, torch.full((5, 1), initial))


@given(batch=batches())
def test_bounds_and_exploration(batch):
    student, teacher, target = batch
    rule = Policy(2.0, 1.5, 3.0, sigma=1.0).double()
    for _ in range(4):
        tau = rule(student, teacher, target).teacher
        assert tau.shape == (len(student), 1)
        assert ((tau >= 1.5) & (tau <= 3.0)).all()
    assert rule.step == 4


def test_evaluation_is_the_mean_and_training_spreads_around_it():
    rule = Policy(sigma=0.1)
    student, teacher = torch.randn(200, 5), torch.randn(200, 5)
    mean = rule.eval()(student, teacher).teacher
    assert torch.equal(rule(student, teacher).teacher, mean)
    sampled = rule.train()(student, teacher, torch.zeros(200, dtype=torch.int64)).teacher
    assert (sampled - mean).mean().item() == pytest.approx(0, abs=0.1)
    assert (sampled - mean).std().item() == pytest.approx(
        0.1 * 4.5, rel=0.15
    )  # sigma in units of half the range


def test_noise_is_normal_and_a_function_of_seed_and_step():
    step = torch.tensor(7)
    noise = gaussian_noise(0, step, 20000)
    assert torch.equal(noise, gaussian_noise(0, step, 20000))
    assert noise.isfinite().all()
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(1, abs=0.03)
    assert (noise.abs() < 1).float().mean().item() == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.01)
    for other in (gaussian_noise(1, step, 20000), gaussian_noise(0, step + 1, 20000)):
        assert torch.corrcoef(torch.stack([noise, other]))[0, 1].abs().item() < 0.03


@given(batch=batches())
def test_features_are_between_0_and_1_and_ignore_the_order_of_classes(batch):
    student, teacher, _ = batch
    features = describe(student, teacher)
    assert features.shape == (len(student), 6)
    assert ((features >= 0) & (features <= 1 + 1e-12)).all()
    torch.testing.assert_close(describe(student.flip(1), teacher.flip(1)), features)


def policy_batch():
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(8 * 16 + 1, generator=generator, dtype=torch.float64) / 4
    features = torch.rand(5, 6, generator=generator, dtype=torch.float64)
    old_mean = actor(weights, features)
    action = old_mean + 0.3 * torch.tensor([2.0, -2.0, 1.0, -1.0, 0.1])
    return weights, features, action, old_mean


def test_the_first_step_is_the_plain_policy_gradient():
    """Before the weights move, the objective's gradient is A times that of the mean log-likelihood."""
    weights, features, action, old_mean = policy_batch()
    valid = torch.tensor([1, 1, 1, 0, 0.0], dtype=torch.float64)
    advantage = torch.tensor(-0.7, dtype=torch.float64)
    ours = torch.func.grad(clipped_objective)(weights, features, action, old_mean, valid, advantage, 0.3, 0.2)
    leaf = weights.clone().requires_grad_()
    likelihood = torch.distributions.Normal(actor(leaf, features), 0.3).log_prob(action)
    (expected,) = torch.autograd.grad(advantage * likelihood[:3].mean(), leaf)
    torch.testing.assert_close(ours, expected)


def test_the_objective_stops_where_the_ratio_leaves_the_clip():
    """With a reward, raising a likelihood beyond 1 + eps earns nothing more; a likelihood that fell can come back."""
    weights, features, action, old_mean = policy_batch()
    weights[-1] += 0.2
    ratio = torch.exp(
        torch.distributions.Normal(actor(weights, features), 0.3).log_prob(action)
        - torch.distributions.Normal(old_mean, 0.3).log_prob(action)
    )
    assert (ratio > 1.2).any()
    assert (ratio < 0.8).any()
    assert ((ratio > 0.8) & (ratio < 1.2)).any()
    for i in range(5):
        valid = torch.eye(5, dtype=torch.float64)[i]
        for sign in (1.0, -1.0):
            value, grad = (
                f(clipped_objective)(
                    weights, features, action, old_mean, valid, torch.tensor(sign).double(), 0.3, 0.2
                )
                for f in (lambda g: g, torch.func.grad)
            )
            clipped = ratio[i].clamp(max=1.2) if sign > 0 else ratio[i].clamp(min=0.8)
            assert value.item() == pytest.approx(sign * clipped.item())
            assert (grad.abs().max() == 0) == (clipped != ratio[i]).item()


def test_an_empty_memory_teaches_nothing():
    rule = Policy()
    weights = rule.weights.clone()
    student, teacher, target = torch.randn(4, 5), torch.randn(4, 5), torch.zeros(4, dtype=torch.int64)
    rule(student, teacher, target)
    assert torch.equal(rule.weights, weights)
    rule(3 * student, teacher, target)
    assert not torch.equal(rule.weights, weights)


def test_the_reward_is_relative_to_the_running_mean_and_bounded():
    rule = Policy(momentum=0.9)
    advantages = []
    for ce in (2.0, 1.0, 3.0, 1e4):
        advantages.append(rule._advantage(torch.tensor(ce)).item())
        rule.step.add_(1)
    assert advantages[0] == 0
    assert advantages[1] > 0 > advantages[2]
    assert advantages[1] == pytest.approx(1 / math.sqrt(0.1), rel=1e-4)
    assert -3.2 < advantages[3] < 0


def test_a_memory_smaller_than_the_batch_keeps_its_first_samples():
    rule = Policy(memory=3)
    student, teacher, target = torch.randn(8, 5), torch.randn(8, 5), torch.zeros(8, dtype=torch.int64)
    tau = rule(student, teacher, target).teacher.flatten()
    assert rule.valid.tolist() == [1, 1, 1]
    torch.testing.assert_close(1 + 4.5 * (1 + rule.action.clamp(-1, 1)), tau[:3])
    rule(student[:2], teacher[:2], target[:2])
    assert rule.valid.tolist() == [1, 1, 0]


def test_seeds_differ_and_nothing_is_a_parameter():
    student, teacher, target = torch.randn(8, 5), torch.randn(8, 5), torch.zeros(8, dtype=torch.int64)
    one, same, other = (Policy(seed=seed)(student, teacher, target).teacher for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert list(Policy().parameters()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": 1.0}, "initial: expected a temperature strictly between 1 and 10, got 1.0"),
        ({"sigma": 0.0}, "sigma: expected a finite number above 0"),
        ({"momentum": 1.5}, "momentum: expected a number in"),
        ({"minimum": 20.0}, "expected minimum <= maximum"),
        ({"hidden": 1.5}, "hidden: expected a whole number of at least 1, got 1.5"),
        ({"updates": 1.5}, "updates: expected a whole number of at least 1, got 1.5"),
        ({"memory": 0}, "memory: expected a whole number of at least 1, got 0"),
    ],
)
def test_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Policy(**options)


def test_without_labels_it_says_so():
    with pytest.raises(ValueError, match="target: Policy learns from the labels"):
        Policy()(torch.zeros(1, 2), torch.zeros(1, 2))
