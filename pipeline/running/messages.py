"""Events of a run as lines of text and of JSON: for people's logs and for machines'."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from ..redaction import redacted_text
from .events import Event, ShardDone, ShardFailed, ShardLate, ShardRetried, WorkersStarted

_MACHINE = 12  # digits of Ray's name for a machine that tell it from others


def fields_of(event: Event) -> dict[str, Any]:
    """The event as flat, JSON-able fields; a shard is its URL, without secrets."""
    if isinstance(event, ShardDone):
        stats = event.stats
        return {
            "shard": redacted_text(event.shard.url),
            "attempt": event.attempt,
            **_where(event.machine),
            "rows": stats.rows,
            "embedded": stats.embedded,
            "failed": stats.failed,
            "seconds": round(stats.seconds.get("total", 0.0), 3),
            "bytes": stats.part_bytes,
        }
    if isinstance(event, (ShardFailed, ShardRetried)):
        shard, reason = redacted_text(event.shard.url), redacted_text(event.reason)
        return {"shard": shard, "attempt": event.attempt, **_where(event.machine), "reason": reason}
    if isinstance(event, WorkersStarted):
        return {"workers": event.workers, **{name: round(value, 2) for name, value in event.seconds.items()}}
    if isinstance(event, ShardLate):
        return {"shard": redacted_text(event.shard.url)}
    return {key: redacted_text(value) if isinstance(value, str) else value for key, value in asdict(event).items()}


def _where(machine: str) -> dict[str, str]:
    return {"machine": machine[:_MACHINE]} if machine else {}


def as_json(event: Event, time: str) -> str:
    """One line of JSON. time: ISO 8601."""
    return json.dumps({"time": time, "event": event.name, **fields_of(event)}, ensure_ascii=False)


def as_text(event: Event, time: str) -> str:
    """`TIME shard done shard=… attempt=1 rows=…`."""
    fields = " ".join(f"{key}={_quoted(value)}" for key, value in fields_of(event).items() if value != "")
    return f"{time} {event.name} {fields}".rstrip()


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text else text
