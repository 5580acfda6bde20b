"""What the README says to type works: its Python runs, its commands exist."""

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
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
# A line of a shell block, or the whole of an `inline` piece of code; comments and prompts are left off.
LINES = [
    line for language, code in BLOCKS if language in ("bash", "console", "sh") for line in code.splitlines()
]
TYPED = [
    line.removeprefix("$ ").partition("#")[0].strip() for line in [*LINES, *re.findall(r"`([^`\n]+)`", README)]
]
ADAKD = sorted({line for line in TYPED if re.match(r"adakd [a-z-]+( |$)", line)})
MAKE = sorted({line.split()[1] for line in TYPED if re.match(r"make [a-z]+$", line)})


def test_there_is_something_to_type():
    assert len(PYTHON) >= 2
    assert len(ADAKD) >= 3
    assert {"book", "test"} <= set(MAKE)


@pytest.mark.filterwarnings(
    "ignore:'pin_memory' argument"
)  # the Trainer's own, on a machine without an accelerator
def test_python_blocks_run_in_their_order(demo, tmp_path, monkeypatch):
    # The teacher of the demonstration lies there, as it does for a reader who typed the commands above.
    shutil.copytree(demo.out / "gratings" / "resnet14", tmp_path / "runs" / "gratings" / "resnet14")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    for number, code in enumerate(PYTHON, start=1):
        if "transformers" in code and not (find_spec("transformers") and find_spec("accelerate")):
            continue
        exec(compile(code, f"README.md, Python block {number}", "exec"), namespace)


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


def test_files_of_the_tree_exist():
    """Every path in the annotated tree is there, and so is every relative link."""
    (tree,) = (code for language, code in BLOCKS if language == "" and "adakd/ " in code)
    inside = ROOT
    for line in tree.splitlines():
        name = line.split()[0]
        inside = ROOT if not line.startswith(" ") else inside
        assert (inside / name).exists(), name
        if not line.startswith(" "):
            inside = ROOT / name
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", README):
        assert (ROOT / target).exists(), target
