"""torchvision's datasets, also where its compiled operators do not match the installed torch.

Beside a CPU build of torch, `import torchvision` can fail with "operator torchvision::nms does not exist": its
compiled library was not loaded, and its Python part wants to register fakes for two detection operators.
Reading CIFAR needs neither. On exactly that error the two are declared, without a body, and the import is tried
once more.
"""

import importlib
import sys
from types import ModuleType

import torch

__all__ = ["torchvision_datasets"]

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # a Library takes its declarations with it when collected


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in _OPERATORS:
        library.define(operator + _SCHEMA)
    _declared.append(library)


def torchvision_datasets() -> ModuleType:
    """`torchvision.datasets`.

    Raises:
        ImportError: if torchvision is not installed.
    """
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error) or _declared:
            raise
    _declare_operators()
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # the half-imported rest of the first try
    return importlib.import_module("torchvision.datasets")
