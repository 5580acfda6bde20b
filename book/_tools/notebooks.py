"""Run the book's notebooks, always the same way, so that their outputs are the same bytes on every run.

    python book/_tools/notebooks.py write         run them and write the outputs back     (make notebooks)
    python book/_tools/notebooks.py copy FOLDER   run copies, laid out as a book to build (make book)
    python book/_tools/notebooks.py check         compare fresh outputs with committed    (make test, by nbval)
    python book/_tools/notebooks.py time          run copies one by one, and write how long each runs, for its page

Names of notebooks after the command limit it to those. Several run side by side, each on one core.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
TIMES = ROOT / "book" / "data" / "running.json"
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
# Read by every kernel as it starts, outside the notebook's names.
KERNEL_CONFIG = """\
from functools import partialmethod
from tqdm.notebook import tqdm_notebook
# A progress bar in a notebook is a core ipywidget, and its speed is never the same.
tqdm_notebook.__init__ = partialmethod(tqdm_notebook.__init__, disable=True)
# Every kernel warns that it talks over plain TCP; here it talks to its own parent.
get_config().IPKernelApp.log_level = 40
"""
# Metadata that an author writes. Everything else is left there by one editor or another.
CELL_METADATA = {"tags", "mystnb", "jupyter"}
NOTEBOOK_METADATA = {"mystnb", "widgets"}
# Seconds until a kernel that does not start, or that loses an output, is given up; on a busy machine both take a while.
PATIENCE = 600


def cores():
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reproducible_environment(scratch):
    """What the notebooks' kernels inherit: a CPU, and nothing of this user's own configuration."""
    matplotlibrc = Path(scratch, "matplotlibrc")
    # Ids inside a matplotlib SVG are salted by a random number, unless told otherwise.
    matplotlibrc.write_text("svg.hashsalt: adakd\n")
    profile = Path(scratch, "profile_default")
    profile.mkdir()
    (profile / "ipython_kernel_config.py").write_text(KERNEL_CONFIG)
    return {
        "CUDA_VISIBLE_DEVICES": "",
        "IPYTHONDIR": scratch,
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one in the user's home
        "MATPLOTLIBRC": str(matplotlibrc),
        # Two kernels of one thread are done before one of two threads twice, and beside another process much before:
        # OpenMP's threads wait for each other by spinning.
        "OMP_NUM_THREADS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else newer Pythons warn on stderr as the kernel starts
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": "0",  # the date inside an SVG
    }


def execute(notebook, cwd, title):
    """Run every cell in a fresh kernel, with a progress bar where somebody is looking."""
    code = [index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    started = time.monotonic()
    notebook.metadata.pop("widgets", None)
    with tqdm(total=len(code), desc=title, unit="cell", disable=None) as bar:
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=None,
            startup_timeout=PATIENCE,
            iopub_timeout=PATIENCE,
            record_timing=False,
            resources={"metadata": {"path": str(cwd)}},
            on_cell_executed=lambda **_: bar.update(),
        )
        client.execute()
    print(f"{title}: {len(code)} cells, {time.monotonic() - started:.1f} s", flush=True)
    return notebook


def tidy(notebook):
    """Leave nothing that differs between two runs, or that is nobody's."""
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in CELL_METADATA}
        if cell.cell_type == "code":
            cell.outputs = merge_streams(cell.outputs)
    notebook.metadata = {
        **{key: value for key, value in notebook.metadata.items() if key in NOTEBOOK_METADATA},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "file_extension": ".py", "pygments_lexer": "ipython3"},
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    name_cells(notebook)
    keep_shown_widgets(notebook)
    return name_models(notebook)


def merge_streams(outputs):
    """One output per run of prints: where a kernel cuts its stream depends on the clock."""
    merged = []
    for output in outputs:
        last = merged[-1] if merged else None
        if output.output_type == "stream" and last and last.get("name") == output.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def name_cells(notebook):
    """An id made from the cell's text: it changes only when the cell does."""
    seen = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


def shown_models(notebook):
    """Ids of the models that outputs show, in the order of the page."""
    return [
        output.data[VIEW]["model_id"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if VIEW in output.get("data", {})
    ]


def keep_shown_widgets(notebook):
    """Drop models that nothing on the page shows or refers to, such as those of a cell's earlier value."""
    models = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    keep, waiting = {}, shown_models(notebook)
    while waiting:
        model_id = waiting.pop(0)
        if model_id in models and model_id not in keep:
            keep[model_id] = models[model_id]
            waiting += re.findall(r"IPY_MODEL_(\w+)", json.dumps(models[model_id]))
    if keep:
        notebook.metadata["widgets"][STATE]["state"] = keep
    else:
        notebook.metadata.pop("widgets", None)


def name_models(notebook):
    """Number the random ids of widget models in the order of the page."""
    models = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    text = nbformat.writes(notebook)
    for number, model_id in enumerate(models, start=1):
        text = text.replace(model_id, f"{number:032x}")
    return nbformat.reads(text, as_version=4)


def write(paths):
    """Run the notebooks and write their outputs back; returns an exit status."""
    if len(paths) > 1:
        return side_by_side(paths)
    for path in paths:
        fresh = tidy(execute(nbformat.read(path, as_version=4), path.parent, path.stem))
        save(fresh, path)
    return 0


def side_by_side(paths):
    """Each notebook in a process of its own, as many at a time as there are cores; one that fails stops no other."""
    command = [sys.executable, __file__, "write"]
    with ThreadPoolExecutor(cores()) as pool:
        running = [pool.submit(subprocess.call, [*command, str(path)]) for path in paths]
        try:
            statuses = [future.result() for future in running]
            return int(any(statuses))
        finally:
            pool.shutdown(cancel_futures=True)


def save(notebook, path):
    """Whole or not at all: an interrupted run must not cost the notebook."""
    part = path.with_suffix(".part")
    nbformat.write(notebook, part)
    part.replace(path)


def copy(paths, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml", "CHANGELOG.md"):
        shutil.copyfile(ROOT / name, folder / name)
    # With the records beside them, where the chapters look.
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "notebooks").mkdir()
    return write([Path(shutil.copy(path, folder / "notebooks")) for path in paths])


def measure(paths):
    """Processor seconds of each notebook on one core, which a busy machine changes little, into TIMES."""
    known = json.loads(TIMES.read_text(encoding="utf8")) if TIMES.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "book", Path(folder, "book"))
        Path(folder, "notebooks").mkdir()
        for path in paths:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            execute(nbformat.read(path, as_version=4), Path(folder, "notebooks"), path.stem)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            known[path.stem] = {"seconds": round(used), "processor": processor()}
            TIMES.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf8")
    return 0


def processor():
    """The processor's own name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor()


def check(paths):
    import pytest

    options = [
        "--nbval",
        "--nbval-current-env",
        f"--nbval-kernel-startup-timeout={PATIENCE}",
        "-p",
        "same_output",
    ]
    if len(paths) > 1:
        options += ["-n", str(cores()), "--dist", "loadfile"]
    # nbval's own plumbing warns about pytest's newer ways; what counts here is the comparison.
    return pytest.main([*options, "-W", "ignore", *map(str, paths)])


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="write | copy | check | time")
    for command in ("write", "copy", "check", "time"):
        sub = commands.add_parser(command)
        if command == "copy":
            sub.add_argument("folder", type=Path, help="made anew: whatever it held is removed")
        sub.add_argument("notebooks", nargs="*", type=Path, help="default: all in notebooks/")
    options = parser.parse_args(arguments)
    options.notebooks = options.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    return options


def main(arguments=None):
    options = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="adakd-") as scratch:
        os.environ.pop("ADAKD_DATA", None)
        os.environ.update(reproducible_environment(scratch))
        try:
            if options.command == "check":
                return check(options.notebooks)
            if options.command == "copy":
                return copy(options.notebooks, options.folder)
            if options.command == "time":
                return measure(options.notebooks)
            return write(options.notebooks)
        except CellExecutionError as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted; the notebooks are as they were", file=sys.stderr)
            return 130


if __name__ == "__main__":
    sys.exit(main())
