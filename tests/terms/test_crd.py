"""CRD: the released code's numbers, every step in NumPy, who is drawn, and a run that goes on exactly."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from examples import batch, built, golden, leaves, signals
from layers import array

from adakd import Batch
from adakd.terms.crd import CRD


def pair(seed=0, rows=6):
    return signals(rows=rows, seed=seed, pooled=(7,)), signals(rows=rows, seed=seed + 50, pooled=(9,))


def test_the_released_code():
    case, inputs = golden("crd_core")
    term = CRD(width=8, negatives=6)
    term.register_buffer("memory_student", inputs["features/inputs/crd_memory_v1"].clone())
    term.register_buffer("memory_teacher", inputs["features/inputs/crd_memory_v2"].clone())
    term.register_buffer("partition", torch.zeros(2, dtype=torch.float64))
    term.register_buffer("labels", torch.full((20,), -1))
    v = inputs["features/inputs/crd_emb_s"].requires_grad_()
    w, index = inputs["features/inputs/crd_emb_t"], inputs["features/inputs/crd_index"]
    drawn = inputs["features/inputs/crd_contrast_index"]
    assert torch.equal(drawn[:, 0], index)
    value, partition = term.contrast(v, w, index, term.counts(drawn[:, 1:]))
    value.mean().backward()
    assert value.mean().item() == pytest.approx(case["loss"], rel=1e-9)
    torch.testing.assert_close(v.grad, inputs[case["grad"]], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(partition, inputs["features/crd_core/Z"], rtol=1e-9, atol=0)
    term.remember(v, w, index, torch.zeros(5, dtype=torch.long), partition)
    for name, after in (("memory_student", "memory_v1_after"), ("memory_teacher", "memory_v2_after")):
        torch.testing.assert_close(getattr(term, name), inputs[f"features/crd_core/{after}"])


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_three_steps_one_by_one():
    """The formula of the docstring with loops, from the term's own draws; memories, Z and labels are kept here too."""
    student, teacher = pair()
    term = built(CRD(width=4, negatives=8, tau=0.5, momentum=0.3), student, teacher)
    memory = {"student": array(term.memory_student).copy(), "teacher": array(term.memory_teacher).copy()}
    z, labels, n = {"student": None, "teacher": None}, np.full(20, -1), 20
    for step, first in enumerate((0, 3, 0)):
        student, teacher = pair(seed=step)
        given = batch(epoch=step + 1, first=first)
        drawn, index, target = (
            term.draw(given.index, given.epoch).numpy(),
            given.index.numpy(),
            given.target.numpy(),
        )
        unit_of = {
            "student": unit(array(term.embed_student(student.features["pooled"]))),
            "teacher": unit(array(term.embed_teacher(teacher.features["pooled"]))),
        }
        expected = np.zeros(6)
        for name, other in (("student", "teacher"), ("teacher", "student")):
            kept = [[j for j in drawn[i] if labels[j] != target[i]] for i in range(6)]
            score = lambda i, j: np.exp(unit_of[name][i] @ memory[other][j] / 0.5)  # noqa: B023, E731
            if z[name] is None:
                z[name] = n * np.mean([score(i, j) for i in range(6) for j in (index[i], *kept[i])])
            for i in range(6):
                ratio = len(kept[i]) / n
                own = score(i, index[i]) / z[name]
                expected[i] -= np.log(own / (own + ratio + 1e-7))
                for j in kept[i]:
                    expected[i] -= np.log(ratio / (score(i, j) / z[name] + ratio + 1e-7))
        np.testing.assert_allclose(array(term(student, teacher, given)), expected, rtol=1e-10)
        for name in memory:
            memory[name][index] = unit(0.3 * memory[name][index] + 0.7 * unit_of[name])
            np.testing.assert_allclose(array(getattr(term, f"memory_{name}")), memory[name], rtol=1e-12)
        labels[index] = target
        np.testing.assert_allclose(array(term.partition), [z["student"], z["teacher"]], rtol=1e-12)
    assert term.labels.tolist() == labels.tolist()


def test_gradient_reaches_the_student_and_both_embeddings_and_no_teacher():
    student, teacher = (leaves(x) for x in pair())
    term = built(CRD(width=4, negatives=8), student, teacher)
    term(student, teacher, batch()).mean().backward()
    assert student.features["pooled"].grad.abs().sum() > 0
    assert teacher.features["pooled"].grad is None
    for name, parameter in term.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_an_image_is_drawn_against_all_others_and_never_against_itself():
    student, teacher = pair()
    term = built(CRD(width=4, negatives=2000), student, teacher, train_images=2000)
    drawn = term.draw(torch.tensor([0, 7, 1999]), epoch=1)
    assert drawn.shape == (3, 1999)
    assert drawn.min() >= 0
    assert drawn.max() <= 1999
    assert not (drawn == torch.tensor([[0], [7], [1999]])).any()
    share = (drawn < 500).double().mean(dim=1)  # of a quarter of them; its standard error is 0.01
    torch.testing.assert_close(share, torch.full_like(share, 0.25), atol=0.05, rtol=0)


def test_draws_follow_seed_epoch_and_image_and_nothing_else():
    student, teacher = pair()
    term = built(CRD(width=4, negatives=8), student, teacher)
    index = torch.arange(6)
    drawn = term.draw(index, 1)
    assert torch.equal(term.draw(index.flip(0), 1).flip(0), drawn)
    assert torch.equal(term.draw(index[2:3], 1), drawn[2:3])
    assert not torch.equal(term.draw(index, 2), drawn)
    assert not torch.equal(built(CRD(width=4, negatives=8), student, teacher, seed=1).draw(index, 1), drawn)


def test_images_of_the_same_class_count_as_soon_as_their_labels_were_seen():
    """All 20 images seen once, all of one class but two: only those two are left to contrast with."""
    student, teacher = pair(rows=20)
    term = built(CRD(width=4, negatives=19), student, teacher)
    target = torch.zeros(20, dtype=torch.long)
    target[[4, 11]] = 1
    term(student, teacher, Batch(target, torch.arange(20), 1))
    counts = term.counts(term.draw(torch.arange(20), 2)) * (term.labels != target.unsqueeze(1))
    assert counts[target == 0].sum(dim=0).nonzero().flatten().tolist() == [4, 11]
    # And where nobody is left, the loss is finite.
    term.labels.zero_()
    value = term(student, teacher, Batch(torch.zeros(20, dtype=torch.long), torch.arange(20), 2))
    assert value.isfinite().all()


def test_what_is_alike_costs_less():
    student, _ = pair()
    term = built(CRD(width=7, negatives=8, tau=0.5), student, student)
    term.embed_teacher.load_state_dict(term.embed_student.state_dict())
    with torch.no_grad():
        embedded = F.normalize(term.embed_student(student.features["pooled"]), dim=1)
        for memory in (term.memory_student, term.memory_teacher):
            memory[:6] = embedded
        alike = term.eval()(student, student, batch())
        moved = term(student, student, batch()._replace(index=torch.arange(6).roll(1)))
    assert alike.mean() < moved.mean()


def test_evaluation_changes_nothing():
    student, teacher = pair()
    term = built(CRD(width=4, negatives=8), student, teacher)
    before = {name: x.clone() for name, x in term.state_dict().items()}
    first = term.eval()(student, teacher, batch())
    assert torch.equal(first, term(student, teacher, batch()))
    for name, x in term.state_dict().items():
        assert torch.equal(x, before[name]), name


def test_a_saved_term_goes_on_bit_for_bit():
    def run(term, steps):
        values = []
        for step in steps:
            student, teacher = pair(seed=step)
            values.append(term(student, teacher, batch(epoch=step // 2 + 1, first=3 * step)))
        return torch.stack(values)

    whole, stopped = (built(CRD(width=4, negatives=8), *pair()) for _ in range(2))
    expected = run(whole, range(5))
    run(stopped, range(2))
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    other = built(CRD(width=4, negatives=8), *pair(), seed=9)  # all of what it knows is in the file
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(run(other, range(2, 5)), expected[2:])
    for name, x in other.state_dict().items():
        assert torch.equal(x, whole.state_dict()[name]), name


def test_what_is_missing_is_said():
    student, teacher = pair()
    term = built(CRD(), student, teacher)
    with pytest.raises(ValueError, match=r"CRD needs the positions .* got None; pass index="):
        term(student, teacher, batch()._replace(index=None))
    with pytest.raises(ValueError, match=r"student features: expected 'pooled', got none"):
        term(student._replace(features={}), teacher, batch())
    with pytest.raises(RuntimeError, match=r"CRD has no partition yet: call build"):
        CRD()(student, teacher, batch())
    with pytest.raises(ValueError, match="expected at least 2, got 1"):
        CRD().build(student, teacher, 1)


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (
            torch.tensor([0, 1, 2, 3, 4, 20]),
            ValueError,
            "index: expected positions from 0 to 19 .* got 20; build",
        ),
        (torch.tensor([0, 1, 2, 3, 4, -1]), ValueError, "index: expected positions from 0 to 19 .* got -1"),
        (
            torch.arange(6, dtype=torch.int32),
            TypeError,
            r"torch.int64 of shape \(B,\), got torch.int32; call .long",
        ),
        (torch.arange(5), ValueError, r"of the batch's 6 images, shape \(6,\), got \(5,\)"),
        (torch.arange(6)[:, None], ValueError, r"shape \(6,\), got \(6, 1\)"),
        ([0, 1, 2, 3, 4, 5], TypeError, "got list"),
    ],
    ids=["beyond", "negative", "int32", "short", "column", "list"],
)
def test_positions_that_are_none_are_refused_before_anything_is_remembered(index, error, message):
    student, teacher = pair()
    term = built(CRD(), student, teacher)
    before = {name: value.clone() for name, value in term.named_buffers()}
    with pytest.raises(error, match=message):
        term(student, teacher, batch()._replace(index=index))
    assert all(torch.equal(value, before[name]) for name, value in term.named_buffers())


@pytest.mark.parametrize("options", [{"width": 0}, {"negatives": 0}, {"tau": 0.0}, {"momentum": 1.0}])
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match="expected"):
        CRD(**options)
