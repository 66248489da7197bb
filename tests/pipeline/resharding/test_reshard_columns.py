"""The tables beside new shards, with columns of side tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.errors import PlanMismatchError, UserError
from clipmill.pipeline.job import ReshardJob
from clipmill.pipeline.resharding.reshard import reshard
from reshard_kit import beside, subset_of, tars, written
from side_kit import write_side


@pytest.fixture
def joined(dataset: Dataset, job: ReshardJob, tmp_path: Path) -> ReshardJob:
    """Of a subset, over all new shards, with columns of a table that tells each row its part and number."""

    def columns(own: pa.Table) -> dict[str, Any]:
        part = int(own["shard"][0].as_py()[-9:-4])
        return {"score": [100.0 * part + row for row in range(len(own))], "other": ["x"] * len(own)}

    joins = {"s": write_side(tmp_path / "side", dataset, columns)}
    subset = subset_of(dataset, tmp_path / "subset", lambda _, row: row % 7 != 3 and row > 4)
    return replace(job, source=subset.output.url, joins=joins, columns=("s.score", "caption"), shuffle=1)


def test_each_sample_has_its_own_and_its_files_are_the_same(joined: ReshardJob, tmp_path: Path) -> None:
    reshard(joined)
    rows = beside(joined.out)
    assert len(rows) == 39
    for row in rows:
        assert row["s.score"] == 100 * int(row["source_shard"][-9:-4]) + row["source_row"] and "s.other" not in row
    plain = replace(joined, out=str(tmp_path / "plain"), joins={}, columns=())
    reshard(plain)
    assert [path.read_bytes() for path in tars(plain.out)] == [path.read_bytes() for path in tars(joined.out)]
    assert [{name: row[name] for name in row if name != "s.score"} for row in rows] == beside(plain.out)


def test_another_side_table_than_before_is_another_output(joined: ReshardJob) -> None:
    reshard(joined)
    before = written(joined.out)
    assert reshard(joined).shards_done_before == 4
    with pytest.raises(PlanMismatchError, match=r"columns is None, not .*'s.score'"):
        reshard(replace(joined, joins={}, columns=()))
    last = sorted(Path(joined.joins["s"]).iterdir())[-1]
    pq.write_table(pq.read_table(last).append_column("more", pa.array([1] * 20)), last)
    with pytest.raises(PlanMismatchError, match="of sources is"):
        reshard(joined)
    assert written(joined.out) == before


def test_what_is_wrong_with_a_side_table_is_one_line(joined: ReshardJob) -> None:
    with pytest.raises(UserError, match=r"--column s.scor: no such column"):
        reshard(replace(joined, columns=["s.scor"]))
    with pytest.raises(UserError, match=r"none of its columns is named; add --column s.NAME"):
        reshard(replace(joined, columns=[]))
    last = sorted(Path(joined.joins["s"]).iterdir())[-1]
    pq.write_table(pq.read_table(last).slice(1), last)
    with pytest.raises(UserError, match=r"--join s=.*: 00002-\w+.parquet has 19 rows, and the dataset's part 20"):
        reshard(joined)
