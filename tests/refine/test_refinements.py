"""Refinements: the label swapped to the top, ATS in its own words, interpolation by the epoch; one graph, half precision."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches

from adakd import KL, TTM, Batch, Fixed, LogitObjective
from adakd.refine import TAID, Asymmetric, Swap

REFINEMENTS = {
    "swap": Swap,
    "lift": lambda: Swap("lift"),
    "asymmetric": Asymmetric,
    "taid": TAID,
}
every_refinement = pytest.mark.parametrize("name", REFINEMENTS)
WRONG = torch.tensor([[1.0, 5.0, 0.0, 2.0]])


def pair(batch=5, classes=7, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(batch, classes, generator=generator, dtype=dtype) for _ in "st"]


def objective(refine, **options):
    return LogitObjective(KL(), Fixed(2.0), ce_weight=0, refine=refine, **options)


# ---- swap ----


def test_swap_and_lift_by_hand():
    for how, expected in (("swap", [5.0, 1.0, 0.0, 2.0]), ("lift", [5.0, 5.0, 0.0, 2.0])):
        student, teacher = Swap(how)(WRONG, WRONG, Batch(torch.tensor([0])))
        assert teacher.tolist() == [expected]
        assert student is WRONG
        assert torch.equal(Swap(how)(WRONG, WRONG, Batch(torch.tensor([1])))[1], WRONG)  # the teacher is right
    assert WRONG.tolist() == [[1.0, 5.0, 0.0, 2.0]]  # and nothing was changed in place


@given(batch=batches())
def test_after_it_the_label_is_the_highest_and_nothing_else_has_moved(batch):
    student, teacher, target = batch
    column = target.unsqueeze(1)
    for how in ("swap", "lift"):
        s, t = Swap(how)(student, teacher, Batch(target))
        assert torch.equal(s, student)
        assert torch.equal(t.gather(1, column), teacher.amax(1, keepdim=True))
        moved = (t != teacher).sum(1)
        assert (moved <= (2 if how == "swap" else 1)).all()
        assert torch.equal(Swap(how)(s, t, Batch(target))[1], t)  # done twice, it is done
    swapped = Swap()(student, teacher, Batch(target))[1]
    assert torch.equal(swapped.sort(1).values, teacher.sort(1).values)  # a row keeps its numbers


# ---- asymmetric temperatures ----


def released_ats(student, teacher, target, of_label, of_others, of_student):
    """As printed: one temperature a class, then cross entropy with the teacher, times the student's squared."""
    tau = torch.full_like(teacher, of_others)
    tau[torch.arange(len(target)), target] = of_label
    p = torch.softmax(teacher / tau, 1)
    return of_student**2 * -(p * F.log_softmax(student / of_student, 1)).sum(1).mean()


@pytest.mark.parametrize("of_student", [1.0, 2.0])
def test_ats_is_the_released_loss(of_student):
    """The student at 1 is TTM, at the others' temperature KL; their entropy terms have no gradient."""
    student, teacher = pair()
    target = torch.arange(5)
    student.requires_grad_()
    divergence = TTM() if of_student == 1 else KL()
    ours = LogitObjective(divergence, Fixed(2.0), ce_weight=0, refine=Asymmetric(2.0))(student, teacher, target)
    theirs = released_ats(student, teacher, target, 4.0, 2.0, of_student)
    one, other = (torch.autograd.grad(loss, student)[0] for loss in (ours.total, theirs))
    torch.testing.assert_close(one, other)


def test_wrong_classes_differ_more_when_the_label_is_softened_more():
    teacher = torch.tensor([[12.0, 3.0, 1.0, 0.0]], dtype=torch.float64)
    variances = []
    for ratio in (1.0, 2.0, 4.0):
        t = Asymmetric(ratio)(teacher, teacher, Batch(torch.tensor([0])))[1]
        variances.append(torch.softmax(t / 2, 1)[0, 1:].var())
    assert variances[0] < variances[1] < variances[2]
    assert torch.equal(Asymmetric(1.0)(teacher, teacher, Batch(torch.tensor([0])))[1], teacher)


# ---- TAID ----


def test_the_schedule():
    refine = TAID(0.4, 1.0, epochs=7)
    assert [refine.share(epoch) for epoch in (1, 2, 4, 7, 8, None)] == pytest.approx([0.4, 0.5, 0.7, 1, 1, 1])
    assert TAID(epochs=1).share(1) == 1.0  # a run of one epoch is its last


@given(batch=batches(), epoch=st.integers(1, 10))
def test_the_teacher_is_between_the_student_and_itself(batch, epoch):
    student, teacher, target = batch
    refine = TAID(epochs=10)
    s, t = refine(student, teacher, Batch(target, None, epoch))
    assert torch.equal(s, student)
    torch.testing.assert_close(t, torch.lerp(student, teacher, refine.share(epoch)), rtol=1e-12, atol=1e-12)
    assert torch.equal(refine(student, teacher, Batch(target, None, 10))[1], teacher)


def test_the_student_in_the_target_is_a_constant():
    student, teacher = pair()
    refine = TAID(0.4, epochs=10)
    leaf = student.clone().requires_grad_()
    objective(refine)(leaf, teacher, torch.arange(5), epoch=1).total.backward()
    held = 0.6 * student + 0.4 * teacher
    expected = student.clone().requires_grad_()
    objective(None)(expected, held, torch.arange(5)).total.backward()
    torch.testing.assert_close(leaf.grad, expected.grad)


def test_at_high_temperature_it_scales_the_gradient_by_the_teachers_share():
    student, teacher = pair()
    leaf = student.requires_grad_()
    gradients = []
    for refine in (TAID(0.25, epochs=10), None):
        criterion = LogitObjective(KL(), Fixed(1e4), ce_weight=0, refine=refine)
        gradients.append(torch.autograd.grad(criterion(leaf, teacher, torch.arange(5), epoch=1).total, leaf)[0])
    torch.testing.assert_close(gradients[0], 0.25 * gradients[1], rtol=2e-3, atol=1e-7)


def test_the_epoch_is_asked_for():
    assert objective(TAID()).reads_epoch
    assert not objective(Swap()).reads_epoch


# ---- all of them ----


@every_refinement
def test_rows_are_refined_before_they_are_standardized(name):
    student, teacher = pair()
    target = torch.arange(5)
    refine = REFINEMENTS[name]()
    whole = objective(refine, standardize=True)(student, teacher, target, epoch=3)
    rows = refine(student, teacher, Batch(target, None, 3))
    torch.testing.assert_close(whole.total, objective(None, standardize=True)(*rows, target, epoch=3).total)


@every_refinement
def test_a_row_stands_for_itself(name):
    student, teacher = pair()
    target, refine = torch.arange(5), REFINEMENTS[name]()
    assert not refine.reads_batch
    whole = refine(student, teacher, Batch(target, None, 3))
    for i in range(5):
        one = refine(student[i : i + 1], teacher[i : i + 1], Batch(target[i : i + 1], None, 3))
        assert all(torch.equal(a, b[i : i + 1]) for a, b in zip(one, whole, strict=True))


@every_refinement
def test_ignored_rows_and_slices(name):
    student, teacher = pair()
    target = torch.tensor([0, -100, 2, 3, -100])
    keep = target >= 0
    whole = objective(REFINEMENTS[name]())(student, teacher, target, epoch=3).total
    selected = objective(REFINEMENTS[name]())(student[keep], teacher[keep], target[keep], epoch=3).total
    sliced = objective(REFINEMENTS[name](), chunk=2)(student, teacher, target, epoch=3).total
    torch.testing.assert_close(whole, selected)
    torch.testing.assert_close(sliced, selected)


@every_refinement
def test_one_graph(name):
    torch.compiler.reset()
    student, teacher = pair(dtype=torch.float32)
    eager = objective(REFINEMENTS[name]())
    compiled = torch.compile(eager, fullgraph=True, backend="eager")
    target = torch.tensor([0, -100, 2, 3, 4])
    for epoch in (1, 2, 3):
        a, b = (loss(student, teacher, target, epoch=epoch).total for loss in (compiled, eager))
        torch.testing.assert_close(a, b)


@every_refinement
@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("scale", [1e-6, 1e4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_finite_at_the_extremes(name, classes, scale, dtype):
    student, teacher = (x.to(dtype) for x in pair(classes=classes, scale=scale, dtype=torch.float32))
    student[0], teacher[1] = 0.0, 0.0
    student.requires_grad_()
    terms = objective(REFINEMENTS[name]())(student, teacher, torch.arange(5) % classes, epoch=3)
    terms.total.backward()
    assert terms.total.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("refine", [Swap(), Asymmetric()], ids=repr)
def test_without_a_label_it_is_said(refine):
    student, teacher = pair()
    with pytest.raises(ValueError, match=r"target: got None, but a term reads the labels"):
        objective(refine)(student, teacher, None)
    with pytest.raises(ValueError, match=r"target: .* got None; pass the \(N,\) class labels"):
        refine(student, teacher, Batch(None))
    with pytest.raises(ValueError, match="needs one class label a row, got probabilities"):
        objective(refine)(student, teacher, torch.softmax(teacher, 1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Swap("drop"), "how: expected 'swap' or 'lift', got 'drop'"),
        (lambda: Asymmetric(0.0), "label_ratio: expected a finite number above 0, got 0.0"),
        (lambda: Asymmetric(math.inf), "label_ratio: expected"),
        (lambda: TAID(0.9, 0.5), "start, end: expected 0 <= start <= end <= 1, got 0.9 and 0.5"),
        (lambda: TAID(epochs=0), "epochs: expected at least 1, got 0"),
    ],
)
def test_they_refuse(build, message):
    with pytest.raises(ValueError, match=message):
        build()
