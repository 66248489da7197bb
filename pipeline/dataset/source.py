"""What a file beside a part was made of: it tells whether the part has been made anew since."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from .layout import part_path

if TYPE_CHECKING:
    from .dataset import Dataset

PART = b"clipmill.part"  # in the footer of labels and scores of a part: `source_of` all of its rows


def source_of(dataset: Dataset, part: str, rows: npt.NDArray[np.int32] | None) -> str:
    """sha256 of a part's footer and of the rows that are used. It changes when the part is made anew, since the footer
    has the times of that, when rows of it are forgotten, and when other rows are used."""
    with dataset.output.open(part_path(part)) as file:
        digest = hashlib.sha256(repr(sorted(pq.ParquetFile(file).metadata.metadata.items())).encode())
    if (forgotten := dataset.forgotten.parts.get(part)) is not None:
        digest.update(forgotten.digest.encode())
    if rows is not None:
        digest.update(rows.tobytes())
    return digest.hexdigest()
