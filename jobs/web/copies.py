"""The embeddings on this machine's disk, which searches read. The page opens while they are still being copied."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager

from ...pipeline.searching.ann import Index
from ...pipeline.searching.dense import OnBytes, dense
from ...pipeline.searching.filters import BusyError
from ...pipeline.searching.numbered_rows import NumberedRows
from ...pipeline.searching.search import Space

_PATIENCE = 1.0  # seconds that opening waits for copies: small datasets are ready then


class _Closed(Exception):
    """The page is closed: nobody needs the copy any more."""


class Copies(Mapping[str, Space]):
    """By side. A side that is not copied yet raises BusyError, which says how far it is; one that cannot be copied
    raises why."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        """columns: of embeddings, by side."""
        self._columns = columns
        self._spaces: dict[str, Future[Space]] = {side: Future() for side in columns}
        self._share = dict.fromkeys(columns, 0.0)

    def __getitem__(self, side: str) -> Space:
        future = self._spaces[side]
        if not future.done():
            raise BusyError(
                f"the embeddings are being copied to this machine for searches ({self._share[side]:.0%} of the "
                f"{side}s): browse and filter meanwhile, and search in a moment"
            )
        return future.result()

    def __contains__(self, side: object) -> bool:
        return side in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def ready(self, side: str) -> bool:
        return self._spaces[side].done() and self._spaces[side].exception() is None

    @classmethod
    @contextmanager
    def made(
        cls, numbered: NumberedRows, columns: Mapping[str, str], index: Index | None, on_bytes: OnBytes
    ) -> Iterator[Copies]:
        """Begins to copy, and gives up at the end of the context."""
        copies, closed = cls(columns), threading.Event()

        def copy() -> None:
            for side, column in columns.items():
                copies._copy(numbered, side, index if index and index.card.column == column else None, on_bytes, closed)

        thread = threading.Thread(target=copy, name="copies")
        thread.start()
        try:
            thread.join(_PATIENCE)
            yield copies
        finally:
            closed.set()
            thread.join()

    def _copy(
        self, numbered: NumberedRows, side: str, index: Index | None, on_bytes: OnBytes, closed: threading.Event
    ) -> None:
        def told(done: int, total: int | None) -> None:
            if closed.is_set():
                raise _Closed
            self._share[side] = done / total if total else 1.0
            on_bytes(done, total)

        try:
            copy = dense(numbered, self._columns[side], told)
            self._spaces[side].set_result(Space(numbered, self._columns[side], lambda: copy, index))
        except Exception as error:
            self._spaces[side].set_exception(error)
