"""Runs a job specification: its steps in order, each as its command would."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import date as Date
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from ...pipeline.dataset.lock import held
from ...pipeline.dataset.output import Output
from ...pipeline.errors import UserError
from ...pipeline.redaction import redacted
from ..showing.console import err
from .kinds import KINDS
from .notify import notifying
from .specification import API_VERSION, Specification, SpecifiedStep, read_specification
from .templates import Values

RunStep = Callable[[str, Any], None]  # runs a step by its name, given its job, and shows the result


def values_of(variables: Sequence[str], date: str | None) -> Values:
    """variables: NAME=VALUE each. UserError for one without a `=`, or for a date that is none."""
    found: dict[str, Any] = {}
    for each in variables:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise UserError(f"--set {each}: must be NAME=VALUE")
        found[name] = value
    try:
        day = Date.fromisoformat(date) if date else datetime.now(timezone.utc).date()
    except ValueError as error:
        raise UserError(f"--date {date}: must be YYYY-MM-DD") from error
    return Values(day.isoformat(), os.environ, found)


def check_specification(path: Path, values: Values) -> Specification:
    """As a cluster will read it, whose environment is not known here."""
    return read_specification(path, replace(values, env=_Anything()))


class _Anything(dict[str, str]):
    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return f"${name}"


def run_specification(specification: Specification, run_step: RunStep) -> None:
    """Run the steps one after another. LockedError where another run is at work on a step's output."""
    about = {"kind": specification.kind, "steps": [step.name for step in specification.steps]}
    with notifying(specification.notify, about):
        for step in specification.steps:
            if len(specification.steps) > 1:
                err.print(f"— {step.name}")
            with _alone(step):
                run_step(step.kind, step.job)


def _alone(step: SpecifiedStep) -> AbstractContextManager[None]:
    if KINDS[step.kind].writes_a_file:
        return nullcontext()
    return held(Output.at(step.job.out, step.job.storage_options).prepare())


def show_specification(specification: Specification, as_json: bool) -> None:
    """Every step with its defaults, slots filled and secrets hidden, as YAML that is a specification again."""
    said = {
        "apiVersion": API_VERSION,
        "kind": "pipeline",
        "steps": [redacted(step.as_json()) for step in specification.steps],
    }
    plain = json.loads(json.dumps(said, default=str))
    print(json.dumps(plain) if as_json else yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), end="")
    if as_json:
        print()
