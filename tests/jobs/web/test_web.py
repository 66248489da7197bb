"""The page over HTTP, without a browser: its answers, and what it refuses."""

from __future__ import annotations

import io
import shlex
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipmill.clipmodel import load
from clipmill.jobs.web import app as module
from clipmill.jobs.web.app import app_of
from clipmill.jobs.web.serving import serve
from clipmill.jobs.web.site import Site
from clipmill.jobs.web.view import Query, View
from clipmill.pipeline import IndexJob, SearchJob, ServeJob, filter, index, search
from clipmill.pipeline.errors import InputError, UserError
from clipmill.pipeline.job import FilterJob
from fakes import Drawn
from fastapi.testclient import TestClient
from made import make_dataset, unit_vectors
from PIL import Image
from s3 import Bucket


def keys(answer: Any) -> list[str]:
    return [hit["row"]["key"] for hit in answer.json()["hits"]]


def test_it_says_what_it_shows(client: TestClient, site: Site) -> None:
    said = client.get("/api/about").json()
    assert (said["rows"], said["dataset"], said["similarity"]) == (121, site.dataset.url, "similarity")
    assert said["sides"] == {"image": 109, "text": 109}
    assert sum(count for _, count in said["labels"]) == 109


def test_a_search_finds_what_the_command_finds(client: TestClient, site: Site) -> None:
    answer = client.get("/api/search", params={"text": "a red star", "count": 5})
    hits = search(SearchJob(site.dataset.url, "a red star", k=5)).hits
    assert keys(answer) == [hit.row["key"] for hit in hits]
    assert [hit["score"] for hit in answer.json()["hits"]] == pytest.approx([hit.score for hit in hits])
    assert answer.json()["total"] == 109 and answer.json()["exact"]


def test_pages_go_on_where_the_last_one_ended(client: TestClient) -> None:
    whole = keys(client.get("/api/search", params={"text": "a fish", "count": 20, "side": "text"}))
    pages = [
        keys(client.get("/api/search", params={"text": "a fish", "count": 8, "start": start, "side": "text"}))
        for start in (0, 8, 16)
    ]
    assert [*pages[0], *pages[1], *pages[2]][:20] == whole and len(set(whole)) == 20
    assert keys(client.get("/api/search", params={"text": "a fish", "start": 1500})) == []


def test_without_a_query_the_rows_come_in_their_order(client: TestClient) -> None:
    answer = client.get("/api/search", params={"count": 3, "start": 2})
    assert [hit["row"]["_place"] for hit in answer.json()["hits"]] == [2, 3, 4]
    assert answer.json()["total"] == 121 and answer.json()["hits"][0]["score"] is None


def test_filters_and_labels_narrow_a_search(client: TestClient) -> None:
    answer = client.get("/api/search", params={"text": "a star", "where": "width > 120", "label": "red star"})
    rows = [hit["row"] for hit in answer.json()["hits"]]
    assert rows and all(row["width"] > 120 and row["labels.label"] == "red star" for row in rows)
    assert answer.json()["total"] == len(rows)


def test_a_key_a_row_or_an_upload_finds_its_like(client: TestClient, site: Site) -> None:
    (row,) = site.rows.read([48])
    assert keys(client.get("/api/search", params={"key": row["key"], "count": 1})) == [row["key"]]
    assert keys(client.get("/api/search", params={"place": 48, "count": 1})) == [row["key"]]
    image = site.pictures._bytes(row)
    upload = client.post("/api/upload", content=image).json()["upload"]
    assert keys(client.get("/api/search", params={"upload": upload, "count": 1})) == [row["key"]]


def test_a_picture_is_a_jpeg_of_the_size_asked_for(client: TestClient) -> None:
    answer = client.get("/api/image/48", params={"side": 320})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(answer.content)).format == "JPEG"


def test_the_command_it_shows_keeps_what_it_counted(client: TestClient, site: Site, tmp_path: Path) -> None:
    given = {"where": "width > 100 AND key <> 'it''s'", "label": "blue fish", "at": 0.5}
    said = client.get("/api/threshold", params=given).json()
    words = shlex.split(said["command"])
    assert words[:3] == ["clipmill", "filter", site.dataset.url]
    where = [words[place + 1] for place, word in enumerate(words) if word == "--where"]
    made = filter(
        FilterJob(site.dataset.url, str(tmp_path / "out"), where=where, labels=words[words.index("--labels") + 1])
    )
    assert made.funnel.kept == said["above"] > 0


def test_a_threshold_and_its_histogram_count_every_row(client: TestClient, site: Site) -> None:
    column = [row["similarity"] for row in site.rows.page(module.Condition(), 0, 1000)]
    there = sorted(value for value in column if value is not None)
    said = client.get("/api/threshold", params={"at": 0.6}).json()
    assert (said["below"], said["above"]) == (sum(v < 0.6 for v in there), sum(v >= 0.6 for v in there))
    assert said["missing"] == 121 - len(there)
    near = [hit["row"]["similarity"] for hit in said["just_above"]]
    assert near == [v for v in there if v >= 0.6][:8]
    histogram = client.get("/api/histogram").json()
    assert sum(histogram["counts"]) == len(there) and histogram["lowest"] == pytest.approx(there[0])


def test_an_index_is_used_where_nothing_is_filtered(scenes: ServeJob, tmp_path: Path) -> None:
    made = str(tmp_path / "index")
    index(IndexJob(scenes.dataset, made, side="text", kind="ivf", nlist=2))
    with Site.open(ServeJob(scenes.dataset, index=made)) as site:
        client = TestClient(app_of(site), base_url="http://127.0.0.1")
        given = {"text": "a red star", "side": "text"}
        assert not client.get("/api/search", params=given).json()["exact"]
        assert client.get("/api/search", params={**given, "where": "width > 1"}).json()["exact"]
        assert client.get("/api/search", params={"text": "a red star"}).json()["exact"]


def test_datasets_and_pictures_come_from_an_object_store_too(site: Site, drawn: Drawn, bucket: Bucket) -> None:
    bucket.storage.pipe_file(bucket.url("00000.tar"), drawn.tars[0].read_bytes())
    bucket.storage.put(site.dataset.url, bucket.url("out"), recursive=True)
    asked = View(Query(text="a star"), condition=module.Condition("width > 100")), 0, 9
    with Site.open(ServeJob(bucket.url("out"))) as there:
        found, expected = (each.search(*asked)["hits"] for each in (there, site))
        assert [hit["row"]["_place"] for hit in found] == [hit["row"]["_place"] for hit in expected]
        (row,) = there.rows.page(module.Condition("error IS NULL"), 0, 1)
        moved = {**row, "shard": bucket.url("00000.tar")}
        assert there.pictures.jpeg(moved, 320) == site.pictures.jpeg(row, 320)


def test_many_may_ask_at_once(client: TestClient) -> None:
    def ask(number: int) -> int:
        paths = ["/api/search?text=star", "/api/threshold?at=0.5", f"/api/image/{number}", "/api/search?where=row%3D3"]
        return client.get(paths[number % 4]).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8, 40))) <= {200, 404}


# --- datasets with little in them ------------------------------------------------------------------------------------


def opened(dataset: Any) -> Any:
    return Site.open(ServeJob(dataset.url, model="tiny"))


def made(folder: Path, part: dict[str, Any], **more: Any) -> Any:
    return make_dataset(folder, [part], dim=256, weights_sha256=load("tiny").card.weights_sha256, **more)


@pytest.mark.parametrize("part", [{}, {"error": ["decode: not an image"] * 3}])
def test_an_empty_dataset_or_one_of_failures_has_a_page(tmp_path: Path, part: dict[str, Any]) -> None:
    with opened(made(tmp_path / "in", part)) as site:
        client = TestClient(app_of(site), base_url="http://127.0.0.1")
        assert client.get("/api/about").json()["rows"] == len(part.get("error", []))
        assert client.get("/api/search", params={"text": "a star"}).json()["hits"] == []
        assert client.get("/api/histogram").json()["missing"] == len(part.get("error", []))
        assert client.get("/api/threshold", params={"at": 0.3}).json()["above"] == 0


def test_of_images_only_captions_are_not_offered(tmp_path: Path) -> None:
    images = made(tmp_path / "in", {"image_embedding": unit_vectors(1, 4, 256)}, embeds="images")
    with opened(images) as site:
        client = TestClient(app_of(site), base_url="http://127.0.0.1")
        assert client.get("/api/about").json()["sides"] == {"image": 4}
        assert len(keys(client.get("/api/search", params={"text": "a star"}))) == 4
        refused = client.get("/api/search", params={"text": "a star", "side": "text"})
        assert (refused.status_code, refused.json()["error"]) == (400, "this dataset has no embeddings of texts")


@pytest.mark.parametrize("uids", [{}, {"uid": ["a", None, "c"]}])
def test_uids_are_offered_where_there_are_any(tmp_path: Path, uids: dict[str, Any]) -> None:
    with opened(made(tmp_path / "in", {"key": ["1", "2", "3"], **uids})) as site:
        assert site.about()["downloads"] == ["keys", *(["uids"] if uids else []), "parquet"]


@pytest.mark.filterwarnings("ignore:overflow")  # that is how float16 comes to hold them
def test_pages_end_where_the_last_row_that_can_be_found_does(tmp_path: Path) -> None:
    """Some have an embedding that is infinite, and a similarity that is no number."""
    vectors = unit_vectors(1, 60, 256)
    vectors[::6] = np.inf
    similarities = [float("nan"), *np.linspace(0, 1, 59)]
    with opened(made(tmp_path / "in", {"image_embedding": vectors, "similarity": similarities})) as site:
        client = TestClient(app_of(site), base_url="http://127.0.0.1")
        pages = [client.get("/api/search", params={"text": "a star", "start": n, "count": 30}) for n in (0, 30)]
        assert [len(keys(page)) for page in pages] == [30, 20] and pages[1].json()["total"] == 50
        assert client.get("/api/histogram").json()["missing"] == 1
        assert client.get("/api/threshold", params={"at": 0}).json()["above"] == 59


def test_with_an_index_every_page_that_is_offered_has_rows(tmp_path: Path) -> None:
    dataset, where = made(tmp_path / "in", {"image_embedding": unit_vectors(1, 300, 256)}), str(tmp_path / "index")
    index(IndexJob(dataset.url, where, kind="ivf", nlist=100, recall=0.01))
    with Site.open(ServeJob(dataset.url, model="tiny", index=where)) as site:
        client = TestClient(app_of(site), base_url="http://127.0.0.1")
        for start in range(0, 300, 50):
            page = client.get("/api/search", params={"text": "a star", "start": start, "count": 50})
            assert len(keys(page)) == 50 and page.json()["total"] == 300 and not page.json()["exact"]


def test_with_an_index_embeddings_are_copied_only_for_what_needs_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPMILL_CACHE", str(tmp_path / "cache"))
    dataset, where = made(tmp_path / "in", {"image_embedding": unit_vectors(1, 300, 256)}), str(tmp_path / "index")
    index(IndexJob(dataset.url, where, kind="ivf", nlist=10, recall=1.0))

    def copies() -> list[Path]:
        return list((tmp_path / "cache").glob("search/*/image_embedding-*"))

    with Site.open(ServeJob(dataset.url, model="tiny", index=where)) as site:
        client = TestClient(app_of(site), base_url="http://127.0.0.1")
        for asked in ({"text": "a star"}, {"key": "000000007"}, {"text": "a star", "where": "row % 3 = 0"}):
            page = client.get("/api/search", params={**asked, "start": 0, "count": 40})
            assert len(keys(page)) == 40 and page.json()["exact"] == ("where" in asked), asked
        assert keys(client.get("/api/search", params={"key": "000000007"}))[0] == "000000007"
        assert not copies()
        assert client.get("/api/map", params={"text": "a star"}).json()["total"] == 300
        assert len(copies()) == 1


def test_what_does_not_fit_the_dataset_is_refused_before_it_is_served(scenes: ServeJob, tmp_path: Path) -> None:
    for change, error, said in (
        ({"model": "tiny=random:3"}, UserError, "was made with"),
        ({"labels": str(tmp_path)}, InputError, "does not hold labels"),
        ({"index": str(tmp_path)}, InputError, "is not a clipmill index"),
        ({"alias": "b32"}, InputError, "no model is called 'b32'"),
        ({"port": 70000}, UserError, "--port 70000: must be from 0 to 65535"),
    ):
        with pytest.raises(error, match=said), Site.open(ServeJob(scenes.dataset, **change)):
            pass


def test_a_port_that_is_taken_or_a_host_that_is_not_ours_is_one_line(scenes: ServeJob) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for host, port in (("127.0.0.1", taken.getsockname()[1]), ("203.0.113.7", 0), ("no such host", 0)):
            with pytest.raises(UserError, match=f"--host {host} --port {port}: "):
                serve(replace(scenes, host=host, port=port))
