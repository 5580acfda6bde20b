"""The pure forms say what the modules say, for numbers, columns and a temperature a side."""

import pytest
import torch

import adakd
from adakd import Temperatures, functional

FORMS = {
    "kl": (functional.kl, adakd.KL()),
    "ttm": (functional.ttm, adakd.TTM()),
    "dist": (functional.dist, adakd.DIST()),
    "mlkd": (functional.mlkd, adakd.MLKD()),
    "anchored_kl": (functional.anchored_kl, adakd.Anchored()),
    "taylor_kl": (functional.taylor_kl, adakd.TaylorKL()),
    "dkd": (lambda s, t, tau: functional.dkd(s, t, TARGET, tau), adakd.DKD()),
    "reverse_kl": (functional.reverse_kl, adakd.ReverseKL()),
    "skewed_kl": (functional.skewed_kl, adakd.SkewedKL()),
    "jsd": (functional.jsd, adakd.JSD()),
    "ab": (functional.ab, adakd.AB()),
    "rld": (lambda s, t, tau: functional.rld(s, t, TARGET, tau), adakd.RLD()),
    "logit_distance": (lambda s, t, tau: functional.logit_distance(s, t), adakd.LogitDistance()),
    "correlation": (lambda s, t, tau: functional.correlation(s, t), adakd.Correlation()),
}
GENERATOR = torch.Generator().manual_seed(0)
STUDENT, TEACHER = (2 * torch.randn(6, 5, generator=GENERATOR, dtype=torch.float64) for _ in "st")
TARGET = torch.tensor([0, 1, 2, 3, 4, 0])
COLUMN = torch.rand(6, generator=GENERATOR, dtype=torch.float64) + 1


@pytest.mark.parametrize("tau", [3.0, COLUMN, (2.0, COLUMN)], ids=["number", "column", "sides"])
@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_its_module(name, tau):
    form, module = FORMS[name]
    sides = tau if isinstance(tau, tuple) else (tau, tau)
    columns = (torch.as_tensor(side, dtype=torch.float64).reshape(-1, 1) for side in sides)
    expected = module(STUDENT, TEACHER, TARGET, Temperatures(*columns))
    assert torch.equal(form(STUDENT, TEACHER, tau), expected)


def test_forms_differentiate_the_student_and_not_the_teacher():
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    functional.kl(student, teacher, 2.0).sum().backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda s: functional.kl(s, TEACHER, 2.0), STUDENT.clone().requires_grad_())


def test_half_precision_is_raised():
    assert functional.kl(STUDENT.half(), TEACHER.half(), 2.0).dtype == torch.float32


NONE = torch.tensor([0, 1, 2, 3, 4, -100])
WRONG = [
    (
        lambda: functional.dkd(STUDENT, TEACHER, NONE),
        ValueError,
        "target: expected labels from 0 to 4, got -100 in row 5",
    ),
    (
        lambda: functional.rld(STUDENT, TEACHER, TARGET + 5),
        ValueError,
        "target: expected labels from 0 to 4, got 5 in row 0",
    ),
    (lambda: functional.dkd(STUDENT, TEACHER, None), TypeError, "target: expected class labels.* got NoneType"),
    (lambda: functional.dkd(STUDENT, TEACHER, TARGET.int()), ValueError, "got torch.int32 of shape"),
    (
        lambda: functional.dkd(STUDENT, TEACHER, TARGET[:5]),
        ValueError,
        r"of shape \(6,\), got torch.int64 of shape \(5,\)",
    ),
    (
        lambda: functional.kl(STUDENT.tolist(), TEACHER),
        TypeError,
        "student: expected a floating-point tensor.* got list",
    ),
    (
        lambda: functional.kl(STUDENT, TEACHER.long()),
        TypeError,
        "teacher: expected a floating-point tensor.* torch.int64",
    ),
    (lambda: functional.kl(STUDENT, TEACHER / 0), ValueError, "teacher: 6 of 6 rows hold NaN or infinity"),
    (lambda: functional.kl(STUDENT, TEACHER.to("meta")), ValueError, "on the student's device cpu, got meta"),
    (lambda: functional.kl(STUDENT, TEACHER, "4"), TypeError, "tau: expected a number, a tensor .* got '4'"),
    (lambda: functional.kl(STUDENT, TEACHER, None), TypeError, "tau: expected a number, a tensor .* got None"),
    (
        lambda: functional.kl(STUDENT, TEACHER, COLUMN[:4]),
        ValueError,
        r"one for each of 6 rows, got shape \(4,\)",
    ),
    (lambda: functional.kl(STUDENT, TEACHER, (1.0, 2.0, 3.0)), ValueError, "a pair .* got .1.0, 2.0, 3.0"),
    (
        lambda: functional.dkd(STUDENT, TEACHER, TARGET, alpha=torch.inf),
        ValueError,
        "alpha: expected a finite number",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_what_makes_no_loss_is_refused_by_its_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("tau", [3.0, COLUMN, (2.0, COLUMN)], ids=["number", "column", "sides"])
@pytest.mark.parametrize("name", ["kl", "dkd"])  # the others differ from these in the divergence alone
def test_a_form_is_one_graph_of_the_same_numbers(name, tau):
    torch.compiler.reset()
    form = FORMS[name][0]
    compiled = torch.compile(form, fullgraph=True, backend="eager")
    torch.testing.assert_close(
        compiled(STUDENT, TEACHER, tau), form(STUDENT, TEACHER, tau), rtol=1e-9, atol=1e-9
    )


def test_forms_are_mapped():
    both, taus = torch.stack([STUDENT, TEACHER]), torch.tensor([1.0, 2.0], dtype=torch.float64)
    found = torch.vmap(lambda s, tau: functional.dkd(s, TEACHER, TARGET, tau))(both, taus)
    for one, s, tau in zip(found, both, taus, strict=True):
        torch.testing.assert_close(one, functional.dkd(s, TEACHER, TARGET, tau))


@pytest.mark.parametrize(
    "tau", [0.0, -1.0, (1.0, 0.0), torch.nan, torch.inf, 0 * COLUMN, COLUMN / 0, COLUMN * torch.nan]
)
def test_a_temperature_is_above_zero(tau):
    with pytest.raises(ValueError, match="tau: expected temperatures above 0"):
        functional.kl(STUDENT, TEACHER, tau)


@pytest.mark.parametrize("tau", [1e-46, 1e-40, 1e40, 2**70 * 2**70, 10**400, (1.0, 1e-46), 1e-46 * COLUMN])
def test_a_temperature_is_above_zero_in_the_format_of_the_logits(tau):
    with pytest.raises(
        ValueError, match=r"tau: expected temperatures above 0 and finite in torch\.float32, from"
    ):
        functional.kl(STUDENT.float(), TEACHER.float(), tau)


def test_a_temperature_by_which_nothing_can_be_divided_makes_no_silent_nan():
    assert functional.kl(STUDENT, TEACHER, 1e-37).isfinite().all()
    with pytest.raises(ValueError, match=r"in torch\.float32, got 2e-38, of which a value comes that is NaN"):
        functional.kl(20 * STUDENT.float(), TEACHER.float(), 2e-38)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (1, 1), (4, 1)])
def test_shapes_of_a_temperature(shape):
    found = functional.kl(STUDENT[:4], TEACHER[:4], torch.full(shape, 2.0))
    assert torch.equal(found, functional.kl(STUDENT[:4], TEACHER[:4], 2.0))


@pytest.mark.parametrize("shape", [(2, 2), (1, 4), (0,), (2,), (1, 1, 1), (4, 1, 1)])
def test_no_other_shape_is_one_temperature_a_row(shape):
    with pytest.raises(
        ValueError, match=r"one for each of 4 rows, got shape .*; of one a row it is \(4,\) or \(4, 1\)"
    ):
        functional.kl(STUDENT[:4], TEACHER[:4], torch.full(shape, 2.0))


@pytest.mark.parametrize("tau", [True, torch.tensor(True), torch.tensor(4j), 4j, [1.0, "a"], {}])
def test_what_is_no_temperature(tau):
    with pytest.raises(TypeError, match=r"tau: expected a number, a tensor of \(N,\) or \(N, 1\), or a pair"):
        functional.kl(STUDENT, TEACHER, tau)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_refuses_no_row_and_a_single_class(name, monkeypatch):
    form = FORMS[name][0]
    monkeypatch.setitem(globals(), "TARGET", TARGET[:0])
    with pytest.raises(ValueError, match=r"student: the batch is empty \(shape \(0, 5\)\); skip empty batches"):
        form(STUDENT[:0], TEACHER[:0], 2.0)
    monkeypatch.setitem(globals(), "TARGET", torch.zeros(6, dtype=torch.int64))
    with pytest.raises(ValueError, match="student: expected at least 2 classes, got 1"):
        form(STUDENT[:, :1], TEACHER[:, :1], 2.0)


# Of the worst row of 2048, as the docstrings say: at temperatures of 100 and 1000 deviations of the logits, and of the gradient.
ROUNDING = {
    "kl": ((0.006, 0.6), (3e-5, 3e-4)),
    "reverse_kl": ((0.006, 0.6), (4e-5, 3e-4)),
    "skewed_kl": ((0.007, 0.7), (4e-5, 3e-4)),
    "jsd": ((0.0023, 0.3), (3e-5, 4e-4)),
    "dkd": ((0.011, 1.0), (6e-5, 5e-4)),
}


@pytest.mark.parametrize("name", ROUNDING)
def test_at_high_temperatures_values_are_as_rough_as_the_docstrings_say(name, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(2048, 100, generator=generator) for _ in "st")
    monkeypatch.setitem(globals(), "TARGET", torch.arange(2048) % 100)
    for tau, of_value, of_gradient in zip((100.0, 1000.0), *ROUNDING[name], strict=True):
        found = []
        for dtype in (torch.float32, torch.float64):
            x = s.to(dtype).requires_grad_()
            values = FORMS[name][0](x, t.to(dtype), tau)
            (gradient,) = torch.autograd.grad(values.sum(), x)
            found.append((values.detach().double(), gradient.double()))
        (value, gradient), (exact, slope) = found
        assert of_value / 2 < ((value - exact).abs() / exact).max() < 2 * of_value
        assert ((gradient - slope).norm(dim=1) / slope.norm(dim=1)).max() < 3 * of_gradient


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"of one shape \(N, K\), got \(6, 5\) and \(6, 4\)"):
        functional.kl(STUDENT, TEACHER[:, :4])


def test_every_pure_form_is_tested():
    others = {"peak", "pearson", "standardize"}  # of logits, and tested there
    assert set(FORMS) == set(functional.__all__) - others
