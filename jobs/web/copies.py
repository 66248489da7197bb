"""The embeddings on this machine's disk, which searches read. The page opens while they are still being copied. A side
that has an index is searched without, and copied only when something needs the embeddings of many rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial

from ...pipeline.searching.ann import Index
from ...pipeline.searching.dense import Dense, OnBytes, dense
from ...pipeline.searching.filters import BusyError
from ...pipeline.searching.numbered_rows import NumberedRows
from ...pipeline.searching.search import Space

_PATIENCE = 1.0  # seconds that opening waits for copies: small datasets are ready then


class _Closed(Exception):
    """The page is closed: nobody needs the copy any more."""


class Copies(Mapping[str, Space]):
    """By side. A side without an index that is not copied yet raises BusyError, which says how far it is; one that
    cannot be copied raises why. With an index, asking the space for its copy does so. Thread-safe."""

    def __init__(
        self, numbered: NumberedRows, columns: Mapping[str, str], index: Index | None, on_bytes: OnBytes
    ) -> None:
        """columns: of embeddings, by side."""
        self._numbered, self._columns, self._on_bytes = numbered, columns, on_bytes
        self._spaces = {
            side: Space(
                numbered, column, partial(self._copied, side), index if index and index.card.column == column else None
            )
            for side, column in columns.items()
        }
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="copies")
        self._copies: dict[str, Future[Dense]] = {}
        self._share = dict.fromkeys(columns, 0.0)
        self._closed, self._lock = threading.Event(), threading.Lock()

    def __getitem__(self, side: str) -> Space:
        space = self._spaces[side]
        if space.index is None:
            self._copied(side)
        return space

    def __contains__(self, side: object) -> bool:
        return side in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def ready(self, side: str) -> bool:
        if self._spaces[side].index is not None:
            return True
        return (copy := self._begun(side)).done() and copy.exception() is None

    @classmethod
    @contextmanager
    def made(
        cls, numbered: NumberedRows, columns: Mapping[str, str], index: Index | None, on_bytes: OnBytes
    ) -> Iterator[Copies]:
        """Begins to copy, and gives up at the end of the context."""
        copies = cls(numbered, columns, index, on_bytes)
        try:
            wait([copies._begun(side) for side, space in copies._spaces.items() if space.index is None], _PATIENCE)
            yield copies
        finally:
            copies._closed.set()
            copies._pool.shutdown(cancel_futures=True)

    def _copied(self, side: str) -> Dense:
        copy = self._begun(side)
        if not copy.done():
            raise BusyError(
                f"the embeddings are being copied to this machine for searches ({self._share[side]:.0%} of the "
                f"{side}s): browse and filter meanwhile, and search in a moment"
            )
        return copy.result()

    def _begun(self, side: str) -> Future[Dense]:
        with self._lock:
            if side not in self._copies:
                self._copies[side] = self._pool.submit(self._copy, side)
                if self._spaces[side].index is not None:
                    wait([self._copies[side]], _PATIENCE)
            return self._copies[side]

    def _copy(self, side: str) -> Dense:
        def told(done: int, total: int | None) -> None:
            if self._closed.is_set():
                raise _Closed
            self._share[side] = done / total if total else 1.0
            self._on_bytes(done, total)

        return dense(self._numbered, self._columns[side], told)
