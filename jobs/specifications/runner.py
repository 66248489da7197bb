"""Runs a job specification: its steps in order, each as its command would."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ...pipeline.dataset.lock import held
from ...pipeline.dataset.output import Output
from ...pipeline.job.fields import writes_a_file
from ..showing.console import err
from .specification import Specification, SpecifiedStep
from .webhook import notifying

RunStep = Callable[[str, Any], None]  # runs a step by its name, given its job, and shows the result


def run_specification(specification: Specification, run_step: RunStep) -> None:
    """Run the steps one after another. LockedError where another run is at work on a step's output."""
    about = {"kind": specification.kind, "steps": [step.name for step in specification.steps]}
    with notifying(specification.notify, about):
        for step in specification.steps:
            if len(specification.steps) > 1:
                err.print(f"— {step.name}")
            with _locked(step):
                run_step(step.kind, step.job)


def _locked(step: SpecifiedStep) -> AbstractContextManager[None]:
    out = getattr(step.job, "out", None)  # `forget` has none: it may run beside any other
    if not out or writes_a_file(type(step.job)):
        return nullcontext()
    return held(Output.at(out, step.job.storage_options).prepare())
