"""`filter` and the narrow table's growth are killed at any moment: run again, they end with the undisturbed result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from clipmill.pipeline import FilterJob, filter
from clipmill.pipeline.dataset.dataset import Dataset
from clipmill.pipeline.dataset.narrow import NARROW, narrowed
from clipmill.pipeline.dataset.subset import Subset
from clipmill.pipeline.running import narrow_table
from filter_kit import many
from killed import number_printed
from made import make_dataset

MOMENTS = 10

SCRIPT = """
import pathlib, random, shutil, sys
dataset, out, moments_wanted = sys.argv[1], sys.argv[2], int(sys.argv[3])
from clipmill.pipeline import FilterJob, filter
from clipmill.pipeline.dataset.narrow import NARROW
from clipmill.pipeline.filtering import filter as _, judging
from clipmill.pipeline.running import narrow_table
from killed import forked
narrow_table.MANY_PARTS, narrow_table._LEAST, judging._SAVED = 1, 30_000, 0.0

def run(into, seconds=None):
    job = FilterJob(dataset, into, where=["width > 150"], top_fraction=0.3)
    return forked(lambda: filter(job, lambda _: None), seconds)

table = pathlib.Path(dataset) / NARROW
before = set(table.iterdir())
shutil.copytree(out, out + "-timed")
whole, _ = run(out + "-timed")
for path in set(table.iterdir()) - before:
    path.unlink()
moments, killed = random.Random(0), 0
for share in sorted(moments.uniform(0.02, 0.9) for _ in range(moments_wanted)):  # the last ones may find all done
    killed += run(out, whole * share)[1]
print(killed)
"""


def test_killed_at_ten_moments_a_filter_ends_as_if_it_never_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrow_table, "MANY_PARTS", 1)
    parts = many(3000, 30)
    whole = make_dataset(tmp_path / "made", parts[:25])
    job = FilterJob(whole.url, str(tmp_path / "subset"), where=["width > 150"], top_fraction=0.3)
    filter(job)
    make_dataset(tmp_path / "made", parts)
    assert number_printed(SCRIPT, whole.url, job.out, str(MOMENTS)) >= 2  # the others were quicker than their moment
    filter(job)
    monkeypatch.setattr(narrow_table, "MANY_PARTS", 10**9)
    for path in (Path(whole.url) / NARROW).iterdir():
        path.rename(tmp_path / path.name)
    undisturbed = replace(job, out=f"{job.out}-undisturbed")
    filter(undisturbed)
    mine, other = Subset.open(job.out), Subset.open(undisturbed.out)
    assert (mine.funnel, mine.parts) == (other.funnel, other.parts)
    assert all(pq.read_table(mine.url_of(part)).equals(pq.read_table(other.url_of(part))) for part in mine.parts)
    for path in tmp_path.glob("*.parquet"):
        path.rename(Path(whole.url) / NARROW / path.name)
    dataset = Dataset.open(whole.url)
    assert {part for file in narrowed(dataset).narrow for part in file.parts} == set(dataset.parts)
