"""Two processes that train one student: what equals one process on the whole batch, and what is consistent though it does not."""

import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ddp import (
    CLASSES,
    NAMES,
    STEPS,
    WORLD,
    batch_of,
    buffers_of,
    distiller_of,
    optimizer_of,
    options_of,
    train_language,
)
from torch.nn.parallel import DistributedDataParallel

import adakd

METHODS = [name for name in NAMES if name != "ce"]
STATEFUL = [n for n in METHODS if any(t.keeps_state for t in distiller_of(n).criterion.terms.values())]
READS_BATCH = [n for n in METHODS if distiller_of(n).criterion.reads_batch]
BY_ROWS = [n for n in METHODS if n not in STATEFUL and n not in READS_BATCH]
LEARNED = [n for n in METHODS if list(distiller_of(n).criterion.parameters())]


def two_processes(folder, what):
    """What each of two processes of tests/ddp.py found, by rank."""
    script = Path(__file__).with_name("ddp.py")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meeting = {
        "WORLD_SIZE": str(WORLD),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    running = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder), what],
            env={**os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(WORLD)
    ]
    try:
        written = [process.communicate(timeout=300)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * WORLD, "\n".join(written)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    return two_processes(tmp_path_factory.mktemp("ddp"), "methods")


def alone(name, parts):
    """One process, whose loss is the mean over so many parts of the batch."""
    distiller = distiller_of(name)
    optimizer = optimizer_of(distiller)
    for step in range(STEPS):
        distiller.epoch = step + 1
        optimizer.zero_grad()
        pieces = zip(*(part.chunk(parts) for part in batch_of(step)), strict=True)
        sum(distiller(x, y).total / parts for x, y in pieces).backward()
        optimizer.step()
    return distiller


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_kinds_are_there():
    assert len(BY_ROWS) >= 10
    assert {"ctkd", "kd+ctkd-instance", "hint+kd"} <= set(LEARNED)
    assert {"dts", "meta", "itkd"} <= set(STATEFUL)
    assert {"dist", "mlkd"} <= set(READS_BATCH)


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_ROWS)
def test_rows_train_as_in_one_process_on_the_whole_batch(processes, name):
    expected = dict(alone(name, parts=1).named_parameters())
    for found in processes:
        for key, value in found[name]["parameters"].items():
            close(value, expected[key].detach())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ctkd", "zctkd", "dkd+ctkd", "ctkd in slices"])
def test_a_learned_temperature_is_the_same_on_all(processes, name):
    first, second = (torch.cat(found[name]["taus"]) for found in processes)
    assert torch.equal(first, second)
    assert len(first.unique()) == STEPS  # it moves


@pytest.mark.slow
@pytest.mark.parametrize("name", READS_BATCH)
def test_batch_statistics_are_those_of_each_process(processes, name):
    expected = dict(alone(name, parts=WORLD).named_parameters())
    whole = dict(alone(name, parts=1).named_parameters())
    for found in processes:
        for key, value in found[name]["parameters"].items():
            close(value, expected[key].detach())
    assert any(not torch.allclose(expected[key], whole[key], rtol=1e-9) for key in whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", STATEFUL)
def test_a_state_is_that_of_rank_0_on_all(processes, name):
    first, second = (found[name] for found in processes)
    for step in range(STEPS):
        for key, value in first["used"][step].items():
            assert torch.equal(value, second["used"][step][key]), (step, key)
            if step:
                assert torch.equal(value, first["moved"][step - 1][key])
    start = buffers_of(distiller_of(name))
    assert any(not torch.equal(first["moved"][-1][key], value) for key, value in start.items())
    for key, value in first["parameters"].items():
        assert torch.equal(value, second["parameters"][key])


@pytest.mark.slow
def test_the_teacher_is_no_part_of_it(processes):
    for found in processes:
        names = found["hint+kd"]["given to the processes"]
        assert {name.split(".")[1] for name in names} == {"student", "criterion"}
        untouched = distiller_of("hint+kd").teacher.state_dict()
        for key, value in found["hint+kd"]["teacher"].items():
            assert torch.equal(value, untouched[key])


@pytest.mark.slow
def test_a_process_without_a_label_keeps_the_others_company(processes):
    first, second = (found["nothing on rank 1"]["parameters"] for found in processes)
    for key, value in first.items():
        assert value.isfinite().all()
        assert torch.equal(value, second[key])


@pytest.fixture
def one_process():
    """A group of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["dts", "meta", "itkd"])
def test_states_that_would_drift_apart_are_refused(one_process, name):
    x, y = batch_of(0)
    distiller = distiller_of(name)
    distiller.epoch = 1
    drifting = DistributedDataParallel(distiller)
    drifting.broadcast_buffers = False  # as by the argument, whose name depends on the version
    with pytest.raises(
        RuntimeError, match=r"keeps a state, which would drift apart .* synchronized \(broadcast_buffers"
    ):
        drifting(x, y)
    drifting.eval()(x, y)  # moves nothing
    distiller.train()(x, y)  # in one process there is nothing to drift from
    DistributedDataParallel(distiller)(x, y).total.backward()
    plain = DistributedDataParallel(distiller_of("zkd+mlt"))
    plain.broadcast_buffers = False
    plain(x, y)


def crd_distiller():
    torch.manual_seed(0)
    student, teacher = (adakd.create_model(name, CLASSES, 1) for name in ("resnet8x0.5", "resnet8"))
    distiller = adakd.Distiller(student, teacher, "crd", width=4, negatives=6)
    distiller.epoch = 1
    return distiller.build(torch.zeros(2, 1, 8, 8), 20)


def test_a_memory_is_left_to_each_process(one_process, monkeypatch):
    """As CRD's page says: the images that a process sees are its own."""
    x, y, index = torch.randn(4, 1, 8, 8), torch.arange(4), torch.arange(4) + 3
    distiller = crd_distiller()
    before = distiller.criterion.terms["crd"].memory_student.clone()
    own = DistributedDataParallel(distiller)
    own.broadcast_buffers = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own(x, y, index=index).total.backward()
    moved = (distiller.criterion.terms["crd"].memory_student != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == index.tolist()
    # As in two processes, where the first one's would be put over the other's.
    around = SimpleNamespace(broadcast_buffers=True, process_group=SimpleNamespace(size=lambda: 2))
    monkeypatch.setattr(DistributedDataParallel, "_active_ddp_module", around)
    with pytest.warns(UserWarning, match="CRD: the memory of the first process is put over the others'"):
        distiller(x, y, index=index)


@pytest.mark.filterwarnings("ignore:every row of this batch is ignored")
@pytest.mark.parametrize("nothing", [False, True])
@pytest.mark.parametrize("epoch", [None, 1, 100])
@pytest.mark.parametrize("weight", [0.0, 1.0])
@pytest.mark.parametrize("name", [n for n in LEARNED if n in adakd.METHODS or "+ctkd" in n] + ["zmlkd+ctkd"])
def test_whatever_is_learned_gets_a_gradient(name, weight, epoch, nothing):
    """DistributedDataParallel waits for every parameter."""
    criterion = adakd.create_method(name, kd_weight=weight, **options_of(name))
    x = torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(0))
    target = torch.full((4,), -100) if nothing else torch.tensor([0, 1, 2, 3])
    criterion(x.clone().requires_grad_(), x.flip(0), target, epoch=epoch).total.backward()
    for key, parameter in criterion.named_parameters():
        assert parameter.grad is not None, key
        if nothing:
            assert (parameter.grad == 0).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # theirs, not ours
def test_the_trainer_in_two_processes_with_padding_is_one_on_the_whole_batch(tmp_path):
    """It counts the labels of all processes, and the loss heeds that count."""
    pytest.importorskip("transformers", reason="pip install transformers accelerate")
    pytest.importorskip("accelerate", reason="pip install transformers accelerate")
    found = two_processes(tmp_path, "trainer")
    expected = train_language(tmp_path / "alone", rows=8)
    assert {part["labels"] for part in found} != {found[0]["labels"]}  # or the mean of means would do as well
    for part in found:
        for key, value in part["parameters"].items():
            torch.testing.assert_close(value, expected["parameters"][key], rtol=1e-9, atol=1e-9)
