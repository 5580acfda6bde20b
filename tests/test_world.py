"""Several processes that train one student: on the whole batch's loss, as one process does."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import adakd
import adakd.training.world as world_module
from adakd import cli
from adakd.data import load_gratings
from adakd.training import Trainer, World, choose_precision, join_world
from adakd.training.world import ALONE, normalize_over

TESTS = Path(__file__).parent
CPU = torch.device("cpu")
TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}


def start(*arguments, folder):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
    }
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes make of everything in tests/world.py."""
    folder = tmp_path_factory.mktemp("world")
    processes = [start(TESTS / "world.py", folder, rank, folder=folder) for rank in (0, 1)]
    errors = [process.communicate(timeout=1500)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 3], "\n".join(errors)
    results = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]
    return (*results, (folder / "noticed").exists())


def apart(one, other):
    """The largest difference of two states, relative to 1 where numbers are larger."""
    assert one["tensors"].keys() == other["tensors"].keys()
    return max(
        ((one["tensors"][name] - tensor).abs() / tensor.abs().clamp(min=1)).max().item()
        for name, tensor in other["tensors"].items()
        if tensor.numel()
    )


@pytest.mark.slow
class TestTwoProcesses:
    def test_weights_and_states_are_those_of_one_process(self, found):
        # Dist's derivative at a constant row and FitNet's connector behind a ReLU amplify the last digit to some 1e-9.
        first, second, _ = found
        alone = {**first["alone"], **second["alone"]}
        assert alone.keys() == first["methods"].keys()
        assert len(alone) > 20
        far = {name: apart(first["methods"][name], alone[name]) for name in alone}
        assert max(far.values()) < 1e-6, far

    def test_both_processes_have_the_same_bits(self, found):
        first, second, _ = found
        far = {name: apart(first["methods"][name], second["methods"][name]) for name in first["methods"]}
        assert set(far.values()) == {0.0}, far

    def test_rows_of_the_history_are_those_of_one_process(self, found):
        first, second, _ = found
        for name, alone in {**first["alone"], **second["alone"]}.items():
            for one, other in zip(first["methods"][name]["history"], alone["history"], strict=True):
                assert one == pytest.approx(other, rel=1e-6, abs=1e-6), name

    def test_batch_norm_takes_the_statistics_of_the_whole_batch(self, found):
        first, second, _ = found
        assert apart(first["batch norm"], first["alone with batch norm"]) < 1e-9
        assert apart(first["batch norm"], second["batch norm"]) == 0

    def test_checkpoints_go_from_one_process_to_two_and_back(self, found):
        first, second, _ = found
        assert [each["position"] for each in first["resumed"]] == [13, 20, 20]
        for resumed in first["resumed"][1:]:
            assert apart(resumed, first["alone to the end"]) < 1e-9
            assert resumed["history"] == [
                pytest.approx(row, rel=1e-9, abs=1e-9) for row in first["alone to the end"]["history"]
            ]
        assert apart(second["resumed"][1], first["resumed"][2]) == 0

    def test_the_first_who_is_asked_stops_both_at_the_same_step(self, found):
        assert [each["stopped"] for each in found[:2]] == [7, 7]

    def test_an_error_of_one_is_everybodys(self, found):
        first, second, _ = found
        peer, own = "PeerError: process {} of 2: no room", "OSError: no room"
        assert [first["errors"][0], second["errors"][0]] == [peer.format(1), own]
        assert [first["errors"][1], second["errors"][1]] == [own, peer.format(0)]
        # One fails before an exchange that the other is waiting in.
        assert [first["errors"][2], second["errors"][2]] == [peer.format(1), own]

    def test_different_commands_are_refused(self, found):
        first, second, _ = found
        assert "the run of process 1 is not that of process 0" in first["errors"][3]
        assert second["errors"][3].startswith("ValueError: the run of process 1")
        assert first["errors"][4] is second["errors"][4] is None

    def test_a_process_that_ends_is_noticed_by_the_other(self, found):
        assert found[2]

    def test_what_one_decides_and_what_all_do(self, found):
        first, second, _ = found
        assert first["any"] == second["any"] == [True, False, True]
        assert first["lead"] == second["lead"] == 0
        assert [first["first"], second["first"]] == [0, 1]


@pytest.mark.slow
def test_torchrun_distills_and_one_process_opens_the_run(tmp_path):
    """Files are of one process, and the record says how many there were."""
    options = {
        "device": "cpu",
        "precision": "fp32",
        "progress": False,
        "out": tmp_path / "runs",
        "batch_size": 100,
    }
    teacher = adakd.train_teacher("resnet8x0.5", epochs=1, train_images=200, **options)
    torchrun = "-m torch.distributed.run --standalone --nproc-per-node 2 -m adakd distill --student resnet8x0.5"
    settings = (
        "--epochs 1 --batch-size 100 --train-images 199 --device cpu --precision fp32 --out runs --teacher"
    )
    process = start(*torchrun.split(), *settings.split(), teacher.folder, folder=tmp_path)
    printed, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    assert printed.count("test accuracy") == errors.count("the teacher has answered for") == 1  # by one process
    (record,) = [
        json.loads(path.read_text()) for path in tmp_path.glob("runs/gratings/resnet8x0.5/zkd*/record.json")
    ]
    assert record["world"] == {"processes": 2, "batch_norm": "over all processes"}
    assert [session["world"] for session in record["sessions"]] == [record["world"]]
    run = adakd.distill(teacher, "resnet8x0.5", epochs=1, train_images=199, **options)
    assert run.record == record  # one process finds it finished: the same run
    assert adakd.evaluate(run, device="cpu") == run.accuracy
    assert list(run.folder.glob(".*")) == []


class TestOneProcess:
    def test_nothing_is_exchanged(self):
        rows, labels = torch.randn(4, 3), torch.arange(4)
        assert ALONE.gather(rows, 4) is rows
        assert ALONE.part(7) == slice(0, 7)
        assert ALONE.any(True, False) == [True, False]
        assert ALONE.lead(lambda: 3) == ALONE.first(lambda: 3) == ALONE.together(lambda: 3) == 3
        ALONE.add([labels])
        ALONE.spread([labels])
        assert labels.tolist() == [0, 1, 2, 3]
        with join_world(CPU) as world:
            assert world is ALONE

    @pytest.mark.parametrize("count", [4, 5, 64, 101])
    def test_every_row_is_somebodys(self, count):
        parts = [range(count)[World(rank, 4).part(count)] for rank in range(4)]
        assert [row for part in parts for row in part] == list(range(count))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1

    def test_rows_that_are_not_its_own_are_refused(self):
        with pytest.raises(
            ValueError, match=r"expected one row an image \(4 of this process\), got shape \(8, 3\)"
        ):
            World(1, 2).gather(torch.zeros(8, 3), 8)


class TestBatchNorm:
    def network(self):
        return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())

    def test_classes_names_and_copies_stay(self):
        network = self.network()
        before = {name: type(module) for name, module in network.named_modules()}
        assert normalize_over(World(0, 2), network)
        assert {name: type(module) for name, module in network.named_modules()} == before
        twin = copy.deepcopy(network).eval()
        twin[1].running_mean += 1
        x = torch.randn(2, 3, 5, 5)
        assert not torch.equal(twin(x), network.eval()(x))  # the copy reads its own statistics
        assert not normalize_over(World(0, 2), nn.Linear(2, 2))

    def test_a_network_is_its_own_again_when_its_run_has_ended(self, tiny_data, tmp_path):
        network, before = adakd.create_model("resnet8x0.5", 10), dict(vars(nn.BatchNorm2d(4)))
        with pytest.raises(ValueError, match="process group"):  # there is no other process
            adakd.fit(
                network,
                tiny_data,
                adakd.get_recipe("demo", epochs=1, batch_size=20, train_images=40),
                adakd.create_method("ce"),
                seed=0,
                checkpoint=tmp_path / "c.pt",
                config={},
                precision=adakd.choose_precision("fp32", torch.device("cpu"), 0),
                progress=False,
                world=World(0, 2),
            )
        assert vars(network.bn1).keys() == before.keys()

    @pytest.mark.parametrize(
        "layer", ["1d", "2d", "cumulative", "without weights", "without running statistics"]
    )
    def test_two_equal_halves_are_the_batch_of_both(self, monkeypatch, layer):
        # As if the other process had the same rows: what it sends is what this one sends.
        monkeypatch.setattr(world_module, "_rows_of_all", lambda rows, world, count: torch.cat([rows, rows]))
        monkeypatch.setattr(World, "add", lambda world, tensors: [tensor.mul_(2) for tensor in tensors])
        options = {
            "cumulative": {"momentum": None},
            "without weights": {"affine": False},
            "without running statistics": {"track_running_stats": False},
        }.get(layer, {})
        half, whole = (
            (nn.BatchNorm1d if layer == "1d" else nn.BatchNorm2d)(4, **options).double() for _ in "ab"
        )
        for norm in (half, whole):
            for offset, parameter in enumerate(norm.parameters()):
                nn.init.constant_(parameter, 0.5 + offset)
        normalize_over(World(0, 2), half)
        for step in range(3):
            generator = torch.Generator().manual_seed(step)
            shape = (6, 4) if layer == "1d" else (6, 4, 3, 2)
            x, g = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in "xg")
            one, both = x.clone().requires_grad_(), torch.cat([x, x]).requires_grad_()
            y, expected = half(one), whole(both)
            y.backward(g)
            expected.backward(torch.cat([g, g]))
            torch.testing.assert_close(y, expected[:6])
            torch.testing.assert_close(one.grad, both.grad[:6])
        for ours, theirs in zip(half.parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(2 * ours.grad, theirs.grad)  # to be added over the processes
        torch.testing.assert_close(half.state_dict(), whole.state_dict())
        torch.testing.assert_close(half.eval()(x), whole.eval()(x))

    def test_half_precision_has_statistics_in_single(self, monkeypatch):
        monkeypatch.setattr(world_module, "_rows_of_all", lambda rows, world, count: torch.cat([rows, rows]))
        norm = nn.BatchNorm2d(4)
        normalize_over(World(0, 2), norm)
        x = (100 + torch.randn(8, 4, 5, 5, generator=torch.Generator().manual_seed(0))).bfloat16()
        y = norm(x)
        assert y.dtype == torch.bfloat16
        expected = nn.BatchNorm2d(4)(torch.cat([x, x]).float())[:8]
        torch.testing.assert_close(y.float(), expected, rtol=0.01, atol=0.01)

    def test_one_with_a_forward_pass_of_its_own_is_refused(self):
        class Activated(nn.BatchNorm2d):
            def forward(self, x):
                return super().forward(x).relu()

        with pytest.raises(ValueError, match="1 is a Activated, a batch norm whose forward pass is its own"):
            normalize_over(World(0, 2), nn.Sequential(nn.Conv2d(3, 4, 1), Activated(4)))
        normalize_over(ALONE, Activated(4))


class TestRefusals:
    def trainer(self, world, batch_size=8, images=16, **options):
        data = load_gratings(train_images=20, test_images=10)
        recipe = adakd.get_recipe("demo", epochs=1, batch_size=batch_size, train_images=images)
        fp32 = choose_precision("fp32", CPU, 0)
        student = adakd.create_model("resnet8x0.5", 10)
        return Trainer(student, adakd.create_method("ce"), recipe, data, fp32, world=world, **options)

    def test_a_batch_without_a_row_for_each_process(self):
        with pytest.raises(ValueError, match="a batch has 8 images, and each of 9 processes needs one"):
            self.trainer(World(0, 9))
        with pytest.raises(
            ValueError, match="the last batch of an epoch has 1 images, and each of 2 processes"
        ):
            self.trainer(World(0, 2), images=17)
        self.trainer(World(0, 8))
        self.trainer(ALONE, images=17)

    def test_captured_steps(self):
        with pytest.raises(ValueError, match="capture: expected False where several processes"):
            self.trainer(World(0, 2), capture=True)

    def test_several_students(self):
        runners = [adakd.training.Runner(self.trainer(World(0, 2))) for _ in range(2)]
        with pytest.raises(ValueError, match="lockstep: several processes train one student, got 2"):
            adakd.training.lockstep(runners, None)

    def test_more_processes_than_gpus(self, monkeypatch):
        for name, value in TORCHRUN.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        with (
            pytest.raises(ValueError, match=r"at most one process a GPU \(1 on this machine\), got 2"),
            join_world(torch.device("cuda")),
        ):
            pass

    @pytest.mark.parametrize("command", ["compare --methods kd", "study runs --methods kd", "cache"])
    def test_other_commands_under_torchrun(self, monkeypatch, capsys, command):
        for name, value in {**TORCHRUN, "RANK": "0"}.items():
            monkeypatch.setenv(name, value)
        assert cli.main(command.split()) == 1
        said = capsys.readouterr().err
        assert f"start `adakd {command.split()[0]}` without torchrun" in said
        assert ("adakd sweep" in said) == (command != "cache")

    def test_the_errors_of_others_are_told_by_the_first_process(self, monkeypatch, capsys):
        def fail(*_, **__):
            raise adakd.training.PeerError("process 0 of 2: no room")

        monkeypatch.setattr(cli.distill, "distill", fail)
        monkeypatch.setattr(cli, "_SECONDS_OF_THE_OTHER", 0.0)
        assert cli.main(["distill"]) == 1
        assert "process 0 of 2: no room" in capsys.readouterr().err
        monkeypatch.setattr(cli, "launched", lambda: True)
        monkeypatch.setenv("RANK", "1")
        assert cli.main(["distill"]) == 1
        assert capsys.readouterr().err == ""
