"""Memory and time of a loss at a language model's vocabulary, with and without `chunk=`.

    python benchmarks/large_vocabulary.py --json book/records/bench/vocabulary.json

Each way is a process of its own, whose highest resident memory the system counts. What is reported is what the loss and
its backward pass need beyond the logits of student and teacher and the student's gradient, which every loss has. Times
are of the processor, the least of a few, so that what else runs on the machine counts little; the record has their ratio.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adakd import create_method
from adakd.training import write_json
from adakd.training.record import environment

REPEATS = 3


def peak() -> int:
    """Highest resident memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def gradient_of(
    method: str, chunk: int | None, student: Tensor, teacher: Tensor, target: Tensor
) -> tuple[float, Tensor]:
    """The loss, and its gradient for the student's logits."""
    total = create_method(method, chunk=chunk)(student, teacher, target, epoch=1).total
    return total.item(), torch.autograd.grad(total, student)[0]


def measure(method: str, shape: tuple[int, ...], chunk: int | None) -> dict[str, Any]:
    """Memory beyond the inputs and their gradient, bytes; the loss, and a few sums of its gradient."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.empty(shape).normal_(generator=generator) for _ in range(2))
    target = torch.randint(shape[-1], shape[:-1], generator=generator)
    leaf = student.requires_grad_()
    # What is loaded at the first call stays, and is no memory of the loss.
    gradient_of(
        method, 2 if chunk else None, *(x[:1, :4, :8].clone() for x in (leaf, teacher)), target[:1, :4] % 8
    )
    before = peak()
    total, gradient = gradient_of(method, chunk, leaf, teacher, target)
    extra = peak() - before - gradient.nbytes
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        gradient_of(method, chunk, leaf, teacher, target)
        seconds.append(time.process_time() - start)
    rows = gradient.flatten(0, -2)
    return {
        "chunk": chunk,
        "extra": extra,
        "seconds": min(seconds),
        "inputs": 3 * student.nbytes,
        "total": total,
        "gradient_norms": [rows[row].norm().item() for row in range(0, len(rows), max(1, len(rows) // 8))],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="zkd+mlt")
    parser.add_argument("--shape", type=int, nargs=3, default=(2, 1024, 50257), metavar=("B", "T", "V"))
    parser.add_argument("--chunk", type=int, default=64, help="rows a slice (default: %(default)s)")
    parser.add_argument("--only", choices=("plain", "sliced"), help="measure one way, in this process")
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    options = parser.parse_args()
    if options.only:
        chunk = options.chunk if options.only == "sliced" else None
        print(json.dumps(measure(options.method, tuple(options.shape), chunk)))
        return
    arguments = ["--method", options.method, "--chunk", str(options.chunk), "--shape", *map(str, options.shape)]
    found = {}
    for way in ("sliced", "plain"):
        done = subprocess.run(
            [sys.executable, __file__, *arguments, "--only", way], stdout=subprocess.PIPE, text=True, check=True
        )
        found[way] = json.loads(done.stdout)
        print(
            f"{way}: {found[way]['extra'] / 2**30:.2f} GiB beyond inputs of {found[way]['inputs'] / 2**30:.2f} GiB"
        )
    ratio = found["plain"]["extra"] / found["sliced"]["extra"]
    times = {way: found[way].pop("seconds") for way in found}
    slower = times["sliced"] / times["plain"]
    numbers = [[found[way]["total"], *found[way]["gradient_norms"]] for way in ("plain", "sliced")]
    apart = max(abs(a - b) / abs(a) for a, b in zip(*numbers, strict=True))
    print(f"memory, plain to sliced: {ratio:.1f}; time, sliced to plain: {slower:.2f}")
    print(f"loss and gradients differ by {apart:.1e} of themselves at most")
    if options.json:
        record = {
            "schema": 1,
            "kind": "bench-large-vocabulary",
            "status": "complete",
            "config": {"method": options.method, "shape": list(options.shape), "chunk": options.chunk},
            **environment(torch.device("cpu")),
            **found,
            "plain_to_sliced": ratio,
            "time_sliced_to_plain": slower,
            "relative_difference": apart,
        }
        write_json(options.json, record)


if __name__ == "__main__":
    main()
