"""Running again: only what failed, what has changed, or what was left when a run was stopped."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.layout import SUCCESS
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.summary import QUARANTINE, SUMMARY, quarantined
from clipmill.pipeline.errors import InfrastructureError, StoppedError
from clipmill.pipeline.records import Shard, ShardStats
from clipmill.pipeline.running import embed as run_module
from clipmill.pipeline.running.events import Planned, ShardDone, Stopping
from clipmill.pipeline.running.manifest_keeper import ManifestKeeper
from clipmill.pipeline.searching.numbered_rows import NumberedRows
from fakes import Drawn, files, parts, write_pairs


def told(job: EmbedJob) -> tuple[Planned, Any]:
    """What the run announced, and its summary."""
    events: list[Any] = []
    summary = embed(job, events.append)
    return next(event for event in events if isinstance(event, Planned)), summary


def test_only_shards_with_failures_are_retried(here: list[str], some: EmbedJob, tmp_path: Path) -> None:
    """The first shards have damaged pairs; a clean one is left alone."""
    write_pairs(Path(some.inputs[0]) / "clean.tar", 9)
    embed(some)
    before = files(some.out)
    here.clear()
    plan, summary = told(replace(some, retry_failed=True))
    assert here == ["00000.tar", "00001.tar"] and plan.todo == 2
    assert summary.complete and summary.dataset.rows == 89
    after = files(some.out)
    clean = next(name for name in after if name.startswith("data/clean-"))
    assert after[clean] == before[clean]
    assert all(after[name] != before[name] for name in after if name.startswith("data/0000"))


def test_a_mended_shard_is_whole_after_a_retry(here: list[str], some: EmbedJob) -> None:
    embed(some)
    failed = sum(row["error"] is not None for row in parts(some.out))
    write_pairs(Path(some.inputs[0]) / "00000.tar", 40)
    _, summary = told(replace(some, retry_failed=True))
    assert 0 < summary.dataset.failed < failed and len(parts(some.out)) == 80
    assert summary.mended == failed - summary.dataset.failed and embed(some).mended is None


def test_a_changed_shard_is_reported_and_embedded_again_only_when_asked(here: list[str], some: EmbedJob) -> None:
    embed(some)
    write_pairs(Path(some.inputs[0]) / "00001.tar", 5)
    here.clear()
    plan, summary = told(some)
    assert (plan.changed, plan.todo, here) == (1, 0, []) and summary.dataset.rows == 80
    plan, summary = told(replace(some, refresh=True))
    assert (plan.changed, plan.todo, here) == (1, 1, ["00001.tar"]) and summary.dataset.rows == 45
    plan, _ = told(replace(some, refresh=True))
    assert (plan.changed, plan.todo) == (0, 0) and len(parts(some.out)) == 45


def test_a_touched_shard_counts_as_changed(here: list[str], some: EmbedJob) -> None:
    embed(some)
    os.utime(Path(some.inputs[0]) / "00001.tar", (1, 1))
    assert told(some)[0].changed == 1


def test_a_shard_given_up_stays_on_the_list_while_others_are_embedded(here: list[str], some: EmbedJob) -> None:
    folder = Path(some.inputs[0])
    (folder / "bad.tar").write_bytes(b"junk" * 999)
    embed(replace(some, max_failed_shards=1))
    write_pairs(folder / "late.tar", 3)
    embed(replace(some, inputs=[str(folder / "late.tar")]))
    assert list(quarantined(Output.at(some.out))) == [str(folder / "bad.tar")]
    assert not (Path(some.out) / SUCCESS).exists()
    write_pairs(folder / "bad.tar", 3)
    assert embed(replace(some, retry_failed=True)).complete
    assert (Path(some.out) / QUARANTINE).read_text() == "{}"


@pytest.mark.long
def test_a_run_that_is_stopped_says_what_is_left_and_the_next_one_does_it(
    cluster: None, base: EmbedJob, drawn: Drawn, tmp_path: Path
) -> None:
    for name in range(6):
        shutil.copy(drawn.tars[0], tmp_path / f"{name}.tar")
    job = replace(base, inputs=[str(tmp_path / "*.tar")], out=str(tmp_path / "out"), workers=1)
    done: list[Any] = []

    def see(event: Any) -> None:
        if isinstance(event, ShardDone):
            done.append(event)

    with pytest.raises(StoppedError, match=r"stopped with [1-5] of 6 shards left; run the same command") as caught:
        embed(
            job,
            lambda event: done.append(event) if "ShardDone" in type(event).__name__ else None,
            None,
            lambda: bool(done),
        )
    assert caught.value.exit_code == 130 and not (tmp_path / "out" / SUCCESS).exists()
    assert embed(job).complete and len(parts(job.out)) == 240


def test_a_refresh_that_was_cut_off_is_done_again(
    here: list[str], some: EmbedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(some)
    write_pairs(Path(some.inputs[0]) / "00001.tar", 5)

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("clipmill.pipeline.running.embed.run_shards", dies)
        with pytest.raises(KeyboardInterrupt):
            embed(replace(some, refresh=True))
    plan, summary = told(replace(some, refresh=True))
    assert (plan.changed, plan.todo) == (1, 1) and summary.dataset.rows == 45


def test_a_refresh_that_is_stopped_is_no_success(
    here: list[str], some: EmbedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though every shard has a part: the old one."""
    embed(some)
    for name in ("00000", "00001"):
        write_pairs(Path(some.inputs[0]) / f"{name}.tar", 5)

    def stops(shards: Iterable[Shard], *rest: Any) -> Iterator[Any]:
        yield from islice(run_here(shards, *rest), 3)  # the worker's start, and one shard
        yield Stopping(1)

    run_here = run_module.run_shards
    monkeypatch.setattr(run_module, "run_shards", stops)
    with pytest.raises(StoppedError, match="stopped with 1 of 2 shards left"):
        embed(replace(some, refresh=True))
    assert not (Path(some.out) / SUCCESS).exists()
    assert not json.loads((Path(some.out) / SUMMARY).read_text())["complete"]


def test_a_refresh_of_what_cannot_be_read_is_no_success(here: list[str], some: EmbedJob) -> None:
    embed(some)
    (Path(some.inputs[0]) / "00001.tar").write_bytes(b"junk" * 999)
    assert not embed(replace(some, refresh=True, max_failed_shards=1)).complete
    assert not (Path(some.out) / SUCCESS).exists() and len(parts(some.out)) == 80


def test_after_a_retry_that_was_killed_the_parts_tell_what_they_are(
    here: list[str], some: EmbedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the manifest what they were."""
    embed(some)
    write_pairs(Path(some.inputs[0]) / "00000.tar", 7)

    def dies(self: ManifestKeeper, event: Any) -> None:
        if isinstance(event, ShardDone):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ManifestKeeper, "see", dies)
        with pytest.raises(KeyboardInterrupt):
            embed(replace(some, retry_failed=True))
    assert len(parts(some.out)) == 47
    dataset = Dataset.open(some.out)
    assert len(NumberedRows.of(dataset)) == 47 and embed(some).dataset.rows == 47


def test_parts_that_are_not_where_they_should_be_are_no_success(
    here: list[str], some: EmbedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with workers whose /data is another disk than the driver's."""
    monkeypatch.setattr("clipmill.pipeline.running.worker.embed_shard", lambda shard, *_: ShardStats(shard.url, 5, 5))
    with pytest.raises(InfrastructureError, match=r"2 parts that workers wrote are missing here, .*00000.tar for one"):
        embed(some)
    assert not (Path(some.out) / SUCCESS).exists()
