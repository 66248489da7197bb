"""What an output holds, part by part: told by the manifest as far as that is true, and by the parts' footers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from ..records import Shard, ShardStats
from .footer import read_footer, stats_of
from .layout import part_path
from .manifest import Manifest
from .manifest_files import MANY, read_manifest
from .memory import give_back
from .output import Output

_FOOTERS = 16  # read at a time


def ledger(output: Output, shards: Sequence[Shard], fresh: Manifest, seen: Manifest | None = None) -> Manifest:
    """Every committed part, in the order of the plan; many in any order, as bringing them into it takes a gigabyte.

    A part's row is that of this run (`fresh`), else the manifest's, else the one `seen` at an earlier look, as long as
    the part has not changed; else it is read from the part's footer (a run was killed before it wrote its manifest, or
    another run made the part anew).
    """
    urls, sizes = _committed(output.part_sizes(shards), shards)
    give_back()
    known = ((seen or Manifest.of()) + read_manifest(output) + fresh).true_to(urls, sizes)
    give_back()
    if lacking := known.lacks(urls):
        parts = {shard.url: shard for shard in shards if shard.url in lacking}
        with ThreadPoolExecutor(_FOOTERS, thread_name_prefix="footers") as pool:
            read = Manifest.of(pool.map(lambda shard: _from_footer(output, shard), parts.values()))
        known += read.under(shard.part_name for shard in parts.values())
    known = known.among(urls)
    give_back()
    return known if len(known) >= MANY else known.only(urls)


def _committed(sizes: Mapping[str, int], shards: Sequence[Shard]) -> tuple[pa.Array, pa.Array]:
    """The shards that have parts, in the order of the plan, and the parts' bytes. sizes: by part. Arrow's columns, as
    a dict of a million takes a quarter of a gigabyte."""
    urls, found = [], []
    for shard in shards:
        if (size := sizes.get(shard.part_name)) is not None:
            urls.append(shard.url)
            found.append(size)
    return pa.array(urls, pa.string()), pa.array(found, pa.int64())


def _from_footer(output: Output, shard: Shard) -> ShardStats:
    name = output.url_of(shard.part_name)
    with output.open(part_path(shard.part_name)) as file:
        footer = read_footer(file, name)
        size = file.seek(0, io.SEEK_END)
    return stats_of(footer, shard, size, name)
