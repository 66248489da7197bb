"""A Lance table equals the dataset."""

from __future__ import annotations

from typing import Any

import lance
import pytest
from clipmill.pipeline import export
from clipmill.pipeline.exporting import lance as writer
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


def test_fragments_follow_the_parts_and_appear_in_one_commit(
    job: Any, embedded: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "runs_of", lambda parts: [(part,) for part, _ in parts])
    made = export(job("lance"))
    table = lance.dataset(f"{made.out}/pairs.lance")
    assert len(table.get_fragments()) > 1 and table.version == 1
    assert table.to_table().to_pylist() == plain(embedded)
    (writer.Output.at(made.out)).delete(writer._DONE)  # as when it was killed before it could say that it ended
    export(job("lance"))
    after = lance.dataset(f"{made.out}/pairs.lance")
    assert after.to_table().to_pylist() == plain(embedded)
    assert after.checkout_version(1).count_rows() == len(embedded)  # the snapshot stays


def test_parts_are_taken_together_up_to_a_fragment_and_in_order() -> None:
    parts = [("a", 3), ("b", 4), ("c", 1), ("d", 20), ("e", 1), ("f", 8)]
    assert writer.runs_of(parts, 8) == [("a", "b", "c"), ("d",), ("e",), ("f",)]
    assert writer.runs_of([], 8) == []
