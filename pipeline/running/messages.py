"""What a run tells of, in words and as JSON: for people's logs and for machines'."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from ..redaction import redacted_text
from .events import Event, Rows, ShardDone, ShardFailed, ShardLate, ShardRetried

_SAYS = {
    "Planned": "planned",
    "WorkersStarted": "workers started",
    "WorkersAdded": "workers added",
    "FewerWorkers": "fewer workers",
    "WorkerLost": "worker lost",
    "WorkerMoved": "worker moved",
    "ShardDone": "shard done",
    "ShardFailed": "shard failed",
    "ShardRetried": "shard tried again",
    "ShardLate": "shard late",
    "Rows": "progress",
    "Stopping": "stopping",
}


def fields_of(event: Event) -> dict[str, Any]:
    """The event as flat, JSON-able fields; a shard is its URL, without secrets."""
    if isinstance(event, ShardDone):
        stats = event.stats
        return {
            "shard": redacted_text(event.shard.url),
            "attempt": event.attempt,
            "rows": stats.rows,
            "embedded": stats.embedded,
            "failed": stats.failed,
            "seconds": round(stats.seconds.get("total", 0.0), 3),
            "bytes": stats.part_bytes,
        }
    if isinstance(event, (ShardFailed, ShardRetried)):
        shard, reason = redacted_text(event.shard.url), redacted_text(event.reason)
        return {"shard": shard, "attempt": event.attempt, "reason": reason}
    if isinstance(event, ShardLate):
        return {"shard": redacted_text(event.shard.url)}
    return {key: redacted_text(value) if isinstance(value, str) else value for key, value in asdict(event).items()}


def as_json(event: Event, time: str) -> str:
    """One line of JSON. time: ISO 8601."""
    return json.dumps({"time": time, "event": name_of(event), **fields_of(event)}, ensure_ascii=False)


def as_text(event: Event, time: str) -> str:
    """`TIME shard done shard=… attempt=1 rows=…`."""
    said = " ".join(f"{key}={_quoted(value)}" for key, value in fields_of(event).items())
    return f"{time} {name_of(event)} {said}".rstrip()


def name_of(event: Event) -> str:
    return _SAYS[type(event).__name__]


def is_progress(event: Event) -> bool:
    """What comes twice a second, and is nothing for a log."""
    return isinstance(event, Rows)


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text
