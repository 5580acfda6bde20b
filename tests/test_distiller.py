"""Distillation in other people's loops: a bare one, Lightning's, the Hugging Face Trainer's; the real packages."""

import copy

import pytest
import torch
from torch import nn

import adakd


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
