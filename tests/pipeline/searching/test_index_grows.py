"""An index grows by segments of new and changed parts, which become one where they are many. A build that was killed
goes on with what is finished."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipmill.pipeline import IndexJob, SearchJob, index, search
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.searching import ann_build, ann_cells, ann_merge, ann_sample
from clipmill.pipeline.searching.ann import Card, Index, read_card
from clipmill.pipeline.searching.ann_build import Fill
from clipmill.pipeline.searching.numbered_rows import NumberedRows
from made import make_dataset, unit_vectors
from staying import stay_here

DIM = 16
COLUMN = "image_embedding"


def vectors(seed: int, rows: int) -> Any:
    """Around thirty directions, as embeddings are."""
    random = np.random.default_rng(seed)
    some = unit_vectors(0, 30, DIM)[random.integers(0, 30, rows)] + random.standard_normal((rows, DIM)) * 0.1
    some = some / np.linalg.norm(some, axis=1, keepdims=True)
    some[::7] = np.nan  # failed
    return some


def made(folder: Path, *seeds: int) -> Dataset:
    """A part for each seed, anew."""
    shutil.rmtree(folder, ignore_errors=True)
    return make_dataset(folder, [{COLUMN: vectors(seed, 300 + seed)} for seed in seeds], dim=DIM, embeds="images")


@pytest.fixture
def job(tmp_path: Path) -> IndexJob:
    return IndexJob(str(tmp_path / "in"), str(tmp_path / "index"), kind="ivf", nlist=20, recall=1.0)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    stay_here(monkeypatch)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts that segments were filled from."""
    names: list[str] = []
    batches = ann_build.batches

    def telling(dataset: Dataset, part: str, *others: Any) -> Any:
        names.append(part)
        return batches(dataset, part, *others)

    monkeypatch.setattr(ann_build, "batches", telling)
    return names


def places(job: IndexJob, of: int, exact: bool = False) -> list[int]:
    found = search(SearchJob(job.dataset, place=of, index=None if exact else job.out))
    assert found.exact == exact
    return [hit.place for hit in found.hits]


def finds_all(job: IndexJob) -> bool:
    """Whether every indexed row is found by itself, and by its neighbours."""
    numbered = NumberedRows.of(Dataset.open(job.dataset))
    opened = Index.open(job.out, numbered, COLUMN)
    assert opened is not None
    everything, _ = opened.search(unit_vectors(3, 1, DIM), len(numbered), 20 if opened.trained is not None else 1 << 13)
    present = np.flatnonzero(opened.present)
    assert np.array_equal(opened.candidates(unit_vectors(3, 1, DIM)[0], len(numbered)), present)
    assert [opened.holds(place) for place in range(len(numbered))] == opened.present.tolist()
    assert everything.shape == (1, len(numbered)) and len(present) == opened.card.vectors
    queries = present[[0, 1, 150, -1]].tolist()
    return all(places(job, of) == places(job, of, exact=True) for of in queries)


@pytest.mark.parametrize("kind", ["ivf", "ivfpq", "hnsw"])
def test_only_new_and_changed_parts_are_read(tmp_path: Path, job: IndexJob, read: list[str], kind: Any) -> None:
    job = replace(job, kind=kind, nlist=None if kind == "hnsw" else 20)
    parts = made(tmp_path / "in", 1, 2, 3).parts
    first = index(job).card
    assert set(read) == set(parts) and finds_all(job)
    read.clear()
    grown = made(tmp_path / "in", 1, 2, 3, 4)
    card = index(job).card
    assert read == [grown.parts[3]] and len(card.segments) == len(first.segments) + 1 and finds_all(job)
    assert card.training == first.training and card.recall["image"] >= first.recall["image"] - 0.01
    read.clear()
    made(tmp_path / "in", 1, 9, 3, 4)
    card = index(job).card
    assert read == [grown.parts[1]] and card.rows == 301 + 309 + 303 + 304 and finds_all(job)
    read.clear()
    (tmp_path / "in" / "data" / grown.parts[0]).unlink()  # the others now lie at other positions
    assert index(job).card.rows == 309 + 303 + 304 and not read and finds_all(job)


@pytest.mark.parametrize("kind", ["ivf", "ivfpq", "hnsw"])
def test_small_segments_become_one(tmp_path: Path, job: IndexJob, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    job = replace(job, kind=kind, nlist=None if kind == "hnsw" else 20)
    made(tmp_path / "in", 1, 2, 3)
    index(job)
    made(tmp_path / "in", 1, 9, 3, 4)  # a part of the first segment is gone by then
    several = index(job).card
    monkeypatch.setattr(ann_merge, "MOST", 1)
    monkeypatch.setattr(ann_merge, "_SMALL", 1.1)
    made(tmp_path / "in", 1, 9, 3, 4, 5)
    card = index(job).card
    assert len(several.segments) > 1 and len(card.segments) == 1 and finds_all(job)
    assert (card.rows, card.training) == (301 + 309 + 303 + 304 + 305, several.training)
    names = Output.at(job.out).names("segments")
    assert names == {f"{card.training}-{card.segments[0]}.{kind}" for kind in ("npz", "vectors")}  # the others are gone


def test_it_is_trained_anew_when_it_has_grown_much_or_is_told_to(tmp_path: Path, job: IndexJob) -> None:
    made(tmp_path / "in", 1)
    first = index(job).card
    made(tmp_path / "in", 1, 2)
    assert index(job).card.training == first.training
    again = index(replace(job, overwrite=True)).card
    assert again.training != first.training and len(Output.at(job.out).names("trained")) == 2
    made(tmp_path / "in", *range(10))
    assert sum(range(300, 310)) > ann_cells.GROWN * (301 + 302)
    assert index(job).card.training not in (first.training, again.training) and finds_all(job)
    other = index(replace(job, nlist=10, overwrite=True)).card  # other settings
    assert other.nlist == 10 and len(Output.at(job.out).names("trained")) == 2


class _Killed(BaseException):
    pass


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, write: int) -> Iterator[list[int]]:
    """Before, or after, that write of a file by any thread."""
    writes = [0]
    staged = Output.staged

    @contextmanager
    def dying(self: Output, *given: Any, **named: Any) -> Iterator[Path]:
        writes[0] += 1
        number = writes[0]
        with staged(self, *given, **named) as path:
            yield path
            if number == write and write % 2:
                raise _Killed
        if number == write:
            raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(Output, "staged", dying)
        yield writes


def test_a_build_that_is_killed_at_any_write_ends_as_an_undisturbed_one(
    tmp_path: Path, job: IndexJob, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    monkeypatch.setattr(ann_build, "_AT_LEAST", 1)
    monkeypatch.setattr(ann_merge, "MOST", 1)
    monkeypatch.setattr(ann_merge, "_SMALL", 1.1)
    parts = made(tmp_path / "in", *range(6)).parts

    def outcome(job: IndexJob) -> tuple[Any, ...]:
        card: Card | None = read_card(Output.at(job.out))
        assert card is not None
        return card.vectors, card.recall, card.effort, card.segments, [places(job, of) for of in (1, 500, 900)]

    with killed_at(monkeypatch, 0) as writes:
        index(job)
    undisturbed, count = outcome(job), writes[0]
    assert len(undisturbed[3]) == 1 and count >= 10  # two files for what was trained, each piece and the merged one
    for write in range(2, count + 1):  # the first ones begin the output
        killed = replace(job, out=f"{job.out}-{write}")
        read.clear()
        with killed_at(monkeypatch, write), pytest.raises(_Killed):
            index(killed)
        index(killed)
        assert outcome(killed) == undisturbed
        assert len(read) <= len(parts) + 4  # at most the pieces in hand are made again


def test_a_piece_of_work_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    dataset = made(tmp_path / "in", 1)
    fill = Fill(dataset, COLUMN, dataset.output, "training", 1)
    assert pickle.loads(pickle.dumps(fill)) == fill


def _grouped(rows: list[int], kind: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    monkeypatch.setattr(ann_build, "_AT_LEAST", 1000)
    settings: Callable[..., Any] = lambda **given: type("Made", (), given)()  # noqa: E731
    names = tuple(map(str, range(len(rows))))
    dataset = settings(parts=names, stamps=rows, models=[settings(dim=DIM)])
    numbered = NumberedRows(dataset, np.cumsum([0, *rows]))
    return [sum(n for _, _, n in group) for group in ann_build.groups(numbered, range(len(rows)), kind)]


def test_pieces_hold_a_bounded_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _grouped([400] * 5, "ivf", monkeypatch) == [800, 800, 400]
    assert _grouped([400] * 5, "hnsw", monkeypatch) == [2000]
    assert _grouped([3000, 10], "ivf", monkeypatch) == [3000, 10]
    assert _grouped([], "ivf", monkeypatch) == []


def test_a_sample_is_of_all_kinds_of_rows_alike(tmp_path: Path) -> None:
    """Though it is drawn from some parts, and from data that were made with small seeds, as a part's number is one."""
    numbers = [np.random.default_rng(seed).random(400) for seed in range(8)]
    sides = [np.where(some[:, None] < 0.3, unit_vectors(0, 1, DIM), unit_vectors(1, 1, DIM)) for some in numbers]
    dataset = make_dataset(tmp_path / "in", [{COLUMN: some} for some in sides], dim=DIM, embeds="images")
    surveyed = ann_sample.survey(NumberedRows.of(dataset), COLUMN, 400, False, "auto")
    of_first = np.isclose(surveyed.pool @ unit_vectors(0, 1, DIM)[0], 1, atol=1e-2)
    assert 400 <= len(surveyed.pool) <= 700 and surveyed.vectors == 3200
    assert len(np.unique(np.searchsorted(NumberedRows.of(dataset).starts, surveyed.positions, "right"))) in (4, 5)
    assert 0.22 < of_first.mean() < 0.38  # 0.3, give or take what chance does
