"""A run that died leaves some shards done, anywhere in its lists: the next one does the others, and each URL once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from clipmill.jobs.ingesting.ingest import IngestSummary, ingest
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.job import IngestJob
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running.stages import Stage
from web import Web


@pytest.fixture
def job(tmp_path: Path) -> IngestJob:
    return IngestJob(
        str(tmp_path / "list.txt"), str(tmp_path / "shards"), samples_per_shard=2, timeout=3, retries=0, threads=4
    )


def write_list(job: IngestJob, web: Web, names: list[str]) -> None:
    Path(job.urls).write_text("".join(f"{web.url}/{name}\n" for name in names))


def state(job: IngestJob, name: str) -> Path:
    return Path(job.out) / ".clipmill" / "ingest" / f"{name}.json"


def pictures(job: IngestJob) -> list[str]:
    """Names of the URLs whose samples `embed` would read, as often as it would."""
    tars = sorted(Path(job.out).glob("*.tar"))
    found = (sample for tar in tars for sample in read_samples(Shard(str(tar), tar.stat().st_size)))
    return sorted(str(sample.metadata["url"]).rpartition("/")[2] for sample in found)


def stop(_: Stage) -> None:
    """Called once a shard is committed."""
    raise KeyboardInterrupt


def ledger(summary: IngestSummary) -> tuple[int, int, dict[str, int]]:
    return summary.rows, summary.downloaded, summary.failures


SIX = [f"good-{n}" for n in range(6)]


@pytest.mark.parametrize("lost", [["00000"], ["00001"], ["00002"], ["00000", "00001"], ["00000", "00002"]])
@pytest.mark.parametrize("orphaned", [False, True], ids=["nothing of it", "its tar committed"])
def test_shards_that_a_run_did_not_end_are_done_by_the_next(
    lost: list[str], orphaned: bool, web: Web, job: IngestJob
) -> None:
    write_list(job, web, SIX)
    ingest(job)
    for name in lost:
        state(job, name).unlink()
        if not orphaned:
            (Path(job.out) / f"{name}.tar").unlink()
    again = ingest(job)
    assert (again.new_shards, again.shards) == (len(lost), 3)
    assert ledger(again) == (6, 6, {})
    assert pictures(job) == SIX
    assert len(web.asked) == 6
    assert sum(web.asked.values()) == 6 + 2 * len(lost)  # what was done is not asked for again


def test_a_gap_and_a_grown_end_are_done_together(web: Web, job: IngestJob) -> None:
    write_list(job, web, SIX[:5])
    ingest(job)
    state(job, "00000").unlink()  # its tar stays, and is replaced
    write_list(job, web, SIX)
    again = ingest(job)
    assert (again.new_shards, *ledger(again)) == (2, 6, 6, {})
    assert pictures(job) == SIX


def test_a_bad_list_among_good_ones_is_named_and_once_mended_everything_is_done(web: Web, job: IngestJob) -> None:
    lists = Path(job.urls).with_name("lists")
    lists.mkdir()
    job = replace(job, urls=str(lists))
    for name, urls in (("a", SIX[:2]), ("b", SIX[2:3]), ("c", SIX[3:])):
        (lists / f"{name}.json").write_text(json.dumps([{"url": f"{web.url}/{each}"} for each in urls]))
    good = (lists / "b.json").read_text()
    (lists / "b.json").write_text('{"url": 1}')
    with pytest.raises(InputError, match=r"/b\.json: cannot be read as a list of URLs"):
        ingest(job)
    (lists / "b.json").write_text(good)
    assert ledger(ingest(job)) == (6, 6, {})
    assert pictures(job) == SIX


@pytest.fixture
def half_mended(web: Web, job: IngestJob) -> IngestJob:
    """Four URLs of which two failed; one of those will be there at the next attempt."""
    job = replace(job, samples_per_shard=4)
    write_list(job, web, ["good-0", "good-1", "missing-2", "broken-3"])
    assert ingest(job).failed == 2
    web.mended = True
    return replace(job, retry_failed=True)


AS_RETRIED = ["good-0", "good-1", "missing-2"]


def test_retries_that_were_stopped_once_committed_are_not_done_twice(half_mended: IngestJob) -> None:
    with pytest.raises(KeyboardInterrupt):
        ingest(half_mended, on_stage=stop)
    told = ingest(replace(half_mended, retry_failed=False))
    assert (told.new_shards, told.rows, told.downloaded, told.failed) == (0, 4, 3, 1)
    again = ingest(half_mended)  # one more attempt at the URL that still fails
    assert (again.new_shards, again.rows, again.downloaded, again.failed) == (1, 4, 3, 1)
    assert sum(again.failures.values()) == 1
    assert pictures(half_mended) == AS_RETRIED


def test_retries_whose_tar_alone_was_committed_are_replaced(half_mended: IngestJob) -> None:
    ingest(half_mended)
    state(half_mended, "00001").unlink()
    again = ingest(half_mended)
    assert (again.new_shards, again.rows, again.downloaded, again.failed) == (1, 4, 3, 1)
    assert pictures(half_mended) == AS_RETRIED


@pytest.mark.parametrize("noted", [True, False], ids=["ended", "stopped before its note"])
def test_the_states_of_earlier_versions_are_read(noted: bool, half_mended: IngestJob) -> None:
    ingest(half_mended)
    for name, change in (("00000", {"retried": noted}), ("00001", {"of": "failures of 00000", "retried": False})):
        before = json.loads(state(half_mended, name).read_text())
        state(half_mended, name).write_text(json.dumps(before | change))
    told = ingest(replace(half_mended, retry_failed=False))
    assert (told.new_shards, told.rows, told.downloaded, told.failed) == (0, 4, 3, 1)
    assert ingest(half_mended).new_shards == 1
    assert pq.read_table(Path(half_mended.out) / "00002.parquet")["url"].to_pylist()[0].endswith("/broken-3")
    assert pictures(half_mended) == AS_RETRIED
