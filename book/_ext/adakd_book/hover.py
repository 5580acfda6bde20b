"""Terms that explain themselves: the first use of a glossary term on a page, and every equation of the paper by number.

Nothing is marked in the chapters, which are read in JupyterLab and on Colab too. A term becomes a link to the glossary
with its sentence as the title; ``hover.js`` shows that sentence to a pointer and to the keyboard, and without JavaScript
it is the browser's own title. "Eq. 9" becomes a link to where the equation stands, with its formula.
"""

import re
from html import escape

from docutils import nodes

GLOSSARY = "book/glossary"
# Where nothing is underlined: what defines the terms, and what lists names.
LEFT_OUT = (
    GLOSSARY,
    "book/references",
    "book/api",
    "book/api_training",
    "book/api_measuring",
    "book/equations",
    "notebooks/primer",
)
# Where no text is made a link.
CLOSED = (
    nodes.reference,
    nodes.literal,
    nodes.literal_block,
    nodes.strong,
    nodes.math,
    nodes.math_block,
    nodes.title,
    nodes.raw,
    nodes.Admonition,
    nodes.table,
    nodes.caption,
)
EQUATION = re.compile(r"\b(Eqs?\.)\s(\d+)(?:\s?(–|, | and )\s?(\d+))?(?!\w)")


def setup(app):
    app.connect("env-updated", collect)
    app.connect("doctree-resolved", explain)
    app.add_js_file("hover.js", defer="defer")


def collect(app, env):
    """Read the glossary's sentences and the chapters' numbered formulas, once all pages are read."""
    env.adakd_terms, env.adakd_equations = {}, {}
    if GLOSSARY in env.found_docs:
        for item in env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
            term = next(item.findall(nodes.term))
            sentence = re.sub(r"\s*\([^()]*\)$", "", next(item.findall(nodes.paragraph)).astext())
            env.adakd_terms[term.astext()] = (term["ids"][0], sentence)
    for name in sorted(env.found_docs):
        if not name.startswith("notebooks/"):
            continue
        for formula in env.get_doctree(name).findall(nodes.math_block):
            section = formula
            while section is not None and not isinstance(section, nodes.section):
                section = section.parent
            for tag in re.findall(r"\\tag\{(\d+)\}", formula.astext()):
                tex = re.sub(r"\\tag\{[^}]*\}", "", formula.astext()).strip()
                anchor = section["ids"][0] if section is not None else ""
                env.adakd_equations.setdefault(int(tag), (name, anchor, tex))


def pattern(terms):
    """One expression for all terms, the longest first; an ending of the plural is allowed."""
    forms = sorted(terms, key=len, reverse=True)
    return re.compile(r"(?<![\w-])(" + "|".join(map(re.escape, forms)) + r")(s?)(?![\w-])", re.IGNORECASE)


def explain(app, doctree, name):
    env = app.env
    if app.builder.format != "html" or name in LEFT_OUT:
        return
    terms = {term.lower(): value for term, value in getattr(env, "adakd_terms", {}).items()}
    seen, search = set(), pattern(terms) if terms else None
    for text in list(doctree.findall(nodes.Text)):
        parent = text.parent
        if isinstance(parent, nodes.strong):  # the page says itself what it means
            seen.add(text.astext().lower())
        if not in_prose(text):
            continue
        pieces, rest = [], text.astext()
        while rest:
            found = [m for m in (EQUATION.search(rest), next_term(search, rest, seen)) if m]
            if not found:
                break
            match = min(found, key=lambda m: m.start())
            if match.re is EQUATION:
                link = equation_link(app, env, name, match)
            else:
                seen.add(match[1].lower())
                link = term_link(app, name, match, *terms[match[1].lower()])
            pieces += [nodes.Text(rest[: match.start()]), link]
            rest = rest[match.end() :]
        if pieces:
            index = parent.index(text)
            parent[index : index + 1] = [*pieces, nodes.Text(rest)]


def in_prose(text):
    """Whether a text stands in a paragraph or a list, and in nothing that is closed to links."""
    node, paragraph = text.parent, False
    while node is not None:
        if isinstance(node, CLOSED):
            return False
        paragraph = paragraph or isinstance(node, nodes.paragraph)
        node = node.parent
    return paragraph


def next_term(search, text, seen):
    if search is None:
        return None
    return next((m for m in search.finditer(text) if m[1].lower() not in seen), None)


def term_link(app, page, match, anchor, sentence):
    address = app.builder.get_relative_uri(page, GLOSSARY) + f"#{anchor}"
    html = f'<a class="term" href="{escape(address)}" title="{escape(sentence)}">{escape(match[0])}</a>'
    return nodes.raw("", html, format="html")


def equation_link(app, env, page, match):
    """The number as a link, with the formulas of all equations it names; the text as it is if none is known."""
    first, last = int(match[2]), int(match[4] or match[2])
    numbers = range(first, last + 1) if match[3] == "–" else sorted({first, last})
    known = [env.adakd_equations[n] for n in numbers if n in getattr(env, "adakd_equations", {})]
    if not known:
        return nodes.Text(match[0])
    target, anchor, _ = known[0]
    address = app.builder.get_relative_uri(page, target) + (f"#{anchor}" if anchor else "")
    tex = "\n".join(tex for *_, tex in known)
    html = f'<a class="equation" href="{escape(address)}" data-tex="{escape(tex)}">{escape(match[0])}</a>'
    return nodes.raw("", html, format="html")
