"""The page with tables beside the dataset: filters name their columns, rows and downloads have them."""

from __future__ import annotations

import io
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.clipmodel import load
from clipmill.jobs.web import current
from clipmill.jobs.web.app import app_of
from clipmill.jobs.web.site import Site
from clipmill.pipeline import FilterJob, ForgetJob, SearchJob, ServeJob, filter, forget, search
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.searching.dense import home
from fastapi.testclient import TestClient
from made import make_dataset, unit_vectors
from side_kit import write_side

ROWS = 12


def made(folder: Path, **columns: Any) -> Dataset:
    part = {"image_embedding": unit_vectors(1, ROWS, 256), "similarity": [row / 20 for row in range(ROWS)], **columns}
    return make_dataset(folder, [part], dim=256, weights_sha256=load("tiny").card.weights_sha256)


@pytest.fixture
def job(tmp_path: Path) -> ServeJob:
    dataset = made(tmp_path / "in")
    made(tmp_path / "other", caption=[f"other {row}" for row in range(ROWS)])
    scores = {"score": pa.array([None, float("nan"), *range(2, ROWS)], pa.float32())}
    joins = {"s": write_side(tmp_path / "side", dataset, lambda _: scores), "other": str(tmp_path / "other")}
    return ServeJob(dataset.url, model="tiny", joins=joins)


def client_of(site: Site) -> TestClient:
    return TestClient(app_of(site), base_url="http://127.0.0.1")


def test_filters_rows_and_downloads_have_the_columns_of_side_tables(job: ServeJob, tmp_path: Path) -> None:
    given = {"where": "s.score > 4 AND other.caption <> 'other 7'"}
    with Site.open(job) as site:
        client = client_of(site)
        rows = [hit["row"] for hit in client.get("/api/search", params=given).json()["hits"]]
        assert [row["s.score"] for row in rows] == [5, 6, 8, 9, 10, 11]
        assert rows[0]["other.caption"] == "other 5" and rows[0]["caption"] is None
        assert not {"other.image_embedding", "s.row", "s.shard", "other.key"} & rows[0].keys()
        taken = pq.read_table(io.BytesIO(client.get("/api/download/parquet", params=given).content))
        assert taken["s.score"].to_pylist() == [5, 6, 8, 9, 10, 11] and "other.caption" in taken.column_names
        said = client.get("/api/threshold", params={**given, "at": 0.42}).json()
        words = shlex.split(said["command"])
        joins = dict(words[place + 1].split("=", 1) for place, word in enumerate(words) if word == "--join")
        where = [words[place + 1] for place, word in enumerate(words) if word == "--where"]
        kept = filter(FilterJob(job.dataset, str(tmp_path / "out"), where=where, joins=joins)).funnel.kept
        assert joins == job.joins and kept == said["above"] == 3
        said = client.get("/api/threshold", params={"where": "s.score > 4", "place": 0, "at": 0.42}).json()
        words = shlex.split(said["command"])
        assert words[words.index("--join") + 1] == f"s={job.joins['s']}" and words.count("--join") == 1
        asked = SearchJob(job.dataset, place=0, k=50, where=words[-1], joins={"s": job.joins["s"]})
        assert len(search(asked).hits) == said["above"]
        wrong = client.get("/api/search", params={"where": "s.scor > 1"})
        assert wrong.status_code == 400 and 'Could not find key "scor"' in wrong.json()["error"]


def test_a_side_table_that_has_changed_is_copied_again(job: ServeJob) -> None:
    (file,) = Path(job.joins["s"]).iterdir()
    for score in (1.0, 2.0):
        table = pq.read_table(file)
        pq.write_table(table.set_column(2, "score", pa.array([score] * ROWS, pa.float64())), file)
        with Site.open(job) as site:
            assert site.row(0)["s.score"] == score
    with Site.open(replace(job, joins={})) as site:
        assert "s.score" not in site.row(0)
    pq.write_table(pq.read_table(file).slice(1), file)
    with pytest.raises(UserError, match=r"--join s=.* has 11 rows, and the dataset's part 12"), Site.open(job):
        raise AssertionError


def test_what_is_forgotten_in_a_joined_dataset_is_not_shown_any_more(
    job: ServeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current, "_EVERY", 0.0)
    (tmp_path / "keys").write_text("000000003\n")
    with Site.open(job) as site:
        client = client_of(site)
        assert client.get("/api/row/3").json()["row"]["other.caption"] == "other 3"
        forget(ForgetJob(job.joins["other"], keys=str(tmp_path / "keys")))
        assert "rows of this dataset were forgotten" in client.get("/api/row/3").json()["error"]
    with Site.open(job) as site:
        row = client_of(site).get("/api/row/3").json()["row"]
        assert row["other.caption"] is None and row["s.score"] == 3
        assert len(list(home(site.dataset).glob("rows-*.duckdb"))) == 1  # none with what was forgotten


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"joins": {"_place": "x"}}, "the alias is taken: that is what the page of `serve` calls"),
        ({"joins": {"labels": "x"}, "labels": "y"}, "SQL calls what --labels y holds so; choose another"),
        ({"joins": {"a": "nowhere"}}, "--join a=nowhere: 1 of the dataset's 1 parts have no file in it"),
    ],
)
def test_wrong_names_are_one_line(changes: Any, complaint: str, job: ServeJob) -> None:
    with pytest.raises(UserError, match=complaint), Site.open(replace(job, **changes)):
        raise AssertionError
