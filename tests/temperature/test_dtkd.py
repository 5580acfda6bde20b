"""Dynamic temperature: the peer's temperatures and gradient, the guard, the invariances it has and lacks."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches

from adakd import KL, LogitObjective, standardize
from adakd.temperature import DTKD

MAGNITUDES = ("logsumexp", "max")


@pytest.mark.parametrize("group", ["A_B8_K100", "B_B5_K10"])
def test_the_released_code_is_magnitude_max(golden, group):
    student, teacher = (
        torch.from_numpy(golden.arrays[f"{group}/inputs/{name}"]) for name in ("student", "teacher")
    )
    student.requires_grad_()
    case = golden.scalars["cases"][group]["dtkd_only"]
    temperatures = DTKD(tau=case["params"]["T"], magnitude="max")(student, teacher)
    for name, tau in zip(("student", "teacher"), temperatures, strict=True):
        expected = golden.arrays[f"{group}/dtkd/T_{name}"]
        np.testing.assert_allclose(tau.detach().squeeze(1), expected, rtol=1e-9)
    loss = KL()(student, teacher, None, temperatures).mean()
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-9)
    np.testing.assert_allclose(student.grad, golden.arrays[case["grad"]], rtol=1e-9, atol=1e-11)


def test_the_paper_by_hand():
    student, teacher = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0]])
    m_s, m_t = np.log(np.exp(1) + np.exp(2)), np.log(np.exp(3) + 1)
    temperatures = DTKD()(student, teacher)
    assert temperatures.student.item() == pytest.approx(8 * m_s / (m_s + m_t))
    assert temperatures.teacher.item() == pytest.approx(8 * m_t / (m_s + m_t))


@pytest.mark.parametrize("magnitude", MAGNITUDES)
@given(batch=batches(), tau=st.floats(0.5, 20))
def test_two_positive_temperatures_with_the_mean_tau(magnitude, batch, tau):
    student, teacher, _ = batch
    rule = DTKD(tau, magnitude)
    temperatures = rule(student, teacher)
    assert temperatures.student.shape == (len(student), 1)
    assert (temperatures.student > 0).all()
    assert (temperatures.teacher > 0).all()
    total = temperatures.student + temperatures.teacher
    torch.testing.assert_close(total, torch.full_like(total, 2 * tau))
    exchanged = rule(teacher, student)
    assert torch.equal(exchanged.student, temperatures.teacher)
    same = rule(student, student)
    torch.testing.assert_close(same.student, torch.full_like(total, tau))


@given(batch=batches(), scale=st.floats(1, 50))
def test_a_common_scale_matters_to_logsumexp_and_not_to_max(batch, scale):
    student, teacher = batch[0].abs() + 1, batch[1].abs() + 1  # above the floor
    rule = DTKD(magnitude="max")
    torch.testing.assert_close(rule(scale * student, scale * teacher), rule(student, teacher))
    student, teacher = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 4.0]])
    assert not torch.allclose(DTKD()(5 * student, 5 * teacher).student, DTKD()(student, teacher).student)


@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_a_shift_matters(magnitude):
    student, teacher = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 4.0]])
    rule = DTKD(magnitude=magnitude)
    assert not torch.allclose(rule(student + 3, teacher).student, rule(student, teacher).student)


@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_gradcheck(magnitude):
    torch.manual_seed(0)
    rule = DTKD(magnitude=magnitude)
    student = (2 + torch.randn(3, 5, dtype=torch.float64)).requires_grad_()
    teacher = 2 + torch.randn(3, 5, dtype=torch.float64)

    def loss(s):
        return KL()(s, teacher, None, rule(s, teacher))

    assert torch.autograd.gradcheck(lambda s: rule(s, teacher), student)
    assert torch.autograd.gradcheck(loss, student)
    (grad,) = torch.autograd.grad(loss(student).sum(), student)
    assert grad.sum(dim=1).abs().min() > 1e-3  # the one rule whose gradient does not sum to 0 over classes


@pytest.mark.filterwarnings("ignore:the sharpness .* floor")
@pytest.mark.parametrize("row", [2, "all"])
def test_negative_logits_are_where_the_published_formula_fails(golden, row):
    """Every student logit is negative: the peer's loss is negative there, and its batch's gradient NaN."""
    group = f"edge_row{row}" if row != "all" else "edge_B7_K10"
    student, teacher, target = (
        torch.from_numpy(golden.arrays[f"{group}/inputs/{name}"]) for name in ("student", "teacher", "target")
    )
    peer = golden.scalars["cases"][group]["dtkd_only"]
    assert peer["loss"] < 0 or not peer["grad_finite"]
    student.requires_grad_()
    terms = LogitObjective(KL(), DTKD(magnitude="max"), ce_weight=0)(student, teacher, target)
    terms.total.backward()
    assert terms.total > 0
    assert student.grad.isfinite().all()


@given(batch=batches(spread=True))
def test_standardized_logits_stay_off_the_floor(batch):
    student, teacher = standardize(batch[0]), standardize(batch[1])
    for magnitude in MAGNITUDES:
        guarded, bare = DTKD(magnitude=magnitude), DTKD(magnitude=magnitude, floor=1e-12)
        torch.testing.assert_close(guarded(student, teacher), bare(student, teacher), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"magnitude": "mean"}, "magnitude: expected 'logsumexp' or 'max', got 'mean'"),
        ({"tau": 0}, "tau: expected a finite number above 0"),
        ({"floor": 0.0}, "floor: expected a finite number above 0"),
    ],
)
def test_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        DTKD(**options)
