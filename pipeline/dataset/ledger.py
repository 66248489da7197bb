"""What an output holds, part by part: told by the manifest as far as that is true, and by the parts' footers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ..records import Shard, ShardStats
from .footer import read_footer, stats_of
from .layout import part_path
from .manifest import Manifest
from .manifest_files import read_manifest
from .output import Output

_FOOTERS = 16  # read at a time


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


def _from_footer(output: Output, shard: Shard) -> ShardStats:
    name = output.url_of(shard.part_name)
    with output.open(part_path(shard.part_name)) as file:
        footer = read_footer(file, name)
        size = file.seek(0, io.SEEK_END)
    return stats_of(footer, shard, size, name)
