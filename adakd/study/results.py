"""A study as it stands in its folder: which runs belong to which kind of weights."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .._check import check_path, near_names
from ..methods import METHODS, get_method
from .protocol import PLAN, WAYS, read_failures, read_plan
from .records import read_records
from .tables import OF_NETWORK, Line, compare_records, weights_of

__all__ = ["StudyResults", "read_study"]

_FREE = {"ce_weight", "kd_weight", "warmup_epochs"}  # the only options in which a study's runs differ


@dataclass(frozen=True)
class StudyResults:
    """The plan of a study and its records, read from a folder; see `adakd.study.run_study`."""

    plan: Mapping[str, Any]
    """``study.json``: config, gradient norms, and the published, matched and chosen weights."""
    records: Sequence[Mapping[str, Any]]
    failures: Sequence[Mapping[str, Any]] = ()
    """Runs that diverged and were left out: way, method, seed, kd_weight, error, when."""

    @cached_property
    def _own(self) -> list[Mapping[str, Any]]:
        """Records of the study's network, data and recipe."""
        config = self.plan["config"]
        # Plans of older versions say nothing of a network but its name.
        shared = ("model", *(OF_NETWORK if "architecture" in config else ()), "data", "recipe", "precision")
        return [
            record
            for record in self.records
            if all(record["config"].get(name) == config.get(name) for name in shared)
            and record["config"]["teacher"] in (config["teacher"], None)
            and {name.rpartition(".")[2] for name in record["config"]["method_options"]} <= _FREE
        ]

    @property
    def methods(self) -> list[str]:
        """In the order of `adakd.METHODS`; combinations that have no row of their own come last."""
        found = {record["config"]["method"] for record in self._own}
        return [*(name for name in METHODS if name in found), *sorted(found - set(METHODS))]

    def weights(self, way: str, method: str) -> tuple[float | None, float | None] | None:
        """Weights on labels and teacher that a method has by that way; None where they are not known (yet).

        Both None: the published ones of a method that has no row here, for its package is not loaded.
        """
        if way not in WAYS:
            raise ValueError(near_names("way", way, WAYS))
        row = None
        try:
            row = get_method(method)
        except ValueError:
            if method not in self.methods:
                raise
        if row is not None and not row.needs_teacher:
            return row.ce_weight, None
        if way == "published":
            return (None, None) if row is None else (row.ce_weight, row.kd_weight)
        found = self.plan[way].get(method)
        if found is None:
            return None
        return self.plan["config"]["ce_weight"], found if way == "matched" else found["kd_weight"]

    def runs(self, way: str, method: str) -> dict[int, Mapping[str, Any]]:
        """By seed, the records of a method by that way. A method without a teacher is the same by every way."""
        weights = self.weights(way, method)
        return {
            record["seed"]: record
            for record in self._own
            if record["config"]["method"] == method and weights_of(record) == weights
        }

    def by_weights(self, method: str) -> dict[tuple[float | None, float | None], dict[int, Mapping[str, Any]]]:
        """All runs of a method: by its weights on labels and teacher, and by seed."""
        found: dict[tuple[float | None, float | None], dict[int, Mapping[str, Any]]] = {}
        for record in self._own:
            if record["config"]["method"] == method:
                found.setdefault(weights_of(record), {})[record["seed"]] = record
        return found

    def table(
        self,
        way: str,
        to: Sequence[str] = ("kd", "zkd"),
        methods: Iterable[str] | None = None,
        seeds: Iterable[int] | None = None,
    ) -> list[Line]:
        """A line for each method by that way, the best first.

        Args:
            way: "published", "matched" or "chosen".
            to: methods to compare all with.
            methods: only these.
            seeds: only these.
        """
        wanted = None if seeds is None else set(seeds)
        groups = {}
        for method in self.methods if methods is None else methods:
            runs = {
                seed: run for seed, run in self.runs(way, method).items() if wanted is None or seed in wanted
            }
            if runs:
                groups[method] = runs
        lines = compare_records(groups, [name for name in to if name in groups])
        return sorted(lines, key=lambda line: line.rank)


def read_study(folder: str | os.PathLike[str]) -> StudyResults:
    """Open the folder of a study, finished or not.

    Raises:
        FileNotFoundError: if it holds no study.
        ValueError: if a file in it is damaged.
    """
    check_path("a folder", folder=folder)
    path = Path(folder, PLAN)
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no study ({PLAN}); `adakd study {folder} --methods …` begins one"
        )
    failures = read_failures(folder)  # first: its error says what may be done about that file
    return StudyResults(read_plan(path), read_records(folder, complete=True), failures)
