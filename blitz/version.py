"""The version of blitz, which `pyproject.toml` and every run's provenance read."""

__version__ = "0.1.0"
