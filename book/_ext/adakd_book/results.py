r"""The results browser: all training runs under book/records/ in one table, a row for each group of seeds::

    ```{results}
    ```

Each accuracy is a link to its record, which is written into the book as a file of its own, and each row holds the
command that repeats its runs. ``results.js`` adds filters, sorting and a dialog to the table; it is whole without.
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from adakd import get_recipe
from adakd.data import DATASETS
from adakd.models import network_of
from adakd.statistics import Interval, mean_interval
from adakd.study import WAYS, plus_minus, read_study
from adakd.training.files import sha256_of
from adakd.training.record import key_of

from .records import FOLDER

OUT = "records"  # of the built book
ROLES = {"teacher": "teacher", "student": "distill"}
# What a command line can change of a recipe.
SETTINGS = ("epochs", "batch_size", "lr", "train_images", "views", "eval_every", "validation_images")
# What identifies a run whose names say all; of other networks and methods only Python knows.
NAMED = {"model", "method", "method_options", "data", "recipe", "seed", "precision", "teacher"}
# Runs of data or teachers that have no name are made by these, all of a folder at once.
SCRIPTS = {"when": "python benchmarks/when_it_helps.py --out runs/when runs/when/records"}


@dataclass(frozen=True)
class Entry:
    """A record of a run, and where it lies."""

    record: Mapping[str, Any]
    source: str
    """Of a line among others its file, of a record that has one to itself its folder."""

    @property
    def key(self) -> str:
        return key_of(self.record["config"])

    @property
    def address(self) -> str:
        """In the built book."""
        config = self.record["config"]
        return (
            f"{OUT}/{self.source}/{config['model']}-{config['method']}-seed{config['seed']}-{self.key[:8]}.json"
        )


@dataclass
class Library:
    """Everything under book/records/ that the table needs."""

    root: Path
    entries: list[Entry] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """What an experiment calls a teacher, by the hash of its weights."""
    weights: dict[str, str] = field(default_factory=dict)
    """Files of teachers' weights, by their hash."""
    ways: dict[str, list[str]] = field(default_factory=dict)
    """By a run's key, the ways of weighting in which a study has it."""

    def __post_init__(self) -> None:
        folder, known = self.root / FOLDER, set()
        for path in sorted(folder.rglob("*.json*")):
            lines = path.suffix == ".jsonl"
            place = (path.with_suffix("") if lines else path.parent).relative_to(folder).as_posix()
            text = path.read_text(encoding="utf8")
            for record in map(json.loads, filter(str.strip, text.split("\n")) if lines else [text]):
                if record.get("kind") in ROLES and (key := key_of(record["config"])) not in known:
                    known.add(key)
                    self.entries.append(Entry(record, place))
                elif record.get("kind") == "teachers":
                    self.names |= {each["sha256"]: each["name"] for each in record["teachers"]}
        for path in sorted(folder.rglob("*.safetensors")):
            self.weights[sha256_of(path)] = path.relative_to(self.root).as_posix()
        for path in sorted(folder.rglob("study.json")):
            study = read_study(path.parent)
            for way in WAYS:
                for record in (run for method in study.methods for run in study.runs(way, method).values()):
                    self.ways.setdefault(key_of(record["config"]), []).append(way)

    def groups(self) -> list[list[Entry]]:
        """Runs that differ in their seed alone: by what they share with others, then the most accurate first."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            config = {name: value for name, value in entry.record["config"].items() if name != "seed"}
            found.setdefault(key_of({**config, "kind": entry.record["kind"]}), []).append(entry)
        groups = [sorted(group, key=lambda entry: entry.record["seed"]) for group in found.values()]
        return sorted(groups, key=lambda group: (*self.setting(group[0]), -accuracy(group).estimate))

    # ---- what a run is called ----

    def setting(self, entry: Entry) -> tuple[str, str, str]:
        """Data, networks and protocol: what two runs share whose difference is of the methods."""
        config = entry.record["config"]
        return config["data"]["name"], self.networks(entry), protocol(config)

    def networks(self, entry: Entry) -> str:
        config = entry.record["config"]
        if config["teacher"] is None:
            return f"{config['model']} alone"
        teacher = config["teacher"]
        name = self.names.get(teacher["sha256"])
        return f"{teacher['model']}{f' ({name})' if name else ''} → {config['model']}"

    def pairs(self, entry: Entry) -> list[str]:
        """With whom a run is compared: without a teacher, with all students of its data and length."""
        config = entry.record["config"]
        if config["teacher"] is not None or entry.record["kind"] == "teacher":
            return [self.networks(entry)]
        alike = (
            each
            for each in self.entries
            if each.record["kind"] == "student"
            and all(each.record["config"][name] == config[name] for name in ("model", "data", "recipe"))
        )
        return sorted({self.networks(each) for each in alike})

    def weighting(self, entry: Entry) -> list[str]:
        if ways := self.ways.get(entry.key):
            return ways
        options = entry.record["config"]["method_options"]
        by_hand = any(name.rpartition(".")[2] in ("ce_weight", "kd_weight") for name in options)
        return ["by hand" if by_hand else WAYS[0]]

    # ---- the command ----

    def command(self, entry: Entry) -> str:
        """What repeats a run, line by line in a shell at the repository's root; "" if it needs Python.

        A teacher whose weights lie in the repository is taken from there, and another one is trained first.
        """
        config = entry.record["config"]
        lines = []
        words = self.own_words(entry)
        if words and config["teacher"] is not None:
            teacher = config["teacher"]
            if file := self.weights.get(teacher["sha256"]):
                words += ["--teacher", teacher["model"], "--teacher-weights", file]
            elif made := self.teacher_run(teacher["sha256"]):
                lines, words = [self.command(made)], [*words, "--teacher", folder_of(made)]
            else:
                words = []
        if not words or (lines and not lines[0]):
            return SCRIPTS.get(entry.source.partition("/")[0], "")
        return "\n".join([*lines, shlex.join([*words, "--seed", str(config["seed"])])])

    def own_words(self, entry: Entry) -> list[str]:
        """The command without its teacher and seed; nothing if a name, a value or a network is not for a command line."""
        config = entry.record["config"]
        role, recipe = entry.record["kind"], config["recipe"]
        if not set(config) <= NAMED or config["data"]["name"] not in DATASETS:
            return []
        changes = changes_of(recipe, role, config["model"])
        if changes is None:
            return []
        words = ["adakd", ROLES[role], "--data", config["data"]["name"]]
        words += ["--model" if role == "teacher" else "--student", config["model"]]
        if role == "student":
            words += ["--method", config["method"]]
            for name, value in config["method_options"].items():
                words += ["--set", f"{name}={json.dumps(value) if not isinstance(value, str) else repr(value)}"]
        words += ["--recipe", recipe["name"]]
        for name, value in changes.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        logits = (config["teacher"] or {}).get("logits")
        dtype, _, of = (logits or "off").partition(" of ")
        if not logits or of == config["precision"]:
            words += ["--precision", config["precision"]]
        # Else it was left to the hardware, which chose another one for the small network than for the large.
        if config["teacher"] is not None and dtype != "fp16":
            words += ["--cache", dtype]
        return words

    def teacher_run(self, sha256: str) -> Entry | None:
        runs = (entry for entry in self.entries if entry.record["kind"] == "teacher")
        return next((entry for entry in runs if entry.record.get("weights_sha256") == sha256), None)


def changes_of(recipe: Mapping[str, Any], role: str, model: str) -> dict[str, Any] | None:
    """The recipe as its name and what differs from it; None if a command line cannot say it."""
    try:
        named = get_recipe(recipe["name"], role, network=model).describe()
    except ValueError:
        return None
    changes = {name: recipe.get(name) for name in SETTINGS if recipe.get(name) != named.get(name)}
    if "train_images" in changes and changes["train_images"] is None:
        changes["train_images"] = "all"
    if None in changes.values():
        return None
    same = get_recipe(recipe["name"], role, network=model, **changes).describe() == recipe
    return changes if same else None


def folder_of(entry: Entry) -> str:
    """Where the command of a run puts it."""
    config = entry.record["config"]
    leaf = f"{config['method']}-{config['recipe']['name']}-seed{config['seed']}-{entry.key[:8]}"
    return f"runs/{config['data']['name']}/{network_of(config['model']).folder}/{leaf}"


def accuracy(group: list[Entry]) -> Interval:
    return mean_interval([entry.record["result"]["last"] for entry in group])


def protocol(config: Mapping[str, Any]) -> str:
    recipe = config["recipe"]
    some, held = recipe["train_images"], recipe.get("validation_images")
    parts = [recipe["name"], f"{recipe['epochs']} epochs", f"{some} examples" if some else "all examples"]
    parts += [f"in batches of {recipe['batch_size']}"] + ([f"{held} held out"] if held else [])
    return ", ".join([*parts, config["precision"]])


# ---- the page ----


def settings_of(config: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in config["method_options"].items())


def choices(library: Library, group: list[Entry]) -> dict[str, list[str]]:
    """What a filter may ask of a group of seeds: by the filter's name, the values under which the group is found."""
    config = group[0].record["config"]
    sources = {entry.source for entry in group}
    return {
        "method": [config["method"]],
        "pair": library.pairs(group[0]),
        "data": [config["data"]["name"]],
        "protocol": [protocol(config)],
        "weights": library.weighting(group[0]),
        "source": sorted(sources | {source.partition("/")[0] for source in sources}),
    }


def row(library: Library, group: list[Entry], number: int, up: str) -> str:
    """One group of seeds, with all that a filter reads in its data attributes."""
    first = group[0]
    config, mean = first.record["config"], accuracy(group)
    half = "" if mean.n < 3 else f"{(mean.high - mean.low) / 2:.4f}"
    data = {
        "group": number,
        **{name: "|".join(values) for name, values in choices(library, group).items()},
        "seeds": mean.n,
        "accuracy": f"{mean.estimate:.4f}",
        "half": half,
    }
    attributes = " ".join(f'data-{name}="{escape(str(value))}"' for name, value in data.items())
    settings = settings_of(config)
    runs = " ".join(
        f'<a href="{escape(up + entry.address)}" title="seed {entry.record["seed"]}">'
        f"{entry.record['result']['last']:.2f}</a>"
        for entry in group
    )
    command = library.command(first)
    return (
        f'<tr {attributes}><th scope="row"><code>{escape(config["method"])}</code>'
        f"{f'<small>{escape(settings)}</small>' if settings else ''}</th>"
        f'<td class="mean">{plus_minus(mean)}</td>'
        f'<td class="runs">{runs}</td>'
        f"<td>{escape(library.networks(first))}<small>{escape(config['data']['name'])}; "
        f"{escape(protocol(config))}</small></td>"
        f'<td class="command"><details><summary>command</summary><pre>{escape(command)}</pre></details></td></tr>'
    )


def shown(library: Library, group: list[Entry], up: str) -> dict[str, Any]:
    """What the dialog of a group says."""
    runs = []
    for entry in group:
        record = entry.record
        of = {name: record["result"][name] for name in ("last", "best", "best_epoch")}
        of |= {name: record.get(name) for name in ("commit", "finished", "seconds")}
        of["hardware"] = record["hardware"].get("gpu") or record["hardware"].get("cpu")
        runs.append({"seed": record["seed"], "file": up + entry.address, **of})
    config = {name: value for name, value in group[0].record["config"].items() if name != "seed"}
    return {"command": library.command(group[0]), "config": config, "runs": runs}


HEADS = (
    ("Method", "method"),
    ("Accuracy, %", "accuracy"),
    ("Runs", "seeds"),
    ("Networks, data, protocol", "pair"),
    ("Command", ""),
)


def page(library: Library, up: str) -> str:
    groups = library.groups()
    heads = "".join(
        f'<th scope="col"{f" data-sort={by}" if by else " class=command"}>{title}</th>' for title, by in HEADS
    )
    rows = "\n".join(row(library, group, number, up) for number, group in enumerate(groups))
    data = json.dumps(
        [shown(library, group, up) for group in groups], separators=(",", ":"), ensure_ascii=False
    )
    return (
        f'<div class="results"><table class="results-table" aria-label="All runs"><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table>\n"
        f'<script type="application/json">{data.replace("<", chr(92) + "u003c")}</script></div>'
    )


class Results(SphinxDirective):
    """The table of all runs."""

    def run(self):
        self.env.note_reread()
        self.env.adakd_results = self.env.docname
        library = Library(Path(self.env.srcdir))
        self.env.adakd_views = sorted(
            {
                f"?{name}={value}"
                for group in library.groups()
                for name, values in choices(library, group).items()
                for value in values
            }
        )
        up = "../" * self.env.docname.count("/")
        return [nodes.raw("", page(library, up), format="html")]


def name_views(app, doctree):
    """Other pages may link to `results.md#?source=study`: a value that no run has is a broken link, which ends the build."""
    if app.env.docname == getattr(app.env, "adakd_results", None):
        slugs = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
        slugs.update({view: (0, view, "All runs") for view in app.env.adakd_views})


def record_text(record: Mapping[str, Any]) -> str:
    """JSON to be read: a field a line, and an epoch a line."""

    def lines() -> Iterator[str]:
        for name, value in record.items():
            text = json.dumps(value, ensure_ascii=False)
            if name == "history":
                text = "[\n  " + ",\n  ".join(json.dumps(each, ensure_ascii=False) for each in value) + "\n ]"
            yield f' "{name}": {text}'

    return "{\n" + ",\n".join(lines()) + "\n}\n"


def write_records(app, error):
    if error or app.builder.format != "html" or not getattr(app.env, "adakd_results", None):
        return
    for entry in Library(Path(app.srcdir)).entries:
        path = Path(app.outdir, entry.address)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record_text(entry.record), encoding="utf8")


def add_script(app, pagename, templatename, context, doctree):
    if pagename == getattr(app.env, "adakd_results", None):
        app.add_js_file("results.js", defer="defer")


def setup(app):
    app.add_directive("results", Results)
    app.connect("doctree-read", name_views)
    app.connect("html-page-context", add_script)
    app.connect("build-finished", write_records)
