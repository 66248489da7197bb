"""Filters over side tables: what a join by shard and row gives, from parts and from the narrow table; what does not fit
is refused in one line; what has changed is judged again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import FilterJob, ForgetJob, filter, forget
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.subset import Subset
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.running import narrow_table
from fakes import files
from filter_kit import many
from made import make_dataset
from side_kit import write_side


def scores(own: pa.Table) -> dict[str, Any]:
    """Some null, some NaN."""
    values = np.random.default_rng(len(own)).normal(5, 1, len(own))
    values[::7] = np.nan
    return {"score": pa.array(values, pa.float32(), mask=np.arange(len(own)) % 11 == 3)}


def late(own: pa.Table) -> dict[str, Any]:
    """Two columns, some null, as `clipmill columns` copies them."""
    rows = range(len(own))
    return {
        "lang": [(None, "en", "de", "en")[row % 4] for row in rows],
        "size": pa.array([None if row % 9 == 0 else row for row in rows], pa.int64()),
    }


@pytest.fixture
def job(make: Any, tmp_path: Path) -> FilterJob:
    """A dataset of one model; beside it one of another, scores, labels and columns that came later."""
    made = make()
    dataset = Dataset.open(made.dataset)
    make_dataset(tmp_path / "other", many(seed=1))
    joins = {
        "other": str(tmp_path / "other"),
        "aes": write_side(tmp_path / "scores", dataset, scores),
        "labelled": write_side(
            tmp_path / "labels", dataset, lambda own: {"label": [f"label {row % 3}" for row in range(len(own))]}
        ),
    }
    joins["late"] = write_side(tmp_path / "late", dataset, late)
    return replace(made, joins=joins)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a narrow table, of several files."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(narrow_table, "MANY_PARTS", 1)
    monkeypatch.setattr(narrow_table, "_LEAST", 15_000)


def kept(job: FilterJob, *columns: str) -> list[tuple[Any, ...]]:
    subset = Subset.open(job.out)
    tables = [pq.read_table(subset.url_of(part)) for part in subset.parts]
    return [tuple(row[name] for name in ("shard", "row", *columns)) for rows in tables for row in rows.to_pylist()]


@pytest.mark.parametrize("source", ["parts", "table", "embeddings"])
def test_two_models_scores_labels_and_late_columns_in_one_filter_are_a_join_by_hand(
    source: str, job: FilterJob, request: pytest.FixtureRequest
) -> None:
    if source == "table":
        request.getfixturevalue("table")
    where = ["other.similarity > 0.2", "labelled.label <> 'label 1' AND similarity IS NOT NULL"]
    where.append("late.lang = 'en' AND late.size < 90")
    if source == "embeddings":
        where.append("list_inner_product(image_embedding, other.image_embedding::FLOAT[]) < 2")
    job = replace(job, where=where, by="aes.score", top_fraction=0.6, columns=["caption", "aes.score", "late.size"])
    summary = filter(job)
    assert summary.funnel.kept
    query = f"""
        WITH a AS (SELECT shard, row, CASE WHEN isnan(score) THEN NULL ELSE score END AS score
                   FROM read_parquet('{job.joins["aes"]}/*')),
        edge AS (SELECT score FROM a WHERE score IS NOT NULL ORDER BY score DESC
                 LIMIT 1 OFFSET (SELECT floor(0.6 * count(score))::BIGINT FROM a))
        SELECT shard, row, p.caption, a.score, c.size FROM read_parquet('{job.dataset}/data/*') p
        JOIN read_parquet('{job.joins["other"]}/data/*') o USING (shard, row)
        JOIN read_parquet('{job.joins["labelled"]}/*') l USING (shard, row) JOIN a USING (shard, row)
        JOIN read_parquet('{job.joins["late"]}/*') c USING (shard, row)
        WHERE p.error IS NULL AND o.similarity > 0.2 AND NOT isnan(o.similarity) AND l.label <> 'label 1'
        AND c.lang = 'en' AND c.size < 90 AND NOT isnan(p.similarity) AND a.score >= (FROM edge) ORDER BY shard, row
    """
    with duckdb.connect() as connection:
        assert connection.execute(query).fetchall() == kept(job, "caption", "aes.score", "late.size")


def test_a_side_file_that_has_changed_is_judged_again_and_no_other(job: FilterJob) -> None:
    job = replace(job, where=["aes.score > 5"])
    filter(job)
    first, before = sorted(Path(job.joins["aes"]).iterdir())[0], files(job.out)
    changed = pq.read_table(first)
    pq.write_table(changed.set_column(2, "score", pa.array(np.full(len(changed), 9.0, np.float32))), first)
    summary = filter(job)
    assert summary.parts - summary.parts_done_before == 1
    assert {name for name, at in files(job.out).items() if before[name] != at and "data/" in name} == {
        f"data/{first.name}"
    }
    fresh = filter(replace(job, out=job.out + "-fresh"))
    assert fresh.funnel == summary.funnel
    assert filter(job).done_before


def rewrite(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    return lambda file: pq.write_table(change(pq.read_table(file)), file)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (
            rewrite(lambda t: t.take(np.arange(len(t))[::-1])),
            r"00002-\w+.parquet has at place 0 row 101, not row 0; sort",
        ),
        (
            rewrite(lambda t: t.slice(0, 40)),
            r"00002-\w+.parquet has 40 rows, and the dataset's part 102; make it again",
        ),
        (Path.unlink, r"1 of the dataset's 6 parts have no file in it, of which the first is 00002-\w+.parquet; make"),
        (rewrite(lambda t: t.drop_columns(["score"])), r"00002-\w+.parquet has no column score"),
        (
            rewrite(lambda t: t.set_column(0, "shard", pa.array(["/other.tar"] * len(t)))),
            "has at place 0 a row of the shard /other.tar, which is not the part's",
        ),
        (lambda file: file.write_bytes(b"PAR1"), r"00002-\w+.parquet cannot be read \(.*\); make it again"),
    ],
    ids=["wrong order", "fewer rows", "missing part", "missing column", "another shard", "damaged"],
)
def test_a_side_table_that_does_not_fit_is_refused(damage: Any, complaint: str, job: FilterJob) -> None:
    damage(sorted(Path(job.joins["aes"]).iterdir())[2])
    for count in (False, True):
        with pytest.raises(UserError, match=complaint) as raised:
            filter(replace(job, where=["aes.score > 5"], count=count))
        assert "\n" not in str(raised.value) and str(raised.value).startswith(f"--join aes={job.joins['aes']}: ")
        assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"joins": {"1st": "x"}}, "--join 1st=x: '1st' cannot be an alias"),
        ({"joins": {"a.b": "x"}}, "--join a.b=x: 'a.b' cannot be an alias"),
        ({"joins": {"a": ""}}, "--join a=: names no folder"),
        ({"joins": {"Caption": "x"}}, "--join Caption=x: the alias is taken: the dataset has a column caption"),
        ({"joins": {"a": "x", "A": "y"}}, "--join A=y: the alias is taken: --join a=x has it, too"),
        ({"joins": {"pairs": "x"}}, "the alias is taken: that is what SQL calls"),
        ({"joins": {"a": "nowhere"}}, "--join a=nowhere: 6 of the dataset's 6 parts have no file in it"),
        ({"where": ["aes.scor > 1"]}, '--where aes.scor > 1: .*Could not find key "scor"'),
        ({"by": "aes.scor", "top_fraction": 0.5}, "--by aes.scor: no such column; there are key, .*aes.score"),
        ({"by": "labelled.label", "threshold": 0.5}, "--by labelled.label: the column holds string"),
        ({"columns": ["other.nothing"]}, "--column other.nothing: no such column"),
    ],
)
def test_wrong_names_are_one_line(changes: Any, complaint: str, job: FilterJob) -> None:
    with pytest.raises(UserError, match=complaint) as raised:
        filter(replace(job, **changes))
    assert "\n" not in str(raised.value) and not Path(job.out).exists()


def test_a_joined_dataset_can_be_read_by_people(job: FilterJob) -> None:
    told = repr(Dataset.open(job.dataset).join({"aes": job.joins["aes"]}))
    assert told.startswith(f"Dataset({job.dataset}: 6 parts, of tiny; key, uid, ")
    assert told.endswith(f"; aes={job.joins['aes']}: shard, row, score)")


@pytest.mark.parametrize("where", ["dataset", "other"])
def test_what_is_forgotten_is_not_read_beside_a_dataset_either(where: str, job: FilterJob, tmp_path: Path) -> None:
    job = replace(
        job, where=["aes.score IS NOT NULL OR other.width IS NOT NULL"], failed=True, columns=["other.caption"]
    )
    before = filter(job).funnel.kept
    keys = tmp_path / "keys.txt"
    dataset = Dataset.open(job.dataset if where == "dataset" else job.joins["other"])
    keys.write_text(f"{dataset.read(dataset.parts[1], ['key'])['key'][5].as_py()}\n")
    forget(ForgetJob(dataset.url, keys=str(keys)))
    assert filter(job).funnel.kept == before - (where == "dataset")
    gone = [caption for _, row, caption in kept(job, "other.caption") if row == 5]
    assert gone.count(None) == (where == "other") and len(gone) == 5 - (where == "dataset")


@pytest.mark.parametrize("source", ["parts", "table"])
def test_a_threshold_by_a_joined_score_moves_when_the_dataset_grows(
    source: str, make: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if source == "table":
        request.getfixturevalue("table")
    parts, joins = many(), {"aes": str(tmp_path / "scores")}
    for grown in (parts[:3], parts):
        job = make(grown)
        write_side(tmp_path / "scores", Dataset.open(job.dataset), scores)
        job = replace(job, joins=joins, by="aes.score", top_fraction=0.4, columns=["aes.score"])
        summary = filter(job)
    fresh = filter(replace(job, out=job.out + "-fresh"))
    assert summary.funnel == fresh.funnel
    assert kept(job, "aes.score") == kept(replace(job, out=job.out + "-fresh"), "aes.score")
