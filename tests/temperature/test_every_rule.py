"""What every temperature rule promises: shapes, finite numbers, exact resuming, quiet evaluation, one graph."""

import copy
import inspect
import io

import pytest
import torch
from hypothesis import given, settings
from strategies import batches
from torch.utils._python_dispatch import TorchDispatchMode

from adakd import DKD, KL, LogitObjective, Temperatures
from adakd.temperature import CTKD, DTKD, RULES, Cosine, MetaTemperature

CLASSES = 6
VARIANTS = {  # class and options; a new rule is here by its file
    **{name: (rule, {}) for name, rule in RULES.items()},
    "ctkd-instance": (CTKD, {"instance": True}),
    "dtkd-max": (DTKD, {"magnitude": "max"}),
    "cosine-unit": (Cosine, {"span": "unit"}),
    "meta-separate": (MetaTemperature, {"shared": False, "meta_lr": 1.0}),
}
every_rule = pytest.mark.parametrize("name", VARIANTS)

# What is known of these beyond what every rule promises; of any other its own test states it.
KNOWN = {"fixed", "maxlogit", "ctkd", "ctkd-instance", "dtkd", "dtkd-max", "dts", "cosine", "cosine-unit"}
KNOWN |= {"difficulty", "meta", "meta-separate", "policy", "adaptive_ttm", "cist", "energy", "normkd"}
LEARNED = {"ctkd", "ctkd-instance"}
STATEFUL = {"dts", "meta", "meta-separate", "policy"}
IN_THE_GRAPH = {*LEARNED, "dtkd", "dtkd-max", "normkd"}
SHARED_BY_THE_BATCH = {"fixed", "ctkd", "dts", "meta", "meta-separate"}
TWO_TEMPERATURES = {"dtkd", "dtkd-max", "meta-separate", "adaptive_ttm", "cist", "normkd"}
READS_NO_SHIFT = KNOWN - {"maxlogit", "dtkd", "dtkd-max", "ctkd-instance", "cist"}
READS_NO_ORDER_OF_CLASSES = KNOWN - {"ctkd-instance"}


def make(name, classes=CLASSES):
    rule, options = VARIANTS[name]
    if "num_classes" in inspect.signature(rule).parameters:
        options = {"num_classes": classes, **options}
    made = rule(**options)
    if name == "ctkd-instance":
        torch.nn.init.normal_(made.network[2].weight, std=0.1, generator=torch.Generator().manual_seed(0))
    return made


def batch_of(step=0, size=5, classes=CLASSES, scale=2.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(step)
    student, teacher = (scale * torch.randn(size, classes, generator=generator) for _ in range(2))
    target = torch.randint(classes, (size,), generator=generator)
    return student.to(dtype), teacher.to(dtype), target


@every_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_dtype(name, dtype):
    rule = make(name)  # its own numbers stay float32, whatever the logits are
    student, teacher, target = batch_of(dtype=dtype)
    temperatures = rule(student, teacher, target, epoch=1)
    assert isinstance(temperatures, Temperatures)
    for tau in temperatures:
        assert tau.shape in ((1, 1), (5, 1))
        assert tau.dtype == dtype
        assert (tau > 0).all()
        if name in KNOWN:
            assert (tau.shape == (1, 1)) == (name in SHARED_BY_THE_BATCH)
    if name in KNOWN:
        assert torch.equal(*temperatures) == (name not in TWO_TEMPERATURES or name == "meta-separate")


@every_rule
def test_what_is_learned_and_what_is_kept(name):
    rule = make(name)
    assert {*dict(rule.named_parameters()), *dict(rule.named_buffers())} == {*rule.state_dict()}
    before = copy.deepcopy(dict(rule.named_buffers()))
    student, teacher, target = batch_of()
    temperatures = rule(student.requires_grad_(), teacher, target, epoch=3)
    moved = any(not torch.equal(value, before[key]) for key, value in rule.named_buffers())
    assert moved == rule.keeps_state
    learned = bool(list(rule.parameters()))
    assert temperatures.student.requires_grad >= learned
    if name in KNOWN:
        assert learned == (name in LEARNED)
        assert bool(before) == (name in STATEFUL)
        assert temperatures.student.requires_grad == (name in IN_THE_GRAPH)


def extremes(classes, dtype):
    """Logits at which something divides by zero, saturates or overflows, (name, student, teacher)."""
    generator = torch.Generator().manual_seed(classes)
    usual, other = (torch.randn(3, classes, generator=generator, dtype=dtype) for _ in range(2))
    constant = torch.full((3, classes), -2.0, dtype=dtype)
    yield "one sample", usual[:1], other[:1]
    yield "equal", usual, usual
    yield "constant student", constant, other
    yield "constant teacher", usual, constant
    yield "all constant", constant, constant
    yield "large", 1e4 * usual.sign(), 1e4 * other.sign()
    yield "large and small", 1e4 * usual, other
    yield "small and large", usual, 1e4 * other
    yield "all negative", usual - 1e4, other - 1e4


@pytest.mark.filterwarnings("ignore:the (maximum logit|sharpness) .* floor")
@every_rule
@pytest.mark.parametrize("standardized", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_value_and_gradient_at_the_extremes(name, standardized, dtype):
    for divergence in (KL(), DKD()):
        for classes in (2, 3, 10, 1000):
            rule = make(name, classes)
            if classes < (3 if standardized else rule.least_classes):  # of two, nothing is left to standardize
                continue
            objective = LogitObjective(divergence, rule, standardize=standardized)
            for case, student, teacher in extremes(classes, dtype):
                where = f"{case}, {classes} classes, {type(divergence).__name__}"
                student = student.clone().requires_grad_()
                target = torch.arange(len(student)) % classes
                terms = objective(student, teacher, target, epoch=10)
                terms.total.backward()
                assert terms.total.isfinite(), where
                assert student.grad.isfinite().all(), where
                for tau in terms.temperature:
                    assert (tau.isfinite() & (tau > 0)).all(), where
                for key, parameter in rule.named_parameters():
                    assert parameter.grad.isfinite().all(), f"{where}: {key}"
                for key, value in rule.state_dict().items():
                    assert value.isfinite().all(), f"{where}: {key}"


@every_rule
@settings(max_examples=10)
@given(batch=batches(min_classes=CLASSES, max_classes=CLASSES))
def test_symmetries(name, batch):
    """Samples have no order; for the rules listed above classes have none either, and logits no origin."""
    student, teacher, target = batch

    def after(transform_logits, transform_target, rows=slice(None)):
        """Temperatures of a step in training (eval for the policy, whose noise goes by position), and the state."""
        rule = make(name).double()
        rule.train(name != "policy")
        inputs = transform_logits(student), transform_logits(teacher), transform_target(target)
        temperatures = rule(*inputs, epoch=2)
        return [tau.expand(len(student), 1)[rows] for tau in temperatures], list(rule.buffers())

    plain = after(lambda x: x, lambda y: y)
    backwards = after(lambda x: x.flip(0), lambda y: y.flip(0), rows=torch.arange(len(student)).flip(0))
    torch.testing.assert_close(backwards, plain, rtol=1e-6, atol=1e-8)
    if name in READS_NO_ORDER_OF_CLASSES:
        mirrored = after(lambda x: x.flip(1), lambda y: CLASSES - 1 - y)
        torch.testing.assert_close(mirrored, plain, rtol=1e-6, atol=1e-8)
    if name in READS_NO_SHIFT:
        shifted = after(lambda x: x + 3.5, lambda y: y)
        torch.testing.assert_close(shifted, plain, rtol=1e-6, atol=1e-8)


@every_rule
def test_evaluation_changes_nothing_and_needs_no_labels(name):
    rule = make(name)
    for step in range(3):
        rule(*batch_of(step), epoch=1)
    before = copy.deepcopy(rule.state_dict())
    rule.eval()
    student, teacher, target = batch_of(3)
    first = rule(student, teacher, epoch=2)
    again = rule(student, teacher, target, epoch=2)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    for key, value in rule.state_dict().items():
        assert torch.equal(value, before[key]), key


@every_rule
@pytest.mark.parametrize("steps_before", [1, 7])
def test_resuming_is_exact(name, steps_before):
    """Through a file that holds tensors and plain data only, as a run's checkpoint does."""

    def objective_and_optimizer():
        objective = LogitObjective(DKD(), make(name), standardize=True)
        student = torch.nn.Parameter(batch_of(99)[0])
        optimizer = torch.optim.SGD([student, *objective.parameters()], lr=0.1, momentum=0.9)
        return objective, student, optimizer

    def train(parts, steps):
        objective, student, optimizer = parts
        seen = []
        for step in steps:
            _, teacher, target = batch_of(step)
            terms = objective(student, teacher, target, epoch=1 + step // 3)
            optimizer.zero_grad()
            terms.total.backward()
            optimizer.step()
            seen.append(torch.cat([terms.total.view(1), *(t.flatten() for t in terms.temperature)]).detach())
        return seen

    whole = train(objective_and_optimizer(), range(12))
    first = objective_and_optimizer()
    start = train(first, range(steps_before))
    file = io.BytesIO()
    torch.save([first[0].state_dict(), first[1].data, first[2].state_dict()], file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = objective_and_optimizer()
    second[0].load_state_dict(saved[0])
    second[1].data.copy_(saved[1])
    second[2].load_state_dict(saved[2])
    rest = train(second, range(steps_before, 12))
    for a, b in zip(whole, [*start, *rest], strict=True):
        assert torch.equal(a, b)


@every_rule
def test_one_graph_for_all_epochs(name):
    """Compiled without a break, values, gradients and state as in eager mode, and not once an epoch anew."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    eager = LogitObjective(DKD(), make(name), standardize=True, warmup_epochs=4).double()
    objective = copy.deepcopy(eager)
    compiled = torch.compile(objective, fullgraph=True, backend="eager")
    for epoch in range(1, 13):
        student, teacher, target = batch_of(epoch)
        # In fp32 the gradient of one temperature for all rows is a sum that cancels, and rounding a percent of it.
        student, teacher = student.double(), teacher.double()
        results = []
        for loss in (compiled, eager):
            leaf = student.clone().requires_grad_()
            loss(leaf, teacher, target, epoch=epoch).total.backward()
            results.append(leaf.grad)
        torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(objective.state_dict(), eager.state_dict())
    for ours, theirs in zip(objective.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    # The first epoch as a constant, then as a variable, before and after warm-up and curriculum.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 4


class NoReading(TorchDispatchMode):
    """Fails where a value would be copied from the device to decide something in Python."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default), func
        return func(*args, **(kwargs or {}))


@every_rule
def test_nothing_waits_for_the_device(name):
    rule = make(name)
    with NoReading():
        for step in range(3):
            rule(*batch_of(step), epoch=1)
    with pytest.raises(AssertionError), NoReading():
        torch.ones(1).item()


@every_rule
def test_the_callers_random_numbers_stay_as_they_are(name):
    """Or the same seed would give the students of two methods different weights."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    rule = make(name)
    rule(*batch_of())
    assert torch.equal(torch.get_rng_state(), before)


@every_rule
def test_rules_say_what_they_are(name):
    text = repr(make(name))
    assert text.startswith(type(make(name)).__name__ + "(")
    options = inspect.signature(type(make(name))).parameters
    assert ("=" in text) == bool(options), "extra_repr: name=value of each option"
