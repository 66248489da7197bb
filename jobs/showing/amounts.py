"""Numbers in words."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 shard`, `2,000 shards`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def every(number: int, noun: str) -> str:
    """`the only shard is`, `all 2,000 shards are`."""
    return f"the only {noun} is" if number == 1 else f"all {counted(number, noun)} are"


def size(number: int) -> str:
    """Bytes, in the decimal unit that leaves one digit at least before the point."""
    if number < 1000:
        return counted(number, "byte")
    for scale, unit in ((1e9, "GB"), (1e6, "MB")):
        if number >= scale:
            return f"{number / scale:,.1f} {unit}"
    return f"{number / 1e3:,.1f} kB"


def duration(seconds: float) -> str:
    """`4 s`, `12 min`, `2 h 5 min`, `3 days 4 h`: to two units, the smaller one left out where it is zero."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if not minutes:
        return f"{seconds:.0f} s"
    if not hours:
        return f"{minutes} min"
    if not days:
        return f"{hours} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    return counted(days, "day") + (f" {hours % 24} h" if hours % 24 else "")
