"""`forget`: no step returns a forgotten row, and after a purge no file has a trace of it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import EmbedJob, ExportJob, ForgetJob, ReportJob, SearchJob, export, forget, report, search
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.derived import begin
from clipmill.pipeline.dataset.forgotten import REASON
from clipmill.pipeline.dataset.layout import REPORT, part_path
from clipmill.pipeline.dataset.ledger import ledger
from clipmill.pipeline.dataset.manifest import Manifest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.plan import Plan, planned_shards
from clipmill.pipeline.dataset.summary import Summary
from clipmill.pipeline.dataset.totals import Totals
from clipmill.pipeline.errors import InputError, UserError
from clipmill.pipeline.running import embed as running
from clipmill.pipeline.running.tally import Tally
from clipmill.pipeline.searching import dense
from clipmill.pipeline.searching.numbered_rows import NumberedRows
from embedded import embed_here
from forget_kit import ROWS, SHARDS, STEPS, TABLES, Traces, derived, embedded, url_of, write_shard
from s3 import Bucket

SHARD, ROW = 1, 4


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test's Ray is slower, and its workers do not know the S3 server."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return embedded(tmp_path)


@pytest.fixture
def job(dataset: Dataset, tmp_path: Path) -> ForgetJob:
    (tmp_path / "urls.txt").write_text(f"{url_of(SHARD, ROW)}\nhttps://there.example/unknown\n")
    return ForgetJob(dataset.url, urls=str(tmp_path / "urls.txt"))


def test_no_step_returns_it_from_then_on(dataset: Dataset, job: ForgetJob, tmp_path: Path) -> None:
    traces = Traces.of(dataset, SHARD, ROW)
    summary = forget(job)
    assert (summary.asked, summary.new, summary.forgotten, summary.pending, summary.purged) == (2, 1, 1, 1, 0)
    folders = derived(Dataset.open(dataset.url), tmp_path / "after")
    report(ReportJob(dataset.url, str(tmp_path / "after" / "report.html")))
    assert traces.in_files(*map(Path, folders), tmp_path / "after") == []
    hits = search(SearchJob(dataset.url, place=3, k=100)).hits
    assert len(hits) >= ROWS * SHARDS - 2 and url_of(SHARD, ROW) not in {hit.row["url"] for hit in hits}


def test_after_a_purge_no_file_has_a_trace_of_it(dataset: Dataset, job: ForgetJob, tmp_path: Path, cache: Path) -> None:
    traces, places = Traces.of(dataset, SHARD, ROW), [tmp_path / "out", tmp_path / "derived", cache]
    folders = [
        *derived(dataset, tmp_path / "derived", [*STEPS, *TABLES]),
        labels_of(dataset, tmp_path / "derived" / "labels"),
    ]
    dense.dense(NumberedRows.of(dataset), "image_embedding")
    part = Path(dataset.url_of(dataset.parts[SHARD]))
    before = pq.read_table(part)
    held = traces.in_files(*places)
    holding = {Path(path).relative_to(tmp_path / "derived").parts[0] for path in held if "derived" in path}
    assert holding | {"iceberg"} == {Path(folder).name for folder in folders}  # its files have the lowest and highest
    assert any(str(cache) in path for path in held) and str(part) in held
    with pytest.raises(InputError, match="Iceberg's tables name parts as they are"):
        forget(ForgetJob(job.dataset, urls=job.urls))
        export(ExportJob(dataset.url, str(tmp_path / "another"), "iceberg"))
    for again in range(2):
        summary = forget(ForgetJob(job.dataset, urls=job.urls, purge=True, also=folders))
        assert traces.in_files(*places) == []
        assert summary.purged == (0 if again else 1)
        assert [folder.deleted + folder.rewritten > 0 for folder in summary.folders] == [not again] * len(folders)
    after = pq.read_table(part)
    assert after.schema.equals(before.schema, check_metadata=False)
    others = [row for row in range(ROWS) if row != ROW]
    assert after.take(others).equals(before.take(others))
    blank = after.slice(ROW, 1).to_pylist()[0]
    told = {"key": "", "shard": before["shard"][ROW].as_py(), "row": ROW, "error": REASON}
    assert {name: value for name, value in blank.items() if value is not None} == told
    manifest = ledger(dataset.output, planned_shards(dataset.output), Manifest.of())
    assert [(stats.rows, stats.embedded, stats.failures) for stats in manifest] == [
        (ROWS, ROWS, {}), (ROWS, ROWS - 1, {REASON: 1}), (ROWS, ROWS, {}),
    ]  # fmt: skip
    log = (tmp_path / "out" / ".clipmill" / "forgotten-log.jsonl").read_text().splitlines()
    assert [json.loads(line)["did"] for line in log] == ["forget", *["forget", "purge"] * 2]
    derived(Dataset.open(dataset.url), tmp_path / "anew")
    assert traces.in_files(tmp_path / "anew") == []


def labels_of(dataset: Dataset, folder: Path) -> str:
    """As a step writes a table beside the parts: a row for each of theirs."""
    output = Output.at(str(folder)).prepare()
    begin(output, "label", {"dataset": dataset.url, "fingerprint": dataset.settings.digest})
    for part in dataset.parts:
        with output.staged(part_path(part)) as path:
            pq.write_table(dataset.read(part, ["key", "shard", "row", "url", "error"]), path)
    return output.url


def test_what_is_embedded_again_later_is_forgotten_and_purged_too(job: ForgetJob, tmp_path: Path) -> None:
    kept = Path(job.dataset) / REPORT / "sums.parquet"
    kept.parent.mkdir()
    kept.touch()
    forget(ForgetJob(job.dataset, urls=job.urls, purge=True))
    assert not kept.exists()  # what a report has kept may tell of them
    write_shard(tmp_path / "shards" / "later.tar", SHARD)  # the same pairs in another shard
    grown = embed_here([tmp_path / "shards"], job.dataset)
    assert sum(len(of_part.rows) for of_part in grown.forgotten.parts.values()) == 2
    assert grown.forgotten.pending >= 1
    traces = Traces((url_of(SHARD, ROW),), ())
    assert traces.in_files(tmp_path / "out") != []
    assert forget(ForgetJob(job.dataset, purge=True)).pending == 0
    assert traces.in_files(tmp_path / "out") == []


def test_a_run_that_begins_later_writes_nothing_of_it(dataset: Dataset, job: ForgetJob, tmp_path: Path) -> None:
    traces = Traces.of(dataset, SHARD, ROW)
    (tmp_path / "keys.txt").write_text("00002")
    forget(ForgetJob(dataset.url, urls=job.urls, keys=str(tmp_path / "keys.txt"), purge=True))
    write_shard(tmp_path / "shards" / "later.tar", SHARD)
    again = embed_here([tmp_path / "shards"], dataset.url, leaves_out=True)  # all shards anew
    assert again.forgotten.pending == 0
    assert traces.in_files(tmp_path / "out") == []
    manifest = ledger(again.output, planned_shards(again.output), Manifest.of())
    assert [(stats.rows, stats.failures) for stats in manifest] == [
        (ROWS, {REASON: 1}), (ROWS, {REASON: 2}), (ROWS, {REASON: 1}), (ROWS, {REASON: 1}),
    ]  # fmt: skip
    assert again.read(again.parts[3], ["key"])["key"][2].as_py() == "00002"  # a key counts in its shards alone
    planned = planned_shards(again.output)
    assert running._failed(again.output, Plan(planned, planned, [])) == {}  # nothing for --retry-failed
    summary = Summary("", 4, 0, Totals(), 1.0, 1.0, {}, manifest.totals, "")
    Tally(EmbedJob([], "", "tiny", max_failed_samples=0.0)).judge(summary)  # nor too many failures


def test_on_object_storage_it_is_the_same(bucket: Bucket, tmp_path: Path) -> None:
    dataset = embedded(tmp_path, bucket.url("out"))
    folders = derived(dataset, bucket.url("derived"), ["shards-again"])
    traces = Traces.of(dataset, SHARD, ROW)
    (tmp_path / "urls.txt").write_text(url_of(SHARD, ROW))
    forget(ForgetJob(dataset.url, urls=str(tmp_path / "urls.txt"), purge=True, also=folders))
    for name, content in bucket.objects().items():
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_bytes(content)
    assert len(list((tmp_path / "there" / "out" / "data").iterdir())) == SHARDS
    assert traces.in_files(tmp_path / "there") == []
    assert bucket.uploads() == []


def test_a_run_that_ends_after_a_purge_believes_the_part_and_not_what_it_saw(dataset: Dataset, job: ForgetJob) -> None:
    shards = planned_shards(dataset.output)
    seen = ledger(dataset.output, shards, Manifest.of())
    forget(ForgetJob(job.dataset, urls=job.urls, purge=True))
    told = ledger(dataset.output, shards, fresh=seen)
    assert (told.totals.rows, told.totals.embedded) == (SHARDS * ROWS, SHARDS * ROWS - 1)


def test_lists_may_be_text_csv_or_parquet(dataset: Dataset, tmp_path: Path) -> None:
    uid = dataset.read(dataset.parts[0], ["uid"])["uid"][2].as_py()
    pq.write_table(pa.table({"uid": [uid], "other": [1]}), tmp_path / "uids.parquet")
    pyarrow.csv.write_csv(pa.table({"key": ["00007", "none"]}), tmp_path / "keys.csv")
    job = ForgetJob(dataset.url, uids=str(tmp_path / "uids.parquet"), keys=str(tmp_path / "keys.csv"), count=True)
    assert forget(job).new == 1 + SHARDS  # a key is in every shard
    assert not Dataset.open(dataset.url).forgotten.parts  # only counted
    assert forget(ForgetJob(dataset.url, uids=job.uids, keys=job.keys)).new == 1 + SHARDS


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"\n \n", "--urls .*a.txt: the list is empty"),
        ("a.txt", b"\xff\xfe", "--urls .*a.txt: cannot be read"),
        ("a.parquet", b"no table", "--urls .*a.parquet: cannot be read"),
        ("a.csv", b"link\nhttps://x\n", "--urls .*a.csv: there is no column url; its columns are link"),
    ],
)
def test_bad_lists_get_one_clear_line(dataset: Dataset, tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as refused:
        forget(ForgetJob(dataset.url, urls=str(tmp_path / name)))
    assert "\n" not in str(refused.value)


def test_wrong_requests_are_refused(job: ForgetJob, dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "sha.txt").write_text("abc\n")
    other = embed_here([tmp_path / "shards"], tmp_path / "other")
    folders = derived(other, tmp_path / "of-other")
    for wrong, said in (
        (ForgetJob(dataset.url), "nothing to forget"),
        (ForgetJob(dataset.url, urls=job.urls, also=["x"]), "--also goes with --purge"),
        (ForgetJob(dataset.url, purge=True, count=True), "--count deletes nothing"),
        (ForgetJob(dataset.url, sha256=str(tmp_path / "sha.txt")), "'abc' is no sha256"),
        (ForgetJob(dataset.url, urls=str(tmp_path / "none.txt")), "no such file"),
        (ForgetJob(dataset.url, purge=True, also=[other.url]), "is a dataset of its own"),
        (ForgetJob(dataset.url, purge=True, also=[str(tmp_path)]), "is no output of a clipmill step"),
        (ForgetJob(dataset.url, purge=True, also=folders[:1]), "was made of .*other, not of"),
    ):
        with pytest.raises(UserError, match=said):
            forget(wrong)
