"""Standardization, correlation and peaks of rows of logits."""

import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from adakd import peak, pearson, series, standardize

KINDS = {"population": {"ddof": 0, "eps": 0.0}, "sample": {"ddof": 1, "eps": 1e-7}}


@pytest.mark.parametrize("kind", KINDS)
@given(batch=batches())
def test_standardize_is_the_reference(kind, batch):
    logits = batch[0]
    expected = [reference.standardize(row, **KINDS[kind]) for row in logits.numpy()]
    torch.testing.assert_close(
        standardize(logits, **KINDS[kind]), torch.tensor(np.array(expected)), rtol=1e-9, atol=1e-11
    )


@given(batch=batches(spread=True))
def test_standardized_rows_have_mean_0_and_norm_sqrt_k(batch):
    z = standardize(batch[0])
    classes = z.shape[1]
    torch.testing.assert_close(z.sum(1), torch.zeros(len(z), dtype=z.dtype), rtol=0, atol=1e-9)
    torch.testing.assert_close(z.square().sum(1), torch.full((len(z),), float(classes), dtype=z.dtype))


@given(batch=batches(spread=True))
def test_standardized_peaks_are_within_samuelsons_bounds(batch):
    z = standardize(batch[0])
    low, high = series.samuelson_bounds(z.shape[1])
    assert ((z.amax(1) >= low - 1e-9) & (z.amax(1) <= high + 1e-9)).all()


@given(batch=batches(spread=True), scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
def test_standardize_forgets_shift_and_scale(batch, scale, shift):
    torch.testing.assert_close(
        standardize(scale * batch[0] + shift), standardize(batch[0]), rtol=1e-8, atol=1e-8
    )


@given(batch=batches(spread=True))
def test_the_two_deviations_differ_by_a_factor(batch):
    classes = batch[0].shape[1]
    factor = math.sqrt((classes - 1) / classes)
    torch.testing.assert_close(standardize(batch[0], ddof=1), factor * standardize(batch[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_standardize_gradient(kind):
    torch.manual_seed(0)
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: standardize(x, **KINDS[kind]), logits)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e4, 1e-30])
def test_a_constant_row_becomes_zeros_with_zero_gradient(kind, value):
    logits = torch.full((2, 7), value)
    logits[1] = torch.arange(7.0)
    logits.requires_grad_()
    z = standardize(logits, **KINDS[kind])
    (z * torch.arange(7.0)).sum().backward()
    assert (z[0] == 0).all()
    assert (logits.grad[0] == 0).all()
    assert z[1].abs().max() > 1
    assert logits.grad[1].isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spread", [1e-6, 1e-19, 1e-25, 1e-38])
def test_a_spread_below_what_fp32_can_square_is_no_reason_for_nan(kind, spread):
    logits = (spread * torch.tensor([[0.0, 1.0, 0.0]])).requires_grad_()
    z = standardize(logits, **KINDS[kind])
    z[0, 1].backward()
    assert z.isfinite().all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 300.0, 1e4])
def test_half_precision_keeps_its_dtype_and_its_sense(dtype, scale):
    """The variance of logits around 300 is beyond fp16; it must not be computed there."""
    torch.manual_seed(1)
    logits = (scale * torch.randn(8, 100)).to(dtype)
    z = standardize(logits)
    assert z.dtype == dtype
    torch.testing.assert_close(z.float(), standardize(logits.float()), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(pearson(logits, logits).float(), torch.ones(8), rtol=1e-2, atol=0)


def test_standardize_needs_more_classes_than_ddof():
    assert (standardize(torch.ones(2, 1)) == 0).all()
    with pytest.raises(ValueError, match=r"needs more than 1 classes, got shape \(2, 1\)"):
        standardize(torch.ones(2, 1), ddof=1)


@given(batch=batches())
def test_pearson_is_the_reference(batch):
    student, teacher, _ = batch
    expected = [reference.pearson(*rows) for rows in zip(student.numpy(), teacher.numpy(), strict=True)]
    torch.testing.assert_close(
        pearson(student, teacher), torch.tensor(np.array(expected)), rtol=1e-9, atol=1e-9
    )


@given(batch=batches(spread=True), scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
def test_pearson_is_a_correlation(batch, scale, shift):
    student, teacher, _ = batch
    rho = pearson(student, teacher)
    assert (rho.abs() <= 1 + 1e-12).all()
    torch.testing.assert_close(rho, pearson(teacher, student))
    torch.testing.assert_close(pearson(scale * student + shift, teacher), rho, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(pearson(-student, teacher), -rho)
    torch.testing.assert_close(pearson(student, student), torch.ones_like(rho))


def test_pearson_with_a_constant_row_is_zero():
    assert pearson(torch.full((1, 4), 3.0), torch.arange(4.0)[None]).tolist() == [0.0]


NO_ROWS = [
    (torch.ones(3, 4, dtype=torch.int64), TypeError, "float64, got torch.int64; .* call .float"),
    (np.ones((3, 4)), TypeError, "got numpy.ndarray; convert it with torch.as_tensor"),
    (3, TypeError, "got int; convert"),
    ([[1.0, 2.0]], TypeError, "got list; convert"),
    (torch.eye(3).to_sparse(), TypeError, "got torch.sparse_coo; call to_dense"),
    (torch.tensor(1.0), ValueError, r"expected shape \(batch, classes\), got \(\)"),
    (torch.zeros(3, 0), ValueError, r"expected shape \(batch, classes\), got \(3, 0\)"),
    (torch.zeros(0, 4), ValueError, r"the batch is empty \(shape \(0, 4\)\); skip empty batches"),
]


@pytest.mark.parametrize(("rows", "error", "message"), NO_ROWS, ids=range(len(NO_ROWS)))
@pytest.mark.parametrize(
    "function", [standardize, peak, lambda x: pearson(x, torch.eye(3)), lambda x: pearson(torch.eye(3), x)]
)
def test_what_is_no_rows_of_logits_is_told(function, rows, error, message):
    with pytest.raises(error, match=f"^(logits|a|b): .*{message}"):
        function(rows)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("eps", -1, ValueError),
        ("eps", -1e-7, ValueError),
        ("eps", float("nan"), ValueError),
        ("eps", "a", TypeError),
        ("ddof", -1, ValueError),
        ("ddof", 0.5, ValueError),
        ("ddof", "a", ValueError),
    ],
)
def test_options_of_standardize(option, value, error):
    with pytest.raises(error, match=f"{option}: expected a (finite|whole) number.*, got"):
        standardize(torch.eye(3), **{option: value})
    assert torch.equal(standardize(torch.eye(3), eps=0, ddof=np.int64(1)), standardize(torch.eye(3), ddof=1))


def test_pearson_refuses_two_shapes():
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3\) and \(2, 4\)"):
        pearson(torch.zeros(2, 3), torch.zeros(2, 4))


@given(batch=batches())
def test_peaks(batch):
    logits = batch[0]
    assert peak(logits).flatten().tolist() == [row.max() for row in logits.numpy()]
    assert peak(logits, "absolute").flatten().tolist() == [abs(row).max() for row in logits.numpy()]
    assert peak(logits).shape == (len(logits), 1)


def test_peak_of_another_kind():
    with pytest.raises(ValueError, match="expected 'signed' or 'absolute', got 'l2'"):
        peak(torch.zeros(1, 2), "l2")


@pytest.mark.parametrize("kind", KINDS)
def test_the_usual_way_is_the_careful_way(kind, monkeypatch):
    """Rows that are neither constant nor extreme take a shorter way: the same numbers, and the same derivatives."""
    torch.manual_seed(0)
    logits = (3 * torch.randn(5, 9, dtype=torch.float64) + 1).requires_grad_()
    slope = torch.randn(5, 9, dtype=torch.float64)

    def derivatives():
        z = standardize(logits, **KINDS[kind])
        (first,) = torch.autograd.grad((z * slope).sin().sum(), logits, create_graph=True)
        (second,) = torch.autograd.grad((first * slope).sum(), logits)
        return z, first, second

    usual = derivatives()
    monkeypatch.setattr("adakd.logits._standardize_usual", lambda *_: None)
    for ours, careful in zip(usual, derivatives(), strict=True):
        torch.testing.assert_close(ours, careful, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_standardize_second_derivative(kind):
    torch.manual_seed(0)
    logits = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(lambda x: standardize(x, **KINDS[kind]), logits)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")  # torch's own forward mode uses it
@pytest.mark.parametrize("kind", KINDS)
def test_transforms_go_through_standardize(kind):
    torch.manual_seed(0)
    logits = torch.randn(3, 5, dtype=torch.float64)

    def row(x):
        return standardize(x[None], **KINDS[kind])[0]

    torch.testing.assert_close(torch.vmap(row)(logits), standardize(logits, **KINDS[kind]))
    forward, backward = (jacobian(row)(logits[0]) for jacobian in (torch.func.jacfwd, torch.func.jacrev))
    torch.testing.assert_close(forward, backward)
    with forward_ad.dual_level():
        z = row(forward_ad.make_dual(logits[0], torch.ones(5, dtype=torch.float64)))
        assert forward_ad.unpack_dual(z).tangent.abs().max() < 1e-9  # along a shift nothing moves
