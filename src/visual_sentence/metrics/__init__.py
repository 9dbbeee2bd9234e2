"""Metrics as `evaluate` modules: load one offline by `evaluate.load(metric_path(name))`."""

from importlib.resources import files


def metric_path(name: str) -> str:
    """The folder of a metric that ships with this package, for `evaluate.load`."""
    return str(files(__package__) / name)
