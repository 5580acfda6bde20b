"""The contrast of CRD: a row's embeddings of both networks against a memory of the training set (Tian et al. 2020)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._check import check_numbers, check_whole
from .._hash import hashed
from ..signals import Batch, Signals, Taps
from ._features import feature, position, refuse_unbuilt
from ._layers import unit
from .base import Term

__all__ = ["CRD"]

_DRAW = 7  # a stream of `hashed` of its own
_EPS = 1e-7  # of the released code; it also keeps the logarithm finite where no negative is left


class CRD(Term):
    r"""Noise contrast of embeddings: the same image in both networks against other images.

    With unit vectors :math:`v_i = W_s f^s_i / \|\cdot\|` and :math:`w_i = W_t f^t_i / \|\cdot\|`, memories
    :math:`m^s, m^t` of both for all n training images, and images j drawn for each image i, K of which count:

    .. math:: \ell_i = \mathrm{NCE}(v_i, m^t) + \mathrm{NCE}(w_i, m^s), \qquad
              \mathrm{NCE}(v_i, m) = -\log\frac{P_{ii}}{P_{ii} + c} - \sum_{j} \log\frac{K/n}{P_{ij} + c}, \qquad
              P_{ij} = \frac{e^{v_i\cdot m_j/\tau}}{Z}

    with :math:`c = K/n + 10^{-7}` and Z estimated once, at the first training batch, as n times the mean of the
    exponentials. After each training batch :math:`m_i \leftarrow (\mu m_i + (1-\mu) v_i)/\|\cdot\|`.

    The images drawn are a pure function of seed, epoch and position: independent of the order and of the batch, so that
    a resumed run goes on exactly. An image is never its own negative, nor (from its second epoch on, when its label has
    been seen) one of the same class. Without an epoch the draws are those of epoch 0. Under `DistributedDataParallel` give
    it ``broadcast_buffers=False``: each process then remembers the images that it sees itself. (Otherwise the first
    process's memory is put over the others', which a warning says.) Gradients are averaged, so that weights stay the same.

    Args:
        width: of the embeddings.
        negatives: K; n - 1 where the training set is smaller.
        tau: temperature :math:`\tau` of the contrast.
        momentum: :math:`\mu`.

    Shapes: features ``pooled`` (N, C); logits are not read. Returns (N,), in nats.

    Raises:
        TypeError, ValueError: for positions that are not (N,) integers below the size of the training set.
        ValueError: for an option out of range, a training set of one image, or a batch without positions.

    Source: Tian et al. 2020 (arXiv 1910.10699) and their released code.

    Differs from the paper:
        - Negatives are drawn with replacement and by hashing; the released code draws from the images of other classes,
          without replacement where there are enough. Here those of the same class count 0 once their labels are known.
        - Scores of all n images are computed and those drawn are counted: this spares gathering B·K vectors, and a
          gradient whose last bits depend on the order in which a GPU adds them up.
    """

    taps = Taps(("pooled",), ("pooled",))
    reads_target = True
    reads_epoch = True
    keeps_state = True
    own_memory = True

    memory_student: Tensor
    memory_teacher: Tensor
    partition: Tensor
    labels: Tensor
    seed: Tensor

    def __init__(self, width: int = 128, negatives: int = 16384, tau: float = 0.07, momentum: float = 0.5):
        super().__init__()
        check_whole(1, width=width, negatives=negatives)
        check_numbers("a number", tau=tau, momentum=momentum)
        if not 0 < tau < math.inf:
            raise ValueError(f"tau: expected a positive number, got {tau!r}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1), got {momentum!r}")
        self.width, self.negatives, self.tau, self.momentum = width, negatives, tau, momentum

    def build(self, student: Signals, teacher: Signals, train_images: int) -> None:
        if train_images < 2:
            raise ValueError(
                f"CRD contrasts images of the training set: expected at least 2, got {train_images}"
            )
        channels = [
            feature(signals, "pooled", network).flatten(1).shape[1]
            for signals, network in ((student, "student"), (teacher, "teacher"))
        ]
        self.embed_student, self.embed_teacher = (nn.Linear(number, self.width) for number in channels)
        bound = math.sqrt(3 / self.width)  # rows of norm 1, in the mean of squares
        for name in ("memory_student", "memory_teacher"):
            self.register_buffer(name, torch.empty(train_images, self.width).uniform_(-bound, bound))
        self.register_buffer(
            "partition", torch.zeros(2)
        )  # Z of the student's and the teacher's scores; 0: not yet
        self.register_buffer("labels", torch.full((train_images,), -1))
        self.register_buffer("seed", torch.randint(2**31, ()))

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        refuse_unbuilt(self, "partition")
        of_student, target = feature(student, "pooled", "student").flatten(1), batch.target
        index = position(batch, self, len(of_student), len(self.labels))
        assert target is not None  # reads_target
        v = unit(self.embed_student(of_student))
        w = unit(self.embed_teacher(feature(teacher, "pooled", "teacher").flatten(1).detach()))
        counts = self.counts(self.draw(index, batch.epoch))
        counts = counts * (self.labels != target.unsqueeze(1))
        value, partition = self.contrast(v, w, index, counts)
        if self.training:
            self.remember(v, w, index, target, partition)
        return value

    def draw(self, index: Tensor, epoch: int | None) -> Tensor:
        """Positions (B, K) of the images that each image is contrasted with: any but its own, equally likely."""
        others = len(self.memory_teacher) - 1
        number = min(self.negatives, others)
        # Tensors may stand where `hashed` has an epoch: the seed is one, so that no step waits for its value.
        row = hashed(_DRAW, 0, self.seed, hashed(_DRAW, 0, epoch or 0, index)).unsqueeze(1)
        place = torch.arange(number, device=index.device).expand(len(index), number)
        drawn = (hashed(_DRAW, 0, row, place) * others) >> 32
        return drawn + (drawn >= index.unsqueeze(1))

    def counts(self, drawn: Tensor) -> Tensor:
        """How often each image of the memory was drawn for each row, (B, n)."""
        memory = self.memory_teacher
        none = torch.zeros(len(drawn), len(memory), dtype=memory.dtype, device=memory.device)
        return none.scatter_add(1, drawn, torch.ones_like(drawn, dtype=memory.dtype))

    def contrast(self, v: Tensor, w: Tensor, index: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Value of each row (B,), and Z of both directions (2,), from embeddings (B, width) and counts (B, n)."""
        directions = ((v, self.memory_teacher), (w, self.memory_student))
        value, constants = v.new_zeros(len(v)), []
        own = F.one_hot(index, counts.shape[1]).to(counts.dtype)
        for number, (anchor, memory) in enumerate(directions):
            # A copy, since the memory changes before the backward pass, which needs it as it was.
            score = anchor @ memory.clone().T / self.tau  # (B, n)
            used = own + counts
            estimate = (score.detach().exp() * used).sum() / used.sum() * len(memory)
            z = torch.where(self.partition[number] > 0, self.partition[number], estimate)
            constants.append(z)
            value = value + _nce(score - z.log(), index, counts)
        return value, torch.stack(constants)

    @torch.no_grad()
    def remember(self, v: Tensor, w: Tensor, index: Tensor, target: Tensor, partition: Tensor) -> None:
        """Move the memories of these images towards their embeddings, and keep Z and labels."""
        for memory, embedding in ((self.memory_student, v), (self.memory_teacher, w)):
            moved = self.momentum * memory[index] + (1 - self.momentum) * embedding.to(memory.dtype)
            memory.index_copy_(0, index, unit(moved))
        self.labels.index_copy_(0, index, target)
        self.partition.copy_(partition)

    def extra_repr(self) -> str:
        return f"width={self.width}, negatives={self.negatives}, tau={self.tau:g}, momentum={self.momentum:g}"


def _nce(log_p: Tensor, index: Tensor, counts: Tensor) -> Tensor:
    """Noise contrast of each row (B,), from log P (B, n), the image's own position and how often others were drawn."""
    noise = counts.sum(dim=1, keepdim=True) / counts.shape[1]  # K/n
    log_c = (noise + _EPS).log()
    own = F.logsigmoid(log_p.gather(1, index.unsqueeze(1)) - log_c)
    others = counts * (F.logsigmoid(log_c - log_p) - log_c)
    # K·log(K/n), of which nothing is left where K = 0.
    constant = torch.xlogy(counts.sum(dim=1), noise.squeeze(1))
    return -(own.squeeze(1) + others.sum(dim=1) + constant)
