"""A real store behind one that throttles: nothing fails for it, and not much is asked in vain.

How near to the allowed rate clients come is measured in tests/bench/bench_requests.py, and held without clocks in
test_pace.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from clipmill.pipeline import embed
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.job.embed import EmbedJob
from clipmill.pipeline.running.events import Event, ShardFailed, ShardRetried
from clipmill.pipeline.storage import pace
from clipmill.pipeline.storage.retry import retry
from committing import IMPATIENT, through
from fakes import Drawn
from proxy import Faults, Proxy
from readers import read_together
from s3 import Bucket

ALLOWED, SECONDS = 60.0, 6.0  # requests a second, as many as the proxy and the store manage beside other tests


def test_readers_of_a_store_that_throttles_all_get_what_they_ask_for(bucket: Bucket, net: Proxy) -> None:
    """Four processes of 16 threads, whose client would give up after its first attempt."""
    urls = [bucket.url(f"in/{number}") for number in range(16)]
    for url in urls:
        bucket.storage.pipe_file(url, url.encode())
    net.faults = Faults(allowed=ALLOWED)
    read = read_together(4, 16, SECONDS, bucket.server.options(net.endpoint) | IMPATIENT, urls)
    assert [each.failures for each in read] == [[]] * 4
    assert all(each.objects for each in read)
    answers = Counter(each.status == 503 for each in net.seen)
    assert 0 < answers[True] < 2 * answers[False]


def test_a_request_that_is_throttled_for_long_does_not_fail_while_others_get_through(
    bucket: Bucket, net: Proxy
) -> None:
    storage = through(net, bucket, **IMPATIENT)._storage()
    url = bucket.url("a")
    bucket.storage.pipe_file(url, b"a")
    assert storage.cat_file(url) == b"a"
    net.faults = Faults(slow_down=0.7, seed=2)  # a client that counts attempts would give up
    assert [retry(lambda: storage.cat_file(url), attempts=1) for _ in range(8)] == [b"a"] * 8
    assert net.count(status=503) > 3


def test_an_object_that_is_refused_for_ever_is_told(
    bucket: Bucket, net: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = through(net, bucket, **IMPATIENT)._storage()
    bucket.storage.pipe_file(bucket.url("a"), b"a")
    assert storage.cat_file(bucket.url("a")) == b"a"
    monkeypatch.setattr("clipmill.pipeline.storage.paced_s3._PATIENCE", 1.0)
    monkeypatch.setattr(storage, "retries", 1)
    net.faults = Faults(slow_down=1)
    with pytest.raises(OSError, match=r"Slow down|Service Unavailable"):
        storage.cat_file(bucket.url("a"))
    assert net.count(status=503) > 1


def test_no_shard_fails_or_is_begun_again_for_being_throttled(
    cluster: None, bucket: Bucket, net: Proxy, drawn: Drawn
) -> None:
    for tar in drawn.tars:
        bucket.storage.put_file(str(tar), bucket.url(f"in/{tar.name}"))
    net.faults = Faults(allowed=15)
    options = bucket.server.options(net.endpoint)
    job = EmbedJob([bucket.url("in")], bucket.url("out"), "tiny", workers=2, storage_options=options)
    events: list[Event] = []
    assert embed(job, on_event=events.append).complete
    assert not [event for event in events if isinstance(event, (ShardFailed, ShardRetried))]
    assert net.count(status=503) > 0


def test_a_stated_limit_is_kept(bucket: Bucket, net: Proxy) -> None:
    storage = through(net, bucket)._storage()
    bucket.storage.pipe_file(bucket.url("a"), b"a")
    pace.settle(pace.Share(2, limit=20))
    try:
        for _ in range(15):
            storage.cat_file(bucket.url("a"))
    finally:
        pace.settle(pace.Share())
    times = [each.at for each in net.seen]
    assert times[-1] - times[0] >= 1.2  # of 1.4 seconds


def test_limits_that_no_run_could_keep_are_refused() -> None:
    job = EmbedJob(["a.tar"], "out", "tiny")
    for limit in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(UserError, match="--max-requests-per-second"):
            replace(job, max_requests_per_second=limit).check()
