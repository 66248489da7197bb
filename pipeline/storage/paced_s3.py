"""s3fs, whose requests go out at the pace of their bucket: each attempt of each, whoever tries again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

from botocore.exceptions import ClientError
from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem
from s3fs.errors import translate_boto_error

from .pace import Pace, pace_of
from .s3_listing import sizes_between, take_sizes

_PACE, _SINCE = "clipmill_pace", "clipmill_since"  # in a request's context
_CODES = ("RequestLimitExceeded", "BandwidthLimitExceeded", "RequestThrottled", "TooManyRequests")
_STATUSES = (429, 503)
_LONGEST = 0.5  # seconds from a throttled answer to the next attempt, besides the pace
_PATIENCE = 300.0  # seconds for one request: then it is not the pace, but something with this object

_DIVIDES = "max_concurrency" in signature(S3FileSystem._cat_file).parameters  # s3fs of 2024 has only whole files
_IN_ONE_PIECE: dict[str, Any] = {"max_concurrency": 1} if _DIVIDES else {}
_PACED: WeakSet[Any] = WeakSet()  # clients that go at the pace: this is asked with each request


class PacedS3(S3FileSystem):
    """The client tells of each request through its events. Throttled ones are sent again for as long as the bucket lets
    others through: none fails for being throttled, neither here nor where it was called."""

    async def get_s3(self, bucket: str | None = None) -> Any:
        client = await super().get_s3(bucket)
        if client in _PACED:
            return client
        events = client.meta.events
        events.register_first("request-created.s3", _wait, unique_id="clipmill-wait")  # before it is signed
        events.register("response-received.s3", _count, unique_id="clipmill-count")
        events.register_first("needs-retry.s3", _again, unique_id="clipmill-again")
        events.register("before-parse.s3.ListObjectsV2", take_sizes, unique_id="clipmill-sizes")
        _PACED.add(client)
        return client

    async def _cat_file(self, path: str, *arguments: Any, **options: Any) -> bytes:
        """A whole file by one request: s3fs asks for its size before, so that it can fetch a large one in pieces."""
        content: bytes = await super()._cat_file(path, *arguments, **{**_IN_ONE_PIECE, **options})
        return content

    async def _sizes_between(self, folder: str, boundaries: Sequence[str]) -> dict[str, int]:
        """The objects directly in a folder, and how many bytes each has. boundaries: names in order, between which the
        store lists at once."""
        bucket, prefix, _ = self.split_path(folder)
        prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        await self.set_session()
        try:
            return await sizes_between(await self.get_s3(bucket), bucket, prefix, boundaries)
        except ClientError as error:
            raise translate_boto_error(error) from error

    sizes_between = sync_wrapper(_sizes_between)


async def _wait(request: Any, **_: Any) -> None:
    bucket = request.context.get("input_params", {}).get("Bucket", "")
    pace = request.context[_PACE] = pace_of(f"{urlsplit(request.url).netloc}/{bucket}")
    now = time.monotonic()
    request.context.setdefault(_SINCE, now)
    await asyncio.sleep(pace.wait(now))


def _count(context: Mapping[str, Any], parsed_response: Mapping[str, Any] | None, **_: Any) -> None:
    pace: Pace | None = context.get(_PACE)
    if pace and parsed_response is not None:  # None where the connection broke
        pace.answered(time.monotonic(), _is_throttled(parsed_response))


def _again(response: tuple[Any, Mapping[str, Any]] | None, request_dict: Mapping[str, Any], **_: Any) -> float | None:
    """Seconds until the request is sent again. None leaves it to the client's own rules."""
    context, now = request_dict["context"], time.monotonic()
    pace: Pace | None = context.get(_PACE)
    if not (pace and response and _is_throttled(response[1])):
        return None
    is_early = now - context[_SINCE] < _PATIENCE
    return random.uniform(0, _LONGEST) if is_early and pace.lets_through(now) else None


def _is_throttled(answer: Mapping[str, Any]) -> bool:
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in _STATUSES or answer.get("Error", {}).get("Code") in _CODES
