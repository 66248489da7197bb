"""A part without what it held of forgotten rows: they stay in their places as failed rows, so that rows = embedded +
failed, and whatever is joined by place stays true."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..dataset.footer import of_shard, read_footer, shard_of, stats_of
from ..dataset.forgotten import REASON, Forgotten, Rows, blanked
from ..dataset.layout import part_path
from ..dataset.output import Output
from ..dataset.part import PartWriter, verify
from ..embedding.decode import reason_of
from ..errors import InfrastructureError
from ..records import ShardStats

_PAD = "clipmill.purged"  # a footer's entry that makes a part's size another one than it was
_ARROW = b"ARROW:schema"  # which Arrow's writer adds itself


@dataclass(frozen=True)
class PurgePart:
    """Rewrites a part. Cheap to send to workers."""

    output: Output
    forgotten: Forgotten

    def __call__(self, part: str) -> ShardStats:
        """What became of the shard, as its part says from now on. The part has another size than before: by that,
        everything made of it is known to be of another part, even where the manifest is lost."""
        began, url = time.monotonic(), self.output.url_of(part)
        with self.output.open(part_path(part)) as source:
            footer, size = read_footer(source, url), source.seek(0, io.SEEK_END)
            shard = shard_of(footer, url)
            stats = stats_of(footer, shard, size, url)
            file, rows = pq.ParquetFile(source, pre_buffer=True), self.forgotten.parts[part].rows
            _account(stats, file, rows)
            stats.seconds["total"] = stats.seconds.get("total", 0.0) + time.monotonic() - began
            kept = {k.decode(): v.decode() for k, v in footer.items() if k not in (_ARROW, _PAD.encode())}
            told = {**kept, **of_shard(shard, stats)}
            with self.output.staged(part_path(part), replace=True) as path:
                for pad in ("", " "):
                    stats.part_bytes = _write(path, file, rows, {**told, _PAD: pad})
                    if stats.part_bytes != size:
                        break
                with self.output.open(part_path(part)) as now:
                    if now.seek(0, io.SEEK_END) != size:
                        raise InfrastructureError(f"{url} was embedded again meanwhile: run the same command again")
        return stats


def _account(stats: ShardStats, file: pq.ParquetFile, rows: Rows) -> None:
    """Rows that were embedded, or failed for another reason, have failed for this one."""
    sides = [name for name in file.schema_arrow.names if name.endswith(("image_embedding", "text_embedding"))]
    table = pa.concat_tables(_taken(file, rows, ["error", *sides]))
    errors = table["error"].to_pylist()
    stats.embedded -= errors.count(None)
    before = Counter(reason_of(error) for error in errors if error is not None)
    stats.failures = +(Counter(stats.failures) - before)
    stats.failures[REASON] += len(rows)
    was_embedded = table["error"].is_null().to_numpy()
    for side, name in (("image", "image_embedding"), ("caption", "text_embedding")):
        columns = [column for column in sides if column.endswith(name)]
        half = was_embedded & np.all([table[column].is_null().to_numpy() for column in columns], axis=0)
        _take_off(stats.half_pairs, side, int(half.sum()))
    stats.notes = Counter({note: min(count, stats.embedded) for note, count in stats.notes.items()})


def _taken(file: pq.ParquetFile, rows: Rows, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Some columns of the rows; a row group at a time is in memory."""
    start = 0
    for number in range(file.metadata.num_row_groups):
        stop = start + file.metadata.row_group(number).num_rows
        inside = rows[(rows >= start) & (rows < stop)] - start
        if len(inside):
            yield file.read_row_group(number, columns=list(columns)).take(pa.array(inside))
        start = stop


def _take_off(half_pairs: Counter[str], side: str, rows: int) -> None:
    """Why a row lacks a side, its part does not say: the causes' counts become less in their order."""
    for cause in [cause for cause in half_pairs if cause.startswith(side)]:
        less = min(rows, half_pairs[cause])
        half_pairs[cause], rows = half_pairs[cause] - less, rows - less
        if not half_pairs[cause]:
            del half_pairs[cause]


def _write(path: Path, file: pq.ParquetFile, rows: Rows, footer: dict[str, str]) -> int:
    schema, start = file.schema_arrow.remove_metadata(), 0
    with PartWriter(path, schema) as part:
        for number in range(file.metadata.num_row_groups):
            table = file.read_row_group(number).replace_schema_metadata(None)
            part.write(blanked(table, rows, start))
            start += len(table)
        part.finish(footer)
    return verify(path, schema, start)
