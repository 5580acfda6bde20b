"""Distance of centred logits: the limit of KL, the correlation on standardized logits."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches

from adakd import CTKD, KL, Correlation, LogitObjective, Temperatures, standardize
from adakd.divergence import LogitDistance

ONE = Temperatures(torch.ones(1, 1), torch.ones(1, 1))


def test_kl_tends_to_it():
    """Kim et al. 2021: the error falls with the temperature, value and gradient."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(4, 9, generator=generator, dtype=torch.float64) for _ in "st")
    student.requires_grad_()
    limit = LogitDistance()(student, teacher, None, ONE)
    (slope,) = torch.autograd.grad(limit.sum(), student)
    errors = []
    for tau in (10.0, 100.0, 1000.0):
        tau = torch.full((1, 1), tau, dtype=torch.float64)
        kl = KL()(student, teacher, None, Temperatures(tau, tau))
        (gradient,) = torch.autograd.grad(kl.sum(), student)
        errors.append(((kl - limit).abs().max(), (gradient - slope).abs().max()))
    for coarse, fine in itertools.pairwise(errors):
        assert all(f < c / 5 for c, f in zip(coarse, fine, strict=True))


@given(batch=batches(min_classes=3, spread=True))
def test_on_standardized_logits_it_is_the_correlation(batch):
    z_s, z_t = standardize(batch[0]), standardize(batch[1])
    torch.testing.assert_close(
        LogitDistance()(z_s, z_t, None, ONE), Correlation()(z_s, z_t, None, ONE), rtol=1e-9, atol=1e-9
    )


@given(batch=batches(), shift=st.floats(-50, 50))
def test_a_shift_means_nothing_and_a_scale_its_square(batch, shift):
    student, teacher, _ = batch
    value = LogitDistance()(student, teacher, None, ONE)
    torch.testing.assert_close(
        LogitDistance()(student + shift, teacher, None, ONE), value, rtol=1e-8, atol=1e-8
    )
    torch.testing.assert_close(LogitDistance()(3 * student, 3 * teacher, None, ONE), 9 * value)
    torch.testing.assert_close(LogitDistance()(student.flip(1), teacher.flip(1), None, ONE), value)


def test_gradcheck():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(3, 5, generator=generator, dtype=torch.float64) for _ in "st")
    assert torch.autograd.gradcheck(lambda s: LogitDistance()(s, teacher, None, ONE), student.requires_grad_())


def test_a_learned_temperature_is_refused():
    with pytest.raises(ValueError, match="LogitDistance reads no temperature"):
        LogitObjective(LogitDistance(), CTKD())
