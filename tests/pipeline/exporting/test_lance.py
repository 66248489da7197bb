"""A Lance table equals the dataset."""

from __future__ import annotations

from typing import Any

import lance
from clipmill.pipeline import export
from export_kit import Rows


def plain(rows: Rows) -> Rows:
    return [{name: value for name, value in row.items() if name != "error"} for row in rows]


def test_lance_has_every_embedded_row_and_column(job: Any, embedded: Rows) -> None:
    made = export(job("lance"))
    table = lance.dataset(f"{made.out}/pairs.lance")
    assert table.to_table().to_pylist() == plain(embedded)
    again = export(job("lance"))
    assert (made.done_before, again.done_before) == (0, 1)
    assert lance.dataset(f"{made.out}/pairs.lance").version == table.version
