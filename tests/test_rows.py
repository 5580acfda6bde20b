"""Rows: any leading axes, rows left out, probabilities or no labels, slices; what is left equals selecting beforehand."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import adakd
from adakd import METHODS, Batch, LogitObjective, LogitTerm, Objective, Signals, Term, create_method
from adakd._rows import are_usual
from adakd.methods import options_of
from adakd.refine import Refinement

NAMES = [name for name, row in METHODS.items() if row.on_logits]
NAMES += ["kd+adakd", "kd+cswt-unit", "zkd+mlt-two-sided", "kd+ctkd-instance", "zdkd+dtkd-max"]
CLASSES = 7


def made(name, **options):
    if "num_classes" in options_of(name):
        options["num_classes"] = CLASSES
    return create_method(name, **options).double()


def sequences(seed=0, shape=(2, 5), classes=CLASSES, ignored=(1, 4, 7)):
    generator = torch.Generator().manual_seed(seed)
    s, t = (2 * torch.randn(*shape, classes, generator=generator, dtype=torch.float64) for _ in "st")
    target = torch.randint(classes, shape, generator=generator)
    target.view(-1)[list(ignored)] = -100
    return s, t, target


def outcome(criterion, student, *rest, **named):
    student = student.clone().requires_grad_()
    terms = criterion(student, *rest, **named)
    terms.total.backward()
    learned = [p.grad for p in criterion.parameters()]
    return terms, student.grad, learned


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def same(one, other, grad_rows=None, tolerance=1e-12):
    (terms, grad, learned), (theirs, their_grad, their_learned) = one, other
    for a, b in zip(terms[:3], theirs[:3], strict=True):
        close(a, b, tolerance)
    close(grad if grad_rows is None else grad[grad_rows], their_grad, tolerance)
    for a, b in zip(learned, their_learned, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            close(a, b, tolerance)
    if theirs.temperature is not None:
        for a, b in zip(terms.temperature, theirs.temperature, strict=True):
            close(*(tau.detach() for tau in torch.broadcast_tensors(a, b)), tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_ignored_positions_of_sequences_are_rows_that_were_never_there(name):
    if name == "mlkd+views":
        return
    student, teacher, target = sequences()
    criterion = made(name)
    alone = copy.deepcopy(criterion)
    keep = target != -100
    whole = outcome(criterion, student, teacher, target, epoch=3)
    selected = outcome(alone, student[keep], teacher[keep], target[keep], epoch=3)
    same(whole, selected, grad_rows=keep)
    assert (whole[1][~keep] == 0).all()
    for (key, a), (_, b) in zip(criterion.state_dict().items(), alone.state_dict().items(), strict=True):
        close(a, b), key  # the state that a rule keeps has seen the same rows


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_stands_in_an_ignored_row_is_seen(name):
    student, teacher, target = sequences()
    wild_student, wild_teacher = student.clone(), teacher.clone()
    wild_student[target == -100] = float("nan")
    wild_teacher[target == -100] = float("inf")
    one, other = made(name), made(name)
    terms, grad, _ = outcome(one, wild_student, wild_teacher, target, epoch=3)
    theirs, their_grad, _ = outcome(other, student, teacher, target, epoch=3)
    close(terms.total, theirs.total)
    close(grad, their_grad)


@pytest.mark.parametrize("name", NAMES)
def test_leading_axes_are_flattened(name):
    student, teacher, target = sequences(ignored=())
    one, other = made(name), made(name)
    a = outcome(one, student, teacher, target, epoch=3)
    b = outcome(other, student.flatten(0, 1), teacher.flatten(0, 1), target.flatten(), epoch=3)
    same((a[0], a[1].flatten(0, 1), a[2]), b)


@pytest.mark.parametrize("name", NAMES)
def test_the_one_look_at_a_usual_call_changes_nothing(name, monkeypatch):
    student, teacher, target = (x.float() if x.is_floating_point() else x for x in sequences(ignored=()))
    batch = student.flatten(0, 1), teacher.flatten(0, 1), target.flatten()
    assert are_usual(*batch)
    one, other = made(name).float(), made(name).float()
    a = outcome(one, *batch, epoch=3)
    monkeypatch.setattr("adakd.objective.are_usual", lambda *tensors: False)
    same(a, outcome(other, *batch, epoch=3), tolerance=0)


@pytest.mark.parametrize(
    "change",
    [
        lambda s, t, y: (s.double(), t, y),
        lambda s, t, y: (s, t.half(), y),
        lambda s, t, y: (s, t, y.int()),
        lambda s, t, y: (s, t[:, 1:], y),
        lambda s, t, y: (s, t, y[1:]),
        lambda s, t, y: (s[None], t[None], y[None]),
        lambda s, t, y: (s[:0], t[:0], y[:0]),
        lambda s, t, y: (s[:, :1], t[:, :1], y),
        lambda s, t, y: (s, t.to_sparse(), y),
        lambda s, t, y: (s, t.to("meta"), y),
        lambda s, t, y: (s, None, y),
        lambda s, t, y: (s, t, None),
        lambda s, t, y: (s, t, t.softmax(1)),
        lambda s, t, y: (s, t.numpy(), y),
        lambda s, t, y: (s, nn.Parameter(t), y),
    ],
)
def test_all_else_is_looked_at_closely(change):
    student, teacher, target = (x.float() if x.is_floating_point() else x for x in sequences(ignored=()))
    batch = student.flatten(0, 1), teacher.flatten(0, 1), target.flatten()
    assert are_usual(*batch)
    assert not are_usual(*change(*batch))


def test_segmentation_leaves_out_its_own_label():
    student, teacher, target = sequences(shape=(2, 3, 4), ignored=())
    target[0, :2] = 255
    keep = target != 255
    criterion = made("zdkd+mlt")
    a = outcome(criterion, student, teacher, target, ignore_index=255)
    b = outcome(criterion, student[keep], teacher[keep], target[keep])
    same(a, b, grad_rows=keep)
    with pytest.raises(
        ValueError,
        match=r"labels from 0 to 6, got 255 in row 0 .* give them the label -100, .* with ignore_index=",
    ):
        criterion(student, teacher, target)


@pytest.mark.parametrize("name", ["ce", "kd", "dist", "zdkd+mlt", "dts"])
def test_a_batch_without_a_row_left_is_nothing_and_is_said_once(name, monkeypatch):
    monkeypatch.setattr("adakd._rows._warned", False)
    student, teacher, target = sequences()
    target[:] = -100
    criterion = made(name)
    before = copy.deepcopy(criterion.state_dict())
    with pytest.warns(UserWarning, match="every row of this batch is ignored"):
        terms, grad, _ = outcome(criterion, student, teacher, target, epoch=1)
    assert terms.total == 0
    assert (grad == 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome(criterion, student, teacher, target, epoch=1)
    for a, b in zip(before.values(), criterion.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "ce" and not made(n, ce_weight=0.0).reads_target])
def test_unlabelled_rows_teach_where_no_part_reads_a_label(name):
    student, teacher, target = sequences(ignored=())
    a, b = (outcome(made(name, ce_weight=0.0), student, teacher, labels) for labels in (None, target))
    close(a[0].kd, b[0].kd)
    close(a[1], b[1])
    assert a[0].ce == 0


@pytest.mark.parametrize("name", ["kd", "dkd", "dts", "meta", "itkd"])
def test_a_missing_label_is_an_error_where_it_is_read(name):
    student, teacher, _ = sequences()
    with pytest.raises(ValueError, match="target: got None, but the cross entropy has a weight"):
        made(name)(student, teacher, None)
    if name != "kd":
        with pytest.raises(ValueError, match="target: got None, but a term reads the labels"):
            made(name, ce_weight=0.0)(student, teacher, None)


def test_probabilities_are_targets():
    """Mixup: the cross entropy is linear in the target."""
    student, teacher, _ = sequences(ignored=())
    first, second = (torch.randint(CLASSES, (2, 5), generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    mixed = 0.3 * F.one_hot(first, CLASSES).double() + 0.7 * F.one_hot(second, CLASSES).double()
    criterion = made("zkd+mlt")
    a, b = (criterion(student, teacher, target).ce for target in (first, second))
    terms, grad, _ = outcome(criterion, student, teacher, mixed)
    close(terms.ce, 0.3 * a + 0.7 * b)
    assert grad.isfinite().all()
    close(
        criterion(student, teacher, F.one_hot(first, CLASSES).double()).total,
        criterion(student, teacher, first).total,
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.nan, "a least value of nan"),
        (7.0, "a least value of 7 and a sum of 49"),
        (-1.0, "a least value of -1"),
        (1 / CLASSES + 0.01, "a sum of 1.07"),
    ],
)
def test_probabilities_are_looked_at(wrong, message):
    student, teacher, _ = sequences()
    target = torch.softmax(teacher, -1)
    target[1, 2] = wrong
    with pytest.raises(ValueError, match=f"expected probabilities, .* {message} .*row 7; 1 of 10 rows"):
        made("kd")(student, teacher, target)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_classes_on_the_second_axis_are_told_to_move(dtype):
    """As `torch.nn.functional.cross_entropy` takes them: (B, K, H, W) logits with (B, H, W) labels."""
    student, teacher = torch.randn(2, 2, CLASSES, 4, 10, dtype=torch.float64)
    target = torch.randint(CLASSES, (2, 4, 10), dtype=dtype)
    message = (
        r"target: expected \d+ class labels, .* got .* of shape \(2, 4, 10\); classes are the last axis: logits"
    )
    with pytest.raises(ValueError, match=message + r"\.movedim\(1, -1\)$"):
        made("kd")(student, teacher, target)
    moved = made("kd")(student.movedim(1, -1), teacher.movedim(1, -1), target.long())
    close(moved.ce, F.cross_entropy(student, target.long()))


def test_one_hot_integers_are_told_to_be_probabilities():
    student, teacher, target = sequences(ignored=())
    one_hot = F.one_hot(target, CLASSES)
    with pytest.raises(ValueError, match=r"one-hot, call \.float\(\) to give probabilities$"):
        made("kd")(student, teacher, one_hot)
    close(made("kd")(student, teacher, one_hot.float()).ce, made("kd")(student, teacher, target).ce)


@pytest.mark.parametrize("name", ["dkd", "dts", "meta"])
def test_a_method_that_needs_a_label_refuses_probabilities(name):
    student, teacher, _ = sequences()
    with pytest.raises(
        ValueError, match=r"kd needs one class label a row, got probabilities.*'kd', 'zkd\+mlt'"
    ):
        made(name)(student, teacher, torch.softmax(teacher, -1))


@pytest.mark.parametrize("ignored", [(), (1, 4)])
def test_class_weights_and_label_smoothing_are_those_of_torch(ignored):
    student, teacher, target = sequences(ignored=ignored)
    weights = torch.rand(CLASSES, dtype=torch.float64) + 0.1
    criterion = made("kd", class_weights=weights.tolist(), label_smoothing=0.2)
    plain = nn.CrossEntropyLoss(weight=weights.float().double(), label_smoothing=0.2)
    close(criterion(student, teacher, target).ce, plain(student.flatten(0, 1), target.flatten()), 1e-6)
    close(criterion(student, teacher, target).kd, made("kd")(student, teacher, target).kd)


def test_a_wrong_number_of_class_weights_is_refused():
    student, teacher, target = sequences()
    with pytest.raises(ValueError, match="class_weights: expected 7 of them, got 3"):
        made("kd", class_weights=[1.0, 2.0, 3.0])(student, teacher, target)
    with pytest.raises(ValueError, match="class_weights: expected"):
        made("kd", class_weights=[1.0, -2.0])
    with pytest.raises(ValueError, match=r"label_smoothing: expected a number in \[0, 1\)"):
        made("kd", label_smoothing=1.5)


SLICED = [
    n
    for n in NAMES
    if n != "ce"
    and not any(
        (t := next(iter(made(n).terms.values()))).__getattribute__(x) for x in ("reads_batch", "keeps_state")
    )
]


@pytest.mark.parametrize("chunk", [1, 3, 4, 100])
@pytest.mark.parametrize("name", SLICED)
def test_slices_add_up(name, chunk):
    student, teacher, target = sequences()
    plain = outcome(made(name), student, teacher, target, epoch=3)
    sliced = outcome(made(name, chunk=chunk), student, teacher, target, epoch=3)
    same(sliced, plain)


def test_slices_of_half_precision_and_class_weights():
    student, teacher, target = sequences()
    options = {"class_weights": [1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0], "label_smoothing": 0.1}
    rows = [x.bfloat16() for x in (student, teacher)]
    plain, sliced = (create_method("zkd+mlt", **options, chunk=chunk) for chunk in (None, 4))
    a, b = (outcome(criterion, *rows, target) for criterion in (plain, sliced))
    close(a[0].total, b[0].total, 1e-6)
    assert a[1].dtype == b[1].dtype == torch.bfloat16
    close(a[1].float(), b[1].float(), 1e-3)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(SLICED) - {"ce"}))
def test_what_reads_the_whole_batch_refuses_slices(name):
    with pytest.raises(ValueError, match="chunk: kd needs the whole batch in one call"):
        made(name, chunk=4)


@pytest.mark.parametrize("chunk", [0, -1, True, 2.5])
def test_a_chunk_is_a_number_of_rows(chunk):
    with pytest.raises(ValueError, match="chunk: expected a number of rows of at least 1"):
        LogitObjective(adakd.KL(), chunk=chunk)


def test_vocabularies_of_other_sizes_are_cut_only_when_told():
    student, teacher, target = sequences()
    wide = torch.cat([teacher, torch.full((2, 5, 2), -9.0, dtype=torch.float64)], dim=-1)
    with pytest.raises(ValueError, match=r"number of classes: 9 and 7.*pad_vocab='truncate'"):
        made("kd")(student, wide, target)
    cut = outcome(made("kd", pad_vocab="truncate"), student, wide, target)
    same(cut, outcome(made("kd"), student, teacher, target))
    broad = torch.cat([student, torch.zeros(2, 5, 2, dtype=torch.float64)], dim=-1)
    terms, grad, _ = outcome(made("kd", pad_vocab="truncate"), broad, teacher, target)
    close(terms.kd, made("kd")(student, teacher, target).kd)
    close(terms.ce, F.cross_entropy(broad.flatten(0, 1), target.flatten()))  # of all classes of the student
    assert grad.shape == broad.shape
    with pytest.raises(ValueError, match="pad_vocab: expected None or 'truncate'"):
        made("kd", pad_vocab="cut")


@pytest.mark.parametrize("chunk", [None, 2])
def test_what_is_cut_off_is_not_looked_at(chunk):
    student, teacher, target = sequences()
    masked = torch.cat([teacher, torch.full((2, 5, 2), -torch.inf, dtype=torch.float64)], dim=-1)
    cut = outcome(made("zdkd+mlt", pad_vocab="truncate", chunk=chunk), student, masked, target)
    same(cut, outcome(made("zdkd+mlt"), student, teacher, target))


@pytest.mark.parametrize("name", ["dkd", "rld", "kd+meta"])
def test_a_label_in_the_students_padding_is_refused_where_a_term_reads_it(name):
    student, teacher, target = sequences()
    broad = torch.cat([student, torch.zeros(2, 5, 2, dtype=torch.float64)], dim=-1)
    target[0, 0] = CLASSES + 1
    assert made("kd", pad_vocab="truncate")(broad, teacher, target).total.isfinite()
    with pytest.raises(ValueError, match=f"expected labels from 0 to {CLASSES - 1}, got {CLASSES + 1}"):
        create_method(name, pad_vocab="truncate").double()(broad, teacher, target)


def test_a_vocabulary_has_two_classes():
    student, teacher, target = sequences()
    with pytest.raises(ValueError, match="teacher logits: expected at least 2 classes, got 1"):
        made("kd", pad_vocab="truncate")(student, teacher[..., :1], target)


@pytest.mark.parametrize("name", ["kd", "zdkd+mlt", "ctkd", "zkd+mlt-two-sided"])
def test_compiled_in_one_graph_ignored_rows_count_for_nothing(name):
    student, teacher, target = sequences()
    torch.compiler.reset()
    compiled = torch.compile(made(name), fullgraph=True, backend="eager")
    a, b = (outcome(criterion, student, teacher, target, epoch=3) for criterion in (compiled, made(name)))
    close(a[0].total, b[0].total)
    close(a[1], b[1])


@pytest.mark.parametrize("name", ["dist", "mlkd", "cswt"])
def test_compiled_a_batch_statistic_over_ignored_rows_is_nan_and_not_silently_wrong(name):
    student, teacher, target = sequences()
    torch.compiler.reset()
    compiled = torch.compile(made(name), fullgraph=True, backend="eager")
    assert compiled(student, teacher, target, epoch=3).total.isnan()
    clean = target.clamp(min=0)
    close(compiled(student, teacher, clean, epoch=3).total, made(name)(student, teacher, clean, epoch=3).total)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "itkd"])
def test_on_an_accelerator_nothing_waits_where_rows_stand_for_themselves(name, monkeypatch):
    """As there, no value is read; what is left out is the same."""
    rows = sequences(shape=(8,))
    expected = outcome(made(name), *rows, epoch=3)
    monkeypatch.setattr("adakd._check.may_read", lambda tensor: False)
    wild = [x.masked_fill((rows[2] == -100).unsqueeze(-1), torch.nan) for x in rows[:2]]
    terms, grad, learned = outcome(made(name), *wild, rows[2], epoch=3)
    close(terms.total, expected[0].total)
    close(grad, expected[1])
    for a, b in zip(learned, expected[2], strict=True):
        assert a is b is None or torch.allclose(a, b, rtol=1e-12)
    if name in SLICED:
        same((*outcome(made(name, chunk=3), *wild, rows[2], epoch=3)[:2], learned), (terms, grad, learned))


@pytest.mark.parametrize("name", ["kd", "zdkd+mlt", "ctkd"])
def test_slices_leave_out_the_same_rows_where_none_can_be_taken_out(name):
    """In a compiled graph, with leading axes and class weights; and inside vmap."""
    rows, options = sequences(), {"class_weights": [1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0], "chunk": 4}
    torch.compiler.reset()
    compiled = torch.compile(made(name, **options), backend="eager")
    (terms, grad, _), (theirs, their_grad, _) = (
        outcome(criterion, *rows, epoch=3) for criterion in (compiled, made(name, **options))
    )
    close(terms.total, theirs.total)
    close(grad, their_grad)
    if torch.__version__.startswith("2.4."):  # which maps over no checkpoint
        return
    criterion = made(name, chunk=2)
    mapped = torch.vmap(lambda *batch: criterion(*batch, epoch=3).total)(*rows)
    for i, value in enumerate(mapped):
        close(value, made(name)(*(x[i] for x in rows), epoch=3).total)


# ---- sums of terms ----


class Hint(Term):
    """A term on features with a connector, as FitNet is."""

    taps = adakd.Taps(("2",), ("2",))

    def build(self, student, teacher, train_images):
        self.connector = nn.Linear(student.features["2"].shape[1], teacher.features["2"].shape[1]).double()
        self.register_buffer("memory", torch.zeros(train_images, dtype=torch.float64))

    def forward(self, student, teacher, batch):
        value = (self.connector(student.features["2"]) - teacher.features["2"].detach()).square().mean(1)
        if batch.index is not None:
            self.memory[batch.index] = value.detach()
        return value


def networks():
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, CLASSES)).double()
    teacher = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, CLASSES)).double()
    return student, teacher, torch.randn(5, 6, dtype=torch.float64), torch.tensor([0, 1, -100, 3, 4])


def test_a_feature_term_and_a_logit_term_add_up():
    student, teacher, images, target = networks()
    objective = Objective(
        {"hint": Hint(), "kd": LogitTerm(adakd.KL(), adakd.Fixed(4.0))}, {"hint": 3.0, "kd": 0.9}, 0.1
    )
    assert objective.taps == adakd.Taps(("2",), ("2",))
    tapped = [adakd.Tapped(net, objective.taps[i]) for i, net in enumerate((student, teacher))]
    outputs = [net(images) for net in tapped]
    objective.build(*outputs, train_images=20, seed=0)
    state = torch.random.get_rng_state()
    again = Objective({"hint": Hint()}, {"hint": 1.0}).build(*outputs, train_images=20, seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's own
    assert torch.equal(again.terms["hint"].connector.weight, objective.terms["hint"].connector.weight)
    terms = objective(*outputs, target, index=torch.arange(5))
    keep = target != -100
    kd = create_method("kd").double()(outputs[0].logits[keep], outputs[1].logits[keep], target[keep])
    hint = (
        (objective.terms["hint"].connector(outputs[0].features["2"]) - outputs[1].features["2"])
        .square()
        .mean(1)
    )
    close(terms.parts["hint"], hint[keep].mean())
    close(terms.kd, kd.kd)
    close(terms.total, 0.1 * kd.ce + 3.0 * hint[keep].mean() + 0.9 * kd.kd)
    terms.total.backward()
    assert objective.terms["hint"].connector.weight.grad.abs().sum() > 0
    assert {name for name, _ in objective.named_buffers()} == {"terms.hint.memory"}


def test_a_parameter_among_the_features_has_no_rows_to_leave_out():
    class Weight(Term):
        taps = adakd.Taps(("3:weight", "2"), ())

        def forward(self, student, teacher, batch):
            weight = student.features["3:weight"]  # as many classes as images
            return (student.features["2"] @ weight.T).square().mean(1)

    student, teacher, images, target = networks()
    outputs = adakd.Tapped(student, Weight.taps.student)(images)
    terms = Objective({"weight": Weight()}, {"weight": 1.0})(outputs, teacher(images), target)
    expected = (outputs.features["2"][target != -100] @ student[3].weight.T).square().mean()
    close(terms.parts["weight"], expected)


@pytest.mark.parametrize("name", ["at", "catkd", "fitnet", "rkd"])
def test_on_an_accelerator_features_of_ignored_rows_reach_no_gradient(name, monkeypatch):
    """NaN in them, too. What compares rows takes them out, wherever it runs."""
    generator = torch.Generator().manual_seed(0)

    def outputs(wild=False):
        generator.manual_seed(0)
        names = dict.fromkeys(name for taps in made(name).taps for name in taps)
        found = {}
        for tap in names:
            if tap.endswith(":weight"):
                found[tap] = torch.randn(CLASSES, 6, generator=generator, dtype=torch.float64)
                continue
            size = () if tap == "pooled" else (4, 4)
            x = torch.randn(5, 6, *size, generator=generator, dtype=torch.float64)
            if wild:
                x[2] = torch.nan
            found[tap] = x.requires_grad_()
        logits = torch.randn(5, CLASSES, generator=generator, dtype=torch.float64)
        return Signals(logits.requires_grad_(), found)

    target = torch.tensor([0, 1, -100, 3, 4])
    criterion = create_method(name)
    criterion.build(outputs(), outputs(), 8)
    criterion = criterion.double()
    expected = outputs()
    total = criterion(expected, outputs(), target, index=torch.arange(5)).total
    total.backward()
    monkeypatch.setattr("adakd._check.may_read", lambda tensor: False)
    student = outputs(wild=True)
    other = criterion(student, outputs(), target, index=torch.arange(5)).total
    close(other, total)
    other.backward()
    for key, feature in student.features.items():
        if feature.requires_grad:
            close(feature.grad, expected.features[key].grad)


class Broad(adakd.KL):
    """Keeps the axis of the classes."""

    def forward(self, *given):
        return super().forward(*given).unsqueeze(1)


class Whole(adakd.KL):
    """One value for all rows."""

    def forward(self, *given):
        return super().forward(*given).mean()


class Chosen(adakd.TemperatureRule):
    def __init__(self, tau):
        super().__init__()
        self.tau = tau

    def forward(self, student, teacher, target=None, epoch=None):
        return adakd.Temperatures(self.tau, self.tau)


class Column(Term):
    def forward(self, student, teacher, batch):
        return student.logits.square().sum(dim=1, keepdim=True)


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (
            LogitObjective(Broad()),
            r"Broad: expected one value for each of 7 rows, or one for all, got shape \(7, 1\)",
        ),
        (LogitObjective(Broad(), weight=adakd.weight.Confidence()), r"Broad: expected .* got shape \(7, 7\)"),
        (
            LogitObjective(adakd.KL(), Chosen(torch.ones(7))),
            r"Chosen: expected temperatures of shape \(7, 1\), or",
        ),
        (
            LogitObjective(adakd.KL(), Chosen(torch.ones(3, 1))),
            r"Chosen: expected temperatures of shape \(7, 1\), or",
        ),
        (
            LogitObjective(adakd.KL(), Chosen(-torch.ones(7, 1))),
            "Chosen: expected temperatures above 0, got -1 for row 0",
        ),
        (
            Objective({"x": Column()}, {"x": 1.0}),
            r"x: expected one value for each of 7 rows.* got shape \(7, 1\)",
        ),
        (
            Objective({"x": Column()}, {"x": 1.0}, chunk=2),
            r"chunk: expected one value for each of 2 rows from x",
        ),
        (LogitObjective(Whole(), chunk=2), r"chunk: expected one value for each of 2 rows from kd"),
    ],
)
def test_parts_from_outside_give_one_value_a_row(criterion, message):
    """A row as a column would be compared with every other row, and nothing would show it."""
    student, teacher, _ = sequences(shape=(7,), ignored=())
    with pytest.raises(ValueError, match=message):
        criterion(student, teacher, torch.arange(7))


def test_two_views_of_an_image_stay_beside_each_other():
    student, teacher, target = sequences(shape=(8,), ignored=(1, 2))
    with pytest.raises(
        ValueError, match="kd pairs the views of an image by their rows, and rows with the label -100"
    ):
        made("mlkd", views=2)(student, teacher, target)
    assert made("mlkd", views=2)(student, teacher, target.clamp(min=0)).total.isfinite()


def test_slices_ask_again_what_a_part_reads():
    criterion = made("kd", chunk=2)
    criterion.divergence = adakd.DIST()
    with pytest.raises(ValueError, match="chunk: kd needs the whole batch in one call"):
        criterion(*sequences())


def test_a_sum_refuses_what_does_not_add_up():
    term = LogitTerm(adakd.KL())
    with pytest.raises(ValueError, match=r"weights: expected one for each of \['kd'\], got \['dk'\]"):
        Objective({"kd": term}, {"dk": 1.0})
    with pytest.raises(ValueError, match="weight of kd: expected a finite number"):
        Objective({"kd": term}, {"kd": -1.0})
    with pytest.raises(ValueError, match="no term is called hint"):
        Objective({"kd": term}, {"kd": 1.0}, warmup_epochs={"hint": 3})
    with pytest.raises(TypeError, match=r"temperature: expected a TemperatureRule, got 4\.0"):
        LogitTerm(adakd.KL(), 4.0)
    with pytest.raises(TypeError, match="divergence: expected a Divergence, got 'kl'"):
        LogitObjective("kl")


@pytest.mark.parametrize(
    ("terms", "error", "message"),
    [
        (
            {"a": adakd.KL()},
            TypeError,
            r"'a': expected a Term, got KL; adakd\.LogitTerm\(divergence\) makes one",
        ),
        (
            {"a": adakd.Fixed(4.0)},
            TypeError,
            r"expected a Term, got Fixed; terms are subclasses of adakd\.Term",
        ),
        ({"keys": LogitTerm(adakd.KL())}, ValueError, "'keys' cannot be the name of a term"),
        ({"a.b": LogitTerm(adakd.KL())}, ValueError, "'a.b' cannot be the name of a term: .* without a dot"),
        ({"": LogitTerm(adakd.KL())}, ValueError, "'' cannot be the name of a term"),
        ({1: LogitTerm(adakd.KL())}, TypeError, "expected names that are texts, got 1"),
        ([LogitTerm(adakd.KL())], TypeError, "terms: expected a dict with an entry for each term"),
        (LogitTerm(adakd.KL()), TypeError, "terms: expected a dict with an entry for each term"),
    ],
    ids=["divergence", "rule", "keys", "dot", "empty", "number", "list", "bare"],
)
def test_what_is_no_term_by_a_name_is_refused(terms, error, message):
    weights = dict.fromkeys(terms, 1.0) if isinstance(terms, dict) else {"kd": 1.0}
    with pytest.raises(error, match=message):
        Objective(terms, weights)


def test_weights_are_numbers_by_name():
    kd = {"kd": LogitTerm(adakd.KL())}
    with pytest.raises(TypeError, match=r"weights: expected a dict .* got \[1\.0\]"):
        Objective(kd, [1.0])
    with pytest.raises(TypeError, match="weight of kd: expected a finite number of at least 0, got '1'"):
        Objective(kd, {"kd": "1"})
    with pytest.raises(TypeError, match="ce_weight: expected a finite number of at least 0, got None"):
        Objective(kd, {"kd": 1.0}, None)
    with pytest.raises(TypeError, match=r"label_smoothing: expected a number in \[0, 1\), got '0.1'"):
        Objective(kd, {"kd": 1.0}, label_smoothing="0.1")


class Swap(Refinement):
    """Exchanges the teacher's first two classes."""

    def forward(self, student, teacher, batch: Batch):
        order = [1, 0, *range(2, teacher.shape[1])]
        return student, teacher[:, order]


def test_a_refinement_comes_before_everything():
    student, teacher, target = sequences()
    order = [1, 0, *range(2, CLASSES)]
    refined = LogitObjective(adakd.KL(), adakd.MaxLogit(), "population", 0.1, 9.0, refine=Swap()).double()
    plain = LogitObjective(adakd.KL(), adakd.MaxLogit(), "population", 0.1, 9.0).double()
    same(outcome(refined, student, teacher, target), outcome(plain, student, teacher[..., order], target))


def test_the_weight_of_wttm_is_a_part_of_its_own():
    student, teacher, target = sequences()
    row = made("wttm")
    assert [type(part).__name__ for part in row.term.parts] == ["Fixed", "TTM", "PowerSum"]
    inside = LogitObjective(adakd.TTM(weighted=True), adakd.Fixed(5.0)).double()
    same(outcome(row, student, teacher, target), outcome(inside, student, teacher, target))


def test_the_option_that_the_weight_was_counts_once():
    student, teacher, target = sequences()
    same(
        outcome(made("wttm", weighted=True), student, teacher, target),
        outcome(made("wttm"), student, teacher, target),
    )
    without = outcome(made("wttm", weighted=False), student, teacher, target)
    same(without, outcome(made("ttm", tau=5.0, kd_weight=1.0), student, teacher, target))
    inside = outcome(made("ttm", weighted=True, tau=5.0, kd_weight=1.0), student, teacher, target)
    same(inside, outcome(made("wttm"), student, teacher, target))


def test_parameters_saved_before_terms_had_names_are_found():
    criterion = create_method("ctkd")
    criterion.load_state_dict({"temperature.theta": torch.full((1, 1), 0.25)})
    assert criterion.temperature.theta.item() == 0.25
    nested = nn.ModuleDict({"criterion": create_method("ctkd")})
    nested.load_state_dict({"criterion.temperature.theta": torch.full((1, 1), 0.5)})
    assert nested["criterion"].temperature.theta.item() == 0.5


def test_the_parts_of_a_logit_objective_can_be_exchanged():
    criterion = create_method("kd")
    criterion.temperature, criterion.standardize, criterion.kd_weight = adakd.Fixed(2.0), True, 3.0
    expected = LogitObjective(adakd.KL(), adakd.Fixed(2.0), True, 0.1, 3.0)
    student, teacher, target = sequences()
    close(criterion(student, teacher, target).total, expected(student, teacher, target).total)
    assert "Fixed(tau=2)" in repr(criterion)


def test_a_tapped_network_is_the_network():
    student, _, images, _ = networks()
    tapped = adakd.Tapped(student, ("2", "0"))
    signals = tapped(images)
    close(signals.logits, student(images))
    assert list(signals.features) == ["0", "2"]
    assert isinstance(signals, Signals)
    with pytest.raises(ValueError, match="Sequential has no submodule 'layer3'; its top level has 0, 1, 2, 3"):
        adakd.Tapped(student, ("layer3",))
