"""Runs that nobody trained: histories and accuracies, and the figures with some in them."""

import torch

from adakd.explore import RankingExplorer, SentenceExplorer, TrainingProgress


def row(epoch, test=None, taught=True, **fields):
    own = {"loss": 5 / epoch, "ce": 4 / epoch, "kd": 0.5 / epoch, "train_accuracy": 20 + 5 * epoch}
    own |= {"correlation": 1 - 0.5 / epoch, "temperature": 3.0} if taught else {"kd": 0.0}
    plain = {"epoch": epoch, "lr": 0.1, "correlation": 0.0, "temperature": 0.0, "rule_gradient": 0.0}
    return plain | own | ({} if test is None else {"test_accuracy": test}) | fields


def history(epochs, every=2, **options):
    return [row(e, test=30.0 + e if e % every == 0 else None, **options) for e in range(1, epochs + 1)]


class Example(TrainingProgress):
    """The figure with something to show, for the tests that all figures share."""

    def __init__(self, **state):
        super().__init__(**{"epoch": 3} | state)
        self.add_run("kd, seed 0", history(6))
        self.add_run("kd, seed 1", history(4, every=1), epochs=8)
        self.add_run("ce", history(6, taught=False))


def _runs(*rows):
    return [{"ce": 0.1, "kd": kd, "accuracies": accuracies} for kd, accuracies in rows]


RANKED = {
    "seeds": [0, 1, 2],
    "t": {"2": [12.706204736432095, 38.18845930], "3": [4.302652729749464, 7.648908263]},
    "methods": [
        {
            "name": "zkd",
            "group": "standardized",
            "runs": _runs((9.0, [36.0, 37.0, 38.5]), (36.0, [39.0, 38.0, 38.2])),
            "ways": {"published": 0, "matched": 0, "chosen": 1},
        },
        {
            "name": "zkd+mlt",
            "group": "maximum logit",
            "runs": _runs((3.0, [28.0, None, None]), (9.0, [35.0, 36.0, 34.5]), (11.3, [38.0, 37.0, None])),
            "ways": {"published": 1, "matched": 2, "chosen": 2},
        },
        {
            "name": "kd",
            "group": "others",
            "runs": _runs((0.9, [29.0, 30.0, 29.5]), (5.5, [31.0, 33.0, 32.0])),
            "ways": {"published": 0, "matched": 1, "chosen": None},
        },
        {
            "name": "ce",
            "group": "labels only",
            "runs": [{"ce": 1.0, "kd": None, "accuracies": [20.0, 21.0, 20.5]}],
            "ways": {"published": 0, "matched": 0, "chosen": 0},
        },
    ],
}


class Ranked(RankingExplorer):
    """The ranking of four methods."""

    def __init__(self, **state):
        super().__init__(**{"data": RANKED} | state)


def made_up_rows(positions=5, size=20):
    """Logits (T, V) of a teacher with one peak, then two, then more, and of a student who knows half of it."""
    generator = torch.Generator().manual_seed(0)
    noise, error = torch.randn(2, positions, size, generator=generator, dtype=torch.float64)
    peaks = torch.arange(size) < 2 ** torch.arange(positions)[:, None]
    teacher = noise + 5 * peaks
    return teacher, teacher / 2 + error


class Sentence(SentenceExplorer):
    """Six words and what may follow."""

    def __init__(self, **state):
        teacher, student = made_up_rows()
        data = state.pop("data", None)  # as a page has it
        super().__init__(
            words=["so", "tu", "ma", "me", "go", "vi"],
            vocabulary=[f"w{k}" for k in range(20)],
            teacher=teacher,
            student=student,
            truth=teacher.softmax(1).flip(0),
            plausible=[1, 2, 4, 8, 16],
            **state,
        )
        if data:
            self.data = data
