"""The manifest: a row for each committed part, with its counts and times. Held in columns: there may be a million."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..records import Shard, ShardStats
from .footer import read_footer, stats_of
from .layout import OWN, part_path
from .output import Output
from .part import unpacked
from .totals import Totals

MANIFEST = f"{OWN}/manifest.parquet"

_SCHEMA = pa.schema(
    [
        ("part", pa.string()),
        ("shard", pa.string()),
        ("rows", pa.int64()),
        ("embedded", pa.int64()),
        ("failures", pa.string()),  # json, by reason
        ("seconds", pa.string()),  # json, by stage
        ("bytes", pa.int64()),
        ("waits", pa.string()),  # json, by kind and stage
        ("flop", pa.float64()),
        ("peak", pa.float64()),
        ("half_pairs", pa.string()),  # json, by side and cause
        ("notes", pa.string()),  # json
    ]
)
_CHUNK = 1024  # parts that are Python's objects at a time; such an object takes ten times its row
_FOOTERS = 16  # read at a time


@dataclass(frozen=True)
class Manifest:
    """table: of _SCHEMA. A shard has one row, or several of which the last counts."""

    table: pa.Table

    @classmethod
    def of(cls, stats: Iterable[ShardStats] = ()) -> Manifest:
        rows, tables = map(_row, stats), [_SCHEMA.empty_table()]
        while chunk := list(islice(rows, _CHUNK)):
            tables.append(pa.Table.from_pylist(chunk, schema=_SCHEMA))
        return cls(pa.concat_tables(tables))

    @classmethod
    def unpacked(cls, content: bytes) -> Manifest:
        """As `packed` makes it. KeyError for a table of other columns, an error of Arrow for anything else."""
        return cls(unpacked(content).select(_SCHEMA.names).cast(_SCHEMA))

    def packed(self) -> bytes:
        file = io.BytesIO()
        pq.write_table(self.table, file, compression="zstd")
        return file.getvalue()

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[ShardStats]:
        for batch in self.table.to_batches(_CHUNK):
            yield from map(_stats, batch.to_pylist())

    def __add__(self, later: Manifest) -> Manifest:
        return Manifest(pa.concat_tables([self.table, later.table]))

    @property
    def urls(self) -> list[str]:
        urls: list[str] = self.table["shard"].to_pylist()
        return urls

    @property
    def totals(self) -> Totals:
        totals = Totals()
        for stats in self:
            totals.add(stats)
        return totals

    def true_to(self, sizes: Mapping[str, int]) -> Manifest:
        """The rows of parts that have not changed. sizes: in bytes, by shard; a part of another size was made anew."""
        fits = [sizes.get(url) == size for url, size in zip(self.urls, self.table["bytes"].to_pylist(), strict=True)]
        return Manifest(self.table.filter(pa.array(fits, pa.bool_())))

    def under(self, parts: Iterable[str]) -> Manifest:
        """The same with these names of parts."""
        index = _SCHEMA.get_field_index("part")
        return Manifest(self.table.set_column(index, _SCHEMA.field(index), pa.array(parts, pa.string())))

    def only(self, urls: Iterable[str]) -> Manifest:
        """The rows of these shards, in this order. Shards without a row are passed over."""
        indices = {url: index for index, url in enumerate(self.urls)}
        return Manifest(self.table.take(pa.array([indices[url] for url in urls if url in indices], pa.int64())))


def read_manifest(output: Output) -> Manifest:
    """The manifest as it was written: some of its parts may be gone or made anew. Empty where it is missing or cannot
    be read: the parts' footers hold the same."""
    content = output.read(MANIFEST)
    if content is None:
        return Manifest.of()
    try:
        return Manifest.unpacked(content)
    except (pa.ArrowException, OSError, KeyError):  # Arrow raises OSError for a broken footer
        return Manifest.of()


def write_manifest(output: Output, manifest: Manifest) -> None:
    output.write(MANIFEST, manifest.packed())


def ledger(output: Output, shards: Sequence[Shard], fresh: Manifest, seen: Manifest | None = None) -> Manifest:
    """Every committed part, in the order of the plan.

    A part's row is that of this run (`fresh`), else the manifest's, else the one `seen` at an earlier look, as long as
    the part has not changed; else it is read from the part's footer (a run was killed before it wrote its manifest, or
    another run made the part anew).
    """
    sizes = output.part_sizes()
    committed = [shard for shard in shards if shard.part_name in sizes]
    known = (seen or Manifest.of()) + read_manifest(output) + fresh
    known = known.true_to({shard.url: sizes[shard.part_name] for shard in committed})
    unknown = {shard.url: shard for shard in committed}
    for url in known.urls:
        unknown.pop(url, None)
    with ThreadPoolExecutor(_FOOTERS, thread_name_prefix="footers") as pool:
        known += Manifest.of(pool.map(lambda shard: _from_footer(output, shard), unknown.values()))
    return known.only(shard.url for shard in committed).under(shard.part_name for shard in committed)


def _row(stats: ShardStats) -> dict[str, Any]:
    return {
        "part": Shard(stats.url).part_name,
        "shard": stats.url,
        "rows": stats.rows,
        "embedded": stats.embedded,
        "failures": json.dumps(stats.failures),
        "seconds": json.dumps(stats.seconds),
        "bytes": stats.part_bytes,
        "waits": json.dumps({"starved": stats.starved, "blocked": stats.blocked}),
        "flop": stats.flop,
        "peak": stats.peak,
        "half_pairs": json.dumps(stats.half_pairs),
        "notes": json.dumps(stats.notes),
    }


def _stats(row: dict[str, Any]) -> ShardStats:
    return ShardStats(
        row["shard"],
        row["rows"],
        row["embedded"],
        Counter(json.loads(row["failures"])),
        json.loads(row["seconds"]),
        row["bytes"],
        **json.loads(row["waits"]),
        flop=row["flop"],
        peak=row["peak"],
        half_pairs=Counter(json.loads(row["half_pairs"])),
        notes=Counter(json.loads(row["notes"])),
    )


def _from_footer(output: Output, shard: Shard) -> ShardStats:
    name = output.url_of(shard.part_name)
    with output.open(part_path(shard.part_name)) as file:
        footer = read_footer(file, name)
        size = file.seek(0, io.SEEK_END)
    return stats_of(footer, shard, size, name)
