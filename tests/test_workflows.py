"""What runs on GitHub: pinned, without more rights than it needs, and never without an end."""

import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def jobs(path):
    return yaml.safe_load(path.read_text(encoding="utf8"))["jobs"].items()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_a_hash_and_says_its_version(path):
    uses = re.findall(r"uses: (.+)", path.read_text(encoding="utf8"))
    assert uses
    for line in uses:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_job_has_rights_that_it_does_not_name(path):
    assert yaml.safe_load(path.read_text(encoding="utf8"))["permissions"] == {}
    for name, job in jobs(path):
        assert "timeout-minutes" in job, name
        writes = {right for right, level in job.get("permissions", {}).items() if level == "write"}
        assert writes <= ({"pages", "id-token"} if name == "publish" else set()), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_command_takes_text_from_an_event(path):
    """What a stranger writes into a branch or a title would run as a command."""
    for name, job in jobs(path):
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), name


def test_every_python_that_the_project_promises_is_tested():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf8")
    lowest = re.search(r'requires-python = ">=(3\.\d+)"', project)[1]
    versions = dict(jobs(ROOT / ".github" / "workflows" / "tests.yml"))["library"]["strategy"]["matrix"][
        "python"
    ]
    assert versions[0] == lowest
    assert versions == re.findall(r'Python :: (3\.\d+)"', project)


def test_forms_and_containers_are_what_their_readers_take():
    for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")):
        form = yaml.safe_load(path.read_text(encoding="utf8"))
        assert {"name", "description", "body"} <= set(form)
        ids = [field["id"] for field in form["body"]]
        assert len(ids) == len(set(ids))
    assert json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())["name"] == "adakd"
