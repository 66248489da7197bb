"""An index: of each kind, measured against exact search, on disk piece by piece, refused where it does not fit."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import made
import numpy as np
import pyarrow as pa
import pytest
from clipmill.pipeline import IndexJob, SearchJob, index, search
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.output import Output
from clipmill.pipeline.errors import InputError, PlanMismatchError, UserError
from clipmill.pipeline.searching import ann_build, ann_cells
from clipmill.pipeline.searching import search as searching
from clipmill.pipeline.searching.ann import Index
from clipmill.pipeline.searching.dense import dense
from clipmill.pipeline.searching.faiss_library import faiss
from clipmill.pipeline.searching.numbered_rows import NumberedRows
from made import make_dataset, unit_vectors
from s3 import Bucket
from staying import stay_here

DIM = 16


def clustered(seed: int, rows: int) -> Any:
    """Around thirty directions, as embeddings are."""
    random = np.random.default_rng(seed)
    vectors = unit_vectors(0, 30, DIM)[random.integers(0, 30, rows)] + random.standard_normal((rows, DIM)) * 0.1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def part(seed: int, rows: int) -> dict[str, Any]:
    images, texts = clustered(seed, rows), clustered(seed + 100, rows)
    images[::7] = np.nan  # failed
    return {"image_embedding": images, "text_embedding": texts}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("index") / "in", [part(1, 700), part(2, 500)], dim=DIM)


@pytest.fixture
def job(dataset: Dataset, tmp_path: Path) -> IndexJob:
    return IndexJob(dataset.url, str(tmp_path / "index"), kind="ivf")


def keys(dataset: Dataset, where: str | None, key: str = "000000001", side: Any = "image") -> list[str]:
    return [hit.row["key"] for hit in search(SearchJob(dataset.url, key=key, side=side, index=where)).hits]


@pytest.mark.parametrize("kind", ["flat", "ivf", "ivfpq", "hnsw"])
def test_every_kind_finds_what_exact_search_finds(job: IndexJob, dataset: Dataset, kind: Any) -> None:
    card = index(replace(job, kind=kind, nlist=20 if kind.startswith("ivf") else None)).card
    assert (card.kind, card.rows, card.vectors) == (kind, 1200, 1200 - 100 - 72)
    assert set(card.recall) == (set() if kind == "flat" else {"image", "text"})
    assert all(share >= 0.97 for share in card.recall.values())
    found, exact = keys(dataset, job.out), keys(dataset, None)
    assert len(set(found) & set(exact)) >= 9 and found[0] == exact[0]
    scores = [hit.score for hit in search(SearchJob(dataset.url, key="000000001", index=job.out)).hits]
    assert scores == sorted(scores, reverse=True) and len(scores) == 10


def test_pieces_give_the_same_index(job: IndexJob, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    index(job)
    whole = keys(dataset, job.out)
    monkeypatch.setattr(ann_build, "_PIECE", 100 * (2 * DIM + 8))
    stay_here(monkeypatch)
    other = replace(job, out=f"{job.out}-2")
    index(other)
    assert keys(dataset, other.out) == whole


def test_again_there_is_nothing_to_do(job: IndexJob) -> None:
    first, again = index(job), index(job)
    assert (first.done_before, again.done_before) == (False, True) and again.card == first.card
    with pytest.raises(PlanMismatchError, match="kind is 'hnsw', not 'ivf'"):
        index(replace(job, kind="hnsw"))


def test_an_index_of_other_rows_or_another_dataset_is_refused(job: IndexJob, dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(dataset.url, tmp_path / "grown")
    grown = replace(job, dataset=str(tmp_path / "grown"), recall=1.0)
    index(grown)
    with pytest.raises(InputError, match=r"an index of .*grown, not of "):
        keys(dataset, job.out)
    larger = make_dataset(tmp_path / "grown", [part(1, 700), part(2, 500), part(3, 100)], dim=DIM)
    with pytest.raises(InputError, match=r"index of 1,200 rows .* has 1,300 now: run `clipmill index` again"):
        keys(larger, job.out)
    with pytest.raises(InputError, match="an index of image_embedding, not of text_embedding"):
        keys(larger, job.out, side="text")
    assert index(grown).card.rows == 1300
    assert keys(larger, job.out, key="000020003") == keys(larger, None, key="000020003")


@pytest.mark.parametrize("kind", ["ivf", "ivfpq"])
def test_as_many_rows_as_are_asked_for_are_found(job: IndexJob, dataset: Dataset, kind: Any) -> None:
    card = index(replace(job, kind=kind, nlist=200, recall=0.01)).card
    assert card.effort == 1  # one cell, which holds five rows or so
    for k, count in ((10, 10), (300, 300), (1027, 1027), (5000, 1027)):
        found = search(SearchJob(dataset.url, key="000000001", k=k, index=job.out)).hits
        assert len({hit.place for hit in found}) == len(found) == count


def test_many_who_ask_for_different_amounts_get_them(job: IndexJob, dataset: Dataset) -> None:
    index(replace(job, nlist=200, recall=0.01))
    numbered = NumberedRows.of(dataset)
    opened, vectors = Index.open(job.out, numbered, "image_embedding"), dense(numbered, "image_embedding").vectors
    assert opened is not None
    ask = [(number % 9, 1 + number * 37 % 1028) for number in range(64)]
    queries = clustered(7, 9).astype(np.float32)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda each: opened.nearest(vectors, queries[each[0]], each[1])[0].tolist(), ask))
    assert found == [opened.nearest(vectors, queries[number], k)[0].tolist() for number, k in ask]
    assert [len(rows) for rows in found] == [k for _, k in ask]


def test_a_graph_of_equal_vectors_finds_as_many_as_are_asked_for(tmp_path: Path) -> None:
    same = make_dataset(tmp_path / "in", [{"image_embedding": np.repeat(unit_vectors(1, 3, DIM), 400, 0)}], dim=DIM)
    job = IndexJob(same.url, str(tmp_path / "index"), kind="hnsw")
    index(job)
    asked = SearchJob(same.url, key="000000001", k=1100, index=job.out)
    assert [hit.score for hit in search(asked).hits] == [hit.score for hit in search(replace(asked, index=None)).hits]
    assert len(search(replace(asked, k=5000)).hits) == 1199


def test_with_a_condition_search_is_exact(job: IndexJob, dataset: Dataset) -> None:
    index(replace(job, nlist=40, recall=0.01))  # as little effort as can be
    asked = SearchJob(dataset.url, key="000000001", where="row % 2 = 1", k=400, index=job.out)
    exact = search(replace(asked, index=None))
    assert search(asked).hits == exact.hits and len(exact.hits) == 400


@pytest.mark.parametrize("kind", ["ivf", "ivfpq", "hnsw"])
def test_a_condition_that_leaves_many_rows_is_met_inside_the_index(
    job: IndexJob, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    index(replace(job, kind=kind))
    for name in ("_FEW", "_FEW_TO_READ"):
        monkeypatch.setattr(searching, name, 0)
    shares = []
    for where, k, count in (("row % 2 = 1", 10, 10), ("row % 50 = 1", 10, 10), ("row % 50 = 1", 30, 20)):
        asked = SearchJob(dataset.url, key="000000001", where=where, k=k, index=job.out)
        inside, exact = search(asked), search(replace(asked, index=None))
        assert not inside.exact and exact.exact and inside.among == exact.among
        assert len(inside.hits) == len(exact.hits) == count and all(hit.row["row"] % 50 % 2 == 1 for hit in inside.hits)
        shares.append(len({hit.place for hit in inside.hits} & {hit.place for hit in exact.hits}) / count)
    assert min(shares) >= 0.9 and shares[2] == 1


def test_a_search_by_an_index_copies_nothing(
    job: IndexJob, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "cache"))
    index(job)
    asked = SearchJob(dataset.url, key="000000001", index=job.out)
    some = search(asked), search(replace(asked, where="row < 90"))
    assert not (tmp_path / "cache" / "search").exists()
    exact = search(replace(asked, index=None)), search(replace(asked, where="row < 90", index=None))
    assert some[0].hits == exact[0].hits and some[1] == exact[1]


def test_a_file_that_is_gone_is_one_line(job: IndexJob, dataset: Dataset) -> None:
    card = index(job).card
    for name in (f"segments/{card.training}-{card.segments[0]}.{{}}", f"trained/{card.training}.{{}}"):
        for kind in ("npz", "vectors" if name.startswith("s") else "faiss"):
            path = Path(job.out) / name.format(kind)
            path.rename(path.with_suffix(".away"))
            with pytest.raises(InputError, match=f"{kind} is missing: run the same `clipmill index` again with --over"):
                keys(dataset, job.out)
            path.with_suffix(".away").rename(path)
    assert keys(dataset, job.out) == keys(dataset, None)


def test_an_index_lies_in_an_object_store_too(
    job: IndexJob, dataset: Dataset, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    stay_here(monkeypatch)
    index(replace(job, out=bucket.url("index")))
    assert keys(dataset, bucket.url("index")) == keys(dataset, None)
    assert "index/.clipmill/index.json" in bucket.objects()


def test_of_images_only_the_queries_are_images(tmp_path: Path) -> None:
    images = make_dataset(tmp_path / "in", [{"image_embedding": clustered(1, 400)}], dim=DIM, embeds="images")
    assert set(index(IndexJob(images.url, str(tmp_path / "index"), kind="ivf")).card.recall) == {"image"}


@pytest.mark.parametrize(
    ("kind", "vectors", "nlist"),
    [
        *(("ivf", vectors, None) for vectors in (1, 2, 3, 4)),
        ("ivf", 300, 290),
        ("ivf", 300, 300),
        ("ivf", 3, 99),
        ("ivfpq", 256, None),
        ("ivfpq", 270, 260),
        ("hnsw", 1, None),
    ],
)
def test_the_fewest_vectors_are_enough(tmp_path: Path, kind: Any, vectors: int, nlist: int | None) -> None:
    few = make_dataset(tmp_path / "in", [{"image_embedding": unit_vectors(1, vectors, DIM)}], dim=DIM)
    job = IndexJob(few.url, str(tmp_path / "index"), kind=kind, nlist=nlist)
    assert index(job).card.vectors == vectors
    found = search(SearchJob(few.url, key="000000000", k=vectors + 1, index=job.out)).hits
    assert len(found) == vectors - 1


@pytest.mark.parametrize("kind", ["flat", "ivf", "ivfpq", "hnsw"])
def test_rows_of_nan_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    def spoilt(vectors: Any, dtype: Any) -> Any:
        array = embeddings(vectors, dtype)
        numbers = array.values.to_numpy().reshape(-1, DIM).copy()
        numbers[::4, 1], numbers[1::40] = np.nan, np.inf
        return pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), DIM)

    embeddings = made._embeddings
    monkeypatch.setattr(made, "_embeddings", spoilt)
    given = {"image_embedding": clustered(1, 400), "text_embedding": clustered(2, 400)}
    dataset = make_dataset(tmp_path / "in", [given], dim=DIM)
    job = IndexJob(dataset.url, str(tmp_path / "index"), kind=kind)
    card = index(job).card
    assert (card.rows, card.vectors) == (400, 290) and all(share >= 0.97 for share in card.recall.values())
    for where in (None, job.out):
        found = [hit.place for hit in search(SearchJob(dataset.url, key="000000002", k=400, index=where)).hits]
        assert sorted(found) == [place for place in range(400) if place % 4 and place % 40 != 1 and place != 2]
        assert keys(dataset, where, "000000000") == []  # nothing is like it


def test_a_dataset_without_embeddings_is_one_line(tmp_path: Path) -> None:
    for name, rows in (("empty", {}), ("failed", {"error": ["read: no image"] * 3})):
        without = make_dataset(tmp_path / name, [rows], dim=DIM)
        with pytest.raises(InputError, match=r"none of its [03] rows has an embedding of its image"):
            index(IndexJob(without.url, str(tmp_path / "index" / name)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nlist": 0}, "--nlist 0: must be at least 1"),
        ({"recall": 0.0}, "--recall 0: must be a share"),
        ({"recall": 1.5}, "--recall 1.5: must be a share"),
        ({"alias": "b32"}, "no model is called 'b32'"),
    ],
)
def test_what_is_wrong_is_one_line(job: IndexJob, change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        index(replace(job, **change))
    assert not Output.at(job.out).names()


def test_without_faiss_the_extra_is_named(job: IndexJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    faiss.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'clipmill\[search\]'"):
        index(job)


@pytest.mark.parametrize("kind", ["ivf", "ivfpq"])
def test_many_cells_are_trained_in_two_levels_and_found_by_a_graph(
    job: IndexJob, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    stay_here(monkeypatch)
    monkeypatch.setattr(ann_cells, "_TWO_LEVELS", 50)
    monkeypatch.setattr(ann_cells, "_GRAPH_OF_CELLS", 50)
    card = index(replace(job, kind=kind, nlist=100)).card
    opened = Index.open(job.out, NumberedRows.of(dataset), "image_embedding")
    assert opened is not None
    quantizer = faiss().downcast_index(opened.trained.quantizer)
    assert isinstance(quantizer, faiss().IndexHNSW) and quantizer.ntotal == card.nlist == 100
    centroids = quantizer.reconstruct_n(0, 100)
    assert np.allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)
    assert min(card.recall.values()) >= 0.97 and len(set(keys(dataset, job.out)) & set(keys(dataset, None))) >= 9
