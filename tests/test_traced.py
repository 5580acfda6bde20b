"""What a compiled graph sees (`adakd._traced`) is the same loss: the same numbers and gradients, whatever stands in the rows."""

import pytest
import torch
from test_rows import NAMES, close, made, outcome, same, sequences

from adakd import (
    KL,
    METHODS,
    Batch,
    Fixed,
    LogitObjective,
    LogitTerm,
    MaxLogit,
    Objective,
    Temperatures,
    create_method,
)
from adakd._traced import traced_terms
from adakd.divergence.dist import _correlation
from adakd.logits import log_softened, softened, standardize, standardize_in_graph


@pytest.fixture
def traced(monkeypatch):
    """Turn to the branches that are taken in a graph, and count the losses that come from there."""
    seen = []
    found = traced_terms

    def counted(*call):
        terms = found(*call)
        seen.append(terms is not None)
        return terms

    def turn():
        monkeypatch.setattr("adakd.objective.traced_terms", counted)
        for place in ("torch.compiler", "adakd.objective", "adakd.terms.logit"):
            monkeypatch.setattr(f"{place}.is_compiling", lambda: True)
        return seen

    return turn


@pytest.mark.parametrize("ignore_index", [-100, None, 3])
@pytest.mark.parametrize("name", NAMES)
def test_the_loss_in_a_graph_is_the_loss(name, ignore_index, traced):
    rows = sequences(shape=(10,), ignored=())
    if ignore_index == 3:
        rows[2].fill_(2)  # no row has that label
    criterion, one = made(name), made(name)
    expected = outcome(criterion, *rows, epoch=3, ignore_index=ignore_index)
    seen = traced()
    same(outcome(one, *rows, epoch=3, ignore_index=ignore_index), expected)
    term = getattr(one, "term", None)
    assert seen == ([term.reading != "state"] if term is not None else [])


@pytest.mark.parametrize("name", NAMES)
def test_in_a_graph_rows_left_out_reach_nothing(name, traced):
    student, teacher, target = sequences(shape=(10,))
    keep = target != -100
    criterion, one = made(name), made(name)
    expected = outcome(criterion, student[keep], teacher[keep], target[keep], epoch=3)
    student[~keep], teacher[~keep] = torch.nan, torch.inf
    traced()
    terms, grad, learned = outcome(one, student, teacher, target, epoch=3)
    if METHODS.get(name.partition("+")[0]) and one.reads_batch:
        assert terms.total.isnan()
        assert grad[keep].isnan().all()  # an optimizer that sees no loss takes no wrong step either
        return
    if terms.temperature is not None:
        shown = [tau if tau.shape[0] == 1 else tau[keep] for tau in terms.temperature]
        terms = terms._replace(temperature=type(terms.temperature)(*shown))
    if not any(
        term.keeps_state for term in one.terms.values()
    ):  # a state has seen zeros in the place of those rows
        same((terms, grad, learned), expected, grad_rows=keep)
    assert (grad[~keep] == 0).all()


def test_a_graph_of_which_every_row_is_left_out_is_zero(traced):
    student, teacher, target = sequences(shape=(10,), ignored=range(10))
    traced()
    for name in ("kd", "zkd+mlt", "dkd"):
        terms, grad, _ = outcome(made(name), student, teacher, target, epoch=3)
        assert terms.total == terms.ce == terms.kd == 0
        assert (grad == 0).all()


ROWS = {
    "usual": lambda x: x,
    "far from 0": lambda x: x + 300.0,
    "huge": lambda x: x * 1e25,
    "tiny": lambda x: x * 1e-14,
    "constant": lambda x: torch.full_like(x, 0.1),
    "constant and large": lambda x: torch.full_like(x, 1e6 + 0.1),
    "zero": torch.zeros_like,
    "one class apart": lambda x: torch.zeros_like(x).index_fill_(1, torch.tensor([2]), 5.0),
    "the first class apart": lambda x: torch.zeros_like(x).index_fill_(1, torch.tensor([0]), -5.0),
}


def values_and_gradients(function, x):
    x = x.clone().requires_grad_()
    value = function(x)
    along = torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=value.dtype)
    return value.detach(), torch.autograd.grad((value * along).sum(), x)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", [{}, {"ddof": 1, "eps": 1e-7}], ids=["population", "sample"])
@pytest.mark.parametrize("rows", ROWS)
def test_rows_are_standardized_in_a_graph_as_without(rows, options, dtype, traced):
    x = ROWS[rows](torch.randn(6, 100, generator=torch.Generator().manual_seed(0), dtype=dtype))
    value, gradient = values_and_gradients(lambda x: standardize(x, **options), x)
    traced()
    ours, of_ours = values_and_gradients(lambda x: standardize(x, **options), x)
    tolerance = 2e-4 if dtype is torch.float32 else 1e-9
    torch.testing.assert_close(ours, value, rtol=tolerance, atol=tolerance)
    scale = max(1e-30, float(gradient.abs().max()))
    torch.testing.assert_close(of_ours / scale, gradient / scale, rtol=tolerance, atol=tolerance)
    if "constant" in rows or rows == "zero":
        assert (ours == 0).all()
        assert (of_ours == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", [(0, 0.0), (1, 1e-7)], ids=["population", "sample"])
@pytest.mark.parametrize("rows", ROWS)
def test_the_ends_of_a_standardized_row_are_known_in_a_graph_without_a_look(rows, options, dtype):
    """Whatever is done to a row keeps its order, so that its ends are those of the row as it came, to the last bit."""
    x = ROWS[rows](torch.randn(6, 100, generator=torch.Generator().manual_seed(0), dtype=dtype))
    z, (low, high) = standardize_in_graph(x.requires_grad_(), *options)
    assert torch.equal(low, z.amin(dim=1, keepdim=True))
    assert torch.equal(high, z.amax(dim=1, keepdim=True))
    assert not low.requires_grad
    assert not high.requires_grad


@pytest.mark.parametrize("reference", ["both", "teacher"])
@pytest.mark.parametrize("magnitude", ["signed", "absolute", "two-sided"])
def test_a_temperature_by_known_ends_is_the_one_by_the_rows(magnitude, reference):
    rule, rows = (
        MaxLogit(reference, magnitude),
        torch.randn(2, 6, 100, generator=torch.Generator().manual_seed(0)),
    )
    (student, of_student), (teacher, of_teacher) = (standardize_in_graph(x, 1, 1e-7) for x in rows)
    assert torch.equal(
        rule(student, teacher, ends=(of_student, of_teacher)).teacher, rule(student, teacher).teacher
    )


class OwnKL(KL):
    """A part from outside, with the signature of a divergence and nothing more."""

    def forward(self, student, teacher, target, temperatures):
        return 2 * super().forward(student, teacher, target, temperatures)


class OwnFixed(Fixed):
    def forward(self, student, teacher, target=None, epoch=None):
        return Temperatures(*(2 * tau for tau in super().forward(student, teacher)))


def test_ends_are_given_to_no_part_that_does_not_take_them(traced):
    rows = sequences(shape=(10,), ignored=())
    own = LogitObjective(OwnKL(), OwnFixed(2.0), standardize=True)
    built_in = LogitObjective(KL(), Fixed(4.0), standardize=True, kd_weight=2.0)
    expected = outcome(own, *rows)
    seen = traced()
    same(outcome(own, *rows), expected)
    close(outcome(built_in, *rows)[0].total, expected[0].total)
    assert seen == [True, True]


class Halved(LogitTerm):
    def standardized(self, logits):
        return super().standardized(logits) / 2


def test_a_term_that_standardizes_in_its_own_way_does_so_in_a_graph_too(traced):
    rows = sequences(shape=(10,), ignored=())
    parts = {"divergence": KL(), "temperature": Fixed(2.0), "standardize": True}
    by_class, by_value = Halved(**parts), LogitTerm(**parts)
    by_value.standardized = lambda logits: standardize(logits) / 2
    made = [Objective({"kd": term}, {"kd": 1.0}) for term in (by_class, by_value)]
    expected = outcome(made[0], *rows)
    traced()
    for one in made:
        same(outcome(one, *rows), expected)


@pytest.mark.parametrize("classes", [10, 1000])
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_what_is_constant_correlates_with_nothing_in_a_graph_too(dim, classes, dtype, traced):
    generator = torch.Generator().manual_seed(0)
    q, p = (torch.randn(300, classes, generator=generator, dtype=dtype).softmax(dim=1) for _ in "qp")
    flat = slice(2, 5)
    if dim == 1:  # a row of probabilities adds up to 1
        q[flat], p[1] = 1 / classes, 1 / classes
    else:
        q[:, flat], p[:, 1] = 1 / classes, 0.3
    value, gradient = values_and_gradients(lambda q: _correlation(q, p, dim), q)
    traced()
    ours, of_ours = values_and_gradients(lambda q: _correlation(q, p, dim), q)
    tolerance = 1e-4 if dtype is torch.float32 else 1e-10
    torch.testing.assert_close(ours, value, rtol=tolerance, atol=tolerance)
    scale = gradient.abs().max()
    torch.testing.assert_close(of_ours / scale, gradient / scale, rtol=tolerance, atol=tolerance)
    assert (ours[1:5] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("lowest", [-20.0, -30.0, -50.0, -80.0, -300.0])
def test_classes_of_next_to_no_probability_send_a_finite_gradient_in_a_graph(lowest, dtype, traced):
    """The squares of their deviations, and more so the product of both, may be below the smallest number."""
    x = torch.randn(2, 64, 10, generator=torch.Generator().manual_seed(0), dtype=dtype)
    x[..., 5:] += lowest
    q, p = x.softmax(dim=-1)
    value, gradient = values_and_gradients(lambda q: _correlation(q, p, 0), q)
    traced()
    ours, of_ours = values_and_gradients(lambda q: _correlation(q, p, 0), q)
    torch.testing.assert_close(ours, value, rtol=1e-4, atol=1e-6)
    assert of_ours.isfinite().all()
    torch.testing.assert_close(of_ours, gradient, rtol=1e-3, atol=1e-6 * float(gradient.abs().max()))


@pytest.mark.parametrize("tau", [0.01, 1.0, 4.0, 1e6])
def test_softened_rows_are_the_same_in_a_graph(tau, traced):
    x = 10 * torch.randn(6, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tau = torch.full((6, 1), tau, dtype=torch.float64)
    of_both = (log_softened, softened)
    expected = [values_and_gradients(lambda x, f=f: f(x, tau), x) for f in of_both]
    of_tau = [values_and_gradients(lambda tau, f=f: f(x, tau), tau) for f in of_both]
    traced()
    for function, values, slopes in zip(of_both, expected, of_tau, strict=True):
        for a, b in zip(values_and_gradients(lambda x, f=function: f(x, tau), x), values, strict=True):
            close(a, b)
        for a, b in zip(values_and_gradients(lambda tau, f=function: f(x, tau), tau), slopes, strict=True):
            close(a, b, 1e-9)


@pytest.mark.parametrize("name", ["kd", "zkd+mlt", "dist", "dkd", "dtkd"])
def test_a_compiled_loss_is_one_graph_of_the_same_numbers(name):
    """The real compiler, without its code generation: one graph, of the same numbers."""
    rows = sequences(shape=(10,), ignored=())
    expected = outcome(made(name), *rows, epoch=3)
    torch.compiler.reset()
    one = made(name)
    same(outcome(torch.compile(one, fullgraph=True, backend="eager"), *rows, epoch=3), expected)
    one.kd_weight = 2 * one.kd_weight  # what is changed later is seen
    twice = outcome(torch.compile(one, fullgraph=True, backend="eager"), *rows, epoch=3)[0]
    close(twice.total - twice.ce * one.ce_weight, 2 * (expected[0].total - expected[0].ce * one.ce_weight))


def test_a_part_that_is_set_later_is_known():
    criterion = made("kd")
    assert criterion.term.reading == "nothing"
    criterion.divergence = made("dist").divergence
    assert criterion.term.reading == "batch"
    criterion.temperature = made("ctkd").temperature
    assert criterion.term.reading == "state"


def test_a_term_that_evaluates_in_its_own_way_is_asked_so_in_a_graph_too(traced):
    class Half(LogitTerm):
        def evaluate(self, student, teacher, batch):
            values, tau = super().evaluate(student, teacher, batch)
            return values / 2, tau

    student, teacher, target = sequences(shape=(10,), ignored=())
    term = Half(KL(), Fixed(4.0))
    criterion = Objective({"kd": term}, {"kd": 2.0}, ce_weight=0.0)
    whole = Objective({"kd": LogitTerm(KL(), Fixed(4.0))}, {"kd": 1.0}, ce_weight=0.0)
    expected = whole(student, teacher, target).total
    assert term.reading == "state"
    close(criterion(student, teacher, target).total, expected)
    traced()
    close(criterion(student, teacher, target).total, expected)


def test_a_standardization_set_later_is_the_one_in_use():
    student, teacher, target = sequences(shape=(10,), ignored=())
    term = LogitTerm(KL(), Fixed(2.0))
    for kind in ("sample", True, False, "population"):
        term.standardize = kind
        fresh = LogitTerm(KL(), Fixed(2.0), kind)
        close(*(t.evaluate(student, teacher, Batch(target))[0] for t in (term, fresh)))


@pytest.mark.parametrize("classes", [3, 10, 100, 1000, 50257])
def test_equal_logits_correlate_with_nothing_in_a_graph(classes, traced):
    """Their probabilities are 1 / K exactly, whatever the logits and the temperature are."""
    x = torch.randn(4, classes, generator=torch.Generator().manual_seed(0))
    x[1], x[2], x[3] = 0.1, -1e6 + 0.1, 0.0
    traced()
    for tau in (0.7, 4.0, 1e4):
        p = softened(x, torch.tensor([[tau]]))
        found, gradient = values_and_gradients(lambda q, p=p: _correlation(q, p, 1), p)
        assert (found[1:] == 0).all()
        assert (gradient[1:] == 0).all()
        assert tau > 10 or found[0] > 0.9  # less than 1 by the 1e-8 of the released code


@pytest.mark.parametrize("tau", [1.0, 1e3, 1e5])
def test_rows_that_hardly_vary_correlate_in_a_graph_as_they_do(tau, traced):
    """The mean of a row of probabilities is taken to be 1 / K there: no less exact than a computed one."""
    x = torch.randn(2, 6, 1000, generator=torch.Generator().manual_seed(0))
    exact = _correlation(*(torch.softmax(a.double() / tau, dim=1) for a in x), dim=1)
    q, p = (torch.softmax(a / tau, dim=1) for a in x)
    error = (_correlation(q, p, dim=1) - exact).abs().max()
    traced()
    assert (_correlation(q, p, dim=1) - exact).abs().max() <= max(2 * error, 1e-6)


@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1}, {"class_weights": [1.0] * 7}, {"chunk": 4}], ids=str
)
def test_in_a_graph_a_label_is_left_out_only_where_somebody_says_so(options, traced):
    student, teacher, target = sequences(shape=(10,), ignored=())
    target[3] = -100
    options = {
        key: value[:1] * student.shape[1] if key == "class_weights" else value for key, value in options.items()
    }
    criterion = create_method("kd", **options)
    with pytest.raises(ValueError, match="expected labels from 0 to"):
        criterion(student, teacher, target, ignore_index=None)
    traced()
    with pytest.raises(IndexError, match="-100 is out of bounds"):
        criterion(student, teacher, target, ignore_index=None)
    assert criterion(student, teacher, target).total.isfinite()


def test_what_has_to_be_refused_is_refused_in_a_graph_too(traced):
    student, teacher, target = sequences(shape=(10,), ignored=())
    traced()
    with pytest.raises(ValueError, match="at least 2 classes"):
        made("kd")(student[:, :1], teacher[:, :1], target * 0)
    with pytest.raises(ValueError, match="the batch is empty"):
        made("kd")(student[:0], teacher[:0], target[:0])
    with pytest.raises(ValueError, match="epochs are counted from 1"):
        made("kd")(student, teacher, target, epoch=0)
