"""NumPy files written piece by piece: no more of an array in memory than a piece."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Pieces = Iterable[npt.NDArray[np.float16]]  # arrays [any number, dim]


def write_npy(file: IO[bytes], rows: int, dim: int, pieces: Pieces) -> None:
    """A float16 array [rows, dim]. ValueError where the pieces are not as many rows."""
    header: dict[str, Any] = {"descr": "<f2", "fortran_order": False, "shape": (rows, dim)}
    np.lib.format.write_array_header_1_0(file, header)
    written = 0
    for piece in pieces:
        file.write(np.ascontiguousarray(piece, dtype="<f2").data)
        written += len(piece)
    if written != rows:
        raise ValueError(f"{written} rows, not {rows}")


def write_npz(path: Path, arrays: Mapping[str, tuple[int, int, Pieces]]) -> None:
    """Float16 arrays by name, as (rows, dim, pieces), not compressed, as `numpy.savez` writes them. The same arrays
    make the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, (rows, dim, pieces) in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                write_npy(file, rows, dim, pieces)
