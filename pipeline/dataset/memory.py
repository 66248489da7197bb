"""Memory of this process."""

from __future__ import annotations

import pyarrow as pa


def give_back() -> None:
    """Give the machine what was freed. Arrow's pool and the C library keep it for the next time; the driver of a
    million shards takes many steps once, each of which frees some hundred megabytes."""
    for pool in (pa.default_memory_pool(), pa.system_memory_pool()):
        pool.release_unused()
