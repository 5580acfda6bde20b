"""SSD: every step in NumPy, what is dropped, who counts, and its limits."""

import numpy as np
import pytest
import torch
from examples import batch, built, leaves, signals
from layers import array

from adakd.terms.ssd import SSD


def pair(inner=9, seed=0):
    return signals(seed=seed, pooled=(inner,)), signals(seed=seed + 50, pooled=(9,))


@pytest.mark.parametrize("inner", [9, 4])
def test_every_step_in_numpy(inner):
    student, teacher = pair(inner)
    term = built(SSD(passes=11, rate=0.25, tau=2.0), student, teacher)
    kept = array(term.kept(torch.arange(6), 1, 9))
    s, t = array(term.embed(student.features["pooled"])), array(teacher.features["pooled"])
    value = array(term(student, teacher, batch()))
    for i in range(6):
        passes = t[i] * kept[i]
        attention = np.exp(passes @ s[i] / 2.0)
        attention /= attention.sum()
        attention[attention < np.quantile(attention, 0.9)] = 0
        target = (attention / attention.sum()) @ passes
        np.testing.assert_allclose(value[i], ((s[i] - target) ** 2).mean(), rtol=1e-10)


def test_of_thirty_passes_three_count():
    student, teacher = pair()
    term = built(SSD(), student, teacher)
    passes = teacher.features["pooled"].unsqueeze(1) * term.kept(torch.arange(6), 1, 9)
    weight = term.attention(student.features["pooled"], passes)
    assert weight.shape == (6, 30)
    assert ((weight > 0).sum(dim=1) >= 3).all()  # more where two passes drop the same
    torch.testing.assert_close(weight.sum(dim=1), torch.ones(6, dtype=torch.float64))
    score = torch.einsum("nc,nmc->nm", student.features["pooled"], passes)
    least = torch.where(weight > 0, score, torch.inf).amin(dim=1)
    assert (score.where(weight == 0, -torch.inf).amax(dim=1) < least).all()


def test_without_dropout_it_is_the_square_distance():
    student, teacher = pair()
    value = built(SSD(rate=0.0), student, teacher)(student, teacher, batch())
    s, t = student.features["pooled"], teacher.features["pooled"]
    torch.testing.assert_close(value, (s - t).square().mean(dim=1))


def test_dropout_keeps_its_share_and_the_mean():
    term = built(SSD(passes=400, rate=0.25), *pair())
    kept = term.kept(torch.arange(50), 1, 9)
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    assert kept.double().mean().item() == pytest.approx(1, abs=0.01)


def test_what_is_dropped_follows_seed_epoch_and_image():
    term = built(SSD(), *pair())
    index = torch.arange(6)
    kept = term.kept(index, 1, 9)
    assert torch.equal(term.kept(index.flip(0), 1, 9).flip(0), kept)
    assert not torch.equal(kept[0], kept[1])
    assert not torch.equal(term.kept(index, 2, 9), kept)
    other = built(SSD(), *pair(), seed=4)
    assert not torch.equal(other.kept(index, 1, 9), kept)
    other.load_state_dict(term.state_dict())
    assert torch.equal(other.kept(index, 1, 9), kept)


def test_gradient_reaches_student_and_embedding_alone():
    student, teacher = (leaves(x) for x in pair(inner=4))
    term = built(SSD(passes=11), student, teacher)
    term(student, teacher, batch()).mean().backward()
    assert student.features["pooled"].grad.abs().sum() > 0
    assert teacher.features["pooled"].grad is None
    assert all(p.grad.abs().sum() > 0 for p in term.parameters())


def test_gradient_by_differences():
    student, teacher = pair()
    term = built(SSD(passes=11), student, teacher)

    def value(pooled):
        return term(student._replace(features={"pooled": pooled}), teacher, batch())

    assert torch.autograd.gradcheck(value, student.features["pooled"].clone().requires_grad_())


def test_what_is_missing_is_said():
    student, teacher = pair()
    with pytest.raises(ValueError, match=r"SSD needs the positions .* got None"):
        built(SSD(), student, teacher)(student, teacher, batch()._replace(index=None))
    with pytest.raises(RuntimeError, match="SSD has no embed yet"):
        SSD()(student, teacher, batch())


@pytest.mark.parametrize("options", [{"passes": 0}, {"rate": 1.0}, {"tau": 0.0}, {"quantile": 1.1}])
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match="expected"):
        SSD(**options)
