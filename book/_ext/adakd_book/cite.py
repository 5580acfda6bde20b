"""At the end of each chapter: how to cite it, as BibTeX, with the version that the reader has before them."""

import re

from docutils import nodes

import adakd

FOLDER = "notebooks/"
EARLY = 400  # before the path's next chapter, which stays the last word


def entry(key, title, config, url):
    """A BibTeX entry of one chapter."""
    year = re.search(r"\d{4}", config.copyright)[0]
    fields = {
        "title": re.sub(r"([&%#_$])", r"\\\1", title),
        "booktitle": config.html_title,
        "author": f"{{{config.author}}}",
        "year": year,
        "note": f"Version {adakd.__version__}",
        "url": url,
    }
    width = max(map(len, fields))
    lines = [f"  {name:{width}} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@incollection{{adakd{year}-{key},", *lines, "}"])


def add_entry(app, doctree, name):
    if app.builder.format != "html" or not name.startswith(FOLDER):
        return
    base = app.config.html_baseurl
    url = base + app.builder.get_target_uri(name) if base else ""
    text = entry(name.removeprefix(FOLDER), app.env.titles[name].astext(), app.config, url)
    section = next(doctree.findall(nodes.section))
    section += nodes.raw("", '<details class="cite"><summary>Cite this chapter</summary>', format="html")
    section += nodes.literal_block(text, text, language="bibtex")
    section += nodes.raw("", "</details>", format="html")


def setup(app):
    app.connect("doctree-resolved", add_entry, priority=EARLY)
