"""Histories of runs that nobody trained, and the figure of training with some in it."""

from adakd.explore import TrainingProgress


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
