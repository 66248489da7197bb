"""Log lines: one an event, the same fields as text and as JSON, and no secret in either."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, get_args

import pytest
from clipmill.pipeline.records import Shard, ShardStats
from clipmill.pipeline.running.events import Event, ShardDone, ShardFailed, ShardRetried, Stopping
from clipmill.pipeline.running.messages import as_json, as_text

SHARD = Shard("https://h/a.tar?X-Amz-Signature=hush")
DONE = ShardDone(SHARD, ShardStats(SHARD.url, 4, 3, Counter({"decode: x": 1}), {"total": 1.5}, 99), 2)


@pytest.mark.parametrize("event", [DONE, ShardFailed(SHARD, "at http://u:hush@h", 3), ShardRetried(SHARD, "x y")])
def test_a_line_has_the_shard_and_the_attempt_and_no_secret(event: Any) -> None:
    said = json.loads(as_json(event, "now"))
    assert (said["time"], said["event"], said["attempt"]) == ("now", event.name, event.attempt)
    assert said["shard"].startswith("https://h/a.tar?")
    for line in (as_json(event, "now"), as_text(event, "now")):
        assert "hush" not in line
        assert "\n" not in line


def test_a_done_shard_tells_its_counts() -> None:
    said = json.loads(as_json(DONE, "now"))
    assert {key: said[key] for key in ("rows", "embedded", "failed", "seconds", "bytes")} == {
        "rows": 4, "embedded": 3, "failed": 1, "seconds": 1.5, "bytes": 99,
    }  # fmt: skip
    assert " rows=4 embedded=3 failed=1 " in as_text(DONE, "now")


def test_every_kind_of_event_has_a_name() -> None:
    for kind in get_args(Event):
        assert kind.name


def test_a_line_of_text_has_no_empty_fields() -> None:
    assert as_text(Stopping(3, 1), "now") == "now stopping left=3 in_hand=1"
    assert as_text(Stopping(3, 1, "the deadline"), "now").endswith(' why="the deadline"')
