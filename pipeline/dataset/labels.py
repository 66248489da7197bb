"""A dataset's labels, as the steps after labelling see them."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow.parquet as pq

from ..errors import InputError
from .dataset import Dataset
from .derived import begun
from .output import Output
from .subset import source_of

FLOATS = ("probability", "margin")  # columns of floating-point numbers

_AT_ONCE = 16  # parts whose footers are read


@dataclass(frozen=True)
class Labels:
    """Labels that are there. Cheap to send to workers."""

    output: Output
    parts: tuple[str, ...]  # labelled, in the dataset's order
    identity: str  # another one where there were other classes, or parts are labelled anew

    @classmethod
    def open(cls, url: str, dataset: Dataset) -> Labels:
        """InputError where there are none, or those of another dataset, or where parts are not labelled yet."""
        output = Output.at(url, dataset.output.storage_options)
        started = begun(output)
        if started is None or started[0] != "label":
            raise InputError(f"{url}: no labels here; name the folder given to `clipmill label --out`")
        said = started[1]
        if (said["fingerprint"], said["dataset"]) != (dataset.settings.digest, dataset.url):
            raise InputError(f"{url}: labels of {said['dataset']}, not of {dataset.url}")
        there = output.part_sizes()
        missing = [part for part in dataset.parts if part not in there]
        if missing:
            raise InputError(
                f"{url}: {len(missing):,} of {len(dataset.parts):,} parts have no labels; run `clipmill label` again"
            )
        sizes = [(part, there[part]) for part in dataset.parts]
        identity = hashlib.sha256(json.dumps([said, sizes], sort_keys=True).encode()).hexdigest()
        return cls(output, dataset.parts, identity)

    def url_of(self, part: str) -> str:
        return f"{self.output.url}/{part}"

    def check_fits(self, dataset: Dataset) -> None:
        """InputError where a part was embedded anew since it was labelled: its labels would be other images'."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="labels") as pool:
            list(pool.map(lambda part: check_part(self, dataset, part), self.parts))


def check_part(labels: Labels, dataset: Dataset, part: str) -> None:
    """As `check_fits`, of one part."""
    if part_said(labels.output, part) != source_of(dataset, part, None):
        raise InputError(
            f"{labels.output.url}: {part} was labelled before it was embedded again; run `clipmill label` again"
        )


PART = b"clipmill.part"  # in the footer of a part of labels: `subset.source_of` all rows of the part it was made of


def part_said(labels: Output, part: str) -> str | None:
    """Which making of the dataset's part a part of labels is of."""
    with labels.open(part) as file:
        said: dict[bytes, bytes] = pq.ParquetFile(file).metadata.metadata or {}
    return said[PART].decode() if PART in said else None
