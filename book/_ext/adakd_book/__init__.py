"""The book's own Sphinx extension: figures, records, paths, pages without other hosts, and what others take of them."""

from . import (
    advice,
    api,
    cite,
    exercises,
    figures,
    hover,
    live,
    offline,
    outside,
    paths,
    records,
    repository,
    results,
    typography,
)

PARTS = (
    advice,
    api,
    cite,
    exercises,
    figures,
    hover,
    live,
    offline,
    outside,
    paths,
    records,
    repository,
    results,
    typography,
)


def setup(app):
    for part in PARTS:
        part.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
