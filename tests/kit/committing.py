"""What tests of the output on an object store share: a part, and ways to commit it."""

from __future__ import annotations

from typing import Any

from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.storage.defaults import with_defaults
from proxy import Proxy
from s3 import Bucket

PART = "data/shard-0123456789abcdef.parquet"

# Leaves trying again to us: the client by itself would hide most of what goes wrong, and wait for seconds.
IMPATIENT = {"config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": 1}}}


def through(net: Proxy, bucket: Bucket, **options: Any) -> Output:
    settings = bucket.server.options(net.endpoint) | options
    return Output.at(bucket.url("out"), with_defaults("s3", settings))


def commit(output: Output, content: bytes, name: str = PART, **how: bool) -> None:
    with output.staged(name, **how) as path:
        path.write_bytes(content)
