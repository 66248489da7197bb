"""Runs a job specification: its steps in order, each as its command would."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import date as Date
from datetime import datetime, timezone
from typing import Any

import yaml

from ..pipeline.errors import UserError
from ..pipeline.redaction import redacted
from .show import err
from .specs import API_VERSION, Specification, Step
from .templates import Values


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


def run_specification(specification: Specification, as_json: bool) -> None:
    for step in specification.steps:
        if len(specification.steps) > 1:
            err.print(f"— {step.name}", markup=False)
        command_of(step)(step.job, json_=as_json)


def command_of(step: Step) -> Callable[..., None]:
    """The step's command, before its job became options."""
    from . import cli

    command: Any = getattr(cli, step.kind)
    found: Callable[..., None] = command.__wrapped__
    return found


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
