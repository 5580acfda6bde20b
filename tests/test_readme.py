"""What the README and the page "Using the library" say to type works: their Python runs, their commands exist."""

import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import adakd
from adakd.cli import _parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
USING = (ROOT / "book" / "using.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks_of(text, *languages):
    return [
        code
        for language, code in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        if language in languages
    ]


def typed_in(text):
    """Lines of shell blocks, and whatever stands `inline`; comments and prompts are left off, broken lines made one."""
    lines = [line for code in blocks_of(text, "bash", "console", "sh", "") for line in code.splitlines()]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [
        line.removeprefix("$ ").partition("#")[0].strip()
        for line in [*joined, *re.findall(r"`([^`\n]+)`", text)]
    ]


TYPED = [line for text in (README, USING, CONTRIBUTING) for line in typed_in(text)]
ADAKD = sorted({line for line in TYPED if re.match(r"adakd [a-z-]+( |$)", line)})
MAKE = sorted({line.split()[1] for line in TYPED if re.match(r"make [a-z]+$", line)})


def test_there_is_something_to_type():
    assert len(blocks_of(README, "python")) >= 1
    assert len(blocks_of(USING, "python")) >= 7
    assert len(ADAKD) >= 9
    assert {"book", "test", "check"} <= set(MAKE)


def test_the_readme_is_short_and_shows_one_picture():
    assert len(README.splitlines()) < 120
    (picture,) = re.findall(r"!\[[^\]]{20,}\]\(([^)]+)\)", README)
    assert (ROOT / picture).stat().st_size < 100_000


def test_three_lines_of_the_readme_run():
    (code,) = blocks_of(README, "python")
    assert len([line for line in code.splitlines() if line and "import" not in line]) == 3
    student, teacher = torch.nn.Linear(8, 10), torch.nn.Linear(8, 10)
    namespace = {"student": student, "teacher": teacher}
    namespace |= {"images": torch.randn(4, 8), "labels": torch.arange(4)}
    exec(compile(code, "README.md", "exec"), namespace)
    assert student.weight.grad.norm() > 0


@pytest.mark.filterwarnings(
    "ignore:'pin_memory' argument"
)  # the Trainer's own, on a machine without an accelerator
def test_python_of_the_page_on_using_runs_in_its_order(demo, tmp_path, monkeypatch):
    # The teacher of the demonstration lies there, as it does for a reader who typed the commands above.
    shutil.copytree(demo.out / "gratings" / "resnet14", tmp_path / "runs" / "gratings" / "resnet14")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "using"}
    for number, code in enumerate(blocks_of(USING, "python"), start=1):
        if "transformers" in code and not (find_spec("transformers") and find_spec("accelerate")):
            continue
        exec(compile(code, f"using.md, Python block {number}", "exec"), namespace)


API = (ROOT / "book" / "api.md").read_text(encoding="utf-8")


def test_python_of_the_api_page_runs():
    logits = torch.randn(4, 10)
    namespace = {
        "torch": torch,
        "student_logits": logits.clone().requires_grad_(),
        "teacher_logits": logits.flip(0),
        "target": torch.arange(4),
    }
    blocks = re.findall(r"^```python\n(.*?)^```", API, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 2
    for number, code in enumerate(blocks, start=1):
        exec(compile(code, f"api.md, Python block {number}", "exec"), namespace)
    # The lines of the table that are calls of what the block has made.
    cells = "".join(line for line in API.splitlines() if line.startswith("|"))
    lines = [code for code in re.findall(r"`([^`]+)`", cells) if code.startswith("adakd.Distiller(")]
    assert len(lines) == 4
    namespace["objective"] = adakd.create_method("kd")
    namespace["train_images"] = 60
    namespace["student"] = Second()
    for line in lines:
        eval(line, namespace)


class Second(torch.nn.Linear):
    """A student whose logits are its second output."""

    def __init__(self):
        super().__init__(8, 10)

    def forward(self, x):
        return x[:, None], super().forward(x)


@pytest.mark.parametrize("command", ADAKD)
def test_commands_are_understood(command):
    _parser().parse_args(shlex.split(command)[1:])


@pytest.mark.parametrize("target", MAKE)
def test_make_targets_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(name):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / name).read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target


def test_the_tree_is_the_tree():
    """Every path of CONTRIBUTING's annotated tree is there, and every part of the library has its line."""
    (tree,) = (code for code in blocks_of(CONTRIBUTING, "") if "adakd/ " in code)
    told, folder = set(), ""
    for line in tree.splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else name
        told.add(name if folder == name else folder + name)
    assert [path for path in sorted(told) if not (ROOT / path).exists()] == []
    parts = {
        f"adakd/{path.name}{'/' * path.is_dir()}"
        for path in (ROOT / "adakd").iterdir()
        if not path.name.startswith(("_", ".")) and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    assert {path for path in told if path.startswith("adakd/")} == {"adakd/"} | parts
