"""A dataset's images for a page: fetched from the shards they came from, made small, the last ones kept in memory."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..dataset.thumbnails import fetch_image, thumbnail
from ..errors import SampleError
from ..inputs.names import image_urls

_KEPT = 64 << 20  # bytes of small images in memory
_LARGEST = 64 << 20  # bytes of an image that is fetched
_AT_ONCE = 4  # images that are decoded at the same time: one may take half a gigabyte


@dataclass
class Pictures:
    """Thread-safe."""

    storage_options: Mapping[str, Any] = field(default_factory=dict)
    _small: OrderedDict[tuple[str, int, int], bytes] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _decoding: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_AT_ONCE))

    def jpeg(self, row: Mapping[str, Any], side: int) -> bytes:
        """The image of a row (its columns key, shard, row, image_offset and image_size) as a JPEG whose longer side is
        at most `side` pixels. SampleError says why there is none."""
        name = (row["shard"], row["row"], side)
        with self._lock:
            if name in self._small:
                self._small.move_to_end(name)
                return self._small[name]
        with self._decoding:
            small = thumbnail(self._bytes(row), side)
        if small is None:
            raise SampleError("image", "cannot be decoded")
        with self._lock:
            self._small[name] = small
            while sum(map(len, self._small.values())) > _KEPT:
                self._small.popitem(last=False)
        return small

    def _bytes(self, row: Mapping[str, Any]) -> bytes:
        shard, size = row["shard"], row["image_size"]
        if size is None:
            raise SampleError("image", "this pair has none")
        if size > _LARGEST:
            raise SampleError("image", f"larger than {_LARGEST >> 20} MiB")
        if shard.endswith("/"):
            data = self._of_folder(shard, row)
        elif row["image_offset"] is None:
            raise SampleError("image", "its shard gives no byte range (Parquet, compressed tar)")
        else:
            data = fetch_image(shard, row["image_offset"], size, self.storage_options)
        if data is None:
            raise SampleError("image", "its shard cannot be read here any more")
        return data

    def _of_folder(self, shard: str, row: Mapping[str, Any]) -> bytes | None:
        """A file of a folder is called as its pair's key, with an extension that nobody wrote down."""
        for url in image_urls(shard, row["key"]):
            data = fetch_image(url, 0, row["image_size"], self.storage_options)
            if data is not None and hashlib.sha256(data).hexdigest() == row["sha256"]:
                return data
        return None
