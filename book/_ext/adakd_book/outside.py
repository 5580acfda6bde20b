"""What others than its readers take of the book: cards of shared links, a sitemap, and llms.txt.

Addresses that must be whole, those of a card's picture and of a sitemap, are written where the book knows its own
(``html_baseurl``); without it a page has its title and its description, and llms.txt has relative links.
"""

import re
from html import escape
from pathlib import Path

from docutils import nodes

CARD = "_static/card.jpg"  # taken by book/_tools/picture.py
SEEN = "A teacher and two students, one taught by labels alone and one by the teacher"
LONGEST = 200  # characters of a description; services cut what is longer
LETTERS = {"tau": "τ", "rho": "ρ", "lambda": "λ", "sqrt": "√", "max": "max ", "infty": "∞", "to": "→"}


def plain(node):
    """The text of a node without markup: formulas by their letters, links without their tags."""
    texts = []
    for text in node.findall(nodes.Text):
        if isinstance(text.parent, nodes.math):
            text = re.sub(
                r"\\([a-z]+)", lambda found: LETTERS.get(found[1], ""), re.sub(r"\\[,;!]|[{}$]", "", text)
            )
        elif isinstance(text.parent, nodes.raw):
            text = re.sub(r"<[^>]+>", "", text)
        texts.append(text)
    return " ".join("".join(texts).split())


def description(doctree):
    """The first paragraph of a page's own prose, cut at a word."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = plain(paragraph)
        if (
            len(text) > 40
            and "path" not in paragraph["classes"]
            and isinstance(paragraph.parent, nodes.section)
        ):
            return text if len(text) <= LONGEST else f"{text[:LONGEST].rsplit(' ', 1)[0]} …"
    return ""


def address(app, name):
    """Of a page or a file: whole if the book knows its own address, else from its top folder."""
    return app.config.html_baseurl + (app.builder.get_target_uri(name) if name in app.env.found_docs else name)


def add_card(app, name, template, context, doctree):
    """Tags by which services show a link to this page, and by which a reader of texts finds llms.txt."""
    if doctree is None:
        return
    text = app.env.adakd_descriptions[name] = description(doctree)
    tags = {
        "og:type": "article",
        "og:site_name": app.config.html_title,
        "og:title": app.env.titles[name].astext(),
        "og:description": text,
    }
    if app.config.html_baseurl:
        tags |= {"og:url": address(app, name), "og:image": address(app, CARD), "og:image:alt": SEEN}
    size = "summary_large_image" if "og:image" in tags else "summary"
    lines = [f'<meta property="{key}" content="{escape(value)}"/>' for key, value in tags.items()]
    lines += [f'<meta name="description" content="{escape(text)}"/>']
    lines += [f'<meta name="twitter:card" content="{size}"/>']
    lines += [
        f'<link rel="alternate" type="text/plain" title="llms.txt" href="{context["pathto"]("llms.txt", 1)}"/>'
    ]
    context["metatags"] = "\n".join([context.get("metatags", ""), *lines])


def in_order(env, name):
    """Pages below a page, as the table of contents has them."""
    for child in env.toctree_includes.get(name, []):
        yield child
        yield from in_order(env, child)


def write_lists(app, error):
    if error or app.builder.format != "html":
        return
    env = app.env
    names = [env.config.root_doc, *dict.fromkeys(in_order(env, env.config.root_doc))]
    described = [
        (env.titles[name].astext(), address(app, name), env.adakd_descriptions[name]) for name in names
    ]
    lines = [f"# {described[0][0]}", "", f"> {described[0][2]}", "", "## Pages", ""]
    lines += [f"- [{title}]({link}): {text}" for title, link, text in described[1:]]
    Path(app.outdir, "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf8")
    if app.config.html_baseurl:
        places = "".join(f"<url><loc>{escape(address(app, name))}</loc></url>\n" for name in names)
        namespace = "http://www.sitemaps.org/schemas/sitemap/0.9"
        text = f'<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="{namespace}">\n{places}</urlset>\n'
        Path(app.outdir, "sitemap.xml").write_text(text, encoding="utf8")


def begin(app, env):
    env.adakd_descriptions = {}


def setup(app):
    app.connect("env-updated", begin)
    app.connect("html-page-context", add_card)
    app.connect("build-finished", write_lists)
