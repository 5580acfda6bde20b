"""Write the repository's home, once, into everything that names it; until it is known nothing does, and no button is dead.

    python book/_tools/home.py https://github.com/OWNER/NAME [RELEASE]     (make home URL=… RELEASE=…)
    python book/_tools/home.py            what pyproject.toml says, written anew everywhere; --check only compares
    python book/_tools/home.py none       no home

pyproject.toml keeps it, under [tool.adakd]. From there it goes into the project's links, CITATION.cff, README, the book's
buttons and addresses (_config.yml), and the notebooks' common first cell, whose only source is the text below. RELEASE is a
version that is, or is about to be, published: Colab then opens the notebooks of its tag and installs its wheel.
"""

import argparse
import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLAB = "https://colab.research.google.com"
UNKNOWN = "OWNER/REPO"
SETUP = """\
import os
import subprocess
import sys
from importlib.metadata import version

REPOSITORY = "%s"  # on Colab: the GitHub repository that you opened this notebook from
RELEASE = "%s"  # on Colab: the version to install; "" or one that is missing: the repository's state
DRIVE = False  # on Colab: True keeps what is trained in your Google Drive, which outlives the session
if "google.colab" in sys.modules and "adakd" not in sys.modules:  # elsewhere `make` has installed everything
    assert REPOSITORY != "OWNER/REPO", "Write the repository's name, as in this page's address, into this cell."
    book = os.path.abspath(REPOSITORY.split("/")[1])
    if not os.path.isdir(book):
        subprocess.run(["git", "clone", "-q", "--depth=1", f"https://github.com/{REPOSITORY}", book], check=True)
    install = [sys.executable, "-m", "pip", "install", "-q", "anywidget", f"torch=={version('torch')}"]  # torch stays
    if not RELEASE or subprocess.run([*install, f"adakd=={RELEASE}"]).returncode:
        subprocess.run([*install, "-e", book], check=True)
        sys.path.insert(0, book)
    os.chdir(f"{book}/notebooks")
from adakd.explore import start_session

HERE = start_session(drive=DRIVE)
HERE"""


def known():
    """Home and release, as pyproject.toml has them."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf8")
    table = tomllib.loads(text)["tool"]["adakd"]
    return table["home"], table["release"]


def checked(url, release):
    """OWNER/NAME of a repository on GitHub, where Colab finds notebooks and the workflows run, or nothing."""
    if not url:
        if release:
            raise ValueError(f"a release, {release}, without a home: give the repository's address too")
        return ""
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", url)
    if not found:
        raise ValueError(f"expected https://github.com/OWNER/NAME, got {url!r}")
    if release and not re.fullmatch(r"\d+\.\d+\.\d+(?:rc\d+)?", release):
        raise ValueError(f"expected a version such as 0.1.0, got {release!r}")
    return found[1]


def pages_of(name):
    """Where GitHub serves the built book of OWNER/NAME."""
    owner, _, repository = name.partition("/")
    return f"https://{owner.lower()}.github.io/{repository}/"


def project(text, name, release):
    url = f"https://github.com/{name}" if name else ""
    links = f"""[project.urls]
Book = "{pages_of(name)}"
Repository = "{url}"
Issues = "{url}/issues"
Changelog = "{url}/blob/main/CHANGELOG.md"

"""
    table = f'[tool.adakd]\nhome = "{url}"\nrelease = "{release}"\n'
    return between(text, "# home:begin", "# home:end", (links if name else "") + table)


def citation(text, name, release):
    lines = f'repository-code: "https://github.com/{name}"\nurl: "{pages_of(name)}"\n' if name else ""
    return between(text, "# home:begin", "# home:end", lines)


def readme(text, name, release):
    url, branch = f"https://github.com/{name}", f"v{release}" if release else "main"
    links = (
        f"[**Read the book**]({pages_of(name)}) · "
        f"[![tests]({url}/actions/workflows/tests.yml/badge.svg)]({url}/actions/workflows/tests.yml) "
        f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({COLAB}/github/{name}/blob/{branch}/notebooks/primer.ipynb)\n"
    )
    command = f"pip install adakd=={release}" if release else f'pip install "adakd @ git+{url}"'
    install = f"`{command}`" if name else "In a clone, `pip install .`"
    text = between(text, "<!-- home:begin -->", "<!-- home:end -->", links if name else "")
    return between(
        text, "<!-- install:begin -->", "<!-- install:end -->", f"{install} (Python 3.11 or newer).\n"
    )


def configuration(text, name, release):
    branch = f"v{release}" if release else "main"
    values = {
        r"^(repository: ).*$": f'{{url: "", branch: {branch}}}',
        r"^(    book_repository: ).*$": f'"{name}"',
    }
    for pattern, value in values.items():
        text, count = re.subn(pattern, lambda found, value=value: found[1] + value, text, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"_config.yml: expected one line {pattern}, found {count}")
    return text


def notebook(text, name, release):
    """The notebook with the common first cell; what it printed, which nothing compares, stays."""
    content = json.loads(text)
    first = next(cell for cell in content["cells"] if cell["cell_type"] == "code")
    source = SETUP % (name or UNKNOWN, release)
    first["source"] = source.splitlines(keepends=True)
    first["id"] = hashlib.sha256(source.encode()).hexdigest()[:8]  # as book/_tools/notebooks.py names cells
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def between(text, begin, end, content):
    before, found, rest = text.partition(f"{begin}\n")
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"there are no marks {begin} … {end}")
    return f"{before}{begin}\n{content}{end}{after}"


def written(name, release):
    """Path and new text of everything that names the home."""
    parts = {
        "pyproject.toml": project,
        "CITATION.cff": citation,
        "README.md": readme,
        "_config.yml": configuration,
    }
    parts |= {f"notebooks/{path.name}": notebook for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    for place, write in parts.items():
        path = ROOT / place
        yield path, write(path.read_text(encoding="utf8"), name, release)


def parsed(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="of the repository, or none (default: as in pyproject.toml)"
    )
    parser.add_argument("release", nargs="?", default="", metavar="RELEASE", help="a version, such as 0.1.0")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if that would change something"
    )
    return parser.parse_args(arguments)


def main(arguments):
    given = parsed(arguments)
    only_check = given.check
    url, release = known() if given.url is None else (given.url, given.release)
    try:
        name = checked("" if url == "none" else url, release)
        stale = [pair for pair in written(name, release) if pair[0].read_text(encoding="utf8") != pair[1]]
    except ValueError as error:
        print(f"home.py: {error}", file=sys.stderr)
        return 1
    for path, text in stale:
        print(path.relative_to(ROOT))
        if not only_check:
            path.write_text(text, encoding="utf8")
    return int(only_check and bool(stale))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
