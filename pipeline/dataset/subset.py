"""A subset: the rows of a dataset that were kept, and why the others were not. `filter` and `dedup` write subsets.

One file for each part of the dataset, of the same name, with rows in the same order; `.clipmill/subset.json` has the
funnel, and is written last.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError
from .derived import begin, begun
from .layout import OWN, part_path
from .output import Output

if TYPE_CHECKING:
    from .dataset import Dataset

FUNNEL = f"{OWN}/subset.json"
ROWS = b"clipmill.rows"  # in the footer of a subset's part: sha256 of which rows it keeps
_STEPS = ("filter", "dedup")  # which write subsets
IDENTITY = ("key", "shard", "row", "image_offset", "image_size")  # columns that every subset has


@dataclass(frozen=True)
class Funnel:
    """rows = all dropped + kept; the reasons are in the order in which they were applied."""

    rows: int
    dropped: Mapping[str, int]
    kept: int


@dataclass(frozen=True)
class Subset:
    """A finished subset. Cheap to send to workers."""

    output: Output
    source: str  # the dataset's URL
    fingerprint: str  # the dataset's
    parts: tuple[str, ...]  # with rows, named and ordered as the dataset's
    funnel: Funnel
    stamps: tuple[int, ...]  # of the dataset's parts of those names, when the subset was made
    identity: str  # a new one each time a subset is made

    @classmethod
    def open(cls, url: str, storage_options: Mapping[str, Any] | None = None) -> Subset:
        """InputError for a folder without a subset, and for a subset that is not finished or damaged."""
        output = Output.at(url, storage_options)
        started, content = begun(output), output.read(FUNNEL)
        if started is None or started[0] not in _STEPS:
            raise InputError(f"{url} is not a subset: name the folder given to `clipmill filter --out`")
        if content is None:
            raise InputError(f"{url}: this subset is not finished; run the same `clipmill {started[0]}` again")
        try:
            return cls._of(output, started[1]["dataset"], started[1]["fingerprint"], json.loads(content))
        except (ValueError, TypeError, KeyError) as error:
            remedy = f"delete it and run the same `clipmill {started[0]}` again"
            raise InputError(f"{url}/{FUNNEL} is damaged: {remedy}") from error

    @classmethod
    def _of(cls, output: Output, source: str, fingerprint: str, finished: Mapping[str, Any]) -> Subset:
        """finished: the content of FUNNEL."""
        funnel = Funnel(finished["rows"], finished["dropped"], finished["kept"])
        parts = tuple(finished["parts"])
        # before there were stamps, sizes told whether a part was made anew
        stamps = tuple(finished["stamps"] if "stamps" in finished else finished["sizes"])
        return cls(output, source, fingerprint, parts, funnel, stamps, finished["identity"])

    @classmethod
    def within(cls, url: str | None, dataset: Dataset) -> Subset | None:
        """The subset that `--within` names, if it is given. InputError as `open` and `check_fits`."""
        if url is None:
            return None
        subset = cls.open(url, dataset.output.storage_options)
        subset.check_fits(dataset)
        return subset

    def url_of(self, part: str) -> str:
        return self.output.url_of(part)

    def check_fits(self, dataset: Dataset) -> None:
        """InputError for a subset of another dataset, and where parts were embedded anew since, or rows of them were
        forgotten. New parts do no harm."""
        if self.fingerprint != dataset.settings.digest or self.source != dataset.url:
            raise InputError(f"{self.output.url} is a subset of {self.source}, not of {dataset.url}")
        forgotten = dataset.forgotten.parts
        facts = zip(dataset.parts, dataset.stamps, dataset.sizes, strict=True)
        now = {part: [stamp] if part in forgotten else [stamp, size] for part, stamp, size in facts}
        for part, stamp in zip(self.parts, self.stamps, strict=True):
            if stamp not in now.get(part, [stamp]):
                changed = "rows of {} were forgotten" if part in forgotten else "{} was embedded again"
                changed = changed.format(part)
                raise InputError(f"{self.output.url}: {changed} since this subset was made; make the subset again")


def version_of(dataset: Dataset, within: Subset | None) -> str:
    """A version that changes with the dataset, and with the subset of it."""
    return dataset.version if within is None else f"{dataset.version} within {within.identity}"


def rows_within(within: Subset | None, part: str) -> npt.NDArray[np.int32] | None:
    """The rows of a dataset's part that a subset keeps, ascending: int32 [n]. None for all rows, without a subset."""
    if within is None:
        return None
    if part not in within.parts:
        return np.empty(0, np.int32)
    with within.output.open(part_path(part)) as file:
        rows: npt.NDArray[np.int32] = pq.read_table(file, columns=["row"])["row"].to_numpy()
    return rows


def rows_digest(within: Subset, part: str) -> str:
    """Changes when other rows of the dataset's part are kept."""
    with within.output.open(part_path(part)) as file:
        footer = pq.ParquetFile(file).metadata.metadata or {}
    return footer.get(ROWS, within.identity.encode()).decode()


def begin_subset(
    output: Output, step: str, dataset: Dataset, settings: Mapping[str, Any], overwrite: bool = False
) -> bool:
    """Begin or continue a subset. False where it is finished and the dataset has not changed since."""
    begin(output, step, {"dataset": dataset.url, "fingerprint": dataset.settings.digest, **settings}, overwrite)
    content = output.read(FUNNEL)
    if content is None:
        return True
    with suppress(ValueError, TypeError, KeyError):  # a damaged one is written anew
        if json.loads(content)["version"] == dataset.version:
            return False
    output.delete(FUNNEL)
    return True


def read_subset_part(output: Output, part: str) -> pa.Table:
    """A part that is there, all of it by one request."""
    content = output.read(part_path(part))
    if content is None:
        raise InputError(f"{output.url_of(part)} is gone: run the same command again")
    return pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)


def write_subset_part(output: Output, part: str, kept: pa.Table) -> None:
    """Call this for every part: one of which no row is kept has no file. kept: the rows that stay, with the columns of
    IDENTITY first and any others after them."""
    if not len(kept):
        output.delete(part_path(part))
        return
    rows = hashlib.sha256(kept["row"].to_numpy().tobytes()).hexdigest()
    with output.staged(part_path(part), replace=True) as path:
        pq.write_table(kept.replace_schema_metadata({ROWS: rows.encode()}), path, compression="zstd")


def finish_subset(output: Output, dataset: Dataset, funnel: Funnel, written: Collection[str] | None = None) -> Subset:
    """written: the parts that have rows, where they are known; else the output is listed."""
    written = output.parts() if written is None else written
    parts = {part: stamp for part, stamp in zip(dataset.parts, dataset.stamps, strict=True) if part in written}
    finished = {
        **asdict(funnel),
        "parts": list(parts),
        "stamps": list(parts.values()),
        "version": dataset.version,
        "identity": uuid.uuid4().hex,
    }
    output.write(FUNNEL, json.dumps(finished, indent=2).encode())
    return Subset._of(output, dataset.url, dataset.settings.digest, finished)
