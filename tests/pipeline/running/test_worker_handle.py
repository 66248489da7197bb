"""A worker's handle tells what became of its shards, and is silent when nobody asks any more."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import pytest
from chaos_kit import until
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running.placement import Placement
from clipmill.pipeline.running.worker_handle import WorkerHandle, send
from fakes import FakeWorkers, attempts


def test_nothing_is_printed_of_errors_that_nobody_asks_for(
    cluster: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that ends by one shard's error drops the others' results, whatever they are."""
    handle = WorkerHandle(send(FakeWorkers(tmp_path)), Placement(1, 1, 0.0))
    assert until(lambda: handle.see_start() is None and handle.is_ready, 60)
    handle.give(Shard("s3://bucket/wrong-0.tar"))
    handle.give(Shard("s3://bucket/wrong-1.tar"))
    assert until(lambda: len(attempts(tmp_path)) == 2, 60)
    time.sleep(0.5)  # both errors are on their way to the driver
    handle.kill()
    gc.collect()
    time.sleep(0.5)  # Ray prints in a thread of its own
    assert caplog.messages == []
