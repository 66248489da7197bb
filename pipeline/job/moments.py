"""Times and durations as people write them."""

from __future__ import annotations

import re
from datetime import datetime

from ..errors import UserError

_NUMBER = r"\d+(?:\.\d+)?"
_DURATION = re.compile(rf"(?:({_NUMBER})d)?(?:({_NUMBER})h)?(?:({_NUMBER})m)?(?:({_NUMBER})s)?")
_SECONDS = (86_400.0, 3_600.0, 60.0, 1.0)


def seconds_until(text: str, now: datetime) -> float:
    """From now, which has a time zone; negative for what has been. text: `6h`, `1h30m`, `2d`, or a time as ISO 8601
    writes it, of this machine's time zone where it names none. UserError for anything else."""
    if match := text and _DURATION.fullmatch(text):
        return sum(float(number) * unit for number, unit in zip(match.groups(), _SECONDS, strict=True) if number)
    try:
        return (datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text)).astimezone() - now).total_seconds()
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"--deadline {text}: must be a duration, such as 6h or 1h30m, or a time, such as 2026-12-01T06:00 (local, "
            "or with Z in UTC)"
        ) from error


def duration(seconds: float) -> str:
    """`2 d 3 h`, `1 h 30 min`, `45 s`: two units at most."""
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes:.0f} min"
    hours, rest = divmod(round(minutes), 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, hours = divmod(round(minutes / 60), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
