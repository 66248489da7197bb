"""The output on a real object store: one request a part, one winner, a word for what is wrong, whatever the network."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from clipmill.pipeline.dataset import output as module
from clipmill.pipeline.dataset.layout import part_path
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.errors import InfrastructureError, OutputError
from clipmill.pipeline.records import Shard
from committing import IMPATIENT, PART, commit, through
from needs import CEPH
from proxy import Faults, Proxy
from s3 import Bucket

# --- one request, one winner -----------------------------------------------------------------------------------------


def test_a_part_is_one_request(output: Output, net: Proxy, bucket: Bucket) -> None:
    commit(output, b"whole" * 1_000_000)
    assert [(each.method, each.path) for each in net.seen] == [("PUT", f"/{bucket.name}/out/{PART}")]
    assert bucket.objects() == {f"out/{PART}": b"whole" * 1_000_000}


def test_a_file_is_read_by_one_request(output: Output, net: Proxy) -> None:
    """Also one that is empty, and one that is not there."""
    for content in (b"small", b"large" * 2_000_000, b""):
        output.write(PART, content)
        net.seen.clear()
        assert output.read(PART) == content and net.by_method() == {"GET": 1}
    net.seen.clear()
    assert output.read(f"{PART}.other") is None and net.by_method() == {"GET": 1}


def test_the_store_is_asked_once_what_it_can_do(output: Output, net: Proxy, bucket: Bucket) -> None:
    assert not output.conditional and output.prepare().conditional
    assert len(net.seen) <= 6 and bucket.objects() == {}
    assert net.count("PUT", status=412) == 1


def test_runs_that_begin_at_one_moment_all_learn_what_the_store_can_do(bucket: Bucket) -> None:
    for number in range(10):
        output = Output.at(bucket.url(f"out{number}"), bucket.server.options())
        with ThreadPoolExecutor(8) as pool:  # they ask by the same object, and each deletes it
            prepared = list(pool.map(lambda output: output.prepare(), [output] * 8))
        assert [each.conditional for each in prepared] == [True] * 8
    assert bucket.objects() == {}


def test_of_sixteen_writers_one_wins_and_all_are_content(output: Output, net: Proxy, bucket: Bucket) -> None:
    output = output.prepare()
    net.seen.clear()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: commit(output, f"by {i:02d}".encode() * 10_000), range(16)))
    won = Counter(each.status for each in net.seen)
    assert won == {200: 1, 412: 15} if bucket.server.is_ceph else won[200] >= 1  # moto looks, then writes
    (content,) = bucket.objects().values()
    assert content == content[:5] * 10_000


def test_the_first_part_stays_unless_it_is_to_be_replaced(output: Output, bucket: Bucket) -> None:
    output = output.prepare()
    commit(output, b"first")
    commit(output, b"second")
    assert bucket.objects() == {f"out/{PART}": b"first"}
    commit(output, b"third", replace=True)
    assert bucket.objects() == {f"out/{PART}": b"third"}


def test_many_parts_are_listed_in_ranges(
    output: Output, net: Proxy, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [Shard(f"s3://bucket/{number % 7}é{number}.tar") for number in range(40)]
    for shard in shards[1:]:  # a planned one is missing
        output.write(part_path(shard.part_name), shard.url.encode())
    for name in ("data/0/stranger.parquet", "data/~.parquet", "data/~.txt", "data2/0.parquet"):
        output.write(name, b"four")
    at_once = output.part_sizes(shards)
    monkeypatch.setattr(module, "_MANY", 30)
    net.seen.clear()
    assert output.part_sizes(shards) == at_once == output.part_sizes()
    assert at_once == {s.part_name: len(s.url.encode()) for s in shards[1:]} | {"~.parquet": 4}
    assert net.count("GET") == 1 + 40 + 1  # a range for each shard, one after them; the whole folder
    monkeypatch.setattr(module, "_RANGES", 3)
    assert output.part_sizes(shards) == at_once
    assert Output.at(f"{output.url}/nothing", output.storage_options).part_sizes(shards) == {}


def test_other_files_are_always_written_anew(output: Output, bucket: Bucket) -> None:
    output = output.prepare()
    for content in (b"one", b"two"):
        output.write("_SUCCESS", content)
    assert bucket.objects() == {"out/_SUCCESS": b"two"}


def test_a_store_that_ignores_the_condition_gets_the_part_twice(output: Output, net: Proxy, bucket: Bucket) -> None:
    net.faults = Faults(ignore_conditions=bucket.server.owner)
    prepared = output.prepare()
    assert not prepared.conditional and bucket.objects() == {}
    for each in (prepared, replace(output, conditional=True)):  # as when it honoured the condition at the start only
        commit(each, b"same")
        assert bucket.objects() == {f"out/{PART}": b"same"}


# --- a bad network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [True, False])
def test_a_lost_answer_to_a_put_that_took_effect_is_no_error(
    conditional: bool, output: Output, net: Proxy, bucket: Bucket
) -> None:
    net.faults = Faults(lose_put=2)
    output.write("a", b"")  # the first PUT; the second one's answer is lost
    net.seen.clear()
    commit(replace(output, conditional=conditional), b"whole")
    assert bucket.objects() == {"out/a": b"", f"out/{PART}": b"whole"}
    assert [(each.status, each.answered) for each in net.seen] == [(200, False), (412 if conditional else 200, True)]


def test_all_calls_work_where_a_fifth_is_refused_and_a_tenth_breaks_off(
    bucket: Bucket, net: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    net.faults = Faults(slow_down=0.2, cut=0.1, lose_put=10, seed=5)
    output = through(net, bucket, **IMPATIENT).prepare()  # the client would hide most of it
    names = [f"{i:02d}-0123456789abcdef.parquet" for i in range(20)]
    for name in names:
        commit(output, name.encode() * 1000, f"data/{name}")
        output.write(f".clipmill/{name}", b"two")
        assert output.read(f"data/{name}") == name.encode() * 1000
        with output.open(f"data/{name}") as file:
            file.seek(-100, os.SEEK_END)
            assert file.read() == (name.encode() * 1000)[-100:]
    assert output.parts() == output.names(".clipmill") == set(names)
    for name in names:
        output.delete(f".clipmill/{name}")
    assert output.names(".clipmill") == set()
    assert bucket.objects() == {f"out/data/{name}": name.encode() * 1000 for name in names}
    assert net.count(status=503) > 20 and sum(not each.answered for each in net.seen) > 10


def test_a_store_that_keeps_failing_is_told_in_one_line(
    bucket: Bucket, net: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = through(net, bucket, **IMPATIENT)
    storage = output._storage()
    monkeypatch.setattr(storage, "retries", 1)
    monkeypatch.setattr("clipmill.pipeline.storage.retry._FIRST", 0.001)
    net.faults = Faults(slow_down=1)
    for call in (output.prepare, output.parts, lambda: output.read("a"), lambda: commit(output, b"x")):
        with pytest.raises(InfrastructureError) as caught:
            call()
        assert "\n" not in str(caught.value) and bucket.url("out") in str(caught.value)
        assert "the storage keeps failing: S" in str(caught.value)  # Slow down; Service Unavailable
    assert net.count("PUT") == 4 + 8 and bucket.objects() == {}


# --- outputs that are none -------------------------------------------------------------------------------------------


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(OutputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bucket_that_is_not_there_is_named(bucket: Bucket) -> None:
    output = Output.at("s3://no-such-bucket/out")
    remedy = "create it, or correct the URL"
    said = f"s3://no-such-bucket/out: cannot be written to: there is no s3://no-such-bucket; {remedy}"
    assert output.parts() == set() and output.read("a") is None
    assert refusal(output.prepare) == refusal(lambda: commit(output, b"x")) == said


def test_somebody_elses_bucket_is_refused(bucket: Bucket) -> None:
    if not bucket.server.is_ceph:
        CEPH.skip()  # moto lets everybody in
    options = bucket.server.options(account=bucket.server.stranger)
    output = Output.at(bucket.url("out"), options)
    said = "permission denied; check its access rights or your credentials"
    assert refusal(output.prepare) == refusal(lambda: commit(output, b"x"))
    assert refusal(output.prepare) == f"{output.url}: cannot be written to: {said}"
    assert refusal(output.parts) == f"{output.url}: cannot be listed: {said}"
    assert said in refusal(Output.at(bucket.url("out"), options | {"key": "nobody"}).prepare)


def test_missing_credentials_are_asked_for(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    output = Output.at(bucket.url("out"), {"endpoint_url": bucket.server.endpoint})
    assert "credentials" in refusal(output.prepare)


def test_an_endpoint_where_nobody_listens_is_no_endless_wait(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmill.pipeline.storage.retry._FIRST", 0.001)
    output = Output.at(bucket.url("out"), IMPATIENT | bucket.server.options("http://127.0.0.1:1"))
    with pytest.raises(InfrastructureError, match=r"Could not connect to the endpoint URL"):
        output.prepare()
