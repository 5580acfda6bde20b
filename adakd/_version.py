"""One place for the version: read by the package, its build and its records."""

import platform
import warnings
from typing import Any

__version__ = "0.1.0"


def versions() -> str:
    """The line `adakd X`, then one of what a result and a fault depend on: torch, Python, the machine and its accelerator."""
    python = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    try:
        import torch
    except Exception as error:  # then this is the fault
        return (
            f"adakd {__version__}\ntorch cannot be imported ({type(error).__name__}: {str(error)!a}), {python}"
        )
    return f"adakd {__version__}\ntorch {torch.__version__}, {python}, {_accelerator(torch)}"


def _accelerator(torch: Any) -> str:
    """The GPUs that runs can be on, or why there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a driver that is too old: the words below say that it is not used
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        names = list(dict.fromkeys(torch.cuda.get_device_name(i) for i in range(count)))
        built = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
        return f"{count} GPU{'s' * (count > 1)}: {', '.join(names)} ({built})"
    built = torch.version.cuda or torch.version.hip
    return "no GPU" + (" found by torch, which is built for one" if built else "")
