"""What makes a step fast changes no result, and no step waits for the device."""

import collections
import importlib
import logging

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import adakd
from adakd.data import Views
from adakd.models import seeded_model
from adakd.training import Recipe, choose_precision
from adakd.training.cache import open_cache
from adakd.training.capture import Captured, choose_capture

# What torch 2.13 says of itself when it loads its compiler and looks at logits.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]

CPU = torch.device("cpu")
FP32 = choose_precision("fp32", CPU, 0)
# Operators whose answer Python needs before it can go on: on a GPU each of them stops the host.
WAITING = (
    "aten._local_scalar_dense",
    "aten.nonzero",
    "aten.is_nonzero",
    "aten.equal",
    "aten.masked_select",
    "aten.item",
)


class Waits(TorchDispatchMode):
    """Counts the operators that wait, and the ways in which Python takes a tensor's values."""

    TAKING = ("tolist", "numpy", "cpu", "item", "__bool__", "__float__", "__int__")

    def __init__(self, monkeypatch):
        super().__init__()
        self.seen = []
        for name in self.TAKING:
            monkeypatch.setattr(torch.Tensor, name, self.counted(name, getattr(torch.Tensor, name)))

    def counted(self, name, taking):
        def take(*arguments, **keywords):
            self.seen.append(name)
            return taking(*arguments, **keywords)

        return take

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = str(function).rsplit(".", 1)[0]
        by_mask = name == "aten.index" and any(i is not None and i.dtype is torch.bool for i in arguments[1])
        if name in WAITING or by_mask:
            self.seen.append(str(function))
        return function(*arguments, **(keywords or {}))


@pytest.fixture
def one_thread():
    """A dispatch mode is Python, and a kernel's own threads would call it without the interpreter's leave."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Small(nn.Module):
    """A stride, a shortcut and batch norms: whatever a network has that compiles in its own way, once each."""

    def __init__(self, seed):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first, self.second = (
                nn.Sequential(nn.Conv2d(channels, 8, 3, stride, 1, bias=False), nn.BatchNorm2d(8))
                for channels, stride in ((3, 2), (8, 1))
            )
            self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = self.first(x).relu()
        return self.head((x + self.second(x)).relu().mean((2, 3)))


def run(data, folder, method="kd", epochs=2, batch_size=20, lr=0.05, teacher=None, model=None, **options):
    recipe = Recipe("test", epochs=epochs, batch_size=batch_size, lr=lr)
    model = model or seeded_model("resnet8x0.5", 10, 0)
    teacher = teacher or seeded_model("resnet8x0.5", 10, 1)
    criterion = adakd.create_method(method)
    history, _ = adakd.fit(
        model,
        data,
        recipe,
        criterion,
        seed=0,
        checkpoint=folder / "checkpoint.pt",
        config={},
        precision=FP32,
        teacher=teacher,
        progress=False,
        **options,
    )
    return history


def losses(history):
    return [row["loss"] for row in history]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("method", ["ce", "kd", "zkd+mlt", "dkd+ctkd", "dtkd", "kd+dts", "dist"])
@pytest.mark.usefixtures("one_thread")
def test_no_step_waits_for_the_device(tiny_data, tmp_path, monkeypatch, method, cached):
    """As many waits with 12 steps in an epoch as with 3: those that are left are the epoch's."""
    # On a CPU logits, labels and losses are looked at, to name the rows that are wrong; on a GPU they are not.
    monkeypatch.setattr("adakd._check.may_read", lambda tensor: False)
    monkeypatch.setattr(importlib.import_module("adakd.training.loop"), "SECONDS_BETWEEN_CHECKPOINTS", 1e9)
    teacher = filled_cache(tiny_data, tmp_path) if cached else None
    counted = {}
    for batch_size in (20, 5):
        with monkeypatch.context() as patch, Waits(patch) as waits:
            run(tiny_data, tmp_path / str(batch_size), method, epochs=1, batch_size=batch_size, teacher=teacher)
        counted[batch_size] = collections.Counter(waits.seen)
    assert counted[5] == counted[20]


def filled_cache(data, folder):
    views = Views(data, seed=0)
    cache = open_cache(folder, data, {"model": "resnet8x0.5", "sha256": ""}, FP32, views.count)
    cache.fill(seeded_model("resnet8x0.5", 10, 1).eval(), views, views.visited(1), FP32, progress=False)
    return cache


@pytest.mark.usefixtures("one_thread")
def test_the_count_sees_a_wait(tiny_data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, Waits(patch) as waits:
        run(tiny_data, tmp_path, epochs=1)  # with the CPU's own check of each loss
        waits.seen.clear()
        values = torch.arange(4.0)
        values[values > 1].sum().item()
        values.tolist()
    assert {"aten.index.Tensor", "item", "tolist"} <= set(waits.seen)


@pytest.mark.slow  # it compiles
@pytest.mark.parametrize("method", ["kd", "zkd+mlt", "dkd+ctkd"])
def test_a_captured_step_is_the_eager_one(tiny_data, method):
    """51 steps of training in float64: in fp32 a batch norm alone rounds by more than what could be wrong here."""
    eager, captured, teacher = (Small(seed).double() for seed in (0, 0, 1))
    criterion = adakd.create_method(method).double()
    optimizer = Recipe("test", epochs=1, lr=0.05).optimizer([*eager.parameters(), *criterion.parameters()])
    forward, loss = Captured(captured, CPU, "the network"), Captured(criterion, CPU, "the loss")
    views = Views(tiny_data, seed=0)
    for epoch in range(1, 18):
        for images, labels in views.batches(epoch, 20):
            images = images.double()
            captured.load_state_dict(eager.state_dict())
            taught = teacher(images).detach()
            expected, total = (
                step(images, taught, labels, epoch)
                for step in (
                    lambda *batch: criterion(eager(batch[0]), *batch[1:]).total,
                    lambda *batch: loss(forward(batch[0]), *batch[1:]).total,
                )
            )
            assert total.item() == pytest.approx(expected.item(), rel=1e-12)
            optimizer.zero_grad()
            total.backward()
            rule = [p.grad.clone() for p in criterion.parameters()]
            optimizer.zero_grad()
            expected.backward()
            for mine, theirs in zip(
                [*(p.grad for p in captured.parameters()), *rule],
                [*(p.grad for p in eager.parameters()), *(p.grad for p in criterion.parameters())],
                strict=True,
            ):
                assert (mine - theirs).norm() <= 1e-9 * theirs.norm() + 1e-12
            captured.zero_grad()
            optimizer.step()
    assert not forward.given_up
    assert not loss.given_up


@pytest.mark.slow
@pytest.mark.parametrize("method", ["zkd+mlt", "kd+dts"])
def test_a_captured_run_is_the_eager_one(tiny_data, tmp_path, method):
    """A whole run, with a smaller last batch; fp32 rounds otherwise, so only nearly."""
    eager, captured = (
        losses(run(tiny_data, tmp_path / str(capture), method, 2, 25, 0.001, model=Small(0), capture=capture))
        for capture in (False, True)
    )
    assert captured == pytest.approx(eager, rel=1e-4)


@pytest.mark.slow
def test_a_record_says_whether_it_was_captured(tiny_data, tmp_path):
    small = {"device": "cpu", "precision": "fp32", "progress": False, "epochs": 1, "batch_size": 30}
    for capture in (False, True):
        made = adakd.train_teacher(Small(0), tiny_data, out=tmp_path / str(capture), capture=capture, **small)
        assert [session["captured"] for session in made.record["sessions"]] == [capture]


@pytest.mark.skipif(torch.__version__.startswith("2.4."), reason="torch 2.4 makes several graphs of a loss")
def test_a_new_epoch_compiles_no_loss_anew():
    compiles = []
    criterion = adakd.create_method("dkd+ctkd")  # with a warm-up and a curriculum over epochs
    loss = Captured(criterion, CPU, "the loss")
    loss.compiled = torch.compile(criterion, backend=lambda graph, inputs: compiles.append(1) or graph)
    logits = torch.randn(20, 10, generator=torch.Generator().manual_seed(0))
    seen = []
    for epoch in range(1, 31):
        loss(logits.clone().requires_grad_(), logits.flip(0), torch.zeros(20, dtype=torch.long), epoch=epoch)
        seen.append(len(compiles))
    assert seen[-1] <= 6, seen
    assert seen[-1] == seen[12]


def test_a_step_that_cannot_be_compiled_runs_anyway_and_says_why(caplog):
    def no_compiler(x):
        raise RuntimeError("no compiler for this machine")

    captured = Captured(lambda x: 2 * x, CPU, "the loss")
    captured.compiled = no_compiler
    with caplog.at_level(logging.WARNING, logger="adakd"):
        assert captured(torch.ones(2)).tolist() == [2, 2]
        assert captured(torch.ones(2)).tolist() == [2, 2]
    assert caplog.text.count("the loss could not be compiled (RuntimeError: no compiler for this machine)") == 1


def test_a_function_that_has_worked_raises_its_own_errors():
    def checked(x):
        if x.shape[0] == 3:
            raise ValueError("three rows")
        return x + 1

    captured = Captured(checked, CPU, "the loss")
    for _ in range(3):
        assert captured(torch.zeros(2)).tolist() == [1, 1]
    with pytest.raises(ValueError, match="three rows"):
        captured(torch.zeros(3))


def test_capture_is_for_a_gpu_unless_asked_for():
    assert choose_capture(None, torch.device("cuda"))[0]
    assert not choose_capture(None, CPU)[0]
    assert choose_capture(True, CPU) == (True, "as given")
    assert not choose_capture(False, torch.device("cuda"))[0]
