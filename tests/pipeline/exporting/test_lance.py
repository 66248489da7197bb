"""A Lance table equals the dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lance
import pytest
from clipmill.pipeline import Export, ExportJob, export
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.exporting import lance as writer
from export_kit import Rows, part_of
from made import make_dataset


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
    (writer.Output.at(made.out)).delete(writer._RECORD)  # as when it was killed before it could say that it ended
    export(job("lance"))
    after = lance.dataset(f"{made.out}/pairs.lance")
    assert after.to_table().to_pylist() == plain(embedded)
    assert after.checkout_version(1).count_rows() == len(embedded)  # the snapshot stays


def test_a_table_grows_by_the_new_parts_and_keeps_its_indices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "runs_of", lambda parts: [(part,) for part, _ in parts])
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # whoever else's Ray runs: it would not see the above
    job = ExportJob(str(tmp_path / "in"), str(tmp_path / "out"), "lance")

    def exported(parts: list[dict[str, Any]]) -> tuple[Export, lance.LanceDataset, dict[str, int]]:
        """And the table's data files, with the fragment of each."""
        make_dataset(tmp_path / "in", parts)
        made = export(job)
        table = lance.dataset(f"{made.out}/pairs.lance")
        return made, table, writer._fragments(Output.at(made.out))

    def rows(table: lance.LanceDataset) -> Rows:
        return sorted(table.to_table().to_pylist(), key=lambda row: (row["shard"], row["row"]))

    first, table, before = exported([part_of(1, 30), part_of(2, 40)])
    table.create_scalar_index("width", "BTREE")
    grown, table, files = exported([part_of(1, 30), part_of(2, 40), part_of(3, 50)])
    assert (first.files, first.done_before, grown.files, grown.done_before) == (2, 0, 3, 2)
    assert before.items() < files.items() and len(files) == 3
    changed, table, after = exported([part_of(1, 30), part_of(4, 35), part_of(3, 50)])
    assert (changed.files, changed.done_before) == (3, 2) and len(after.items() & files.items()) == 2
    assert [index.name for index in table.describe_indices()] == ["width_idx"]
    assert table.count_rows("width = 30") == table.count_rows() == 115
    fresh = lance.dataset(f"{export(replace(job, out=str(tmp_path / 'fresh'))).out}/pairs.lance")
    assert rows(table) == rows(fresh) and table.schema == fresh.schema
    table.delete("row = 0")  # by somebody else
    again, table, _ = exported([part_of(1, 30), part_of(4, 35), part_of(3, 50)])
    assert again.done_before == 0 and rows(table) == rows(fresh)


def test_parts_are_taken_together_up_to_a_fragment_and_in_order() -> None:
    parts = [("a", 3), ("b", 4), ("c", 1), ("d", 20), ("e", 1), ("f", 8)]
    assert writer.runs_of(parts, 8) == [("a", "b", "c"), ("d",), ("e",), ("f",)]
    assert writer.runs_of([], 8) == []
