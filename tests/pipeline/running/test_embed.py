"""The main job from end to end: every sample accounted for, run again to resume, refused when it would mix."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from clipmill.clipmodel.weights import Loaded
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset.layout import OWN, SUCCESS
from clipmill.pipeline.dataset.manifest_files import MANIFEST
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.plan import PLAN, read_plan
from clipmill.pipeline.dataset.summary import QUARANTINE, SUMMARY, status
from clipmill.pipeline.dataset.totals import STAGES
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.errors import (
    PlanMismatchError,
)
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Shard
from clipmill.pipeline.running.events import FewerWorkers, Planned, ShardDone, Starting, WorkersStarted
from fakes import Drawn, Ran, clip_tools, files, parts, write_pairs

# --- a run on a cluster ----------------------------------------------------------------------------------------------


def test_every_sample_is_a_row_of_one_part(ran: Ran, drawn: Drawn) -> None:
    expected = Counter((shard.url, sample.row, sample.key) for shard in drawn.shards for sample in read_samples(shard))
    assert Counter((row["shard"], row["row"], row["key"]) for row in parts(ran.out)) == expected
    assert expected.total() == len(expected) == 120
    assert {part.name for part in ran.out.glob("data/*.parquet")} == {shard.part_name for shard in drawn.shards}


def test_the_summary_adds_up(ran: Ran) -> None:
    out, summary = ran.out, ran.summary
    errors = [row["error"] for row in parts(out) if row["error"]]
    assert (summary.planned, summary.done_before, summary.workers, summary.complete) == (3, 0, 2, True)
    assert (summary.run.rows, summary.run.embedded, summary.run.failed) == (120, 108, len(errors))
    assert summary.run.failures.total() == 12 and summary.run.part_bytes == sum(
        part.stat().st_size for part in out.glob("data/*.parquet")
    )
    assert summary.dataset == replace(summary.dataset, rows=120, embedded=108, failures=summary.run.failures)
    assert summary.failed_shards == {}
    assert 0 < summary.busy_seconds < summary.seconds and summary.samples_per_second > 0
    assert set(summary.run.seconds) == {*STAGES, "worker", "total", "cores"} - {"engines", "resize"}  # of GPUs
    assert 0 < sum(summary.run.waited_for.values()) < 1 and summary.run.cores_a_worker > 0
    assert set(summary.start_up) == {"cluster", "models", "planned", "worker_process", "worker_models", "first_rows"}
    assert sum(summary.start_up[stage] for stage in ("planned", "worker_process", "worker_models")) > 0
    assert sum(summary.start_up.values()) - summary.start_up["models"] - summary.start_up["cluster"] < summary.seconds


def test_a_run_leaves_its_account(ran: Ran, drawn: Drawn) -> None:
    out, summary = ran.out, ran.summary
    assert (out / SUCCESS).exists() and json.loads((out / QUARANTINE).read_text()) == {}
    assert json.loads((out / SUMMARY).read_text()) == summary.as_json()
    manifest = pq.read_table(out / MANIFEST).to_pylist()
    assert [row["part"] for row in manifest] == [shard.part_name for shard in drawn.shards]
    assert sum(row["rows"] for row in manifest) == 120 and sum(row["embedded"] for row in manifest) == 108
    assert list((out / OWN / "staging").iterdir()) == []
    told = status(Output.at(str(out)))
    assert told is not None and (told.complete, told.left, told.dataset) == (True, 0, summary.dataset)


def test_events_tell_of_the_plan_the_workers_and_each_shard(ran: Ran, drawn: Drawn) -> None:
    events = [event for event in ran.events if not isinstance(event, Starting)]
    assert events[0] == Planned(3, 0, "tiny (sharp.safetensors)", "fp32", 3)
    assert events[1] == WorkersStarted(2)
    assert {event.shard.url for event in events if isinstance(event, ShardDone)} == {s.url for s in drawn.shards}


def test_workers_for_which_there_is_no_room_are_told_of(some: EmbedJob, here: list[str]) -> None:
    """Two shards, room for one worker; nobody needs more workers than there are shards."""
    for asked, expected in ((5, [FewerWorkers(5, 1)]), (1, []), (None, [])):
        events: list[Any] = []
        embed(replace(some, out=f"{some.out}-{asked}", workers=asked), events.append)
        assert [event for event in events if isinstance(event, FewerWorkers)] == expected


def test_every_part_says_which_model_made_it(ran: Ran) -> None:
    out, summary = ran.out, ran.summary
    for part in out.glob("data/*.parquet"):
        footer = pq.read_metadata(part).metadata
        card = json.loads(footer[b"clipmill.model_card"])
        assert footer[b"clipmill.fingerprint"].decode() == summary.fingerprint
        assert (card["variant"], card["weights"], card["precision"]) == ("tiny", "sharp.safetensors", "fp32")
        assert len(card["weights_sha256"]) == 64


def test_values_are_those_of_a_shard_embedded_without_a_cluster(
    ran: Ran, drawn: Drawn, sharp: Loaded, tmp_path: Path
) -> None:
    output = Output.at(str(tmp_path))
    as_the_job_decodes = replace(sharp, preprocess=replace(sharp.preprocess, decoding="close"))
    for shard in drawn.shards:
        embed_shard(shard, clip_tools(as_the_job_decodes), output)
    for there, alone in zip(parts(ran.out), parts(tmp_path), strict=True):
        for name in ("image_embedding", "text_embedding"):
            one, other = there.pop(name), alone.pop(name)
            assert (one is None) == (other is None)
            assert one is None or np.abs(np.subtract(one, other)).max() <= 1e-3
        assert there.pop("similarity") == pytest.approx(alone.pop("similarity"), abs=1e-5)
        assert there == alone


# --- running again ---------------------------------------------------------------------------------------------------


def test_running_again_does_nothing_and_starts_no_worker(job: EmbedJob, ran: Ran, nowhere: None) -> None:
    before = files(job.out)
    summary = embed(job)
    assert files(job.out) == before
    assert (summary.done_before, summary.run.rows, summary.workers, summary.complete) == (3, 0, 0, True)
    assert summary.dataset == ran.summary.dataset


def test_a_dataset_goes_on_with_the_columns_and_the_fingerprint_that_it_has(here: list[str], some: EmbedJob) -> None:
    """Whatever columns are asked for, and when the fingerprint covered them, too."""
    first, second = sorted(Path(some.inputs[0]).glob("*.tar"))
    embed(replace(some, inputs=[str(first)], columns=("label", "caption_is_right:bool")))
    plan = Path(some.out) / PLAN
    older = replace(read_plan(Output.at(some.out)), digest_has_columns=True)
    settings = {name: value for name, value in asdict(older).items() if name != "digest_has_columns"}
    plan.write_text(json.dumps({"fingerprint": older.digest, "settings": settings}))
    summary = embed(replace(some, columns=("caption_is_right:bool", "caption")))
    assert (summary.fingerprint, summary.done_before, summary.complete) == (older.digest, 1, True)
    one, other = (pq.read_schema(Path(some.out) / "data" / Shard(str(tar)).part_name) for tar in (first, second))
    assert one.names[1:6] == ["uid", "url", "caption", "label", "caption_is_right"] and one.equals(other)
    assert embed(some).done_before == 2
    assert json.loads(plan.read_text())["settings"] == settings


def test_empty_shards_are_parts_without_rows(here: list[str], some: EmbedJob) -> None:
    """On a device whose peak is known, too."""
    write_pairs(Path(some.inputs[0]) / "empty.tar", 0)
    for _ in range(2):
        summary = embed(some)
        assert summary.complete and (summary.dataset.shards, summary.dataset.rows) == (3, 80)
    told = status(Output.at(some.out))
    assert told is not None and told.complete and (Path(some.out) / SUMMARY).exists()


def test_a_lost_manifest_is_made_again_from_the_footers(job: EmbedJob, ran: Ran, nowhere: None) -> None:
    (Path(job.out) / MANIFEST).unlink()
    assert embed(job).dataset.rows == 120
    rows, lost = (pq.read_table(out / MANIFEST).to_pylist() for out in (Path(job.out), ran.out))
    for row, before in zip(rows, lost, strict=True):
        times = dict.fromkeys(("seconds", "starved", "blocked"))
        assert row | times == before | times


def test_what_a_killed_run_committed_is_kept_and_counted(here: list[str], base: EmbedJob, tmp_path: Path) -> None:
    job = replace(base, out=str(tmp_path / "out"))

    def stop(event: Any) -> None:
        if isinstance(event, ShardDone) and event.shard.url.endswith("00001.tar"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(job, stop)
    assert not (Path(job.out) / SUCCESS).exists() and not (Path(job.out) / MANIFEST).exists()
    before = files(job.out)
    summary = embed(job)
    assert here == ["00000.tar", "00001.tar", "00002.tar"]
    assert (summary.done_before, summary.run.rows, summary.dataset.rows, summary.complete) == (2, 40, 120, True)
    assert {name: files(job.out)[name] for name in before if name.endswith(".parquet") and "/" not in name} == {
        name: written for name, written in before.items() if name.endswith(".parquet") and "/" not in name
    }


def test_a_shard_that_comes_later_is_embedded_then(here: list[str], some: EmbedJob, drawn: Drawn) -> None:
    assert embed(some).complete
    shutil.copy(drawn.tars[2], some.inputs[0])
    summary = embed(some)
    assert here == ["00000.tar", "00001.tar", "00002.tar"]
    assert (summary.planned, summary.done_before, summary.run.shards, summary.complete) == (3, 2, 1, True)
    assert (Path(some.out) / SUCCESS).exists() and len(parts(some.out)) == 120


def test_a_missing_part_is_made_again(here: list[str], job: EmbedJob, drawn: Drawn) -> None:
    (Path(job.out) / "data" / drawn.shards[1].part_name).unlink()
    assert embed(job).complete and here == ["00001.tar"]
    assert len(parts(job.out)) == 120


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"precision": "bf16"}, "precision is bf16, not fp32"),
        ({"model": "tiny=random:1"}, "weights sha256 is "),
        ({"columns": ("uid:int64",)}, "has the column uid as string, not as int64: leave out --column uid:int64"),
        ({"embedding_type": "float32"}, "embedding type is float32, not float16"),
        ({"texts": False}, "embeds is images, not images and texts"),
    ],
)
def test_other_settings_into_the_same_folder_are_refused(
    job: EmbedJob, nowhere: None, change: dict[str, Any], said: str
) -> None:
    before = files(job.out)
    with pytest.raises(PlanMismatchError) as caught:
        embed(replace(job, **change))
    assert said in str(caught.value) and job.out in str(caught.value) and "\n" not in str(caught.value)
    assert files(job.out) == before


def test_how_it_is_run_is_no_other_setting(job: EmbedJob, nowhere: None) -> None:
    assert embed(replace(job, batch_size=64, workers=1, gpus_per_worker=0.0, precision="fp32")).complete


def test_the_precision_is_what_the_dataset_was_begun_with(here: list[str], some: EmbedJob) -> None:
    embed(replace(some, precision="bf16"))
    events: list[Any] = []
    assert embed(some, events.append).complete
    assert [event.precision for event in events if isinstance(event, Planned)] == ["bf16"]
