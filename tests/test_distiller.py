"""Distillation in other people's loops: a bare one, Lightning's, the Hugging Face Trainer's; the real packages."""

import collections
import copy

import pytest
import torch
from torch import nn

import adakd
from adakd.teachers.find import _frozen_copy
from adakd.training.trainer import evaluating


def network(hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(8, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 5))


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return network(8), network(32)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 8, generator=generator), torch.randint(5, (16,), generator=generator)


def frozen_copy(module: nn.Module) -> dict:
    return {name: value.clone() for name, value in module.state_dict().items()}


def unchanged(module: nn.Module, before: dict) -> bool:
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_loss_is_the_objective_on_the_two_networks_logits(pair, batch):
    student, teacher = pair
    distiller = adakd.Distiller(student, teacher, "zkd+mlt", kd_weight=3.0).eval()
    expected = adakd.create_method("zkd+mlt", kd_weight=3.0)(student(batch[0]), teacher(batch[0]), batch[1])
    torch.testing.assert_close(distiller(*batch).total, expected.total)


def test_teacher_is_neither_trained_nor_saved_nor_moved_into_training_mode(pair, batch):
    student, teacher = pair
    distiller = adakd.Distiller(student, teacher, "ctkd").train()
    before = frozen_copy(teacher)
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
    for epoch in (1, 2, 3):
        distiller.epoch = epoch
        optimizer.zero_grad()
        distiller(*batch).total.backward()
        optimizer.step()
    assert unchanged(teacher, before)
    assert not teacher.training
    assert {name.split(".")[0] for name in distiller.state_dict()} == {"student", "criterion"}
    learned = [name for name, _ in distiller.named_parameters() if name.startswith("criterion")]
    assert learned == ["criterion.terms.kd.temperature.theta"]


def test_teacher_moves_along(pair):
    distiller = adakd.Distiller(*pair, "kd").to(torch.float64)
    assert {p.dtype for p in distiller.teacher.parameters()} == {torch.float64}


def test_the_epoch_reaches_the_method(pair, batch):
    distiller = adakd.Distiller(*pair, "dkd").eval()
    after = distiller(*batch)
    distiller.epoch = 1
    early = distiller(*batch)
    torch.testing.assert_close(after.total - after.ce, 20 * (early.total - early.ce))


def test_a_schedule_that_nobody_drives_is_said(pair, batch):
    for method in ("dkd", "ctkd", "dts"):
        with pytest.warns(UserWarning, match="set distiller.epoch"):
            adakd.Distiller(*pair, method)(*batch)


def test_data_parallel_is_refused(pair):
    with pytest.raises(RuntimeError, match="torchrun"):
        adakd.Distiller(*pair, "kd")._replicate_for_data_parallel()


@pytest.mark.parametrize("method", ["mlkd", "zmlkd", "zkd+mlt", "dist"])
def test_autocast_around_the_loss_changes_nothing(method):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(16, 10, generator=generator) for _ in range(2))
    target = torch.arange(16) % 10
    gradients = []
    for enabled in (False, True):
        leaf = student.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            total = adakd.create_method(method)(leaf, teacher, target).total
        total.backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)


def test_outputs_that_carry_logits(batch):
    class Output:
        def __init__(self, logits):
            self.logits = logits

    class Wrapped(nn.Module):
        def __init__(self, wrap):
            super().__init__()
            self.net, self.wrap = nn.Linear(8, 5), wrap

        def forward(self, x):
            return self.wrap(self.net(x))

    torch.manual_seed(0)
    teacher = nn.Linear(8, 5)
    losses = []
    for wrap in (lambda x: x, Output, lambda x: {"logits": x}, lambda x: (x, "features")):
        torch.manual_seed(2)
        losses.append(adakd.Distiller(Wrapped(wrap), teacher, "kd")(*batch).total)
    assert len({loss.item() for loss in losses}) == 1
    with pytest.raises(TypeError, match="got str"):
        adakd.Distiller(Wrapped(str), teacher, "kd")(*batch)


def test_an_objective_of_ones_own(pair, batch):
    criterion = adakd.LogitObjective(adakd.TTM(), adakd.Fixed(5))
    assert adakd.Distiller(*pair, criterion)(*batch).kd > 0
    with pytest.raises(ValueError, match="overrides"):
        adakd.Distiller(*pair, criterion, kd_weight=2.0)


@pytest.mark.filterwarnings("ignore")  # theirs, not ours
def test_lightning(pair, batch, tmp_path):
    lightning = pytest.importorskip("lightning", reason="pip install lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.distiller = adakd.Distiller(*pair, "zkd+mlt")

        def training_step(self, batch, index):
            self.distiller.epoch = self.current_epoch + 1
            return self.distiller(*batch).total

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    student, teacher = pair
    before, taught = frozen_copy(teacher), frozen_copy(student)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*batch), batch_size=8)
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(Module(), data)
    assert unchanged(teacher, before)
    assert not unchanged(student, taught)


@pytest.mark.filterwarnings("ignore")  # theirs, not ours
def test_hugging_face_trainer(pair, batch, tmp_path):
    transformers = pytest.importorskip("transformers", reason="pip install transformers accelerate")
    pytest.importorskip("accelerate", reason="pip install transformers accelerate")
    if not transformers.is_torch_available():
        pytest.skip("this transformers wants a newer torch")

    class Model(nn.Module):  # inputs by name, as Hugging Face models take them
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, features):
            return {"logits": self.net(features)}

    student, teacher = map(Model, pair)
    before, taught = frozen_copy(teacher), frozen_copy(student)
    model = adakd.TrainerDistiller(student, teacher, "zkd+mlt")
    rows = [{"features": x, "labels": y} for x, y in zip(*batch, strict=True)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=4,
        per_device_train_batch_size=8,
        remove_unused_columns=False,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    assert unchanged(teacher, before)
    assert not unchanged(student, taught)
    assert trainer.evaluate()["eval_loss"] > 0
    assert trainer.predict(rows).predictions.shape == (16, 5)


# ---- networks that are not two, and outputs that are not one ----


def test_one_network_twice_is_refused_and_stays_as_it_was():
    net = network(8).train()
    with pytest.raises(ValueError, match=r"the same object twice.*copy\.deepcopy"):
        adakd.Distiller(net, net)
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    adakd.Distiller(net, copy.deepcopy(net), "kd")
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("shared", ["backbone", "buffer", "tied"])
def test_networks_that_share_are_refused(shared):
    student, teacher = network(8), network(8)
    if shared == "backbone":
        student[0] = teacher[0]
    elif shared == "buffer":
        student[1].running_mean = teacher[1].running_mean
    else:  # another parameter over the same memory
        student[0].weight = nn.Parameter(teacher[0].weight.data)
    name = {"backbone": "0.weight", "buffer": "1.running_mean", "tied": "0.weight"}[shared]
    with pytest.raises(ValueError, match=rf"they share '{name}'.*copy\.deepcopy"):
        adakd.Distiller(student, teacher)
    assert all(p.requires_grad for p in student.parameters())


def test_crosswise_distillers_are_refused(pair, batch):
    first, second = pair
    one = adakd.Distiller(first, second, "kd")
    with pytest.raises(
        ValueError, match=r"all frozen, as those of another Distiller's teacher.*copy\.deepcopy"
    ):
        adakd.Distiller(second, first, "kd")
    assert one(*batch).total.requires_grad
    adakd.Distiller(network(4), first, "kd")
    with pytest.raises(RuntimeError, match=r"frozen since.*copy\.deepcopy"):
        one(*batch)
    one.eval()(*batch)  # to measure, it may be frozen


class Several(nn.Module):
    """Features beside logits, of as many columns."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 5), nn.Linear(5, 5)

    def forward(self, x):
        features = self.body(x)
        return features, self.head(features)


def test_features_are_not_taken_for_logits(batch):
    torch.manual_seed(0)
    student, teacher = Several(), Several()
    with pytest.raises(ValueError, match=r"several tensors .*0: \(16, 5\), 1: \(16, 5\).*logits=1"):
        adakd.Distiller(student, teacher, "kd")(*batch)
    expected = adakd.create_method("kd")(student(batch[0])[1], teacher(batch[0])[1], batch[1]).total
    for logits in (1, -1, (1, 1), lambda output: output[1]):
        assert adakd.Distiller(student, copy.deepcopy(teacher), "kd", logits=logits)(*batch).total == expected
    plain = nn.Sequential(nn.Linear(8, 5))
    assert adakd.Distiller(student, plain, "kd", logits=(1, None))(*batch).total.isfinite()


@pytest.mark.parametrize("logits", [2, "scores"])
def test_a_part_that_is_not_there_is_said(batch, logits):
    with pytest.raises(ValueError, match=rf"logits={logits!r}: there is no such part .* tuple"):
        adakd.Distiller(Several(), Several(), "kd", logits=logits)(*batch)


def test_a_part_that_is_no_tensor_is_said(batch):
    with pytest.raises(TypeError, match="expected a tensor there, got tuple"):
        adakd.Distiller(Several(), Several(), "kd", logits=lambda output: output)(*batch)


def test_feature_maps_beside_logits_are_no_question(batch):
    class Maps(nn.Linear):
        def forward(self, x):
            return x[:, :, None, None], super().forward(x)

    assert adakd.Distiller(Maps(8, 5), Maps(8, 5), "kd")(*batch).total.isfinite()


def test_a_trainer_that_takes_the_labels_is_refused(pair, batch):
    class Named(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, features):
            return self.net(features)

    model = adakd.TrainerDistiller(*map(Named, pair), "kd")
    with pytest.raises(ValueError, match=r"labels: expected them while training.*label_smoothing_factor"):
        model(features=batch[0])
    assert set(model.eval()(features=batch[0])) == {"logits"}


@pytest.mark.parametrize("logits", [(), (0,), (0, 1, 2), [0], 1.5, (None, 1.5), torch.ones(2)], ids=str)
def test_what_is_no_place_of_logits(pair, logits):
    with pytest.raises(TypeError, match=r"logits: expected an index, a key or an attribute, .*a pair .*, got"):
        adakd.Distiller(*pair, "kd", logits=logits)


@pytest.mark.parametrize("shift", ["x", 1, 0.0], ids=str)
def test_what_is_no_shift(pair, shift):
    with pytest.raises(TypeError, match="shift: expected True, False or None, got"):
        adakd.TrainerDistiller(*pair, "kd", shift=shift)


def test_labels_and_their_number_are_known_for_what_they_are(pair, batch):
    model = adakd.TrainerDistiller(*pair, "kd")
    with pytest.raises(TypeError, match=r"labels: expected labels or probabilities, got list; convert them"):
        model(labels=[1], input=batch[0])
    for number in ("x", [3], torch.ones(2)):
        with pytest.raises(
            TypeError, match="num_items_in_batch: expected the number of labels in the step, got"
        ):
            model(labels=batch[1], input=batch[0], num_items_in_batch=number)
    assert model(labels=batch[1], input=batch[0], num_items_in_batch=32.0)["loss"] > 0


@pytest.mark.filterwarnings("ignore")  # that TorchScript is old
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("made", ["scripted", "traced", "exported"])
def test_a_teacher_that_is_a_program(batch, made, several):
    """Of TorchScript, which knows no requires_grad_, and of torch.export, which knows no eval."""
    x, y = batch
    net = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 5)).eval()
    if made == "exported":
        program = torch.export.export(net, (x,)).module()
    else:
        program = torch.jit.script(net) if made == "scripted" else torch.jit.trace(net, x)
    teacher = [program, nn.Sequential(nn.Dropout(0.9), nn.Linear(8, 5))] if several else program
    distiller = adakd.Distiller(nn.Linear(8, 5), teacher, "kd")
    assert not any(parameter.requires_grad for parameter in distiller.teacher.parameters())
    if several:
        assert not teacher[1][0].training  # what comes after the program is in evaluation mode too
    first, again = (distiller(x, y) for _ in range(2))
    assert first.total == again.total
    first.total.backward()
    if not several:
        torch.testing.assert_close(distiller.logits(x)[1], net(x))
        copied = _frozen_copy(program, made, in_fp32=True)  # as runs teach with it
        assert not any(parameter.requires_grad for parameter in copied.parameters())
        with evaluating(copied):
            torch.testing.assert_close(copied(x), net(x))


# ---- inputs, targets, features, several teachers ----


class TwoInputs(nn.Module):
    """Two inputs, by position or by name."""

    def __init__(self, hidden):
        super().__init__()
        self.body, self.head = nn.Linear(8, hidden), nn.Linear(hidden, 5)

    def forward(self, x, scale=None):
        return self.head(self.body(x).tanh()) * (1 if scale is None else scale)


@pytest.fixture
def wide_pair():
    torch.manual_seed(0)
    return TwoInputs(8), TwoInputs(32)


def test_inputs_by_position_and_by_name(wide_pair, batch):
    student, teacher = wide_pair
    x, y = batch
    scale = torch.linspace(0.5, 2, 16)[:, None]
    expected = adakd.create_method("zkd+mlt")(student(x, scale), teacher(x, scale), y).total
    distiller = adakd.Distiller(student, teacher, "zkd+mlt")
    encoding = collections.UserDict(scale=scale, x=x)  # as a tokenizer's output is
    for inputs in ((x, scale), {"scale": scale, "x": x}, encoding):
        assert distiller(inputs, y).total == expected
    assert distiller(x, y).total == distiller((x,), y).total != expected


def test_a_tuple_that_is_one_argument(batch):
    class Pair(nn.Linear):
        def forward(self, pair):
            return super().forward(pair[0]) + pair[1]

    x, y = batch
    distiller = adakd.Distiller(Pair(8, 5), Pair(8, 5), "kd")
    assert distiller(((x, torch.zeros(5)),), y).total.isfinite()
    Named = collections.namedtuple("Named", "x shift")  # torch's PackedSequence is such a one
    assert distiller(Named(x, torch.zeros(5)), y).total.isfinite()


def test_mixed_labels(pair, batch):
    student, teacher = pair
    x, y = batch
    distiller = adakd.Distiller(student, teacher, "zkd+mlt").eval()
    share = torch.linspace(0.1, 0.9, 16)[:, None]
    mixed = share * x + (1 - share) * x.flip(0)
    hot = nn.functional.one_hot(y, 5).float()
    target = share * hot + (1 - share) * hot.flip(0)
    terms = distiller(mixed, target)
    log_q = student(mixed).log_softmax(-1)
    torch.testing.assert_close(terms.ce, -(target * log_q).sum(-1).mean())
    with pytest.raises(ValueError, match="needs one class label a row, got probabilities"):
        adakd.Distiller(student, teacher, "dkd").eval()(mixed, target)


def test_unlabelled_images(pair, batch):
    student, teacher = pair
    distiller = adakd.Distiller(student, teacher, "zkd+mlt", ce_weight=0)
    without, with_labels = distiller(batch[0]).total, distiller(*batch).total
    torch.testing.assert_close(without, with_labels)  # one in closed form, one by autograd
    assert without > 0
    with pytest.raises(ValueError, match="target: got None, but the cross entropy has a weight"):
        adakd.Distiller(student, teacher, "zkd+mlt")(batch[0])
    with pytest.raises(ValueError, match="target: got None, but a term reads the labels"):
        adakd.Distiller(student, teacher, "dkd", ce_weight=0).eval()(batch[0])


class Hidden(nn.Module):
    """Returns what is before its logits, too, as networks for sequences do."""

    def __init__(self, width):
        super().__init__()
        self.body, self.head = nn.Linear(6, width), nn.Linear(width, 5)

    def forward(self, x):
        hidden = self.body(x)
        return hidden, self.head(hidden)


def test_of_several_sequences_none_is_taken_for_logits():
    x, y = torch.randn(2, 4, 6), torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"\(batch, length, ·\), at 0: \(2, 4, 7\), 1: \(2, 4, 5\).*logits=1"):
        adakd.Distiller(Hidden(3), Hidden(7), "kd").eval()(x, y)
    distiller = adakd.Distiller(Hidden(3), Hidden(7), "kd", logits=1).eval()
    distiller(x, y).total.backward()
    assert distiller.student.head.weight.grad.abs().sum() > 0


def test_soft_labels_are_shifted_as_labels_are():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 5)

        def forward(self, input_ids):
            return {"logits": self.table(input_ids)}

    torch.manual_seed(0)
    ids = torch.randint(5, (3, 6))
    distiller = adakd.TrainerDistiller(Reader(), Reader(), "kd", shift=True).eval()
    hard, soft = (
        distiller(input_ids=ids, labels=labels)["loss"]
        for labels in (ids, nn.functional.one_hot(ids, 5).float())
    )
    torch.testing.assert_close(soft, hard)
    # Of two such parts, as the Trainer counts them.
    count = 2 * nn.functional.one_hot(ids, 5).float()[..., 1:].ne(-100).sum()
    share = distiller(input_ids=ids, labels=nn.functional.one_hot(ids, 5).float(), num_items_in_batch=count)
    torch.testing.assert_close(share["loss"], soft / 2)


@pytest.mark.parametrize("ignored", [-100, 255])
def test_rows_without_a_label_are_left_out(pair, batch, ignored):
    x, y = batch[0], batch[1].clone()
    y[::3] = ignored
    distiller = adakd.Distiller(*pair, "zkd+mlt").eval()
    keep = y != ignored
    expected = distiller(x[keep], y[keep]).total
    torch.testing.assert_close(distiller(x, y, ignore_index=ignored).total, expected)


def test_without_a_teacher_where_none_is_needed(pair, batch):
    distiller = adakd.Distiller(pair[0], None, "ce").double()
    assert distiller.teacher is None
    assert distiller(batch[0].double(), batch[1]).total.isfinite()
    with pytest.raises(
        TypeError, match=r"teacher: expected a torch\.nn\.Module, or a sequence of several, got NoneType"
    ):
        adakd.Distiller(pair[0], None, "kd")


def test_what_is_no_network_and_no_method_is_said(pair):
    student, teacher = pair
    with pytest.raises(TypeError, match=r"student: expected a torch\.nn\.Module, got str"):
        adakd.Distiller("resnet8", teacher)
    with pytest.raises(
        TypeError, match=r"teacher: expected a torch\.nn\.Module, or a sequence of several, got str"
    ):
        adakd.Distiller(student, "resnet8")
    with pytest.raises(TypeError, match=r"teachers: expected torch.nn.Module or a finished Run, got int at 1"):
        adakd.Distiller(student, [teacher, 3])
    with pytest.raises(ValueError, match="teachers: expected at least one network"):
        adakd.Distiller(student, [])
    with pytest.raises(TypeError, match=r"method: expected a name .* got KL\(.*LogitObjective\(divergence\)"):
        adakd.Distiller(student, teacher, adakd.KL())


# ---- several teachers ----


@pytest.mark.parametrize("kind", [list, tuple, nn.ModuleList])
def test_several_teachers_answer_with_the_mean_of_their_probabilities(batch, kind):
    torch.manual_seed(0)
    student, *teachers = network(8), network(16), network(32), network(4)
    distiller = adakd.Distiller(student, kind(teachers), "kd").double()
    x = batch[0].double()
    mean = sum(teacher(x).softmax(-1) for teacher in teachers) / 3
    torch.testing.assert_close(distiller.teacher(x).softmax(-1), mean, rtol=1e-12, atol=1e-12)
    expected = adakd.create_method("kd")(distiller.eval().student(x), mean.log(), batch[1]).total
    torch.testing.assert_close(distiller(x, batch[1]).total, expected, rtol=1e-12, atol=1e-12)
    assert not any(p.requires_grad for teacher in teachers for p in teacher.parameters())
    assert {name.split(".")[0] for name in distiller.state_dict()} == {"student"}


def test_the_mean_of_logits_is_the_other_one(batch):
    torch.manual_seed(0)
    teachers = [network(16).eval(), network(32).eval()]
    both = [adakd.Ensemble(teachers, mean=mean)(batch[0]) for mean in ("probabilities", "logits")]
    torch.testing.assert_close(both[1], (teachers[0](batch[0]) + teachers[1](batch[0])) / 2)
    assert not torch.allclose(*(x.softmax(-1) for x in both), atol=1e-3)
    with pytest.raises(ValueError, match="mean: expected 'probabilities' or 'logits', got 'geometric'"):
        adakd.Ensemble(teachers, mean="geometric")


def test_teachers_of_half_precision_far_apart_and_of_other_classes():
    far = [nn.Identity(), nn.Flatten()]
    logits = torch.tensor([[300.0, 0.0, -300.0]])
    mean = adakd.Ensemble(far)(logits)
    assert mean.isfinite().all()  # probabilities themselves would be 0, and their logarithm not finite
    torch.testing.assert_close(mean, logits.log_softmax(-1))
    assert adakd.Ensemble(far)(logits.bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"logits of one shape, got \(2, 5\) and \(2, 3\) from teacher 1"):
        adakd.Ensemble([nn.Linear(8, 5), nn.Linear(8, 3)])(torch.zeros(2, 8))


def test_a_student_among_its_teachers_is_refused(pair):
    with pytest.raises(ValueError, match=r"the same object twice.*copy\.deepcopy"):
        adakd.Distiller(pair[0], [pair[1], pair[0]])
    assert all(p.requires_grad for net in pair for p in net.parameters())


def test_several_teachers_with_features_beside_their_logits(batch):
    torch.manual_seed(0)
    teachers = [Several(), Several()]
    distiller = adakd.Distiller(network(8).eval(), teachers, "kd", logits=(None, 1))
    mean = sum(teacher(batch[0])[1].softmax(-1) for teacher in teachers) / 2
    torch.testing.assert_close(distiller.teacher(batch[0]).exp(), mean)
    assert distiller(*batch).total.isfinite()


# ---- features: taps, connectors, memories ----


class Hint(adakd.Term):
    """Mean square distance of features, through a connector; and how often each image was seen."""

    taps = adakd.Taps(("body",), ("body",))

    def build(self, student, teacher, train_images):
        inner, outer = (x.features["body"].shape[1] for x in (student, teacher))
        self.connector = nn.Linear(inner, outer)
        self.register_buffer("seen", torch.zeros(train_images))

    def forward(self, student, teacher, batch):
        if batch.index is not None:
            self.seen[batch.index] += 1
        return (self.connector(student.features["body"]) - teacher.features["body"]).square().mean(1)


def hinted():
    return adakd.Objective({"hint": Hint(), "kd": adakd.LogitTerm(adakd.KL())}, {"hint": 2.0, "kd": 0.5})


def test_connectors_leave_the_random_state_of_cuda(wide_pair, batch, monkeypatch):
    seeded = []
    for name in ("manual_seed", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, seeded.append)
    adakd.Distiller(*wide_pair, hinted()).double().build(batch[0][:2].double(), 40)
    assert seeded == []


def test_connectors_are_parameters_of_the_distiller(wide_pair, batch):
    student, teacher = wide_pair
    student.train()
    state = torch.get_rng_state()
    distiller = adakd.Distiller(student, teacher, hinted()).double().build(batch[0][:2].double(), 40)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in student.modules())
    assert distiller.criterion.terms["hint"].connector.weight.dtype == torch.float64
    named = dict(distiller.named_parameters())
    assert named["criterion.terms.hint.connector.weight"].shape == (32, 8)
    x, y = batch[0].double(), batch[1]
    index = torch.arange(16) + 10
    terms = distiller(x, y, index=index)
    s, t = student.body(x), teacher.body(x)
    connector = distiller.criterion.terms["hint"].connector
    torch.testing.assert_close(terms.parts["hint"], (connector(s) - t).square().mean())
    plain = adakd.LogitObjective(adakd.KL(), kd_weight=0.5)(student(x), teacher(x), y).total
    torch.testing.assert_close(terms.total, plain + 2 * terms.parts["hint"])
    terms.total.backward()
    assert all(p.grad is not None for p in distiller.parameters())
    assert not any(p.grad is not None for p in teacher.parameters())
    assert torch.equal(distiller.criterion.terms["hint"].seen, torch.zeros(40).index_fill(0, index, 1).double())
    other = (
        adakd.Distiller(*(TwoInputs(n) for n in (8, 32)), hinted()).double().build(batch[0][:2].double(), 40)
    )
    other.load_state_dict(distiller.state_dict())


def test_connectors_are_asked_for_before_the_first_step(wide_pair, batch):
    distiller = adakd.Distiller(*wide_pair, hinted())
    with pytest.raises(
        RuntimeError, match=r"call distiller\.build\(example, train_images\) before the optimizer"
    ):
        distiller(*batch)
    distiller.build({"x": batch[0][:2]})
    assert distiller({"x": batch[0]}, batch[1]).total.isfinite()


def test_connectors_are_made_once(wide_pair, batch):
    """Others in their place would be none of the optimizer's that was made in between."""
    distiller = adakd.Distiller(*wide_pair, hinted()).build(batch[0][:2])
    connector = distiller.criterion.terms["hint"].connector
    with pytest.raises(RuntimeError, match="build: this method's connectors and memories are made already"):
        distiller.build(batch[0][:2])
    assert distiller.criterion.terms["hint"].connector is connector
    plain = adakd.Distiller(*wide_pair, "kd")
    plain.build(batch[0][:2]).build(batch[0][:2])  # has none


def test_the_same_seed_makes_the_same_connectors(batch):
    made = [
        adakd.Distiller(TwoInputs(8), TwoInputs(32), hinted()).build(batch[0][:2], seed=seed)
        for seed in (1, 1, 2)
    ]
    first, second, third = (d.criterion.terms["hint"].connector.weight for d in made)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_a_feature_that_is_not_there_is_said_and_freezes_nobody(pair):
    with pytest.raises(ValueError, match="Sequential has no submodule 'body'; its top level has 0, 1, 2, 3"):
        adakd.Distiller(*pair, hinted())
    assert all(p.requires_grad for net in pair for p in net.parameters())


def test_a_copy_hears_its_own_features(wide_pair, batch):
    distiller = adakd.Distiller(*wide_pair, hinted()).build(batch[0][:2])
    before = distiller(*batch).total
    copied = copy.deepcopy(distiller)
    with torch.no_grad():
        for parameter in copied.student.parameters():
            parameter.add_(0.1)
    assert copied(*batch).total != before
    assert distiller(*batch).total == before


def test_another_student_in_its_place_is_heard(wide_pair, batch):
    distiller = adakd.Distiller(*wide_pair, hinted()).build(batch[0][:2])
    torch.manual_seed(7)
    distiller.student = TwoInputs(8)
    expected = adakd.Distiller(copy.deepcopy(distiller.student), wide_pair[1], distiller.criterion)(
        *batch
    ).total
    assert distiller(*batch).total == expected


def test_several_teachers_are_tapped_by_their_numbers(wide_pair, batch):
    class FirstHint(Hint):
        taps = adakd.Taps(("body",), ("teachers.0.body",))

        def build(self, student, teacher, train_images):
            features = {"body": teacher.features["teachers.0.body"]}
            super().build(student, teacher._replace(features=features), train_images)

        def forward(self, student, teacher, batch):
            return super().forward(
                student, teacher._replace(features={"body": teacher.features["teachers.0.body"]}), batch
            )

    objective = adakd.Objective({"hint": FirstHint()}, {"hint": 1.0})
    student, teacher = wide_pair
    distiller = adakd.Distiller(student, [teacher, TwoInputs(16)], objective).build(batch[0][:2])
    connector = distiller.criterion.terms["hint"].connector
    expected = (connector(student.body(batch[0])) - teacher.body(batch[0])).square().mean()
    torch.testing.assert_close(distiller(*batch).parts["hint"], expected)


def test_what_is_deployed_is_the_student_or_what_a_term_makes_of_it(wide_pair):
    distiller = adakd.Distiller(*wide_pair, "kd")
    assert distiller.deploy() is wide_pair[0]


@pytest.mark.parametrize("method", ["kd", "zkd+mlt", "zdkd+dtkd", "kd+mlt-teacher"])
def test_parts_of_a_batch_add_up_where_rows_are_independent(wide_pair, batch, method):
    distiller = adakd.Distiller(*wide_pair, method).double().eval()
    assert not distiller.criterion.reads_batch
    x, y = batch[0].double(), batch[1]
    whole = distiller(x, y).total
    parts = sum(len(rows) / 16 * distiller(x[rows], y[rows]).total for rows in torch.arange(16).split(6))
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


def test_neither_is_a_kind_of_the_other():
    """What is implemented is not overridden: `forward` has one meaning a class."""
    assert not issubclass(adakd.TrainerDistiller, adakd.Distiller)
    assert not issubclass(adakd.Distiller, adakd.TrainerDistiller)
