"""Labels as columns that a filter's conditions name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import FilterJob, filter, label
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.subset import Subset
from clipmill.pipeline.errors import InputError, UserError


def test_labels_are_columns_of_a_filters_conditions(make: Any, tmp_path: Path) -> None:
    job = make()
    label(job)
    wanted = FilterJob(
        job.dataset,
        str(tmp_path / "subset"),
        where=["labels.label IN ('red star', 'a house')", "probability > 0"],
        labels=job.out,
        columns=["label", "labels", "truth"],
    )
    assert filter(wanted).funnel.kept == 3
    subset = Subset.open(wanted.out)
    found = [row for part in subset.parts for row in pq.read_table(subset.url_of(part)).to_pylist()]
    assert [(row["row"], row["label"]) for row in found] == [(0, "red star"), (0, "a house"), (1, "a house")]
    assert [row["truth"] for row in found] == ["red star", "a house", "something else"]
    assert all(row["labels"][0] == row["label"] for row in found)
    best = replace(wanted, where=(), by="margin", top_fraction=0.2, out=wanted.out + "2")
    assert filter(best).funnel.kept == 2  # the second of five, counted from nought


def test_labels_from_before_a_part_was_embedded_again_are_refused(make: Any, tmp_path: Path) -> None:
    job = make()
    label(job)
    dataset = Dataset.open(job.dataset)
    path = dataset.url_of(dataset.parts[1])
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, "clipmill.shard": "changed"}), path)
    wanted = FilterJob(job.dataset, str(tmp_path / "subset"), where=["label = 'a house'"], labels=job.out)
    with pytest.raises(InputError, match="was labelled before it was embedded again; run `clipmill label` again"):
        filter(wanted)
    label(job)
    assert filter(wanted).funnel.kept == 2


def test_labels_are_compared_with_the_rows_own_columns(make: Any, tmp_path: Path) -> None:
    job = make()
    label(job)
    wanted = FilterJob(job.dataset, str(tmp_path / "subset"), where=["labels.label = pairs.truth"], labels=job.out)
    assert filter(wanted).funnel.kept == 3
    with pytest.raises(UserError, match=r"--where labels\.lable = 'x': Binder Error"):
        filter(replace(wanted, where=["labels.lable = 'x'"]))
