"""The description on the package index: the README, whose links lead into the repository once it has an address."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def description(readme: str, home: str, release: str) -> str:
    """The README for a page outside the tree: with the repository's addresses, or without a link while it has none.

    Args:
        readme: the text in Markdown.
        home: the repository's address; "" if it is not known.
        release: the version that is published; "" for the state of the main branch.
    """
    branch = f"v{release}" if release else "main"

    def outside(found: re.Match[str]) -> str:
        image, text, target = found.groups()
        if re.match(r"https?:|#", target):
            return found[0]
        if not home:
            return "" if image else text
        return f"{image}[{text}]({home}/{'raw' if image else 'blob'}/{branch}/{target})"

    return LINK.sub(outside, readme)


if __name__ == "__main__":
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["tool"]["adakd"]
    setup(
        long_description=description((ROOT / "README.md").read_text(encoding="utf8"), **table),
        long_description_content_type="text/markdown",
    )
