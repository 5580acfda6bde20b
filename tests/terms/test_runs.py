"""Runs of the rows that are terms: continued to the last bit, what they save, and the two broken releases."""

import pytest
import torch

import adakd
from adakd.terms.simkd import ReusedClassifier

SMALL = {"device": "cpu", "precision": "fp32", "progress": False, "epochs": 2, "batch_size": 20}
OPTIONS = {"crd": {"negatives": 16}, "crd+kd": {"negatives": 16}, "warmup-distill": {"align_epochs": 1}}
ROWS = [*OPTIONS, "reviewkd", "reviewkd-released", "simkd", "catkd", "ssd", "okd"]


def distilled(method, teacher, data, out, student="resnet8x0.5", **options):
    settings = {**SMALL, "train_images": 50, "method_options": OPTIONS.get(method), **options}
    return adakd.distill(teacher, student, method, data, out=out, **settings)


@pytest.mark.parametrize("method", ROWS)
def test_continued_to_the_last_bit(method, tiny_data, tiny_teacher, tmp_path):
    whole = distilled(method, tiny_teacher, tiny_data, tmp_path / "whole")
    left = iter([False] * 3)  # it stops within the second epoch
    with pytest.raises(adakd.Interrupted):
        distilled(method, tiny_teacher, tiny_data, tmp_path / "parts", should_stop=lambda: next(left, True))
    run = distilled(method, tiny_teacher, tiny_data, tmp_path / "parts")
    assert run.history == whole.history
    assert run.record["weights_sha256"] == whole.record["weights_sha256"]


def test_simkd_keeps_the_network_that_it_was_measured_by(tiny_data, tiny_teacher, tmp_path):
    run = distilled("simkd", tiny_teacher, tiny_data, tmp_path)
    for network in (run.model(), adakd.open_run(run.folder).model()):
        assert isinstance(network, ReusedClassifier)
        assert torch.equal(network.classifier.weight, tiny_teacher.model().fc.weight)
    assert adakd.evaluate(adakd.open_run(run.folder), data=tiny_data, device="cpu") == run.accuracy
    plain = distilled("kd", tiny_teacher, tiny_data, tmp_path)
    assert not isinstance(plain.model(), ReusedClassifier)


def test_as_released_catkd_is_training_without_a_teacher(tiny_data, tiny_teacher, tmp_path):
    """Every weight, to the last bit; with the teacher in its place they are others."""
    runs = {
        method: distilled(method, tiny_teacher, tiny_data, tmp_path)
        for method in ("ce", "catkd-released", "catkd")
    }
    weights = {method: run.model().state_dict() for method, run in runs.items()}
    same = {
        method: all(torch.equal(a, b) for a, b in zip(weights["ce"].values(), found.values(), strict=True))
        for method, found in weights.items()
    }
    assert same == {"ce": True, "catkd-released": True, "catkd": False}


def test_as_released_reviewkd_is_another_training(tiny_data, tiny_teacher, tmp_path):
    runs = [
        distilled(method, tiny_teacher, tiny_data, tmp_path) for method in ("reviewkd", "reviewkd-released")
    ]
    assert runs[0].history[0]["rule_gradient"] > 0
    assert runs[1].history[0]["rule_gradient"] == 0, "nothing of the term is trained"
    assert runs[1].history[0]["loss"] > runs[1].history[0]["ce"], "and the student is compared all the same"
    assert runs[0].record["weights_sha256"] != runs[1].record["weights_sha256"]


@pytest.mark.parametrize("method", ["crd", "reviewkd", "simkd", "catkd", "okd"])
def test_in_lockstep_with_others_it_is_alone_to_the_last_bit(method, tiny_data, tiny_teacher, tmp_path):
    options = {**SMALL, "train_images": 50, "cache": None}
    runs = adakd.compare(
        ["kd", method], (0,), tiny_teacher, "resnet8x0.5", tiny_data, out=tmp_path / "all", **options
    )
    alone = adakd.distill(tiny_teacher, "resnet8x0.5", method, tiny_data, out=tmp_path / "one", **options)
    assert runs[1].history == alone.history
    assert runs[1].record["weights_sha256"] == alone.record["weights_sha256"]
