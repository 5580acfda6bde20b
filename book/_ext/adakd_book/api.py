"""The reference, from docstrings that are written to be read in an editor first."""

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.util.nodes import make_refnode

# The signature of every torch module that has no parameters of its own.
EMPTY = "(*args: Any, **kwargs: Any)"


def clean_signature(app, what, name, obj, options, signature, returns):
    return ("()", returns) if what == "class" and signature == EMPTY else None


class AttributeSentences:
    """Napoleon reads "How many views an image has: 162" as a type and a text. Put the sentence back after it."""

    def __init__(self, app):
        self.lines = []
        app.connect("autodoc-process-docstring", self.keep, priority=100)
        app.connect("autodoc-process-docstring", self.put_back, priority=900)

    def keep(self, app, what, name, obj, options, lines):
        # A named tuple's fields describe themselves by their number.
        self.lines = [] if lines[:1] and lines[0].startswith("Alias for field number") else list(lines)

    def put_back(self, app, what, name, obj, options, lines):
        if what in ("attribute", "property"):
            lines[:] = self.lines


class AbsoluteValues(SphinxTransform):
    """Bars in running text, as in max |z|, are absolute values: the book defines no substitutions."""

    default_priority = 210  # docutils looks for their definitions at 220

    def apply(self, **kwargs):
        for reference in list(self.document.findall(nodes.substitution_reference)):
            reference.replace_self(nodes.Text(f"|{reference.astext()}|"))


def resolve_short_name(app, env, node, contnode):
    """`adakd.distill` and `distill` are what a reader types; the reference has it where it is defined, as adakd.api.distill."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or node.get("reftype") != "obj":
        return None
    short = target.removeprefix("adakd.")
    # An attribute is looked up by its class: alone it may as well be a parameter's name.
    kinds = {"class", "exception", "function", "data"} | (
        {"attribute", "method", "property"} if "." in short else set()
    )
    found = {
        (entry.docname, entry.node_id)
        for name, entry in env.get_domain("py").objects.items()
        if entry.objtype in kinds and name.endswith(f".{short}")
    }
    if len(found) != 1:
        return None
    ((page, anchor),) = found
    return make_refnode(app.builder, node["refdoc"], page, anchor, [contnode], target)


def setup(app):
    AttributeSentences(app)
    app.connect("missing-reference", resolve_short_name)
    app.connect("autodoc-process-signature", clean_signature)
    app.add_transform(AbsoluteValues)
