"""The error tree: the request is wrong, a sample or shard is bad, or the infrastructure failed."""

from __future__ import annotations

from typing import Any

from ..clipmodel.errors import ClipmillError, ModelError, UserError, one_line

__all__ = [
    "ClipmillError",
    "InfrastructureError",
    "InputError",
    "LimitReachedError",
    "ModelError",
    "OutputError",
    "PlanMismatchError",
    "SampleError",
    "ShardError",
    "StoppedError",
    "StorageFullError",
    "TooManyFailuresError",
    "UserError",
    "one_line",
]


class InputError(UserError):
    """An input that does not exist, holds nothing, or is of no format we read."""


class OutputError(UserError):
    """An output that cannot be written, or that holds something else."""


class PlanMismatchError(OutputError):
    """The output folder was begun with another model, precision or column selection."""


class SampleError(ClipmillError):
    """One sample is bad. Becomes the `error` of its row, as `stage: reason`; never leaves a worker."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage, self.reason = stage, reason


class ShardError(ClipmillError):
    """A shard that cannot be read at all."""


class TooManyFailuresError(ClipmillError):
    """The run ended, and more samples or shards failed than the user allows."""

    exit_code = 3

    def __init__(self, reason: str, summary: Any = None) -> None:
        super().__init__(reason)
        self.summary = summary  # a `Summary`, once the run's books are closed


class StoppedError(ClipmillError):
    """The run's caller stopped it, and it ended cleanly."""

    exit_code = 130

    def __init__(self, reason: str, summary: Any = None) -> None:
        super().__init__(reason)
        self.summary = summary  # a `Summary`


class LimitReachedError(StoppedError):
    """The run's deadline or budget stopped it, and it ended cleanly."""

    exit_code = 4


class InfrastructureError(ClipmillError):
    """A worker, a node or the storage failed, and kept failing. Running again resumes."""


class StorageFullError(InfrastructureError):
    """A disk or an object store has no room left: the same for every shard, so that a run ends at once."""
