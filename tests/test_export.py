"""Students as files for other programs: what is in them, that they compute the same, and what is refused."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

import adakd
from adakd import ExportError, create_model, export_network
from adakd import export as export_module
from adakd.cli import main
from adakd.data import eval_batches


def test_there_is_what_the_tests_need():
    for package in ("onnx", "onnxruntime", "onnxscript"):
        __import__(package)


def trained(name="resnet8x0.5", classes=10):
    """A network whose batch norms have seen something: else normalization would hardly show in its logits."""
    torch.manual_seed(0)
    network = create_model(name, classes)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(16, 3, 16, 16))
    return network.eval()


def pixels(data, count=7):
    """Test images in [0, 1], (N, C, H, W), as any other program would read them."""
    return np.moveaxis(data.test.images[:count].numpy(), 3, 1).astype(np.float32) / 255


def logits_here(network, data, count=7):
    with torch.no_grad():
        return network(next(eval_batches(data, count))[0])


def ran(path, images):
    """What a file says of itself, and its logits."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        assert [(i.name, i.shape) for i in session.get_inputs()] == [("images", ["batch", 3, 16, 16])]
        about = json.loads(session.get_modelmeta().custom_metadata_map["adakd"])
        return about, torch.from_numpy(session.run(["logits"], {"images": images})[0])
    extra = {"adakd.json": ""}
    program = torch.export.load(path, extra_files=extra)
    return json.loads(extra["adakd.json"]), program.module()(torch.from_numpy(images))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("normalize", [True, False])
def test_a_file_computes_what_the_network_does(suffix, normalize, tiny_data, tmp_path):
    network = trained()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    path = tmp_path / f"student{suffix}"
    exported = export_network(network, path, tiny_data, normalize=normalize)
    assert network.training  # the caller's own is as it was
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    expected = logits_here(network.eval(), tiny_data)
    images = pixels(tiny_data)
    if not normalize:
        images = (images - np.array(tiny_data.mean, np.float32)[:, None, None]) / np.array(
            tiny_data.std, np.float32
        )[:, None, None]
    about, logits = ran(path, images.astype(np.float32))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    for count in (1, 2, 7):  # any batch size
        torch.testing.assert_close(ran(path, images[:count])[1], expected[:count], rtol=1e-4, atol=1e-5)
    assert about == exported.about
    assert (about["normalization"], about["model"]) == ("inside" if normalize else "beside", "ResNet")
    assert (about["mean"], about["std"]) == (list(tiny_data.mean), list(tiny_data.std))
    assert about["classes"] == list(tiny_data.classes)
    assert ("pixels in [0, 1] - mean" in about["inputs"]) is not normalize
    assert (exported.images, exported.agreeing) == (40, 40)
    assert 0 <= exported.difference < 1e-4
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.slow
def test_a_run_is_exported_with_where_it_comes_from(tiny_data, tiny_teacher, tmp_path):
    run = adakd.distill(
        *(tiny_teacher, "resnet8x0.5", "zkd+mlt", tiny_data),
        **{"out": tmp_path / "runs", "device": "cpu", "progress": False, "epochs": 1, "train_images": 40},
    )
    exported = export_network(run, tmp_path / "student.pt2")
    assert exported.about["method"] == "zkd+mlt"
    assert exported.about["weights_sha256"] == run.record["weights_sha256"]
    assert exported.about["accuracy"] == run.accuracy
    about, logits = ran(tmp_path / "student.pt2", pixels(tiny_data))
    assert about == exported.about
    torch.testing.assert_close(logits, logits_here(run.model(), tiny_data), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_student_with_the_teachers_classifier_is_exported(tiny_data, tiny_teacher, tmp_path):
    """SimKD keeps more than its student."""
    run = adakd.distill(
        *(tiny_teacher, "resnet8x0.5", "simkd", tiny_data),
        **{"out": tmp_path / "runs", "device": "cpu", "progress": False, "epochs": 1, "train_images": 40},
    )
    assert "deployed" in run.record
    export_network(run, tmp_path / "student.onnx")
    about, logits = ran(tmp_path / "student.onnx", pixels(tiny_data))
    assert about["method"] == "simkd"
    torch.testing.assert_close(logits, logits_here(run.model(), tiny_data), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wrn_16_1", "vgg8", "ShuffleV2"])
def test_a_network_of_each_family_is_exported(name, tiny_data, tmp_path):
    exported = export_network(trained(name), tmp_path / "student.onnx", tiny_data, name=name)
    assert (exported.about["model"], exported.agreeing) == (name, 40)
    assert exported.engine.startswith("onnxruntime")


@pytest.mark.slow
def test_a_network_that_returns_more_than_logits(tiny_data, tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = trained()

        def forward(self, x):
            logits = self.inner(x)
            return {"logits": logits, "largest": logits.max()}

    network = Two()
    export_network(network, tmp_path / "student.pt2", tiny_data)
    expected = logits_here(network.inner.eval(), tiny_data)
    torch.testing.assert_close(
        ran(tmp_path / "student.pt2", pixels(tiny_data))[1], expected, rtol=1e-4, atol=1e-5
    )


class Linear(nn.Module):
    """The smallest network, which exports fast."""

    def __init__(self, batch=None):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.batch = nn.Linear(3 * 16 * 16, 10), batch

    def forward(self, x):
        return self.layer(x.flatten(1) if self.batch is None else x.reshape(self.batch, -1))


def test_a_network_for_one_batch_size_is_refused(tiny_data, tmp_path):
    with pytest.raises(ExportError, match=r"Linear cannot be exported to \.pt2: "):
        export_network(Linear(batch=2), tmp_path / "student.pt2", tiny_data)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_computes_something_else_is_not_written(tiny_data, tmp_path, monkeypatch):
    made = export_module._program

    def other(module, example, about):
        module.network.layer.bias.data[3] += 0.01
        content = made(module, example, about)
        module.network.layer.bias.data[3] -= 0.01
        return content

    monkeypatch.setattr(export_module, "_program", other)
    with pytest.raises(
        ExportError, match=r"is not this network: torch .* differ by up to 0\.01; nothing was written"
    ):
        export_network(Linear(), tmp_path / "student.pt2", tiny_data)
    monkeypatch.setattr(export_module, "_program", lambda *_: b"nothing")
    with pytest.raises(ExportError, match="the exported file does not run"):
        export_network(Linear(), tmp_path / "student.pt2", tiny_data)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_package_that_is_not_there_is_named_with_the_command(package, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ExportError, match=f"{package}.*pip install onnx onnxscript onnxruntime; a .pt2 file needs none"
    ):
        export_network(Linear(), tmp_path / "student.onnx", tiny_data)
    export_network(Linear(), tmp_path / "student.pt2", tiny_data)


def test_other_wrong_arguments(tiny_data, tiny_teacher, tmp_path):
    with pytest.raises(
        ValueError, match=r"file: expected a name that ends in \.onnx or \.pt2, got 'student\.pth'"
    ):
        export_network(Linear(), tmp_path / "student.pth", tiny_data)
    with pytest.raises(ValueError, match="data: a module does not say what it was trained on"):
        export_network(Linear(), tmp_path / "student.pt2")
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        export_network(tmp_path, tmp_path / "student.pt2")
    other = adakd.data.load_gratings(train_images=60, test_images=40)
    other = adakd.ImageData("mine", other.train, other.test, other.classes, other.mean, other.std)
    with pytest.raises(ValueError, match="was trained on gratings"):
        export_network(tiny_teacher, tmp_path / "student.pt2", other)


def test_the_command(tiny_data, tiny_teacher, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export_module, "resolve_images", lambda *_, **__: tiny_data)
    monkeypatch.setattr("adakd.cli.export.resolve_images", lambda *_, **__: tiny_data)
    target = str(tmp_path / "student.pt2")
    assert (
        main(["export", str(tiny_teacher.folder), "--to", target, "--json", str(tmp_path / "found.json")]) == 0
    )
    out = capsys.readouterr().out
    assert "resnet8x0.5 on gratings" in out
    assert "normalization: inside (mean 0.5, 0.5, 0.5; std " in out
    assert "on 40 test images: logits differ by at most " in out
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["path"], found["agreeing"], found["about"]["method"]) == (target, 40, "ce")
    assert found["bytes"] == (tmp_path / "student.pt2").stat().st_size
    expected = logits_here(tiny_teacher.model(), tiny_data)
    torch.testing.assert_close(
        ran(tmp_path / "student.pt2", pixels(tiny_data))[1], expected, rtol=1e-4, atol=1e-5
    )

    weights = ["--weights", str(tiny_teacher.folder / "weights.safetensors"), "--to", target]
    assert main(["export", *weights, "--model", "resnet8x0.5", "--normalized"]) == 0
    out = capsys.readouterr().out
    assert "resnet8x0.5 on gratings" in out
    assert "(pixels in [0, 1] - mean) / std" in out
    assert main(["export", *weights]) == 1
    assert "Say it: --model NAME" in capsys.readouterr().err
    assert main(["export", str(tiny_teacher.folder), "--model", "resnet8", "--to", target]) == 1
    assert "leave it out" in capsys.readouterr().err
    for arguments in (
        ["--to", target],
        [str(tiny_teacher.folder), *weights],
        [str(tiny_teacher.folder), "--to", "s.pth"],
    ):
        with pytest.raises(SystemExit):
            main(["export", *arguments])
    assert "ends in .onnx or .pt2, got 's.pth'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(tiny_teacher.folder), "--to", str(tmp_path / "student.onnx")]) == 1
    assert "pip install onnx onnxscript onnxruntime" in capsys.readouterr().err
