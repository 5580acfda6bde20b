"""Run chapters as Colab would: a clean environment that has torch, a machine that has nothing else of this project.

    python tests/colab.py 10_distilling_cifar 01_temperature     (by hand: it installs packages, from pip's index)

Colab is simulated as far as the notebooks' first cell can tell: its preinstalled packages (the versions of
requirements.txt), a module `google.colab`, an empty working directory. Git is told to fetch from this checkout what the
cell asks GitHub for, so what is tested is the last commit; --working-tree tests what lies here, committed or not. Each
chapter starts with the environment that the one before left, as after a restart of Colab's kernel; torch must not change.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "someone/adakd-book"
# What Colab has; of the rest of requirements.txt, nothing.
PREINSTALLED = (
    "torch",
    "numpy",
    "matplotlib",
    "ipywidgets",
    "ipykernel",
    "sympy",
    "tqdm",
    "transformers",
    "accelerate",
)
KEPT = ("torch", "numpy", "ipywidgets")
DRIVE = "def mount(path):\n    print('mounted at', path)\n"
EXECUTE = """\
import sys
import nbformat
from nbclient import NotebookClient
source, target, folder = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
resources = {"metadata": {"path": folder}}
try:
    NotebookClient(notebook, kernel_name="python3", timeout=None, resources=resources).execute()
finally:
    nbformat.write(notebook, target)
"""


def run(*command, **options):
    return subprocess.run(list(map(str, command)), check=True, text=True, **options)


def pinned(*names):
    """These packages as requirements.txt pins them."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    return [f"{name}=={pins[name]}" for name in names]


def versions(python):
    done = run(python, "-m", "pip", "list", "--format=freeze", stdout=subprocess.PIPE)
    return dict(line.split("==") for line in done.stdout.splitlines() if "==" in line)


def prepare(folder):
    """An environment like Colab's; its Python."""
    print("a clean environment …", flush=True)
    run(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *pinned(*PREINSTALLED, "nbclient"))
    # Imported at the start of each kernel, as Colab's is: the notebooks look for it in sys.modules.
    site = Path(
        run(
            python, "-c", "import site; print(site.getsitepackages()[0])", stdout=subprocess.PIPE
        ).stdout.strip()
    )
    colab = site / "google" / "colab"
    colab.mkdir(parents=True)
    (colab / "__init__.py").touch()
    (colab / "drive.py").write_text(DRIVE)
    (site / "colab.pth").write_text("import google.colab\n")
    (folder / "execute.py").write_text(EXECUTE)
    return python


def commit_of(folder, working_tree):
    """A repository to clone from: this one's last commit, or a copy of the files as they are now."""
    if not working_tree:
        return ROOT
    copy = folder / "repository"
    listed = run(
        "git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "-z", stdout=subprocess.PIPE
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "As it is"]):
        run("git", "-C", copy, *command)
    return copy


def environment(source, folder):
    """What a kernel inherits: GitHub is this checkout, and nothing of this project's own environment is in sight."""
    kept = {
        name: value for name, value in os.environ.items() if name.startswith(("PATH", "LANG", "PIP_", "OMP_"))
    }
    rewrites = {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": f"url.file://{source}.insteadOf",
        "GIT_CONFIG_VALUE_0": f"https://github.com/{REPOSITORY}",
        "GIT_CONFIG_KEY_1": "safe.directory",
        "GIT_CONFIG_VALUE_1": "*",
    }
    return kept | rewrites | {"HOME": str(folder), "JUPYTER_PREFER_ENV_PATH": "1", "CUDA_VISIBLE_DEVICES": ""}


def opened(chapter, source, content):
    """The notebook as a reader has it in Colab: alone, with the repository's name in its first cell, and no release."""
    text = (source / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf8")
    for name, value in {"REPOSITORY": REPOSITORY, "RELEASE": ""}.items():
        text, count = re.subn(rf'(?<={name} = \\")[^"\\]*(?=\\"  #)', value, text)
        assert count == 1, f"{chapter}: its first cell is not the common one"
    path = content / f"{chapter}.ipynb"
    path.write_text(text)
    return path


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="+", help="names in notebooks/, without .ipynb")
    parser.add_argument(
        "--working-tree", action="store_true", help="what lies here, instead of the last commit"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="colab-") as scratch:
        folder, content = Path(scratch), Path(scratch, "content")
        content.mkdir()
        source = commit_of(folder, options.working_tree)
        python = prepare(folder)
        before = versions(python)
        for chapter in options.chapters:
            notebook = opened(chapter, source, content)
            done = subprocess.run(
                [python, folder / "execute.py", notebook, folder / "executed.ipynb", content],
                env=environment(source, folder),
                stderr=subprocess.PIPE,
                text=True,
            )
            if done.returncode:
                print(done.stderr, file=sys.stderr)
                return f"{chapter} does not run"
            after = versions(python)
            changed = [
                f"{name} {before[name]} → {after.get(name)}" for name in KEPT if after.get(name) != before[name]
            ]
            if changed:
                return f"{chapter} replaced what was there: {', '.join(changed)}"
            added = sorted(set(after) - set(before))
            print(f"{chapter}: runs; torch stays {after['torch']}; added {', '.join(added)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
