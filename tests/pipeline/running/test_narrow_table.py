"""The narrow table: what SQL sees of it is what it sees of the parts; it grows by what is new; and whatever becomes of
its files, nothing is lost."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.narrow import NARROW, narrowed
from clipmill.pipeline.dataset.narrow_file import NarrowFile
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.dataset.sortable import digit_counts, keys_of
from clipmill.pipeline.dataset.sql import connect, identifier
from clipmill.pipeline.errors import OutputError
from clipmill.pipeline.running import narrow_making, narrow_table
from clipmill.pipeline.running.narrow_table import groups_to_merge, with_narrow_table
from clipmill.pipeline.running.stages import Stage
from fakes import files
from filter_kit import many
from made import make_dataset

COUNT = 12


@pytest.fixture(autouse=True)
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not another test's Ray runs: other processes would not see what is patched here."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)


def pairs(rows: int = 600, parts: int = COUNT, seed: int = 0) -> list[dict[str, Any]]:
    """Rows as `many` makes them, with the other columns that a table stores in ways of its own."""
    made = many(rows, parts, seed)
    for number, part in enumerate(made[:-1]):
        count = len(part["caption"])
        part["sha256"] = [hashlib.sha256(f"{number} {row}".encode()).hexdigest() for row in range(count)]
        part["sha256"][::7] = [None] * len(part["sha256"][::7])
        part["score"] = np.where(np.arange(count) % 5 == 0, np.nan, np.arange(count) - 3.5)
    return made


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dataset]:
    """A dataset that is large enough for a table; called again, the same one with other parts."""
    monkeypatch.setattr(narrow_table, "MANY_PARTS", 1)
    monkeypatch.setattr(narrow_table, "_LEAST", 30_000)
    monkeypatch.setattr("clipmill.pipeline.dataset.narrow_file._ROWS", 128)

    def made(parts: list[dict[str, Any]]) -> Dataset:
        return make_dataset(tmp_path / "made", parts, columns=["score:float64"])

    return made


def grown(dataset: Dataset) -> Dataset:
    return with_narrow_table(dataset, "auto", lambda _: None)


def table(dataset: Dataset) -> dict[str, tuple[int, int]]:
    return {name: at for name, at in files(dataset.url).items() if name.startswith(NARROW)}


def values(dataset: Dataset, parts: slice = slice(None)) -> list[tuple[Any, ...]]:
    """What SQL sees of all columns but embeddings."""
    names = [name for name in dataset.schema.names if "embedding" not in name]
    with connect(dataset.only(dataset.parts[parts])) as connection:
        wanted = ", ".join(map(identifier, names))
        return connection.execute(f"SELECT {wanted} FROM pairs ORDER BY shard, row").fetchall()


def files_of(dataset: Dataset) -> list[NarrowFile]:
    return list(narrowed(dataset).narrow)


def test_sql_sees_what_it_sees_of_the_parts(make: Callable[..., Dataset]) -> None:
    dataset = make(pairs())
    narrow = grown(dataset)
    assert len(narrow.narrow) > 2 and [part for file in narrow.narrow for part in file.parts] == list(dataset.parts)
    assert "image_embedding" not in narrow.schema.names
    for parts in (slice(None), slice(0, 1), slice(3, 9), slice(1, None, 2), slice(-1, None)):
        assert values(narrow, parts) == values(dataset, parts)
    with connect(narrow) as ours, connect(dataset) as theirs:
        types = "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'pairs'"
        wide = [row for row in theirs.execute(types).fetchall() if "embedding" not in row[0]]
        assert ours.execute(types).fetchall() == wide


def test_the_parts_are_not_read_where_the_table_has_their_rows(make: Callable[..., Dataset]) -> None:
    dataset = make(pairs())
    expected, narrow = values(dataset), grown(dataset)
    for part in dataset.parts:
        Path(dataset.url_of(part)).write_bytes(b"")
    assert values(narrow) == expected


def test_histograms_count_every_score(make: Callable[..., Dataset]) -> None:
    dataset = make(pairs())
    for column in ("similarity", "score"):
        scores = np.concatenate(
            [dataset.read(part, [column])[column].drop_null().to_numpy().astype(float) for part in dataset.parts]
        )
        expected = digit_counts(keys_of(scores[~np.isnan(scores)]), 0)
        counts = [file.counts(column) for file in grown(dataset).narrow]
        assert np.array_equal(sum(count for count in counts if count is not None), expected)
    assert grown(dataset).narrow[0].counts("width") is None
    assert grown(dataset).only(dataset.parts[:1]).narrow[0].counts("score") is None


def test_new_parts_make_new_files_and_a_changed_part_changes_its_own(make: Callable[..., Dataset]) -> None:
    grown(make(pairs()[:-1]))
    stages: list[Stage] = []
    more = make([*pairs()[:-1], *pairs(seed=9)[:1]])
    before = table(more)
    narrow = with_narrow_table(more, "auto", stages.append)
    assert stages[-1] == Stage("making the narrow table", "parts", 1, 1)
    assert before.items() < table(more).items() and values(narrow) == values(more)
    changed = make([*pairs()[:3], {"similarity": [0.5] * 77}, *pairs()[4:-1], *pairs(seed=9)[:1]])
    stale = [file for file in narrow.narrow if changed.parts[3] in file.parts]
    assert values(narrowed(changed)) == values(changed)  # before the table has it
    assert [file.name for file in grown(changed).narrow if file.name == stale[0].name] == []
    assert len({file.name for file in files_of(changed)} & {file.name for file in narrow.narrow}) > 2
    assert values(grown(changed)) == values(changed)


@pytest.mark.parametrize("damage", [b"", b"PAR1", None], ids=["empty", "cut", "deleted"])
def test_a_file_that_is_damaged_or_gone_is_made_again(damage: bytes | None, make: Callable[..., Dataset]) -> None:
    dataset = make(pairs())
    names = sorted(table(grown(dataset)))
    path = Path(dataset.url) / names[0]
    path.unlink() if damage is None else path.write_bytes(damage)
    assert len(files_of(dataset)) == len(names) - 1 and values(narrowed(dataset)) == values(dataset)
    assert values(grown(dataset)) == values(dataset)
    assert sorted(table(dataset)) == names and len(files_of(dataset)) == len(names)


def test_where_it_cannot_be_written_parts_are_read(
    make: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make(pairs())
    with monkeypatch.context() as patch:
        patch.setattr(Output, "write", lambda *_: (_ for _ in ()).throw(OutputError("read-only")))
        assert grown(dataset).narrow == () and values(grown(dataset)) == values(dataset)
    monkeypatch.setattr(narrow_making, "_written", lambda *_: (_ for _ in ()).throw(OSError("no room")))
    assert values(grown(dataset)) == values(dataset)


def test_small_datasets_have_none(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "made", pairs(), columns=["score:float64"])
    assert grown(dataset).narrow == () and table(dataset) == {}


def test_a_table_that_grows_often_has_few_files_and_the_rows_in_order(make: Callable[..., Dataset]) -> None:
    every = pairs(4000, 40)[:-1] + pairs(seed=5)[:10]
    grown(make(every[:40]))
    for count in range(41, 51):
        dataset = make(every[:count])
        narrow = grown(dataset)
    assert values(narrow) == values(dataset)
    merged = max(narrow.narrow, key=lambda file: file.parts[-1])
    assert dataset.parts[40:48] == next(file.parts for file in narrow.narrow if dataset.parts[40] in file.parts)
    assert len(narrow.narrow) < len(table(dataset)) and merged.rows > 0  # what was merged is there for readers still


def test_merging_takes_small_files_alone_and_only_many() -> None:
    def sized(rows: int, size: int) -> NarrowFile:
        return NarrowFile("x", size, ("part",), (1,), (1,), (0, rows))

    large = [sized(10_000, 10_000_000)] * 16
    assert groups_to_merge([*large, *[sized(10, 10_000)] * 7]) == []
    assert list(map(len, groups_to_merge([*large, *[sized(10, 10_000)] * 8, *[sized(200, 200_000)] * 7]))) == [8]
    assert groups_to_merge([sized(10**7, 400 << 20)] * 100) == []


def test_two_that_make_it_at_once_make_one(make: Callable[..., Dataset]) -> None:
    dataset = make(pairs())
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(grown, [dataset, dataset]))
    assert both[0].narrow == both[1].narrow == tuple(files_of(dataset))
    assert len(table(dataset)) == len(both[0].narrow) and values(both[0]) == values(dataset)


def test_a_large_part_is_streamed_and_what_is_no_sha256_stays_in_its_part(
    make: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrow_making, "_AHEAD", 1)
    dataset = make(pairs(3000, 3))
    assert values(grown(dataset)) == values(dataset) and len(grown(dataset).narrow) > 1
    odd = make([{"sha256": ["abc", "AB" * 32, None]}])
    assert values(grown(odd)) == values(odd)


def test_a_dataset_with_a_column_of_duckdbs_name_has_none(make: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "odd", [{"file_row_number": ["7"]}], columns=["file_row_number"])
    narrow = replace(grown(dataset))
    assert narrow.narrow == () and table(dataset) == {} and values(narrow) == values(dataset)
