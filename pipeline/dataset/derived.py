"""The folder that a step after embedding writes to. Its settings are frozen: a second run into the same folder must
have the same ones, and goes on where the first stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import OutputError, PlanMismatchError
from .layout import OWN
from .output import Output
from .plan import PLAN, begun_otherwise

STEP = f"{OWN}/step.json"


def begin(output: Output, step: str, settings: Mapping[str, Any]) -> None:
    """Begin or continue the output of a step.

    settings: all that its files depend on, as JSON values, the dataset's fingerprint among them. PlanMismatchError,
    with the difference, where the folder was begun with other settings. OutputError where it is no folder for a step.
    """
    if _agrees(output, step, settings):
        return
    if output.read(PLAN) is not None:
        raise OutputError(f"{output.url} is the output of `clipmill embed`: choose another output folder")
    if strangers := output.strangers():
        raise OutputError(
            f"{output.url} holds {min(strangers)}, which clipmill did not write: choose another output folder"
        )
    if not output.write_new(STEP, json.dumps({"step": step, "settings": settings}, indent=2).encode()):
        _agrees(output, step, settings)  # another run began it at the same moment


def begun(output: Output) -> tuple[str, dict[str, Any]] | None:
    """The step that writes to a folder, and its settings; None where none was begun."""
    content = output.read(STEP)
    if content is None:
        output.refuse_earlier()
        return None
    try:
        begun = json.loads(content)
        return begun["step"], begun["settings"]
    except (ValueError, TypeError, KeyError) as error:
        raise OutputError(f"{output.url}/{STEP} is damaged: choose another output folder") from error


def _agrees(output: Output, step: str, settings: Mapping[str, Any]) -> bool:
    """True where this step was begun with these settings; False where none was begun."""
    earlier = begun(output)
    if earlier is None:
        return False
    other, before = earlier
    if other != step:
        raise PlanMismatchError(f"{output.url} is the output of `clipmill {other}`: choose another output folder")
    now = json.loads(json.dumps(settings))
    differences = [
        f"{name} is {now.get(name)!r}, not {before.get(name)!r}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    if differences:
        raise PlanMismatchError(begun_otherwise(output.url, differences))
    return True
