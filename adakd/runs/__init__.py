"""Runs: what identifies one, its folder, its record, and the carrying out."""

from .config import PlaceOptions, ResourceOptions, Resources, RunConfig, resolve_device
from .folder import BusyError
from .run import Job, Run, Teaching, carry_out, data_of_run, loaded_model, open_run, refuse_other_data

__all__ = [
    "BusyError",
    "Job",
    "PlaceOptions",
    "ResourceOptions",
    "Resources",
    "Run",
    "RunConfig",
    "Teaching",
    "carry_out",
    "data_of_run",
    "loaded_model",
    "open_run",
    "refuse_other_data",
    "resolve_device",
]
