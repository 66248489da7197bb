"""Two runs into one output at the same time, of different inputs or with different orders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clipmill.pipeline import EmbedJob, embed
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.layout import SUCCESS
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.summary import Status, status
from clipmill.pipeline.running.events import Event, ShardDone
from clipmill.pipeline.searching.numbered_rows import NumberedRows
from fakes import jpeg, parts, write_pairs, write_tar

pytestmark = pytest.mark.usefixtures("here")


class KilledError(BaseException):
    """Nothing of the run comes after it."""


def after(shards: int, do: Callable[[], object]) -> Callable[[Event], None]:
    """Once so many shards are done."""
    done: list[Event] = []

    def see(event: Event) -> None:
        if isinstance(event, ShardDone):
            done.append(event)
            if len(done) == shards:
                do()

    return see


def dies() -> None:
    raise KilledError


@pytest.fixture
def jobs(base: EmbedJob, tmp_path: Path) -> tuple[EmbedJob, EmbedJob]:
    """The same settings and output; a folder of two shards each, of three pairs."""
    for folder, names in (("a", "01"), ("b", "23")):
        (tmp_path / folder).mkdir()
        for name in names:
            write_pairs(tmp_path / folder / f"{name}.tar", 3)
    job = replace(base, out=str(tmp_path / "out"))
    return replace(job, inputs=[str(tmp_path / "a")]), replace(job, inputs=[str(tmp_path / "b")])


def told(job: EmbedJob) -> Status:
    found = status(Output.at(job.out))
    assert found is not None
    return found


def has_succeeded(job: EmbedJob) -> bool:
    return (Path(job.out) / SUCCESS).exists()


def test_the_first_to_end_is_no_success_while_another_ones_shards_are_missing(jobs: Any) -> None:
    first, second = jobs

    def begin_another() -> None:
        with pytest.raises(KilledError):
            embed(second, after(1, dies))

    summary = embed(first, after(1, begin_another))
    assert (summary.complete, summary.planned, summary.dataset.rows) == (False, 4, 9)
    assert not has_succeeded(first) and not told(first).complete and told(first).left == 1
    assert embed(second).complete and has_succeeded(first) and told(first).complete


def test_what_one_run_adds_another_ones_refresh_leaves_planned(jobs: Any) -> None:
    first, second = jobs
    embed(first)
    write_pairs(Path(first.inputs[0]) / "0.tar", 4)
    summary = embed(replace(first, refresh=True), after(1, lambda: embed(second)))
    assert summary.complete and (summary.planned, summary.dataset.rows) == (4, 13)
    assert len(parts(first.out)) == 13 and len(Dataset.open(first.out).parts) == 4
    assert embed(first).dataset.rows == 13


def test_what_another_run_has_written_over_is_planned_again(jobs: Any) -> None:
    """Both read the plan, and the one that wrote it first is gone from it."""
    first, second = jobs
    plan = Path(first.out) / ".clipmill" / "shards.parquet"
    kept: list[bytes] = []
    embed(first, after(1, lambda: kept.append(plan.read_bytes())))
    summary = embed(second, after(1, lambda: plan.write_bytes(kept[0])))
    assert summary.complete and (summary.planned, summary.dataset.rows) == (4, 12)
    assert told(first).complete and told(first).dataset.rows == 12


def test_a_run_that_is_killed_while_it_replaces_parts_leaves_nothing_that_tells_of_the_old_ones(jobs: Any) -> None:
    """Though a run with nothing to do has written the manifest in its middle."""
    first, _ = jobs
    first = replace(first, max_failed_samples=1)
    folder = Path(first.inputs[0])
    for name in ("0", "1", "2"):
        write_tar(folder / f"{name}.tar", [("0.jpg", b"junk"), ("0.txt", b"x"), ("1.jpg", jpeg(1)), ("1.txt", b"y")])
    embed(first)
    for name in ("0", "1", "2"):
        write_pairs(folder / f"{name}.tar", 7)

    def idle_and_killed(event: Event) -> None:
        if isinstance(event, ShardDone) and event.shard.url.endswith("0.tar"):
            assert embed(first).complete
        if isinstance(event, ShardDone) and event.shard.url.endswith("1.tar"):
            raise KilledError

    with pytest.raises(KilledError):
        embed(replace(first, retry_failed=True), idle_and_killed)
    assert len(parts(first.out)) == 7 + 7 + 2
    assert (told(first).dataset.rows, told(first).dataset.failed) == (16, 1)
    assert len(NumberedRows.of(Dataset.open(first.out))) == 16 and embed(first).dataset.rows == 16
