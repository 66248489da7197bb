"""What a dataset holds is told by its parts; the manifest only makes it quick to tell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.dataset.ledger import ledger
from clipmill.pipeline.dataset.manifest import Manifest
from clipmill.pipeline.dataset.manifest_files import MANIFEST, read_manifest, write_manifest
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.errors import InfrastructureError
from clipmill.pipeline.records import Shard, ShardStats
from fakes import fake_tools, write_pairs

NOTHING = Manifest.of()


def counted(output: Output, shard: Shard, rows: int) -> ShardStats:
    """What somebody says of a part, whatever is true."""
    size = output.part_sizes().get(shard.part_name, 0)
    return ShardStats(shard.url, rows, rows, Counter(), {"total": 2.0}, size)


@pytest.fixture
def shards(tmp_path: Path, output: Output) -> list[Shard]:
    """Three, of which all but the second are embedded."""
    made = [write_pairs(tmp_path / f"{name}.tar", count) for name, count in (("c", 3), ("a", 4), ("b", 5))]
    for shard in (made[0], made[2]):
        embed_shard(shard, fake_tools(), output)
    return made


def test_without_a_manifest_the_footers_are_read(output: Output, shards: list[Shard]) -> None:
    found = ledger(output, shards, NOTHING)
    assert [(stats.url, stats.rows, stats.embedded) for stats in found] == [
        (shards[0].url, 3, 3),
        (shards[2].url, 5, 5),
    ]
    assert [stats.part_bytes for stats in found] == [
        (Path(output.url) / "data" / shard.part_name).stat().st_size for shard in (shards[0], shards[2])
    ]
    assert all(stats.seconds["total"] > 0 and stats.blocked["read"] > 0 for stats in found)


def test_the_manifest_says_what_the_footers_say(
    output: Output, shards: list[Shard], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ledger(output, shards, NOTHING)
    write_manifest(output, found)
    monkeypatch.setattr(Output, "open", None)  # no footer is read
    assert list(ledger(output, shards, NOTHING)) == list(found)


def test_a_manifest_of_other_columns_is_passed_over_and_parts_without_times_are_read(
    output: Output, shards: list[Shard]
) -> None:
    write_manifest(output, Manifest.of([counted(output, shards[0], 9)]))
    path = Path(output.url) / MANIFEST
    pq.write_table(pq.read_table(path).drop_columns(["starved", "flop", "peak"]), path)
    assert len(read_manifest(output)) == 0
    part = Path(output.url) / "data" / shards[2].part_name
    footer = {
        k: v
        for k, v in pq.read_metadata(part).metadata.items()
        if k not in (b"clipmill.waits", b"clipmill.compute", b"ARROW:schema")
    }
    pq.write_table(pq.read_table(part).replace_schema_metadata(footer), part)
    first, last = ledger(output, shards, NOTHING)
    assert (first.rows, last.rows, last.starved, last.blocked) == (3, 5, {}, {})


def test_the_manifest_is_a_table_for_anybody(output: Output, shards: list[Shard]) -> None:
    write_manifest(output, ledger(output, shards, NOTHING))
    rows = pq.read_table(Path(output.url) / MANIFEST).to_pylist()
    assert [(row["part"], row["shard"], row["rows"]) for row in rows] == [
        (shard.part_name, shard.url, rows) for shard, rows in ((shards[0], 3), (shards[2], 5))
    ]


def test_what_a_run_has_seen_goes_before_the_manifest(output: Output, shards: list[Shard]) -> None:
    write_manifest(output, Manifest.of(counted(output, shard, 99) for shard in shards))
    fresh = Manifest.of([counted(output, shards[2], 98)])
    assert [stats.rows for stats in ledger(output, shards, fresh)] == [99, 98]


def test_what_is_said_of_a_part_that_was_made_anew_since_does_not_count(output: Output, shards: list[Shard]) -> None:
    stale = [ShardStats(shard.url, 99, 99, part_bytes=1) for shard in shards]
    write_manifest(output, Manifest.of(stale))
    assert [stats.rows for stats in ledger(output, shards, Manifest.of(stale), Manifest.of(stale))] == [3, 5]


def test_a_part_that_is_gone_is_not_counted_though_the_manifest_has_it(output: Output, shards: list[Shard]) -> None:
    write_manifest(output, ledger(output, shards, NOTHING))
    output.delete(f"data/{shards[0].part_name}")
    assert [stats.url for stats in ledger(output, shards, NOTHING)] == [shards[2].url]


@pytest.mark.parametrize("content", [b"", b"junk" * 99])
def test_a_part_that_is_not_ours_is_named(output: Output, shards: list[Shard], content: bytes) -> None:
    output.write(f"data/{shards[1].part_name}", content)
    with pytest.raises(InfrastructureError, match=rf"{shards[1].part_name} is not a clipmill part"):
        ledger(output, shards, NOTHING)


def test_what_an_earlier_look_has_seen_is_not_read_again(
    output: Output, shards: list[Shard], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = ledger(output, shards, NOTHING)
    monkeypatch.setattr(Output, "open", None)  # no footer is read
    assert list(ledger(output, shards, NOTHING, seen)) == list(seen)
    write_manifest(output, Manifest.of([counted(output, shards[0], 9)]))
    assert [stats.rows for stats in ledger(output, shards, NOTHING, seen)] == [9, 5]  # the manifest is younger


# the last one is whole at its ends, as after a torn block
@pytest.mark.parametrize("content", [None, b"", b"junk" * 99, b"PAR1" + bytes(400) + b"\x90\x01\0\0PAR1"])
def test_without_a_manifest_that_can_be_read_the_parts_tell(
    output: Output, shards: list[Shard], content: bytes | None
) -> None:
    if content is not None:
        output.write(MANIFEST, content)
    assert len(read_manifest(output)) == 0
    assert [stats.rows for stats in ledger(output, shards, NOTHING)] == [3, 5]
