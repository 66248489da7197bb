"""What an output holds, part by part: told by the manifest as far as that is true, and by the parts' footers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..records import Shard, ShardStats
from .footer import read_footer, stats_of
from .layout import part_path
from .manifest import Manifest
from .manifest_files import MANY, read_manifest
from .output import Output

_FOOTERS = 16  # read at a time


def ledger(output: Output, shards: Sequence[Shard], fresh: Manifest, seen: Manifest | None = None) -> Manifest:
    """Every committed part, in the order of the plan; many in any order, as bringing them into it takes a gigabyte.

    A part's row is that of this run (`fresh`), else the manifest's, else the one `seen` at an earlier look, as long as
    the part has not changed; else it is read from the part's footer (a run was killed before it wrote its manifest, or
    another run made the part anew).
    """
    committed = _committed(output.part_sizes(), shards)
    known = ((seen or Manifest.of()) + read_manifest(output) + fresh).true_to(committed)
    if lacking := known.lacks(committed):
        parts = {shard.url: shard for shard in shards if shard.url in lacking}
        with ThreadPoolExecutor(_FOOTERS, thread_name_prefix="footers") as pool:
            read = Manifest.of(pool.map(lambda shard: _from_footer(output, shard), parts.values()))
        known += read.under(shard.part_name for shard in parts.values())
    known = known.among(committed)
    return known if len(known) >= MANY else known.only(committed)


def _committed(sizes: Mapping[str, int], shards: Sequence[Shard]) -> dict[str, int]:
    """The bytes of parts, by shard, in the order of the plan. sizes: by part."""
    found = ((shard.url, sizes.get(shard.part_name)) for shard in shards)
    return {url: size for url, size in found if size is not None}


def _from_footer(output: Output, shard: Shard) -> ShardStats:
    name = output.url_of(shard.part_name)
    with output.open(part_path(shard.part_name)) as file:
        footer = read_footer(file, name)
        size = file.seek(0, io.SEEK_END)
    return stats_of(footer, shard, size, name)
