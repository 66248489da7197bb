"""A dataset's samples, read again from their source shards with all of their files, and checked to be the same."""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ..choices import USUAL_KEYS, SampleKeys
from ..errors import ClipmillError, InfrastructureError, InputError, ShardError, one_line
from ..inputs.grouping import SampleFiles
from ..inputs.shards import read_files
from ..inputs.tar_input import samples_in
from ..records import Shard
from ..storage.retry import retry
from ..storage.urls import is_web, open_storage, opening, scheme_of
from .spans import DISK, NETWORK, Request, Span, spans_of, worth_asking_for

_AT_ONCE = 8  # requests

LOCATION = ("key", "image_offset", "image_size", "sha256")  # columns that locate samples in their shard


@dataclass
class Reading:
    """How much was read, and in which way."""

    requests: int = 0  # for bytes within shards
    request_bytes: int = 0
    whole_shards: int = 0


@dataclass(frozen=True)
class SourceSamples:
    """Some samples of a shard. locations: the columns of LOCATION, of all rows; rows: the wanted ones, ascending."""

    shard: Shard
    locations: pa.Table
    rows: Sequence[int]
    keys: SampleKeys = USUAL_KEYS  # as they were when the shard was embedded
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    reading: Reading = field(default_factory=Reading)

    def __iter__(self) -> Iterator[SampleFiles]:
        """In order. InputError where the shard no longer holds one of them, InfrastructureError where the storage
        keeps failing."""
        keys, sha256 = self.locations["key"].to_pylist(), self.locations["sha256"].to_pylist()
        requests = self._requests(keys)
        samples = self._all_of_it(self.rows) if requests is None else self._by_requests(requests, keys)
        for position, row in enumerate(self.rows):
            with _reading(self.shard.url):
                sample = next(samples, None)
                if requests is not None and _difference(sample, keys[row], sha256[row]):
                    # links lead to other bytes of the tar: only reading all of it tells whether the sample changed
                    requests, samples = None, self._all_of_it(self.rows[position:])
                    sample = next(samples, None)
            if difference := _difference(sample, keys[row], sha256[row]):
                raise self._changed(row, difference)
            assert sample is not None
            yield sample

    def _requests(self, keys: list[str]) -> list[Request] | None:
        """None to read the whole shard."""
        offsets = self.locations["image_offset"].fill_null(-1).to_numpy()
        sizes = self.locations["image_size"].fill_null(0).to_numpy()
        if self.shard.size is None or is_web(self.shard.url) or not (offsets >= 0).any():
            return None
        spans = spans_of(keys, offsets, sizes, self.rows, self.shard.size)
        pace = DISK if scheme_of(self.shard.url) == "file" else NETWORK
        return None if spans is None else worth_asking_for(self.rows, spans, self.shard.size, pace)

    def _all_of_it(self, rows: Sequence[int]) -> Iterator[SampleFiles]:
        self.reading.whole_shards += 1
        wanted = iter(rows)
        next_wanted = next(wanted, None)
        for row, sample in enumerate(read_files(self.shard, self.storage_options, self.keys)):
            if row == next_wanted:
                yield sample
                next_wanted = next(wanted, None)
            if next_wanted is None:
                return

    def _by_requests(self, requests: list[Request], keys: list[str]) -> Iterator[SampleFiles | None]:
        offsets = self.locations["image_offset"].to_pylist()
        for request, data in zip(requests, self._fetched([request.span for request in requests]), strict=True):
            samples = {}
            with suppress(ShardError):  # the missing samples are reported by the caller
                for sample in samples_in(io.BytesIO(data), request.span.start, self.keys, every_file=True):
                    samples[sample.key, sample.image_offset] = sample
            for row in request.rows:
                yield samples.get((keys[row], offsets[row]))

    def _fetched(self, spans: list[Span]) -> Iterator[bytes]:
        """The bytes of each span, in order. Some requests run at the same time; their answers wait for their turn."""
        waiting: deque[Future[bytes]] = deque()
        storage = open_storage(self.shard.url, self.storage_options)

        def fetch(span: Span) -> bytes:
            with opening(self.shard.url):
                data: bytes = retry(lambda: storage.cat_file(self.shard.url, start=span.start, end=span.stop))
            return data

        pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="spans")
        try:
            for span in spans:
                waiting.append(pool.submit(fetch, span))
                self.reading.requests += 1
                self.reading.request_bytes += span.stop - span.start
                if len(waiting) > _AT_ONCE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _changed(self, row: int, reason: str) -> InputError:
        return InputError(
            f"{self.shard.url}: row {row} ({self.locations['key'][row]}) is not the sample that was embedded: "
            f"{reason}; restore the shard, or embed it again with `clipmill embed --refresh`"
        )


def _difference(sample: SampleFiles | None, key: str, sha256: str | None) -> str | None:
    """What distinguishes a sample from the one that was embedded; None for nothing."""
    if sample is None or sample.key != key:
        return "the sample is not there any more"
    if sha256 is not None and hashlib.sha256(sample.image or b"").hexdigest() != sha256:
        return "its image has changed"
    return None


@contextmanager
def _reading(url: str) -> Iterator[None]:
    """InfrastructureError, in one line, for what storage clients raise after their own attempts."""
    try:
        yield
    except ClipmillError:
        raise
    except Exception as error:
        raise InfrastructureError(f"{url}: the storage keeps failing: {one_line(error)}") from error
