"""Equal rows, found by hash partition: each run writes its rows' keys sorted by their first bits, and each range of
these bits is looked through for keys that are there twice."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..dataset.dataset import Dataset
from ..dataset.output import Output
from ..dataset.subset import Subset, rows_within
from . import sorted_files
from .against import Found
from .components import Ids
from .sorted_files import Ranges, Slice
from .state import KEPT, PART, Numbering, Run

BUCKETS = 1 << 12  # of keys, by their first bits
_MARKS = np.uint64(1 << 22)  # of keys, by their last bits: 4 MiB
PAIR = np.dtype([("id", "<i8"), ("other", "<i8")])

_KEY = np.dtype([("high", "<u8"), ("low", "<u8"), ("id", "<i8")])
_SUM = 64  # characters of a sha256
_HEX = np.full(256, 16, np.uint8)
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)

_ROWS, _FAILED, _EQUAL_THERE, _NEAR_THERE, _EMBEDDED = range(5)  # the counts of an index


@dataclass(frozen=True)
class Counts:
    """Rows of runs: all; failed; equal to, or only near, rows of other datasets; and embedded ones that are left."""

    rows: int
    failed: int
    equal_there: int
    near_there: int
    embedded: int

    @classmethod
    def of(cls, contents: Ranges) -> Counts:
        """contents: what `ReadContents` wrote."""
        return cls(*contents.counts.sum(axis=0).tolist())


@dataclass(frozen=True)
class ReadContents:
    """Counts a run's rows, and writes the keys of those that are embedded."""

    dataset: Dataset
    column: str | None  # equal for exact copies; None where these are not looked for
    output: Output
    within: Subset | None
    there: Found | None  # rows that other datasets have, which are left out

    @staticmethod
    def name_of(run: Run) -> str:
        return f"{KEPT}/contents-{run.number:06d}"

    def __call__(self, run: Run) -> None:
        counts, keys = np.zeros(5, np.int64), [np.empty(0, _KEY)]
        there = self.there.of(run) if self.there else None
        for number, part in run.parts:
            inside = rows_within(self.within, part)
            columns = ["row", "error", *([self.column] if self.column else [])]
            for batch in replace(self.dataset, parts=(part,)).batches(columns):
                rows = batch["row"].to_numpy().astype(np.int64)
                ids = (number << PART) | rows
                stays = np.ones(len(ids), np.bool_) if inside is None else np.isin(rows, inside)
                embedded = stays & batch["error"].is_null().to_numpy(zero_copy_only=False)
                counts[_ROWS] += stays.sum()
                counts[_FAILED] += stays.sum() - embedded.sum()
                if there is not None:
                    counts[_EQUAL_THERE] += np.isin(ids, there[0]).sum()
                    counts[_NEAR_THERE] += np.isin(ids, there[1]).sum()
                    embedded &= ~(np.isin(ids, there[0]) | np.isin(ids, there[1]))
                counts[_EMBEDDED] += embedded.sum()
                if self.column:
                    keys.append(_keys(batch[self.column], ids, embedded))
        records = np.concatenate(keys)
        records, offsets = sorted_files.sort(records, (records["high"] >> np.uint64(52)).astype(np.int64), BUCKETS)
        sorted_files.write(self.output, self.name_of(run), [records], offsets, counts.tolist())


def _keys(column: pa.Array, ids: Ids, embedded: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Those of embedded rows with a content."""
    chosen = embedded & column.is_valid().to_numpy(zero_copy_only=False)
    keys = np.empty(int(chosen.sum()), _KEY)
    keys["id"] = ids[chosen]
    digests = digests_of(column.filter(pa.array(chosen)))
    keys["high"], keys["low"] = digests[:, 0], digests[:, 1]
    return keys


def digests_of(contents: pa.Array) -> npt.NDArray[np.uint64]:
    """128 bits for each content, uint64 [n, 2]: the halves of a sha256 in hex, one added to the other by XOR, and
    BLAKE2b of all else."""
    contents = contents.cast(pa.large_binary())
    if len(contents) and pc.all(pc.equal(pc.binary_length(contents), _SUM)).as_py():
        _, ends, data = contents.buffers()
        first = int(np.frombuffer(ends, np.int64)[contents.offset])
        digits = _HEX[np.frombuffer(data, np.uint8)[first : first + _SUM * len(contents)]].reshape(-1, _SUM)
        if (digits < 16).all():
            words = np.ascontiguousarray(digits[:, ::2] << 4 | digits[:, 1::2]).view(">u8").astype(np.uint64)
            return words[:, :2] ^ words[:, 2:]
    return np.array([_digest(value) for value in contents.to_pylist()], np.uint64).reshape(-1, 2)


def _digest(content: bytes) -> tuple[int, int]:
    is_sum = len(content) == _SUM and all(_HEX[byte] < 16 for byte in content)
    digest = bytes.fromhex(content.decode()) if is_sum else hashlib.blake2b(content, digest_size=16).digest()
    first, second, *others = struct.unpack(f">{len(digest) // 8}Q", digest)
    return (first ^ others[0], second ^ others[1]) if others else (first, second)


@dataclass(frozen=True)
class FindCopies:
    """Writes a range's copies, each with the first of the rows that it equals: sorted by the copies' runs."""

    output: Output
    prefix: str
    numbering: Numbering

    def name_of(self, slices: Sequence[Slice]) -> str:
        return f"{self.prefix}copies-{sorted_files.digest_of(slices)}"

    def __call__(self, slices: Sequence[Slice]) -> None:
        copies = copies_in(sorted_files.records(self.output, slices, _KEY))
        copies, offsets = sorted_files.sort(copies, self.numbering.runs_of(copies["id"]), self.numbering.runs)
        sorted_files.write(self.output, self.name_of(slices), [copies], offsets)


def copies_in(keys: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """PAIR of every row whose key an earlier row has, and the first of these rows."""
    keys = _repeated(keys)
    keys = keys[np.lexsort((keys["id"], keys["low"], keys["high"]))]
    begins = np.ones(len(keys), np.bool_)
    begins[1:] = (keys["high"][1:] != keys["high"][:-1]) | (keys["low"][1:] != keys["low"][:-1])
    firsts = np.flatnonzero(begins)
    copies = np.empty(len(keys), PAIR)
    copies["id"], copies["other"] = keys["id"], keys["id"][np.repeat(firsts, np.diff([*firsts, len(keys)]))]
    return copies[~begins]


def _repeated(keys: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The keys that are there more than once, and a few others: so that few have to be sorted as a whole."""
    high = np.sort(keys["high"])
    repeated = high[1:][high[1:] == high[:-1]]
    marked = np.zeros(_MARKS, np.bool_)
    marked[repeated % _MARKS] = True
    found: npt.NDArray[Any] = keys[marked[keys["high"] % _MARKS]]
    return found
