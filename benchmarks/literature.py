"""The training loop of the distillation literature, written from its description: what adakd's speed is compared with.

Images are decoded by PIL transforms in worker processes, the teacher runs along in fp32, tensors are NCHW, and every
step waits for the device to report its loss and two accuracies. Nothing in here is meant to be used for training.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from adakd.data import ImageData, Views


class PilImages(Dataset):
    """Images as (C, H, W) tensors by PIL: pad, crop, mirror, scale, normalize, one image at a time.

    What torchvision's transforms of these names do, operation by operation: RandomCrop(padding=…),
    RandomHorizontalFlip, ToTensor, Normalize. Written out, for torchvision would bring its own torch along.

    Args:
        data: the set.
        views: (N,) a view for each image, numbered as in `adakd.data.Views`; drawn at random when left out.
    """

    def __init__(self, data: ImageData, views: Tensor | None = None):
        self.images = [Image.fromarray(image) for image in data.train.images.numpy()]
        self.labels = data.train.labels.tolist()
        self.views, self.padding, self.size = views, data.padding, data.train.images.shape[1]
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        image = self._show(image, self._draw() if self.views is None else int(self.views[index]))
        return self._finish(image), self.labels[index]

    def _draw(self) -> int:
        return int(torch.randint(2 * (2 * self.padding + 1) ** 2, ()))

    def _show(self, image: Image.Image, view: int) -> Image.Image:
        offsets = 2 * self.padding + 1
        mirrored, crop = divmod(view, offsets**2)
        top, left = divmod(crop, offsets)
        image = ImageOps.expand(image, self.padding).crop((left, top, left + self.size, top + self.size))
        return ImageOps.mirror(image) if mirrored else image

    def _finish(self, image: Image.Image) -> Tensor:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return pixels.float().div(255).sub_(self.mean).div_(self.std)


def accuracy(logits: Tensor, labels: Tensor, top: int) -> float:
    """Share of the batch whose label is among the `top` highest logits, in percent."""
    found = logits.topk(top, dim=1).indices == labels[:, None]
    return 100.0 * found.any(dim=1).float().mean().item()


def kd_loss(student: Tensor, teacher: Tensor, labels: Tensor, tau: float = 4.0) -> Tensor:
    """0.1 · CE + 0.9 · τ² · KL, as Hinton's method is commonly written."""
    soft = F.kl_div(F.log_softmax(student / tau, dim=1), F.softmax(teacher / tau, dim=1), reduction="batchmean")
    return 0.1 * F.cross_entropy(student, labels) + 0.9 * tau**2 * soft


def train(
    model: nn.Module, teacher: nn.Module, loader: DataLoader, *, lr: float = 0.05, clock=lambda: None
) -> Iterator[float]:
    """One epoch of KD; yields the loss of each step after reading it. `clock` is called before the first step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4, foreach=False)
    model.train()
    teacher.eval()
    for step, (images, labels) in enumerate(loader):
        if step == 0:
            clock()  # the workers have started and delivered: not counted against this loop
        with torch.no_grad():
            taught = teacher(images)
        logits = model(images)
        loss = kd_loss(logits, taught, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        accuracy(logits, labels, 1)
        accuracy(logits, labels, 5)
        yield loss.item()


def loader_of(data: ImageData, batch_size: int, workers: int, images: int | None = None) -> DataLoader:
    """Shuffled batches of random views."""
    pictures = PilImages(data)
    if images is not None:
        pictures = Subset(pictures, range(images))
    return DataLoader(pictures, batch_size, shuffle=True, num_workers=workers)


def batches_of(data: ImageData, views: Views, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The very batches that adakd shows in an epoch, made by PIL."""
    chosen = torch.empty(len(data.train), dtype=torch.int64)
    positions = torch.arange(len(views))
    chosen[views.index] = views.choose(epoch, positions)
    pictures = PilImages(data, chosen)
    for part in views.index[views.order(epoch)].split(batch_size):
        images, labels = zip(*(pictures[int(index)] for index in part), strict=True)
        yield torch.stack(images), torch.tensor(labels)
