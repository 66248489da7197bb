"""What tests on an object store share: the way to it, which may be disturbed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clipmill.pipeline.dataset.output import Output
from committing import through
from proxy import Proxy, proxy
from s3 import Bucket


@pytest.fixture
def net(bucket: Bucket) -> Iterator[Proxy]:
    """Harmless until a test says otherwise."""
    with proxy(bucket.server.endpoint) as running:
        yield running


@pytest.fixture
def output(bucket: Bucket, net: Proxy) -> Output:
    """In the bucket, through the proxy; not prepared."""
    return through(net, bucket)
