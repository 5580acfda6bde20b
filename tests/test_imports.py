"""The direction of imports, what `import adakd` brings along, and what every public name says of itself."""

import ast
import importlib
import inspect
import json
import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import adakd
import adakd.cli
from adakd import _entry, _version

PACKAGE = Path(adakd.__file__).parent

# A room imports from lower floors only. A new room gets its floor here.
FLOORS = {
    "_version": 0,
    "_check": -1,
    "_described": -1,
    "_style": -1,
    "_progress": -1,
    "stages": -1,
    "_parts": 0,
    "_hash": 0,
    "_seed": 0,
    "_frozen": 0,
    "_faults": 0,
    "theory": 0,
    "series": 1,
    "expression": 2,
    "logits": 0,
    "statistics": 0,
    "signals": 0,
    "_rows": 1,
    "data": 1,
    "models": 1,
    "temperature": 1,
    "refine": 1,
    "weight": 2,
    "divergence": 3,
    "functional": 4,
    "terms": 4,
    "_closed": 4,
    "_plain": 5,
    "_traced": 5,
    "objective": 6,
    "methods": 7,
    "training": 8,
    "runs": 9,
    "teachers": 10,
    "distiller": 11,
    "plan": 11,
    "bench": 11,
    "engine": 11,
    "explore": 9,
    "api": 12,
    "temperatures": 12,
    "measure": 13,
    "exercises": 12,
    "export": 12,
    "study": 12,
    "advice": 13,
    "conformance": 12,
    "sweep": 13,
    "cli": 14,
    "_entry": 15,
    "adakd": 15,  # the package itself, that is its __init__
    "__main__": 16,
}
HEAVY = (
    "torchvision",
    "matplotlib",
    "anywidget",
    "ipywidgets",
    "traitlets",
    "pandas",
    "sympy",
    "scipy",
    "ray",
    "IPython",
)
ROOMS = [
    "",
    "temperature",
    "divergence",
    "data",
    "exercises",
    "export",
    "models",
    "training",
    "runs",
    "teachers",
    "plan",
    "api",
    "series",
    "theory",
    "theory.partition",
    "theory.series",
    "logits",
    "statistics",
    "methods",
    "objective",
    "temperatures",
    "advice",
    "conformance",
    "measure",
    "bench",
    "engine",
    "sweep",
    "functional",
    "signals",
    "stages",
    "terms",
    "refine",
    "weight",
    "study",
    "distiller",
    "expression",
    "explore",
    "cli",
]


def room_of(module):
    """adakd.data.views -> data; the package itself -> adakd."""
    return module.split(".")[1] if "." in module else module


def imported(path):
    """Modules of adakd that a file imports, wherever in the file it does."""
    parts = ["adakd", *path.relative_to(PACKAGE).with_suffix("").parts]
    package = parts[:-1]  # also of an __init__, whose own name is the last part
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "adakd")
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1] + (node.module or "").split(".")
            else:
                base = (node.module or "").split(".")
            base = [part for part in base if part]
            if base[:1] != ["adakd"]:
                continue
            # `from . import series` names modules, `from ._check import near_names` names things in one.
            for alias in node.names:
                inside = PACKAGE.joinpath(*base[1:], alias.name)
                is_module = inside.with_suffix(".py").is_file() or inside.is_dir()
                yield ".".join([*base, alias.name] if is_module else base)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    here = "adakd" if first == "__init__" else first
    assert here in FLOORS, f"{here} has no floor yet: add it to FLOORS"
    upward = [
        module
        for module in imported(path)
        if room_of(module) != here and FLOORS[room_of(module)] >= FLOORS[here]
    ]
    assert upward == []


def test_the_walk_sees_every_kind_of_import(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "cli.py").touch()
    (tmp_path / "data" / "views.py").write_text(
        "import adakd.cli\n"
        "from . import images\n"
        "from .. import cli\n"
        "from .._check import near_names\n"
        "from ..training.fit import fit\n"
        "from adakd import distill\n"
        "import os, torch\n"
        "def later():\n    from ..methods import METHODS\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    found = [room_of(module) for module in imported(tmp_path / "data" / "views.py")]
    assert sorted(found) == sorted(["cli", "data", "cli", "_check", "training", "adakd", "methods"])


@pytest.fixture(scope="module")
def fresh():
    """What a new interpreter finds before and after `import adakd`."""
    script = f"""
import json, random, sys, threading
import numpy, torch
torch.manual_seed(5); numpy.random.seed(5); random.seed(5)
def state():
    return [torch.get_rng_state().tolist(), torch.get_num_threads(), str(torch.get_default_dtype()),
            torch.is_grad_enabled(), str(numpy.random.get_state()), str(random.getstate()), threading.active_count(),
            torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled(),
            torch.get_float32_matmul_precision()]
before = state()
import adakd, adakd.cli
after = state()
loaded = [name for name in {HEAVY!r} if name in sys.modules]
if torch.__version__.startswith("2.4."):  # whose own rooms bring it along
    loaded = [name for name in loaded if name != "sympy"]
print(json.dumps({{"same": before == after, "loaded": loaded}}))
"""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_import_needs_no_heavy_package(fresh):
    assert fresh["loaded"] == []


def test_import_has_no_side_effects(fresh):
    assert fresh["same"]


def in_a_fresh_interpreter(script, *options):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.run(
        [sys.executable, *options, "-c", script], capture_output=True, text=True, env=environment
    )


def test_the_import_itself_brings_nothing_along():
    """So it costs nothing beside torch's: each name fetches its room when it is first used."""
    script = f"""
import sys
before = set(sys.modules)
import adakd
new = set(sys.modules) - before
print(sorted(name for name in new if name.partition(".")[0] not in sys.stdlib_module_names))
listed, names = dir(adakd), {adakd.__all__!r}
adakd.Fixed
print("torch" in sys.modules, "adakd.temperature" in sys.modules, "adakd.training" in sys.modules)
print(set(names) <= set(listed), all(getattr(adakd, name) is getattr(adakd, name) for name in names))
"""
    done = in_a_fresh_interpreter(script)
    assert done.stdout.splitlines() == ["['adakd', 'adakd._version']", "True True False", "True True"], (
        done.stderr
    )


def test_public_names_are_written_down_alike():
    """Three lists say where a name lives: for type checkers, for the interpreter, and for `import *`."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        (alias.name, node.module) for node in block.body for alias in node.names if node.module is not None
    }
    rooms = {(name, room) for room, names in adakd._ROOMS.items() for name in names}
    assert typed == rooms
    aliases = [alias for node in block.body if node.module is None for alias in node.names]
    modules = {alias.name for alias in aliases if alias.asname is None}
    assert sorted(adakd.__all__) == sorted({name for name, _ in rooms} | modules | {"__version__"})
    assert {alias.name for alias in aliases} == {room for room, names in adakd._ROOMS.items() if not names}
    assert all(alias.asname in (None, alias.name) for alias in aliases)


def rooms_of_the_package():
    """Every public module or package in adakd's folder."""
    return {
        path.stem
        for path in PACKAGE.iterdir()
        if not path.name.startswith("_") and (path.suffix == ".py" or (path / "__init__.py").exists())
    }


def test_every_room_is_there_without_an_import_of_its_own():
    """In a new interpreter, for whoever has imported one finds it through its parent; and none comes unasked."""
    rooms = sorted(rooms_of_the_package())
    script = f"""
import importlib, sys
import adakd
came = [room for room in {rooms} if f"adakd.{{room}}" in sys.modules]
lost = []
for room in {rooms}:
    vars(adakd).pop(room, None)  # where an earlier one has brought it
    if getattr(adakd, room, None) is not importlib.import_module(f"adakd.{{room}}"):
        lost.append(room)
print(came, lost)
"""
    done = in_a_fresh_interpreter(script)
    assert done.stdout == "[] []\n", done.stderr
    assert rooms == sorted(adakd._ROOMS)


def test_the_modules_that_the_docs_name_are_rooms():
    root = PACKAGE.parent
    pages = [root / "README.md", root / "CHANGELOG.md", *sorted((root / "book").glob("*.md"))]
    named = {
        (page.name, name)
        for page in pages
        for name in re.findall(r"\badakd\.([a-z]\w*)", page.read_text(encoding="utf-8"))
    }
    assert {"conformance", "bench", "explore", "sweep", "temperatures"} <= {name for _, name in named}
    known = {*adakd._ROOMS, *adakd.__all__}
    assert [(page, name) for page, name in sorted(named) if name not in known] == []


def test_help_needs_no_extra():
    """Whoever goes through all that is listed, as help() does, meets no module of the figures."""
    script = """
import inspect, sys
sys.modules["anywidget"] = sys.modules["traitlets"] = None  # as if they were not installed
import adakd
print({"conformance", "sweep"} <= {name for name, _ in inspect.getmembers(adakd)}, "adakd.explore" in sys.modules)
"""
    done = in_a_fresh_interpreter(script)
    assert done.stdout == "True False\n", done.stderr


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'adakd' has no attribute 'distil'") as caught:
        _ = adakd.distil
    assert (caught.value.name, caught.value.obj) == ("distil", adakd)  # by which Python finds near names


def test_the_version_is_told_with_what_a_fault_depends_on(capsys):
    """Without the library, so that a fault of its import cannot hide it; without torch too."""
    done = in_a_fresh_interpreter(
        "import sys\nfrom adakd import _entry\nprint(_entry.main(['--version']), 'adakd.cli' in sys.modules)"
    )
    first, second, end = done.stdout.splitlines()
    assert (first, end) == (f"adakd {adakd.__version__}", "0 False")
    assert second.startswith(f"torch {torch.__version__}, Python {platform.python_version()}, ")
    assert second.isascii()
    with pytest.raises(SystemExit) as ended:
        adakd.cli.main(["--version"])
    assert ended.value.code in (None, 0)
    assert capsys.readouterr().out == f"{first}\n{second}\n"
    done = in_a_fresh_interpreter(
        "import sys\nsys.modules['torch'] = None\nfrom adakd import _entry\n_entry.main(['--version'])"
    )
    assert done.stdout.startswith(f"{first}\ntorch cannot be imported (ModuleNotFoundError: ")


@pytest.mark.parametrize(
    ("cuda", "said"),
    [
        ({"is_available": False, "device_count": 0}, "no GPU found by torch, which is built for one"),
        ({"is_available": True, "device_count": 1}, "1 GPU: NVIDIA H200 (CUDA 12.8)"),
        ({"is_available": True, "device_count": 2}, "2 GPUs: NVIDIA H200 (CUDA 12.8)"),
    ],
)
def test_the_version_names_the_accelerator(monkeypatch, cuda, said):
    for name, value in cuda.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "NVIDIA H200")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert _version.versions().endswith(f", {said}")


INTERRUPTED = """
import os, signal, sys
sys.argv = ["adakd", "methods"]
{prepare}
class Finder:  # where torch's import has got some way, Ctrl-C is pressed
    def find_spec(self, name, path=None, target=None):
        if name == "torch.nn":
            os.kill(os.getpid(), signal.SIGINT)
        return None
sys.meta_path.insert(0, Finder())
from adakd._entry import main
raise SystemExit(main())
"""


def test_ctrl_c_during_the_imports_is_quiet():
    # A shell's background job, as this may be, begins with Ctrl-C ignored.
    usual = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    done = in_a_fresh_interpreter(INTERRUPTED.format(prepare=usual))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_that_is_ignored_stays_ignored():
    """As in `nohup adakd …` or a script's background job."""
    done = in_a_fresh_interpreter(INTERRUPTED.format(prepare="signal.signal(signal.SIGINT, signal.SIG_IGN)"))
    assert done.returncode == 0, done.stderr
    assert "zkd" in done.stdout


def test_ctrl_c_after_the_imports_is_the_commands_own(monkeypatch):
    seen = []
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(
        "adakd.cli.main", lambda arguments: seen.append((arguments, signal.getsignal(signal.SIGINT))) or 7
    )
    assert _entry.main(["methods"]) == 7
    assert seen == [(["methods"], before)]


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_exist_and_are_explained(room):
    module = importlib.import_module(f"adakd.{room}" if room else "adakd")
    assert len(set(module.__all__)) == len(module.__all__)
    assert module.__doc__
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            # A class's own words: neither its parent's, nor what dataclasses and named tuples make up.
            text = (thing.__dict__.get("__doc__") if inspect.isclass(thing) else thing.__doc__) or ""
            assert text, f"{name} has no docstring"
            assert not text.startswith(f"{name}("), f"{name} has a made-up docstring"
            assert text.strip().split("\n\n")[0].endswith((".", ":")), f"{name} does not begin with a sentence"


@pytest.mark.parametrize("name", adakd.__all__)
def test_public_functions_are_typed(name):
    thing = getattr(adakd, name)
    if not inspect.isfunction(thing):
        return
    signature = inspect.signature(thing)
    untyped = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    assert untyped == []
    assert signature.return_annotation is not signature.empty
