"""Telling our own mistakes, which every further try would repeat, from what may pass."""

from __future__ import annotations

import traceback

# what a program does wrong, and hardly ever what storage or a machine does to it
_KINDS = (TypeError, AttributeError, NameError, AssertionError)
_PACKAGE = __name__.partition(".")[0]


def bug(error: Exception) -> str | None:
    """`AttributeError: … (a bug in clipmill.pipeline.score, line 12)` for a mistake made in our lines; None for one
    made in a library's, which may have met something that passes, and for all other errors."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if not isinstance(error, _KINDS) or not frames:
        return None
    frame, line = frames[-1]
    module = str(frame.f_globals.get("__name__"))
    if module.partition(".")[0] != _PACKAGE:
        return None
    return f"{type(error).__name__}: {' '.join(str(error).split())} (a bug in {module}, line {line})"
