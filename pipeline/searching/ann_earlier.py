"""Indexes as they were written before they had segments: one file with all numbers, and one with all cells."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dataset.output import Output
from .ann_files import EARLIER, local_path
from .faiss_library import faiss
from .numbered_rows import NumberedRows
from .segment import Contents, Nearest, Placed

_INDEX, _LISTS = EARLIER


def earlier(output: Output, numbered: NumberedRows, nlist: int) -> tuple[Placed, Any]:
    """As one segment, whose rows are the dataset's, and FAISS's index. Cells stay on disk."""
    index = faiss().read_index(str(local_path(output, _INDEX)), faiss().IO_FLAG_SKIP_IVF_DATA)
    if nlist:  # the cells' file is named here because FAISS, when it looks for it itself, prints to stdout
        lists = faiss().downcast_InvertedLists(faiss().extract_index_ivf(index).invlists)
        lists.filename, lists.read_only = str(local_path(output, _LISTS)), True
        lists.do_mmap()
    rows = len(numbered)
    everything = np.packbits(np.ones(rows, dtype=np.bool_))
    starts, none = np.array([0, rows]), np.empty(0, np.int64)
    contents = Contents(("",), np.zeros(1, np.int64), starts, everything, none, Nearest.none(0))
    return Placed(contents, np.zeros(1, np.int64)), index
