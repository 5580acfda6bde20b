"""What one of the two processes of tests/test_ddp.py does: ``python tests/ddp.py FOLDER methods|trainer``, and torchrun's variables."""

import copy
import os
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import adakd

STEPS, ROWS, WIDTH, CLASSES, WORLD = 4, 16, 6, 5, 2


class Hint(adakd.Term):
    """Mean square distance of a student's feature, through a learned connector, from a teacher's."""

    taps = adakd.Taps(("0",), ("0",))

    def build(self, student, teacher, train_images):
        inner, outer = (x.features["0"].shape[1] for x in (student, teacher))
        self.connector = nn.Linear(inner, outer)

    def forward(self, student, teacher, batch):
        return (self.connector(student.features["0"]) - teacher.features["0"]).square().mean(1)


def options_of(name):
    return {"num_classes": CLASSES} if "ctkd-instance" in name else {}


def method_of(name):
    if name == "hint+kd":
        kd = adakd.LogitTerm(adakd.KL())
        return adakd.Objective({"hint": Hint(), "kd": kd}, {"hint": 3.0, "kd": 0.9})
    if name == "ctkd in slices":
        return adakd.create_method("ctkd", chunk=3)
    return adakd.create_method(name, **options_of(name))


NAMES = [name for name, row in adakd.METHODS.items() if row.on_logits]
NAMES += ["dkd+ctkd", "kd+ctkd-instance", "zkd+mlt-two-sided", "ctkd in slices", "hint+kd"]


def distiller_of(name):
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, CLASSES))
    teacher = nn.Sequential(nn.Linear(WIDTH, 12), nn.Tanh(), nn.Linear(12, CLASSES))
    for parameter in teacher.parameters():
        nn.init.normal_(parameter)
    distiller = adakd.Distiller(student, teacher, method_of(name)).double()
    return distiller.build(torch.zeros(2, WIDTH, dtype=torch.float64))


def batch_of(step):
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64)
    return x, torch.randint(CLASSES, (ROWS,), generator=generator)


def optimizer_of(module):
    return torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)


def buffers_of(distiller):
    return {name: value.clone() for name, value in distiller.criterion.named_buffers()}


def train(name, rank, ignored=None):
    """Steps of one method on this process's rows; `ignored` is a rank that has no labels at the second step."""
    distiller = distiller_of(name)
    used: list[dict] = []
    distiller.criterion.register_forward_pre_hook(lambda criterion, _: used.append(buffers_of(distiller)))
    module = DistributedDataParallel(distiller)
    optimizer = optimizer_of(module)
    taus, moved = [], []
    for step in range(STEPS):
        distiller.epoch = step + 1
        x, y = (part.chunk(WORLD)[rank] for part in batch_of(step))
        if ignored == rank and step == 1:
            y = torch.full_like(y, -100)
        optimizer.zero_grad()
        terms = module(x, y)
        terms.total.backward()
        optimizer.step()
        moved.append(buffers_of(distiller))
        if terms.temperature is not None:
            taus.append(terms.temperature.teacher.detach())
    return {
        "parameters": {n: p.detach() for n, p in distiller.named_parameters()},
        "given to the processes": [n for n, _ in module.named_parameters()],
        "teacher": copy.deepcopy(distiller.teacher.state_dict()),
        "taus": taus,
        "used": used,
        "moved": moved,
    }


def train_language(folder, rows):
    """Three steps of the Hugging Face Trainer on sentences of unequal length, so many of them on each process."""
    from test_language import gpt2, sentences, trainer

    model = adakd.TrainerDistiller(gpt2(), gpt2(width=24, seed=1), "zkd+mlt").double()
    labels = 0

    def count(module, args, named):
        nonlocal labels
        labels += int((named["labels"] != -100).sum())

    model.register_forward_pre_hook(count, with_kwargs=True)
    trainer(model, sentences(count=24), folder, per_device_train_batch_size=rows, optim="sgd").train()
    return {"parameters": {n: p.detach() for n, p in model.named_parameters()}, "labels": labels}


def train_methods(folder, rank):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=WORLD
    )
    found = {name: train(name, rank) for name in NAMES if name != "ce"}
    found["nothing on rank 1"] = train("ctkd", rank, ignored=1)
    torch.distributed.destroy_process_group()
    return found


def main():
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    if sys.argv[2] == "methods":
        found = train_methods(folder, rank)
    else:
        found = train_language(folder / f"trainer{rank}", rows=8 // WORLD)
    torch.save(found, folder / f"{rank}.pt")


if __name__ == "__main__":
    main()
