"""NormKD: the released loss, the identity with standardized logits, gradients through the student's own spread."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches

from adakd import KL, Fixed, LogitObjective, create_method, standardize
from adakd.temperature import NormKD
from adakd.weight import TeacherScale


def released(student, teacher, norm):
    """As printed: both divided by `norm` of their own deviations, KL times the square of the teacher's."""
    tau_t, tau_s = (norm * x.std(dim=1, keepdim=True) for x in (teacher, student))
    p, log_q = F.softmax(teacher / tau_t, dim=1), F.log_softmax(student / tau_s, dim=1)
    return (F.kl_div(log_q, p, reduction="none").sum(1, keepdim=True) * tau_t**2).mean()


def pair(seed=0, batch=5, classes=9):
    generator = torch.Generator().manual_seed(seed)
    return [
        scale * torch.randn(batch, classes, generator=generator, dtype=torch.float64) for scale in (2.0, 5.0)
    ]


def test_value_and_gradient_are_the_released_ones():
    student, teacher = pair()
    student.requires_grad_()
    criterion = LogitObjective(KL(), NormKD(), ce_weight=0, weight=TeacherScale())
    for loss in (criterion(student, teacher, torch.arange(5)).total, released(student, teacher, 2.0)):
        (gradient,) = torch.autograd.grad(loss, student)
        if loss.requires_grad and "first" not in locals():
            first = loss.detach(), gradient
    torch.testing.assert_close(loss, first[0])
    torch.testing.assert_close(gradient, first[1])


@given(batch=batches(min_classes=3, spread=True), tau=st.floats(0.5, 8))
def test_it_is_kl_of_standardized_logits_times_the_deviations(batch, tau):
    student, teacher, target = batch
    z = [standardize(x, ddof=1) for x in (student, teacher)]
    bare = KL()(*z, target, Fixed(tau)(*z))
    deviations = [x.std(dim=1) for x in (student, teacher)]
    temperatures = NormKD(tau)(student, teacher)
    assert (temperatures.teacher > 1e-3).all()
    value = KL()(student, teacher, target, temperatures)
    torch.testing.assert_close(value, bare * deviations[0] * deviations[1], rtol=1e-6, atol=1e-9)
    weighted = value * TeacherScale()(student, teacher, target, temperatures)
    torch.testing.assert_close(weighted, bare * deviations[1] ** 2, rtol=1e-6, atol=1e-9)


@given(batch=batches(min_classes=3, spread=True), scale=st.floats(0.5, 20), shift=st.floats(-20, 20))
def test_the_students_scale_and_shift_mean_nothing_to_the_weighted_loss(batch, scale, shift):
    student, teacher, target = batch
    criterion = LogitObjective(KL(), NormKD(), ce_weight=0, weight=TeacherScale())
    loss = criterion(student, teacher, target).kd
    torch.testing.assert_close(
        criterion(scale * student + shift, teacher, target).kd, loss, rtol=1e-6, atol=1e-9
    )
    leaf = student.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(criterion(leaf, teacher, target).kd, leaf)
    size = 1e-9 * (1 + gradient.abs().sum(1) * student.abs().amax(1))
    assert ((gradient * student).sum(1).abs() <= size).all()  # nothing along the scale
    assert (gradient.sum(1).abs() <= size).all()  # nor along a shift


def test_gradcheck():
    student, teacher = pair(batch=3, classes=5)
    rule = NormKD()
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: rule(s, teacher), student)
    assert torch.autograd.gradcheck(lambda s: KL()(s, teacher, None, rule(s, teacher)), student)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e9])
def test_rows_of_equal_logits_have_a_floor_and_no_gradient(offset):
    student = torch.full((2, 7), 0.1 + offset, requires_grad=True)
    temperatures = NormKD()(student, torch.randn(2, 7))
    assert (temperatures.student == torch.tensor(1e-3)).all()
    temperatures.student.sum().backward()
    assert (student.grad == 0).all()


@pytest.mark.parametrize("tau", [0, -1.0, float("inf")])
def test_it_refuses(tau):
    with pytest.raises(ValueError, match="tau: expected a finite number above 0"):
        NormKD(tau)


def test_beside_zkd():
    """The same direction in every row: what NormKD adds is the weight of a row."""
    student, teacher = pair()
    student.requires_grad_()
    ours = LogitObjective(KL(), NormKD(), ce_weight=0, weight=TeacherScale())(
        student, teacher, torch.arange(5)
    ).kd
    zkd = create_method("zkd")(student, teacher, torch.arange(5)).kd
    one, other = (torch.autograd.grad(loss, student)[0] for loss in (ours, zkd))
    torch.testing.assert_close(F.cosine_similarity(one, other), torch.ones(5, dtype=torch.float64))
