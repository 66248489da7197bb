"""Where the time went, in words."""

from __future__ import annotations

from clipmill.jobs.showing.totals import busy_stages
from clipmill.pipeline.dataset.totals import Totals
from clipmill.pipeline.records import ShardStats


def told(**seconds: float) -> str:
    totals = Totals()
    waits = {"starved": {"encode": 7.0, "decode": 2.0}, "blocked": {"decode": 2.0, "encode": 1.0}}
    seconds = {"total": 10.0, "worker": 10.0, "read": 1.0, "decode": 6.0, "encode": 2.0, "write": 0.5, **seconds}
    totals.add(ShardStats("a", 9, 9, seconds=seconds, flop=5e12, peak=1e12, **waits))
    return busy_stages(totals)


def test_stages_waits_mfu_and_cores_are_told() -> None:
    assert told(cores=35.0) == (
        "busy: read 10%, decode 60%, encode 20%, write 5%; bottleneck: decode; the encoder waited 80% of the time, for "
        "read 18%, decode 52%, write 10%; MFU 50%, 250% while encoding; 3.5 cores busy a worker"
    )


def test_a_gpu_is_called_one_and_its_part_of_decoding_is_told() -> None:
    words = told(gpu=1.5, engines=3.0, resize=0.5)
    assert "decode 60%, engines 30%, resize 5%, encode 20%" in words
    assert "; the GPU waited 80% of the time, for engines 66%, write 9%, encode 5%; " in words


def test_nothing_is_told_of_no_work() -> None:
    assert busy_stages(Totals()) == "no work"
