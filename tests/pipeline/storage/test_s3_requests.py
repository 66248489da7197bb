"""What a run asks of an object store, counted by kind: so many requests a shard, so many a run, and no more."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset import dataset as dataset_module
from clipmill.pipeline.dataset import summary
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.storage.defaults import with_defaults
from fakes import write_pairs
from proxy import Proxy, proxy
from s3 import Bucket

FEW, MANY = 10, 30  # shards


def job_of(bucket: Bucket, net: Proxy, shards: int, weights: Path, folder: Path) -> EmbedJob:
    write_pairs(folder / "a.tar", 3)
    for number in range(shards):
        bucket.storage.put_file(str(folder / "a.tar"), bucket.url(f"{shards}/in/{number:05d}.tar"))
    options = with_defaults("s3", bucket.server.options(net.endpoint))
    model = f"tiny={weights}"
    return EmbedJob([bucket.url(f"{shards}/in")], bucket.url(f"{shards}/out"), model, storage_options=options)


_KINDS = {"shard": r"/in/", "part": r"/out/data/", "claim": r"/claims/", "run": r"/runs/", "segment": r"/manifest/"}


def kinds(net: Proxy) -> Counter[str]:
    """`GET part`, `LIST`, `PUT claim`, `GET other`, …; the proxy forgets them."""
    counts: Counter[str] = Counter()
    for request in net.seen:
        if request.method == "GET" and "prefix=" in request.query:
            counts["LIST"] += 1
        else:
            kind = next((kind for kind, path in _KINDS.items() if re.search(path, request.path)), "other")
            counts[f"{request.method} {kind}"] += 1
    net.seen.clear()
    return counts


@pytest.fixture
def asked(here: list[str], bucket: Bucket, sharp_weights: Path, tmp_path: Path) -> dict[tuple[int, str], Counter[str]]:
    """Requests by kind, of runs over few and over many shards: the run, the run again, `status`."""
    found: dict[tuple[int, str], Counter[str]] = {}
    with proxy(bucket.server.endpoint) as net:
        for count in (FEW, MANY):
            job = job_of(bucket, net, count, sharp_weights, tmp_path)
            net.seen.clear()
            assert embed(job).complete
            found[count, "embed"] = kinds(net)
            assert embed(job).complete
            found[count, "again"] = kinds(net)
            output = Output.at(job.out, job.storage_options)
            assert summary.status(output) is not None
            found[count, "status"] = kinds(net)
    return found


def more(asked: dict[tuple[int, str], Counter[str]], step: str) -> dict[str, int]:
    """What many shards take more than few do; a run's signs of life depend on its time."""
    few, many = asked[FEW, step], asked[MANY, step]
    return {kind: many[kind] - few[kind] for kind in few | many if kind not in ("LIST", "PUT run", "GET run")}


def test_requests_grow_with_the_shards_as_little_as_can_be(asked: dict[tuple[int, str], Counter[str]]) -> None:
    """A shard is read by one request and written by one; that many blocks are claimed, up to 4,096."""
    added = MANY - FEW
    grown = {kind: count for kind, count in more(asked, "embed").items() if count}
    claims = grown.pop("PUT claim")
    assert claims == grown.pop("DELETE claim") and added - 3 <= claims <= added + 3  # some shards share a block
    assert grown == {"GET shard": added, "PUT part": added}
    assert sum(asked[FEW, "embed"].values()) - 4 * FEW < 100
    assert not any(more(asked, "again").values()) and sum(asked[MANY, "again"].values()) < 60
    assert not any(more(asked, "status").values()) and sum(asked[MANY, "status"].values()) <= 24


def test_neither_status_nor_who_opens_many_parts_lists_them(
    here: list[str], bucket: Bucket, sharp_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing takes a request for each thousand."""
    for module in (summary, dataset_module):
        monkeypatch.setattr(module, "MANY", FEW)
    with proxy(bucket.server.endpoint) as net:
        job = job_of(bucket, net, FEW, sharp_weights, tmp_path)
        embed(job)
        net.seen.clear()
        told = summary.status(Output.at(job.out, job.storage_options))
        opened = Dataset.open(job.out, job.storage_options)
        listed = [request.query for request in net.seen if "prefix=" in request.query]
    assert told is not None and told.complete and not told.exact and len(opened.parts) == FEW
    assert listed and not any("data" in query for query in listed)
