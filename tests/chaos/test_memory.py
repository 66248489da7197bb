"""What a worker needs does not grow with its shard."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from chaos_kit import script, write_large_tar

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.name != "posix", reason="how memory is measured")]

SMALL = 20_000_000  # bytes
LARGE = int(os.environ.get("CLIPMILL_CHAOS_TAR", 400_000_000))  # of a tar that takes hardly any of the disk
MORE = 300_000_000

# One shard, embedded in a process of its own; says how much that took.
EMBED = """
import json, sys
from clipmill.pipeline.embedding.embed_shard import embed_shard
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.records import Shard
from fakes import fake_tools
from chaos_kit import peak_memory
stats = embed_shard(Shard(sys.argv[1]), fake_tools(), Output.at(sys.argv[2]))
print(json.dumps([stats.rows, stats.embedded, peak_memory()]))
"""


def peak(folder: Path, size: int) -> int:
    shard = write_large_tar(folder / f"{size}.tar", size)
    assert shard.size is not None and shard.size >= size
    rows, embedded, most = json.loads(script("-c", EMBED, shard.url, str(folder / "out"), seconds=500))
    assert rows == embedded == size // 200_000
    return int(most)


def test_a_large_shard_takes_hardly_more_memory_than_a_small_one(tmp_path: Path) -> None:
    small, large = peak(tmp_path, SMALL), peak(tmp_path, LARGE)
    print(f"peak memory: {small / 1e6:.0f} MB for {SMALL / 1e6:.0f} MB, {large / 1e6:.0f} MB for {LARGE / 1e6:.0f} MB")
    assert large - small <= MORE
