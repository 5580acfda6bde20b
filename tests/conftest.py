"""What several tests share: hypothesis settings, tiny data, and the demonstration on the embedded set, trained once."""

import os

# Before torch is imported, and for the processes that tests start: a worker of `pytest -n` has a core of its own, and
# two OpenMP threads that share it wait for each other by spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nor is there a core for helpers of the compiler, each of which imports torch first: a sixth of a compiling test's time.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, settings

import adakd
from adakd.data import load_gratings

# The same examples in every run: a failure that comes and goes teaches people to run again.
# HYPOTHESIS_PROFILE=search looks for new ones.
# Nothing fails because it is slow: no deadline, and no complaint about examples that take long to make.
unhurried = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("fixed", derandomize=True, max_examples=40, database=None, **unhurried)
settings.register_profile("search", max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", 2000)), **unhurried)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


# Whatever needs one of these waits for a training, or for a build of the book or the package.
SLOW_FIXTURES = {"demo", "book", "built", "good", "refused"}


# All of the library computes with torch 2.4, the lowest that pyproject.toml takes. Its compiler cannot follow a changed
# named tuple, so that there a loss is several graphs.
ONE_GRAPH = not torch.__version__.startswith("2.4.")


def pytest_collection_modifyitems(items):
    """`pytest -m "not slow"` answers in about a minute; files with something slow in them go first, for workers of `-n`."""
    for item in items:
        if "one_graph" in item.name and not ONE_GRAPH:
            item.add_marker(pytest.mark.skip(reason="torch 2.4 makes several graphs of a loss"))
        if not SLOW_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_configure(config):
    config.pluginmanager.register(_Report(config), "report-of-adakd")


class _Report:
    """Names what fails when it fails, so that a log of which the end was never reached says it, too; and where time went."""

    def __init__(self, config):
        self.config = config
        self.seconds = Counter()

    def pytest_terminal_summary(self, terminalreporter):
        if self.seconds.total() > 300:
            terminalreporter.section("seconds by file, of all workers")
            for name, seconds in self.seconds.most_common(25):
                terminalreporter.write_line(f"{seconds:6.0f} {name}")

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid.partition("::")[0]] += report.duration
        terminal = self.config.pluginmanager.getplugin("terminalreporter")
        if report.failed and terminal is not None:  # which a worker of `-n` has not
            terminal.ensure_newline()
            terminal.write_line(f"failed: {report.nodeid} ({report.when})", red=True)


@pytest.fixture(autouse=not ONE_GRAPH)
def subnormal_numbers():
    """What torch 2.4 has compiled turns them off for the whole process, in which hypothesis then draws no number near 0."""
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def tiny_data():
    """60 training and 40 test gratings: an epoch of three steps takes a tenth of a second."""
    return load_gratings(train_images=60, test_images=40)


@pytest.fixture(scope="session")
def tiny_teacher(tiny_data, tmp_path_factory):
    """A run of a teacher on the tiny data: it knows little, but it is a teacher."""
    return adakd.train_teacher(
        "resnet8x0.5",
        tiny_data,
        out=tmp_path_factory.mktemp("tiny"),
        device="cpu",
        precision="fp32",
        progress=False,
        epochs=2,
        batch_size=20,
    )


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A folder of this test run, the same one for all workers of `pytest -n`."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def demo(shared_folder):
    """The commands a newcomer runs, with every default: one teacher, and students over three seeds."""
    out = shared_folder / "demo" / "runs"
    # The first worker trains; to the same commands the others get the runs that are finished.
    with FileLock(shared_folder / "demo.lock"):
        teacher = adakd.train_teacher(out=out, progress=False)
        students = {
            method: [adakd.distill(method=method, seed=seed, out=out, progress=False) for seed in range(3)]
            for method in ("ce", "kd")
        }
    return SimpleNamespace(out=out, teacher=teacher, students=students)
