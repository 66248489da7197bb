"""What the page shows of a view, without a browser: orders, thresholds on matches, reasons, maps, downloads."""

from __future__ import annotations

import io
import shlex
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from clipmill.jobs.web import copies
from clipmill.jobs.web.app import app_of
from clipmill.jobs.web.copies import Copies
from clipmill.jobs.web.site import Site
from clipmill.jobs.web.view import View
from clipmill.pipeline import FilterJob, SearchJob, ServeJob, filter, search
from clipmill.pipeline.searching.numbered_rows import NumberedRows
from fastapi.testclient import TestClient
from made import make_dataset, unit_vectors

STAR = {"text": "a red star"}


def found(client: TestClient, **given: Any) -> list[dict[str, Any]]:
    hits: list[dict[str, Any]] = client.get("/api/search", params={"count": 200, **given}).json()["hits"]
    return hits


def places(hits: list[dict[str, Any]]) -> list[int]:
    return [hit["row"]["_place"] for hit in hits]


def test_rows_come_by_similarity_from_either_end(client: TestClient) -> None:
    lowest, highest = (
        [hit["row"]["similarity"] for hit in found(client, order=order)] for order in ("-similarity", "similarity")
    )
    assert lowest == sorted(lowest) and highest == lowest[::-1] and len(lowest) == 109  # those that have one


def test_the_best_matches_come_by_similarity_too(client: TestClient) -> None:
    hits = found(client, **STAR, order="similarity")
    assert [hit["row"]["similarity"] for hit in hits] == sorted((h["row"]["similarity"] for h in hits), reverse=True)
    assert {h["row"]["_place"]: h["score"] for h in hits} == {
        h["row"]["_place"]: h["score"] for h in found(client, **STAR)
    }


def test_a_threshold_on_the_match_counts_what_the_search_then_shows(client: TestClient) -> None:
    every = found(client, **STAR)
    at = round((every[9]["score"] + every[10]["score"]) / 2, 4)
    said = client.get("/api/threshold", params={**STAR, "score": "match", "at": at}).json()
    assert (said["above"], said["below"]) == (10, 99)
    assert places(said["just_above"])[0] == every[9]["row"]["_place"]
    assert places(said["just_below"])[0] == every[10]["row"]["_place"]
    assert places(found(client, **STAR, score="match", at_least=at)) == places(every[:10])
    histogram = client.get("/api/histogram", params={**STAR, "score": "match"}).json()
    assert sum(histogram["counts"]) == 109 and histogram["highest"] == pytest.approx(every[0]["score"], abs=1e-6)


@pytest.mark.parametrize(
    "given",
    [
        {**STAR, "score": "match", "at": "0.3"},
        {**STAR, "score": "match", "at": "0.3", "where": "width > 100 -- wide"},
        {"text": "-k 3", "score": "match", "at": "0.1"},
        {**STAR, "side": "text", "at": "0.5", "where": "width > 100 -- wide"},
        {**STAR, "label": "red star", "score": "match", "at": "0.2"},
        {**STAR, "label": "red star", "at": "0.2"},
    ],
    ids=lambda given: " ".join(given),
)
def test_the_command_finds_what_is_seen(
    given: dict[str, str], client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read as the shell and the command line read it."""
    monkeypatch.chdir(tmp_path)
    seen = {name: value for name, value in given.items() if name != "at"} | {"at_least": given["at"]}
    said = client.get("/api/threshold", params=given).json()
    filtering, _, searching = said["command"].rpartition(" && ")
    if filtering:
        options = _options(filtering)
        filter(FilterJob(options["dataset"], options["-o"], where=options["--where"], labels=options["--labels"]))
    options = _options(searching)
    hits = search(
        SearchJob(
            options["dataset"],
            options["text"],
            k=int(options["-k"]),
            side=options.get("--for", "image"),
            where=(options["--where"] or [None])[0],
            threshold=float(options["--threshold"]) if "--threshold" in options else None,
            within=options.get("--within"),
        )
    ).hits
    expected = found(client, **seen)
    assert [hit.place for hit in hits] == places(expected) and expected


def _options(command: str) -> dict[str, Any]:
    program, name, dataset, *words = shlex.split(command)
    assert program == "clipmill" and name in ("filter", "search")
    options: dict[str, Any] = {"dataset": dataset, "--where": []}
    if name == "search":
        options["text"] = words.pop(0) if words[0] != "--" else words.pop(1)
        words = [word for word in words if word != "--"]
    for option, value in zip(words[::2], words[1::2], strict=True):
        if option == "--where":
            options[option].append(value)
        else:
            options[option] = value
    return options


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"where": "width > 99999"}, "No row meets the filter."),
        ({"label": "no such"}, "No row has this label."),
        ({"label": "no such", "where": "width > 99999"}, "No row has this label and meets the filter."),
        ({"at_least": 0.9999}, "None of 121 rows reaches a similarity of 1.000: the highest is 0."),
        ({**STAR, "score": "match", "at_least": 0.99}, "None of 121 rows reaches a match of 0.990: the highest is 0."),
        ({**STAR, "where": "error IS NOT NULL"}, "None of 12 rows has an embedding of its image."),
        ({"order": "similarity", "where": "error IS NOT NULL"}, "None of 12 rows has a similarity"),
    ],
)
def test_where_nothing_is_shown_it_says_why(given: dict[str, Any], why: str, client: TestClient) -> None:
    answer = client.get("/api/search", params=given).json()
    assert (answer["total"], answer["hits"]) == (0, [])
    assert answer["why_none"].startswith(why)


def test_a_match_is_weak_where_it_is_nearer_to_chance_than_to_a_caption(client: TestClient, site: Site) -> None:
    answer = client.get("/api/search", params={**STAR, "count": 200}).json()
    scores = [hit["score"] for hit in answer["hits"]]
    similarities = [hit["row"]["similarity"] for hit in answer["hits"]]
    assert answer["weak_below"] == pytest.approx((np.mean(scores) + np.median(similarities)) / 2, abs=1e-3)
    assert scores[0] > answer["weak_below"] > scores[-1]
    like = client.get("/api/search", params={"place": 48, "count": 200}).json()
    scores = [hit["score"] for hit in like["hits"]]
    assert like["weak_below"] == pytest.approx(np.mean(scores) + 2 * np.std(scores), abs=1e-3)


def test_a_map_has_the_rows_that_are_seen(client: TestClient, site: Site) -> None:
    whole = client.get("/api/map").json()
    assert whole["total"] == len(whole["places"]) == 109 and whole["match"] is None
    assert set(whole["names"]) == {name for name, _ in site.rows.labels()}
    rows = site.rows.read(whole["places"])
    assert [whole["names"][number] for number in whole["labels"]] == [row["labels.label"] for row in rows]
    assert whole["similarity"] == pytest.approx([row["similarity"] for row in rows], abs=1e-4)
    some = client.get("/api/map", params={**STAR, "label": "red star", "score": "match", "at_least": 0.1}).json()
    at = {place: (x, y) for place, x, y in zip(whole["places"], whole["x"], whole["y"], strict=True)}
    assert some["places"] and min(some["match"]) >= 0.0999
    assert all(
        at[place] == (x, y) for place, x, y in zip(some["places"], some["x"], some["y"], strict=True)
    )  # where they were


def test_a_large_map_is_a_sample(site: Site) -> None:
    view = site.landscape.points
    assert len(view(View(), 40)["places"]) == 40 and view(View(), 40) == view(View(), 40)
    assert view(View(), 40)["total"] == 109


@pytest.mark.parametrize("form", ["keys", "uids", "parquet"])
@pytest.mark.parametrize("given", [{"where": "width > 100"}, {**STAR, "score": "match", "at_least": 0.2}])
def test_what_is_seen_or_selected_is_downloaded(form: str, given: dict[str, Any], client: TestClient) -> None:
    seen = found(client, **given)
    for chosen in ({}, {"places": ",".join(map(str, places(seen[:3])))}):
        rows = [hit["row"] for hit in (seen[:3] if chosen else seen)]
        answer = client.get(f"/api/download/{form}", params={**given, **chosen})
        assert answer.status_code == 200 and "attachment" in answer.headers["content-disposition"]
        if form == "parquet":
            table = pq.read_table(io.BytesIO(answer.content))
            assert table["key"].to_pylist() == [row["key"] for row in rows]
            assert ("match" in table.column_names) == ("text" in given) and "labels.label" in table.column_names
        else:
            values = [row[form.removesuffix("s")] for row in rows]
            assert answer.text.splitlines() == [" ".join(value.split()) for value in values if value is not None]


def test_no_more_than_a_file_holds_is_downloaded(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmill.jobs.web.downloads.MOST", 100)
    refused = client.get("/api/download/keys")
    assert refused.status_code == 400 and "121 rows are too many for a download (100)" in refused.json()["error"]
    assert client.get("/api/download/keys", params={"where": "row < 3"}).status_code == 200
    assert client.get("/api/download/keys", params={"places": "1,x"}).status_code == 422


def test_the_page_opens_while_embeddings_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(tmp_path / "in", [{"image_embedding": unit_vectors(0, 3)}] * 2, embeds="images")
    go_on = threading.Event()
    whole = copies.dense

    def slow(numbered: NumberedRows, column: str, on_bytes: Any) -> Any:
        on_bytes(1, 4)
        assert go_on.wait(60)
        return whole(numbered, column, on_bytes)

    monkeypatch.setattr(copies, "dense", slow)
    monkeypatch.setattr(copies, "_PATIENCE", 0.01)
    numbered = NumberedRows.of(dataset)
    with Copies.made(numbered, {"image": "image_embedding"}, None, lambda *_: None) as spaces:
        assert not spaces.ready("image") and list(spaces) == ["image"]
        with pytest.raises(copies.BusyError, match=r"copied to this machine for searches \(25% of the images\)"):
            spaces["image"]
        go_on.set()
        spaces._copies["image"].result(60)
        assert spaces.ready("image") and spaces["image"].among() == 6


def test_a_page_that_closes_leaves_the_copy_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(tmp_path / "in", [{"image_embedding": unit_vectors(0, 3)}] * 9, embeds="images")
    monkeypatch.setattr(copies, "_PATIENCE", 0.0)
    closed = threading.Event()

    def told(*_: Any) -> None:
        assert closed.wait(60)

    numbered = NumberedRows.of(dataset)
    with Copies.made(numbered, {"image": "image_embedding"}, None, told) as spaces:
        threading.Timer(0.3, closed.set).start()
    assert isinstance(spaces._copies["image"].exception(0), Exception)


def test_the_busy_page_answers_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_: Copies, __: str) -> Any:
        raise copies.BusyError("the embeddings are being copied")

    monkeypatch.setattr(Copies, "__getitem__", busy)
    client = TestClient(app_of(site), base_url="http://127.0.0.1")
    assert client.get("/api/search", params={"text": "never asked before"}).status_code == 503
    assert len(found(client, count=48)) == 48  # browsing needs none of them


def test_the_rows_are_kept_for_the_next_time(scenes: ServeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def made_again(*_: Any) -> None:
        raise AssertionError("the rows are copied already")

    with Site.open(scenes):
        pass
    monkeypatch.setattr("clipmill.pipeline.searching.catalogue._write", made_again)
    with Site.open(scenes) as again:
        assert again.rows.rows == 121
