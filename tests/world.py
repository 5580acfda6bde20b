"""What one of the two processes of tests/test_world.py does: ``python tests/world.py FOLDER RANK``."""

import contextlib
import dataclasses
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

import adakd
from adakd.data import load_gratings
from adakd.runs.deployed import build_terms
from adakd.teachers import LiveTeacher
from adakd.training import Checkpoint, Interrupted, PeerError, Trainer, World, choose_precision, student_views
from adakd.training.loop import Callback, fit

WORLD, STEPS = 2, 50


def data():
    """Gratings of 8 x 8 pixels: what is measured here is the exchange, and not the convolution."""
    gratings = load_gratings(train_images=69, test_images=30)
    small = {
        name: adakd.data.Split(split.images[:, ::2, ::2].contiguous(), split.labels)
        for name, split in (("train", gratings.train), ("test", gratings.test))
    }
    return dataclasses.replace(gratings, padding=1, **small)


DATA = data()
FP32 = choose_precision("fp32", torch.device("cpu"), 0)
# 23 images in batches of 12: the last one of an epoch has 11, of which one process has 5 and the other 6.
RECIPE = adakd.get_recipe(
    "demo", epochs=STEPS // 2, batch_size=12, lr=0.003, train_images=23, eval_every=STEPS // 2
)
SHORT = dataclasses.replace(RECIPE, epochs=10, eval_every=10)


def method_of(name, recipe):
    options = {"epochs": recipe.epochs, "num_classes": DATA.num_classes, "seed": 0}
    return adakd.create_method(name, **adakd.methods.fill_options(name, {}, **options))


def reads_more_than_rows(name):
    """Whether a method has state, learned parts or batch statistics."""
    objective = method_of(name, RECIPE)
    parts = objective.terms.values()
    learned = any(True for _ in objective.parameters())
    return objective.reads_batch or objective.builds or learned or any(part.keeps_state for part in parts)


def parts_of(name):
    """Classes of all parts of a method: those of the same parts go the same ways."""
    return sorted({type(part).__name__ for part in method_of(name, RECIPE).modules()})


def chosen():
    """All methods; or of those that read more than rows one of each set of parts, and some that do not."""
    names = [*adakd.METHODS, "kd+ctkd-instance"]
    if os.environ.get("ADAKD_ALL_METHODS"):
        return [*names, "fitnet+kd", "crd+zkd+mlt", "simkd+kd", "rkd+ctkd"]
    first = {}
    for name in names:
        if reads_more_than_rows(name):
            first.setdefault(tuple(parts_of(name)), name)
    plain = ["kd", "zkd+mlt", "catkd"]
    return [*plain, *(name for name in first.values() if not name.startswith("z") and name != "dkd+ctkd")]


NAMES = chosen()


def network(name, seed, batch_norm=False):
    """In double precision, where the order of a sum is seen behind the twelfth digit."""
    made = adakd.models.seeded_model(name, DATA.num_classes, seed)
    for path, module in list(made.named_modules()):
        if isinstance(module, nn.BatchNorm2d) and not batch_norm:
            parent, _, child = path.rpartition(".")
            setattr(made.get_submodule(parent), child, nn.Identity())
    return made.double()


def trainer_of(method, world, batch_norm=False, recipe=RECIPE):
    """A trainer, its views and its teacher: the same wherever it is made."""
    torch.manual_seed(1)
    objective = method_of(method, recipe)
    student, teacher = network("resnet8x0.5", 0, batch_norm), network("resnet8x0.5", 1)
    views = student_views(DATA, recipe, 0)
    if objective.builds:
        build_terms(objective, student, teacher, next(views.steps(1, 2)).images, len(DATA.train), 0)
    trainer = Trainer(student, objective.double(), recipe, DATA, FP32, teacher=teacher, world=world)
    return trainer, views, LiveTeacher(teacher, FP32, DATA.device, trainer.taps)


def state_of(trainer):
    """All that the next step depends on, without the time."""
    state = trainer.state_dict()
    history = [{key: row[key] for key in row} for row in state["history"]]
    tensors = {
        f"{part}.{name}": value.clone()
        for part in ("model", "criterion")
        for name, value in state[part].items()
    }
    return {"tensors": tensors, "history": history}


def trained(method, world, batch_norm=False, recipe=RECIPE):
    trainer, views, teacher = trainer_of(method, world, batch_norm, recipe)
    fit(trainer, views, teacher)
    return state_of(trainer)


class StopAt(Callback):
    """Asks to stop after a step of the run, in one process."""

    def __init__(self, step):
        self.step, self.reached = step, False

    def on_step(self, trainer):
        self.reached = trainer.position >= self.step

    def __call__(self):
        return self.reached


def trained_to(path, stop, world, method="crd+kd"):
    """Go on from the checkpoint to a step, or to the end."""
    trainer, views, teacher = trainer_of(method, world, recipe=SHORT)
    stopping = StopAt(stop) if stop is not None else None
    with contextlib.suppress(Interrupted):
        fit(
            trainer,
            views,
            teacher,
            checkpoint=Checkpoint(path, {"method": method}),
            callbacks=[stopping] if stopping else [],
            should_stop=stopping or (lambda: False),
        )
    return {**state_of(trainer), "position": trainer.position}


def message(function):
    try:
        return function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def fails(rank, where):
    """A function that fails in one process."""

    def function():
        if rank == where:
            raise OSError("no room")
        return rank

    return function


def main():
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_default_dtype(torch.float64)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=WORLD,
        timeout=timedelta(seconds=100),
    )
    world = World(rank, WORLD, rank)
    found = {
        "methods": {name: trained(name, world) for name in NAMES},
        "batch norm": trained("simkd+kd", world, batch_norm=True, recipe=SHORT),
        "parts": [world.part(count) for count in (2, 5, 12)],
        "any": world.any(rank == 1, False, True),
        "lead": world.lead(lambda: rank),
        "first": world.first(lambda: rank),
        "errors": [
            message(lambda: world.together(fails(rank, 1))),
            message(lambda: world.lead(fails(rank, 0))),
            message(lambda: world.together(lambda: fails(rank, 1)() or world.lead(lambda: 0))),
            message(lambda: world.refuse_different("the run", str(rank))),
            message(lambda: world.refuse_different("the run", "one")),
        ],
    }
    # One process, then two, then one: and two, then one, then two.
    two_from_one, one_from_two = folder / "two.pt", folder / f"one{rank}.pt"
    if rank == 0:
        trained_to(two_from_one, 7, World())
    dist.barrier()
    found["resumed"] = [trained_to(two_from_one, 13, world)]
    if rank == 0:
        found["resumed"].append(trained_to(two_from_one, None, World()))
        one_from_two.unlink(missing_ok=True)
    found["stopped"] = trained_to(folder / "one0.pt", 7 if rank == 1 else 9, world)["position"]
    if rank == 0:
        trained_to(one_from_two, 13, World())
    dist.barrier()
    found["resumed"].append(trained_to(folder / "one0.pt", None, world))
    # What one process alone makes of it: each of the two does a half.
    own = NAMES[rank::WORLD]
    found["alone"] = {name: trained(name, World()) for name in own}
    if rank == 0:
        found["alone with batch norm"] = trained("simkd+kd", World(), batch_norm=True, recipe=SHORT)
        found["alone to the end"] = trained("crd+kd", World(), recipe=SHORT)
    torch.save(found, folder / f"{rank}.pt")
    # The other one ends: it is noticed at once, and not after the timeout.
    dist.barrier()
    if rank == 1:
        os._exit(3)
    with contextlib.suppress(PeerError):
        while True:
            world.any(False)
    (folder / "noticed").touch()


if __name__ == "__main__":
    main()
