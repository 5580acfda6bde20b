"""Many students of one teacher in one process: `python benchmarks/many_students.py --json FILE`.

Two questions. On this CPU: what does a step of n students with stacked weights (`torch.func`, vmap) cost beside n steps, one
after the other? On a GPU, by arithmetic: a step of a small network is a number of kernels, which is counted here, and each
takes time to be launched; how many students fit into that time until their work at the roofline takes longer?
"""

import argparse
import copy
from pathlib import Path

import torch
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from adakd import create_method, create_model
from adakd.bench import alternate, roofline_seconds, vendor_ceiling
from adakd.runs import resolve_device
from adakd.training import write_json
from adakd.training.record import environment

CPU = torch.device("cpu")
BATCH, CLASSES = 64, 100
# Seconds until a GPU can begin the next kernel. Assumed, not measured here: from Python one at a time, and replayed from
# a CUDA graph, as a captured step is.
LAUNCH = {"one at a time": 5e-6, "in a graph": 1.5e-6}
# No kernel: another view of the same numbers, or nothing at all.
VIEWS = (
    "view",
    "t.",
    "transpose",
    "detach",
    "expand",
    "alias",
    "permute",
    "slice",
    "select",
    "reshape",
    "unsqueeze",
)


class Kernels(TorchDispatchMode):
    """Counts operations that compute."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function).removeprefix("aten.")
        self.count += not name.startswith((*VIEWS, "_unsafe_view", "empty", "lift", "_local", "item"))
        return function(*args, **(kwargs or {}))


def optimizer_of(parameters):
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)


class Students:
    """n students of one kind, with their images and the teacher's logits for them."""

    def __init__(self, network, count):
        generator = torch.Generator().manual_seed(0)
        self.models = [create_model(network, CLASSES).train() for _ in range(count)]
        self.images = torch.randn(BATCH, 3, 32, 32, generator=generator)
        self.teacher = torch.randn(BATCH, CLASSES, generator=generator)
        self.labels = torch.arange(BATCH) % CLASSES
        self.criterion = create_method("kd")
        self.optimizers = [optimizer_of(model.parameters()) for model in self.models]
        self.parameters, self.buffers = stack_module_state(self.models)
        self.optimizer = optimizer_of(self.parameters.values())
        self.shape = copy.deepcopy(self.models[0]).to("meta")
        self.gradient = vmap(grad(self.objective), in_dims=(0, 0, None))

    def one_by_one(self):
        for model, optimizer in zip(self.models, self.optimizers, strict=True):
            optimizer.zero_grad()
            self.criterion(model(self.images), self.teacher, self.labels).total.backward()
            optimizer.step()

    def objective(self, parameters, buffers, images):
        logits = functional_call(self.shape, (parameters, buffers), (images,))
        hot = torch.nn.functional.one_hot(self.labels, CLASSES).float()
        # kd as the method has it, without the checks of values that a vmap cannot read.
        tau = 4.0
        log_student = torch.log_softmax(logits / tau, 1)
        of_teacher = torch.softmax(self.teacher / tau, 1)
        distilled = (of_teacher * (torch.log_softmax(self.teacher / tau, 1) - log_student)).sum(
            1
        ).mean() * tau**2
        return 0.9 * distilled - 0.1 * (hot * torch.log_softmax(logits, 1)).sum(1).mean()

    def stacked(self):
        with torch.no_grad():
            gradients = self.gradient(self.parameters, self.buffers, self.images)
        for name, value in self.parameters.items():
            value.grad = gradients[name]
        self.optimizer.step()


def agree(network):
    """Largest difference, in units of the largest weight, between a step of two students stacked and one by one."""
    students = Students(network, 2)
    students.one_by_one()
    students.stacked()
    far = 0.0
    for i, model in enumerate(students.models):
        for name, value in model.named_parameters():
            stacked = students.parameters[name][i]
            far = max(far, ((value - stacked).abs().max() / value.abs().max().clamp_min(1e-3)).item())
    return far


def measured(network, count, pairs):
    """The stacked step in units of the steps one by one."""
    students = Students(network, count)
    found = alternate(students.stacked, students.one_by_one, CPU, pairs=pairs, progress=False)
    return {name: found[name] for name in ("median", "low", "high", "pairs")}


def arithmetic(network, gpu):
    """Kernels of a step, the time at the roofline, and how many students are free while the GPU waits for launches."""
    students = Students(network, 1)
    with Kernels() as kernels:
        students.one_by_one()
    seconds = roofline_seconds(students.models[0], students.images, vendor_ceiling(gpu), training=True)
    launches = {name: kernels.count * each for name, each in LAUNCH.items()}
    return {
        "gpu": gpu,
        "kernels": kernels.count,
        "roofline_us": 1e6 * seconds,
        **{f"students {name}": max(1.0, launch / seconds) for name, launch in launches.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=["resnet8x0.5", "resnet8"])
    parser.add_argument(
        "--counted", nargs="+", default=["resnet8", "resnet20", "resnet8x4", "wrn_16_2", "ShuffleV2"]
    )
    parser.add_argument("--students", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--gpus", nargs="+", default=["T4", "H100"])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--note", default="", help="on the state of the machine, for the record")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for network in arguments.networks:
        print(f"{network}: stacked and one by one differ by {agree(network):.1e}", flush=True)
        for count in arguments.students:
            ratio = measured(network, count, arguments.pairs)
            rows.append({"network": network, "students": count, "stacked_to_one_by_one": ratio})
            print(
                f"{network} × {count}: {ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})",
                flush=True,
            )
    counted = [
        {"network": network, **arithmetic(network, gpu)}
        for network in arguments.counted
        for gpu in arguments.gpus
    ]
    for row in counted:
        print(row, flush=True)
    if arguments.json:
        record = {
            "schema": 1,
            "kind": "bench-many-students",
            "status": "complete",
            "config": {
                "batch_size": BATCH,
                "precision": "fp32",
                "method": "kd",
                "pairs": arguments.pairs,
                "launch_us_assumed": {name: 1e6 * each for name, each in LAUNCH.items()},
            },
            "note": arguments.note,
        }
        write_json(
            Path(arguments.json),
            record | environment(resolve_device("cpu")) | {"rows": rows, "counted": counted},
        )


if __name__ == "__main__":
    main()
