"""A part's shard, read again after embedding: it must be the one that was embedded, and its samples the part's rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import TypeVar

import pyarrow as pa

from ..dataset.dataset import Dataset
from ..dataset.footer import read_footer, shard_of
from ..dataset.forgotten import REASON
from ..dataset.layout import part_path
from ..dataset.plan import is_another
from ..errors import InputError
from ..inputs.listing import look_again
from ..records import Shard

T = TypeVar("T")

_REMEDY = "restore it, or run `clipmill embed --refresh` and this command again"


def unchanged_shard(dataset: Dataset, part: str) -> Shard:
    """The part's shard as it was embedded. InputError where it is gone or another."""
    with dataset.output.open(part_path(part)) as file:
        old = shard_of(read_footer(file, dataset.url_of(part)), part)
    (now,) = look_again([old], dataset.output.storage_options)
    if now is None:
        raise InputError(f"{old.url} is gone, so its samples cannot be read again: restore it")
    if is_another(old, now):
        raise InputError(f"{old.url} has changed since it was embedded: {_REMEDY}")
    return old if old.size is not None else now


def row_by_row(samples: Iterable[tuple[str, T]], own: pa.Table, shard: Shard, part: str) -> Iterator[T | None]:
    """What was read of each row, in order; None of a row that is forgotten. samples: with their keys. own: `key` and
    `error` of the part's rows. InputError where the samples are not the rows."""
    rows = zip(own["key"].to_pylist(), own["error"].to_pylist(), strict=True)
    for number, (sample, row) in enumerate(zip_longest(samples, rows)):
        if sample is None or row is None:
            more = "fewer" if sample is None else "more"
            raise InputError(f"{shard.url} has {more} samples than the {len(own):,} rows of {part}: {_REMEDY}")
        (key, value), (own_key, error) = sample, row
        if error == REASON:
            yield None
            continue
        if key != own_key and not (error or "").startswith("read: "):  # what is damaged may have lost its name
            raise InputError(f"{shard.url}: sample {number:,} is {key!r}, and in {part} {own_key!r}: {_REMEDY}")
        yield value
