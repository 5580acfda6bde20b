r"""Tables and numbers made from the JSON records under book/records/, so that none is ever typed.

A table, one row a record, one column a dotted path into it::

    ```{records} **/*.json
    :columns: Method = config.method; Accuracy (%) = result.last | .2f; Teacher = teacher.model?; Record = file
    :where: kind = student; data.name = cifar100
    :sort: config.method
    ```

``file`` is the record itself, as a link. With ``:each: path`` the rows are the entries of a list in the record. A number in prose: ``{record}`cifar100-kd.json result.last | .2f` ``. What follows the bar is a Python format.
A path that a record does not have is an error, unless it ends with a question mark: then the cell holds a dash. A
pattern that matches no record gives the sentence of ``:empty:``.

``adakd:advice.json`` in the place of the pattern is a file that the library brings along.

One of the three tables of a study's folder (see `adakd.study`), with 95 % intervals::

    ```{study-table} study
    :way: published
    :to: kd zkd
    ```
"""

import json
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.addnodes import download_reference
from sphinx.util.docutils import SphinxDirective, SphinxRole

import adakd
from adakd.study import WAYS, plus_minus, read_study

FOLDER = "book/records"


PACKAGE = "adakd:"


class RecordError(ValueError):
    """What a reader of the build's output needs to mend a record or a path."""


def look_up(record, path):
    """Follow a dotted path: names into objects, integers (negative ones too) into lists."""
    value = record
    for key in path.split("."):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, TypeError, ValueError):
            have = ", ".join(value) if isinstance(value, dict) else type(value).__name__
            raise RecordError(f"no {path!r} in the record: at {key!r} there is {have}") from None
    return value


def show(record, expression):
    """The text of ``path`` or of ``path | format``."""
    path, _, spec = (part.strip() for part in expression.partition("|"))
    try:
        value = look_up(record, path.removesuffix("?"))
    except RecordError:
        if path.endswith("?"):
            return "–"
        raise
    if isinstance(value, dict):
        return ", ".join(f"{key}={entry}" for key, entry in value.items()) or "–"
    try:
        return format(value, spec) if spec else str(value)
    except (TypeError, ValueError) as error:
        raise RecordError(f"{path!r} is {value!r}: {error}") from None


def find(root, pattern):
    """Records by a pattern in their folder; ``adakd:NAME`` is a file that the library brings along."""
    if pattern.startswith(PACKAGE):
        return [Path(adakd.__file__).with_name(pattern.removeprefix(PACKAGE))]
    return sorted(Path(root, FOLDER).glob(pattern))


def read(path):
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"cannot read the record {path.name}: {error}") from None


class Records(SphinxDirective):
    """A table with one row a record."""

    optional_arguments = 1
    option_spec: ClassVar = {
        "columns": directives.unchanged_required,
        "each": directives.unchanged,
        "where": directives.unchanged,
        "sort": directives.unchanged,
        "empty": directives.unchanged,
    }

    def run(self):
        name = self.arguments[0] if self.arguments else "**/*.json"
        # A new record does not change the page's source, so the page is read again at every build.
        self.env.note_reread()
        paths = find(self.env.srcdir, name)
        try:
            columns = self._pairs("columns")
            rows = [(path, read(path)) for path in paths]
            rows = [(path, record) for path, record in rows if self._wanted(record)]
            if "each" in self.options:
                rows = [
                    (path, entry) for path, record in rows for entry in look_up(record, self.options["each"])
                ]
            if "sort" in self.options:
                rows.sort(key=lambda row: look_up(row[1], self.options["sort"].strip()))
            cells = [[self._cell(expression, *row) for _, expression in columns] for row in rows]
        except RecordError as error:
            raise self.error(str(error)) from None
        if not cells:
            text = self.options.get("empty", "There is no such record yet.")
            return [nodes.paragraph("", text, classes=["records-empty"])]
        return [table([nodes.Text(title) for title, _ in columns], cells)]

    def _pairs(self, option):
        pairs = [part.partition("=") for part in self.options.get(option, "").split(";") if part.strip()]
        if not pairs or not all(separator for _, separator, _ in pairs):
            raise RecordError(f":{option}: is {self.options.get(option)!r}; expected Title = path; …")
        return [(left.strip(), right.strip()) for left, _, right in pairs]

    def _wanted(self, record):
        if "where" not in self.options:
            return True
        return all(str(look_up(record, path)) == value for path, value in self._pairs("where"))

    def _cell(self, expression, path, record):
        if expression != "file":
            return nodes.Text(show(record, expression))
        name = path.relative_to(self.env.srcdir).as_posix()
        label = path.relative_to(Path(self.env.srcdir, FOLDER)).with_suffix("").as_posix()
        return download_reference("", label, refdoc=self.env.docname, reftarget=f"/{name}")


def table(titles, cells):
    def row(contents):
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", content)) for content in contents))

    group = nodes.tgroup("", cols=len(titles))
    group += [nodes.colspec(colwidth=1) for _ in titles]
    group += nodes.thead("", row(titles))
    group += nodes.tbody("", *map(row, cells))
    return nodes.table("", group, classes=["records"])


class StudyTable(SphinxDirective):
    """One of a study's tables: a row a method."""

    required_arguments = 1
    option_spec: ClassVar = {"way": lambda text: directives.choice(text, WAYS), "to": directives.unchanged}

    def run(self):
        folder = Path(self.env.srcdir, FOLDER, self.arguments[0])
        self.env.note_reread()
        way, to = self.options.get("way", WAYS[0]), self.options.get("to", "kd zkd").split()
        try:
            study = read_study(folder)
            lines = study.table(way, to)
        except (OSError, ValueError) as error:
            raise self.error(f"study {self.arguments[0]}: {error}") from None
        titles = ["Method", "λ", "Seeds", "Accuracy (%)", *(f"Ahead of {name}" for name in to)]
        cells = []
        for line in lines:
            _, weight = study.weights(way, line.name)
            ahead = [plus_minus(line.ahead.get(name), "+") for name in to]
            weight = "–" if weight is None else f"{weight:g}"
            cells.append([line.name, weight, str(len(line.seeds)), plus_minus(line.accuracy), *ahead])
        return [table(list(map(nodes.Text, titles)), [list(map(nodes.Text, row)) for row in cells])]


class Record(SphinxRole):
    """One number of one record."""

    def run(self):
        name, _, expression = self.text.partition(" ")
        try:
            (path,) = find(self.env.srcdir, name) or [Path(self.env.srcdir, FOLDER, name)]
            self.env.note_dependency(str(path))
            return [nodes.inline("", show(read(path), expression), classes=["record"])], []
        except RecordError as error:
            message = self.inliner.reporter.error(f"record {name}: {error}", line=self.lineno)
            return [self.inliner.problematic(self.rawtext, self.rawtext, message)], [message]


def setup(app):
    app.add_directive("records", Records)
    app.add_directive("study-table", StudyTable)
    app.add_role("record", Record())
