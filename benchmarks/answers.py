"""The answers of a CIFAR-100 teacher to all training images, as a file to publish, and what is lost in it.

    python benchmarks/answers.py book/records/answers

Of each of the 50 000 images, as it is, the 16 highest log-probabilities, and that of each other class, in 8 bits
(`adakd.record_logits`), and beside the file a card: where the answers come from, their hash, and how far they are from the
teacher's whole softmax at several temperatures, with the rest of the probability spread evenly and with nothing else. The same is measured of the 16 classes in
32 bits, so that the loss by rounding stands apart from that by leaving out.

It needs CIFAR-100 (ADAKD_DATA) and takes a CPU a few minutes.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from adakd import Recorded, load_data, record_logits
from adakd.models import create_model
from adakd.training import load_weights, write_json
from adakd.training.files import sha256_of
from adakd.training.record import environment

TEACHER = Path("book/records/teachers/wrn_16_2-cifar100-quick-seed0.safetensors")
TOP = 16
TAUS = (1.0, 2.0, 4.0, 8.0)


def lost(logits: Tensor, recorded: Tensor, **about: Any) -> list[dict[str, Any]]:
    """Of each temperature KL from the recorded to the teacher's softmax in nats, and their total variation; means over images."""
    rows = []
    for tau in TAUS:
        log_p, log_q = ((x.double() / tau).log_softmax(dim=1) for x in (logits, recorded))
        p = log_p.exp()
        rows.append(
            {
                **about,
                "tau": tau,
                "kl": (p * (log_p - log_q)).sum(dim=1).mean().item(),
                "variation": 0.5 * (p - log_q.exp()).abs().sum(dim=1).mean().item(),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the file and its card")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    data = load_data("cifar100", official=False)
    teacher = load_weights(create_model("wrn_16_2", data.num_classes), TEACHER)
    path = out / f"wrn_16_2-cifar100-top{TOP}.safetensors"
    with TemporaryDirectory() as folder:
        logits = record_logits(teacher, data, Path(folder) / "whole.safetensors").logits(data.num_classes)
        kept = Replayed(logits)
        record_logits(kept, data, path, top=TOP, bits=8)
        record_logits(kept, data, Path(folder) / "top.safetensors", top=TOP)
        measured = []
        for missing in ("uniform", "zero"):
            for bits, file in ((8, path), (32, Path(folder) / "top.safetensors")):
                rows = Recorded(file, missing).logits(data.num_classes)
                measured += lost(logits, rows, missing=missing, bits=bits)
    p = logits.double().softmax(dim=1)
    write_json(
        path.with_suffix(".json"),
        {
            "schema": 1,
            "kind": "answers",
            "status": "complete",
            "config": {"top": TOP, "bits": 8, "taus": list(TAUS)},
            "data": {"name": data.name, "sha256": data.checksum, "images": len(data.train)},
            "teacher": {"model": "wrn_16_2", "sha256": sha256_of(TEACHER)},
            "file": {"name": path.name, "sha256": sha256_of(path), "bytes": path.stat().st_size},
            "right": (logits.argmax(dim=1) == data.train.labels).double().mean().item(),
            "beyond": (1 - p.topk(TOP, dim=1).values.sum(dim=1)).mean().item(),
            "lost": measured,
            **environment(torch.device("cpu")),
        },
    )
    for row in measured:
        print(
            "{missing:8} {bits:2} bits, τ = {tau:g}: KL {kl:.5f} nats, variation {variation:.4f}".format(**row)
        )


class Replayed(torch.nn.Module):
    """Logits that are known, batch by batch in their order: so that a teacher runs once for several files."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits, self.begin = logits, 0

    def forward(self, images: Tensor) -> Tensor:
        rows = self.logits[self.begin : self.begin + len(images)]
        self.begin = (self.begin + len(images)) % len(self.logits)
        return rows


if __name__ == "__main__":
    main()
