"""The inputs of all formats on an object store, over a bad connection to it."""

import io
import tarfile
import time
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.inputs.listing import list_shards, look_into
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.records import Sample, Shard
from clipmill.pipeline.storage.remote import RemoteFile
from fakes import jpeg
from proxy import Faults, Proxy, proxy
from s3 import Bucket, forget_clients

COUNT = 30


@pytest.fixture
def filled(bucket: Bucket) -> Bucket:
    """Thirty images thrice: in a tar, in a Parquet file and by themselves."""
    images = {f"{i:03d}": jpeg(i, 200, 200) for i in range(COUNT)}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for key, image in images.items():
            info = tarfile.TarInfo(f"{key}.jpg")
            info.size = len(image)
            tar.addfile(info, io.BytesIO(image))
    table = pa.BufferOutputStream()
    rows = {"key": list(images), "image": [{"bytes": image, "path": key} for key, image in images.items()]}
    pq.write_table(pa.table(rows), table, row_group_size=12)
    objects = {"0.tar": file.getvalue(), "0.parquet": b"not looked at", "1.parquet": table.getvalue().to_pybytes()}
    objects |= {f"photos/{key}.jpg": image for key, image in images.items()}
    bucket.storage.pipe({bucket.url(f"data/{name}"): data for name, data in objects.items()})
    return bucket


def through(there: Proxy) -> dict[str, object]:
    return {"endpoint_url": there.endpoint}


def read(shards: list[Shard], there: Proxy) -> list[list[Sample]]:
    return [list(read_samples(shard, through(there))) for shard in shards]


def listed(bucket: Bucket, there: Proxy) -> list[Shard]:
    shards = list_shards([bucket.url("data"), bucket.url("data/photos")], through(there))
    assert [shard.url for shard in shards] == [bucket.url(f"data/{n}") for n in ("0.tar", "1.parquet", "photos/")]
    return shards


def test_all_formats_over_a_bad_connection(filled: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmill.pipeline.inputs.tar_input.RemoteFile", partial(RemoteFile, block=50_000))
    monkeypatch.setattr("clipmill.pipeline.inputs.parquet_input._BLOCK", 50_000)
    with proxy(filled.server.endpoint) as there:
        forget_clients()
        shards = listed(filled, there)
        look_into(shards, through(there))
        there.faults = Faults(slow_down=0.1, cut=0.1)
        for samples in read(shards, there):
            assert [s.image for s in samples] == [jpeg(i, 200, 200) for i in range(COUNT)]
            assert [s.key for s in samples] == [f"{i:03d}" for i in range(COUNT)]
            assert [s.error for s in samples] == [None] * COUNT
        assert there.count(status=503) > 0
        assert there.count(path=f"/{filled.name}/data/0.parquet") == 0
    forget_clients()


def test_small_files_are_fetched_side_by_side_with_one_request_each(filled: Bucket) -> None:
    with proxy(filled.server.endpoint, Faults(latency=0.2)) as there:
        forget_clients()
        shard = listed(filled, there)[2]
        there.seen.clear()
        began = time.monotonic()
        [samples] = read([shard], there)
        took = time.monotonic() - began
        assert len(samples) == COUNT
        assert there.by_method() == {"GET": COUNT + 1}  # and one listing
        assert took < COUNT * 0.2  # what the latencies alone would take, one after another
    forget_clients()


def test_keys_with_two_slashes_are_listed_as_they_are(bucket: Bucket) -> None:
    names = [
        "out/0.tar",
        "out//1.tar",
        "out//2.tar",
        "out//deep/3.tar",
        "out/x//4.tar",
        *(f"many//{i:02d}.tar" for i in range(40)),
    ]
    bucket.storage.pipe({bucket.url(name): b"1" for name in names})
    forget_clients()
    options = {"endpoint_url": bucket.server.endpoint}

    def listing(name: str) -> list[str]:
        return [shard.url.removeprefix(bucket.url("")) for shard in list_shards([bucket.url(name)], options)]

    assert listing("out//*.tar") == ["out//1.tar", "out//2.tar"]
    assert listing("out/*.tar") == ["out/0.tar"]
    assert listing("out/*//*.tar") == ["out/x//4.tar"]
    assert listing("out//{1,2}.tar") == ["out//1.tar", "out//2.tar"]
    assert listing("many//{00..39}.tar") == names[5:]
    forget_clients()
