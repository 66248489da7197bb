"""Search: by text, image and key; exact, filtered, of the right side; sensible where there is nothing to find."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipmill.clipmodel.download import sha256_of
from clipmill.clipmodel.weights import Loaded
from clipmill.pipeline import Found, SearchJob, search
from clipmill.pipeline.dataset.dataset import Dataset, vectors_of
from clipmill.pipeline.errors import InputError, ModelError, PlanMismatchError, UserError
from clipmill.pipeline.inputs.shards import read_samples
from clipmill.pipeline.searching.query import MAX_IMAGE, QueryModel
from fakes import Drawn, Ran, jpeg
from made import make_dataset, unit_vectors
from s3 import Bucket
from side_kit import write_side


@pytest.fixture
def job(ran: Ran, sharp_weights: Path) -> SearchJob:
    return SearchJob(str(ran.out), "a red star", model=f"tiny={sharp_weights}")


def expected(ran: Ran, query: Any, side: str, k: int) -> list[tuple[str, int]]:
    dataset = Dataset.open(str(ran.out))
    rows, scores = [], []
    for part in dataset.parts:
        table = dataset.read(part, ["shard", "row", f"{side}_embedding"])
        vectors, present = vectors_of(table[f"{side}_embedding"])
        places = zip(table["shard"].to_pylist(), table["row"].to_pylist(), strict=True)
        rows += [place for place, here in zip(places, present, strict=True) if here]
        scores += (vectors @ query)[present].tolist()
    return [rows[place] for place in np.argsort(-np.array(scores), kind="stable")[:k]]


def places_of(found: Found) -> list[tuple[str, int]]:
    return [(hit.row["shard"], hit.row["row"]) for hit in found.hits]


@pytest.mark.parametrize("side", ["image", "text"])
def test_a_text_finds_what_a_full_sort_finds(job: SearchJob, ran: Ran, sharp: Loaded, side: Any) -> None:
    found = search(replace(job, side=side))
    assert places_of(found) == expected(ran, QueryModel.of(sharp).of_text("a red star"), side, 10)
    assert (found.query, found.side, found.among, found.exact) == ("a red star", side, 108, True)
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True) and [hit.rank for hit in found.hits] == list(range(1, 11))
    assert "image_embedding" not in found.hits[0].row and found.hits[0].row["caption"]


def test_a_threshold_leaves_weaker_matches_out(job: SearchJob) -> None:
    every = search(replace(job, k=100)).hits
    at = every[4].score
    assert [hit.place for hit in search(replace(job, k=100, threshold=at)).hits] == [hit.place for hit in every[:5]]
    with pytest.raises(UserError, match="--threshold 2: must be a cosine"):
        search(replace(job, threshold=2.0))


def test_an_image_file_finds_itself(job: SearchJob, drawn: Drawn, tmp_path: Path) -> None:
    sample = next(s for s in read_samples(drawn.shards[1]) if s.row == 8)
    (tmp_path / "query").write_bytes(sample.image or b"")
    (first, second) = search(replace(job, text=None, image=str(tmp_path / "query"), k=2)).hits
    assert (first.row["key"], round(first.score, 2)) == (sample.key, 1.0) and second.score < first.score


def test_an_image_in_an_object_store_does_too(job: SearchJob, drawn: Drawn, bucket: Bucket) -> None:
    sample = next(s for s in read_samples(drawn.shards[1]) if s.row == 8)
    bucket.storage.pipe_file(bucket.url("query.jpg"), sample.image)
    (first,) = search(replace(job, text=None, image=bucket.url("query.jpg"), k=1)).hits
    assert first.row["key"] == sample.key


def test_a_dataset_in_an_object_store_is_searched_alike(job: SearchJob, ran: Ran, bucket: Bucket) -> None:
    bucket.storage.put(str(ran.out), bucket.url("out"), recursive=True)
    there = replace(job, dataset=bucket.url("out"), where="row % 3 = 1")
    assert search(there).hits == search(replace(there, dataset=job.dataset)).hits


def test_a_key_finds_others_like_its_own_image_without_a_model(ran: Ran) -> None:
    dataset = Dataset.open(str(ran.out))
    table = dataset.read(dataset.parts[2], ["key", "shard", "row", "image_embedding"]).slice(1, 1)
    (row,), (own,) = table.to_pylist(), vectors_of(table["image_embedding"])[0]
    found = search(SearchJob(str(ran.out), key=row["key"]))
    itself, *others = expected(ran, own, "image", 11)
    assert (itself, found.among) == ((row["shard"], row["row"]), 107)
    assert places_of(found) == others


def test_no_score_is_above_one(tmp_path: Path) -> None:
    """Embeddings of float16 have a length of one but for rounding."""
    same = np.full((3, 4), 0.50025)
    dataset = make_dataset(tmp_path / "in", [{"image_embedding": same}])
    found = search(of(dataset, key="000000001"))
    assert [(hit.row["key"], hit.score) for hit in found.hits] == [("000000000", 1.0), ("000000002", 1.0)]


def test_conditions_come_first_and_the_rest_is_ranked(job: SearchJob) -> None:
    every = search(replace(job, k=1000)).hits
    assert len(every) == 108
    found = search(replace(job, where="row % 5 = 2", k=1000))
    assert [hit.place for hit in found.hits] == [hit.place for hit in every if hit.row["row"] % 5 == 2]
    assert found.among == len(found.hits)


def test_conditions_see_side_tables_on_a_disk_and_in_an_object_store(job: SearchJob, ran: Ran, bucket: Bucket) -> None:
    write_side(ran.out.parent / "side", Dataset.open(str(ran.out)), lambda own: {"score": own["row"]})
    bucket.storage.put(str(ran.out), bucket.url("out"), recursive=True)
    bucket.storage.put(str(ran.out.parent / "side"), bucket.url("side"), recursive=True)
    here = replace(job, where="s.score % 5 = 2", joins={"s": str(ran.out.parent / "side")})
    there = replace(here, dataset=bucket.url("out"), joins={"s": bucket.url("side")})
    assert search(here).hits == search(there).hits == search(replace(job, where="row % 5 = 2")).hits


def test_the_result_is_plain_json(job: SearchJob) -> None:
    found = json.loads(json.dumps(search(job).as_json()))
    assert found["hits"][0]["rank"] == 1 and {"key", "caption", "shard", "row", "similarity"} <= set(found["hits"][0])


def test_what_is_no_number_is_null_in_json(tmp_path: Path) -> None:
    values = [0.5, float("nan"), float("inf"), None]
    part = {"image_embedding": unit_vectors(1, 4), "similarity": values, "width": [1, 2, 3, 4]}
    found = search(SearchJob(make_dataset(tmp_path / "in", [part]).url, key="000000003", k=4)).as_json()
    said = json.loads(json.dumps(found, allow_nan=False))["hits"]
    assert {hit["key"][-1]: hit["similarity"] for hit in said} == {"0": 0.5, "1": None, "2": None}
    assert {hit["width"] for hit in said} == {1, 2, 3}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": None}, "nothing to search for"),
        ({"key": "a"}, "TEXT and --key to search for"),
        ({"text": "  "}, "TEXT is empty"),
        ({"k": 0}, "-k 0: must be at least 1"),
        ({"where": ""}, "--where is empty"),
        ({"where": "nonsense = 1"}, "--where: Binder Error"),
        ({"where": "width >"}, '--where: Parser Error: syntax error at or near ">"'),
        ({"where": "width > 1) OR (true"}, '--where: Parser Error: syntax error at or near ")"'),
        ({"text": None, "key": "no such key"}, "no pair has the key no such key"),
        ({"text": None, "image": "/no/such.jpg"}, "no such file"),
        ({"alias": "b32"}, "no model is called 'b32'"),
        ({"index": "/nowhere"}, "is not a clipmill index"),
        ({"within": "/nowhere"}, "is not a subset"),
    ],
)
def test_what_is_wrong_is_one_line(job: SearchJob, change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        search(replace(job, **change))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"not an image", "not an image"),
        (jpeg(0, 200, 200)[:900], "truncated JPEG"),
        (None, "a folder"),
    ],
)
def test_an_image_that_is_none_is_one_line(job: SearchJob, tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "query.jpg"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=f"query.jpg: .*{said}"):
        search(replace(job, text=None, image=str(path)))


def test_an_image_larger_than_anyone_has_is_not_read(job: SearchJob, tmp_path: Path) -> None:
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(MAX_IMAGE + 1)
    with pytest.raises(InputError, match="larger than 64 MiB"):
        search(replace(job, text=None, image=str(tmp_path / "huge.jpg")))


# --- datasets with little in them ------------------------------------------------------------------------------------


def of(dataset: Dataset, **changes: Any) -> SearchJob:
    return SearchJob(dataset.url, **changes)


def test_other_weights_are_refused(ran: Ran) -> None:
    with pytest.raises(PlanMismatchError, match="was made with"):
        search(SearchJob(str(ran.out), "a star", model="tiny"))
    with pytest.raises(ModelError, match="name its weights with --model"):
        search(SearchJob(str(ran.out), "a star"))


def test_an_empty_dataset_or_one_of_failures_finds_nothing(sharp_weights: Path, tmp_path: Path) -> None:
    sha256, spec = sha256_of([sharp_weights]), f"tiny={sharp_weights}"
    empty = make_dataset(tmp_path / "empty", [{}], dim=256, weights_sha256=sha256)
    failed = make_dataset(
        tmp_path / "failed", [{"error": ["decode: not an image"] * 3}], dim=256, weights_sha256=sha256
    )
    for dataset in (empty, failed):
        found = search(of(dataset, text="a star", model=spec))
        assert (list(found.hits), found.among) == ([], 0)
    with pytest.raises(InputError, match=r"has no embedding \(decode: not an image\)"):
        search(of(failed, key="000000001"))
    with pytest.raises(InputError, match="is not a clipmill dataset"):
        search(SearchJob(str(tmp_path), "a star"))


def test_of_images_only_images_are_found_by_text_and_captions_are_not(sharp_weights: Path, tmp_path: Path) -> None:
    part = {"image_embedding": unit_vectors(1, 5, 256)}
    dataset = make_dataset(tmp_path / "in", [part], dim=256, embeds="images", weights_sha256=sha256_of([sharp_weights]))
    job = of(dataset, text="a star", model=f"tiny={sharp_weights}", k=3)
    assert len(search(job).hits) == 3
    with pytest.raises(InputError, match="not of texts"):
        search(replace(job, side="text"))


def test_a_key_without_an_image_asks_with_its_caption(tmp_path: Path) -> None:
    nothing = np.full((1, 4), np.nan)
    texts = unit_vectors(1, 3)
    part = {"image_embedding": np.concatenate([nothing, texts[1:]]), "text_embedding": texts}
    job = of(make_dataset(tmp_path / "in", [part]), key="000000000", side="text", k=3)
    by_cosine = 1 + np.argsort(-(texts[1:] @ texts[0]))
    assert [hit.place for hit in search(job).hits] == by_cosine.tolist()


def test_a_grown_dataset_is_searched_whole(tmp_path: Path) -> None:
    def grown(parts: int) -> Found:
        make_dataset(tmp_path / "in", [{"image_embedding": unit_vectors(n, 5)} for n in range(parts)])
        return search(SearchJob(str(tmp_path / "in"), key="000000000", k=100))

    assert [len(grown(parts).hits) for parts in (1, 2, 3)] == [4, 9, 14]


# --- several pairs of one key ----------------------------------------------------------------------------------------


@pytest.fixture
def twins(tmp_path: Path) -> str:
    """Seven pairs of one key in two parts, and one of another."""
    parts = [
        {"image_embedding": unit_vectors(1, 4), "key": ["a", "a", "b", "a"]},
        {"image_embedding": unit_vectors(2, 4), "key": ["a", "a", "a", "a"]},
    ]
    return make_dataset(tmp_path / "in", parts, embeds="images").url


def test_a_key_of_several_pairs_is_refused_with_their_places(twins: str) -> None:
    with pytest.raises(InputError, match="7 pairs have the key a: choose one of them with --place: ") as caught:
        search(SearchJob(twins, key="a"))
    named = "0 (row 0 of /made/00000.tar), 1 (row 1 of /made/00000.tar), 3 (row 3 of /made/00000.tar), 4 (row 0 of "
    assert named in str(caught.value) and str(caught.value).endswith("5 (row 1 of /made/00001.tar), …")


def test_a_place_finds_others_like_its_row(twins: str) -> None:
    found = search(SearchJob(twins, place=5))
    assert len(found.hits) == 7 and 5 not in [hit.place for hit in found.hits] and found.query == "row 5"
    assert search(SearchJob(twins, key="b")).hits == search(SearchJob(twins, place=2)).hits


@pytest.mark.parametrize(
    ("place", "said"), [(8, "--place 8: .* has 8 rows, and the first is 0"), (-1, "must not be negative")]
)
def test_a_place_without_a_row_is_one_line(twins: str, place: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        search(SearchJob(twins, place=place))


def test_nan_is_no_value_in_a_condition(tmp_path: Path) -> None:
    part = {"image_embedding": unit_vectors(1, 3), "similarity": [0.1, float("nan"), 0.9]}
    dataset = make_dataset(tmp_path / "in", [part], embeds="images").url
    assert {hit.place for hit in search(SearchJob(dataset, key="000000000", where="similarity > 0.3")).hits} == {2}
    assert {hit.place for hit in search(SearchJob(dataset, place=2, where="similarity IS NULL")).hits} == {1}
