"""Links that need to know where the repository is: its buttons, Colab's, and the book's own address.

The theme makes the buttons; nothing is shown while the repository is unknown, so that a fork or an unpublished
copy never points at somebody else's.
"""

import os
import re

from sphinx.errors import ConfigError

COLAB = "https://colab.research.google.com"


def pages_of(name):
    """Where GitHub serves the built book of OWNER/NAME."""
    owner, _, repository = name.partition("/")
    return f"https://{owner.lower()}.github.io/{repository}/"


def fill_in(app, config):
    """Take OWNER/NAME from the configuration, or from where GitHub's own builds say it."""
    name = config.book_repository or os.environ.get("GITHUB_REPOSITORY", "")
    if not name:
        return
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ConfigError(f"book_repository: expected OWNER/NAME, got {name!r}")
    config.html_baseurl = config.html_baseurl or pages_of(name)
    branch = os.environ.get("GITHUB_REF_NAME", "") if not config.book_repository else ""
    config.html_theme_options |= {
        "repository_url": f"https://github.com/{name}",
        "repository_branch": branch or config.html_theme_options.get("repository_branch", "main"),
        "use_repository_button": True,
        "use_issues_button": True,
        "launch_buttons": {"colab_url": COLAB},
    }


def setup(app):
    app.add_config_value("book_repository", "", "html", str)
    app.connect("config-inited", fill_in)
