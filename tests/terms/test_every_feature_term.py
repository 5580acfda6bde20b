"""What holds for every term that compares features of both networks by a formula without labels."""

import copy

import pytest
import torch
from examples import batch, built, leaves, signals

from adakd import Objective, Signals
from adakd.terms.attention import Attention
from adakd.terms.fitnet import FitNet
from adakd.terms.nst import NST
from adakd.terms.pkt import PKT
from adakd.terms.rkd import RKD
from adakd.terms.sp import SP

SHAPES = {"stage1": (3, 8, 8), "stage2": (4, 4, 4), "stage3": (6, 2, 2), "last": (6, 2, 2), "pooled": (6,)}
WIDER = {"stage1": (5, 8, 8), "stage2": (6, 2, 2), "stage3": (9, 2, 2), "last": (9, 4, 4), "pooled": (9,)}
TERMS = {
    "fitnet": FitNet,
    "attention": Attention,
    "attention-norm": lambda: Attention(distance="norm"),
    "rkd": RKD,
    "sp": SP,
    "pkt": PKT,
    "nst": NST,
}
OF_THE_BATCH = {"fitnet", "rkd", "sp", "pkt"}
every = pytest.mark.parametrize("name", TERMS)


def pair(rows=6, seed=0):
    return signals(rows=rows, seed=seed, **SHAPES), signals(rows=rows, seed=seed + 50, **WIDER)


def made(name, student, teacher):
    term = TERMS[name]()
    return built(term, student, teacher)


@every
def test_value_shape_and_gradients(name):
    student, teacher = (leaves(x) for x in pair())
    term = made(name, student, teacher)
    value = term(student, teacher, batch())
    assert value.shape == (6,)
    assert (value > 0).all()
    value.mean().backward()
    read = set(term.taps.student)
    for key, feature in student.features.items():
        assert (feature.grad is not None and feature.grad.abs().sum() > 0) == (key in read), key
    assert all(feature.grad is None for feature in teacher.features.values())
    assert student.logits.grad is None
    assert all(p.grad is not None and p.grad.isfinite().all() for p in term.parameters())


@every
def test_gradients_are_those_of_the_value(name):
    student, teacher = pair(rows=4)
    term = made(name, student, teacher).eval()
    keys = [key for key in term.taps.student if key in student.features]

    def value(*features):
        return term(Signals(student.logits, dict(zip(keys, features, strict=True))), teacher, batch(4)).sum()

    inputs = [student.features[key].clone().requires_grad_() for key in keys]
    assert torch.autograd.gradcheck(value, inputs, atol=1e-6)


@every
def test_rows_in_another_order(name):
    student, teacher = pair()
    term = made(name, student, teacher)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    moved = [
        Signals(x.logits[order], {key: f[order] for key, f in x.features.items()}) for x in (student, teacher)
    ]
    torch.testing.assert_close(term(*moved, batch()), term(student, teacher, batch())[order])


@every
def test_whether_a_row_depends_on_the_others(name):
    student, teacher = pair()
    term = made(name, student, teacher)
    some = [Signals(x.logits[:4], {key: f[:4] for key, f in x.features.items()}) for x in (student, teacher)]
    alone, among = term(*some, batch(4)), term(student, teacher, batch())[:4]
    assert term.reads_batch == (name in OF_THE_BATCH) == (not torch.allclose(alone, among))


@every
def test_ignored_rows_are_as_if_they_were_not_there(name):
    student, teacher = pair()
    term = made(name, student, teacher)
    objective = Objective({name: term}, {name: 2.0})
    target = torch.tensor([1, -100, 3, 0, -100, 2])
    keep = target != -100
    few = [Signals(x.logits[keep], {key: f[keep] for key, f in x.features.items()}) for x in (student, teacher)]
    expected = copy.deepcopy(objective)(*few, target[keep])
    found = objective(student, teacher, target)
    torch.testing.assert_close(found.total, expected.total)
    torch.testing.assert_close(found.parts[name], expected.parts[name])


@every
def test_ignored_rows_of_a_network_that_returns_tuples(name):
    """As a GRU does: the first tensor is the feature, whether rows are left out or not."""
    student, teacher = pair()
    objective = Objective({name: made(name, student, teacher)}, {name: 2.0})
    target = torch.tensor([1, -100, 3, 0, -100, 2])
    several = [
        x._replace(features={key: (f, None) for key, f in x.features.items()}) for x in (student, teacher)
    ]
    expected = copy.deepcopy(objective)(student, teacher, target).total
    torch.testing.assert_close(objective(*several, target).total, expected)


@every
def test_dead_features_train_on(name):
    """A channel, a map or an image of zeros, as behind a ReLU that never fires."""
    student, teacher = pair()
    term = made(name, student, teacher).float()
    dead = {}
    for key, feature in student.features.items():
        feature = feature.clone()
        feature[1] = 0
        feature[:, 0] = 0
        dead[key] = feature.float()
    student = leaves(student._replace(logits=student.logits.float(), features=dead))
    value = term(student, teacher, batch())
    value.mean().backward()
    assert value.isfinite().all()
    gradients = [x.grad for x in student.features.values() if x.grad is not None]
    assert all(x.isfinite().all() and x.abs().max() < 1e3 for x in gradients)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_first(name, dtype):
    student, teacher = pair()
    term = made(name, student, teacher).float()
    low = [
        Signals(x.logits.to(dtype), {key: f.to(dtype) for key, f in x.features.items()})
        for x in (student, teacher)
    ]
    high = [Signals(x.logits.float(), {key: f.float() for key, f in x.features.items()}) for x in low]
    assert torch.equal(term(*low, batch()), term(*high, batch()))


@every
def test_a_teacher_in_another_precision(name):
    student, teacher = pair()
    term = made(name, student, teacher).float()
    student = Signals(student.logits.float(), {key: f.float() for key, f in student.features.items()})
    assert term(student, teacher, batch()).dtype == torch.float32


@every
def test_layers_are_named_by_options(name):
    if name == "attention-norm":
        return
    names = TERMS[name]().taps.student
    count = len([one for one in names if not one.endswith("?")])
    ours, theirs = (",".join(f"{who}.{i}" for i in range(count)) for who in ("body", "trunk"))
    assert tuple(TERMS[name](ours, theirs).taps) == (tuple(ours.split(",")), tuple(theirs.split(",")))
    usual = tuple(one.removesuffix("?") for one in names)[:count]
    assert tuple(TERMS[name](student_layers=ours).taps) == (tuple(ours.split(",")), usual)
    assert tuple(TERMS[name](teacher_layers=theirs).taps) == (usual, tuple(theirs.split(",")))


def test_layers_that_cannot_be_paired():
    with pytest.raises(ValueError, match=r"student_layers, teacher_layers: .* got 3 and 2; name those of both"):
        Attention("a,b", "c,d,e")
    with pytest.raises(ValueError, match=r"student_layers: .* got 2 and 1 \(last\); name those of both"):
        SP("a,b")
    for text in ("", "a,,b", "a,a"):
        with pytest.raises(ValueError, match="expected names of submodules separated by commas, each once"):
            Attention(text)
