"""One place for the version: read by the package, its build and its records."""

__version__ = "0.1.0"
