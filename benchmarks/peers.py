"""What a loss costs beside the published formula written down plainly: `python benchmarks/peers.py`.

The formulas are typed anew from their descriptions, the papers' equations and what the golden cases say the released codes
compute (tests/golden), in the operations that these descriptions name and with none of our guards. Both sides take turns
step by step, forward and backward, on one thread (`adakd.bench.alternate`). A ratio above 1 means that ours is faster.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch._inductor.config
import torch.nn.functional as F
from torch import Tensor

from adakd import create_method
from adakd.bench import SHAPES, alternate
from adakd.training import write_json
from adakd.training.record import environment

C2 = (1 + math.sqrt(3)) / 2
MASK = -1000.0
WARMUP_EPOCHS = 20


def kl(student: Tensor, teacher: Tensor, tau_s: Any, tau_t: Any) -> Tensor:
    """KL of softened probabilities, of each row."""
    log_q, p = F.log_softmax(student / tau_s, dim=1), F.softmax(teacher / tau_t, dim=1)
    return F.kl_div(log_q, p, reduction="none").sum(dim=1)


def zscore(logits: Tensor) -> Tensor:
    """Rows divided by their sample deviation and 1e-7."""
    return (logits - logits.mean(dim=1, keepdim=True)) / (logits.std(dim=1, keepdim=True) + 1e-7)


@torch.no_grad()
def highest(student: Tensor, teacher: Tensor) -> Tensor:
    """The released maximum logit: of absolute values, of both networks, (B, 1)."""
    peaks = [logits.abs().max(dim=1, keepdim=True).values for logits in (student, teacher)]
    return C2 * torch.max(*peaks)


def decoupled(student: Tensor, teacher: Tensor, target: Tensor, tau: Any, alpha: float, beta: float) -> Tensor:
    """DKD by masks: of the target, and of -1000 on it, of each row."""
    of_target = torch.zeros_like(student).scatter_(1, target.unsqueeze(1), 1.0)
    q, p = F.softmax(student / tau, dim=1), F.softmax(teacher / tau, dim=1)
    q, p = (
        torch.cat([(x * of_target).sum(1, keepdim=True), (x * (1 - of_target)).sum(1, keepdim=True)], dim=1)
        for x in (q, p)
    )
    tckd = F.kl_div(q.log(), p, reduction="none").sum(dim=1)
    log_q = F.log_softmax(student / tau + MASK * of_target, dim=1)
    p = F.softmax(teacher / tau + MASK * of_target, dim=1)
    nckd = F.kl_div(log_q, p, reduction="none").sum(dim=1)
    return alpha * tckd + beta * nckd


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Correlation of rows."""
    a, b = (x - x.mean(dim=1, keepdim=True) for x in (a, b))
    return (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-8)


# ---- the losses: student and teacher logits (B, K), labels (B,) and the epoch in, the total out ----


def kd(student: Tensor, teacher: Tensor, target: Tensor, epoch: int) -> Tensor:
    return 0.1 * F.cross_entropy(student, target) + 0.9 * kl(student, teacher, 4.0, 4.0).mean() * 4.0**2


def zkd(student: Tensor, teacher: Tensor, target: Tensor, epoch: int) -> Tensor:
    value = kl(zscore(student), zscore(teacher), 2.0, 2.0).mean() * 2.0**2
    return 0.1 * F.cross_entropy(student, target) + 9.0 * value


def zkd_mlt(student: Tensor, teacher: Tensor, target: Tensor, epoch: int) -> Tensor:
    z_s, z_t = zscore(student), zscore(teacher)
    tau = highest(z_s, z_t)
    value = (kl(z_s, z_t, tau, tau) * tau.squeeze(1) ** 2).mean()
    return 0.1 * F.cross_entropy(student, target) + 9.0 * value


def dkd(student: Tensor, teacher: Tensor, target: Tensor, epoch: int) -> Tensor:
    value = decoupled(student, teacher, target, 4.0, 1.0, 8.0).mean() * 4.0**2
    return F.cross_entropy(student, target) + min(epoch / WARMUP_EPOCHS, 1.0) * value


def zdkd_mlt(student: Tensor, teacher: Tensor, target: Tensor, epoch: int) -> Tensor:
    z_s, z_t = zscore(student), zscore(teacher)
    tau = highest(z_s, z_t)
    value = (decoupled(z_s, z_t, target, tau, 1.0, 8.0) * tau.squeeze(1) ** 2).mean()
    return F.cross_entropy(student, target) + 9.0 * min(epoch / WARMUP_EPOCHS, 1.0) * value


def dist(student: Tensor, teacher: Tensor, target: Tensor, epoch: int) -> Tensor:
    q, p = F.softmax(student / 4.0, dim=1), F.softmax(teacher / 4.0, dim=1)
    value = (1 - pearson(q, p).mean()) + (1 - pearson(q.t(), p.t()).mean())
    return F.cross_entropy(student, target) + 2.0 * 4.0**2 * value


def dtkd(student: Tensor, teacher: Tensor, target: Tensor, epoch: int) -> Tensor:
    m_s, m_t = (logits.max(dim=1, keepdim=True).values for logits in (student, teacher))
    tau_s, tau_t = 2 * 4.0 * m_s / (m_s + m_t), 2 * 4.0 * m_t / (m_s + m_t)
    adaptive = (kl(student, teacher, tau_s, tau_t) * (tau_s * tau_t).squeeze(1)).mean()
    fixed = kl(student, teacher, 4.0, 4.0).mean() * 4.0**2
    value = 3.0 * adaptive + 1.0 * fixed
    return F.cross_entropy(student, target) + min(epoch / WARMUP_EPOCHS, 1.0) * value


def ttm(student: Tensor, teacher: Tensor, target: Tensor, epoch: int) -> Tensor:
    power = F.softmax(teacher, dim=1) ** 0.1
    p = power / power.sum(dim=1, keepdim=True)
    value = F.kl_div(F.log_softmax(student, dim=1), p, reduction="none").sum(dim=1).mean()
    return F.cross_entropy(student, target) + 45.0 * value


class Pair(NamedTuple):
    """A published loss, and the method here that it is timed beside."""

    peer: Callable[[Tensor, Tensor, Tensor, int], Tensor]
    method: str
    same: bool
    """Whether both have the same value; else ours is the paper's definition beside the released one."""


PAIRS = (
    Pair(kd, "kd", True),
    Pair(zkd, "zkd", True),
    Pair(zkd_mlt, "zkd+mlt-abs", True),
    Pair(zkd_mlt, "zkd+mlt", False),
    Pair(dkd, "dkd", True),
    Pair(zdkd_mlt, "zdkd+mlt-abs", True),
    Pair(zdkd_mlt, "zdkd+mlt", False),
    Pair(dist, "dist", True),
    Pair(dtkd, "dtkd-max", True),
    Pair(dtkd, "dtkd", False),
    Pair(ttm, "ttm", True),
)


def batch_of(
    rows: int, classes: int, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[Tensor, ...]:
    """Student and teacher logits whose largest is above 0 in every row, as DTKD needs it, and labels."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        torch.randn(rows, classes, generator=generator, dtype=dtype).to(device) for _ in range(2)
    )
    target = torch.randint(classes, (rows,), generator=generator).to(device)
    return student.requires_grad_(), teacher, target


def compare(pair: Pair, shape: tuple[int, int], options: argparse.Namespace) -> dict[str, Any]:
    """Both in turns: peer's time over ours, as `adakd.bench.alternate` has it."""
    device = torch.device(options.device)
    batch = batch_of(*shape, device=options.device)
    criterion = create_method(pair.method).to(device)

    def ours(student: Tensor, teacher: Tensor, target: Tensor, epoch: int) -> Tensor:
        return criterion(student, teacher, target, epoch).total

    losses: list[Callable[..., Tensor]] = [pair.peer, ours]
    if options.compiled:
        torch.compiler.reset()
        losses = [torch.compile(loss, fullgraph=True, dynamic=False) for loss in losses]

    def step_of(loss: Callable[..., Tensor]) -> Callable[[], None]:
        def step() -> None:
            loss(*batch, 1).backward()
            batch[0].grad = None

        return step

    label = f"{pair.method} {shape[0]}x{shape[1]}"
    return alternate(
        *map(step_of, losses), device, pairs=options.pairs, label=label, progress=not options.quiet
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--compiled", action="store_true", help="both sides through torch.compile, in one graph"
    )
    parser.add_argument(
        "--vectors",
        type=int,
        metavar="BITS",
        help="width of the CPU's vectors that compiled code may use, as 256 for AVX2 (default: the widest)",
    )
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="these of ours only")
    parser.add_argument(
        "--pairs", type=int, default=300, help="fours of steps a comparison (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress display")
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch._inductor.config.cpp.simdlen = options.vectors
    chosen = [pair for pair in PAIRS if options.methods is None or pair.method in options.methods]
    rows = []
    print(f"{'method':14}{'peer':10}{'shape':10}{'peer/ours':>10}   95 % interval")
    for pair in chosen:
        ratio: dict[str, Any] = {}
        for shape in SHAPES:
            name = f"{shape[0]}x{shape[1]}"
            found = ratio[name] = compare(pair, shape, options)
            print(
                f"{pair.method:14}{pair.peer.__name__:10}{name:10}{found['median']:10.2f}   "
                f"{found['low']:.2f} to {found['high']:.2f}",
                flush=True,
            )
        rows.append(
            {"method": pair.method, "peer": pair.peer.__name__, "same_value": pair.same, "peer_to_ours": ratio}
        )
    if options.json:
        record = {
            "schema": 1,
            "kind": "bench-peers",
            "status": "complete",
            "config": {
                "compiled": options.compiled,
                "pairs": options.pairs,
                "threads": options.threads,
                "device": options.device,
                "vectors": options.vectors,
            },
            **environment(torch.device(options.device)),
            "rows": rows,
        }
        write_json(options.json, record)


if __name__ == "__main__":
    main()
