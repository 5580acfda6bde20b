"""A grid of runs: teachers × students × methods × seeds × overrides, as a TOML file says it, checked before anything runs."""

import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .._check import brief, check_file, check_name, near_names
from ..data import DATASETS, name_of, usual
from ..methods import create_method, fill_options, get_method
from ..methods.registry import options_of
from ..models import MODELS
from ..models.network import is_model
from ..plan import checked_seed
from ..training.cache import DTYPES
from ..training.recipe import SETTINGS, Recipe, get_recipe

__all__ = ["Cell", "Grid", "read_grid"]

_CACHES = (*DTYPES, "off")
Table = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run that a grid wants."""

    teacher: str | None
    """A model's name or the folder of a run; None for a method without a teacher."""
    student: str
    method: str
    options: tuple[tuple[str, Any], ...] = ()
    """Of the method, where they are not its row's."""
    changes: tuple[tuple[str, Any], ...] = ()
    """Of the recipe."""
    seed: int = 0

    @property
    def pair(self) -> str:
        """Teacher and student."""
        return self.student if self.teacher is None else f"{_short(self.teacher)} → {self.student}"

    @property
    def label(self) -> str:
        """The method, and what differs from its row and the recipe."""
        settings = ", ".join(f"{name}={value}" for name, value in (*self.options, *self.changes))
        return f"{self.method} ({settings})" if settings else self.method

    @property
    def name(self) -> str:
        """All of it, as messages say it."""
        return f"{self.pair}, {self.label}, seed {self.seed}"


def _short(teacher: str) -> str:
    return teacher if is_model(teacher) else Path(teacher).name


@dataclass(frozen=True)
class Grid:
    """Runs that belong together: every method on every pair of networks, over the same seeds.

    Attributes:
        name: of the sweep, by which its records are found.
        methods: names; or tables with a ``name`` and options of that method: ``{name = "kd", kd_weight = 9}``.
        pairs: teacher and student; or left out, and then `teachers` × `students`.
        teachers, students: names, or folders of finished runs for teachers; the data set's usual ones when left out.
        seeds: of the students.
        data: name of the data set.
        recipe: of the students; the data set's usual one when left out.
        settings: other values for the recipe, for all runs.
        overrides: an axis of its own. Each is a table of settings of the recipe and options of the methods, and every run
            is wanted with each.
        teacher: how a teacher is trained that is missing: ``recipe``, ``seed``, and settings of the recipe.
        precision: "auto", "fp32", "bf16" or "fp16".
        cache: format in which the teachers' logits are kept, "fp16" or "fp32"; "off" for teachers that run along.

    Raises:
        ValueError: for anything that no run could be made of, with what was expected.
    """

    name: str
    methods: tuple[Any, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    teachers: tuple[str, ...] = ()
    students: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    data: str = "gratings"
    recipe: str | None = None
    settings: Table = field(default_factory=dict)
    overrides: tuple[Table, ...] = ()
    teacher: Table = field(default_factory=dict)
    precision: str = "auto"
    cache: str = "fp16"

    def __post_init__(self) -> None:
        check_name("grid", self.name)
        self._check_kinds()
        _known("data set", self.data, DATASETS)
        if self.cache not in _CACHES:
            raise ValueError(f"cache: expected {', '.join(map(repr, _CACHES))}, got {brief(self.cache)}")
        precisions = ("auto", "fp32", "bf16", "fp16")
        if self.precision not in precisions:
            raise ValueError(
                f"precision: expected {', '.join(map(repr, precisions))}, got {brief(self.precision)}"
            )
        self._check_networks()
        for seed in self.seeds:
            checked_seed(seed)
        self._check_recipes()
        self._check_methods()

    def _check_kinds(self) -> None:
        for name in ("methods", "pairs", "teachers", "students", "seeds", "overrides"):
            values = getattr(self, name)
            if isinstance(values, str | Mapping) or not isinstance(values, Sequence):
                raise ValueError(f"{name}: expected a list, got {brief(values)}")
            object.__setattr__(self, name, tuple(map(_plain, values)))
            if any(values.count(one) > 1 for one in values):
                raise ValueError(f"{name}: expected each once, got {brief(list(values))}")
        for name in ("methods", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name}: expected at least one, got an empty list")
        for name in ("settings", "teacher"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"{name}: expected a table, got {brief(getattr(self, name))}")
        for override in self.overrides:
            if not isinstance(override, Mapping) or not override:
                raise ValueError(
                    f"overrides: expected tables with at least one setting each, got {brief(override)}"
                )
        for seed in self.seeds:
            if isinstance(seed, bool) or not isinstance(seed, int):
                raise ValueError(f"seeds: expected integers, got {brief(seed)}")
        for name in ("data", "precision", "cache", *(["recipe"] if self.recipe is not None else [])):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name}: expected a name, got {brief(getattr(self, name))}")

    def _check_networks(self) -> None:
        if self.pairs and (self.teachers or self.students):
            raise ValueError("pairs: give pairs, or teachers and students, and not both")
        for pair in self.pairs:
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ValueError(f"pairs: expected [teacher, student], got {brief(pair)}")
        for teacher, student in self.all_pairs:
            if not isinstance(student, str) or not is_model(student):
                raise ValueError(f"students: {near_names('model', student, MODELS)}")
            if not isinstance(teacher, str) or not (is_model(teacher) or Path(teacher).is_dir()):
                raise ValueError(
                    f"teachers: {near_names('model', teacher, MODELS)}; nor is it a folder of a finished run"
                )

    def _check_recipes(self) -> None:
        _known("setting of the grid", self.settings, SETTINGS)
        _known("setting of a teacher", self.teacher, ("recipe", "seed", *SETTINGS))
        if "train_images" in self.teacher:
            raise ValueError("teacher: a teacher sees all images; leave out train_images")
        checked_seed(self.teacher.get("seed", 0))
        self.teacher_recipe()
        for override in self.overrides or ({},):
            changes = {name: value for name, value in override.items() if name in SETTINGS}
            for _, student in self.all_pairs:
                self.student_recipe(student, changes)

    def _check_methods(self) -> None:
        for entry in self.methods:
            method, options = _method(entry)
            get_method(method)
            for override in self.overrides or ({},):
                given = {
                    **options,
                    **{name: value for name, value in override.items() if name not in SETTINGS},
                }
                for option in given:
                    if option not in options_of(method):
                        what = near_names(f"option of {method}:", option, options_of(method))
                        raise ValueError(f"{what}; nor is it a setting of the recipe: {', '.join(SETTINGS)}")
                create_method(method, **fill_options(method, given, epochs=240, num_classes=100, seed=0))

    @property
    def all_pairs(self) -> tuple[tuple[str, str], ...]:
        """Teachers and students, in their order."""
        if self.pairs:
            return self.pairs
        of_data = usual(name_of(self.data))
        return tuple(
            itertools.product(self.teachers or (of_data.teacher,), self.students or (of_data.student,))
        )

    def student_recipe(self, student: str, changes: Mapping[str, Any]) -> Recipe:
        """How a student is trained."""
        recipe = self.recipe or usual(self.data).recipe
        return get_recipe(recipe, "student", network=student, **{**self.settings, **changes})

    def teacher_recipe(self, network: str | None = None) -> Recipe:
        """How a teacher is trained that is missing."""
        settings = {name: value for name, value in self.teacher.items() if name not in ("recipe", "seed")}
        recipe = self.teacher.get("recipe") or self.recipe or usual(self.data).recipe
        return get_recipe(recipe, "teacher", network=network, **settings)

    def cells(self) -> list[Cell]:
        """All runs, each once; seed by seed, so that a stopped sweep is a smaller one."""
        found: dict[Cell, None] = {}
        for seed in self.seeds:
            for override in self.overrides or ({},):
                for (teacher, student), entry in itertools.product(self.all_pairs, self.methods):
                    found.setdefault(_cell(teacher, student, entry, override, seed))
        return list(found)

    def describe(self) -> dict[str, Any]:
        """The grid as plain data, without what is left at its default."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: _lists(value)
            for name, value in values.items()
            if value not in ((), {}, None) or name in ("methods", "seeds")
        }


def _cell(teacher: str, student: str, entry: Any, override: Table, seed: int) -> Cell:
    method, options = _method(entry)
    row = get_method(method)
    options = {**options, **{name: value for name, value in override.items() if name not in SETTINGS}}
    # What is the row's own value anyway makes no other run.
    changed = {name: value for name, value in options.items() if getattr(row, name, not value) != value}
    changes = {name: value for name, value in override.items() if name in SETTINGS}
    return Cell(
        teacher if row.needs_teacher else None,
        student,
        method,
        tuple(sorted((name, _plain(value)) for name, value in changed.items())),
        tuple(sorted((name, _plain(value)) for name, value in changes.items())),
        seed,
    )


def _method(entry: Any) -> tuple[str, dict[str, Any]]:
    """Name and options of an entry of `Grid.methods`."""
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
        return entry["name"], {name: value for name, value in entry.items() if name != "name"}
    raise ValueError(
        f'methods: expected names, or tables like {{name = "kd", kd_weight = 9}}, got {brief(entry)}'
    )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _lists(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_lists(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value


def _known(kind: str, names: Any, known: Sequence[str] | Mapping[str, Any]) -> None:
    """Raises ValueError for a name that is not known, or for such keys of a table."""
    for name in [names] if isinstance(names, str) else names:
        if name not in known:
            raise ValueError(near_names(kind, name, known))


def _entries(table: Table) -> Iterator[tuple[str, Any]]:
    known = [each.name for each in fields(Grid)]
    for name, value in table.items():
        if name not in known:
            raise ValueError(near_names("key of a grid", name, known))
        yield name, value


def read_grid(source: str | Path | Table, name: str | None = None, **changes: Any) -> Grid:
    """A grid from a TOML file, or from what such a file says.

    Args:
        source: path of the file; or its content as a mapping, with the keys of `Grid`.
        name: of the sweep; the file's when left out.
        changes: other values for keys of the file. None values are ignored.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: naming the file and what is wrong in it.

    >>> grid = read_grid({"methods": ["kd", "zkd+mlt"], "seeds": [0, 1]}, "mine")
    >>> len(grid.cells()), grid.cells()[0].name
    (4, 'resnet14 → resnet8x0.5, kd, seed 0')
    """
    where = ""
    if isinstance(source, Mapping):
        table = dict(source)
    else:
        check_file("a mapping, or a file", source=source)
        path = Path(source)
        where = f"{path}: "
        try:
            table = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a TOML file ({error})") from error
        name = name or table.get("name") or path.stem
    table = {**table, "name": name or table.get("name", "sweep")}
    changed = {key: value for key, value in changes.items() if value is not None}
    if "teachers" in changed or "students" in changed:  # of the pairs of the file none is meant then
        table.pop("pairs", None)
    try:
        entries = dict(_entries({**table, **changed}))
        if "methods" not in entries:
            raise ValueError('methods: expected at least one, e.g. methods = ["kd", "zkd+mlt"]')
        return Grid(**entries)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}{error}") from error
