"""Where a chapter runs: what the book's first cell finds out and prints, on a reader's machine or on Colab."""

import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from ..data import ImageData, Views
from ..models import create_model
from ..models._layout import channels_last
from ..training import Recipe, choose_precision, steps_of

__all__ = ["Session", "minutes", "start_session"]


@dataclass(frozen=True)
class Session:
    """The machine a chapter runs on; its repr is what the reader sees."""

    gpu: str | None
    """Name of the GPU; None without one."""
    colab: bool
    kept: Path | None
    """Folder in which runs outlive the notebook; None where they are small enough to be made anew."""

    @cached_property
    def runs(self) -> Path:
        """Folder for the runs of this chapter: `kept`, else a temporary one."""
        return self.kept or Path(tempfile.mkdtemp(prefix="adakd-"))

    @property
    def data(self) -> str:
        """What chapters that train use here: CIFAR-100 with a GPU, else the small set that adakd draws itself."""
        return "cifar100" if self.gpu else "gratings"

    def __repr__(self) -> str:
        lines = [f"Python {platform.python_version()}, torch {torch.__version__}, on {self.gpu or 'the CPU'}"]
        if self.gpu:
            lines += [
                "Chapters that train do so on CIFAR-100 here, and print how long it takes.",
                f"Runs are kept in {self.kept}; a cell that was stopped continues when it is run again.",
            ]
        else:
            lines += ["Chapters that train use a small set here; each chapter takes less than a minute."]
            lines += ["For a GPU: Runtime, Change runtime type, T4."] if self.colab else []
        return "\n".join(lines)


def start_session(drive: bool = False) -> Session:
    """Look for a GPU and decide where runs are kept.

    Args:
        drive: on Colab, mount the reader's Google Drive and keep runs in its folder ``adakd-runs``.

    Raises:
        ValueError: if `drive` is wanted elsewhere than on Colab.
    """
    colab = "google.colab" in sys.modules
    if drive and not colab:
        raise ValueError(
            "drive: expected False outside of Colab, got True; leave it out, and what trains on a GPU is kept in the folder runs"
        )
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    if drive:
        from google.colab import drive as google_drive

        google_drive.mount("/content/drive")
        return Session(gpu, colab, Path("/content/drive/MyDrive/adakd-runs"))
    return Session(gpu, colab, Path("runs").resolve() if gpu else None)


def minutes(model: str, data: ImageData, recipe: Recipe, *, steps: int = 20) -> float:
    """About how long a run of this recipe takes on the device of `data`, from a few of its training steps.

    A little is left out (measuring on the test set, filling a cache of the teacher's logits), and a little is gained
    later (on a GPU, steps are captured), so read it as the order of magnitude.

    Args:
        model: a name of `adakd.MODELS`, of the network that trains.
        data: where training happens, too.
        recipe: its batch size, number of images and epochs count.
        steps: how many are timed.

    Raises:
        ValueError: for an unknown model.
    """
    device = data.device
    with torch.random.fork_rng(devices=[]):
        network = create_model(model, data.num_classes)
    network = channels_last(network, device).train()
    precision = choose_precision("auto", device, sum(p.numel() for p in network.parameters()))
    optimizer, views = recipe.optimizer(network.parameters()), Views(data, seed=0)
    seen = torch.arange(recipe.batch_size, device=device) % len(views)

    def step() -> None:
        images = views.render(seen, views.choose(1, seen))
        with precision.autocast(device):
            loss = cross_entropy(network(images).float(), data.train.labels[seen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    for count in (3, steps):  # the first ones also choose kernels and fill memory
        started = time.perf_counter()
        for _ in range(count):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent = (time.perf_counter() - started) / count
    return steps_of(data, recipe) * spent / 60
