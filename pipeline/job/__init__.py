"""What each step can be asked to do: one dataclass a step, from which its command line options and its part of a job
specification are made. Nothing heavy is imported here, so that help comes at once."""

from __future__ import annotations

from typing import Any

from ..steps import STEPS
from .flags import Flag

_JOBS = {step.job_name: step for step in STEPS}

__all__ = ["Flag", *_JOBS]


def __getattr__(name: str) -> Any:
    if name not in _JOBS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _JOBS[name].job


def __dir__() -> list[str]:
    return [*globals(), *__all__]
