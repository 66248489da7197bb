"""The pictures of rows, from wherever their images are: tars, folders and Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ..dataset.dataset import Dataset
from ..dataset.thumbnails import fetch_image, thumbnail
from ..inputs.names import image_urls
from ..inputs.parquet_input import read_images
from ..inputs.shards import is_parquet
from ..records import Shard
from ..running.stages import OnStage, counted
from .shown_rows import Row

MOST = 32 << 20  # bytes of a Parquet file that are read for one picture
_AT_ONCE, _PARQUET_AT_ONCE = 16, 4  # images fetched, and Parquet files read: against latency
_SIDE = 240  # pixels of a picture's longer side

Place = tuple[str, int]  # shard and row


def pictures(dataset: Dataset, rows: Sequence[Row], on_stage: OnStage) -> dict[Place, bytes]:
    """(shard, row) -> a small JPEG, for the rows whose image can still be fetched from its shard."""
    of_parquet: dict[str, list[Row]] = {}
    others: list[Row] = []
    for row in rows:
        if is_parquet(row.shard) and row.image_size is not None:
            of_parquet.setdefault(row.shard, []).append(row)
        else:
            others.append(row)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="pictures") as pool:
        fetched = pool.map(partial(_picture, dataset), others)
        jpegs = list(counted(fetched, "fetching pictures", "pictures", len(others), on_stage))
    found = {row.place: picture for row, picture in zip(others, jpegs, strict=True) if picture is not None}
    with ThreadPoolExecutor(_PARQUET_AT_ONCE, thread_name_prefix="pictures") as pool:
        read = pool.map(partial(_in_parquet, dataset), of_parquet, of_parquet.values())
        for some in counted(read, "reading pictures", "files", len(of_parquet), on_stage) if of_parquet else ():
            found |= some
    return found


def _picture(dataset: Dataset, row: Row) -> bytes | None:
    options = dataset.output.storage_options
    if row.shard.endswith("/"):  # a folder: its files have no place within a shard
        found = (fetch_image(url, 0, row.image_size, options) for url in image_urls(row.shard, row.key, rare=False))
        image = next((data for data in found if data is not None), None)
    else:
        image = fetch_image(row.shard, row.image_offset, row.image_size, options)
    return thumbnail(image, _SIDE) if image is not None else None


def _in_parquet(dataset: Dataset, shard: str, rows: Sequence[Row]) -> Mapping[Place, bytes]:
    sizes = {row.row: row.image_size for row in rows}
    found: dict[Place, bytes] = {}
    for row, image in _images(dataset, shard, sorted(sizes)):
        if len(image) == sizes[row] and (small := thumbnail(image, _SIDE)) is not None:
            found[shard, row] = small
    return found


def _images(dataset: Dataset, shard: str, rows: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Ends early where the file cannot be read any more: a page with a few pictures less is better than none."""
    try:
        yield from read_images(Shard(shard), dataset.output.storage_options, dataset.settings.sample_keys, rows, MOST)
    except Exception:  # storage clients raise anything
        return
