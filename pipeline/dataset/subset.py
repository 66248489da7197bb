"""A subset: which rows of a dataset were kept, and why the others were not. `filter` and `dedup` write them.

One file for each part of the dataset, of the same name, with rows in the same order; `_clipmill/subset.json` has the
funnel, and is written last.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError
from .dataset import Dataset
from .derived import begin, begun
from .output import OWN, Output

FUNNEL = f"{OWN}/subset.json"
ROWS = b"clipmill.rows"  # in the footer of a subset's part: sha256 of which rows it keeps
_STEPS = ("filter", "dedup")  # which write subsets
IDENTITY = ("key", "shard", "row", "image_offset", "image_size")  # columns that every subset has


@dataclass(frozen=True)
class Funnel:
    """rows = the dropped of each reason + kept; reasons in the order in which they were applied."""

    rows: int
    dropped: Mapping[str, int]
    kept: int


@dataclass(frozen=True)
class Subset:
    """A finished subset. Cheap to send to workers."""

    output: Output
    source: str  # the dataset's URL
    fingerprint: str  # and its fingerprint
    parts: tuple[str, ...]  # with rows, named and ordered as the dataset's
    funnel: Funnel
    sizes: tuple[int, ...]  # of the dataset's parts of those names, in bytes, when it was made
    identity: str  # another one each time a subset is made

    @classmethod
    def open(cls, url: str, storage_options: Mapping[str, Any] | None = None) -> Subset:
        """InputError where there is none, or one that is not finished."""
        output = Output.at(url, storage_options)
        started, content = begun(output), output.read(FUNNEL)
        if started is None or started[0] not in _STEPS:
            raise InputError(f"{url}: no subset here; name the folder given to `clipmill filter --out`")
        if content is None:
            raise InputError(f"{url}: this subset is not finished; run the same `clipmill {started[0]}` again")
        said = json.loads(content)
        funnel = Funnel(said["rows"], said["dropped"], said["kept"])
        return cls._of(output, started[1]["dataset"], started[1]["fingerprint"], funnel, said)

    @classmethod
    def _of(cls, output: Output, source: str, fingerprint: str, funnel: Funnel, said: Mapping[str, Any]) -> Subset:
        """said: as FUNNEL has it; in version 0.1 it had neither sizes nor an identity."""
        sizes, identity = tuple(said.get("sizes", ())), said.get("identity", said["version"])
        return cls(output, source, fingerprint, tuple(said["parts"]), funnel, sizes, identity)

    @classmethod
    def within(cls, url: str | None, dataset: Dataset) -> Subset | None:
        """What `--within` names: a subset of that dataset, or nothing. InputError as `open` and `check_fits`."""
        if url is None:
            return None
        subset = cls.open(url, dataset.output.storage_options)
        subset.check_fits(dataset)
        return subset

    def url_of(self, part: str) -> str:
        return f"{self.output.url}/{part}"

    def check_fits(self, dataset: Dataset) -> None:
        """InputError for a subset of another dataset, or of parts that were embedded anew since: their rows are others
        now. A dataset may have grown."""
        if self.fingerprint != dataset.settings.digest or self.source != dataset.url:
            raise InputError(f"{self.output.url}: a subset of {self.source}, not of {dataset.url}")
        now = dict(zip(dataset.parts, dataset.sizes, strict=True))
        for part, size in zip(self.parts, self.sizes, strict=False):
            if now.get(part, size) != size:
                raise InputError(
                    f"{self.output.url}: {part} was embedded again since this subset was made; make the subset again"
                )


def version_of(dataset: Dataset, within: Subset | None) -> str:
    """Another one when the dataset changes, or when the subset of it that is meant does."""
    return dataset.version if within is None else f"{dataset.version} within {within.identity}"


def rows_within(within: Subset | None, part: str) -> npt.NDArray[np.int32] | None:
    """The rows of a dataset's part that a subset keeps, ascending; None where all rows are asked for."""
    if within is None:
        return None
    if part not in within.parts:
        return np.empty(0, np.int32)
    with within.output.open(part) as file:
        rows: npt.NDArray[np.int32] = pq.read_table(file, columns=["row"])["row"].to_numpy()
    return rows


def source_of(dataset: Dataset, part: str, rows: npt.NDArray[np.int32] | None) -> str:
    """sha256 of what is made of a part's rows: another one where the part was made anew, or where other rows of it are
    asked for. A part's footer tells when its shard was read, and how long that took."""
    with dataset.output.open(part) as file:
        digest = hashlib.sha256(repr(sorted(pq.ParquetFile(file).metadata.metadata.items())).encode())
    if rows is not None:
        digest.update(rows.tobytes())
    return digest.hexdigest()


def begin_subset(output: Output, step: str, dataset: Dataset, settings: Mapping[str, Any]) -> bool:
    """Begin or continue a subset. False where it is finished, and the dataset has not changed since."""
    begin(output, step, {"dataset": dataset.url, "fingerprint": dataset.settings.digest, **settings})
    content = output.read(FUNNEL)
    if content is None:
        return True
    if json.loads(content).get("version") == dataset.version:
        return False
    output.delete(FUNNEL)
    return True


def write_subset_part(output: Output, part: str, kept: pa.Table) -> None:
    """kept: the rows of a dataset's part that stay, with the columns of IDENTITY first and any others after them. To be
    called for every part: where nothing stays there is no file."""
    if not len(kept):
        output.delete(part)
        return
    rows = hashlib.sha256(kept["row"].to_numpy().tobytes()).hexdigest()
    with output.staged(part, replace=True) as path:
        pq.write_table(kept.replace_schema_metadata({ROWS: rows.encode()}), path, compression="zstd")


def finish_subset(output: Output, dataset: Dataset, funnel: Funnel) -> Subset:
    written = output.parts()
    parts = {part: size for part, size in zip(dataset.parts, dataset.sizes, strict=True) if part in written}
    said = {
        **asdict(funnel),
        "parts": list(parts),
        "sizes": list(parts.values()),
        "version": dataset.version,
        "identity": uuid.uuid4().hex,
    }
    output.write(FUNNEL, json.dumps(said, indent=2).encode())
    return Subset._of(output, dataset.url, dataset.settings.digest, funnel, said)
