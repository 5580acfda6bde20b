"""How the threads of a training process wait for each other. Imported before torch, which reads it once."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["is_command_line"]


def is_command_line(argv: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether these are the arguments of the process of ``adakd`` or ``python -m adakd``.

    Args:
        argv: ``sys.argv``, which during the import of a package by ``-m`` begins with ``"-m"``.
        whole: ``sys.orig_argv``.
    """
    if argv[:1] == ["-m"]:
        return "-m" in whole and list(whole)[list(whole).index("-m") + 1 :][:1] == ["adakd"]
    return bool(argv) and Path(argv[0]).stem == "adakd"


# OpenMP's threads wait for each other by spinning. Beside another busy process the one that is waited for then gets
# no processor: on two cores a step of resnet20 takes 6 times as long, and 2 times if they sleep. Where nothing else
# runs, sleeping costs a tenth to a third. A process of our own may choose; in somebody else's this is not ours to say.
if is_command_line(sys.argv, sys.orig_argv):
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
