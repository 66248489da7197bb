"""Tars in memory, and the samples in them."""

import io
import tarfile

from clipmill.pipeline.choices import USUAL_KEYS, SampleKeys
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Sample, Shard
from fsspec.implementations.memory import MemoryFileSystem

Content = list[tuple[str, bytes]]


def packed(content: Content, links: dict[str, tuple[bytes, str]] | None = None) -> bytes:
    """links: name -> (type, target); each stands in the place of the file of that name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in content:
            info = tarfile.TarInfo(name)
            if links and name in links:
                info.type, info.linkname = links[name]
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def samples_of(content: Content | bytes, keys: SampleKeys = USUAL_KEYS, name: str = "x.tar") -> list[Sample]:
    data = content if isinstance(content, bytes) else packed(content)
    MemoryFileSystem().pipe(f"/shards/{name}", data)
    return list(read_samples(Shard(f"memory://shards/{name}"), keys=keys))
