"""The folder that a step after embedding writes to. Its settings are frozen: a second run into the same folder must
have the same ones, and goes on where the first stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import OutputError, PlanMismatchError
from .layout import OWN, part_path
from .lock import LOCK
from .output import Output
from .plan import PLAN, begun_otherwise

STEP = f"{OWN}/step.json"
OVERWRITABLE = ("filter", "dedup", "label", "score", "columns", "index")  # whose commands have --overwrite
_AT_ONCE = 16  # files deleted


def begin(output: Output, step: str, settings: Mapping[str, Any], overwrite: bool = False) -> None:
    """Begin or continue the output of a step.

    settings: all that its files depend on, as JSON values, the dataset's fingerprint among them. overwrite: begin anew
    where this step was begun with other settings. PlanMismatchError, with the difference, where it was and shall not.
    OutputError where it is no folder for a step.
    """
    if overwrite and (earlier := begun(output)) and earlier[0] == step and _differences(earlier[1], settings):
        _clear(output)
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
    if differences := _differences(before, settings):
        remedy = ", or add --overwrite" if step in OVERWRITABLE else ""
        raise PlanMismatchError(begun_otherwise(output.url, differences) + remedy)
    return True


def _differences(before: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    now = json.loads(json.dumps(settings))
    differences: list[str] = []
    for name in {**before, **now}:
        then, value = before.get(name), now.get(name)
        if isinstance(then, dict) and isinstance(value, dict):
            differences += (f"{name} {difference}" for difference in _differences(then, value))
        elif then != value:
            differences.append(f"{name} is {value!r}, not {then!r}")
    return differences


def _clear(output: Output) -> None:
    """Delete what a step wrote. Its settings go last: a run that is killed in between leaves an unfinished output of
    theirs."""
    own = {f"{OWN}/{name}" for name in output.names(OWN)} - {STEP, LOCK}
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="clearing") as pool:
        list(pool.map(output.delete, own))
        list(pool.map(output.delete, map(part_path, output.parts())))
    output.delete(STEP)
