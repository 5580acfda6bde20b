"""The book's own Sphinx extension: figures, records, pages without other hosts, links to a known repository."""

from . import api, figures, hover, live, offline, paths, records, repository, typography


def setup(app):
    for part in (api, figures, hover, live, offline, paths, records, repository, typography):
        part.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
