"""What runs are compared by: accuracy on images; on text nats a token, and the distance to the truth where it is known."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .._check import check_kind

__all__ = ["ACCURACY", "NATS", "TO_TRUTH", "Measure", "measures_of"]


class Measure(NamedTuple):
    """A number that a record says of its network on the test split."""

    field: str
    """Of the record's ``result``."""
    validation: str
    """The same on examples that the recipe holds out."""
    title: str
    sign: int
    """1 where more is better, -1 where less is."""
    digits: int

    def of(self, record: Mapping[str, Any]) -> float:
        """The number itself."""
        value: float = record["result"][self.field]
        return value


ACCURACY = Measure("last", "validation", "accuracy, %", 1, 2)
NATS = Measure("nats", "validation_nats", "nats a token", -1, 4)
TO_TRUTH = Measure("kl_to_truth", "validation_kl_to_truth", "KL to the truth", -1, 4)


def check_run_record(record: Any, *fields: str) -> None:
    """Raise TypeError for what is no mapping, and ValueError for one that lacks these fields of a run's record."""
    check_kind(Mapping, "the record of a run, as run.record", record=record)
    if missing := [field for field in fields if field not in record]:
        raise ValueError(f"record: expected the record of a run, as run.record, got one without {missing[0]!r}")


def measures_of(record: Mapping[str, Any]) -> tuple[Measure, ...]:
    """All that a record's network is measured by; runs are compared by the first."""
    check_run_record(record, "result")
    return (*(each for each in (NATS, TO_TRUTH) if each.field in record["result"]), ACCURACY)
