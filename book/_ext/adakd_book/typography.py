"""Small things that a typesetter would see to."""

import re

from docutils import nodes


def keep_punctuation(app, doctree):
    """Tie a comma to the formula before it, and a bracket to the one after: a browser would break the line there."""
    for math in list(doctree.findall(nodes.math)):
        parent, index = math.parent, math.parent.index(math)
        before, after = _text(parent, index - 1), _text(parent, index + 1)
        opening = re.search(r"[(\[]+$", before)
        closing = re.match(r"[.,;:!?)\]]+", after)
        if not opening and not closing:
            continue
        tied = nodes.inline("", "", classes=["tied"])
        parent.replace(math, tied)
        if opening:
            parent[index - 1] = nodes.Text(before[: opening.start()])
            tied += nodes.Text(opening[0])
        tied += math
        if closing:
            parent[index + 1] = nodes.Text(after[closing.end() :])
            tied += nodes.Text(closing[0])


def _text(parent, index):
    if 0 <= index < len(parent) and isinstance(parent[index], nodes.Text):
        return parent[index].astext()
    return ""


def list_the_bibliography(app, pagename, templatename, context, doctree):
    """Entries of the bibliography are items of its list: by docutils' own role, since withdrawn, a list has none."""
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app):
    app.connect("doctree-read", keep_punctuation)
    app.connect("html-page-context", list_the_bibliography)
