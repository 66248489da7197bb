"""A dataset's rows for strangers: exact counts on either side of a threshold, and SQL that can do nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.dataset.derived import begin
from clipmill.pipeline.dataset.labels import Labels
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.searching import filters
from clipmill.pipeline.searching.catalogue import Catalogue, Condition, catalogue
from clipmill.pipeline.searching.numbered_rows import NumberedRows
from clipmill.pipeline.searching.search import readable
from made import make_dataset
from unchecked import ENDLESS, UNCHECKED

SIMILARITIES = [0.1, 0.3, None, 0.3, 0.2, 0.9, 0.30000001192092896, 0.5]
ALL = Condition()


@pytest.fixture
def numbered(tmp_path: Path) -> NumberedRows:
    parts = [
        {"similarity": SIMILARITIES[:5], "width": list(range(5)), "key": ["a", "b", "a'; --", "d", "e"]},
        {"similarity": SIMILARITIES[5:], "width": [5, 6, 7], "key": ["a", "g", "h"]},
    ]
    return NumberedRows.of(make_dataset(tmp_path / "in", parts))


@pytest.fixture
def rows(numbered: NumberedRows) -> Iterator[Catalogue]:
    with catalogue(numbered, readable(numbered.dataset)) as made:
        yield made


def widths(found: list[dict[str, object]]) -> list[object]:
    return [row["width"] for row in found]


def test_rows_are_found_by_place_and_by_key(rows: Catalogue) -> None:
    assert widths(rows.read([7, 0, 5])) == [7, 0, 5] and rows.read([8, -1]) == []
    assert [rows.of_key(key) for key in ("a", "a'; --", "no such")] == [[0, 5], [2], []]
    assert "image_embedding" not in rows.read([0])[0]


def test_conditions_narrow_counts_pages_and_masks(rows: Catalogue) -> None:
    odd = Condition("width % 2 = 1 -- odd ones")
    assert (rows.count(ALL), rows.count(odd)) == (8, 4)
    assert widths(rows.page(odd, 1, 2)) == [3, 5] and widths(rows.page(ALL, 6, 10)) == [6, 7]
    assert rows.mask(odd).tolist() == [False, True] * 4
    assert rows.mask(ALL).all()


@pytest.mark.parametrize(("at", "below", "above"), [("0.0", 0, 7), ("0.3", 2, 5), ("0.3001", 5, 2), ("1.0", 7, 0)])
def test_a_threshold_counts_exactly_ties_included(rows: Catalogue, at: str, below: int, above: int) -> None:
    sides = rows.sides(float(at), ALL, 3)
    assert (sides.below, sides.above, sides.missing) == (below, above, 1)
    assert len(sides.just_below) == min(3, below) and len(sides.just_above) == min(3, above)


def test_what_is_nearest_to_a_threshold_comes_first(rows: Catalogue) -> None:
    sides = rows.sides(0.25, Condition("width <> 6"), 2)
    assert sides.just_below.tolist() == [4, 0] and sides.just_above.tolist() == [1, 3]


def test_a_histogram_holds_every_row(rows: Catalogue) -> None:
    found = rows.histogram(ALL)
    assert (found.lowest, found.highest) == (pytest.approx(0.1), pytest.approx(0.9))
    assert (sum(found.counts), found.missing) == (7, 1) and found.counts[0] == found.counts[-1] == 1
    nothing = rows.histogram(Condition("width = 2"))
    assert (sum(nothing.counts), nothing.missing) == (0, 1)


def test_of_one_value_a_histogram_has_one_bin(rows: Catalogue) -> None:
    assert rows.histogram(Condition("width = 5")).counts[0] == 1


def test_what_is_no_number_is_missing(tmp_path: Path) -> None:
    values = [0.1, float("nan"), 0.9, None, float("inf"), -float("inf"), 0.3]
    part = {"similarity": values, "width": list(range(7))}
    numbered = NumberedRows.of(make_dataset(tmp_path / "spoilt", [part]))
    with catalogue(numbered, readable(numbered.dataset)) as rows:
        sides, found = rows.sides(0.25, ALL, 5), rows.histogram(ALL)
        assert (sides.below, sides.above, sides.missing) == (1, 2, 4)
        assert (sides.just_below.tolist(), sides.just_above.tolist()) == ([0], [6, 2])
        assert (sum(found.counts), found.missing) == (3, 4)
        assert (found.lowest, found.highest) == (pytest.approx(0.1), pytest.approx(0.9))
        assert rows.count(Condition("similarity > 0.3")) == 2 and rows.count(Condition("similarity IS NULL")) == 2
        nothing = rows.histogram(Condition("width = 1"))
        assert (sum(nothing.counts), nothing.missing) == (0, 1)


def test_labels_are_joined_and_filter_by_name(numbered: NumberedRows, tmp_path: Path) -> None:
    output = Output.at(str(tmp_path / "labels")).prepare()
    begin(output, "label", {"dataset": numbered.dataset.url, "fingerprint": numbered.dataset.settings.digest})
    names = ["cat", "it's", None, "cat", "it's", "cat", "none", "cat"]
    for number, part in enumerate(numbered.dataset.parts):
        start, stop = numbered.starts[number : number + 2]
        table = pa.table(numbered.dataset.read(part, ["shard", "row"]))
        for name, values in (
            ("key", pa.array(names[start:stop])),
            ("error", pa.nulls(stop - start, pa.string())),
            ("label", pa.array(names[start:stop])),
            ("label_id", pa.array(np.arange(stop - start))),
            ("probability", pa.array(np.linspace(0, 1, stop - start))),
            ("margin", pa.array(np.zeros(stop - start))),
        ):
            table = table.append_column(name, values)
        with output.staged(f"data/{part}") as path:
            pq.write_table(table, path)
    labels = Labels.open(output.url, numbered.dataset)
    with catalogue(numbered, readable(numbered.dataset), labels=labels) as rows:
        assert rows.labels() == [("cat", 4), ("it's", 2), ("none", 1)]
        assert rows.count(Condition("width > 2", "cat")) == 3 and rows.count(Condition(None, "it's")) == 2
        assert rows.count(Condition("labels.probability > 0.9")) == 2
        assert rows.read([1])[0]["labels.label"] == "it's"
        assert Condition("width > 2", "it's").options() == ["--where", "width > 2", "--where", "labels.label = 'it''s'"]


HOSTILE = [
    "1 = 1); DROP TABLE pairs; SELECT (1",
    "1 = 1); SELECT (1",
    "true); COPY pairs TO '/tmp/stolen.csv'; SELECT (1",
    "key IN (SELECT content FROM read_text('/etc/passwd'))",
    "key IN (SELECT filename FROM read_blob('/etc/*'))",
    "(SELECT count(*) FROM '/etc/passwd') > 0",
    "(SELECT count(*) FROM glob('/etc/*')) > 0",
    "(SELECT count(*) FROM parts) > 0",  # a variable of this test, if Python's were tables
    "key = getenv('HOME')",
    "nonsense",
    "",
    "true) UNION ALL (SELECT 'text'",
    "\x00",
]


@pytest.mark.parametrize("where", HOSTILE)
def test_sql_from_strangers_reads_these_tables_and_nothing_else(rows: Catalogue, where: str) -> None:
    parts = pa.table({"a": [1]})
    assert len(parts) == 1
    with pytest.raises(UserError, match="filter: ") as caught:
        rows.mask(Condition(where or " "))
    assert "\n" not in str(caught.value)
    assert rows.count(ALL) == 8 and not Path("/tmp/stolen.csv").exists()


@pytest.mark.parametrize("place", ["3", "99999999"])
def test_rows_cannot_be_smuggled_in(rows: Catalogue, place: str) -> None:
    smuggled = Condition(f"false) UNION ALL (SELECT {place}")
    for ask in (rows.mask, rows.count, lambda condition: rows.page(condition, 0, 10)):
        with pytest.raises(UserError, match="filter: "):
            ask(smuggled)


@pytest.mark.parametrize(
    ("where", "near"), [("width >", '">"'), ("width > 2)", '")"'), ("width > 2 AN key = 'a'", '"AN"')]
)
def test_what_is_wrong_with_sql_is_shown_in_the_users_own_text(rows: Catalogue, where: str, near: str) -> None:
    with pytest.raises(UserError, match=f"^filter: Parser Error: .*{re.escape(near)}") as caught:
        rows.count(Condition(where))
    assert "ORDER" not in str(caught.value) and "LIMIT" not in str(caught.value)


def test_a_question_without_end_is_stopped(numbered: NumberedRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters.Filters, "command", UNCHECKED)
    with catalogue(numbered, readable(numbered.dataset)) as rows:
        assert rows.count(Condition("true")) == 8
        monkeypatch.setattr(filters, "PATIENCE", 1.0)
        with pytest.raises(UserError, match=r"takes longer than 1 s"):
            rows.count(Condition(ENDLESS.format(0)))
        assert rows.count(ALL) == 8


def test_the_settings_stay_as_they_are(rows: Catalogue) -> None:
    with pytest.raises(UserError):
        rows.count(Condition("true); SET enable_external_access = true; SELECT (true"))
