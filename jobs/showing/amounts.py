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
