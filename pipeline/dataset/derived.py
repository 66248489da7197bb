"""What a step after embedding writes, frozen as a dataset's plan is: a second run into the same folder must mean the
same, and then goes on where the first stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import OutputError, PlanMismatchError
from .output import OWN, Output
from .plan import PLAN

STEP = f"{OWN}/step.json"


def begin(output: Output, step: str, settings: Mapping[str, Any]) -> None:
    """Begin or continue what `step` writes there. settings: all that its files depend on, in words (JSON values), the
    fingerprint of the dataset among them. PlanMismatchError, with the difference, where it was begun otherwise."""
    if _agrees(output, step, settings):
        return
    if output.read(PLAN) is not None:
        raise OutputError(f"{output.url} is what `clipmill embed` writes to; choose another output folder")
    if strangers := output.parts():
        raise OutputError(
            f"{output.url} holds {min(strangers)}, but nothing that clipmill began: choose another folder"
        )
    if not output.write_new(STEP, json.dumps({"step": step, "settings": settings}, indent=2).encode()):
        _agrees(output, step, settings)  # somebody else began it just now


def begun(output: Output) -> tuple[str, dict[str, Any]] | None:
    """The step that writes there and its settings; None where none was begun."""
    content = output.read(STEP)
    if content is None:
        return None
    try:
        said = json.loads(content)
        return said["step"], said["settings"]
    except (ValueError, TypeError, KeyError) as error:
        raise OutputError(f"{output.url}/{STEP}: damaged, or of another version; choose another folder") from error


def _agrees(output: Output, step: str, settings: Mapping[str, Any]) -> bool:
    """Whether the same was begun; False where nothing was."""
    found = begun(output)
    if found is None:
        return False
    other, before = found
    if other != step:
        raise PlanMismatchError(f"{output.url} is what `clipmill {other}` writes to; choose another output folder")
    now = json.loads(json.dumps(settings))
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        said = "; ".join(f"{name} is {now.get(name)!r}, not {before.get(name)!r}" for name in names)
        raise PlanMismatchError(
            f"{output.url} was begun otherwise: {said}. Choose another output folder, or the same settings"
        )
    return True
