"""The network that a run keeps where it is more than its student: made while it trains, and made again from its record."""

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..methods import create_method, fill_options
from ..models import Network
from ..models.network import architecture_of, is_model
from ..objective import Objective
from ..signals import Tapped

__all__ = ["build_terms", "deployed_network", "describe_deployed"]


def build_terms(
    objective: Objective, student: nn.Module, teacher: nn.Module, images: Tensor, train_images: int, seed: int
) -> None:
    """Make what the terms need that depends on shapes, from outputs for an example; the networks stay as they are.

    Args:
        objective: its connectors and memories come to the device of `images`.
        student, teacher: copies of them see the images, in evaluation mode.
        images: (B, C, H, W), normalized.
        train_images: size of the training set.
        seed: of the connectors' initial weights.
    """
    networks = [copy.deepcopy(network) for network in (student, teacher)]
    with torch.no_grad():
        of_student, of_teacher = (
            Tapped(network.to(images.device).eval(), names)(images)
            for network, names in zip(networks, objective.taps, strict=True)
        )
    objective.to(images.device).build(of_student, of_teacher, train_images, seed)


def describe_deployed(deployed: nn.Module, size: int) -> dict[str, Any]:
    """What a run's record says of a network that is not the student alone: a digest, and the size of its images."""
    return {"architecture": architecture_of(deployed), "size": size}


def deployed_network(student: Network, record: dict[str, Any]) -> Network:
    """The network that a run has kept, from its student and what its record says of method and teacher.

    Raises:
        ValueError: when built, if method or teacher have no names that are known here.
    """
    return Network(student.name, partial(_deployed, student, record))


def _deployed(student: Network, record: dict[str, Any], num_classes: int, in_channels: int = 3) -> nn.Module:
    config, size = record["config"], record["deployed"]["size"]
    teacher = config["teacher"]["model"]
    settings = {"epochs": config["recipe"]["epochs"], "num_classes": num_classes, "seed": config["seed"]}
    try:
        options = fill_options(config["method"], config["method_options"], **settings)
        objective = create_method(config["method"], **options)
    except ValueError as error:
        raise _unknown(student, f"method {config['method']!r}") from error
    if not is_model(teacher):
        raise _unknown(student, f"teacher {teacher!r}")
    ours, theirs = (network.build(num_classes, in_channels) for network in (student, Network(teacher)))
    images = torch.zeros(2, in_channels, size, size)
    build_terms(objective, ours, theirs, images, record["data"]["train_images"], config["seed"])
    made: nn.Module = objective.deploy(ours, theirs)
    return made


def _unknown(student: Network, what: str) -> ValueError:
    return ValueError(
        f"the network that this run has kept is {student.name} and a part of its teacher, and the {what} is not known "
        "here by its name: give the network that was kept (network=objective.deploy(student, teacher))"
    )
