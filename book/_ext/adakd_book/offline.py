"""Pages that ask no other host for anything, and that are light: MathJax is local, what no page needs is left out."""

import re
import shutil
from importlib.metadata import distribution
from pathlib import Path

MATHJAX = "mathjax/tex-chtml.js"
# What a page can load from tex-chtml.js on: its fonts, and the TeX extensions that autoload fetches by name.
PARTS = ("tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")


def copy_mathjax(app, error):
    if error or app.builder.format != "html":
        return
    # The package's folder has hyphens in its name, so it cannot be imported; its files can be located.
    source = Path(distribution("sphinx-mathjax-offline").locate_file("sphinx-mathjax-offline/static/mathjax"))
    target = Path(app.outdir, "_static", "mathjax")
    for part in PARTS:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            shutil.copyfile(source / part, target / part)


def slim(app, error):
    """Take out of each page the big scripts that it does not need.

    Font Awesome's, 1.5 MB, is needed by none: the style sheet draws the same icons from a font. MathJax, 1.2 MB, is
    added by Sphinx to the landing page too, because pages below it hold formulas. The index of words, which the theme
    adds to all pages for a search as one types, is for the page of the search.
    """
    if error or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf8")
        unneeded = ["/scripts/fontawesome.js"]
        if not re.search(r'class="[^"]*\bmath\b', text):
            unneeded.append("/mathjax/")
        if page.name != "search.html":
            unneeded += ["searchtools.js", "language_data.js", "searchindex.js"]
        names = "|".join(map(re.escape, unneeded))
        lighter = re.sub(rf'<script [^>]*src="[^"]*({names})[^>]*></script>', "", text)
        if lighter != text:
            page.write_text(lighter, encoding="utf8")
    static = Path(app.outdir, "_static")
    for pattern in ("scripts/fontawesome.js*", "**/*.map", "vendor/fontawesome/webfonts/*.ttf"):
        for path in static.glob(pattern):
            path.unlink()


def search_a_folder(app, name, template, context, doctree):
    """Search finds pages in a folder too, where a browser lets no script read them to show a passage of each."""
    if name == "search":
        where = 'location.protocol === "file:"'
        app.add_js_file(None, body=f"if ({where}) DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;")


def setup(app):
    app.config.mathjax_path = MATHJAX
    # Jupyter Book sets this for sphinx-comments, which is left out because it asks other hosts.
    app.add_config_value("comments_config", {}, "html")
    app.connect("html-page-context", search_a_folder)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", slim)
